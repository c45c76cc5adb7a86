/* Chat templates: the template, then, behind a line "====", a request as JSON: {"messages", "tools", "variables", "generation"}.
 *
 * What opens renders or says why; it does so twice in the same way; what was in the output before stays; and what comes out of
 * valid UTF-8 is valid UTF-8. */
#include "tests/fuzz/fuzz.h"
#include "text/chat.h"
#include "text/utf8.h"

#include <string.h>

static const char request[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"S \\u00e9\"}, {\"role\": "
                              "\"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}]},"
                              "{\"role\": \"assistant\", \"content\": \"<think>b</think>c\", \"tool_calls\": "
                              "[{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1.5}}}]}],"
                              "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": "
                              "{\"type\": \"object\", \"properties\": {}}}}],"
                              "\"variables\": {\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}, \"generation\": true}";

static void check_utf8(const char *s, size_t n) {
  for (size_t i = 0; i < n;) {
    uint32_t cp;
    int k = utf8_next((const unsigned char *)s + i, n - i, &cp);
    MUST(k > 0, "byte %zu of the prompt is no UTF-8", i);
    i += (size_t)k;
  }
}

static bool render(const ChatTemplate *t, const json_t *r, Text *out, Arena *a) {
  Diags *d = diags_new(a);
  text_write(out, "before", 6);
  bool ok = chat_render(t, json_object_get(r, "messages"), json_object_get(r, "tools"), json_object_get(r, "variables"),
                        json_is_true(json_object_get(r, "generation")), out, d);
  fuzz_diags(d, !ok);
  MUST(ok == !d->n, "rendered, and an error");
  MUST(ok || out->n == 6, "%zu bytes are left of what failed", out->n - 6);
  MUST(!memcmp(out->s, "before", 6), "what was there is lost");
  check_utf8(out->s, out->n);
  return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzPart part[2];
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  Text one = {0}, two = {0};
  json_t *r = NULL;
  if (fuzz_split(data, size, part, 2) == 2) r = json_loadb((const char *)part[1].at, part[1].n, 0, NULL);
  if (!r) r = json_loads(request, 0, NULL);
  ChatTemplate *t = chat_open((const char *)part[0].at, part[0].n, d);
  fuzz_diags(d, !t);
  if (t) {
    bool ok = render(t, r, &one, a), again = render(t, r, &two, a);
    MUST(ok == again, "rendered once, refused once");
    bool date = memmem(part[0].at, part[0].n, "strftime", 8) != NULL; /* a second may pass */
    MUST(date || (one.n == two.n && !memcmp(one.s, two.s, one.n)), "rendered in two ways");
  }
  chat_free(t);
  text_free(&one);
  text_free(&two);
  json_decref(r);
  arena_free(a);
  return 0;
}
