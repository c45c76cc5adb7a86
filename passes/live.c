/* What a graph of calls keeps in memory: lifetimes of values and their sum at every place of an order.
 *
 * A value lives from the call that makes it to the last that reads it, itself or through a reshape. It has no bytes of its own
 * if it is an input, a constant table, or an output: outputs are written where they stay, if nothing there is to be read any more, and
 * so is what an update in place turns into one (a gradient's sum). A result takes over the bytes of an operand that ends with it and may be written over
 * (region_alias). While a loop runs its operands and results stay, and what one turn of its body needs comes on top.
 *
 * Bytes of symbolic extents count at their bounds, as in the plan. */
#include "passes/live.h"
#include <string.h>

static const Graph *callee(const Graph *g, const Node *n) {
  return n->op == OP_call ? module_find(g->mod, node_attr(n, "fn")->str) : NULL;
}

static bool is_loop(const Graph *c, const Node *n) {
  return c && (node_attr(n, "count") || (c->region && !strcmp(c->region, "loop")));
}

bool live_is_loop(const Graph *g, const Node *n) {
  return is_loop(callee(g, n), n);
}

Aliases live_aliases(const Graph *region, Arena *a) {
  unsigned char *table = NEW_ARRAY(a, unsigned char, region->noutputs * region->ninputs + 1);
  for (int o = 0; o < region->noutputs; o++)
    for (int i = 0; i < region->ninputs; i++)
      table[o * region->ninputs + i] = (unsigned char)region_alias(region, o, i);
  return table;
}

/* What a loop carries on has one name, as its operand and its result. */
static Aliases loop_aliases(const Graph *c, Arena *a) {
  unsigned char *table = NEW_ARRAY(a, unsigned char, c->noutputs * c->ninputs + 1);
  for (int o = 0; o < c->noutputs; o++)
    for (int i = 0; i < c->ninputs; i++)
      if (!strcmp(c->outputs[o].name, c->inputs[i].name)) table[o * c->ninputs + i] = REGION_MUST;
  return table;
}

static void find_aliases(Live *l, Arena *a) {
  const Graph *g = l->g;
  struct Known {
    const Graph *c;
    bool loop;
    Aliases alias;
  } *known = NULL;
  int nknown = 0, cap = 0;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    struct Known k = {.c = callee(g, n)};
    if (!k.c || k.c->ninputs != n->nargs || k.c->noutputs != n->nres) continue;
    k.loop = is_loop(k.c, n);
    int at = 0;
    while (at < nknown && !(known[at].c == k.c && known[at].loop == k.loop)) at++;
    if (at == nknown) {
      k.alias = k.loop ? loop_aliases(k.c, a) : live_aliases(k.c, a);
      PUSH(a, known, nknown, cap, k);
    }
    l->alias[i] = known[at].alias;
  }
}

static int carried(const Live *l, const Node *n, int result) {
  Aliases alias = l->alias[n - l->g->nodes];
  for (int k = 0; alias && k < n->nargs; k++)
    if (alias[result * n->nargs + k] == REGION_MUST) return k;
  return -1;
}

bool live_carried(const Live *l, int node, int result) {
  return carried(l, &l->g->nodes[node], result) >= 0;
}

/* Can the root be written straight to where input x is? Not while x is still to be read, nor by a kernel that reads it in
 * another order. */
static bool writable(const Live *l, Val root, Val x, const int *last) {
  int at = l->g->def[root];
  const Node *n = &l->g->nodes[at];
  if (last[x] > 1 + at) return false;
  for (int k = 0; k < n->nargs && l->alias[at]; k++)
    if (l->root[n->args[k]] == x && l->alias[at][(int)(root - n->res) * n->nargs + k] == REGION_NONE) return false;
  return true;
}

static void find_elsewhere(Live *l, Arena *a) {
  const Graph *g = l->g;
  int *last = NEW_ARRAY(a, int, g->nvals);    /* by root: 1 + the last node that reads it */
  Val *becomes = NEW_ARRAY(a, Val, g->nvals); /* by root: the input whose next value it is */
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (n->op == OP_table || n->op == OP_const) l->elsewhere[n->res] = true;
    for (int k = 0; k < n->nargs && n->op != OP_reshape; k++) last[l->root[n->args[k]]] = 1 + i;
  }
  for (int o = 0; o < g->noutputs; o++) {
    Val r = l->root[g->outputs[o].val];
    const Input *in = graph_find_input(g, g->outputs[o].name);
    const Node *n = val_node(g, r);
    /* of nothing (zeros) and for outputs alone: it is made in each of their places */
    if (n && !n->nargs && n->nres == 1 && !last[r] && !live_is_loop(g, n)) l->elsewhere[r] = true;
    if (!l->output[r] && in) becomes[r] = in->val;
    l->output[r] = true;
  }
  for (int o = 0; o < g->noutputs; o++) last[l->root[g->outputs[o].val]] = 1 + g->nnodes;
  for (int i = g->nnodes - 1; i >= 0; i--) { /* what is carried on into an output starts where that stays */
    const Node *n = &g->nodes[i];
    for (int r = 0; r < n->nres; r++) {
      Val v = n->res + (Val)r;
      if (!l->output[v] || l->root[v] != v) continue;
      l->elsewhere[v] = l->elsewhere[v] || !becomes[v] || writable(l, v, becomes[v], last);
      int k = carried(l, n, r);
      Val over = k < 0 ? 0 : l->root[n->args[k]];
      if (!over || last[over] != 1 + i || l->output[over]) continue;
      l->output[over] = true;
      becomes[over] = becomes[v];
    }
  }
}

Live live_new(const Graph *g, Arena *a) {
  Live l = {.g = g};
  l.root = NEW_ARRAY(a, Val, g->nvals);
  l.elsewhere = NEW_ARRAY(a, bool, g->nvals);
  l.output = NEW_ARRAY(a, bool, g->nvals);
  l.alias = NEW_ARRAY(a, Aliases, g->nnodes + 1);
  l.inside = NEW_ARRAY(a, int64_t, g->nnodes + 1);
  for (int v = 0; v < g->nvals; v++) l.root[v] = (Val)v;
  for (int i = 0; i < g->nnodes; i++)
    if (g->nodes[i].op == OP_reshape) l.root[g->nodes[i].res] = l.root[g->nodes[i].args[0]];
  find_aliases(&l, a);
  find_elsewhere(&l, a);
  for (int i = 0; i < g->nnodes; i++) {
    const Graph *c = callee(g, &g->nodes[i]);
    if (!c || !c->region || strcmp(c->region, "loop")) continue;
    Live body = live_new(c, a);
    l.inside[i] = live_graph(&body, a).peak;
  }
  return l;
}

/* ---- of an order */

/* May result r be written over the operand that has the stay `at`, as far as the other operands of the step go? */
static bool reads_allow(const Live *l, const LiveStep *s, int r, Val root) {
  for (int k = 0; k < s->nargs; k++)
    if (l->root[s->args[k]] == root && s->alias[r * s->nargs + k] == REGION_NONE) return false;
  return true;
}

/* Bytes of operands that end at place i and that results are written over. */
static int64_t taken_over(const Live *l, const LiveStep *s, int i, const Stay *stays, const int *stay, bool *taken) {
  int64_t bytes = 0;
  for (int want = REGION_MUST; want >= REGION_MAY && s->alias; want--)
    for (int r = 0; r < s->nres; r++) {
      Val v = s->res + (Val)r;
      if (l->elsewhere[v] || taken[v]) continue;
      for (int k = 0; k < s->nargs && !taken[v]; k++) {
        Val root = l->root[s->args[k]];
        const Stay *of = stay[root] ? &stays[stay[root] - 1] : NULL;
        if (!of || of->end != i || taken[root] || s->alias[r * s->nargs + k] != want) continue;
        if (of->bytes != type_bytes(l->g->types[v]) || !reads_allow(l, s, r, root)) continue;
        taken[root] = taken[v] = true;
        bytes += of->bytes;
      }
    }
  for (int r = 0; r < s->nres; r++) taken[s->res + (Val)r] = false;
  for (int k = 0; k < s->nargs; k++) taken[l->root[s->args[k]]] = false;
  return bytes;
}

Profile live_profile(const Live *l, const LiveStep *steps, int n, Arena *a) {
  const Graph *g = l->g;
  Profile p = {.bytes = NEW_ARRAY(a, int64_t, n + 1), .n = n};
  int *stay = NEW_ARRAY(a, int, g->nvals); /* by root: 1 + the one now */
  bool *taken = NEW_ARRAY(a, bool, g->nvals);
  for (int i = 0; i < n; i++) {
    const LiveStep *s = &steps[i];
    for (int k = 0; k < s->nargs; k++) {
      int at = stay[l->root[s->args[k]]];
      if (at) p.stays[at - 1].end = i;
    }
    for (int k = 0; k < s->nres; k++) {
      Val v = s->res + (Val)k;
      if (l->elsewhere[v]) continue;
      Stay new = {v, i, i, type_bytes(g->types[v])};
      PUSH(a, p.stays, p.nstays, p.cap_stays, new);
      stay[v] = p.nstays;
    }
  }
  for (int i = 0; i < p.nstays; i++) { /* an output that had no place yet is copied there in the end, or made there */
    Stay *s = &p.stays[i];
    if (l->output[s->root] && g->nodes[g->def[s->root]].nargs) s->end = n - 1;
  }
  for (int i = 0; i < p.nstays; i++) {
    p.bytes[p.stays[i].begin] += p.stays[i].bytes;
    p.bytes[p.stays[i].end + 1] -= p.stays[i].bytes;
  }
  for (int i = 1; i < n; i++) p.bytes[i] += p.bytes[i - 1];
  memset(stay, 0, sizeof *stay * (size_t)g->nvals);
  for (int i = 0, next = 0; i < n; i++) {
    p.bytes[i] += steps[i].inside - taken_over(l, &steps[i], i, p.stays, stay, taken);
    for (; next < p.nstays && p.stays[next].begin == i; next++) stay[p.stays[next].root] = 1 + next;
    if (p.bytes[i] > p.peak) {
      p.peak = p.bytes[i];
      p.at = i;
      p.times = 0;
    }
    p.times += p.bytes[i] == p.peak;
  }
  return p;
}

LiveStep live_step(const Live *l, int node) {
  const Node *n = &l->g->nodes[node];
  if (n->op == OP_reshape) return (LiveStep){0}; /* a name */
  return (LiveStep){n->args, n->nargs, n->nres, n->res, l->alias[node], l->inside[node]};
}

Profile live_graph(const Live *l, Arena *a) {
  LiveStep *steps = NEW_ARRAY(a, LiveStep, l->g->nnodes + 1);
  for (int i = 0; i < l->g->nnodes; i++) steps[i] = live_step(l, i);
  return live_profile(l, steps, l->g->nnodes, a);
}
