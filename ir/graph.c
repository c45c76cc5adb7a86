/* Modules and graphs: building. Nodes are appended and never edited; value numbers rise in order of definition.
 *
 * Must hold: types[v] and def[v] exist for every v below nvals; the results of a node are consecutive values. */
#include "ir/infer.h"

#include <string.h>

const char *const input_kind_name[] = {[IN_DATA] = "data", [IN_PARAM] = "param", [IN_STATE] = "state"};

Module *module_new(Arena *a, Diags *d, const char *name) {
  Module *m = NEW(a, Module);
  m->arena = a;
  m->diags = d;
  m->name = intern(name);
  return m;
}

Graph *module_find(const Module *m, const char *name) {
  name = intern(name);
  for (int i = 0; i < m->ngraphs; i++)
    if (m->graphs[i]->name == name) return m->graphs[i];
  return NULL;
}

Graph *graph_new(Module *m, const char *name) {
  Graph *g = NEW(m->arena, Graph);
  g->name = intern(name);
  g->mod = m;
  g->nvals = 1;
  g->cap_vals = 16;
  g->types = NEW_ARRAY(m->arena, Type, g->cap_vals);
  g->def = NEW_ARRAY(m->arena, int32_t, g->cap_vals);
  PUSH(m->arena, m->graphs, m->ngraphs, m->cap_graphs, g);
  return g;
}

/* types and def grow together. */
static Val val_new(Graph *g, Type t, int32_t def) {
  if (g->nvals == g->cap_vals) {
    int cap = g->cap_vals;
    g->types = arena_grow(g->mod->arena, g->types, sizeof *g->types, g->nvals, &cap);
    g->def = arena_grow(g->mod->arena, g->def, sizeof *g->def, g->nvals, &g->cap_vals);
  }
  g->types[g->nvals] = t;
  g->def[g->nvals] = def;
  return (Val)g->nvals++;
}

Val graph_input(Graph *g, const char *name, InputKind kind, Type t, Span at) {
  Input in = {intern(name), kind, kind == IN_PARAM, val_new(g, t, -1 - g->ninputs), at};
  PUSH(g->mod->arena, g->inputs, g->ninputs, g->cap_inputs, in);
  return in.val;
}

void graph_output(Graph *g, const char *name, Val v) {
  Output o = {intern(name), v};
  PUSH(g->mod->arena, g->outputs, g->noutputs, g->cap_outputs, o);
}

Val graph_add(Graph *g, OpKind op, const Val *args, int nargs, const Attr *attrs, int nattrs, const Type *want,
              Span at) {
  Arena *a = g->mod->arena;
  for (int i = 0; i < nargs; i++)
    if (args[i] == 0 && g->mod->diags->n > 0) return 0; /* the operand's own error is on the list already */
  Type few[MAX_RESULTS], *out = few;
  int nout = 0;
  if (op == OP_call) { /* as many results as the callee has outputs */
    for (int i = 0; i < nattrs; i++)
      if (attrs[i].kind == ATTR_STR && strcmp(attrs[i].name, "fn") == 0) {
        const Graph *callee = module_find(g->mod, attrs[i].str);
        if (callee && callee->noutputs > MAX_RESULTS) out = NEW_ARRAY(a, Type, callee->noutputs);
      }
  }
  if (!infer_types(g, op, args, nargs, attrs, nattrs, want, at, out, &nout)) return 0;
  Node n = {.op = op, .nargs = nargs, .nres = nout, .nattrs = nattrs, .span = at, .res = (Val)g->nvals};
  n.args = NEW_ARRAY(a, Val, nargs);
  n.attrs = NEW_ARRAY(a, Attr, nattrs);
  if (nargs) memcpy(n.args, args, sizeof(Val) * (size_t)nargs);
  if (nattrs) memcpy(n.attrs, attrs, sizeof(Attr) * (size_t)nattrs);
  for (int i = 0; i < nout; i++) val_new(g, out[i], g->nnodes);
  PUSH(a, g->nodes, g->nnodes, g->cap_nodes, n);
  return n.res;
}

Val graph_ew(Graph *g, OpKind op, Val a, Val b, Val c, Span at) {
  return graph_add(g, op, (Val[]){a, b, c}, op_info[op].nargs, NULL, 0, NULL, at);
}

Val graph_const(Graph *g, double value, Span at) {
  Attr v = attr_num("value", value);
  return graph_add(g, OP_const, NULL, 0, &v, 1, NULL, at);
}

Val graph_contract(Graph *g, const char *rule, Val a, Val b, Span at) {
  Attr r = attr_str("rule", rule);
  return graph_add(g, OP_contract, (Val[]){a, b}, 2, &r, 1, NULL, at);
}

/* A sum node takes all of the trailing axes or none that includes the last; any set is at most one of each. */
Val graph_sum(Graph *g, Val x, int naxes, const int64_t *axes, Span at) {
  if (x == 0 || naxes == 0) return x;
  int rank = g->types[x].rank;
  bool in[MAX_RANK] = {false};
  for (int i = 0; i < naxes; i++) {
    if (axes[i] < 0 || axes[i] >= rank || in[axes[i]]) {
      diag_error(g->mod->diags, at, "sum: axis %lld %s of %s", (long long)axes[i],
                 axes[i] >= 0 && axes[i] < rank ? "is given twice" : "is not an axis", type_text(g, g->types[x]));
      return 0;
    }
    in[axes[i]] = true;
  }
  int first = rank; /* of the trailing run */
  while (first > 0 && in[first - 1]) first--;
  int64_t part[MAX_RANK];
  int n = 0;
  for (int k = first; k < rank; k++) part[n++] = k;
  if (n) {
    Attr t = attr_ints("axes", n, part);
    x = graph_add(g, OP_sum, &x, 1, &t, 1, NULL, at);
  }
  n = 0;
  for (int k = 0; k < first; k++)
    if (in[k]) part[n++] = k;
  if (n && x) {
    Attr t = attr_ints("axes", n, part);
    x = graph_add(g, OP_sum, &x, 1, &t, 1, NULL, at);
  }
  return x;
}

Val graph_broadcast(Graph *g, Val x, Type to, const int64_t *axes, Span at) {
  if (x == 0) return 0;
  Attr t = attr_ints("axes", g->types[x].rank, axes);
  return graph_add(g, OP_broadcast, &x, 1, &t, 1, &to, at);
}

Attr attr_int(const char *name, int64_t v) {
  return (Attr){.name = intern(name), .kind = ATTR_INT, .i = v};
}

Attr attr_num(const char *name, double v) {
  return (Attr){.name = intern(name), .kind = ATTR_NUM, .num = v};
}

Attr attr_str(const char *name, const char *v) {
  return (Attr){.name = intern(name), .kind = ATTR_STR, .str = intern(v)};
}

Attr attr_ints(const char *name, int n, const int64_t *v) {
  Attr a = {.name = intern(name), .kind = ATTR_INTS, .n = n < MAX_RANK ? n : MAX_RANK};
  for (int i = 0; i < a.n; i++) a.ints[i] = v[i];
  return a;
}

const Attr *node_attr(const Node *n, const char *name) {
  for (int i = 0; i < n->nattrs; i++)
    if (strcmp(n->attrs[i].name, name) == 0) return &n->attrs[i];
  return NULL;
}

const Input *graph_find_input(const Graph *g, const char *name) {
  for (int i = 0; i < g->ninputs; i++)
    if (strcmp(g->inputs[i].name, name) == 0) return &g->inputs[i];
  return NULL;
}

const Output *graph_find_output(const Graph *g, const char *name) {
  for (int i = 0; i < g->noutputs; i++)
    if (strcmp(g->outputs[i].name, name) == 0) return &g->outputs[i];
  return NULL;
}
