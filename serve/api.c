/* What the endpoints share: errors, fields by their table, models' names, prompts, lengths, sampling, usage.
 *
 * On the reading thread, but for errors and usage. */
#include "serve/api.h"
#include "runtime/report.h"

#include <float.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>

/* ---- errors, as OpenAI's server words their types */

static const char *type_of(int status) {
  switch (status) {
  case 401: return "authentication_error";
  case 403: return "permission_error";
  case 404: return "not_found_error";
  case 429: return "rate_limit_error";
  case 503: return "service_unavailable_error";
  }
  return status < 500 ? "invalid_request_error" : "server_error";
}

void api_error_text(Text *out, int status, const char *param, const char *code, const char *text) {
  text_add(out, "{\"error\":{\"message\":");
  json_puts(out, text);
  text_add(out, ",\"type\":\"%s\",\"param\":", type_of(status));
  json_puts(out, param);
  text_add(out, ",\"code\":");
  json_puts(out, code);
  text_add(out, "}}");
}

bool api_refuse(Job *j, int status, const char *param, const char *code, const char *fmt, ...) {
  if (j->error.status) return false; /* the first counts */
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(j->error.text, sizeof j->error.text, fmt, ap);
  va_end(ap);
  j->error.status = status;
  j->error.param = param ? arena_strdup(j->arena, param) : NULL;
  j->error.code = code;
  return false;
}

/* ---- fields */

typedef enum { DO_num, DO_int, DO_flag, DO_own, DO_ignore, DO_refuse } Do;

static const struct {
  const char *name, *neutral;
  Do what;
  unsigned where;
  double low, high;
  size_t at;
} table[] = {
#define FIELD(kind, n, w, l, h)                                                                                        \
  {.name = #n, .what = DO_##kind, .where = (w), .low = (l), .high = (h), .at = offsetof(Fields, n)},
#define REFUSED(n, w, v) {.name = #n, .what = DO_refuse, .where = (w), .neutral = (v)},
#define OWN(n, w) {.name = #n, .what = DO_own, .where = (w)},
#define IGNORED(n, w) {.name = #n, .what = DO_ignore, .where = (w)},
#include "serve/fields.def"
#undef FIELD
#undef REFUSED
#undef OWN
#undef IGNORED
};

static void defaults(Job *j) {
  const SampleParams *s = &j->api->served->defaults;
  uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) < 0) seed = (uint64_t)j->created;
  j->fields = (Fields){
      .temperature = s->temperature,
      .top_p = s->top_p,
      .min_p = s->min_p,
      .top_k = s->top_k,
      .repetition_penalty = s->repetition,
      .presence_penalty = s->presence,
      .frequency_penalty = s->frequency,
      .seed = (int64_t)(seed >> 1),
      .n = 1,
      .best_of = -1,
      .max_tokens = -1,
      .max_completion_tokens = -1,
      .top_logprobs = -1,
      .add_special_tokens = j->call->fields != FOR_CHAT,
      .add_generation_prompt = true,
  };
}

static bool take_number(Job *j, int i, const json_t *v) {
  char *at = (char *)&j->fields + table[i].at;
  const char *name = table[i].name;
  if (table[i].what == DO_flag) {
    if (!json_is_boolean(v)) return api_refuse(j, 400, name, "invalid_type", "'%s' must be true or false", name);
    *(field_flag *)at = json_is_true(v);
    return true;
  }
  /* An integer may come as 1.0: clients of languages with one kind of number write so. */
  bool whole = json_is_integer(v) || (json_is_real(v) && json_real_value(v) >= -9e15 && json_real_value(v) <= 9e15 &&
                                      json_real_value(v) == (double)(int64_t)json_real_value(v));
  if (!json_is_number(v) || (table[i].what == DO_int && !whole))
    return api_refuse(j, 400, name, "invalid_type", "'%s' must be %s", name,
                      table[i].what == DO_int ? "an integer" : "a number");
  double x = json_number_value(v);
  if (!(x >= table[i].low && x <= table[i].high))
    return api_refuse(j, 400, name, "invalid_value", "'%s' is %.10g; it must be from %.10g to %.10g", name, x,
                      table[i].low, table[i].high);
  if (table[i].what == DO_int)
    *(field_int *)at = json_is_integer(v) ? json_integer_value(v) : (int64_t)x;
  else
    *(field_num *)at = x;
  return true;
}

static bool is_neutral(const json_t *v, const char *neutral) {
  json_t *want = json_loads(neutral, JSON_DECODE_ANY, NULL);
  bool same = json_equal(v, want) ||
              (json_is_number(v) && json_is_number(want) && json_number_value(v) == json_number_value(want));
  json_decref(want);
  return same;
}

bool api_fields(Job *j, json_t *body) {
  const char *names[LEN(table)], *key;
  json_t *v;
  int n = 0;
  for (int i = 0; i < LEN(table); i++)
    if (table[i].where & j->call->fields) names[n++] = table[i].name;
  defaults(j);
  json_object_foreach(body, key, v) {
    int i = 0;
    while (i < LEN(table) && (!(table[i].where & j->call->fields) || strcmp(table[i].name, key))) i++;
    if (i == LEN(table)) {
      const char *near = strlen(key) > 3 ? report_suggest(key, names, n) : NULL;
      if (near)
        return api_refuse(j, 400, key, "unknown_parameter", "unknown field '%.100s'; did you mean '%s'?", key, near);
      continue;
    }
    if (json_is_null(v) || table[i].what == DO_own || table[i].what == DO_ignore) continue;
    if (table[i].what != DO_refuse) {
      if (!take_number(j, i, v)) return false;
    } else if (!is_neutral(v, table[i].neutral)) {
      return api_refuse(j, 400, key, "unsupported_parameter", "'%s' is not supported by this server", key);
    }
  }
  return true;
}

bool api_model(Job *j, const json_t *body, bool needed) {
  const json_t *v = json_object_get(body, "model");
  const Served *s = j->api->served;
  j->model = s->name;
  if ((!v || json_is_null(v)) && !needed) return true;
  if (!v || json_is_null(v))
    return api_refuse(j, 400, "model", "missing_required_parameter", "you must provide a model: '%s'", s->name);
  if (!json_is_string(v)) return api_refuse(j, 400, "model", "invalid_type", "'model' must be a string");
  j->model = api_find_model(s, json_string_value(v));
  if (!j->model)
    return api_refuse(j, 404, "model", "model_not_found", "the model '%.200s' does not exist", json_string_value(v));
  return true;
}

/* ---- sampling */

static bool take_stop(Job *j, const json_t *v) {
  const ServerOptions *o = j->api->o;
  if (!v || json_is_null(v)) return true;
  size_t n = json_is_array(v) ? json_array_size(v) : 1;
  if (!json_is_array(v) && !json_is_string(v))
    return api_refuse(j, 400, "stop", "invalid_type", "'stop' must be a string or an array of strings");
  if (n > (size_t)o->stops)
    return api_refuse(j, 400, "stop", "array_above_max_length", "'stop' has %zu strings; it may have %d", n, o->stops);
  const char **stop = NEW_ARRAY(j->arena, const char *, n + 1);
  for (size_t i = 0; i < n; i++) {
    const json_t *s = json_is_array(v) ? json_array_get(v, i) : v;
    size_t bytes = json_string_length(s);
    if (!json_is_string(s))
      return api_refuse(j, 400, "stop", "invalid_type", "'stop' must be a string or an array of strings");
    if (!bytes || bytes > (size_t)o->stop_bytes || memchr(json_string_value(s), 0, bytes))
      return api_refuse(j, 400, "stop", "invalid_value", "a string of 'stop' must have 1 to %d bytes, none of them NUL",
                        o->stop_bytes);
    stop[i] = arena_strndup(j->arena, json_string_value(s), bytes);
  }
  j->request.stop = stop;
  j->request.nstop = (int)n;
  return true;
}

static bool take_bias(Job *j, json_t *v) {
  const ServerOptions *o = j->api->o;
  int vocab = j->api->served->model->limits.vocab, n = 0;
  const char *key;
  json_t *x;
  if (!v || json_is_null(v)) return true;
  if (!json_is_object(v)) return api_refuse(j, 400, "logit_bias", "invalid_type", "'logit_bias' must be an object");
  if (json_object_size(v) > (size_t)o->biases)
    return api_refuse(j, 400, "logit_bias", "object_above_max_properties", "'logit_bias' may have %d entries",
                      o->biases);
  SampleBias *bias = NEW_ARRAY(j->arena, SampleBias, json_object_size(v) + 1);
  json_object_foreach(v, key, x) {
    int64_t id = 0;
    size_t digits = strspn(key, "0123456789");
    for (size_t i = 0; i < digits && id < INT_MAX; i++) id = id * 10 + (key[i] - '0');
    if (!digits || key[digits] || id >= vocab)
      return api_refuse(j, 400, "logit_bias", "invalid_value", "'logit_bias' of '%.40s': that is no token id below %d",
                        key, vocab);
    double b = json_number_value(x);
    if (!json_is_number(x) || !(b >= -100 && b <= 100))
      return api_refuse(j, 400, "logit_bias", "invalid_value",
                        "'logit_bias' of '%.40s' must be a number from -100 to 100", key);
    bias[n++] = (SampleBias){(int32_t)id, (float)b};
  }
  j->request.sample.bias = bias;
  j->request.sample.nbias = n;
  return true;
}

static bool take_stream(Job *j, const json_t *body) {
  json_t *v = json_object_get(body, "stream_options"), *x;
  const char *key;
  j->stream = j->fields.stream;
  if (!v || json_is_null(v)) return true;
  if (!json_is_object(v))
    return api_refuse(j, 400, "stream_options", "invalid_type", "'stream_options' must be an object");
  if (!j->stream)
    return api_refuse(j, 400, "stream_options", "invalid_value", "'stream_options' goes with \"stream\": true alone");
  json_object_foreach(v, key, x) {
    if (!strcmp(key, "include_usage") && json_is_boolean(x))
      j->usage = json_is_true(x);
    else if (!json_is_null(x) && !json_is_false(x) && strcmp(key, "include_obfuscation"))
      return api_refuse(j, 400, "stream_options", "invalid_value", "'stream_options.%.60s' is not supported", key);
  }
  return true;
}

/* Text, or what is text; a schema that an answer must follow cannot be held. */
static bool take_format(Job *j, const json_t *v) {
  const char *type = json_string_value(json_object_get(v, "type"));
  if (!v || json_is_null(v) || (type && !strcmp(type, "text"))) return true;
  return api_refuse(
      j, 400, "response_format", "unsupported_value",
      "'response_format' may be {\"type\": \"text\"} alone: this server does not hold answers to a format");
}

bool api_sampling(Job *j, json_t *body) {
  const Fields *f = &j->fields;
  SampleParams *s = &j->request.sample;
  if (f->n > j->api->o->choices)
    return api_refuse(j, 400, "n", "integer_above_max_value", "'n' may be %d at most", j->api->o->choices);
  if (f->best_of >= 0 && f->best_of != f->n)
    return api_refuse(j, 400, "best_of", "unsupported_value", "'best_of' must be equal to 'n'");
  j->request.n = (int)f->n;
  *s = (SampleParams){
      .temperature = (float)f->temperature,
      .top_k = f->top_k < 0 ? 0 : (int)f->top_k,
      .top_p = (float)f->top_p,
      .min_p = (float)f->min_p,
      .repetition = (float)f->repetition_penalty,
      .presence = (float)f->presence_penalty,
      .frequency = (float)f->frequency_penalty,
      .seed = (uint64_t)f->seed,
  };
  j->request.ignore_eos = f->ignore_eos;
  return take_stop(j, json_object_get(body, "stop")) && take_bias(j, json_object_get(body, "logit_bias")) &&
         take_stream(j, body) && take_format(j, json_object_get(body, "response_format"));
}

/* ---- prompts */

static bool check_prompt(Job *j, const Prompt *p, const char *param) {
  const ServerOptions *o = j->api->o;
  int ctx = j->api->served->model->limits.ctx;
  if (p->n < 1) return api_refuse(j, 400, param, "invalid_value", "the prompt is empty: it has no token");
  if (p->n > ctx)
    return api_refuse(j, 400, param, "context_length_exceeded",
                      "this model's maximum context length is %d tokens; the prompt has %d", ctx, p->n);
  if (o->prompt_tokens && p->n > o->prompt_tokens)
    return api_refuse(j, 400, param, "context_length_exceeded", "a prompt may have %d tokens here; this one has %d",
                      o->prompt_tokens, p->n);
  return true;
}

bool api_prompt_text(Job *j, Prompt *p, const char *s, size_t n, unsigned flags) {
  Ids ids = {0};
  Diags *d = diags_new(j->arena);
  bool ok = codec_encode(j->api->codec, s, n, flags, &ids, d);
  if (!ok) {
    api_refuse(j, 400, NULL, "invalid_value", "the text cannot be tokenized: %s",
               d->n ? d->list[0].text : "no reason given");
  } else if (ids.n > INT_MAX / 2) {
    ok = api_refuse(j, 400, NULL, "context_length_exceeded", "the prompt is too long");
  } else {
    int32_t *own = NEW_ARRAY(j->arena, int32_t, ids.n + 1);
    for (size_t i = 0; i < ids.n; i++) own[i] = (int32_t)ids.v[i];
    p->ids = own;
    p->n = (int)ids.n;
  }
  free(ids.v);
  return ok;
}

bool api_prompt_ids(Job *j, Prompt *p, const json_t *ids, const char *param) {
  size_t n = json_array_size(ids);
  int32_t *own = NEW_ARRAY(j->arena, int32_t, n + 1);
  int vocab = j->api->served->model->limits.vocab;
  if (n > INT_MAX / 2) return api_refuse(j, 400, param, "context_length_exceeded", "the prompt is too long");
  for (size_t i = 0; i < n; i++) {
    const json_t *v = json_array_get(ids, i);
    json_int_t id = json_integer_value(v);
    if (!json_is_integer(v))
      return api_refuse(j, 400, param, "invalid_type",
                        "'%s' must be a string, or an array of strings, of token ids or of "
                        "arrays of token ids",
                        param);
    if (id < 0 || id >= vocab)
      return api_refuse(j, 400, param, "invalid_value", "'%s' has the token id %lld; ids are below %d", param,
                        (long long)id, vocab);
    own[i] = (int32_t)id;
  }
  p->ids = own;
  p->n = (int)n;
  return true;
}

bool api_prompts(Job *j, const json_t *v, const char *param, int most, unsigned flags) {
  const json_t *first = json_array_get(v, 0);
  bool many = json_is_array(v) && !json_is_integer(first);
  size_t n = many ? json_array_size(v) : 1;
  if (!v || json_is_null(v))
    return api_refuse(j, 400, param, "missing_required_parameter", "you must provide '%s'", param);
  if (n > (size_t)most)
    return api_refuse(j, 400, param, "array_above_max_length", "'%s' has %zu entries; it may have %d", param, n, most);
  if (!n) return api_refuse(j, 400, param, "empty_array", "'%s' is an empty array", param);
  j->prompts = NEW_ARRAY(j->arena, Prompt, n);
  for (size_t i = 0; i < n; i++) {
    const json_t *one = many ? json_array_get(v, i) : v;
    Prompt *p = &j->prompts[i];
    p->job = j;
    p->index = (int)i;
    if (json_typeof(one) != json_typeof(many ? first : one) || (!json_is_string(one) && !json_is_array(one)))
      return api_refuse(j, 400, param, "invalid_type",
                        "'%s' must be a string, or an array of strings, of token ids or of "
                        "arrays of token ids",
                        param);
    if (json_is_string(one) ? !api_prompt_text(j, p, json_string_value(one), json_string_length(one), flags)
                            : !api_prompt_ids(j, p, one, param))
      return false;
    if (!check_prompt(j, p, param)) return false;
  }
  j->nprompts = (int)n;
  return true;
}

bool api_lengths(Job *j, int64_t asked, const char *param, int fallback) {
  const ServerOptions *o = j->api->o;
  int ctx = j->api->served->model->limits.ctx;
  if (o->max_tokens && asked > o->max_tokens)
    return api_refuse(j, 400, param, "integer_above_max_value", "'%s' may be %d at most", param, o->max_tokens);
  for (int i = 0; i < j->nprompts; i++) {
    Prompt *p = &j->prompts[i];
    int room = ctx - p->n;
    if (!check_prompt(j, p, NULL)) return false;
    if (asked > room)
      return api_refuse(
          j, 400, param, "context_length_exceeded",
          "this model's maximum context length is %d tokens; you asked for %lld (%d of the prompt, %lld of the "
          "answer)",
          ctx, (long long)(p->n + asked), p->n, (long long)asked);
    int most = o->max_tokens && o->max_tokens < room ? o->max_tokens : room;
    p->max_tokens = asked >= 0 ? (int)asked : fallback && fallback < most ? fallback : most;
    if (asked < 0 && !p->max_tokens)
      return api_refuse(j, 400, NULL, "context_length_exceeded",
                        "the prompt has %d tokens, which is all that this model's context holds", p->n);
  }
  return true;
}

/* ---- answers */

void api_usage(const Job *j, Text *out) {
  int64_t prompt = 0, cached = 0;
  for (int i = 0; i < j->nprompts; i++) prompt += j->prompts[i].n, cached += j->prompts[i].cached;
  text_add(out, ",\"usage\":{\"prompt_tokens\":%lld", (long long)prompt);
  if (j->call->fields != FOR_EMBEDDING) text_add(out, ",\"completion_tokens\":%lld", (long long)j->generated);
  text_add(out, ",\"total_tokens\":%lld,\"prompt_tokens_details\":{\"cached_tokens\":%lld}}",
           (long long)(prompt + j->generated), (long long)cached);
}

void api_usage_null(Text *out) {
  text_add(out, ",\"usage\":null");
}

const char *api_token(const Job *j, int32_t id, size_t *n) {
  const char *s = codec_token(j->api->served->codec, (uint32_t)id, n);
  if (!s) *n = 0;
  return s ? s : "";
}
