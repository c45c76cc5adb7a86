/* Tokens to statements: a row of parsers, one for each tag.
 *
 * A body is a chain of nodes that ends at a tag named among its ends. Must hold: a tag that is not in the table is refused. */
#include "text/jinja.h"

#include <string.h>

static Node *body(Parser *p, const char *const *ends);
static void body_end(Parser *p);

static void expect_block_end(Parser *p) {
  if (p->at->kind == T_BLOCK_END)
    p->at++;
  else
    jinja_refuse(p, p->at, "expected '%%}', found %s", jinja_describe(p, p->at));
}

static const Token *expect_name(Parser *p) {
  const Token *t = p->at;
  if (t->kind == T_NAME)
    p->at++;
  else
    jinja_refuse(p, t, "expected a name, found %s", jinja_describe(p, t));
  return t;
}

static bool constant_name(const Token *t) {
  static const char *const names[] = {"true", "false", "none", "True", "False", "None"};
  for (int i = 0; i < LEN(names); i++)
    if (jinja_is_name(t, names[i])) return true;
  return false;
}

static Node *target_name(Parser *p, bool attr) {
  const Token *t = expect_name(p);
  Node *n = jinja_node(p, N_NAME, t);
  if (p->failed) return n;
  if (constant_name(t)) jinja_refuse(p, t, "%s cannot be assigned to", jinja_describe(p, t));
  n->name = jinja_name(p, t->s, t->n);
  if (!attr || !jinja_skip_op(p, ".")) return n;
  Node *to = jinja_node(p, N_ATTR, t);
  t = expect_name(p);
  to->a = n;
  to->value = jinja_known_string(t->s, t->n);
  return to;
}

/* a, or a, b, or (a, b), of names and, with attr, attributes of namespaces. */
static Node *target(Parser *p, bool attr, bool row) {
  const Token *t = p->at;
  Node *n, *tuple = NULL;
  if (!jinja_enter(p)) return p->nest--, jinja_node(p, N_NAME, t);
  do {
    if (tuple && (jinja_is_name(p->at, "in") || jinja_is_op(p->at, "=") || jinja_is_op(p->at, ")"))) break;
    if (jinja_skip_op(p, "(")) {
      n = target(p, attr, true);
      jinja_expect_op(p, ")");
    } else {
      n = target_name(p, attr);
    }
    if (row && !tuple && jinja_is_op(p->at, ",")) tuple = jinja_node(p, N_TUPLE, t);
    if (tuple) jinja_add_kid(p, tuple, n);
  } while (row && !p->failed && jinja_skip_op(p, ","));
  p->nest--;
  return tuple ? tuple : n;
}

static Node *parse_if(Parser *p, const Token *t) {
  Node *n = jinja_node(p, N_IF, t);
  do {
    jinja_add_kid(p, n, jinja_tuple(p, false));
    jinja_add_kid(p, n, body(p, (const char *const[]){"elif", "else", "endif", NULL}));
  } while (jinja_skip_name(p, "elif") && !p->failed);
  if (jinja_skip_name(p, "else")) {
    jinja_add_kid(p, n, NULL);
    jinja_add_kid(p, n, body(p, (const char *const[]){"endif", NULL}));
  }
  body_end(p);
  return n;
}

static Node *parse_for(Parser *p, const Token *t) {
  Node *n = jinja_node(p, N_FOR, t);
  n->a = target(p, false, true);
  if (!jinja_skip_name(p, "in")) jinja_refuse(p, p->at, "expected 'in', found %s", jinja_describe(p, p->at));
  n->b = jinja_tuple(p, false);
  if (jinja_skip_name(p, "if")) n->c = jinja_expression(p, true);
  if (jinja_is_name(p->at, "recursive")) jinja_refuse(p, p->at, "recursive loops are not in the subset");
  p->loops++;
  n->body = body(p, (const char *const[]){"else", "endfor", NULL});
  p->loops--;
  if (jinja_skip_name(p, "else")) n->other = body(p, (const char *const[]){"endfor", NULL});
  body_end(p);
  return n;
}

/* A body that is a function of its own in Jinja2: no loop around it can be left from there. */
static Node *closed_body(Parser *p, const char *end) {
  int loops = p->loops;
  p->loops = 0;
  Node *n = body(p, (const char *const[]){end, NULL});
  p->loops = loops;
  body_end(p);
  return n;
}

static Node *parse_set(Parser *p, const Token *t) {
  Node *n = jinja_node(p, N_SET, t);
  n->a = target(p, true, true);
  if (jinja_skip_op(p, "=")) {
    n->b = jinja_tuple(p, true);
    return n;
  }
  n->kind = N_CATCH;
  if (jinja_is_op(p->at, "|")) n->b = jinja_filters(p, NULL, false);
  n->body = closed_body(p, "endset");
  return n;
}

static Node *parse_with(Parser *p, const Token *t) {
  Node *n = jinja_node(p, N_WITH, t);
  while (p->at->kind != T_BLOCK_END && !p->failed) {
    if (n->n) jinja_expect_op(p, ",");
    jinja_add_kid(p, n, target(p, false, false));
    jinja_expect_op(p, "=");
    jinja_add_kid(p, n, jinja_expression(p, true));
  }
  n->body = body(p, (const char *const[]){"endwith", NULL});
  body_end(p);
  return n;
}

static void parameters(Parser *p, Node *n) {
  int cap = 0;
  bool fallback = false;
  jinja_expect_op(p, "(");
  while (!jinja_is_op(p->at, ")") && !p->failed) {
    if (n->nparams) jinja_expect_op(p, ",");
    const Token *t = expect_name(p);
    if (p->failed) break;
    Param param = {jinja_name(p, t->s, t->n), jinja_known_string(t->s, t->n), NULL};
    if (constant_name(t) || param.name == NAME_CALLER)
      jinja_refuse(p, t, "%s cannot be a parameter", jinja_describe(p, t));
    if (jinja_skip_op(p, "="))
      param.fallback = jinja_expression(p, true), fallback = true;
    else if (fallback)
      jinja_refuse(p, t, "a parameter without default behind one that has one");
    PUSH(p->arena, n->params, n->nparams, cap, param);
  }
  jinja_expect_op(p, ")");
}

static void macro_body(Parser *p, Node *n, const char *end) {
  unsigned uses = p->uses;
  p->uses = 0;
  n->body = closed_body(p, end);
  n->uses = (uint8_t)p->uses;
  p->uses |= uses; /* what a macro within names counts for the one around, as in Jinja2 */
}

static Node *parse_macro(Parser *p, const Token *t) {
  Node *n = jinja_node(p, N_MACRO, t);
  const Token *name = expect_name(p);
  if (p->failed) return n;
  if (constant_name(name)) jinja_refuse(p, name, "%s cannot be a macro", jinja_describe(p, name));
  n->name = jinja_name(p, name->s, name->n);
  n->value = jinja_known_string(name->s, name->n);
  parameters(p, n);
  macro_body(p, n, "endmacro");
  return n;
}

static Node *parse_call(Parser *p, const Token *t) {
  Node *n = jinja_node(p, N_CALLER, t);
  n->value = jinja_known_string("caller", 6);
  if (jinja_is_op(p->at, "(")) parameters(p, n);
  n->a = jinja_expression(p, true);
  if (n->a->kind != N_CALL) jinja_refuse(p, t, "expected a call behind 'call'");
  macro_body(p, n, "endcall");
  return n;
}

static Node *parse_filter(Parser *p, const Token *t) {
  Node *n = jinja_node(p, N_FILTERED, t);
  n->b = jinja_filters(p, NULL, true);
  n->body = closed_body(p, "endfilter");
  return n;
}

static Node *parse_generation(Parser *p, const Token *t) {
  Node *n = jinja_node(p, N_SCOPE, t);
  n->body = closed_body(p, "endgeneration");
  return n;
}

static Node *parse_leave(Parser *p, const Token *t) {
  if (!p->loops) jinja_refuse(p, t, "%s outside of a loop", jinja_describe(p, t));
  return jinja_node(p, jinja_is_name(t, "break") ? N_BREAK : N_CONTINUE, t);
}

static const struct {
  const char *tag;
  Node *(*parse)(Parser *p, const Token *t);
} tags[] = {
    {"if", parse_if},       {"for", parse_for},        {"set", parse_set},   {"macro", parse_macro},
    {"call", parse_call},   {"filter", parse_filter},  {"with", parse_with}, {"generation", parse_generation},
    {"break", parse_leave}, {"continue", parse_leave},
};

static Node *statement(Parser *p) {
  const Token *t = expect_name(p);
  Node *n = NULL;
  if (p->failed || !jinja_enter(p)) return NULL;
  for (int i = 0; i < LEN(tags) && !n; i++)
    if (jinja_is_name(t, tags[i].tag)) n = tags[i].parse(p, t);
  if (!n) {
    bool end = t->n > 3 && !memcmp(t->s, "end", 3);
    bool stray = end || jinja_is_name(t, "else") || jinja_is_name(t, "elif");
    jinja_refuse(p, t, stray ? "%s without its beginning" : "the tag %s is not in the subset", jinja_describe(p, t));
  }
  p->nest--;
  return n;
}

/* Statements up to one of the tags `ends`, at whose name the parser stands then; NULL: up to the template's end. */
static Node *statements(Parser *p, const char *const *ends) {
  Node *first = NULL, **last = &first, *n;
  const Token *open = p->at;
  while (!p->failed) {
    const Token *t = p->at;
    if (t->kind == T_END) {
      if (ends) jinja_refuse(p, open - 1, "this is not ended by '%s'", ends[0]);
      break;
    }
    p->at++;
    if (t->kind == T_DATA) {
      n = jinja_node(p, N_DATA, t);
      n->value = jinja_known_string(t->s, t->n);
    } else if (t->kind == T_VARIABLE) {
      n = jinja_node(p, N_OUTPUT, t);
      n->a = jinja_tuple(p, true);
      if (p->at->kind != T_VARIABLE_END) jinja_refuse(p, p->at, "expected '}}', found %s", jinja_describe(p, p->at));
      p->at++;
    } else {
      for (int i = 0; ends && ends[i]; i++)
        if (jinja_is_name(p->at, ends[i])) return first;
      n = statement(p);
      if (!p->failed) expect_block_end(p);
    }
    if (p->failed) break;
    *last = n;
    last = &n->next;
  }
  return first;
}

static Node *body(Parser *p, const char *const *ends) {
  jinja_skip_op(p, ":"); /* as in Python */
  if (!p->failed) expect_block_end(p);
  return p->failed ? NULL : statements(p, ends);
}

/* The end's name; its '%}' is the statement's. */
static void body_end(Parser *p) {
  if (!p->failed) p->at++;
}

bool jinja_parse(Template *t, const Token *tokens, Diags *err, uint32_t file) {
  static const char *const known[] = {"loop", "caller", "kwargs", "varargs"}; /* NAME_LOOP and so on */
  Parser p = {.arena = t->arena, .at = tokens, .err = err, .file = file};
  p.buckets = NEW_ARRAY(t->arena, int, NAME_BUCKETS);
  for (int i = 0; i < NAME_BUCKETS; i++) p.buckets[i] = -1;
  for (int i = 0; i < NAMES_KNOWN; i++) jinja_name(&p, known[i], strlen(known[i]));
  t->body = statements(&p, NULL);
  t->names = p.names;
  t->nnames = p.nnames;
  return !p.failed;
}
