/* /v1/chat/completions: messages, rendered by the model's own template, and the assistant's next one. */
#include "serve/api.h"

#include <string.h>

/* ---- messages to a prompt */

/* A list of text parts as one text: templates of text models know strings alone. */
static bool flatten(Job *j, int number, json_t *message, const json_t *parts) {
  Text all = {0};
  size_t i;
  json_t *part;
  bool ok = true;
  json_array_foreach(parts, i, part) {
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *text = json_object_get(part, "text");
    ok = type && !strcmp(type, "text") && json_is_string(text);
    if (!ok) {
      api_refuse(j, 400, "messages", "invalid_value",
                 "'messages[%d].content[%zu]' must be {\"type\": \"text\", \"text\": ...}: this model reads text alone",
                 number, i);
      break;
    }
    text_write(&all, json_string_value(text), json_string_length(text));
  }
  if (ok) json_object_set_new(message, "content", json_stringn(all.s ? all.s : "", all.n));
  text_free(&all);
  return ok;
}

/* Arguments of an earlier call come as a text of JSON; templates expect what it says. */
static void open_arguments(json_t *message) {
  size_t i;
  json_t *call;
  json_array_foreach(json_object_get(message, "tool_calls"), i, call) {
    json_t *function = json_object_get(call, "function"), *text = json_object_get(function, "arguments");
    json_t *value = text ? json_loadb(json_string_value(text) ? json_string_value(text) : "", json_string_length(text),
                                      JSON_REJECT_DUPLICATES, NULL)
                         : NULL;
    if (json_is_object(value)) json_object_set(function, "arguments", value);
    json_decref(value);
  }
}

static bool check_message(Job *j, int number, json_t *m) {
  const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
  if (!json_is_object(m) || !json_is_string(role))
    return api_refuse(j, 400, "messages", "invalid_value", "'messages[%d]' must be an object with a 'role'", number);
  if (json_is_array(content)) return flatten(j, number, m, content);
  if (content && !json_is_string(content) && !json_is_null(content))
    return api_refuse(j, 400, "messages", "invalid_type", "'messages[%d].content' must be a string or a list of parts",
                      number);
  if ((!content || json_is_null(content)) && !json_is_array(json_object_get(m, "tool_calls"))) {
    if (strcmp(json_string_value(role), "assistant"))
      return api_refuse(j, 400, "messages", "invalid_value", "'messages[%d]' has no 'content'", number);
    json_object_set_new(m, "content", json_string(""));
  }
  open_arguments(m);
  return true;
}

static bool take_tools(Job *j, const json_t *body, const json_t **tools) {
  const json_t *choice = json_object_get(body, "tool_choice");
  const char *word = json_string_value(choice);
  *tools = json_object_get(body, "tools");
  if (json_is_null(*tools)) *tools = NULL;
  if (*tools && !json_is_array(*tools)) return api_refuse(j, 400, "tools", "invalid_type", "'tools' must be an array");
  if (choice && !json_is_null(choice) && (!word || (strcmp(word, "auto") && strcmp(word, "none"))))
    return api_refuse(j, 400, "tool_choice", "unsupported_value",
                      "'tool_choice' may be \"auto\" or \"none\": this server cannot force a call");
  if ((word && !strcmp(word, "none")) || !json_array_size(*tools)) *tools = NULL;
  return true;
}

bool api_messages(Job *j, const json_t *body) {
  const Served *s = j->api->served;
  json_t *messages = json_object_get(body, "messages"), *kwargs = json_object_get(body, "chat_template_kwargs"), *m;
  const json_t *tools;
  size_t i;
  if (!s->chat)
    return api_refuse(j, 400, "messages", "unsupported_value",
                      "this model has no chat template; ask it through /v1/completions");
  if (!json_is_array(messages) || !json_array_size(messages))
    return api_refuse(j, 400, "messages", "missing_required_parameter", "'messages' must be a list of messages");
  if (kwargs && !json_is_null(kwargs) && !json_is_object(kwargs))
    return api_refuse(j, 400, "chat_template_kwargs", "invalid_type", "'chat_template_kwargs' must be an object");
  if (!take_tools(j, body, &tools)) return false;
  json_array_foreach(messages, i, m) {
    if (!check_message(j, (int)i, m)) return false;
  }
  json_t *variables = chat_variables(j->api->codec);
  if (kwargs && !json_is_null(kwargs)) json_object_update(variables, kwargs);
  Text text = {0};
  Diags *d = diags_new(j->arena);
  bool ok = chat_render(s->chat, messages, tools, variables, j->fields.add_generation_prompt, &text, d);
  if (!ok) {
    api_refuse(j, 400, "messages", "invalid_value", "the chat template: %s", d->n ? d->list[0].text : "it failed");
  } else {
    j->prompts = NEW_ARRAY(j->arena, Prompt, 1);
    j->prompts->job = j;
    ok =
        api_prompt_text(j, j->prompts, text.s ? text.s : "", text.n,
                        CODEC_SPECIAL | (j->fields.add_special_tokens && j->call->fields == FOR_CHAT ? CODEC_ADD : 0u));
    if (ok) j->nprompts = 1;
  }
  text_free(&text);
  json_decref(variables);
  return ok;
}

static bool prepare(Job *j, json_t *body) {
  const Fields *f = &j->fields;
  const json_t *logprobs = json_object_get(body, "logprobs");
  if (!api_model(j, body, true) || !api_sampling(j, body)) return false;
  if (logprobs && !json_is_null(logprobs) && !json_is_boolean(logprobs))
    return api_refuse(j, 400, "logprobs", "invalid_type", "'logprobs' must be true or false");
  if (f->top_logprobs > j->api->o->logprobs)
    return api_refuse(j, 400, "top_logprobs", "integer_above_max_value", "'top_logprobs' may be %d at most",
                      j->api->o->logprobs);
  if (f->top_logprobs >= 0 && !json_is_true(logprobs))
    return api_refuse(j, 400, "top_logprobs", "invalid_value", "'top_logprobs' goes with \"logprobs\": true alone");
  if (json_is_true(logprobs)) j->request.top = f->top_logprobs < 0 ? 0 : (int)f->top_logprobs;
  bool newer = f->max_completion_tokens >= 0;
  int64_t asked = newer ? f->max_completion_tokens : f->max_tokens;
  const char *param = newer ? "max_completion_tokens" : "max_tokens";
  if (asked == 0) return api_refuse(j, 400, param, "integer_below_min_value", "'%s' must be at least 1", param);
  return api_messages(j, body) && api_lengths(j, asked, param, 0);
}

/* ---- answers */

static void put_logprob(const char *s, size_t n, float logprob, Text *out) {
  text_add(out, "{\"token\":");
  json_put(out, s, n);
  text_add(out, ",\"logprob\":");
  json_put_logprob(out, logprob);
  text_add(out, ",\"bytes\":[");
  for (size_t i = 0; i < n; i++) text_add(out, i ? ",%d" : "%d", (unsigned char)s[i]);
  text_add(out, "]");
}

static void logprobs(Job *j, int choice, const CompleteToken *t) {
  Text *out = j->choices[choice].logprob;
  if (out->n) text_add(out, ",");
  put_logprob(t->text, t->ntext, t->logprob, out);
  text_add(out, ",\"top_logprobs\":[");
  for (int i = 0; i < t->ntop; i++) {
    size_t n;
    const char *s = api_token(j, t->top[i].token, &n);
    if (i) text_add(out, ",");
    put_logprob(s, n, t->top[i].logprob, out);
    text_add(out, "}");
  }
  text_add(out, "]}");
}

static void put_head(const Job *j, Text *out) {
  text_add(out, "{\"id\":\"chatcmpl-%s\",\"object\":\"chat.completion%s\",\"created\":%lld,\"model\":", j->id,
           j->stream ? ".chunk" : "", (long long)j->created);
  json_puts(out, j->model);
  text_add(out, ",\"choices\":[");
}

/* A choice's text and logprobs as they stand, and empties it. */
static void put_choice(Job *j, int number, const char *finish, Text *out) {
  Choice *c = &j->choices[number];
  text_add(out, j->stream ? "{\"index\":%d,\"delta\":{" : "{\"index\":%d,\"message\":{\"role\":\"assistant\",", number);
  if (!j->stream || c->text.n) {
    text_add(out, "\"content\":");
    json_put(out, c->text.s ? c->text.s : "", c->text.n);
  }
  if (!j->stream) text_add(out, ",\"refusal\":null");
  text_add(out, "},\"logprobs\":");
  if (j->request.top < 0 || (j->stream && !c->logprob->n)) {
    text_add(out, "null");
  } else {
    text_add(out, "{\"content\":[");
    if (c->logprob->n) text_write(out, c->logprob->s, c->logprob->n);
    text_add(out, "],\"refusal\":null}");
  }
  c->text.n = c->logprob->n = 0;
  text_add(out, ",\"finish_reason\":");
  json_puts(out, finish);
  text_add(out, "}");
}

static void send_chunk(Job *j) {
  text_add(&j->out, "]");
  if (j->usage) api_usage_null(&j->out);
  text_add(&j->out, "}");
  job_send(j);
}

static void begin(Job *j) {
  for (int i = 0; i < j->request.n; i++) {
    put_head(j, &j->out);
    text_add(
        &j->out,
        "{\"index\":%d,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}",
        i);
    send_chunk(j);
  }
}

static void told(Job *j, int choice) {
  put_head(j, &j->out);
  put_choice(j, choice, NULL, &j->out);
  send_chunk(j);
}

static void done(Job *j, int choice) {
  put_head(j, &j->out);
  put_choice(j, choice, j->choices[choice].finish, &j->out);
  send_chunk(j);
}

static void end(Job *j, Text *out) {
  if (j->stream && !j->usage) return;
  put_head(j, out);
  for (int i = 0; !j->stream && i < j->request.n; i++) {
    if (i) text_add(out, ",");
    put_choice(j, i, j->choices[i].finish, out);
  }
  text_add(out, "]");
  api_usage(j, out);
  text_add(out, "}");
}

const ApiCall api_chat = {FOR_CHAT, prepare, begin, told, done, end, logprobs};
