/* Delta debugging of modules (Zeller and Hildebrandt 2002): steps that make a module smaller are tried in turn, those for
 * which the fault is still there are kept, until none helps.
 *
 *   graph      leaves, with what only it called
 *   outputs    leave, with what only they needed; many at once, then fewer
 *   cut        nodes become inputs of their results' types; likewise
 *   hoist      an output becomes an operand of the node that made it
 *   bypass     a node's users take one of its operands instead, where the types are equal
 *   extent     every extent n of the module becomes 1, n / 2 or n - 1; symbolic ones become constants
 *
 * A step builds the module anew, node by node; what does not infer or verify is no candidate, so a step need not know the
 * ops. Diagnostics of failed candidates go with their arenas. */
#include "check/check.h"
#include "passes/rewrite.h"
#include "runtime/machine.h"
#include <stdio.h>
#include <string.h>

typedef enum ShrinkKind {
  SHRINK_GRAPH,
  SHRINK_OUTPUT,
  SHRINK_CUT,
  SHRINK_HOIST,
  SHRINK_BYPASS,
  SHRINK_EXTENT,
  SHRINK_CONSTANT,
  SHRINK_KINDS
} ShrinkKind;

typedef struct Step {
  ShrinkKind kind;
  int graph, at, last, to; /* at..last: outputs, nodes; to: operand */
  int64_t from, n;         /* extents */
} Step;

static Type resized(const Step *s, Type t) {
  for (int i = 0; i < t.rank; i++) {
    if (s->kind == SHRINK_EXTENT && t.dim[i].n == s->from) t.dim[i].n = s->n;
    if (s->kind == SHRINK_CONSTANT) t.dim[i].sym = false;
  }
  return t;
}

static bool within(const Step *s, bool mine, ShrinkKind kind, int i) {
  return mine && s->kind == kind && i >= s->at && i <= s->last;
}

static bool called(const Module *m, const char *name, int without) {
  for (int i = 0; i < m->ngraphs; i++)
    for (int k = 0; i != without && k < m->graphs[i]->nnodes; k++) {
      const Node *n = &m->graphs[i]->nodes[k];
      if (n->op == OP_call && !strcmp(node_attr(n, "fn")->str, name)) return true;
    }
  return false;
}

/* The value of output o after the step. */
static Val output_of(const Graph *g, const Step *s, bool mine, int o) {
  Val v = g->outputs[o].val;
  return within(s, mine, SHRINK_HOIST, o) ? val_node(g, v)->args[s->to] : v;
}

/* Nodes and outputs of one graph into `into`; false: it does not build. */
static bool copy_graph(Module *into, const Graph *g, const Step *s, bool mine) {
  Rewrite r = rewrite_empty(into, g, g->name);
  r.to->region = g->region;
  bool *live = NEW_ARRAY(into->arena, bool, g->nvals);
  for (int o = 0; o < g->noutputs; o++) live[output_of(g, s, mine, o)] |= !within(s, mine, SHRINK_OUTPUT, o);
  for (int i = g->nnodes - 1; i >= 0; i--) {
    const Node *n = &g->nodes[i];
    bool needed = false;
    for (int k = 0; k < n->nres; k++) needed = needed || live[n->res + (Val)k];
    for (int k = 0; k < n->nres; k++) live[n->res + (Val)k] = needed;
    bool cut = within(s, mine, SHRINK_CUT, i), bypass = within(s, mine, SHRINK_BYPASS, i);
    for (int k = 0; needed && !cut && k < n->nargs; k++)
      if (!bypass || k == s->to) live[n->args[k]] = true;
    for (int k = 0; needed && k < n->nres; k++) /* offsets of segments stay */
      for (int j = 0; j < g->types[n->res + (Val)k].rank; j++)
        if (g->types[n->res + (Val)k].dim[j].seg) live[g->types[n->res + (Val)k].dim[j].seg] = true;
  }
  for (int i = 0; i < g->ninputs; i++) {
    Type t = val_type(g, g->inputs[i].val);
    for (int j = 0; live[g->inputs[i].val] && j < t.rank; j++)
      if (t.dim[j].seg) live[t.dim[j].seg] = true;
  }
  for (int i = 0; i < g->ninputs; i++) {
    const Input *in = &g->inputs[i];
    if (!live[in->val] && !(g->region && called(g->mod, g->name, -1))) continue;
    Val v = graph_input(r.to, in->name, in->kind, resized(s, rewrite_type(&r, val_type(g, in->val))), in->span);
    if (!v) return false;
    r.to->inputs[r.to->ninputs - 1].decay = in->decay;
    r.map[in->val] = v;
  }
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (!live[n->res]) continue;
    if (within(s, mine, SHRINK_BYPASS, i)) {
      r.map[n->res] = r.map[n->args[s->to]];
      continue;
    }
    Val args[64];
    Type want[64];
    if (n->nargs > LEN(args) || n->nres > LEN(want)) return false;
    for (int k = 0; k < n->nres; k++) want[k] = resized(s, rewrite_type(&r, val_type(g, n->res + (Val)k)));
    if (within(s, mine, SHRINK_CUT, i)) {
      for (int k = 0; k < n->nres; k++) {
        char name[32];
        snprintf(name, sizeof name, "c%u", (unsigned)(n->res + (Val)k));
        if (graph_find_input(r.to, name) || graph_find_output(g, name)) return false;
        InputKind kind = strcmp(g->name, "forward") || want[k].dt == DT_i32 ? IN_DATA : IN_PARAM;
        if (!(r.map[n->res + (Val)k] = graph_input(r.to, name, kind, want[k], n->span))) return false;
      }
      continue;
    }
    for (int k = 0; k < n->nargs; k++)
      if (!(args[k] = r.map[n->args[k]])) return false;
    Val v = graph_add(r.to, n->op, args, n->nargs, n->attrs, n->nattrs, want, n->span);
    if (!v) return false;
    for (int k = 0; k < n->nres; k++) r.map[n->res + (Val)k] = v + (Val)k;
  }
  int left = 0;
  for (int o = 0; o < g->noutputs; o++) {
    Val v = r.map[output_of(g, s, mine, o)];
    if (within(s, mine, SHRINK_OUTPUT, o)) continue;
    if (!v) return false;
    graph_output(r.to, g->outputs[o].name, v);
    left++;
  }
  return left > 0;
}

typedef struct Apply {
  const Module *from;
  Module *to;
  const Step *step;
  bool *done; /* by graph */
} Apply;

static bool leaves(const Apply *x, int i) {
  const Step *s = x->step;
  const char *name = x->from->graphs[i]->name;
  if (s->kind != SHRINK_GRAPH) return false;
  return s->graph == i || (x->from->graphs[i]->region && called(x->from, name, -1) && !called(x->from, name, s->graph));
}

/* Callees come before their callers, whose results depend on theirs. */
static bool apply_graph(Apply *x, int i) {
  const Graph *g = x->from->graphs[i];
  if (x->done[i] || leaves(x, i)) return true;
  x->done[i] = true;
  for (int k = 0; k < g->nnodes; k++)
    for (int j = 0; g->nodes[k].op == OP_call && j < x->from->ngraphs; j++)
      if (!strcmp(x->from->graphs[j]->name, node_attr(&g->nodes[k], "fn")->str) && !apply_graph(x, j)) return false;
  bool all = x->step->kind == SHRINK_EXTENT || x->step->kind == SHRINK_CONSTANT;
  return copy_graph(x->to, g, x->step, all || x->step->graph == i);
}

/* Into the order of the text. */
static void reorder(const Module *from, Module *to) {
  int at = 0;
  for (int i = 0; i < from->ngraphs; i++)
    for (int k = at; k < to->ngraphs; k++)
      if (to->graphs[k]->name == from->graphs[i]->name) {
        Graph *g = to->graphs[k];
        for (; k > at; k--) to->graphs[k] = to->graphs[k - 1];
        to->graphs[at++] = g;
      }
}

/* The module after the step, in an arena of its own (m->arena); NULL: no module. Places in the model stay. */
static Module *apply(const Module *m, const Step *s) {
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  Module *out = module_new(a, d, m->name);
  Apply x = {m, out, s, NEW_ARRAY(a, bool, m->ngraphs + 1)};
  bool ok = true;
  for (int i = 0; i < m->diags->nsources; i++) diags_source(d, m->diags->sources[i].path, "", 0);
  memcpy(out->mesh, m->mesh, sizeof out->mesh);
  out->naxes = m->naxes;
  out->compute = m->compute;
  for (int i = 0; i < m->ngraphs && ok; i++) ok = apply_graph(&x, i);
  reorder(m, out);
  if (ok && out->ngraphs && module_verify(out) && !d->n) return out;
  arena_free(a);
  return NULL;
}

/* ---- the search */

typedef struct Search {
  const Module *now;
  Module *mine; /* now, when a step made it; else NULL */
  StillFn still;
  void *ctx;
  double until; /* seconds of machine_seconds() */
} Search;

static bool try_step(Search *x, const Step *s) {
  if (machine_seconds() > x->until) return false;
  Module *m = apply(x->now, s);
  if (!m) return false;
  if (!x->still(x->ctx, m)) {
    arena_free(m->arena);
    return false;
  }
  if (x->mine) arena_free(x->mine->arena);
  x->now = x->mine = m;
  return true;
}

static bool try_nodes(Search *x, ShrinkKind kind) {
  bool any = false;
  for (int g = 0; g < x->now->ngraphs; g++)
    for (int i = x->now->graphs[g]->nnodes - 1; i >= 0; i--) {
      if (i >= x->now->graphs[g]->nnodes) continue;
      const Node *n = &x->now->graphs[g]->nodes[i];
      int ways = kind == SHRINK_CUT ? 1 : n->nargs;
      for (int k = 0; k < ways; k++) {
        if (kind == SHRINK_BYPASS &&
            !type_eq(val_type(x->now->graphs[g], n->args[k]), val_type(x->now->graphs[g], n->res)))
          continue;
        if (!try_step(x, &(Step){.kind = kind, .graph = g, .at = i, .last = i, .to = k})) continue;
        any = true;
        break;
      }
    }
  return any;
}

static int count_of(const Graph *g, ShrinkKind kind) {
  return kind == SHRINK_OUTPUT ? g->noutputs : g->nnodes;
}

/* Many at once: halves, quarters and so on down to `least` of a graph's nodes or outputs. */
static bool try_runs(Search *x, ShrinkKind kind, int least) {
  bool any = false;
  for (int g = 0; g < x->now->ngraphs; g++)
    for (int size = (count_of(x->now->graphs[g], kind) + 1) / 2; size >= least; size = size == 1 ? 0 : (size + 1) / 2)
      for (int last = count_of(x->now->graphs[g], kind) - 1; last >= 0; last -= size) {
        int n = count_of(x->now->graphs[g], kind);
        if (last >= n) last = n - 1;
        int first = last - size + 1 < 0 ? 0 : last - size + 1;
        if (kind == SHRINK_OUTPUT && n == last - first + 1) continue;
        any |= try_step(x, &(Step){.kind = kind, .graph = g, .at = first, .last = last});
      }
  return any;
}

static bool try_hoists(Search *x) {
  bool any = false;
  for (int g = 0; g < x->now->ngraphs; g++)
    for (int o = 0; o < x->now->graphs[g]->noutputs; o++)
      for (int k = 0;; k++) {
        const Graph *now = x->now->graphs[g];
        const Node *n = val_node(now, now->outputs[o].val);
        if (!n || k >= n->nargs) break;
        if (!try_step(x, &(Step){.kind = SHRINK_HOIST, .graph = g, .at = o, .last = o, .to = k})) continue;
        any = true;
        k = -1; /* on from there */
      }
  return any;
}

static bool try_graphs(Search *x) {
  bool any = false;
  for (int g = x->now->ngraphs - 1; g >= 0 && x->now->ngraphs > 1; g--)
    if (g < x->now->ngraphs) any |= try_step(x, &(Step){.kind = SHRINK_GRAPH, .graph = g});
  return any;
}

static bool next_extent(const Module *m, int64_t above, int64_t *out) {
  bool found = false;
  for (int g = 0; g < m->ngraphs; g++)
    for (int v = 1; v < m->graphs[g]->nvals; v++)
      for (int i = 0; i < m->graphs[g]->types[v].rank; i++) {
        int64_t n = m->graphs[g]->types[v].dim[i].n;
        if (n > above && (!found || n < *out)) *out = n, found = true;
      }
  return found;
}

static bool try_extents(Search *x) {
  bool any = false;
  for (int64_t n = 1; next_extent(x->now, n, &n);) {
    int64_t smaller[] = {1, n / 2, n - n / 4, n - 1};
    for (int i = 0; i < LEN(smaller); i++)
      if (smaller[i] >= 1 && smaller[i] < n &&
          try_step(x, &(Step){.kind = SHRINK_EXTENT, .graph = -1, .from = n, .n = smaller[i]})) {
        any = true;
        break;
      }
  }
  return any;
}

static bool has_symbols(const Module *m) {
  for (int g = 0; g < m->ngraphs; g++)
    for (int v = 1; v < m->graphs[g]->nvals; v++)
      for (int i = 0; i < m->graphs[g]->types[v].rank; i++)
        if (m->graphs[g]->types[v].dim[i].sym) return true;
  return false;
}

Module *shrink_module(const Module *m, Arena *a, double seconds, StillFn still, void *ctx) {
  Search x = {m, NULL, still, ctx, machine_seconds() + seconds};
  bool any = true;
  for (int round = 0; any && round < 12; round++) {
    any = try_graphs(&x);
    any |= try_runs(&x, SHRINK_OUTPUT, 1);
    any |= try_runs(&x, SHRINK_CUT, 3);
    any |= try_hoists(&x);
    any |= try_nodes(&x, SHRINK_CUT);
    any |= try_nodes(&x, SHRINK_BYPASS);
    any |= has_symbols(x.now) && try_step(&x, &(Step){.kind = SHRINK_CONSTANT, .graph = -1});
    any |= try_extents(&x);
  }
  Text t = {0};
  module_print(x.now, true, &t);
  Module *out = module_reread(a, diags_new(a), t.s);
  text_free(&t);
  if (x.mine && out) arena_free(x.mine->arena);
  return out ? out : x.mine; /* a fault of the text form itself: it stays in memory */
}
