/* Templates of conversations, see text/chat.h: the interpreter of text/jinja.h with the variables that transformers gives.
 *
 * Must hold: a ChatTemplate does not change once it is open, so many threads may render it at the same time. */
#include "text/chat.h"
#include "text/jinja.h"

#include <string.h>

struct ChatTemplate {
  Template t;
};

/* With \n for every line end, and without the one at the very end. */
static void normalize(Template *t, const char *source, size_t n) {
  char *to = arena_alloc(t->arena, n + 1);
  for (size_t i = 0; i < n; i++) {
    if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n') continue;
    to[t->n++] = source[i] == '\r' ? '\n' : source[i];
  }
  if (t->n && to[t->n - 1] == '\n') t->n--;
  to[t->n] = 0;
  t->source = to;
}

ChatTemplate *chat_open(const char *source, size_t n, Diags *err) {
  if (n > JINJA_SOURCE) {
    diag_error(err, (Span){0}, "the chat template is larger than %d bytes", JINJA_SOURCE);
    return NULL;
  }
  Arena *a = arena_new();
  ChatTemplate *c = NEW(a, ChatTemplate);
  int count;
  c->t.arena = a;
  normalize(&c->t, source, n);
  uint32_t file = diags_source(err, "chat_template", c->t.source, c->t.n);
  Token *tokens = jinja_lex(a, c->t.source, c->t.n, err, file, &count);
  if (tokens && jinja_parse(&c->t, tokens, err, file)) return c;
  arena_free(a);
  return NULL;
}

void chat_free(ChatTemplate *t) {
  if (t) arena_free(t->t.arena);
}

/* Where a variable is kept; NULL: the template does not name it. */
static Value *place(Run *r, const char *name) {
  for (int i = 0; i < r->t->nnames; i++)
    if (jinja_is(r->t->names[i], name)) return &r->globals[i];
  return NULL;
}

static void set(Run *r, const char *name, Value v) {
  Value *at = place(r, name);
  if (at) *at = v;
}

static void set_json(Run *r, const char *name, const json_t *j) {
  Value *at = place(r, name);
  if (at) *at = j ? jinja_from_json(r, j) : NONE;
}

/* A message as transformers hands it on: without what is null, and with what a model thought before it answered, which has
 * had several names, under two of them. */
static Value message(Run *r, const json_t *j) {
  static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
  Value v = jinja_from_json(r, j), thought = NONE;
  Dict *d;
  if (v.kind != V_DICT) return jinja_fail(r, "a message is an object, not %s", jinja_type(v));
  for (int i = 0; i < LEN(names) && thought.kind == V_NONE; i++) {
    const Value *found = jinja_get_text(v.dict, names[i]);
    if (found) thought = *found;
  }
  Value out = jinja_dict(r, &d);
  if (thought.kind != V_NONE) jinja_put(r, d, jinja_string("thinking", 8), thought);
  for (int i = 0; i < v.dict->n && jinja_step(r, 1); i++)
    if (v.dict->v[i].value.kind != V_NONE) jinja_put(r, d, v.dict->v[i].key, v.dict->v[i].value);
  if (thought.kind != V_NONE) jinja_put(r, d, jinja_string("reasoning_content", 17), thought);
  return out;
}

static void set_all(Run *r, const json_t *messages, const json_t *tools, const json_t *variables, bool generation) {
  const char *name;
  json_t *value;
  List *list;
  Value chat = jinja_list(r, L_LIST, &list);
  for (size_t i = 0; i < json_array_size(messages) && !r->failed; i++)
    jinja_push(r, list, message(r, json_array_get(messages, i)));
  set(r, "messages", chat);
  set_json(r, "tools", tools);
  set(r, "documents", NONE);
  set(r, "add_generation_prompt", jinja_bool(generation));
  if (variables) json_object_foreach((json_t *)variables, name, value) set_json(r, name, value);
}

bool chat_render(const ChatTemplate *t, const json_t *messages, const json_t *tools, const json_t *variables,
                 bool generation, Text *out, Diags *err) {
  Run r = {.t = &t->t, .arena = arena_new(), .out = out, .start = out->n, .err = err};
  if (!json_array_size(messages)) jinja_fail(&r, "a conversation is an array of one message or more");
  if (tools && !json_is_array(tools)) jinja_fail(&r, "tools are an array, one object a tool");
  for (size_t i = 0; i < json_array_size(tools); i++)
    if (!json_is_object(json_array_get(tools, i))) jinja_fail(&r, "tool %zu is no object", i);
  if (variables && !json_is_object(variables)) jinja_fail(&r, "the template's variables are an object");
  r.globals = NEW_ARRAY(r.arena, Value, t->t.nnames);
  if (!r.failed) set_all(&r, messages, tools, variables, generation);
  if (!r.failed) jinja_run(&r, NULL, t->t.body);
  if (r.failed) out->n = r.start;
  text_write(out, "", 0); /* ends in NUL, even when it is empty */
  text_free(&r.tmp);
  arena_free(r.arena);
  return !r.failed;
}
