/* Connections and what is said on them: requests come whole, answers go out whole or as a stream. One thread, libevent's loop.
 *
 * libevent's own evhttp is not used: it reads a body before anybody can look at the headers, closes without an answer where 408
 * and 431 are due, and has no bound on what waits for a slow reader. */
#ifndef SERVE_HTTP_H
#define SERVE_HTTP_H
#include "ink/base.h"
#include "serve/server.h"

#include <event2/event.h>

typedef struct HttpServer HttpServer;
typedef struct Http Http; /* a request and its answer */

typedef struct HttpCalls {
  /* The headers are there. May answer already; then the body is not read. */
  void (*head)(void *ctx, Http *r);
  /* All of it is there. Answered now or later. */
  void (*request)(void *ctx, Http *r);
  /* The client left, or was dropped, before its answer was over. Not called from within a call to this file; r is no more
   * once it returns. */
  void (*gone)(void *ctx, Http *r);
  /* An answer to what is no request. Appends the body. */
  void (*refusal)(void *ctx, int status, const char *why, Text *body);
  void *ctx;
} HttpCalls;

HttpServer *http_new(struct event_base *base, const ServerOptions *o, const HttpCalls *calls);
bool http_listen(HttpServer *s, int *port, bool *loopback, Report *err);
/* Takes no new connections, closes idle ones, and each other one after its answer. */
void http_drain(HttpServer *s);
int http_open(const HttpServer *s); /* connections */
int http_most(const HttpServer *s); /* that there may be: --connections, or what the process may have */
void http_free(HttpServer *s);      /* closes all; calls gone() for unfinished requests */

const char *http_method(const Http *r);
const char *http_path(const Http *r);
const char *http_header(const Http *r, const char *name); /* in lower case; NULL: not there */
int64_t http_length(const Http *r);                       /* what Content-Length says, 0 without */
char *http_take_body(Http *r, size_t *n);                 /* the caller's to free; NUL-terminated. Once */
void **http_user(Http *r);                                /* the caller's own, NULL at first */

/* A header of the answer, before it begins. */
void http_add(Http *r, const char *name, const char *value);
void http_answer(Http *r, int status, const char *type, const void *body, size_t n);
void http_stream(Http *r, const char *type); /* 200, and then: */
void http_write(Http *r, const void *bytes, size_t n);
void http_end(Http *r);
#endif
