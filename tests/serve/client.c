/* See client.h. */
#include "tests/serve/client.h"
#include "runtime/machine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void nap(int ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&t, NULL);
}

static bool load(void *ctx, Served *out, Report *err) {
  TestServer *s = ctx;
  if (s->load_ms < 0) return report_add(err, "the file is damaged");
  nap(s->load_ms);
  fake_open(out, &s->fake);
  return true;
}

static void say(void *ctx, const char *line) {
  TestServer *s = ctx;
  const char *port = strstr(line, "http://127.0.0.1:");
  if (port) __atomic_store_n(&s->port, atoi(port + 17), __ATOMIC_RELEASE);
}

static void *run(void *ctx) {
  TestServer *s = ctx;
  s->status = server_run(&s->served, &s->o, &s->err);
  return NULL;
}

void server_prepare(TestServer *s) {
  *s = (TestServer){.fake = {.max_seqs = 64, .max_queue = 256, .ctx = 4096}};
  server_options_default(&s->o);
  s->o.port = 0;
  s->o.say = say;
  s->o.load = load;
  s->o.ctx = s;
}

void server_start(TestServer *s) {
  if (!s->load_ms) {
    s->o.load = NULL;
    fake_open(&s->served, &s->fake);
  }
  MUST(pthread_create(&s->thread, NULL, run, s) == 0);
  for (int i = 0; i < 500 && !__atomic_load_n(&s->port, __ATOMIC_ACQUIRE); i++) nap(10);
  MUST(s->port, "it does not listen");
  for (int i = 0; i < 500 && !s->load_ms; i++) {
    Text out = {0};
    client_ask(s, "GET /ready HTTP/1.0\r\n\r\n", &out);
    int status = client_status(out.s);
    text_free(&out);
    if (status == 200) return;
    nap(10);
  }
}

int server_end(TestServer *s) {
  server_stop();
  pthread_join(s->thread, NULL);
  if (s->served.batcher) {
    MUST(fake_unfinished(&s->served) == 0, "completions were left unfreed");
    fake_close(&s->served);
  }
  report_free(&s->err);
  return s->status;
}

int client_open(const TestServer *s) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  MUST(fd >= 0);
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
    close(fd);
    return -1;
  }
  return fd;
}

void client_send(int fd, const char *bytes, size_t n) {
  while (n) {
    ssize_t k = send(fd, bytes, n, MSG_NOSIGNAL);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return; /* the server has closed: what it said is read */
    bytes += k;
    n -= (size_t)k;
  }
}

/* One read; 1: something came, 0: the end, -1: not in time. */
static int read_some(int fd, double until, Text *out) {
  char block[8192];
  struct pollfd p = {.fd = fd, .events = POLLIN};
  for (;;) {
    double left = until - machine_seconds();
    int ready = left <= 0 ? 0 : poll(&p, 1, (int)(left * 1e3) + 1);
    ssize_t n = ready > 0 ? recv(fd, block, sizeof block, 0) : -1;
    if (n > 0) text_write(out, block, (size_t)n);
    if (n >= 0) return n > 0;
    if (!ready) return -1;
    if (errno != EINTR) return 0;
  }
}

void client_read(int fd, double seconds, Text *out) {
  double until = machine_seconds() + seconds;
  text_write(out, "", 0);
  while (read_some(fd, until, out) > 0) {
  }
}

bool client_read_until(int fd, double seconds, const char *mark, Text *out) {
  double until = machine_seconds() + seconds;
  text_write(out, "", 0);
  while (!strstr(out->s, mark))
    if (read_some(fd, until, out) <= 0) return strstr(out->s, mark) != NULL;
  return true;
}

void client_ask(const TestServer *s, const char *bytes, Text *out) {
  int fd = client_open(s);
  MUST(fd >= 0, "no connection");
  client_send(fd, bytes, strlen(bytes));
  client_read(fd, 20, out);
  close(fd);
}

int client_status(const char *answer) {
  return !strncmp(answer, "HTTP/1.1 ", 9) ? atoi(answer + 9) : 0;
}

const char *client_body(const char *answer) {
  const char *at = strstr(answer, "\r\n\r\n");
  return at ? at + 4 : "";
}

int client_post(const TestServer *s, const char *path, const char *body, json_t **out) {
  Text ask = {0}, answer = {0};
  text_add(&ask, "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", path,
           strlen(body));
  text_write(&ask, body, strlen(body));
  client_ask(s, ask.s, &answer);
  int status = client_status(answer.s);
  if (out) *out = json_loads(client_body(answer.s), JSON_ALLOW_NUL, NULL);
  text_free(&ask);
  text_free(&answer);
  return status;
}

const json_t *client_at(const json_t *v, const char *path) {
  char word[64];
  for (const char *p = path; *p && v;) {
    size_t n = strcspn(p, ".");
    snprintf(word, sizeof word, "%.*s", (int)n, p);
    v = json_is_array(v) ? json_array_get(v, (size_t)atoi(word)) : json_object_get(v, word);
    p += n + (p[n] == '.');
  }
  MUST(v, "there is no %s", path);
  return v;
}

double client_metric(const TestServer *s, const char *line) {
  Text out = {0};
  client_ask(s, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", &out);
  const char *at = strstr(out.s, line);
  double v = at ? strtod(at + strlen(line), NULL) : -1;
  text_free(&out);
  return v;
}
