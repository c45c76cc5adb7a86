/* HTTP/1.1 as bytes (RFC 9112): the head of a request, and chunked bodies. Strict where two readers could disagree on where a
 * request ends: lines end in CR LF, there is one length or one coding, names of headers have no space behind them. */
#ifndef SERVE_HTTP_PARSE_H
#define SERVE_HTTP_PARSE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_HEADERS = 100 };

typedef struct HttpHead {
  const char *method, *path; /* path: %XX decoded, without the query */
  int minor;                 /* HTTP/1.minor: 0 or 1 */
  int nheaders;
  struct {
    char *name, *value; /* the name in lower case; no space around the value */
  } header[HTTP_HEADERS];
  bool keep_alive, chunked, expect;
  int64_t length; /* of the body, when it is not chunked */
  const char *wrong;
} HttpHead;

/* How many of n bytes are the head, CR LF CR LF included; 0: its end is not there. `from` is where a call with fewer stopped. */
size_t http_head_end(const char *s, size_t n, size_t from);
/* Cuts the head up in place; what h points to are parts of s. 0, or the status to refuse with and `wrong`. */
int http_head_parse(HttpHead *h, char *s, size_t n);
const char *http_head_find(const HttpHead *h, const char *name); /* NULL: not there */

/* A chunked body: zeroed at its beginning. */
typedef struct HttpChunks {
  enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER, CHUNK_DONE } state;
  uint64_t left; /* of this chunk */
  int overhead;  /* bytes of this line of a size, or of all trailers */
} HttpChunks;

/* Takes what it can of n bytes; *data, *ndata: the next piece of the body, if any. Returns the bytes taken, 0 when
 * more are needed; -1: no chunked body. Call again until it takes nothing or the state is CHUNK_DONE. */
ptrdiff_t http_chunks(HttpChunks *c, const char *s, size_t n, const char **data, size_t *ndata);
#endif
