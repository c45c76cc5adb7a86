/* server_run: the loop, its threads, and how they end.
 *
 * Life: listening (503 while the model opens) - ready - draining - over. Who ends: the loop first stops to listen, then lets
 * jobs end or ends them; then the reading thread, then the batcher's, each joined; last the mail that was still under way. */
#include "serve/server.h"
#include "serve/router.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef enum { LOADING, READY, DRAINING, OVER } Phase;

typedef struct Server {
  Api api;
  Router router;
  Served *served;
  ServerOptions o;
  struct event_base *base;
  struct event *mail, *term, *interrupt, *stop, *tick;
  Phase phase;
  double left; /* of the drain, seconds */
  bool failed, cut;
  Report *err, loading;
  pthread_t loader, reader, batcher;
  Mail loaded, reader_ends;
  bool opened, reader_on;
} Server;

static atomic_int stop_fd = -1;
static Server *left_loading; /* keeps what a loader still writes to */

enum { TICK_MS = 20, FLUSH_SECONDS = 2 };

void server_stop(void) {
  uint64_t one = 1;
  int fd = atomic_load(&stop_fd), kept = errno;
  if (fd >= 0 && write(fd, &one, sizeof one) < 0) errno = kept;
  errno = kept;
}

static void say(Server *s, const char *fmt, ...) PRINTF(2, 3);
static void say(Server *s, const char *fmt, ...) {
  char line[1024];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  if (s->o.say) s->o.say(s->o.ctx, line);
}

#define SERVER_OF(mail, member) ((Server *)(void *)((char *)(mail)-offsetof(Server, member)))

/* ---- threads */

static void on_reader_ends(Mail *m) {
  SERVER_OF(m, reader_ends)->reader_on = false;
}

static void *run_reader(void *ctx) {
  Server *s = ctx;
  while (s->reader_on) mailbox_open_all(&s->api.reader);
  return NULL;
}

static void *run_batcher(void *ctx) {
  Server *s = ctx;
  batcher_run(s->served->batcher);
  return NULL;
}

static void on_loaded(Mail *m) {
  Server *s = SERVER_OF(m, loaded);
  if (s->o.load) pthread_join(s->loader, NULL);
  if (!s->opened) {
    report_add(s->err, "%.*s", s->loading.n ? (int)s->loading.n - 1 : 0, s->loading.n ? s->loading.text : "");
    s->failed = true;
    event_base_loopbreak(s->base);
    return;
  }
  s->api.codec = codec_share(s->served->codec);
  s->reader_on = true;
  if (pthread_create(&s->reader, NULL, run_reader, s) || pthread_create(&s->batcher, NULL, run_batcher, s)) abort();
  s->api.served = s->served;
  s->phase = READY;
  say(s, "ready: %s", s->served->name);
}

static void *run_loader(void *ctx) {
  Server *s = ctx;
  s->opened = s->o.load(s->o.ctx, s->served, &s->loading);
  mailbox_post(&s->api.loop, &s->loaded);
  return NULL;
}

/* ---- stopping */

static void cancel_all(Server *s) {
  for (Job *j = s->api.jobs, *next; j; j = next) {
    next = j->next;
    job_cancel(j, 503, "the server is stopping");
  }
}

/* While it drains: is all over? */
static void on_tick(evutil_socket_t fd, short what, void *ctx) {
  Server *s = ctx;
  s->left -= TICK_MS / 1e3;
  if (!s->api.jobs && !http_open(s->router.http)) event_base_loopbreak(s->base);
  if (s->left <= 0 && !s->cut) {
    say(s, "the time to drain is over: what still runs is cancelled");
    s->cut = true;
    cancel_all(s);
  }
  if (s->left <= -FLUSH_SECONDS) event_base_loopbreak(s->base); /* clients that do not read */
}

static void drain(Server *s) {
  struct timeval tick = {0, TICK_MS * 1000};
  s->phase = DRAINING;
  s->api.draining = true;
  s->left = s->o.drain_timeout;
  http_drain(s->router.http);
  event_add(s->tick, &tick);
}

/* All that ran has been told so. Whoever watches the process starts another. */
static void on_broken(void *ctx) {
  Server *s = ctx;
  if (!s->failed) report_add(s->err, "the model cannot go on");
  s->failed = true;
  if (s->phase == READY) drain(s);
}

static void stop_once(Server *s) {
  if (s->phase == DRAINING) {
    report_add(s->err, "stopped at once: running requests were cut off");
    s->failed = true;
    cancel_all(s);
    event_base_loopbreak(s->base);
  } else if (s->phase == LOADING) {
    event_base_loopbreak(s->base);
  } else {
    say(s, "stopping: running requests have %.10g s", s->o.drain_timeout);
    drain(s);
  }
}

static void on_signal(evutil_socket_t fd, short what, void *ctx) {
  stop_once(ctx);
}

static void on_stop(evutil_socket_t fd, short what, void *ctx) {
  uint64_t n = 0;
  if (read(fd, &n, sizeof n) == sizeof n)
    for (; n; n--) stop_once(ctx);
}

static void on_mail(evutil_socket_t fd, short what, void *ctx) {
  mailbox_open_all(&((Server *)ctx)->api.loop);
}

/* ---- the whole */

static struct event *add_event(Server *s, int fd, short what, event_callback_fn call) {
  struct event *e = event_new(s->base, fd, what, call, s);
  if (!e || ((what & (EV_READ | EV_SIGNAL)) && event_add(e, NULL))) abort();
  return e;
}

static bool open_all(Server *s) {
  int port;
  s->api.o = &s->o;
  s->api.broken = on_broken;
  s->api.ctx = s;
  s->router.api = &s->api;
  s->base = event_base_new();
  if (!s->base || !mailbox_init(&s->api.loop, false) || !mailbox_init(&s->api.reader, true))
    return report_add(s->err, "cannot start the server's loop: %s", strerror(errno));
  HttpCalls calls = router_calls(&s->router);
  s->router.http = http_new(s->base, &s->o, &calls);
  if (!router_keys(&s->router, s->err) || !http_listen(s->router.http, &port, &s->router.loopback, s->err))
    return false;
  atomic_store(&stop_fd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  s->mail = add_event(s, s->api.loop.fd, EV_READ | EV_PERSIST, on_mail);
  s->stop = add_event(s, atomic_load(&stop_fd), EV_READ | EV_PERSIST, on_stop);
  s->term = add_event(s, SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal);
  s->interrupt = add_event(s, SIGINT, EV_SIGNAL | EV_PERSIST, on_signal);
  s->tick = add_event(s, -1, EV_PERSIST, on_tick);
  bool six = strchr(s->o.host, ':') != NULL;
  say(s, "listening on http://%s%s%s:%d", six ? "[" : "", s->o.host, six ? "]" : "", port);
  if (http_most(s->router.http) < s->o.connections)
    say(s, "warning: %d connections at most: the process may have no more files", http_most(s->router.http));
  if (!s->router.loopback && !s->router.nkeys)
    say(s, "warning: open to the network, and nobody is asked for a key (--api-key-file)");
  if (s->o.cors && strchr(s->o.cors, '*')) say(s, "warning: any page in a browser that reaches the server may call it");
  return true;
}

static void close_all(Server *s) {
  s->phase = OVER;
  http_free(s->router.http); /* unfinished jobs end with their clients */
  if (s->api.served) {
    mailbox_post(&s->api.reader, &s->reader_ends);
    pthread_join(s->reader, NULL);
    while (s->api.loop.first) mailbox_open_all(&s->api.loop);
    batcher_stop(s->served->batcher);
    pthread_join(s->batcher, NULL);
    codec_free(s->api.codec);
  }
  while (s->api.loop.first) mailbox_open_all(&s->api.loop);
  int fd = s->stop ? atomic_exchange(&stop_fd, -1) : -1;
  struct event *all[] = {s->mail, s->stop, s->term, s->interrupt, s->tick};
  for (int i = 0; i < LEN(all); i++)
    if (all[i]) event_free(all[i]);
  if (fd >= 0) close(fd);
  if (s->base) event_base_free(s->base);
  mailbox_free(&s->api.loop);
  mailbox_free(&s->api.reader);
  router_free(&s->router);
  report_free(&s->loading);
}

int server_run(Served *served, const ServerOptions *o, Report *err) {
  struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
  Server *s = calloc(1, sizeof *s);
  if (!s) abort();
  *s = (Server){.served = served, .o = *o, .err = err, .opened = !o->load};
  s->api.loop.fd = s->api.reader.fd = -1;
  s->loaded.open = on_loaded;
  s->reader_ends.open = on_reader_ends;
  sigaction(SIGPIPE, &ignore, &before);
  bool ok = open_all(s);
  if (ok && !o->load) mailbox_post(&s->api.loop, &s->loaded);
  if (ok && o->load && pthread_create(&s->loader, NULL, run_loader, s)) abort();
  if (ok) event_base_dispatch(s->base);
  int status = ok && !s->failed ? 0 : 1;
  if (s->phase == LOADING && ok && o->load && !s->failed) {
    pthread_detach(s->loader);
    left_loading = s;
  } else {
    close_all(s);
    free(s);
  }
  sigaction(SIGPIPE, &before, NULL);
  return status;
}
