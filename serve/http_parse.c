/* The head of a request, cut up in place, and chunked bodies: pure functions of bytes.
 *
 * Must hold: nothing is read beyond the n bytes; every refusal has a status and a reason; what is taken, a strict reader in front
 * of or behind this one takes alike. */
#include "serve/http_parse.h"

#include <string.h>
#include <strings.h>

enum { LINE_LIMIT = 1024, TRAILER_LIMIT = 4096 };

size_t http_head_end(const char *s, size_t n, size_t from) {
  from = from > 3 ? from - 3 : 0;
  const char *at = n > from ? memmem(s + from, n - from, "\r\n\r\n", 4) : NULL;
  return at ? (size_t)(at - s) + 4 : 0;
}

static bool is_token(unsigned char c) {
  return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static int refuse(HttpHead *h, int status, const char *why) {
  h->wrong = why;
  return status;
}

static int hex(char c) {
  return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* The path of a target: "/path?query", or all of "http://host/path?query", as proxies have it. */
static int take_target(HttpHead *h, char *s) {
  if (!strncasecmp(s, "http://", 7)) {
    s += 7 + strcspn(s + 7, "/?");
  } else if (*s != '/' && strcmp(s, "*")) {
    return refuse(h, 400, "the request's target is no path");
  }
  h->path = s;
  char *out = s;
  for (; *s && *s != '?' && *s != '#'; s++) {
    int c = (unsigned char)*s;
    if (c == '%') {
      int a = hex(s[1]), b = a < 0 ? -1 : hex(s[2]);
      if (b < 0 || a * 16 + b == 0) return refuse(h, 400, "a %XX of the path is broken");
      c = a * 16 + b;
      s += 2;
    }
    *out++ = (char)c;
  }
  *out = 0;
  if (!*h->path) h->path = "/";
  return 0;
}

static int take_request_line(HttpHead *h, char *s) {
  h->method = s;
  while (is_token((unsigned char)*s)) s++;
  if (s == h->method || *s != ' ') return refuse(h, 400, "the request line has no method");
  *s++ = 0;
  char *target = s;
  while ((unsigned char)*s > ' ' && *s != 127) s++;
  if (s == target || *s != ' ') return refuse(h, 400, "the request line has no target");
  *s++ = 0;
  if (strncmp(s, "HTTP/", 5)) return refuse(h, 400, "the request line has no version");
  if (strcmp(s, "HTTP/1.1") && strcmp(s, "HTTP/1.0"))
    return refuse(h, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  h->minor = s[7] - '0';
  return take_target(h, target);
}

static int take_header(HttpHead *h, char *s) {
  if (*s == ' ' || *s == '\t') return refuse(h, 400, "a header goes on over lines");
  char *name = s;
  for (; is_token((unsigned char)*s); s++)
    if (*s >= 'A' && *s <= 'Z') *s |= 32;
  if (s == name || *s != ':') return refuse(h, 400, "a line of the headers is no header");
  *s++ = 0;
  while (*s == ' ' || *s == '\t') s++;
  char *value = s, *end = s;
  for (; *s; s++) {
    if ((unsigned char)*s < ' ' && *s != '\t') return refuse(h, 400, "a control character in a header");
    if (*s != ' ' && *s != '\t') end = s + 1;
  }
  *end = 0;
  if (h->nheaders == HTTP_HEADERS) return refuse(h, 431, "too many headers");
  h->header[h->nheaders].name = name;
  h->header[h->nheaders++].value = value;
  return 0;
}

const char *http_head_find(const HttpHead *h, const char *name) {
  for (int i = 0; i < h->nheaders; i++)
    if (!strcmp(h->header[i].name, name)) return h->header[i].value;
  return NULL;
}

/* Is `word` one of a comma-separated list? */
static bool lists(const char *list, const char *word) {
  for (size_t n; list && *list; list += n) {
    list += strspn(list, " \t,");
    n = strcspn(list, " \t,");
    if (n == strlen(word) && !strncasecmp(list, word, n)) return true;
  }
  return false;
}

/* What the headers say of the message itself. */
static int take_framing(HttpHead *h) {
  int hosts = 0, lengths = 0, codings = 0;
  for (int i = 0; i < h->nheaders; i++) {
    const char *name = h->header[i].name;
    hosts += !strcmp(name, "host");
    lengths += !strcmp(name, "content-length");
    codings += !strcmp(name, "transfer-encoding");
  }
  if (hosts > 1 || (!hosts && h->minor == 1)) return refuse(h, 400, "one Host header is needed");
  if (lengths + codings > 1) return refuse(h, 400, "more than one length of the body");
  const char *length = http_head_find(h, "content-length"), *coding = http_head_find(h, "transfer-encoding");
  if (coding) {
    if (h->minor == 0) return refuse(h, 400, "HTTP/1.0 has no Transfer-Encoding");
    if (strcasecmp(coding, "chunked")) return refuse(h, 501, "the only Transfer-Encoding known is chunked");
    h->chunked = true;
  }
  if (length) {
    if (!*length || strlen(length) > 18 || length[strspn(length, "0123456789")])
      return refuse(h, 400, "Content-Length is no number");
    for (const char *p = length; *p; p++) h->length = h->length * 10 + (*p - '0');
  }
  const char *expect = http_head_find(h, "expect");
  if (expect && strcasecmp(expect, "100-continue")) return refuse(h, 417, "the only expectation known is 100-continue");
  h->expect = expect && h->minor == 1;
  const char *connection = http_head_find(h, "connection");
  h->keep_alive = h->minor == 1 ? !lists(connection, "close") : lists(connection, "keep-alive");
  return 0;
}

int http_head_parse(HttpHead *h, char *s, size_t n) {
  *h = (HttpHead){0};
  if (memchr(s, 0, n)) return refuse(h, 400, "a NUL in the headers");
  char *end = s + n;
  for (int line = 0; s < end; line++) {
    char *stop = memchr(s, '\n', (size_t)(end - s));
    if (!stop || stop == s || stop[-1] != '\r') return refuse(h, 400, "a line does not end in CR LF");
    stop[-1] = 0;
    if (strchr(s, '\r')) return refuse(h, 400, "a CR within a line");
    int status = line == 0 ? take_request_line(h, s) : *s ? take_header(h, s) : 0;
    if (status) return status;
    s = stop + 1;
  }
  return take_framing(h);
}

/* The number of a size line (with extensions, which mean nothing here), or -1. */
static int64_t chunk_size(const char *s, size_t n) {
  uint64_t v = 0;
  size_t i = 0;
  for (; i < n && hex(s[i]) >= 0; i++) {
    if (i == 15) return -1;
    v = v * 16 + (uint64_t)hex(s[i]);
  }
  if (!i || (i < n && s[i] != ';' && s[i] != ' ' && s[i] != '\t')) return -1;
  for (; i < n; i++)
    if ((unsigned char)s[i] < ' ' && s[i] != '\t') return -1;
  return (int64_t)v;
}

ptrdiff_t http_chunks(HttpChunks *c, const char *s, size_t n, const char **data, size_t *ndata) {
  *data = NULL;
  *ndata = 0;
  if (!n || c->state == CHUNK_DONE) return 0;
  if (c->state == CHUNK_DATA) {
    size_t take = n < c->left ? n : (size_t)c->left;
    *data = s;
    *ndata = take;
    c->left -= take;
    if (!c->left) c->state = CHUNK_DATA_END;
    return (ptrdiff_t)take;
  }
  if (c->state == CHUNK_DATA_END) {
    if (s[0] != '\r' || (n > 1 && s[1] != '\n')) return -1;
    if (n < 2) return 0;
    c->state = CHUNK_SIZE;
    return 2;
  }
  const char *end = memchr(s, '\n', n < LINE_LIMIT ? n : LINE_LIMIT);
  if (!end) return n < LINE_LIMIT ? 0 : -1;
  size_t line = (size_t)(end - s);
  if (!line || end[-1] != '\r') return -1;
  if (c->state == CHUNK_TRAILER) {
    c->overhead += (int)line;
    if (c->overhead > TRAILER_LIMIT) return -1;
    if (line == 1) c->state = CHUNK_DONE;
    return (ptrdiff_t)line + 1;
  }
  int64_t size = chunk_size(s, line - 1);
  if (size < 0) return -1;
  c->left = (uint64_t)size;
  c->overhead = 0;
  c->state = size ? CHUNK_DATA : CHUNK_TRAILER;
  return (ptrdiff_t)line + 1;
}
