/* The verifier: what must hold of every module, whoever built it. Runs after every pass.
 *
 *   modules
 *     1. mesh axes and graphs have proper names (letters, digits, '_', '.', not a digit first), each once
 *     2. calls form no cycle; a region calls nothing, but for loops, whose body may be calls
 *   graphs
 *     3. values are numbered 1 .. nvals - 1 in order of definition, each defined once: by an input or by one node, whose
 *        results are consecutive
 *     4. an operand is defined before it is used
 *     5. every type is well formed (type_check.c); offsets of an input's segments are an input
 *     6. equal symbols have equal bounds throughout a graph
 *     7. a node's operands, attributes and result types are what shape inference allows and gives (infer*.c), so: dtypes
 *        fit, extents of equal letters are equal, elementwise operands have equal shapes, segments and placement, pending
 *        sums pass only through linear ops, a call's operands and results fit its callee
 *     8. inputs have proper names, each once; so have outputs
 *     9. an output named as an input has its type (it is the input's next value)
 *    10. a packed value is an input, read by contractions and calls alone
 *    11. spans are nowhere or in a source that the diagnostics know; their instances can be written
 *
 * Reports all that it finds, at the spans of the nodes. */
#include "ir/infer.h"

#include <stdlib.h>
#include <string.h>

static bool proper(const char *s) {
  if (!s || !s[0] || (s[0] >= '0' && s[0] <= '9') || s[0] == '.') return false;
  for (; *s; s++)
    if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_' || *s == '.'))
      return false;
  return true;
}

static bool fail(const Graph *g, Span at, const char *fmt, ...) PRINTF(3, 4);
static bool fail(const Graph *g, Span at, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *text = arena_vprintf(g->mod->arena, fmt, ap);
  va_end(ap);
  return diag_error(g->mod->diags, at, "@%s: %s", g->name, text);
}

static bool span_ok(const Graph *g, Span at) {
  if (at.in && !span_in_ok(at.in)) return fail(g, at, "'%s' is no instance for a span", at.in);
  return at.file <= (uint32_t)g->mod->diags->nsources || fail(g, (Span){0}, "a span in a source that is not known");
}

/* 3: definitions and uses agree with the value table. */
static bool check_numbers(const Graph *g) {
  bool ok = true;
  int64_t defined = 0;
  for (int i = 0; i < g->ninputs; i++) {
    Val v = g->inputs[i].val;
    if (v == 0 || v >= (Val)g->nvals || g->def[v] != -1 - i)
      return fail(g, g->inputs[i].span, "input %d does not define its value", i);
    defined++;
  }
  Val next = 1;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (n->op <= OP_NONE || n->op >= OP_COUNT) return fail(g, n->span, "node %d has no op", i);
    if (n->res < next || (int64_t)n->res + n->nres > g->nvals)
      return fail(g, n->span, "node %d (%s) is out of order", i, op_info[n->op].name);
    next = n->res + (Val)n->nres;
    for (Val v = n->res; v < next; v++)
      if (g->def[v] != i) return fail(g, n->span, "node %d (%s) does not define its results", i, op_info[n->op].name);
    defined += n->nres;
    for (int k = 0; k < n->nargs; k++)
      if (n->args[k] == 0 || n->args[k] >= n->res)
        ok = fail(g, n->span, "operand %d of node %d (%s) is not defined before", k + 1, i, op_info[n->op].name);
  }
  if (defined != g->nvals - 1)
    return fail(g, (Span){0}, "%d values, %lld definitions", g->nvals - 1, (long long)defined);
  return ok;
}

static Span val_span(const Graph *g, Val v) {
  return g->def[v] < 0 ? g->inputs[-1 - g->def[v]].span : g->nodes[g->def[v]].span;
}

typedef struct Symbol {
  const char *name;
  int64_t bound;
} Symbol;

/* 5 and 6. */
static bool check_types(const Graph *g) {
  bool ok = true;
  Symbol *sym = NULL;
  int nsym = 0, cap = 0;
  for (Val v = 1; v < (Val)g->nvals; v++) {
    const Type *t = &g->types[v];
    if (!type_check(g, *t, v, val_span(g, v), arena_printf(g->mod->arena, "@%s", g->name))) {
      ok = false;
      continue;
    }
    for (int i = 0; i < t->rank; i++) {
      const Dim *d = &t->dim[i];
      if (d->seg && g->def[v] < 0 && g->def[d->seg] >= 0)
        ok = fail(g, val_span(g, v), "the offsets of input %s are no input", g->inputs[-1 - g->def[v]].name);
      if (d->name && !proper(d->name)) ok = fail(g, val_span(g, v), "'%s' is no name for a dim", d->name);
      if (!d->sym) continue;
      int k = 0;
      while (k < nsym && sym[k].name != d->name) k++;
      if (k == nsym)
        PUSH(g->mod->arena, sym, nsym, cap, ((Symbol){d->name, d->n}));
      else if (sym[k].bound != d->n)
        ok = fail(g, val_span(g, v), "%s is bounded by %lld here and by %lld before", d->name, (long long)d->n,
                  (long long)sym[k].bound);
    }
  }
  return ok;
}

/* 10. */
static bool check_packed(const Graph *g, const Node *n) {
  for (int k = 0; k < n->nargs; k++)
    if (g->types[n->args[k]].panel &&
        (g->def[n->args[k]] >= 0 || (n->op != OP_call && !(n->op == OP_contract && k < 2))))
      return fail(g, n->span, "%s reads a packed value", op_info[n->op].name);
  for (int k = 0; k < n->nres; k++)
    if (g->types[n->res + (Val)k].panel) return fail(g, n->span, "%s makes a packed value", op_info[n->op].name);
  return true;
}

/* 4 was checked with 3; 7 and 11. */
static bool check_nodes(Graph *g) {
  bool ok = true;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    Type few[MAX_RESULTS], *out = few;
    int nout = 0;
    if (!span_ok(g, n->span)) ok = false;
    if (!check_packed(g, n)) ok = false;
    if (n->op == OP_call) {
      if (g->region && strcmp(g->region, "loop")) ok = fail(g, n->span, "a region calls nothing");
      const Attr *fn = node_attr(n, "fn");
      const Graph *callee = fn && fn->kind == ATTR_STR ? module_find(g->mod, fn->str) : NULL;
      if (callee && callee->noutputs > MAX_RESULTS) out = NEW_ARRAY(g->mod->arena, Type, callee->noutputs);
    }
    if (!infer_types(g, n->op, n->args, n->nargs, n->attrs, n->nattrs, n->nres ? &g->types[n->res] : NULL, n->span, out,
                     &nout)) {
      ok = false;
      continue;
    }
    if (nout != n->nres) {
      ok = fail(g, n->span, "%s has %d results, not %d", op_info[n->op].name, nout, n->nres);
      continue;
    }
    for (int k = 0; k < nout; k++)
      if (!type_eq(out[k], g->types[n->res + (Val)k]))
        ok = fail(g, n->span, "%s: result %d is recorded as %s, but it is %s", op_info[n->op].name, k + 1,
                  type_text(g, g->types[n->res + (Val)k]), type_text(g, out[k]));
  }
  return ok;
}

static int by_name(const void *x, const void *y) {
  uintptr_t a = (uintptr_t) * (const char *const *)x, b = (uintptr_t) * (const char *const *)y;
  return a < b ? -1 : a > b;
}

/* The name that occurs twice among n interned ones (which it sorts), or NULL. */
static const char *twice(const char **name, int n) {
  qsort(name, (size_t)n, sizeof *name, by_name);
  for (int i = 1; i < n; i++)
    if (name[i] == name[i - 1]) return name[i];
  return NULL;
}

/* 8 and 9. */
static bool check_names(const Graph *g) {
  bool ok = true;
  int most = g->ninputs > g->noutputs ? g->ninputs : g->noutputs;
  const char **name = NEW_ARRAY(g->mod->arena, const char *, most);
  for (int i = 0; i < g->ninputs; i++) {
    name[i] = g->inputs[i].name;
    if (!proper(name[i])) ok = fail(g, g->inputs[i].span, "'%s' is no name for an input", name[i]);
    if (!span_ok(g, g->inputs[i].span)) ok = false;
    if (g->inputs[i].kind > IN_STATE) ok = fail(g, g->inputs[i].span, "input %s has no kind", name[i]);
  }
  const char *dup = twice(name, g->ninputs);
  if (dup) ok = fail(g, graph_find_input(g, dup)->span, "two inputs are named %s", dup);
  for (int i = 0; i < g->noutputs; i++) {
    const Output *o = &g->outputs[i];
    name[i] = o->name;
    if (o->val == 0 || o->val >= (Val)g->nvals) {
      ok = fail(g, (Span){0}, "output %s is not a value", o->name);
      continue;
    }
    if (!proper(o->name)) ok = fail(g, val_span(g, o->val), "'%s' is no name for an output", o->name);
    const Input *in = graph_find_input(g, o->name);
    if (in && !type_eq(g->types[in->val], g->types[o->val]))
      ok = fail(g, val_span(g, o->val), "output %s is %s, the input of that name %s", o->name,
                type_text(g, g->types[o->val]), type_text(g, g->types[in->val]));
  }
  dup = twice(name, g->noutputs);
  if (dup) ok = fail(g, val_span(g, graph_find_output(g, dup)->val), "two outputs are named %s", dup);
  return ok;
}

/* 2, without recursion: graphs whose callees are all done are done; those that never get there form cycles. */
static bool check_calls(const Module *m) {
  bool *done = NEW_ARRAY(m->arena, bool, m->ngraphs);
  for (bool more = true; more;) {
    more = false;
    for (int i = 0; i < m->ngraphs; i++) {
      const Graph *g = m->graphs[i];
      bool ready = !done[i];
      for (int k = 0; ready && k < g->nnodes; k++) {
        const Attr *fn = g->nodes[k].op == OP_call ? node_attr(&g->nodes[k], "fn") : NULL;
        for (int j = 0; fn && ready && j < m->ngraphs; j++)
          if (m->graphs[j]->name == fn->str && !done[j]) ready = false;
      }
      if (ready) done[i] = more = true;
    }
  }
  for (int i = 0; i < m->ngraphs; i++)
    if (!done[i]) return fail(m->graphs[i], (Span){0}, "calls itself, directly or through others");
  return true;
}

static bool check_module(const Module *m) {
  bool ok = true;
  int most = m->ngraphs > MAX_AXES ? m->ngraphs : MAX_AXES;
  const char **name = NEW_ARRAY(m->arena, const char *, most), *dup;
  if (m->naxes < 0 || m->naxes > MAX_AXES) return diag_error(m->diags, (Span){0}, "mesh: %d axes", m->naxes);
  for (int i = 0; i < m->naxes; i++) {
    name[i] = m->mesh[i].name;
    if (!proper(name[i]) || m->mesh[i].n < 1)
      ok = diag_error(m->diags, (Span){0}, "mesh: axis %d has no proper name or size", i);
  }
  if ((dup = twice(name, m->naxes))) ok = diag_error(m->diags, (Span){0}, "mesh: two axes are named %s", dup);
  for (int i = 0; i < m->ngraphs; i++) {
    name[i] = m->graphs[i]->name;
    if (!proper(name[i])) ok = diag_error(m->diags, (Span){0}, "'%s' is no name for a graph", name[i]);
    if (m->graphs[i]->region && !proper(m->graphs[i]->region))
      ok = fail(m->graphs[i], (Span){0}, "'%s' is no kind of region", m->graphs[i]->region);
  }
  if ((dup = twice(name, m->ngraphs))) ok = diag_error(m->diags, (Span){0}, "two graphs are named %s", dup);
  return ok;
}

bool module_verify(const Module *m) {
  bool ok = check_module(m);
  for (int i = 0; i < m->ngraphs; i++) {
    Graph *g = m->graphs[i];
    /* each check relies on the one before */
    if (!check_numbers(g) || !check_types(g))
      ok = false;
    else if (!check_names(g) || !check_nodes(g))
      ok = false;
  }
  return check_calls(m) && ok;
}
