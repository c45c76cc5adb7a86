/* Requests to the server, over the made-up model. The first byte says which: a body of one of the endpoints, or a connection's bytes
 * as they are.
 *
 * The server runs on a thread of its own for the life of the process, and each input is a connection of its own. What must hold:
 * every request gets an answer of HTTP whose body is JSON, an error as the API has it, or events of JSON up to [DONE]; no
 * completion stays behind; after each input the server answers as before. */
#include "tests/fuzz/fuzz.h"
#include "tests/serve/client.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static TestServer s;

static void start(void) {
  server_prepare(&s);
  s.fake.ctx = 300;
  s.o.body_bytes = 1 << 20;
  server_start(&s);
}

/* jansson takes no NUL in the name of a member, which a token's text may be. */
static void check_json(const char *text, const char *answer) {
  Text copy = {0};
  text_write(&copy, text, strlen(text));
  for (char *at = copy.s; (at = strstr(at, "\\u0000"));) at[5] = '1';
  json_t *v = json_loads(copy.s, JSON_DISABLE_EOF_CHECK, NULL);
  MUST(v, "no JSON: %.2000s", answer);
  json_decref(v);
  text_free(&copy);
}

static void check_answer(const char *answer) {
  const char *body = client_body(answer);
  int status = client_status(answer);
  MUST(status == 200 || (status >= 400 && status <= 505), "status %d: %.500s", status, answer);
  if (status >= 400) {
    json_t *v = json_loads(body, 0, NULL);
    MUST(json_is_string(json_object_get(json_object_get(v, "error"), "message")), "%.2000s", answer);
    MUST(status < 500 || status == 501 || status == 505, "status %d: %.500s", status, answer);
    json_decref(v);
  } else if (!memmem(answer, (size_t)(body - answer), "text/event-stream", 17)) {
    check_json(body, answer);
  } else {
    for (; strncmp(body, "data: [DONE]\n\n", 14); body = strstr(body, "\n\n") + 2) {
      MUST(!strncmp(body, "data: ", 6) && strstr(body, "\n\n"), "%.2000s", body);
      check_json(body + 6, body);
    }
  }
}

static void quiet(void) {
  for (int i = 0; fake_unfinished(&s.served) && i < 10000; i++) usleep(100);
  MUST(!fake_unfinished(&s.served), "completions stay");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const paths[] = {"/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize",
                                      "/detokenize"};
  Text ask = {0}, answer = {0};
  if (!size) return 0;
  if (!s.port) start();
  int which = data[0] % (LEN(paths) + 1);
  data++;
  size--;
  int fd = client_open(&s);
  MUST(fd >= 0, "no connection");
  if (which < LEN(paths)) {
    text_add(&ask, "POST %s HTTP/1.0\r\nContent-Length: %zu\r\n\r\n", paths[which], size);
    text_write(&ask, data, size);
    client_send(fd, ask.s, ask.n);
    client_read(fd, 20, &answer);
    MUST(strlen(answer.s) == answer.n, "a NUL in an answer");
    check_answer(answer.s);
  } else {
    client_send(fd, (const char *)data, size);
    shutdown(fd, SHUT_WR); /* what is not whole will not be: nothing waits for it */
    client_read(fd, 20, &answer);
    MUST(!answer.n || client_status(answer.s) || !strncmp(answer.s, "HTTP/1.1 100", 12), "%.500s", answer.s);
  }
  close(fd);
  quiet();
  text_free(&ask);
  text_free(&answer);
  return 0;
}
