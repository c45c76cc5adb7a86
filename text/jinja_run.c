/* Statements: they write to Run.out and bind names. What a block or a macro catches is written there too, and taken off again.
 *
 * Names live in scopes as Jinja2's compiler has them: loops (each round anew), macros, `with`, caught and filtered blocks have
 * their own, `if` has none. */
#include "text/jinja.h"

#include <string.h>

typedef enum Flow { F_ON, F_BREAK, F_CONTINUE } Flow;
static Flow run(Run *r, Scope *s, const Node *n);

static Scope *inner(Run *r, Scope *up) {
  Scope *s = jinja_alloc(r, sizeof *s);
  s->up = up;
  return s;
}

static void print(Run *r, Value v) {
  size_t start = r->out->n;
  jinja_print(r, r->out, v);
  jinja_step(r, (r->out->n - start) / 64);
  jinja_room(r, r->out->n - r->start, 1);
}

static Value taken(Run *r, size_t start) {
  Value v = jinja_copy(r, r->out->s ? r->out->s + start : "", r->out->n - start);
  r->out->n = start;
  return v;
}

static Value caught(Run *r, Scope *s, const Node *n) {
  size_t start = r->out->n;
  run(r, inner(r, s), n);
  return taken(r, start);
}

static void assign(Run *r, Scope *s, const Node *to, Value v) {
  r->at = to;
  if (to->kind == N_NAME) {
    jinja_bind(r, s, to->name, v);
  } else if (to->kind == N_ATTR) {
    Value ns = jinja_lookup(r, s, to->a->name);
    if (ns.kind != V_NAMESPACE)
      jinja_fail(r, "an attribute is set of a value of type %s: only namespaces have any", jinja_type(ns));
    else if (to->value.n && to->value.s[0] == '_')
      jinja_fail(r, "attributes of a namespace cannot begin with '_'");
    else
      jinja_put(r, ns.dict, to->value, v);
  } else {
    List *items = jinja_items(r, v);
    if (!r->failed && items->n != to->n) jinja_fail(r, "%d values for %d names", items->n, to->n);
    for (int i = 0; i < to->n && !r->failed; i++) assign(r, s, to->kids[i], items->v[i]);
  }
}

/* ---- loops */

/* Reads on until there is an item `index`; the loop's `if` is asked only then. */
bool jinja_loop_next(Run *r, Loop *l, int index) {
  while (l->kept.n <= index && l->next < l->items->n && jinja_step(r, 1)) {
    Value v = l->items->v[l->next++];
    if (l->node->c) {
      Scope *s = inner(r, l->scope);
      assign(r, s, l->node->a, v);
      if (!jinja_truth(jinja_eval(r, s, l->node->c))) continue;
    }
    jinja_push(r, &l->kept, v);
  }
  return !r->failed && index < l->kept.n;
}

Value jinja_loop_attr(Run *r, Loop *l, const char *name) {
  static const char *const names[] = {"index",     "index0", "first",  "last",     "length",  "revindex",
                                      "revindex0", "depth",  "depth0", "previtem", "nextitem"};
  int which = 0;
  while (which < LEN(names) && strcmp(names[which], name)) which++;
  if (which >= 4 && which <= 6) jinja_loop_next(r, l, INT32_MAX - 1);
  switch (which) {
  case 0: return jinja_int(l->at + 1);
  case 1: return jinja_int(l->at);
  case 2: return jinja_bool(l->at == 0);
  case 3: return jinja_bool(!jinja_loop_next(r, l, l->at + 1));
  case 4: return jinja_int(l->kept.n);
  case 5: return jinja_int(l->kept.n - l->at);
  case 6: return jinja_int(l->kept.n - l->at - 1);
  case 7: return jinja_int(l->depth);
  case 8: return jinja_int(l->depth - 1);
  case 9: return l->at ? l->kept.v[l->at - 1] : jinja_undefined(r, "there is no previous item");
  case 10: return jinja_loop_next(r, l, l->at + 1) ? l->kept.v[l->at + 1] : jinja_undefined(r, "there is no next item");
  }
  return MISSING;
}

static Flow run_for(Run *r, Scope *s, const Node *n) {
  Value v = jinja_eval(r, s, n->b);
  r->at = n;
  if (v.kind == V_UNDEFINED && r->failed) return F_ON;
  Loop *l = jinja_alloc(r, sizeof *l);
  *l = (Loop){.items = jinja_items(r, v), .node = n, .scope = s, .depth = 1, .changed = MISSING};
  bool whole = false; /* a round that ran to its end; `else` is for loops without one, as Jinja2 compiles it */
  for (; jinja_loop_next(r, l, l->at); l->at++) {
    Scope *round = inner(r, s);
    jinja_bind(r, round, NAME_LOOP, (Value){.kind = V_LOOP, .loop = l});
    assign(r, round, n->a, l->kept.v[l->at]);
    Flow flow = run(r, round, n->body);
    if (flow == F_BREAK) break;
    whole = whole || flow == F_ON;
  }
  return !whole && n->other ? run(r, inner(r, s), n->other) : F_ON;
}

/* ---- macros */

Value jinja_call_macro(Run *r, const Macro *m, const Args *args) {
  const Node *n = m->node;
  Scope *s = inner(r, m->scope);
  Dict *rest;
  List *more;
  Value others = jinja_dict(r, &rest), plain = jinja_list(r, L_TUPLE, &more), caller = MISSING;
  Value *given = jinja_alloc(r, sizeof *given * (size_t)(n->nparams + 1));
  for (int i = 0; i < args->n && jinja_step(r, 1); i++) {
    if (i < n->nparams)
      given[i] = args->v[i];
    else
      jinja_push(r, more, args->v[i]);
  }
  for (int i = 0; i < args->nnamed && jinja_step(r, 1); i++) {
    Value name = args->named[i].key;
    int k = args->n < n->nparams ? args->n : n->nparams;
    while (k < n->nparams && !jinja_equal(r, n->params[k].text, name)) k++;
    if (k < n->nparams)
      given[k] = args->named[i].value;
    else if ((n->uses & USES_CALLER) && jinja_is(name, "caller"))
      caller = args->named[i].value;
    else
      jinja_put(r, rest, name, args->named[i].value);
  }
  if (more->n && !(n->uses & USES_VARARGS))
    return jinja_fail(r, "the macro '%s' takes %d arguments, not %d", m->name, n->nparams, args->n);
  if (rest->n && !(n->uses & USES_KWARGS))
    return jinja_fail(r, "the macro '%s' has no argument '%.*s'", m->name,
                      (int)(rest->v[0].key.n < 80 ? rest->v[0].key.n : 80), rest->v[0].key.s);
  if (n->uses & USES_CALLER) {
    if (caller.kind == V_MISSING) caller = jinja_undefined(r, "no caller: the macro was not called by 'call'");
    jinja_bind(r, s, NAME_CALLER, caller);
  }
  if (n->uses & USES_KWARGS) jinja_bind(r, s, NAME_KWARGS, others);
  if (n->uses & USES_VARARGS) jinja_bind(r, s, NAME_VARARGS, plain);
  for (int i = 0; i < n->nparams && jinja_step(r, 1); i++) {
    Value text = n->params[i].text, v = given[i];
    if (v.kind == V_MISSING)
      v = jinja_undefined(r, "the parameter '%.*s' was not given", (int)(text.n < 80 ? text.n : 80), text.s);
    jinja_bind(r, s, n->params[i].name, v);
  }
  for (int i = 0; i < n->nparams && !r->failed; i++) /* which may name the parameters, those that follow too */
    if (given[i].kind == V_MISSING && n->params[i].fallback)
      jinja_bind(r, s, n->params[i].name, jinja_eval(r, s, n->params[i].fallback));
  size_t start = r->out->n;
  run(r, s, n->body);
  return taken(r, start);
}

static Value macro(Run *r, Scope *s, const Node *n) {
  Macro *m = jinja_alloc(r, sizeof *m);
  *m = (Macro){n, s, jinja_copy(r, n->value.s, n->value.n).s};
  return (Value){.kind = V_MACRO, .macro = m};
}

static void run_caller(Run *r, Scope *s, const Node *n) {
  Value f = jinja_eval(r, s, n->a->a);
  Args args = jinja_args(r, s, n->a->args, n->a->nargs);
  Pair *named = jinja_alloc(r, sizeof *named * (size_t)(args.nnamed + 1));
  if (args.nnamed) memcpy(named, args.named, sizeof *named * (size_t)args.nnamed);
  named[args.nnamed++] = (Pair){n->value, macro(r, s, n)};
  args.named = named;
  r->at = n;
  if (!r->failed) print(r, jinja_call(r, f, &args));
}

/* ---- the rest */

static Flow run_if(Run *r, Scope *s, const Node *n) {
  for (int i = 0; i + 1 < n->n && !r->failed; i += 2)
    if (!n->kids[i] || jinja_truth(jinja_eval(r, s, n->kids[i]))) return r->failed ? F_ON : run(r, s, n->kids[i + 1]);
  return F_ON;
}

static Flow run_with(Run *r, Scope *s, const Node *n) {
  Scope *in = inner(r, s);
  for (int i = 0; i + 1 < n->n && !r->failed; i += 2) {
    Value v = jinja_eval(r, s, n->kids[i + 1]); /* values are of the scope around */
    assign(r, in, n->kids[i], v);
  }
  return run(r, in, n->body);
}

/* `filters` end in a node without input, which the caught text is. */
static Value filtered(Run *r, Scope *s, const Node *f, Value v) {
  if (!f) return v;
  v = filtered(r, s, f->a, v);
  Args args = jinja_args(r, s, f->args, f->nargs);
  r->at = f;
  return r->failed ? v : jinja_call_row(r, f->row, "filter", v, &args);
}

static Flow run_one(Run *r, Scope *s, const Node *n) {
  r->at = n;
  switch ((NodeKind)n->kind) {
  case N_DATA: print(r, n->value); break;
  case N_OUTPUT: {
    Value v = jinja_eval(r, s, n->a);
    r->at = n;
    if (!r->failed) print(r, v);
    break;
  }
  case N_IF: return run_if(r, s, n);
  case N_FOR: return run_for(r, s, n);
  case N_SET: assign(r, s, n->a, jinja_eval(r, s, n->b)); break;
  case N_CATCH: assign(r, s, n->a, filtered(r, s, n->b, caught(r, s, n->body))); break;
  case N_WITH: return run_with(r, s, n);
  case N_MACRO: jinja_bind(r, s, n->name, macro(r, s, n)); break;
  case N_CALLER: run_caller(r, s, n); break;
  case N_FILTERED: print(r, filtered(r, s, n->b, caught(r, s, n->body))); break;
  case N_SCOPE: run(r, inner(r, s), n->body); break;
  case N_BREAK: return F_BREAK;
  case N_CONTINUE: return F_CONTINUE;
  default: jinja_fail(r, "an expression in a statement's place");
  }
  return F_ON;
}

static Flow run(Run *r, Scope *s, const Node *n) {
  Flow flow = F_ON;
  if (++r->depth > JINJA_DEPTH)
    jinja_fail(r, "expressions, blocks and macros are nested more than %d deep", JINJA_DEPTH);
  for (; n && flow == F_ON && jinja_step(r, 1); n = n->next) flow = run_one(r, s, n);
  r->depth--;
  return flow;
}

void jinja_run(Run *r, Scope *s, const Node *body) {
  run(r, s, body);
}
