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

static void set(Run *r, const char *name, Value v) {
  for (int i = 0; i < r->t->nnames; i++)
    if (jinja_is(r->t->names[i], name)) r->globals[i] = v;
}

/* What a model thought before it answered has had several names; transformers gives it under two of them. */
static void add_reasoning(Run *r, Value *message) {
  static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
  const Value *found = NULL;
  Dict *d;
  if (message->kind != V_DICT) return;
  for (int i = 0; i < LEN(names) && (!found || found->kind == V_NONE); i++)
    found = jinja_get_text(message->dict, names[i]);
  if (!found || found->kind == V_NONE) return;
  Value copy = jinja_dict(r, &d), text = *found;
  jinja_put(r, d, jinja_string("thinking", 8), text);
  for (int i = 0; i < message->dict->n && !r->failed; i++)
    jinja_put(r, d, message->dict->v[i].key, message->dict->v[i].value);
  jinja_put(r, d, jinja_string("reasoning_content", 17), text);
  *message = copy;
}

static void set_all(Run *r, const json_t *messages, const json_t *tools, const json_t *variables, bool generation) {
  const char *name;
  json_t *value;
  Value chat = jinja_from_json(r, messages);
  for (int i = 0; chat.kind == V_LIST && i < chat.list->n && jinja_step(r, 1); i++) add_reasoning(r, &chat.list->v[i]);
  set(r, "messages", chat);
  set(r, "tools", tools ? jinja_from_json(r, tools) : NONE);
  set(r, "documents", NONE);
  set(r, "add_generation_prompt", jinja_bool(generation));
  if (variables) json_object_foreach((json_t *)variables, name, value) set(r, name, jinja_from_json(r, value));
}

bool chat_render(const ChatTemplate *t, const json_t *messages, const json_t *tools, const json_t *variables,
                 bool generation, Text *out, Diags *err) {
  Run r = {.t = &t->t, .arena = arena_new(), .out = out, .start = out->n, .err = err};
  if (!json_is_array(messages)) jinja_fail(&r, "messages are an array, one object a message");
  if (tools && !json_is_array(tools)) jinja_fail(&r, "tools are an array, one object a tool");
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
