/* Expressions: a walk over their nodes, and calls of what they name. See text/jinja.h for errors and bounds. */
#include "text/jinja.h"

#include <stdio.h>
#include <string.h>

Value jinja_fail(Run *r, const char *fmt, ...) {
  if (!r->failed) {
    va_list ap;
    va_start(ap, fmt);
    const char *text = arena_vprintf(r->err->arena, fmt, ap);
    va_end(ap);
    uint32_t file = diags_source(r->err, "chat_template", r->t->source, r->t->n);
    diag_error(r->err, (Span){file, r->at ? r->at->line : 0, r->at ? r->at->col : 0}, "%s", text);
    r->failed = true;
  }
  return (Value){.kind = V_UNDEFINED, .s = ""};
}

bool jinja_step(Run *r, size_t n) {
  r->steps += n;
  if (r->steps > JINJA_STEPS && !r->failed) jinja_fail(r, "the template takes more than %d steps", JINJA_STEPS);
  return !r->failed;
}

void *jinja_alloc(Run *r, size_t bytes) {
  r->memory += bytes + 16;
  if (r->memory > JINJA_MEMORY) jinja_fail(r, "the template's values take more than %d bytes", JINJA_MEMORY);
  return arena_alloc(r->arena, bytes ? bytes : 1);
}

bool jinja_room(Run *r, size_t bytes, size_t times) {
  if (bytes && (times > JINJA_OUTPUT || bytes > (size_t)JINJA_OUTPUT / (times ? times : 1)))
    jinja_fail(r, "the template makes a text of more than %d bytes", JINJA_OUTPUT);
  return !r->failed;
}

/* ---- names */

Value jinja_lookup(Run *r, const Scope *s, int name) {
  for (; s; s = s->up)
    for (const Var *v = s->vars; v; v = v->next) {
      r->steps++;
      if (v->name == name) return v->v;
    }
  Value v = r->globals[name];
  if (v.kind != V_MISSING) return v;
  Value text = r->t->names[name];
  const Row *f = jinja_function(text.s, text.n);
  if (f) return (Value){.kind = V_FUNCTION, .row = f};
  return jinja_undefined(r, "'%.*s' is undefined", (int)(text.n < 80 ? text.n : 80), text.s);
}

void jinja_bind(Run *r, Scope *s, int name, Value v) {
  if (!s) {
    r->globals[name] = v;
    return;
  }
  for (Var *old = s->vars; old; old = old->next) {
    r->steps++;
    if (old->name == name) {
      old->v = v;
      return;
    }
  }
  Var *var = jinja_alloc(r, sizeof *var);
  *var = (Var){s->vars, name, v};
  s->vars = var;
}

/* ---- calls */

static void add_named(Run *r, Args *to, int *cap, Value name, Value v) {
  for (int i = 0; i < to->nnamed; i++)
    if (jinja_equal(r, to->named[i].key, name))
      jinja_fail(r, "the argument '%.*s' is given twice", (int)name.n, name.s);
  if (name.kind != V_STRING) jinja_fail(r, "the names of arguments are strings, not %s", jinja_type(name));
  if (r->failed) return;
  if (to->nnamed == *cap) {
    *cap = *cap ? *cap * 2 : 4;
    Pair *more = jinja_alloc(r, sizeof *more * (size_t)*cap);
    if (to->nnamed) memcpy(more, to->named, sizeof *more * (size_t)to->nnamed);
    to->named = more;
  }
  to->named[to->nnamed++] = (Pair){name, v};
}

Args jinja_args(Run *r, Scope *s, const Arg *args, int n) {
  Args to = {0};
  List *plain;
  int cap = 0;
  jinja_list(r, L_TUPLE, &plain);
  for (int i = 0; i < n && jinja_step(r, 1); i++) {
    Value v = jinja_eval(r, s, args[i].value);
    switch (args[i].kind) {
    case ARG_PLAIN: jinja_push(r, plain, v); break;
    case ARG_NAMED: add_named(r, &to, &cap, args[i].name, v); break;
    case ARG_LIST: {
      List *more = jinja_items(r, v);
      for (int k = 0; k < more->n && jinja_step(r, 1); k++) jinja_push(r, plain, more->v[k]);
      break;
    }
    case ARG_DICT:
      if (v.kind != V_DICT) jinja_fail(r, "'**' before a value of type %s", jinja_type(v));
      for (int k = 0; !r->failed && k < v.dict->n; k++) add_named(r, &to, &cap, v.dict->v[k].key, v.dict->v[k].value);
      break;
    }
  }
  to.v = plain->v;
  to.n = plain->n;
  return to;
}

Value jinja_call_row(Run *r, const Row *row, const char *what, Value self, const Args *args) {
  Value a[ROW_PARAMS] = {MISSING};
  int count = 0;
  if (!jinja_step(r, self.kind == V_STRING ? self.n / 16 : 0)) return NONE;
  if (!row->params) return row->call(r, self, args->v, args);
  if (args->n > ROW_PARAMS) return jinja_fail(r, "%s '%s': too many arguments", what, row->name);
  for (int i = 0; i < args->n; i++) a[i] = args->v[i];
  bool used[ROW_PARAMS * 8] = {false};
  if (args->nnamed > LEN(used)) return jinja_fail(r, "%s '%s': too many arguments", what, row->name);
  for (const char *p = row->params; *p; count++) {
    size_t n = strcspn(p, " ");
    for (int i = 0; i < args->nnamed; i++) {
      Value name = args->named[i].key;
      if (name.n != n || memcmp(name.s, p, n) || *p == '-') continue;
      if (a[count].kind != V_MISSING)
        return jinja_fail(r, "%s '%s': '%.*s' is given twice", what, row->name, (int)n, p);
      a[count] = args->named[i].value;
      used[i] = true;
    }
    p += n + (p[n] == ' ');
  }
  if (args->n > count)
    return jinja_fail(r, "%s '%s' takes %d argument%s, not %d", what, row->name, count, count == 1 ? "" : "s", args->n);
  for (int i = 0; i < args->nnamed; i++) {
    Value name = args->named[i].key;
    if (!used[i])
      return jinja_fail(r, "%s '%s' has no argument '%.*s'", what, row->name, (int)(name.n < 80 ? name.n : 80), name.s);
  }
  for (int i = 0; i < row->required; i++)
    if (a[i].kind == V_MISSING)
      return jinja_fail(r, "%s '%s' asks for %d argument%s", what, row->name, row->required,
                        row->required == 1 ? "" : "s");
  return row->call(r, self, a, args);
}

Value jinja_call(Run *r, Value f, const Args *args) {
  switch ((ValueKind)f.kind) {
  case V_UNDEFINED: return jinja_fail(r, "%.*s", (int)f.n, f.s);
  case V_FUNCTION: return jinja_call_row(r, f.row, "function", MISSING, args);
  case V_MACRO: return jinja_call_macro(r, f.macro, args);
  case V_METHOD:
    if (f.method->row) return jinja_call_row(r, f.method->row, "method", f.method->self, args);
    return jinja_fail(r, "the method '%s' of %s is not in the subset", f.method->name, jinja_type(f.method->self));
  default: return jinja_fail(r, "a value of type %s cannot be called", jinja_type(f));
  }
}

/* ---- expressions */

static Value eval_list(Run *r, Scope *s, const Node *n) {
  List *l;
  Value v = jinja_list(r, n->kind == N_LIST ? L_LIST : L_TUPLE, &l);
  for (int i = 0; i < n->n && !r->failed; i++) jinja_push(r, l, jinja_eval(r, s, n->kids[i]));
  return v;
}

static Value eval_dict(Run *r, Scope *s, const Node *n) {
  Dict *d;
  Value v = jinja_dict(r, &d);
  for (int i = 0; i + 1 < n->n && !r->failed; i += 2) {
    Value key = jinja_eval(r, s, n->kids[i]);
    jinja_put(r, d, key, jinja_eval(r, s, n->kids[i + 1]));
  }
  return v;
}

static Value eval_row(Run *r, Scope *s, const Node *n) {
  Value v = jinja_eval(r, s, n->kids[0]);
  for (int i = 1; i < n->n && !r->failed; i++) {
    Value right = jinja_eval(r, s, n->kids[i]);
    r->at = n->kids[i];
    v = jinja_math(r, n->ops[i], v, right);
  }
  return v;
}

static Value eval_compare(Run *r, Scope *s, const Node *n) {
  Value left = jinja_eval(r, s, n->kids[0]);
  for (int i = 1; i < n->n && !r->failed; i++) {
    Value right = jinja_eval(r, s, n->kids[i]);
    r->at = n;
    if (!jinja_compare(r, n->ops[i], left, right)) return jinja_bool(false);
    left = right;
  }
  return jinja_bool(true);
}

static Value eval_concat(Run *r, Scope *s, const Node *n) {
  List *l;
  jinja_list(r, L_LIST, &l);
  for (int i = 0; i < n->n && !r->failed; i++) jinja_push(r, l, jinja_eval(r, s, n->kids[i]));
  r->at = n;
  return jinja_join(r, jinja_string("", 0), l, false);
}

static Value eval_logic(Run *r, Scope *s, const Node *n) {
  Value v = MISSING;
  for (int i = 0; i < n->n && !r->failed; i++) {
    v = jinja_eval(r, s, n->kids[i]);
    if (jinja_truth(v) == (n->kind == N_OR)) break;
  }
  return v;
}

static Value eval_slice(Run *r, Scope *s, const Node *n) {
  Value part[3], v = jinja_eval(r, s, n->a);
  for (int i = 0; i < 3; i++) part[i] = n->kids[i] ? jinja_eval(r, s, n->kids[i]) : MISSING;
  r->at = n;
  return jinja_slice(r, v, part[0], part[1], part[2]);
}

static Value eval_call(Run *r, Scope *s, const Node *n) {
  Value f = jinja_eval(r, s, n->a);
  Args args = jinja_args(r, s, n->args, n->nargs);
  r->at = n;
  return r->failed ? f : jinja_call(r, f, &args);
}

static Value eval_applied(Run *r, Scope *s, const Node *n) {
  Value in = jinja_eval(r, s, n->a);
  Args args = jinja_args(r, s, n->args, n->nargs);
  r->at = n;
  return r->failed ? in : jinja_call_row(r, n->row, n->kind == N_TEST ? "test" : "filter", in, &args);
}

static Value eval_sign(Run *r, Scope *s, const Node *n) {
  Value v = jinja_eval(r, s, n->a);
  int64_t i;
  r->at = n;
  if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  if (v.kind == V_FLOAT) return jinja_float(n->kind == N_NEGATE ? -v.f : v.f);
  if (!jinja_whole(v, &i)) return jinja_fail(r, "a sign before a value of type %s", jinja_type(v));
  return n->kind == N_NEGATE ? jinja_math(r, "-", jinja_int(0), jinja_int(i)) : jinja_int(i);
}

static Value eval_choose(Run *r, Scope *s, const Node *n) {
  if (jinja_truth(jinja_eval(r, s, n->b))) return jinja_eval(r, s, n->a);
  if (n->c) return jinja_eval(r, s, n->c);
  return jinja_undefined(r, "an 'if' without 'else' in an expression had a false condition");
}

static Value eval(Run *r, Scope *s, const Node *n) {
  Value v;
  r->at = n;
  switch ((NodeKind)n->kind) {
  case N_CONST: return n->value;
  case N_NAME: return jinja_lookup(r, s, n->name);
  case N_LIST:
  case N_TUPLE: return eval_list(r, s, n);
  case N_DICT: return eval_dict(r, s, n);
  case N_ATTR:
    v = jinja_eval(r, s, n->a);
    r->at = n;
    return jinja_attr(r, v, n->value);
  case N_ITEM: {
    v = jinja_eval(r, s, n->a);
    Value key = jinja_eval(r, s, n->b);
    r->at = n;
    return jinja_item(r, v, key);
  }
  case N_SLICE: return eval_slice(r, s, n);
  case N_CALL: return eval_call(r, s, n);
  case N_FILTER:
  case N_TEST: return eval_applied(r, s, n);
  case N_NOT: return jinja_bool(!jinja_truth(jinja_eval(r, s, n->a)));
  case N_NEGATE:
  case N_PLUS: return eval_sign(r, s, n);
  case N_AND:
  case N_OR: return eval_logic(r, s, n);
  case N_COMPARE: return eval_compare(r, s, n);
  case N_MATH: return eval_row(r, s, n);
  case N_CONCAT: return eval_concat(r, s, n);
  case N_CHOOSE: return eval_choose(r, s, n);
  default: return jinja_fail(r, "a statement in an expression's place");
  }
}

Value jinja_eval(Run *r, Scope *s, const Node *n) {
  if (!jinja_step(r, 1)) return NONE;
  Value v = NONE;
  if (++r->depth > JINJA_DEPTH)
    jinja_fail(r, "expressions, blocks and macros are nested more than %d deep", JINJA_DEPTH);
  else
    v = eval(r, s, n);
  r->depth--;
  return v;
}
