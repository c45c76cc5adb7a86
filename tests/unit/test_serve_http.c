/* The server from outside, as bytes: what is refused and how, slow and leaving clients, many at once, loading and stopping. The model
 * is made up (tests/serve/fake_served.h), the rest is the real thing. */
#include "runtime/machine.h"
#include "serve/http_parse.h"
#include "tests/serve/client.h"
#include "tests/unit/runtime_criterion.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static TestServer s;
static void setup(void) {
  server_prepare(&s);
}
TestSuite(serve_http, .init = setup, .timeout = 120);

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

static void nap(double seconds) {
  struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&t, NULL);
}

static void post(Text *out, const char *path, const char *headers, const char *body) {
  text_add(out, "POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n", path, headers, strlen(body));
  text_add(out, "%s", body);
}

/* Sends bytes; the answer must have this status, and if it is an error be the API's JSON. */
static void expect_n(const char *bytes, size_t n, int status) {
  Text out = {0};
  int fd = client_open(&s);
  client_send(fd, bytes, n);
  client_read(fd, 20, &out);
  close(fd);
  MUST(client_status(out.s) == status, "%d wanted for\n%.200s\ngot\n%.600s", status, bytes, out.s);
  if (status >= 400 && !strstr(out.s, "{\"status\":\"")) {
    json_t *v = json_loads(client_body(out.s), 0, NULL);
    MUST(json_is_string(client_at(v, "error.message")), "%s", out.s);
    MUST(json_is_string(client_at(v, "error.type")));
    client_at(v, "error.param");
    client_at(v, "error.code");
    json_decref(v);
  }
  text_free(&out);
}
static void expect(const char *bytes, int status) {
  expect_n(bytes, strlen(bytes), status);
}

/* ---- bytes alone */

Test(serve_http, chunks_at_every_cut) {
  static const char all[] = "5;a=b\r\nhello\r\n00006\r\n world\r\n0\r\nTrailer: x\r\n\r\nGET";
  size_t n = sizeof all - 1;
  for (size_t cut = 0; cut <= n; cut++) {
    HttpChunks c = {0};
    Text body = {0};
    size_t used = 0;
    for (int part = 0; part < 2; part++) {
      size_t end = part ? n : cut;
      const char *data;
      size_t k;
      for (ptrdiff_t took = 1; took > 0; used += (size_t)took) {
        took = http_chunks(&c, all + used, end - used, &data, &k);
        MUST(took >= 0, "cut %zu", cut);
        if (k) text_write(&body, data, k);
      }
    }
    MUST(c.state == CHUNK_DONE);
    MUST(!strcmp(body.s, "hello world"));
    MUST(used == n - 3);
    text_free(&body);
  }
  static const char *const bad[] = {"x\r\n",  "\r\n",        "5\n",    "5 5\x01\r\n", "fffffffffffffffff\r\n",
                                    "-1\r\n", "1\r\nab\r\n", "0x5\r\n"};
  for (int i = 0; i < LEN(bad); i++) {
    HttpChunks c = {0};
    const char *data;
    size_t k, n_bad = strlen(bad[i]), at = 0;
    ptrdiff_t took = 1;
    while (took > 0) {
      took = http_chunks(&c, bad[i] + at, n_bad - at, &data, &k);
      if (took > 0) at += (size_t)took;
    }
    MUST(took == -1, "%s was taken", bad[i]);
  }
}

Test(serve_http, what_is_no_request) {
  server_start(&s);
  expect("GET /health\r\n\r\n", 400);
  expect("GET\r\n\r\n", 400);
  expect(" GET / HTTP/1.1\r\n\r\n", 400);
  expect("GET / HTTP/1.1\r\n\r\n", 400); /* no Host */
  expect("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400);
  expect("GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400);
  expect("GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 400);
  expect("GET / HTTP/1.1\r\nHost: localhost\nA: b\r\n\r\n", 400);
  expect("GET / HTTP/1.1\r\nHost: local\rhost\r\n\r\n", 400);
  expect("GET / HTTP/1.1\r\nHost: localhost\r\nA: \x01\r\n\r\n", 400);
  expect("GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400);
  expect("GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400);
  expect("GET health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400);
  expect("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505);
  expect("GET / FTP/1.1\r\nHost: localhost\r\n\r\n", 400);
  expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
  expect_n("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 30, 400);
  expect("\x16\x03\x01\x02\r\n\r\n", 400); /* TLS to a server without */
  expect("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400);
  expect(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      400);
  expect("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\na", 400);
  expect("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\na", 400);
  expect("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501);
  expect("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n", 400);
  expect("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nExpect: miracles\r\n\r\n", 417);
  expect(GET("/nowhere"), 404);
  expect(GET("/v1/models/nobody"), 404);
  expect("DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405);
  expect("GET /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405);
  expect(GET("/health"), 200);
  expect(GET("/heal%74h?x=1"), 200);
  expect("GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200);
  expect("\r\n\r\nGET /health HTTP/1.0\r\n\r\n", 200);
  expect("HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200);
  MUST(server_end(&s) == 0);
}

Test(serve_http, what_is_too_long) {
  Text t = {0};
  s.o.body_bytes = 2000;
  s.o.header_bytes = 1000;
  server_start(&s);
  text_add(&t, "GET /health HTTP/1.1\r\nHost: localhost\r\nX: %0900d\r\nConnection: close\r\n\r\n", 0);
  expect(t.s, 200);
  t.n = 0;
  text_add(&t, "GET /health HTTP/1.1\r\nHost: localhost\r\nX: %01000d\r\nConnection: close\r\n\r\n", 0);
  expect(t.s, 431);
  t.n = 0;
  text_add(&t, "GET /%01000d HTTP/1.1\r\nHost: localhost\r\n\r\n", 0);
  expect(t.s, 414);
  t.n = 0;
  text_add(&t, "GET / HTTP/1.1\r\nHost: localhost\r\n");
  for (int i = 0; i < 200; i++) text_add(&t, "a:\r\n");
  text_add(&t, "\r\n");
  expect(t.s, 431);
  /* Before the body is sent, and while it is sent in chunks. */
  expect("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2001\r\n\r\n", 413);
  t.n = 0;
  text_add(&t,
           "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
           "chunked\r\n\r\n5dc\r\n%01500d\r\n5dc\r\n%01500d\r\n",
           0, 0);
  expect(t.s, 413);
  /* One that would be endless is told early, and the connection ends. */
  t.n = 0;
  text_add(&t, "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000000\r\n\r\n%05000d", 0);
  expect(t.s, 413);
  text_free(&t);
  MUST(server_end(&s) == 0);
}

Test(serve_http, much_at_once) {
  Text out = {0}, ask = {0};
  static char body[1800];
  int fd[3];
  s.o.body_bytes = s.o.header_bytes = 2000;
  s.o.bodies_bytes = 4000;
  s.o.answer_bytes = 3000;
  server_start(&s);
  memset(body, 'a', sizeof body - 1);
  post(&ask, "/tokenize", "", body);
  for (int i = 0; i < 3; i++) { /* all but the last byte */
    fd[i] = client_open(&s);
    client_send(fd[i], ask.s, ask.n - 1);
    nap(.1);
  }
  client_read(fd[2], 10, &out);
  MUST(client_status(out.s) == 503, "%s", out.s);
  for (int i = 0; i < 3; i++) close(fd[i]);
  nap(.2); /* what was held is given back */
  ask.n = 0;
  post(&ask, "/v1/completions", "Connection: close\r\n",
       "{\"model\":\"fake\",\"prompt\":\"a\",\"ignore_eos\":true,\"max_tokens\":100,\"logprobs\":20}");
  out.n = 0;
  client_ask(&s, ask.s, &out);
  MUST(client_status(out.s) == 400 && strstr(out.s, "answer_too_long"), "%s", out.s);
  text_free(&ask);
  text_free(&out);
  MUST(server_end(&s) == 0);
}

Test(serve_http, slow_clients) {
  Text out = {0};
  static const char body[] = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{";
  s.o.header_timeout = s.o.body_timeout = s.o.idle_timeout = .4;
  server_start(&s);
  double from = machine_seconds();
  expect("GET / HT", 408);
  expect(body, 408);
  int fd = client_open(&s); /* says nothing */
  client_read(fd, 10, &out);
  MUST(out.n == 0);
  close(fd);
  MUST(machine_seconds() - from < 8);
  /* A trickle does not put the end off. */
  fd = client_open(&s);
  client_send(fd, "GET / HTTP/1.1\r\nX: ", 19);
  for (int i = 0; i < 12; i++) {
    nap(.1);
    client_send(fd, "a", 1);
  }
  client_read(fd, 10, &out);
  MUST(client_status(out.s) == 408);
  close(fd);
  /* A connection that stays open after an answer ends, too. */
  out.n = 0;
  fd = client_open(&s);
  client_send(fd, "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n", 42);
  client_read(fd, 10, &out);
  MUST(client_status(out.s) == 200);
  MUST(!strstr(out.s, "Connection: close"));
  close(fd);
  text_free(&out);
  MUST(server_end(&s) == 0);
}

Test(serve_http, byte_by_byte_and_many_at_once) {
  Text ask = {0}, out = {0};
  server_start(&s);
  post(&ask, "/tokenize", "", "{\"prompt\":\"hi\"}");
  post(&ask, "/detokenize", "", "{\"tokens\":[104,105]}");
  text_add(&ask, "\r\nGET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
  text_add(&ask, "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                 "f\r\n{\"prompt\":\"hi\"}\r\n0\r\n\r\n");
  for (int slow = 0; slow < 2; slow++) {
    int fd = client_open(&s);
    for (size_t i = 0; slow && i < ask.n; i++) client_send(fd, ask.s + i, 1);
    if (!slow) client_send(fd, ask.s, ask.n);
    out.n = 0;
    client_read(fd, 20, &out);
    close(fd);
    const char *at = out.s; /* four answers in their order */
    static const char *const parts[] = {"\"count\":3", "{\"prompt\":\"hi\"}", "\"version\":", "\"count\":3"};
    for (int i = 0; i < LEN(parts); i++) {
      at = strstr(at, "HTTP/1.1 200");
      MUST(at, "%s", out.s);
      at = strstr(at, parts[i]);
      MUST(at, "%s", out.s);
    }
  }
  text_free(&ask);
  text_free(&out);
  MUST(server_end(&s) == 0);
}

Test(serve_http, expects_to_go_on) {
  Text out = {0};
  server_start(&s);
  int fd = client_open(&s);
  static const char head[] = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: "
                             "15\r\nConnection: close\r\n\r\n";
  client_send(fd, head, sizeof head - 1);
  MUST(client_read_until(fd, 5, "100 Continue\r\n\r\n", &out));
  client_send(fd, "{\"prompt\":\"hi\"}", 15);
  client_read(fd, 5, &out);
  MUST(strstr(out.s, "200 OK"));
  close(fd);
  /* What will be refused is refused before. */
  expect("POST /nowhere HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n", 404);
  text_free(&out);
  MUST(server_end(&s) == 0);
}

/* ---- who is let in */

Test(serve_http, hosts_and_origins) {
  Text out = {0};
  s.o.allowed_hosts = "proxy.example, other.example";
  s.o.cors = "https://chat.example";
  server_start(&s);
  static const struct {
    const char *headers;
    int status;
  } cases[] = {
      {"Host: localhost", 200},
      {"Host: LOCALHOST:1234", 200},
      {"Host: 127.0.0.1:8080", 200},
      {"Host: 127.9.9.9", 200},
      {"Host: [::1]:80", 200},
      {"Host: other.example", 200},
      {"Host: evil.example", 403},
      {"Host: localhost.evil.example", 403},
      {"Host: 127.0.0.1.evil.example", 403},
      {"Host: localhost:80@evil", 403},
      {"Host: [::1", 403},
      {"Host: ", 403},
      {"Host: localhost:5\r\nOrigin: http://localhost:5", 200},
      {"Host: localhost:5\r\nOrigin: http://localhost:6", 403},
      {"Host: localhost\r\nOrigin: null", 403},
      {"Host: localhost\r\nOrigin: https://evil.example", 403},
      {"Host: localhost\r\nOrigin: https://chat.example", 200},
  };
  for (int i = 0; i < LEN(cases); i++) {
    char ask[300];
    snprintf(ask, sizeof ask, "GET /health HTTP/1.1\r\n%s\r\nConnection: close\r\n\r\n", cases[i].headers);
    expect(ask, cases[i].status);
  }
  client_ask(&s,
             "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://chat.example\r\n"
             "Access-Control-Request-Headers: authorization,x-more\r\nConnection: close\r\n\r\n",
             &out);
  MUST(client_status(out.s) == 204);
  MUST(strstr(out.s, "Access-Control-Allow-Origin: https://chat.example\r\n"));
  MUST(strstr(out.s, "Access-Control-Allow-Headers: authorization,x-more\r\n"));
  expect("OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405);
  text_free(&out);
  MUST(server_end(&s) == 0);
}

Test(serve_http, keys) {
  char path[] = "/tmp/ink-keys-XXXXXX";
  static const char keys[] = "# who\nalpha-1\r\n\n  beta  \n";
  int fd = mkstemp(path);
  MUST(fd >= 0 && write(fd, keys, sizeof keys - 1) == sizeof keys - 1);
  close(fd);
  s.o.api_key_file = path;
  server_start(&s);
  unlink(path);
  static const struct {
    const char *path, *key;
    int status;
  } cases[] = {
      {"/v1/models", "Authorization: Bearer alpha-1\r\n", 200},
      {"/v1/models", "authorization: bearer beta\r\n", 200},
      {"/v1/models", "", 401},
      {"/v1/models", "Authorization: Bearer \r\n", 401},
      {"/v1/models", "Authorization: Bearer alpha-\r\n", 401},
      {"/v1/models", "Authorization: Bearer alpha-11\r\n", 401},
      {"/v1/models", "Authorization: Basic alpha-1\r\n", 401},
      {"/v1/models", "Authorization: Bearer # who\r\n", 401},
      {"/metrics", "", 401},
      {"/health", "", 200},
      {"/", "", 200},
      {"/nowhere", "", 404},
      {"/v1/models", "Authorization: Bearer betabeta\r\n", 401},
  };
  for (int i = 0; i < LEN(cases); i++) {
    char ask[300];
    snprintf(ask, sizeof ask, "GET %s HTTP/1.1\r\nHost: localhost\r\n%sConnection: close\r\n\r\n", cases[i].path,
             cases[i].key);
    expect(ask, cases[i].status);
  }
  MUST(server_end(&s) == 0);
}

Test(serve_http, no_keys_in_a_file) {
  Report err = {0};
  s.o.api_key_file = "/dev/null";
  fake_open(&s.served, &s.fake);
  MUST(server_run(&s.served, &s.o, &err) == 1);
  MUST(err.n);
  report_free(&err);
  fake_close(&s.served);
}

/* ---- load */

static int open_stream(const char *extra) {
  Text ask = {0}, body = {0};
  int fd = client_open(&s);
  MUST(fd >= 0);
  text_add(&body, "{\"model\":\"fake\",\"prompt\":\"%0500d\",\"max_tokens\":400,\"stream\":true%s}", 7, extra);
  post(&ask, "/v1/completions", "Connection: close\r\n", body.s);
  client_send(fd, ask.s, ask.n);
  text_free(&ask);
  text_free(&body);
  return fd;
}

Test(serve_http, a_client_that_leaves) {
  Text out = {0};
  s.fake.delay_ms = 20;
  server_start(&s);
  int stream = open_stream(""), whole = client_open(&s);
  static const char body[] = "{\"model\":\"fake\",\"prompt\":\"hello, hello\",\"max_tokens\":4000,\"ignore_eos\":true}";
  Text ask = {0};
  post(&ask, "/v1/completions", "", body);
  client_send(whole, ask.s, ask.n);
  MUST(client_read_until(stream, 5, "data: ", &out));
  for (int i = 0; i < 200 && fake_unfinished(&s.served) < 2; i++) nap(.01);
  MUST(fake_unfinished(&s.served) == 2);
  /* More than is read ahead: that it leaves is seen all the same. */
  for (int i = 0; i < 400; i++)
    client_send(whole, "GET / HTTP/1.1\r\nX: 0123456789 0123456789 0123456789\r\n\r\n\r\n", 55);
  nap(.1);
  double from = machine_seconds();
  close(stream);
  close(whole);
  while (fake_unfinished(&s.served) && machine_seconds() - from < 5) nap(.005);
  MUST(fake_unfinished(&s.served) == 0);
  MUST(machine_seconds() - from < 1.5);
  MUST(client_metric(&s, "request_success_total{model_name=\"fake\",finished_reason=\"abort\"} ") == 2);
  text_free(&out);
  text_free(&ask);
  MUST(server_end(&s) == 0);
}

Test(serve_http, a_client_that_does_not_read) {
  s.o.stream_bytes = 16384;
  server_start(&s);
  int size = 4096, fd = client_open(&s);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  static const char body[] = "{\"model\":\"fake\",\"prompt\":\"hello, "
                             "hello\",\"max_tokens\":4000,\"ignore_eos\":true,\"stream\":true,\"logprobs\":20}";
  Text ask = {0};
  post(&ask, "/v1/completions", "", body);
  client_send(fd, ask.s, ask.n);
  text_free(&ask);
  double from = machine_seconds();
  while (client_metric(&s, "finished_reason=\"abort\"} ") < 1 && machine_seconds() - from < 20) nap(.05);
  MUST(client_metric(&s, "finished_reason=\"abort\"} ") == 1);
  MUST(fake_unfinished(&s.served) == 0);
  close(fd);
  MUST(server_end(&s) == 0);
}

Test(serve_http, the_queue_is_full) {
  Text out = {0};
  int fd[4];
  s.fake = (FakeOptions){.delay_ms = 30, .max_seqs = 2, .max_queue = 2, .ctx = 4096};
  server_start(&s);
  for (int i = 0; i < 4; i++) {
    fd[i] = open_stream("");
    for (int k = 0; k < 300 && fake_unfinished(&s.served) <= i; k++) nap(.01);
    nap(.1); /* so that the first two run */
  }
  Text ask = {0};
  post(&ask, "/v1/completions", "Connection: close\r\n", "{\"model\":\"fake\",\"prompt\":\"a\",\"stream\":true}");
  client_ask(&s, ask.s, &out);
  MUST(client_status(out.s) == 429, "%s", out.s);
  MUST(strstr(out.s, "Retry-After: 1\r\n"));
  MUST(strstr(out.s, "rate_limit_error"));
  MUST(client_metric(&s, "num_requests_running{model_name=\"fake\"} ") == 2);
  MUST(client_metric(&s, "num_requests_waiting{model_name=\"fake\"} ") == 2);
  for (int i = 0; i < 4; i++) close(fd[i]);
  text_free(&out);
  text_free(&ask);
  MUST(server_end(&s) == 0);
}

Test(serve_http, two_hundred_streams) {
  enum { N = 200 };
  static int fd[N];
  server_start(&s);
  for (int i = 0; i < N; i++) fd[i] = open_stream(",\"temperature\":0");
  for (int i = 0; i < N; i++) {
    Text out = {0};
    client_read(fd[i], 60, &out);
    int chunks = 0;
    for (const char *at = out.s; (at = strstr(at, "data: {")); at++) chunks++;
    MUST(strstr(out.s, "data: [DONE]\n\n"), "stream %d: %.300s", i, out.s);
    MUST(chunks == 400, "stream %d has %d chunks", i, chunks); /* the first is <s>, which has no text; then the end */
    text_free(&out);
    close(fd[i]);
  }
  MUST(client_metric(&s, "finished_reason=\"length\"} ") == N);
  MUST(server_end(&s) == 0);
}

Test(serve_http, too_many_connections) {
  Text out = {0};
  int fd[3];
  s.o.connections = 3;
  s.fake.delay_ms = 20;
  server_start(&s);
  static const char version[] = "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n";
  for (int i = 0; i < 3; i++) fd[i] = open_stream("");
  for (int i = 0; i < 3; i++) MUST(client_read_until(fd[i], 5, "data: ", &out));
  expect(GET("/health"), 503);
  close(fd[0]);
  nap(.2);
  fd[0] = client_open(&s); /* one that idles makes room */
  client_send(fd[0], version, sizeof version - 1);
  out.n = 0;
  MUST(client_read_until(fd[0], 5, "\"version\"", &out));
  expect(GET("/health"), 200);
  for (int i = 0; i < 3; i++) close(fd[i]);
  text_free(&out);
  MUST(server_end(&s) == 0);
}

/* ---- the beginning and the end */

Test(serve_http, loading) {
  s.load_ms = 600;
  server_start(&s);
  expect(GET("/health"), 503);
  expect(GET("/ready"), 503);
  expect(GET("/v1/models"), 503);
  expect(GET("/metrics"), 200);
  expect(GET("/"), 200);
  nap(1);
  expect(GET("/health"), 200);
  expect(GET("/ready"), 200);
  expect(GET("/v1/models"), 200);
  MUST(server_end(&s) == 0);
}

Test(serve_http, loading_fails) {
  Report err = {0};
  s.load_ms = -1;
  MUST(server_run(&s.served, &s.o, &err) == 1);
  MUST(!strcmp(err.text, "the file is damaged\n"));
  report_free(&err);
}

Test(serve_http, stopped_while_loading) {
  s.load_ms = 60000;
  server_start(&s);
  double from = machine_seconds();
  server_stop();
  pthread_join(s.thread, NULL);
  MUST(s.status == 0);
  MUST(machine_seconds() - from < 3);
}

Test(serve_http, a_port_in_use) {
  TestServer again;
  Report err = {0};
  server_start(&s);
  server_prepare(&again);
  again.o.port = s.port;
  MUST(server_run(&again.served, &again.o, &err) == 1);
  MUST(strstr(err.text, "cannot listen at 127.0.0.1"));
  report_free(&err);
  MUST(server_end(&s) == 0);
}

Test(serve_http, drains) {
  Text out = {0};
  s.fake.delay_ms = 5;
  server_start(&s);
  int fd = open_stream(""), idle = client_open(&s);
  MUST(client_read_until(fd, 5, "data: ", &out));
  kill(getpid(), SIGTERM);
  nap(.3);
  int late = client_open(&s);
  MUST(late < 0, "a new connection is taken");
  client_read(fd, 30, &out);
  MUST(strstr(out.s, "[DONE]"), "the stream was cut");
  MUST(!strstr(out.s, "\"error\""));
  pthread_join(s.thread, NULL);
  MUST(s.status == 0);
  MUST(fake_unfinished(&s.served) == 0);
  fake_close(&s.served);
  close(fd);
  close(idle);
  text_free(&out);
}

Test(serve_http, drains_for_so_long) {
  Text out = {0};
  s.fake.delay_ms = 100;
  s.o.drain_timeout = .4;
  server_start(&s);
  int fd = open_stream("");
  MUST(client_read_until(fd, 5, "data: ", &out));
  double from = machine_seconds();
  server_stop();
  client_read(fd, 30, &out);
  pthread_join(s.thread, NULL);
  MUST(machine_seconds() - from < 4);
  MUST(s.status == 0);
  MUST(strstr(out.s, "\"the server is stopping\""), "%s", out.s);
  MUST(fake_unfinished(&s.served) == 0);
  fake_close(&s.served);
  close(fd);
  text_free(&out);
}

Test(serve_http, a_second_signal) {
  Text out = {0};
  s.fake.delay_ms = 50;
  server_start(&s);
  int fd = open_stream("");
  MUST(client_read_until(fd, 5, "data: ", &out));
  double from = machine_seconds();
  kill(getpid(), SIGTERM);
  nap(.2);
  kill(getpid(), SIGINT);
  pthread_join(s.thread, NULL);
  MUST(machine_seconds() - from < 2);
  MUST(s.status == 1);
  MUST(strstr(s.err.text, "cut off"));
  MUST(fake_unfinished(&s.served) == 0);
  report_free(&s.err);
  fake_close(&s.served);
  close(fd);
  text_free(&out);
}

/* The server tells its clients and ends with an error: whoever watches it starts another. */
Test(serve_http, the_model_breaks) {
  Text out = {0};
  s.fake.delay_ms = 5;
  s.fake.break_at = 20;
  server_start(&s);
  int fd = open_stream(""), other = open_stream("");
  client_read(fd, 20, &out);
  MUST(strstr(out.s, "data: {\"error\":{\"message\":\"the model failed\",\"type\":\"server_error\""), "%s", out.s);
  out.n = 0;
  client_read(other, 20, &out);
  MUST(strstr(out.s, "the model failed"), "%s", out.s);
  pthread_join(s.thread, NULL);
  MUST(s.status == 1);
  MUST(!strcmp(s.err.text, "the model cannot go on\n"));
  MUST(fake_unfinished(&s.served) == 0);
  report_free(&s.err);
  fake_close(&s.served);
  close(fd);
  close(other);
  text_free(&out);
}

/* ---- options */

Test(serve_http, options) {
  ServerOptions o;
  Report err = {0};
  server_options_default(&o);
  MUST(server_options_set(&o, "body-bytes", "5000", &err) && o.body_bytes == 5000);
  MUST(server_options_set(&o, "idle-timeout", "1.5", &err) && o.idle_timeout == 1.5);
  MUST(server_options_set(&o, "host", "0.0.0.0", &err) && !strcmp(o.host, "0.0.0.0"));
  MUST(!server_options_set(&o, "port", "70000", &err) && !server_options_set(&o, "port", "1.5", &err) &&
       !server_options_set(&o, "port", "", &err) && !server_options_set(&o, "logprobs", "21", &err) &&
       !server_options_set(&o, "prot", "1", &err) && !server_options_set(&o, "idle-timeout", "nan", &err));
  MUST(err.lines == 6);
  MUST(server_options_known("api-key-file") && !server_options_known("api-key"));
  report_free(&err);
}

/* docs/serving.md has the table as it is; INK_BLESS writes it anew. */
Test(serve_http, the_table_in_the_docs) {
  Text table = {0}, page = {0};
  char block[4096];
  FILE *f = fopen("docs/serving.md", "r");
  MUST(f);
  for (size_t n; (n = fread(block, 1, sizeof block, f));) text_write(&page, block, n);
  fclose(f);
  server_options_table(&table);
  if (getenv("INK_BLESS") && !strstr(page.s, table.s)) {
    char *from = strstr(page.s, "| option |"), *to = from ? strstr(from, "\n\n") : NULL;
    MUST(to);
    f = fopen("docs/serving.md", "w");
    fprintf(f, "%.*s%s%s", (int)(from - page.s), page.s, table.s, to + 1);
    fclose(f);
  } else {
    MUST(strstr(page.s, table.s), "docs/serving.md has another table; scripts/bless writes it");
  }
  text_free(&table);
  text_free(&page);
}
