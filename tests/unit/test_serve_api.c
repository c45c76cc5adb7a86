/* Bodies of the API and their answers, over the made-up model: what is read, what comes out, what is refused and how. */
#include "tests/serve/client.h"
#include "tests/unit/runtime_criterion.h"

#include <math.h>
#include <string.h>

static TestServer s;
static void setup(void) {
  server_prepare(&s);
  server_start(&s);
}
static void teardown(void) {
  MUST(server_end(&s) == 0);
}
TestSuite(serve_api, .init = setup, .fini = teardown, .timeout = 60);
static void prepare(void) {
  server_prepare(&s);
}
TestSuite(serve_api_other, .init = prepare, .fini = teardown, .timeout = 60); /* the test starts it */

#define COMPLETE "/v1/completions"
#define CHAT "/v1/chat/completions"
#define EMBED "/v1/embeddings"

static json_t *ok(const char *path, const char *body) {
  json_t *v = NULL;
  int status = client_post(&s, path, body, &v);
  MUST(status == 200, "%d for %s: %s", status, body, v ? json_dumps(v, 0) : "no JSON");
  MUST(v);
  return v;
}
static const char *text(const json_t *v, const char *path) {
  const char *t = json_string_value(client_at(v, path));
  MUST(t, "%s is no string", path);
  return t;
}
static long long number(const json_t *v, const char *path) {
  return json_integer_value(client_at(v, path));
}

/* All data of a stream, in order; it must end in [DONE]. */
static int stream(const char *path, const char *body, json_t **list, int most) {
  Text ask = {0}, out = {0};
  text_add(&ask, "POST %s HTTP/1.0\r\nContent-Length: %zu\r\n\r\n%s", path, strlen(body), body);
  client_ask(&s, ask.s, &out);
  MUST(client_status(out.s) == 200, "%s", out.s);
  MUST(strstr(out.s, "Content-Type: text/event-stream"));
  int n = 0;
  const char *at = client_body(out.s);
  for (; strncmp(at, "data: [DONE]\n\n", 14); at = strstr(at, "\n\n") + 2) {
    MUST(!strncmp(at, "data: {", 7) && strstr(at, "\n\n") && n < most, "%s", at);
    list[n] = json_loads(at + 6, JSON_DISABLE_EOF_CHECK, NULL);
    MUST(list[n], "%s", at);
    n++;
  }
  MUST(!strcmp(at + 14, ""));
  text_free(&ask);
  text_free(&out);
  return n;
}

Test(serve_api, a_completion) {
  json_t *v =
      ok(COMPLETE, "{\"model\":\"fake\",\"prompt\":\"h\\u00e9 \\\"x\\\"\\n\",\"max_tokens\":100,\"temperature\":0}");
  MUST(!strcmp(text(v, "object"), "text_completion"));
  MUST(!strcmp(text(v, "model"), "fake"));
  MUST(!strcmp(text(v, "choices.0.text"), "h\xc3\xa9 \"x\"\n"));
  MUST(!strcmp(text(v, "choices.0.finish_reason"), "stop"));
  MUST(json_is_null(client_at(v, "choices.0.logprobs")));
  MUST(number(v, "usage.prompt_tokens") == 9);
  MUST(number(v, "usage.completion_tokens") == 9);
  MUST(number(v, "usage.total_tokens") == 18);
  json_decref(v);
  v = ok(COMPLETE, "{\"model\":\"org/fake\",\"prompt\":\"abcdefghijklmnopqrstuvwxyz\"}");
  MUST(number(v, "usage.completion_tokens") == 16); /* the API's default */
  MUST(!strcmp(text(v, "choices.0.finish_reason"), "length"));
  MUST(!strcmp(text(v, "model"), "org/fake"));
  json_decref(v);
  /* A token that is half a character, and one that begins none. */
  v = ok(COMPLETE, "{\"model\":\"fake\",\"prompt\":[195],\"max_tokens\":1}");
  MUST(!strcmp(text(v, "choices.0.text"), "\xef\xbf\xbd"));
  json_decref(v);
}

Test(serve_api, prompts_of_every_kind) {
  json_t *v =
      ok(COMPLETE,
         "{\"model\":\"fake\",\"prompt\":[\"ab\",\"cd\"],\"n\":2,\"temperature\":0,\"add_special_tokens\":false}");
  static const char *const want[] = {"ab", "ba", "cd", "dc"};
  for (int i = 0; i < 4; i++) {
    char path[40];
    snprintf(path, sizeof path, "choices.%d.text", i);
    MUST(!strcmp(text(v, path), want[i]));
    snprintf(path, sizeof path, "choices.%d.index", i);
    MUST(number(v, path) == i);
  }
  MUST(number(v, "usage.prompt_tokens") == 4);
  MUST(number(v, "usage.completion_tokens") == 8);
  json_decref(v);
  v = ok(COMPLETE, "{\"model\":\"fake\",\"prompt\":[104,105],\"temperature\":0}");
  MUST(!strcmp(text(v, "choices.0.text"), "hi"));
  json_decref(v);
  v = ok(COMPLETE, "{\"model\":\"fake\",\"prompt\":[[104,105],[106]],\"temperature\":0}");
  MUST(!strcmp(text(v, "choices.1.text"), "j"));
  json_decref(v);
  v = ok(COMPLETE, "{\"model\":\"fake\",\"prompt\":\"a\\u0000b\",\"temperature\":0}");
  MUST(json_string_length(client_at(v, "choices.0.text")) == 3);
  json_decref(v);
  /* More prompts than are run at once. */
  Text body = {0};
  text_add(&body, "{\"model\":\"fake\",\"temperature\":0,\"prompt\":[\"p\"");
  for (int i = 1; i < 128; i++) text_add(&body, ",\"%d\"", i);
  text_add(&body, "]}");
  v = ok(COMPLETE, body.s);
  MUST(json_array_size(client_at(v, "choices")) == 128);
  MUST(!strcmp(text(v, "choices.127.text"), "127"));
  json_decref(v);
  text_free(&body);
}

Test(serve_api, stops) {
  json_t *v = ok(COMPLETE, "{\"model\":\"fake\",\"prompt\":\"one two three\",\"temperature\":0,\"stop\":\" t\"}");
  MUST(!strcmp(text(v, "choices.0.text"), "one"));
  MUST(!strcmp(text(v, "choices.0.finish_reason"), "stop"));
  json_decref(v);
  v = ok(COMPLETE, "{\"model\":\"fake\",\"prompt\":\"one two three\",\"temperature\":0,\"stop\":[\"three\",\"e t\"]}");
  MUST(!strcmp(text(v, "choices.0.text"), "on"));
  json_decref(v);
}

Test(serve_api, logprobs_of_completions) {
  json_t *v = ok(COMPLETE, "{\"model\":\"fake\",\"prompt\":\"a\\u00e9b\",\"temperature\":0,\"logprobs\":2,\"echo\":"
                           "true,\"add_special_tokens\":false}");
  MUST(!strcmp(text(v, "choices.0.text"), "a\xc3\xa9"
                                          "ba\xc3\xa9"
                                          "b"));
  const json_t *l = client_at(v, "choices.0.logprobs");
  MUST(json_array_size(client_at(l, "tokens")) == 8);
  MUST(json_array_size(client_at(l, "token_logprobs")) == 8);
  MUST(json_array_size(client_at(l, "top_logprobs")) == 8);
  MUST(json_is_null(client_at(l, "token_logprobs.0")));
  MUST(json_is_null(client_at(l, "top_logprobs.0")));
  MUST(!strcmp(text(l, "tokens.1"), "bytes:\\xc3"));
  MUST(fabs(json_number_value(client_at(l, "token_logprobs.3")) - -1.5) <= 1e-6);
  MUST(fabs(json_number_value(client_at(l, "top_logprobs.4.b")) - -.75) <= 1e-6);
  MUST(json_object_size(client_at(l, "top_logprobs.4")) == 2);
  static const int offset[] = {0, 1, 2, 2, 3, 4, 5, 5};
  for (int i = 0; i < 8; i++)
    MUST(json_integer_value(json_array_get(client_at(l, "text_offset"), (size_t)i)) == offset[i]);
  json_decref(v);
}

/* A special token stands in the lists, but takes no place in the text. */
Test(serve_api, offsets_behind_a_special_token) {
  json_t *v = ok(COMPLETE, "{\"model\":\"fake\",\"prompt\":\"ab\",\"temperature\":0,\"logprobs\":0}");
  MUST(!strcmp(text(v, "choices.0.text"), "ab"));
  MUST(!strcmp(text(v, "choices.0.logprobs.tokens.0"), "<s>"));
  MUST(number(v, "choices.0.logprobs.text_offset.1") == 0);
  MUST(number(v, "choices.0.logprobs.text_offset.2") == 1);
  json_decref(v);
}

Test(serve_api, a_stream_of_completions) {
  json_t *list[64];
  int n = stream(COMPLETE,
                 "{\"model\":\"fake\",\"prompt\":\"a\\u00e9b\",\"temperature\":0,\"stream\":true,\"logprobs\":0,"
                 "\"stream_options\":{\"include_usage\":true},\"add_special_tokens\":false}",
                 list, 64);
  char all[32] = "";
  size_t tokens = 0;
  for (int i = 0; i < n; i++) {
    bool last = i == n - 1;
    MUST(json_array_size(client_at(list[i], "choices")) == (last ? 0 : 1));
    MUST(json_is_null(client_at(list[i], "usage")) == !last);
    if (last) MUST(number(list[i], "usage.completion_tokens") == 4);
    if (!last) strcat(all, text(list[i], "choices.0.text"));
    if (!last) tokens += json_array_size(client_at(list[i], "choices.0.logprobs.tokens"));
    if (i == n - 2) MUST(!strcmp(text(list[i], "choices.0.finish_reason"), "stop"));
    if (i < n - 2) MUST(json_is_null(client_at(list[i], "choices.0.finish_reason")));
    json_decref(list[i]);
  }
  MUST(!strcmp(all, "a\xc3\xa9"
                    "b"));
  MUST(tokens == 4);
}

Test(serve_api, a_chat) {
  json_t *v = ok(
      CHAT,
      "{\"model\":\"fake\",\"temperature\":0,\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
      "\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},"
      "{\"role\":\"assistant\",\"content\":null}],\"tools\":[{\"type\":\"function\"}],\"tool_choice\":\"auto\","
      "\"chat_template_kwargs\":{\"mark\":\"MARK\"},\"logprobs\":true,\"top_logprobs\":3}");
  MUST(!strcmp(text(v, "object"), "chat.completion"));
  MUST(!strcmp(text(v, "choices.0.message.role"), "assistant"));
  MUST(!strcmp(text(v, "choices.0.message.content"), "1 tools\nMARK\nsystem\ns\nuser\nab\nassistant\n\nassistant\n"));
  const json_t *t = client_at(v, "choices.0.logprobs.content.0");
  MUST(!strcmp(text(t, "token"), "1"));
  MUST(number(t, "bytes.0") == '1');
  MUST(json_array_size(client_at(t, "top_logprobs")) == 3);
  MUST(!strcmp(text(t, "top_logprobs.1.token"), "2"));
  json_decref(v);
  v = ok(CHAT, "{\"model\":\"fake\",\"temperature\":0,\"max_completion_tokens\":2,\"max_tokens\":9,\"messages\":[{"
               "\"role\":\"user\",\"content\":\"a\"}]}");
  MUST(number(v, "usage.completion_tokens") == 2);
  MUST(!strcmp(text(v, "choices.0.finish_reason"), "length"));
  json_decref(v);
  v = ok(CHAT, "{\"model\":\"fake\",\"temperature\":0,\"tools\":[{}],\"tool_choice\":\"none\",\"messages\":[{\"role\":"
               "\"user\",\"content\":\"a\"}]}");
  MUST(!strcmp(text(v, "choices.0.message.content"), "user\na\nassistant\n"));
  json_decref(v);
}

Test(serve_api, a_stream_of_a_chat) {
  json_t *list[64];
  char all[2][64] = {"", ""};
  int ends[2] = {0, 0}, usage = 0;
  int n = stream(CHAT,
                 "{\"model\":\"fake\",\"temperature\":0,\"n\":2,\"stream\":true,\"messages\":[{\"role\":\"user\","
                 "\"content\":\"a\"}],"
                 "\"stream_options\":{\"include_usage\":true}}",
                 list, 64);
  for (int i = 0; i < n; i++) {
    MUST(!strcmp(text(list[i], "object"), "chat.completion.chunk"));
    MUST(!strcmp(text(list[i], "id"), text(list[0], "id")));
    if (i < 2) {
      MUST(!strcmp(text(list[i], "choices.0.delta.role"), "assistant"));
      MUST(!strcmp(text(list[i], "choices.0.delta.content"), ""));
    } else if (json_array_size(client_at(list[i], "choices"))) {
      const json_t *c = client_at(list[i], "choices.0");
      const json_t *content = json_object_get(client_at(c, "delta"), "content");
      if (content) strcat(all[number(c, "index")], json_string_value(content));
      ends[number(c, "index")] += json_is_string(client_at(c, "finish_reason"));
    } else {
      usage++;
      MUST(i == n - 1);
    }
  }
  MUST(ends[0] + ends[1] + usage == 3);
  MUST(!strcmp(all[0], "user\na\nassistant\n"));
  MUST(!strcmp(all[1], "user\na\nassistant\n"));
  for (int i = 0; i < n; i++) json_decref(list[i]);
}

Test(serve_api, embeddings) {
  json_t *v = ok(EMBED, "{\"model\":\"fake\",\"input\":[\"hi\",\"there\"]}");
  MUST(json_array_size(client_at(v, "data")) == 2);
  for (int k = 0; k < 2; k++) {
    const json_t *row = client_at(v, k ? "data.1.embedding" : "data.0.embedding"), *x;
    double sum = 0;
    size_t i;
    MUST(json_array_size(row) == FAKE_HIDDEN);
    json_array_foreach((json_t *)row, i, x) sum += json_number_value(x) * json_number_value(x);
    MUST(fabs(sum - 1) <= 1e-6);
  }
  MUST(number(v, "usage.total_tokens") == 9);
  double first = json_number_value(client_at(v, "data.0.embedding.0"));
  json_decref(v);
  v = ok(EMBED, "{\"model\":\"fake\",\"input\":[256,104,105],\"encoding_format\":\"base64\"}");
  const char *b = text(v, "data.0.embedding");
  MUST(strlen(b) == 44); /* 32 bytes */
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  uint64_t bits = 0;
  for (int i = 0; i < 8; i++) bits = bits << 6 | (uint64_t)(strchr(digits, b[i]) - digits);
  unsigned char le[4] = {(unsigned char)(bits >> 40), (unsigned char)(bits >> 32), (unsigned char)(bits >> 24),
                         (unsigned char)(bits >> 16)};
  float f;
  memcpy(&f, le, 4);
  MUST(fabs(f - first) <= 1e-6);
  json_decref(v);
}

Test(serve_api, tokens_and_back) {
  json_t *v = ok("/tokenize", "{\"model\":\"fake\",\"prompt\":\"a</s>\",\"return_token_strs\":true}");
  MUST(number(v, "count") == 3);
  MUST(number(v, "max_model_len") == 4096);
  MUST(number(v, "tokens.2") == FAKE_EOS);
  MUST(!strcmp(text(v, "token_strs.2"), "</s>"));
  json_decref(v);
  v = ok("/tokenize", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"add_generation_prompt\":false}");
  MUST(number(v, "tokens.0") == FAKE_START);
  MUST(number(v, "count") == 9);
  MUST(json_is_null(client_at(v, "token_strs")));
  json_decref(v);
  v = ok("/detokenize", "{\"tokens\":[256,97,98]}");
  MUST(!strcmp(text(v, "prompt"), "<s>ab"));
  json_decref(v);
}

Test(serve_api, what_is_harmless) {
  json_t *v =
      ok(COMPLETE,
         "{\"model\":\"fake\",\"prompt\":\"a\",\"user\":\"me\",\"metadata\":{\"a\":1},\"store\":false,\"something_of_a_"
         "proxy\":1,"
         "\"suffix\":\"\",\"best_of\":1,\"temperature\":null,\"stop\":null,\"logprobs\":null,\"seed\":-5,\"top_k\":-1,"
         "\"min_tokens\":0,\"length_penalty\":1,\"use_beam_search\":false,\"max_tokens\":2.0,"
         "\"logit_bias\":{\"97\":-100,\"0\":1.5},\"response_format\":{\"type\":\"text\"}}");
  json_decref(v);
  v = ok(CHAT, "{\"model\":\"fake\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"parallel_tool_calls\":true,"
               "\"modalities\":[\"text\"]}");
  json_decref(v);
}

#define M "\"model\":\"fake\""
#define P M ",\"prompt\":\"a\""
#define C M ",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]"
Test(serve_api, refusals) {
  static const struct {
    const char *path, *body;
    int status;
    const char *param, *code;
  } cases[] = {
      {COMPLETE, "", 400, NULL, NULL},
      {COMPLETE, "{", 400, NULL, NULL},
      {COMPLETE, "[]", 400, NULL, NULL},
      {COMPLETE, "null", 400, NULL, NULL},
      {COMPLETE, "{" P "} x", 400, NULL, NULL},
      {COMPLETE, "{" P ",\"n\":1,\"n\":2}", 400, NULL, NULL},
      {COMPLETE, "{" M ",\"prompt\":\"\xff\"}", 400, NULL, NULL},
      {COMPLETE, "{" M ",\"prompt\":1e999}", 400, NULL, NULL},
      {COMPLETE, "{\"prompt\":\"a\"}", 400, "model", "missing_required_parameter"},
      {COMPLETE, "{\"model\":1,\"prompt\":\"a\"}", 400, "model", "invalid_type"},
      {COMPLETE, "{\"model\":\"other\",\"prompt\":\"a\"}", 404, "model", "model_not_found"},
      {CHAT, "{\"model\":\"other\"}", 404, "model", "model_not_found"},
      {COMPLETE, "{" M "}", 400, "prompt", "missing_required_parameter"},
      {COMPLETE, "{" M ",\"prompt\":[]}", 400, "prompt", "empty_array"},
      {COMPLETE, "{" M ",\"prompt\":[[]]}", 400, "prompt", "invalid_value"},
      {COMPLETE, "{" M ",\"prompt\":{}}", 400, "prompt", "invalid_type"},
      {COMPLETE, "{" M ",\"prompt\":[\"a\",1]}", 400, "prompt", "invalid_type"},
      {COMPLETE, "{" M ",\"prompt\":[1,\"a\"]}", 400, "prompt", "invalid_type"},
      {COMPLETE, "{" M ",\"prompt\":[-1]}", 400, "prompt", "invalid_value"},
      {COMPLETE, "{" M ",\"prompt\":[260]}", 400, "prompt", "invalid_value"},
      {COMPLETE, "{" M ",\"prompt\":\"\\u007f\"}", 400, NULL, "invalid_value"},
      {COMPLETE, "{" M ",\"prompt\":\"!!\",\"add_special_tokens\":false}", 400, NULL, NULL},
      {COMPLETE, "{" P ",\"temperature\":\"1\"}", 400, "temperature", "invalid_type"},
      {COMPLETE, "{" P ",\"temperature\":2.5}", 400, "temperature", "invalid_value"},
      {COMPLETE, "{" P ",\"top_p\":0}", 400, "top_p", "invalid_value"},
      {COMPLETE, "{" P ",\"top_k\":1.5}", 400, "top_k", "invalid_type"},
      {COMPLETE, "{" P ",\"n\":17}", 400, "n", "integer_above_max_value"},
      {COMPLETE, "{" P ",\"n\":0}", 400, "n", "invalid_value"},
      {COMPLETE, "{" P ",\"best_of\":2}", 400, "best_of", "unsupported_value"},
      {COMPLETE, "{" P ",\"suffix\":\"b\"}", 400, "suffix", "unsupported_parameter"},
      {COMPLETE, "{" P ",\"echo\":1}", 400, "echo", "invalid_type"},
      {COMPLETE, "{" P ",\"logprobs\":21}", 400, "logprobs", "invalid_value"},
      {COMPLETE, "{" P ",\"logprobs\":true}", 400, "logprobs", "invalid_value"},
      {COMPLETE, "{" P ",\"max_tokens\":0}", 400, "max_tokens", "invalid_value"},
      {COMPLETE, "{" P ",\"max_tokens\":-1}", 400, "max_tokens", "invalid_value"},
      {COMPLETE, "{" P ",\"max_tokens\":4096}", 400, "max_tokens", "context_length_exceeded"},
      {COMPLETE, "{" P ",\"stop\":[\"\"]}", 400, "stop", "invalid_value"},
      {COMPLETE, "{" P ",\"stop\":5}", 400, "stop", "invalid_type"},
      {COMPLETE, "{" P ",\"stop\":[5]}", 400, "stop", "invalid_type"},
      {COMPLETE, "{" P ",\"stop\":\"a\\u0000\"}", 400, "stop", "invalid_value"},
      {COMPLETE,
       "{" P ",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"0\",\"a\",\"b\",\"c\",\"d\",\"e\","
       "\"f\",\"g\"]}",
       400, "stop", "array_above_max_length"},
      {COMPLETE, "{" P ",\"logit_bias\":[1]}", 400, "logit_bias", "invalid_type"},
      {COMPLETE, "{" P ",\"logit_bias\":{\"a\":1}}", 400, "logit_bias", "invalid_value"},
      {COMPLETE, "{" P ",\"logit_bias\":{\"260\":1}}", 400, "logit_bias", "invalid_value"},
      {COMPLETE, "{" P ",\"logit_bias\":{\"99999999999999999999\":1}}", 400, "logit_bias", "invalid_value"},
      {COMPLETE, "{" P ",\"logit_bias\":{\"1\":101}}", 400, "logit_bias", "invalid_value"},
      {COMPLETE, "{" P ",\"logit_bias\":{\"1\":\"1\"}}", 400, "logit_bias", "invalid_value"},
      {COMPLETE, "{" P ",\"stream_options\":{\"include_usage\":true}}", 400, "stream_options", "invalid_value"},
      {COMPLETE, "{" P ",\"stream\":true,\"stream_options\":{\"continuous_usage_stats\":true}}", 400, "stream_options",
       "invalid_value"},
      {COMPLETE, "{" P ",\"stream\":\"true\"}", 400, "stream", "invalid_type"},
      {COMPLETE, "{" P ",\"temprature\":1}", 400, "temprature", "unknown_parameter"},
      {COMPLETE, "{" P ",\"guided_json\":{}}", 400, "guided_json", "unsupported_parameter"},
      {COMPLETE, "{" P ",\"stop_token_ids\":[5]}", 400, "stop_token_ids", "unsupported_parameter"},
      {CHAT, "{" M "}", 400, "messages", "missing_required_parameter"},
      {CHAT, "{" M ",\"messages\":[]}", 400, "messages", "missing_required_parameter"},
      {CHAT, "{" M ",\"messages\":[1]}", 400, "messages", "invalid_value"},
      {CHAT, "{" M ",\"messages\":[{\"content\":\"a\"}]}", 400, "messages", "invalid_value"},
      {CHAT, "{" M ",\"messages\":[{\"role\":\"user\"}]}", 400, "messages", "invalid_value"},
      {CHAT, "{" M ",\"messages\":[{\"role\":\"user\",\"content\":1}]}", 400, "messages", "invalid_type"},
      {CHAT, "{" M ",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 400, "messages",
       "invalid_value"},
      {CHAT, "{" M ",\"messages\":[{\"role\":\"user\",\"content\":\"raise\"}]}", 400, "messages", "invalid_value"},
      {CHAT, "{" C ",\"max_tokens\":0}", 400, "max_tokens", "integer_below_min_value"},
      {CHAT, "{" C ",\"max_completion_tokens\":5000}", 400, "max_completion_tokens", "context_length_exceeded"},
      {CHAT, "{" C ",\"logprobs\":5}", 400, "logprobs", "invalid_type"},
      {CHAT, "{" C ",\"top_logprobs\":5}", 400, "top_logprobs", "invalid_value"},
      {CHAT, "{" C ",\"logprobs\":true,\"top_logprobs\":21}", 400, "top_logprobs", "integer_above_max_value"},
      {CHAT, "{" C ",\"response_format\":{\"type\":\"json_object\"}}", 400, "response_format", "unsupported_value"},
      {CHAT, "{" C ",\"response_format\":\"text\"}", 400, "response_format", "unsupported_value"},
      {CHAT, "{" C ",\"tools\":{}}", 400, "tools", "invalid_type"},
      {CHAT, "{" C ",\"tools\":[{}],\"tool_choice\":\"required\"}", 400, "tool_choice", "unsupported_value"},
      {CHAT, "{" C ",\"functions\":[{}]}", 400, "functions", "unsupported_parameter"},
      {CHAT, "{" C ",\"echo\":true}", 400, "echo", "unsupported_parameter"},
      {CHAT, "{" C ",\"chat_template_kwargs\":[]}", 400, "chat_template_kwargs", "invalid_type"},
      {EMBED, "{" M "}", 400, "input", "missing_required_parameter"},
      {EMBED, "{" M ",\"input\":\"a\",\"dimensions\":2}", 400, "dimensions", "unsupported_parameter"},
      {EMBED, "{" M ",\"input\":\"a\",\"encoding_format\":\"hex\"}", 400, "encoding_format", "invalid_value"},
      {EMBED, "{" M ",\"input\":\"\",\"add_special_tokens\":false}", 400, "input", "invalid_value"},
      {"/tokenize", "{}", 400, "prompt", "missing_required_parameter"},
      {"/tokenize", "{\"model\":\"other\",\"prompt\":\"a\"}", 404, "model", "model_not_found"},
      {"/detokenize", "{}", 400, "tokens", "missing_required_parameter"},
      {"/detokenize", "{\"tokens\":[9999]}", 400, "tokens", "invalid_value"},
      {"/detokenize", "{\"tokens\":[\"a\"]}", 400, "tokens", "invalid_type"},
  };
  for (int i = 0; i < LEN(cases); i++) {
    json_t *v = NULL;
    int status = client_post(&s, cases[i].path, cases[i].body, &v);
    MUST(status == cases[i].status, "%d for %s", status, cases[i].body);
    const char *param = json_string_value(client_at(v, "error.param")),
               *code = json_string_value(client_at(v, "error.code"));
    MUST(cases[i].param ? param && !strcmp(param, cases[i].param) : !param, "param %s for %s", param, cases[i].body);
    MUST(cases[i].code ? code && !strcmp(code, cases[i].code) : !code, "code %s for %s", code, cases[i].body);
    MUST(strlen(text(v, "error.message")) > 5);
    json_decref(v);
  }
}

Test(serve_api, deep_json) {
  Text body = {0};
  for (int deep = 0; deep < 2; deep++) {
    int levels = deep ? 64 : 62;
    body.n = 0;
    text_add(&body, "{" P ",\"metadata\":");
    for (int i = 0; i < levels; i++) text_add(&body, "[");
    text_add(&body, "\"[[[[\\\"[\"");
    for (int i = 0; i < levels; i++) text_add(&body, "]");
    text_add(&body, "}");
    MUST(client_post(&s, COMPLETE, body.s, NULL) == (deep ? 400 : 200));
  }
  body.n = 0;
  for (int i = 0; i < 1000000; i++) text_write(&body, "[", 1);
  MUST(client_post(&s, COMPLETE, body.s, NULL) == 400);
  text_free(&body);
}

Test(serve_api_other, limits_of_tokens) {
  s.o.prompt_tokens = 10;
  s.o.max_tokens = 5;
  s.fake.no_chat = true;
  server_start(&s);
  MUST(client_post(&s, COMPLETE, "{" M ",\"prompt\":\"123456789\"}", NULL) == 200);
  MUST(client_post(&s, COMPLETE, "{" M ",\"prompt\":\"1234567890\"}", NULL) == 400);
  MUST(client_post(&s, COMPLETE, "{" P ",\"max_tokens\":6}", NULL) == 400);
  json_t *v = ok(COMPLETE, "{" P ",\"ignore_eos\":true}");
  MUST(number(v, "usage.completion_tokens") == 5);
  json_decref(v);
  MUST(client_post(&s, CHAT, "{" C "}", &v) == 400);
  MUST(strstr(text(v, "error.message"), "no chat template"));
  json_decref(v);
}

Test(serve_api_other, the_model_fails) {
  json_t *v, *list[16];
  s.fake.fail_after = 3;
  server_start(&s);
  MUST(client_post(&s, COMPLETE, "{" M ",\"prompt\":\"abcdefgh\"}", &v) == 500);
  MUST(!strcmp(text(v, "error.type"), "server_error"));
  json_decref(v);
  int n = stream(COMPLETE, "{" M ",\"prompt\":\"abcdefgh\",\"stream\":true,\"add_special_tokens\":false}", list, 16);
  MUST(n == 4);
  MUST(!strcmp(text(list[3], "error.type"), "server_error"));
  for (int i = 0; i < n; i++) json_decref(list[i]);
  MUST(client_metric(&s, "finished_reason=\"error\"} ") == 2);
}

Test(serve_api, seeds) {
  json_t *a = ok(COMPLETE, "{" M ",\"prompt\":\"abcdefgh\",\"seed\":5}"),
         *b = ok(COMPLETE, "{" M ",\"prompt\":\"abcdefgh\",\"seed\":5}");
  MUST(!strcmp(text(a, "choices.0.text"), text(b, "choices.0.text")));
  json_decref(a);
  json_decref(b);
}

/* Gauges go back, counters add up, histograms count each request. */
Test(serve_api, metrics) {
  json_decref(ok(COMPLETE, "{" M ",\"prompt\":\"abcd\",\"n\":2}"));
  json_decref(ok(CHAT, "{" C ",\"max_tokens\":3}"));
  json_decref(ok(EMBED, "{" M ",\"input\":\"abc\"}"));
  MUST(client_post(&s, COMPLETE, "{", NULL) == 400);
#define ONE "{model_name=\"fake\"} "
  MUST(client_metric(&s, "num_requests_running" ONE) == 0);
  MUST(client_metric(&s, "num_requests_waiting" ONE) == 0);
  MUST(client_metric(&s, "generation_tokens_total" ONE) == 13);
  MUST(client_metric(&s, "time_to_first_token_seconds_count" ONE) == 2);
  MUST(client_metric(&s, "inter_token_latency_seconds_count" ONE) == 10);
  MUST(client_metric(&s, "e2e_request_latency_seconds_count" ONE) == 3);
  MUST(client_metric(&s, "request_queue_time_seconds_count" ONE) == 3);
  MUST(client_metric(&s, "e2e_request_latency_seconds_bucket{model_name=\"fake\",le=\"+Inf\"} ") == 3);
  MUST(client_metric(&s, "http_requests_total{code=\"400\"} ") == 1);
}
