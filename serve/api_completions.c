/* /v1/completions: a text goes on. */
#include "serve/api.h"
#include "text/utf8.h"

#include <string.h>

enum { TOKENS, LOGPROBS, TOP, OFFSETS }; /* the lists of a choice */

static bool prepare(Job *j, json_t *body) {
  const Fields *f = &j->fields;
  const json_t *logprobs = json_object_get(body, "logprobs");
  int most = j->api->o->logprobs;
  if (!api_model(j, body, true) || !api_sampling(j, body)) return false;
  if (logprobs && !json_is_null(logprobs)) {
    if (!json_is_integer(logprobs) || json_integer_value(logprobs) < 0 || json_integer_value(logprobs) > most)
      return api_refuse(j, 400, "logprobs", "invalid_value", "'logprobs' must be an integer from 0 to %d", most);
    j->request.top = (int)json_integer_value(logprobs);
  }
  j->request.echo = f->echo;
  if (f->max_tokens == 0 && !f->echo)
    return api_refuse(j, 400, "max_tokens", "invalid_value", "'max_tokens' may be 0 with 'echo' alone");
  return api_prompts(j, json_object_get(body, "prompt"), "prompt", j->api->o->prompts,
                     CODEC_SPECIAL | (f->add_special_tokens ? CODEC_ADD : 0u)) &&
         api_lengths(j, f->max_tokens, "max_tokens", j->api->o->default_tokens);
}

/* A token's text: as it is, or "bytes:\xe2\x82" when it is no whole characters. */
static void put_token(Text *out, const char *s, size_t n) {
  if (json_is_utf8(s, n)) {
    json_put(out, s, n);
    return;
  }
  text_add(out, "\"bytes:");
  for (size_t i = 0; i < n; i++) text_add(out, "\\\\x%02x", (unsigned char)s[i]);
  text_add(out, "\"");
}

static void logprobs(Job *j, int choice, const CompleteToken *t) {
  Choice *c = &j->choices[choice];
  Text *l = c->logprob;
  for (int i = 0; l[TOKENS].n && i < 4; i++) text_add(&l[i], ",");
  put_token(&l[TOKENS], t->text, t->ntext);
  json_put_logprob(&l[LOGPROBS], t->logprob);
  text_add(&l[OFFSETS], "%zu", c->offset);
  if (!codec_special(j->api->served->codec, (uint32_t)t->id)) /* which are left out of the text */
    for (size_t i = 0; i < t->ntext; i++) c->offset += ((unsigned char)t->text[i] & 0xc0) != 0x80;
  if (t->logprob != t->logprob) { /* the first token of a prompt has none */
    text_add(&l[TOP], "null");
    return;
  }
  bool own = false;
  text_add(&l[TOP], "{");
  for (int i = 0; i < t->ntop; i++) {
    size_t n;
    const char *s = api_token(j, t->top[i].token, &n);
    own |= t->top[i].token == t->id;
    if (i) text_add(&l[TOP], ",");
    put_token(&l[TOP], s, n);
    text_add(&l[TOP], ":");
    json_put_logprob(&l[TOP], t->top[i].logprob);
  }
  if (!own) {
    if (t->ntop) text_add(&l[TOP], ",");
    put_token(&l[TOP], t->text, t->ntext);
    text_add(&l[TOP], ":");
    json_put_logprob(&l[TOP], t->logprob);
  }
  text_add(&l[TOP], "}");
}

static void put_list(Text *out, const char *name, Text *list) {
  text_add(out, "\"%s\":[", name);
  if (list->n) text_write(out, list->s, list->n);
  text_add(out, "]");
  list->n = 0;
}

/* The choice as it stands, and empties it. */
static void put_choice(Job *j, int number, const char *finish, Text *out) {
  Choice *c = &j->choices[number];
  text_add(out, "{\"index\":%d,\"text\":", number);
  json_put(out, c->text.s ? c->text.s : "", c->text.n);
  c->text.n = 0;
  text_add(out, ",\"logprobs\":");
  if (j->request.top < 0) {
    text_add(out, "null");
  } else {
    text_add(out, "{");
    put_list(out, "tokens", &c->logprob[TOKENS]);
    text_add(out, ",");
    put_list(out, "token_logprobs", &c->logprob[LOGPROBS]);
    text_add(out, ",");
    put_list(out, "top_logprobs", &c->logprob[TOP]);
    text_add(out, ",");
    put_list(out, "text_offset", &c->logprob[OFFSETS]);
    text_add(out, "}");
  }
  text_add(out, ",\"finish_reason\":");
  json_puts(out, finish);
  text_add(out, "}");
}

static void put_head(const Job *j, Text *out) {
  text_add(out, "{\"id\":\"cmpl-%s\",\"object\":\"text_completion\",\"created\":%lld,\"model\":", j->id,
           (long long)j->created);
  json_puts(out, j->model);
  text_add(out, ",\"choices\":[");
}

static void chunk(Job *j, int choice, const char *finish) {
  put_head(j, &j->out);
  put_choice(j, choice, finish, &j->out);
  text_add(&j->out, "]");
  if (j->usage) api_usage_null(&j->out);
  text_add(&j->out, "}");
  job_send(j);
}

static void told(Job *j, int choice) {
  chunk(j, choice, NULL);
}
static void done(Job *j, int choice) {
  chunk(j, choice, j->choices[choice].finish);
}

static void end(Job *j, Text *out) {
  if (j->stream && !j->usage) return;
  put_head(j, out);
  for (int i = 0; !j->stream && i < j->nprompts * j->request.n; i++) {
    if (i) text_add(out, ",");
    put_choice(j, i, j->choices[i].finish, out);
  }
  text_add(out, "]");
  api_usage(j, out);
  text_add(out, "}");
}

const ApiCall api_completions = {FOR_COMPLETION, prepare, NULL, told, done, end, logprobs};
