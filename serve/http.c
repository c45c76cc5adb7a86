/* A connection is a small machine: waits for a request (WAIT), for the end of its headers (HEAD) and of its body (BODY), for its
 * answer (BUSY, a stream too), sends what is left (FLUSH), and begins again or closes; after an error it first reads what the
 * client still sends (LINGER), or the answer would be lost to a reset.
 *
 * Each state has its time. What is read ahead of an answer is bounded by header_bytes, what waits to be sent by stream_bytes.
 * Must hold: a connection is freed only by doomed(), from the loop, never under a caller's feet. */
#include "serve/http.h"
#include "serve/http_parse.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/util.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  READ_BLOCK = 65536,
  SEND_BUFFER = 65536,
  TAKEN_AT_LEAST = 16384,
  LINGER_SECONDS = 2,
  SPARE_FILES = 64,
  KEPT_BYTES = 4096
};

typedef enum { WAIT, HEAD, BODY, BUSY, FLUSH, LINGER } State;

struct Http {
  HttpHead head;
  char *text; /* what head points into */
  Text body, extra;
  void *user;
  bool open, streaming, keep; /* open: handed out, the answer is not over */
};

typedef struct Conn {
  Http http; /* first: an Http is its connection */
  HttpServer *server;
  struct Conn *next, *prev;
  evutil_socket_t fd;
  struct event *read, *write, *closed, *timer;
  State state;
  bool first, eof, doomed, running;
  Text in;
  size_t looked; /* bytes of `in` that hold no end of a head */
  HttpChunks chunks;
  struct evbuffer *out;
  size_t taken, pending; /* sent since the write timer's last look; what waited then */
} Conn;

struct HttpServer {
  struct event_base *base;
  const ServerOptions *o;
  HttpCalls calls;
  evutil_socket_t listener;
  struct event *accept, *accept_again, *reap;
  Conn *conns;
  int n, most;
  size_t bodies; /* bytes of bodies that connections hold */
  bool draining;
};

static void conn_run(Conn *c);

/* ---- times */

static void after(struct event *e, double seconds) {
  struct timeval t = {(time_t)seconds, (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
  event_add(e, &t);
}

static void enter(Conn *c, State state) {
  const ServerOptions *o = c->server->o;
  c->state = state;
  event_del(c->timer);
  c->taken = 0;
  c->pending = evbuffer_get_length(c->out);
  switch (state) {
  case WAIT: after(c->timer, c->first ? o->header_timeout : o->idle_timeout); break;
  case HEAD: after(c->timer, o->header_timeout); break;
  case BODY: after(c->timer, o->body_timeout); break;
  case BUSY:
  case FLUSH:
    if (c->pending) after(c->timer, o->write_timeout);
    break;
  case LINGER: after(c->timer, LINGER_SECONDS); break;
  }
}

/* ---- ends */

static void doom(Conn *c) {
  if (c->doomed) return;
  c->doomed = true;
  event_del(c->read);
  event_del(c->write);
  event_del(c->closed);
  event_del(c->timer);
  event_active(c->server->reap, EV_TIMEOUT, 0);
}

static void http_reset(Http *r) {
  ((Conn *)r)->server->bodies -= r->body.n;
  free(r->text);
  text_free(&r->body);
  text_free(&r->extra);
  *r = (Http){0};
}

static void conn_free(Conn *c) {
  HttpServer *s = c->server;
  if (c->http.open) {
    c->http.open = false;
    s->calls.gone(s->calls.ctx, &c->http);
  }
  if (c->next) c->next->prev = c->prev;
  if (c->prev) c->prev->next = c->next;
  if (s->conns == c) s->conns = c->next;
  s->n--;
  event_free(c->read);
  event_free(c->write);
  event_free(c->closed);
  event_free(c->timer);
  evbuffer_free(c->out);
  http_reset(&c->http);
  text_free(&c->in);
  close(c->fd);
  free(c);
}

static void on_reap(evutil_socket_t fd, short what, void *ctx) {
  HttpServer *s = ctx;
  for (Conn *c = s->conns, *next; c; c = next) {
    next = c->next;
    if (c->doomed) conn_free(c);
  }
}

/* ---- sending */

static void conn_send(Conn *c) {
  size_t before = evbuffer_get_length(c->out);
  if (c->doomed || !before) return;
  if (evbuffer_write(c->out, c->fd) < 0 && errno != EAGAIN && errno != EINTR) {
    doom(c);
    return;
  }
  size_t left = evbuffer_get_length(c->out);
  c->taken += before - left;
  if (!left) {
    event_del(c->write);
    if (c->state == BUSY) event_del(c->timer);
  } else if (c->state == BUSY && c->http.streaming && left > (size_t)c->server->o->stream_bytes) {
    doom(c);
  } else {
    event_add(c->write, NULL);
    if ((c->state == BUSY || c->state == FLUSH) && !event_pending(c->timer, EV_TIMEOUT, NULL)) enter(c, c->state);
  }
}

static const char *reason(int status) {
  switch (status) {
  case 200: return "OK";
  case 204: return "No Content";
  case 400: return "Bad Request";
  case 401: return "Unauthorized";
  case 403: return "Forbidden";
  case 404: return "Not Found";
  case 405: return "Method Not Allowed";
  case 408: return "Request Timeout";
  case 413: return "Content Too Large";
  case 414: return "URI Too Long";
  case 417: return "Expectation Failed";
  case 429: return "Too Many Requests";
  case 431: return "Request Header Fields Too Large";
  case 500: return "Internal Server Error";
  case 501: return "Not Implemented";
  case 503: return "Service Unavailable";
  case 505: return "HTTP Version Not Supported";
  }
  return "Unknown";
}

static void put_head(Conn *c, int status, const char *type) {
  Http *r = &c->http;
  char date[64];
  time_t now = time(NULL);
  struct tm tm;
  strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
  evbuffer_add_printf(c->out, "HTTP/1.1 %d %s\r\nDate: %s\r\nX-Content-Type-Options: nosniff\r\n", status,
                      reason(status), date);
  if (type) evbuffer_add_printf(c->out, "Content-Type: %s\r\n", type);
  if (r->extra.n) evbuffer_add(c->out, r->extra.s, r->extra.n);
  if (!r->keep)
    evbuffer_add_printf(c->out, "Connection: close\r\n");
  else if (r->head.minor == 0)
    evbuffer_add_printf(c->out, "Connection: keep-alive\r\n");
}

/* The answer is all in `out`. */
static void finish(Conn *c) {
  c->http.open = false;
  enter(c, FLUSH);
  conn_send(c);
  if (!c->doomed) conn_run(c);
}

void http_add(Http *r, const char *name, const char *value) {
  text_add(&r->extra, "%s: %s\r\n", name, value);
}

void http_answer(Http *r, int status, const char *type, const void *body, size_t n) {
  Conn *c = (Conn *)r;
  if (c->state != BUSY || c->server->draining)
    r->keep = false; /* else the rest of the body would be the next request */
  put_head(c, status, type);
  if (status != 204) evbuffer_add_printf(c->out, "Content-Length: %zu\r\n", n);
  evbuffer_add(c->out, "\r\n", 2);
  if (status != 204 && (!r->head.method || strcmp(r->head.method, "HEAD"))) evbuffer_add(c->out, body, n);
  finish(c);
}

void http_stream(Http *r, const char *type) {
  Conn *c = (Conn *)r;
  r->streaming = true;
  if (r->head.minor == 0 || c->server->draining) r->keep = false;
  put_head(c, 200, type);
  if (r->head.minor == 1) evbuffer_add_printf(c->out, "Transfer-Encoding: chunked\r\n");
  evbuffer_add(c->out, "\r\n", 2);
  conn_send(c);
}

void http_write(Http *r, const void *bytes, size_t n) {
  Conn *c = (Conn *)r;
  if (!n || c->doomed) return;
  if (r->head.minor == 1) evbuffer_add_printf(c->out, "%zx\r\n", n);
  evbuffer_add(c->out, bytes, n);
  if (r->head.minor == 1) evbuffer_add(c->out, "\r\n", 2);
  conn_send(c);
}

void http_end(Http *r) {
  Conn *c = (Conn *)r;
  if (c->server->draining && r->head.minor == 1) r->keep = false; /* said nowhere, but a client must expect it */
  if (r->head.minor == 1) evbuffer_add(c->out, "0\r\n\r\n", 5);
  finish(c);
}

/* ---- reading */

/* No request: the connection ends with an answer that says why. */
static void refuse(Conn *c, int status, const char *why) {
  Text body = {0};
  c->http.keep = false;
  c->server->calls.refusal(c->server->calls.ctx, status, why, &body);
  http_answer(&c->http, status, "application/json", body.s, body.n);
  text_free(&body);
}

static void take(Conn *c, size_t n) {
  c->in.n -= n;
  memmove(c->in.s, c->in.s + n, c->in.n);
  c->looked = 0;
}

/* Is the whole head there? */
static bool run_head(Conn *c) {
  const ServerOptions *o = c->server->o;
  Http *r = &c->http;
  size_t limit = (size_t)o->header_bytes, n = http_head_end(c->in.s, c->in.n, c->looked);
  c->looked = c->in.n;
  if (!n && c->in.n <= limit) return false;
  if (!n || n > limit) {
    bool line = memchr(c->in.s, '\n', c->in.n < limit ? c->in.n : limit) != NULL;
    refuse(c, line ? 431 : 414, line ? "the headers are too long" : "the request line is too long");
    return true;
  }
  r->text = malloc(n + 1);
  if (!r->text) abort();
  memcpy(r->text, c->in.s, n);
  r->text[n] = 0;
  take(c, n);
  int status = http_head_parse(&r->head, r->text, n);
  if (status) {
    refuse(c, status, r->head.wrong);
    return true;
  }
  r->keep = r->head.keep_alive;
  r->open = true;
  enter(c, BODY);
  c->chunks = (HttpChunks){0};
  c->server->calls.head(c->server->calls.ctx, r);
  if (c->state != BODY) return true;
  if (r->head.length > o->body_bytes) {
    refuse(c, 413, "the body is too long");
  } else if (r->head.expect && !c->in.n && (r->head.length || r->head.chunked)) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    evbuffer_add(c->out, go_on, sizeof go_on - 1);
    conn_send(c);
  }
  return true;
}

/* False: it was refused. */
static bool add_body(Conn *c, const char *s, size_t n) {
  HttpServer *server = c->server;
  bool fits = c->http.body.n + n <= (size_t)server->o->body_bytes;
  if (!fits || server->bodies + n > (size_t)server->o->bodies_bytes) {
    refuse(c, fits ? 503 : 413, fits ? "too many bodies arrive at once" : "the body is too long");
    return false;
  }
  text_write(&c->http.body, s, n);
  server->bodies += n;
  return true;
}

static bool run_body(Conn *c) {
  Http *r = &c->http;
  if (r->head.chunked) {
    size_t used = 0;
    ptrdiff_t k;
    do {
      const char *data;
      size_t n;
      k = http_chunks(&c->chunks, c->in.s + used, c->in.n - used, &data, &n);
      if (k < 0) {
        refuse(c, 400, "the chunks of the body are broken");
        return true;
      }
      if (n && !add_body(c, data, n)) return true;
      used += (size_t)k;
    } while (k > 0);
    if (used) take(c, used);
    if (c->chunks.state != CHUNK_DONE) return false;
  } else {
    size_t want = (size_t)r->head.length - r->body.n, n = c->in.n < want ? c->in.n : want;
    if (n) {
      if (!add_body(c, c->in.s, n)) return true;
      take(c, n);
    }
    if (n < want) return false;
  }
  enter(c, BUSY);
  c->server->calls.request(c->server->calls.ctx, r);
  return true;
}

/* The answer went out: on to the next request, or away. */
static bool run_flush(Conn *c) {
  if (evbuffer_get_length(c->out)) return false;
  bool keep = c->http.keep && !c->server->draining;
  http_reset(&c->http);
  if (!c->in.n && c->in.cap > KEPT_BYTES) { /* many connections wait, few read much */
    text_free(&c->in);
    text_write(&c->in, "", 0);
  }
  if (keep) {
    c->first = false;
    event_del(c->closed);
    if (!c->eof) event_add(c->read, NULL);
    enter(c, WAIT);
    return true;
  }
  if (c->eof || shutdown(c->fd, SHUT_WR)) {
    doom(c);
    return false;
  }
  event_del(c->closed);
  event_add(c->read, NULL);
  enter(c, LINGER);
  return true;
}

/* Goes on as far as what was read and sent lets it. */
static void conn_run(Conn *c) {
  if (c->running) return; /* an answer from within a call of this loop: it goes on itself */
  c->running = true;
  for (bool more = true; more && !c->doomed;) {
    more = false;
    switch (c->state) {
    case WAIT: {
      size_t blank = 0;
      while (c->in.n - blank >= 2 && c->in.s[blank] == '\r' && c->in.s[blank + 1] == '\n') blank += 2;
      if (blank) take(c, blank);
      if (c->server->draining && !c->in.n) {
        doom(c);
      } else if (c->in.n) {
        enter(c, HEAD);
        more = true;
      }
      break;
    }
    case HEAD: more = run_head(c); break;
    case BODY: more = run_body(c); break;
    case BUSY: break;
    case FLUSH: more = run_flush(c); break;
    case LINGER: c->in.n = 0; break;
    }
  }
  c->running = false;
  if (c->eof && !c->doomed && c->state != FLUSH) doom(c);
}

static void on_read(evutil_socket_t fd, short what, void *ctx) {
  static char block[READ_BLOCK]; /* one thread, and not kept */
  Conn *c = ctx;
  ssize_t n = recv(fd, block, sizeof block, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) {
    doom(c);
    return;
  }
  if (n == 0) {
    c->eof = true;
    event_del(c->read);
    if (c->state == BUSY) {
      doom(c);
      return;
    }
  } else if (c->state != LINGER) {
    text_write(&c->in, block, (size_t)n);
  }
  if ((c->state == BUSY || c->state == FLUSH) && c->in.n > (size_t)c->server->o->header_bytes) {
    event_del(c->read); /* enough ahead; that the client leaves must be seen still */
    event_add(c->closed, NULL);
  }
  conn_run(c);
}

static void on_closed(evutil_socket_t fd, short what, void *ctx) {
  Conn *c = ctx;
  c->eof = true;
  event_del(c->closed);
  if (c->state == BUSY) doom(c);
}

static void on_write(evutil_socket_t fd, short what, void *ctx) {
  Conn *c = ctx;
  conn_send(c);
  if (!c->doomed) conn_run(c);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx) {
  Conn *c = ctx;
  switch (c->state) {
  case HEAD: refuse(c, 408, "the headers took too long"); break;
  case BODY: refuse(c, 408, "the body took too long"); break;
  case BUSY:
  case FLUSH:
    if (c->taken < (c->pending < TAKEN_AT_LEAST ? c->pending : TAKEN_AT_LEAST))
      doom(c);
    else
      enter(c, c->state);
    break;
  case WAIT:
  case LINGER: doom(c); break;
  }
}

/* ---- connections */

/* The one that has waited longest without a request makes room. New ones stand at the front. */
static bool make_room(HttpServer *s) {
  Conn *oldest = NULL;
  for (Conn *c = s->conns; c; c = c->next)
    if (c->state == WAIT && !c->first && !c->doomed) oldest = c;
  if (oldest) conn_free(oldest);
  return oldest != NULL;
}

static void conn_new(HttpServer *s, evutil_socket_t fd) {
  int one = 1, size = SEND_BUFFER;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  Conn *c = calloc(1, sizeof *c);
  if (!c) abort();
  c->server = s;
  c->fd = fd;
  c->first = true;
  c->read = event_new(s->base, fd, EV_READ | EV_PERSIST, on_read, c);
  c->write = event_new(s->base, fd, EV_WRITE | EV_PERSIST, on_write, c);
  c->closed = event_new(s->base, fd, EV_CLOSED | EV_PERSIST, on_closed, c);
  c->timer = event_new(s->base, -1, 0, on_timer, c);
  c->out = evbuffer_new();
  text_write(&c->in, "", 0); /* never NULL */
  if (!c->read || !c->write || !c->closed || !c->timer || !c->out) abort();
  c->next = s->conns;
  if (c->next) c->next->prev = c;
  s->conns = c;
  s->n++;
  event_add(c->read, NULL);
  enter(c, WAIT);
  if (s->n > s->most) refuse(c, 503, "too many connections");
}

static void on_accept(evutil_socket_t listener, short what, void *ctx) {
  HttpServer *s = ctx;
  for (int i = 0; i < 64; i++) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
      event_del(s->accept); /* or the loop would spin */
      after(s->accept_again, 0.2);
      return;
    }
    if (s->n >= s->most && !make_room(s) && s->n >= s->most + SPARE_FILES / 2)
      close(fd); /* too many even to be told so */
    else
      conn_new(s, fd);
  }
}

static void on_accept_again(evutil_socket_t fd, short what, void *ctx) {
  HttpServer *s = ctx;
  if (!s->draining) event_add(s->accept, NULL);
}

HttpServer *http_new(struct event_base *base, const ServerOptions *o, const HttpCalls *calls) {
  HttpServer *s = calloc(1, sizeof *s);
  if (!s) abort();
  s->base = base;
  s->o = o;
  s->calls = *calls;
  s->listener = -1;
  s->reap = event_new(base, -1, 0, on_reap, s);
  s->accept_again = event_new(base, -1, 0, on_accept_again, s);
  if (!s->reap || !s->accept_again) abort();
  return s;
}

static bool is_loopback(const struct sockaddr *a) {
  if (a->sa_family == AF_INET)
    return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
  return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

/* As many connections as asked for, or as the process may have files. */
static void bound_connections(HttpServer *s) {
  struct rlimit l;
  s->most = s->o->connections;
  if (getrlimit(RLIMIT_NOFILE, &l)) return;
  rlim_t want = (rlim_t)s->most + SPARE_FILES;
  if (l.rlim_cur < want) {
    l.rlim_cur = want < l.rlim_max ? want : l.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &l) || getrlimit(RLIMIT_NOFILE, &l)) return;
  }
  if (l.rlim_cur < want) s->most = l.rlim_cur > 2 * SPARE_FILES ? (int)l.rlim_cur - SPARE_FILES : (int)l.rlim_cur / 2;
}

bool http_listen(HttpServer *s, int *port, bool *loopback, Report *err) {
  const ServerOptions *o = s->o;
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list = NULL;
  struct sockaddr_storage bound;
  socklen_t nbound = sizeof bound;
  char service[16];
  int one = 1;
  snprintf(service, sizeof service, "%d", o->port);
  int wrong = getaddrinfo(o->host, service, &hints, &list);
  if (wrong) return report_add(err, "cannot listen at %s: %s", o->host, gai_strerror(wrong));
  int fd = socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  bool ok = fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) &&
            !bind(fd, list->ai_addr, list->ai_addrlen) && !listen(fd, 1024) &&
            !getsockname(fd, (struct sockaddr *)&bound, &nbound);
  int error = errno;
  freeaddrinfo(list);
  if (!ok) {
    if (fd >= 0) close(fd);
    return report_add(err, "cannot listen at %s, port %d: %s", o->host, o->port, strerror(error));
  }
  *loopback = is_loopback((struct sockaddr *)&bound);
  *port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                                           : ((struct sockaddr_in6 *)&bound)->sin6_port);
  bound_connections(s);
  s->listener = fd;
  s->accept = event_new(s->base, fd, EV_READ | EV_PERSIST, on_accept, s);
  if (!s->accept) abort();
  event_add(s->accept, NULL);
  return true;
}

void http_drain(HttpServer *s) {
  s->draining = true;
  if (s->accept) event_free(s->accept);
  s->accept = NULL;
  if (s->listener >= 0) close(s->listener);
  s->listener = -1;
  for (Conn *c = s->conns; c; c = c->next)
    if (c->state == WAIT) doom(c);
}

int http_open(const HttpServer *s) {
  return s->n;
}

int http_most(const HttpServer *s) {
  return s->most;
}

void http_free(HttpServer *s) {
  if (!s) return;
  http_drain(s);
  while (s->conns) conn_free(s->conns);
  event_free(s->reap);
  event_free(s->accept_again);
  free(s);
}

/* ---- what a request says */

const char *http_method(const Http *r) {
  return r->head.method;
}
const char *http_path(const Http *r) {
  return r->head.path;
}
const char *http_header(const Http *r, const char *name) {
  return http_head_find(&r->head, name);
}
int64_t http_length(const Http *r) {
  return r->head.length;
}
char *http_take_body(Http *r, size_t *n) {
  text_write(&r->body, "", 0); /* there, if it is empty */
  char *s = r->body.s;
  *n = r->body.n;
  ((Conn *)r)->server->bodies -= r->body.n;
  r->body = (Text){0};
  return s;
}
void **http_user(Http *r) {
  return &r->user;
}
