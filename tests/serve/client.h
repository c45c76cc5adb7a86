/* The real server over the made-up model in this process, and a client that speaks bytes. */
#ifndef TESTS_SERVE_CLIENT_H
#define TESTS_SERVE_CLIENT_H
#include "serve/json.h"
#include "serve/server.h"
#include "tests/serve/fake_served.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef MUST /* tests/fuzz/fuzz.h has the same */
/* Not Criterion's: what a test shares with client.c, which is none, under ThreadSanitizer too. */
#define MUST(cond, ...)                                                                                                \
  do {                                                                                                                 \
    if (cond) break;                                                                                                   \
    fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);                                                 \
    fprintf(stderr, "here: " __VA_ARGS__);                                                                             \
    fputc('\n', stderr);                                                                                               \
    abort();                                                                                                           \
  } while (0)
#endif

typedef struct TestServer {
  ServerOptions o;
  FakeOptions fake;
  int load_ms; /* -1: opening fails */
  volatile int port;
  Served served;
  Report err;
  pthread_t thread;
  int status;
} TestServer;

/* Zeroed, then options as they should be; then started. */
void server_prepare(TestServer *s);
void server_start(TestServer *s);
int server_end(TestServer *s); /* stops once; the status. Every completion must be freed */

int client_open(const TestServer *s);
void client_send(int fd, const char *bytes, size_t n);
/* Reads until the end of the connection, `seconds` at most; what came, NUL-terminated, in out. */
void client_read(int fd, double seconds, Text *out);
bool client_read_until(int fd, double seconds, const char *mark, Text *out); /* keeps open; false: it did not come */
/* One exchange on a connection of its own, closed by the server. */
void client_ask(const TestServer *s, const char *bytes, Text *out);
int client_status(const char *answer);       /* of the first answer in it; 0: none */
const char *client_body(const char *answer); /* behind its headers */
/* POSTs JSON; the status, and the body as JSON (NULL: none). */
int client_post(const TestServer *s, const char *path, const char *body, json_t **out);
/* A value within JSON by a path: "choices.0.text". Fails the test when it is not there. */
const json_t *client_at(const json_t *v, const char *path);
double client_metric(const TestServer *s,
                     const char *line); /* the number behind `line ` on /metrics; -1: no such line */
#endif
