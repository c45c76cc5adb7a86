/* fuse: nodes into regions, one kernel each; equal regions become one.
 *
 * Why: memory traffic. A value that lives inside of a region never leaves the registers.
 * How: nodes are taken in order and join the group of an operand where three things hold: the group's kind can take the
 * node (below), the group still fits one iteration space (region_fits), and no value would wait for itself (reach: which
 * groups a group depends on). Nodes that cost nothing where they are used (const, broadcast, onehot, valid, stop) belong to no
 * group: every consumer gets its own copy. So do elementwise producers that only column sums read, and
 * transposes, and casts of inputs, that only contractions read: the packing of an operand computes them.
 *
 *   group     takes
 *   scalars   elementwise ops of rank 0
 *   map       elementwise, gather, cast, transpose, dropout of one shape; becomes row when a sum or maximum along its last axes joins
 *   row       the same and more reductions
 *   column    sums along leading axes of the same operand space, elementwise ops on the sums
 *   contract  elementwise ops of the contraction's shape
 *   alone     attend, attend_grad, scatter_add, rope, page_keys, page_values, attend_pages
 *   outside   table, reshape, call: no region, but a place in the order
 *
 * Regions are written without names and positions; equal text means one region, so 80 layers have the kernels of two.
 * Afterwards main graphs hold only calls, reshapes and tables. Invariant: evaluating the module gives the same bits. */
#include "passes/fuse.h"
#include "passes/passes.h"
#include <string.h>

const char *fuse_kind_name(const Fuse *f, const Group *gr) {
  switch (gr->kind) {
  case G_SCALARS:
  case G_MAP: return "map";
  case G_ROW: return "row";
  case G_COLUMN: return "column";
  case G_CONTRACT: return "contract";
  default: return op_info[f->g->nodes[gr->node[0]].op].name;
  }
}

static bool is_ew(OpKind op) {
  return op_info[op].ew || op == OP_cast || op == OP_gather || op == OP_transpose || op == OP_dropout;
}

static bool sums_last(const Graph *g, const Node *n) {
  if (n->op == OP_rowmax || n->op == OP_pick) return true;
  const Attr *axes = node_attr(n, "axes");
  return axes->n && axes->ints[axes->n - 1] == val_type(g, n->args[0]).rank - 1;
}

static Kind kind_of(const Graph *g, const Node *n) {
  if (fuse_outside(n->op)) return G_OUTSIDE;
  if (op_is_contract(n->op)) return G_CONTRACT;
  if (n->op == OP_sum || n->op == OP_rowmax || n->op == OP_pick) return sums_last(g, n) ? G_ROW : G_COLUMN;
  if (is_ew(n->op) || fuse_free(n->op)) return val_type(g, n->res).rank ? G_MAP : G_SCALARS;
  return G_ALONE;
}

/* ---- which nodes are copied into their consumers */

static void find_lazy(Fuse *f) {
  const Graph *g = f->g;
  int *column = NEW_ARRAY(f->tmp, int, g->nvals), *operand = NEW_ARRAY(f->tmp, int, g->nvals);
  for (int i = g->nnodes - 1; i >= 0; i--) {
    const Node *n = &g->nodes[i];
    Val r = n->res;
    bool kept = f->leaves[r];
    if (fuse_copied(g, n))
      f->lazy[i] = !kept;
    else if (f->apart)
      continue;
    else if (op_info[n->op].ew && val_type(g, r).rank && !kept)
      f->lazy[i] = f->uses[r] > 0 && column[r] == f->uses[r];
    else if ((n->op == OP_transpose || (n->op == OP_cast && g->def[n->args[0]] < 0)) && !kept)
      f->lazy[i] = f->uses[r] > 0 && operand[r] == f->uses[r];
    /* a copy is read by what reads its consumer */
    bool col = (n->op == OP_sum && kind_of(g, n) == G_COLUMN) || (f->lazy[i] && op_info[n->op].ew);
    for (int j = 0; j < n->nargs; j++) {
      column[n->args[j]] += col;
      operand[n->args[j]] += (op_is_contract(n->op) && j < 2) || (n->op == OP_transpose && f->lazy[i]);
    }
  }
}

/* A node that with the copies of its operands makes no region gets them from memory. (A sum along all axes of a row that is
 * repeated: its axes are not one run.) Nodes before it that so stop being copies are looked at in turn. */
static void keep_unfit(Fuse *f, int node) {
  const Graph *g = f->g;
  const Node *n = &g->nodes[node];
  Group alone = {.kind = kind_of(g, n), .node = &node, .n = 1};
  bool copies = false;
  for (int j = 0; j < n->nargs; j++) copies = copies || (g->def[n->args[j]] >= 0 && f->lazy[g->def[n->args[j]]]);
  if (!copies || alone.kind == G_ALONE || alone.kind == G_OUTSIDE || fuse_fits(f, &node, 1, fuse_kind_name(f, &alone)))
    return;
  for (int j = 0; j < n->nargs; j++) {
    int def = g->def[n->args[j]];
    if (def < 0 || !f->lazy[def] || g->nodes[def].op == OP_const) continue;
    f->lazy[def] = false;
    f->leaves[n->args[j]] = true;
    keep_unfit(f, def);
  }
}

static void find_rows(Fuse *f) {
  const Graph *g = f->g;
  for (int i = g->nnodes - 1; i >= 0; i--) {
    const Node *n = &g->nodes[i];
    bool row = kind_of(g, n) == G_ROW || ((op_info[n->op].ew || n->op == OP_dropout) && f->to_row[n->res]);
    for (int j = 0; j < n->nargs && row; j++) f->to_row[n->args[j]] = true;
  }
}

/* ---- groups and their dependences */

int fuse_alive(const Fuse *f, int gr) {
  while (gr >= 0 && f->group[gr].into >= 0) gr = f->group[gr].into;
  return gr;
}

static bool has(const uint64_t *set, int i) {
  return set[i / 64] >> (i % 64) & 1;
}

/* Groups that a value comes from directly, through copies: collected into list. */
static void sources(const Fuse *f, Val v, int *list, int *n, int cap) {
  const Graph *g = f->g;
  if (g->def[v] < 0) return;
  int node = g->def[v], gr = f->of[node];
  if (gr >= 0) {
    gr = fuse_alive(f, gr);
    for (int i = 0; i < *n; i++)
      if (list[i] == gr) return;
    if (*n < cap) list[(*n)++] = gr;
    return;
  }
  for (int i = 0; i < g->nodes[node].nargs; i++) sources(f, g->nodes[node].args[i], list, n, cap);
}

enum { MAX_SOURCES = 512 };

static void depend(Fuse *f, int gr, int on) {
  Group *a = &f->group[gr], *b = &f->group[on];
  if (gr == on) return;
  a->reach[on / 64] |= (uint64_t)1 << (on % 64);
  for (int w = 0; w < f->words; w++) a->reach[w] |= b->reach[w];
}

/* Everything that depends on gr depends on what gr depends on. */
static void spread(Fuse *f, int gr) {
  for (int x = 0; x < f->ngroups; x++)
    if (x != gr && f->group[x].into < 0 && has(f->group[x].reach, gr))
      for (int w = 0; w < f->words; w++) f->group[x].reach[w] |= f->group[gr].reach[w];
}

static Kind joined_kind(Kind group, Kind node) {
  switch (group) {
  case G_SCALARS: return node == G_SCALARS ? G_SCALARS : G_NONE;
  case G_MAP: return node == G_MAP ? G_MAP : node == G_ROW ? G_ROW : G_NONE;
  case G_ROW: return node == G_MAP || node == G_ROW ? G_ROW : G_NONE;
  case G_COLUMN: return node == G_MAP || node == G_COLUMN ? G_COLUMN : G_NONE;
  case G_CONTRACT: return node == G_MAP ? G_CONTRACT : G_NONE;
  default: return G_NONE;
  }
}

static int merge_sorted(const int *a, int na, const int *b, int nb, int *out) {
  int n = 0, i = 0, j = 0;
  while (i < na || j < nb) out[n++] = j == nb || (i < na && a[i] < b[j]) ? a[i++] : b[j++];
  return n;
}

/* Another way from `to` back to `from` than directly: some source of the members depends on the group. */
static bool blocked(const Fuse *f, int gr, const int *src, int nsrc) {
  for (int i = 0; i < nsrc; i++)
    if (src[i] != gr && has(f->group[src[i]].reach, gr)) return true;
  return false;
}

/* A contraction's result that others read too is stored anyway: elementwise nodes on their way to a row's reduction are
 * better off in the row's region than as further results of the contraction. */
static bool better_in_row(const Fuse *f, int gr, const Node *n) {
  if (!f->to_row[n->res]) return false;
  for (int i = 0; i < n->nargs; i++) {
    int def = f->g->def[n->args[i]];
    if (def >= 0 && fuse_alive(f, f->of[def]) == gr && f->uses[n->args[i]] > 1) return true;
  }
  return false;
}

static bool try_join(Fuse *f, int gr, int node, const int *src, int nsrc) {
  Group *a = &f->group[gr];
  if (a->kind == G_CONTRACT && better_in_row(f, gr, &f->g->nodes[node])) return false;
  Kind kind = joined_kind(a->kind, kind_of(f->g, &f->g->nodes[node]));
  if (kind == G_NONE || blocked(f, gr, src, nsrc)) return false;
  int *all = NEW_ARRAY(f->tmp, int, a->n + 1);
  memcpy(all, a->node, sizeof(int) * (size_t)a->n);
  all[a->n] = node;
  Group trial = *a;
  trial.kind = kind;
  if (!fuse_fits(f, all, a->n + 1, fuse_kind_name(f, &trial))) return false;
  a->kind = kind;
  PUSH(f->tmp, a->node, a->n, a->cap, node);
  f->of[node] = gr;
  for (int i = 0; i < nsrc; i++) depend(f, gr, src[i]);
  spread(f, gr);
  return true;
}

static bool try_merge(Fuse *f, int gr, int other) {
  Group *a = &f->group[gr], *b = &f->group[other];
  bool rows = (a->kind == G_MAP || a->kind == G_ROW) && (b->kind == G_MAP || b->kind == G_ROW);
  if (gr == other || !(rows || (a->kind == b->kind && (a->kind == G_SCALARS || a->kind == G_COLUMN)))) return false;
  int *all = NEW_ARRAY(f->tmp, int, a->n + b->n), n = 0;
  /* no third group may stand between the two */
  for (int x = 0; x < f->ngroups; x++) {
    const Group *t = &f->group[x];
    if (x == gr || x == other || t->into >= 0) continue;
    if ((has(t->reach, gr) && has(b->reach, x)) || (has(t->reach, other) && has(a->reach, x))) return false;
  }
  if (a->kind == G_COLUMN && (has(a->reach, other) || has(b->reach, gr))) return false;
  n = merge_sorted(a->node, a->n, b->node, b->n, all);
  Kind kind = a->kind == G_ROW || b->kind == G_ROW ? G_ROW : a->kind;
  Group trial = *a;
  trial.kind = kind;
  if (!fuse_fits(f, all, n, fuse_kind_name(f, &trial))) return false;
  a->kind = kind;
  a->node = all, a->n = a->cap = n;
  b->into = gr;
  for (int w = 0; w < f->words; w++) a->reach[w] |= b->reach[w];
  a->reach[gr / 64] &= ~((uint64_t)1 << (gr % 64));
  a->reach[other / 64] &= ~((uint64_t)1 << (other % 64));
  for (int x = 0; x < f->ngroups; x++) /* the merged group is known by one name */
    if (has(f->group[x].reach, other) && x != gr) f->group[x].reach[gr / 64] |= (uint64_t)1 << (gr % 64);
  spread(f, gr);
  return true;
}

static void place(Fuse *f, int node) {
  const Graph *g = f->g;
  const Node *n = &g->nodes[node];
  int src[MAX_SOURCES], nsrc = 0;
  for (int i = 0; i < n->nargs; i++) sources(f, n->args[i], src, &nsrc, MAX_SOURCES);
  Kind kind = kind_of(g, n);
  int home = -1;
  if (!f->apart && kind != G_CONTRACT && kind != G_ALONE && kind != G_OUTSIDE && kind != G_COLUMN && !fuse_copied(g, n))
    for (int pass = 0; pass < 2 && home < 0; pass++) /* a contraction's epilogue first */
      for (int i = nsrc - 1; i >= 0 && home < 0; i--)
        if ((f->group[src[i]].kind == G_CONTRACT) == !pass && try_join(f, src[i], node, src, nsrc)) home = src[i];
  if (home < 0) {
    home = f->ngroups++;
    Group *gr = &f->group[home];
    *gr = (Group){.kind = kind, .into = -1};
    gr->reach = NEW_ARRAY(f->tmp, uint64_t, f->words);
    PUSH(f->tmp, gr->node, gr->n, gr->cap, node);
    f->of[node] = home;
    for (int i = 0; i < nsrc; i++) depend(f, home, src[i]);
    if (kind == G_COLUMN && !f->apart) /* sums of the same space meet: norm scale and shift */
      for (int x = home - 1; x >= 0 && x >= home - 12; x--)
        if (f->group[x].into < 0 && f->group[x].kind == G_COLUMN && try_merge(f, x, home)) return;
    return;
  }
  for (int i = 0; i < nsrc; i++)
    if (src[i] != home && f->group[src[i]].into < 0) try_merge(f, home, src[i]);
}

/* ---- what is made again where it is read */

/* Sums and products of what is stored anyway, read by other maps, rows and columns, are cheaper computed there again than
 * stored and loaded. What a row has once (a mean) may be stored for it. A node is looked at once for a query (asked[node] is
 * its number): a chain of x + x would be walked along all of its paths. */
static bool cheap_again(const Fuse *f, Val v, int gr, int rank, int *asked, int query) {
  const Graph *g = f->g;
  int def = g->def[v];
  if (def < 0) return true;
  if (!f->lazy[def] && (fuse_alive(f, f->of[def]) != gr || val_type(g, v).rank < rank)) return true;
  const Node *n = &g->nodes[def];
  if (!f->lazy[def]) return false;
  if (asked[def] == query) return true; /* it was no reason to say no */
  asked[def] = query;
  for (int i = 0; i < n->nargs; i++)
    if (!cheap_again(f, n->args[i], gr, rank, asked, query)) return false;
  return true;
}

/* Who reads a value, and which nodes and groups a query has been to (its number). */
typedef struct Readers {
  int *first, *next; /* by value, by reading operand: 1 + operand; operands are numbered through */
  int *node;         /* by operand: its node */
  int *seen, *asked; /* by node; by group */
} Readers;

static Readers readers_of(const Fuse *f) {
  const Graph *g = f->g;
  int n = 0, all = 0;
  for (int i = 0; i < g->nnodes; i++) all += g->nodes[i].nargs;
  Readers r = {NEW_ARRAY(f->tmp, int, g->nvals), NEW_ARRAY(f->tmp, int, all + 1), NEW_ARRAY(f->tmp, int, all + 1),
               NEW_ARRAY(f->tmp, int, g->nnodes + 1), NEW_ARRAY(f->tmp, int, g->nnodes + 1)};
  for (int i = 0; i < g->nnodes; i++)
    for (int j = 0; j < g->nodes[i].nargs; j++) {
      Val v = g->nodes[i].args[j];
      r.node[n] = i;
      r.next[n] = r.first[v];
      r.first[v] = ++n;
    }
  return r;
}

/* With node `made` computed again where it is read: is every group that reads it, through other copies too, still a region? */
static bool still_fit(const Fuse *f, Readers *r, int made, int query) {
  const Graph *g = f->g;
  for (int at = r->first[g->nodes[made].res]; at; at = r->next[at - 1]) {
    int node = r->node[at - 1], gr = fuse_alive(f, f->of[node]);
    if (r->seen[node] == query) continue;
    r->seen[node] = query;
    if (gr >= 0 && r->asked[gr] != query) {
      r->asked[gr] = query;
      if (!fuse_fits(f, f->group[gr].node, f->group[gr].n, fuse_kind_name(f, &f->group[gr]))) return false;
    }
    if (f->lazy[node] && !still_fit(f, r, node, query)) return false;
  }
  return true;
}

/* In a contraction's region: made of values of bf16, biases and constants alone, one after the other? Such values are computed
 * again from the bf16, which take half of what storing them would. derived: by node. */
static bool from_halves(const Fuse *f, int node, const bool *derived) {
  const Graph *g = f->g;
  const Node *n = &g->nodes[node];
  int halves = 0;
  for (int j = 0; j < n->nargs; j++) {
    int def = g->def[n->args[j]];
    if (val_type(g, n->args[j]).rank == 0 && (def < 0 || f->lazy[def])) continue;
    if (def < 0 || !(derived[def] || f->lazy[def])) return false;
    const Node *of = &g->nodes[def];
    if (of->op == OP_broadcast && g->def[of->args[0]] < 0) continue;
    if (!derived[def] && of->op != OP_cast) return false;
    halves++;
  }
  return halves > 0 && op_info[n->op].ew;
}

static void find_recomputed(Fuse *f) {
  const Graph *g = f->g;
  int *asked = NEW_ARRAY(f->tmp, int, g->nnodes);
  Readers readers = readers_of(f);
  bool *tied = NEW_ARRAY(f->tmp, bool, g->nvals);   /* read by something that wants it in memory */
  bool *cast = NEW_ARRAY(f->tmp, bool, g->nvals);   /* the same, as bf16: it is made and rounded here */
  bool *factor = NEW_ARRAY(f->tmp, bool, g->nvals); /* a contraction packs it */
  bool *derived = NEW_ARRAY(f->tmp, bool, g->nnodes + 1);
  for (int i = 0; i < g->nnodes; i++) {
    int gr = fuse_alive(f, f->of[i]);
    Kind k = gr >= 0 ? f->group[gr].kind : G_NONE;
    for (int j = 0; j < g->nodes[i].nargs; j++)
      if (gr >= 0 && k != G_MAP && k != G_ROW && k != G_COLUMN) tied[g->nodes[i].args[j]] = true;
    for (int j = 0; j < 2 && op_is_contract(g->nodes[i].op); j++) factor[g->nodes[i].args[j]] = true;
    if (gr >= 0 && g->nodes[i].op == OP_cast) cast[g->nodes[i].args[0]] = true;
    /* The gradient of a residual stream: without dropout products read it, so that it is stored. If it were not, each layer would
     * add up those of all before. */
    if (g->nodes[i].op == OP_dropout) tied[g->nodes[i].args[0]] = true;
  }
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    int gr = fuse_alive(f, f->of[i]);
    if (gr < 0 || f->leaves[n->res]) continue;
    if (f->group[gr].kind == G_CONTRACT && !factor[n->res] && from_halves(f, i, derived)) {
      f->lazy[i] = true;
      f->lazy[i] = derived[i] = still_fit(f, &readers, i, i + 1);
    }
    if ((f->group[gr].kind != G_MAP && f->group[gr].kind != G_ROW) || tied[n->res] || cast[n->res]) continue;
    if (n->op != OP_add && n->op != OP_sub && n->op != OP_mul) continue;
    bool cheap = true;
    for (int j = 0; j < n->nargs && cheap; j++)
      cheap = cheap_again(f, n->args[j], gr, val_type(g, n->res).rank, asked, i + 1);
    f->lazy[i] = cheap && val_type(g, n->res).rank > 1;
    if (f->lazy[i]) f->lazy[i] = still_fit(f, &readers, i, i + 1);
  }
}

/* ---- the pass */

static bool fuse_graph(Fuse *f) {
  const Graph *g = f->g;
  f->words = g->nnodes / 64 + 1;
  f->group = NEW_ARRAY(f->tmp, Group, g->nnodes + 1);
  f->of = NEW_ARRAY(f->tmp, int, g->nnodes + 1);
  f->lazy = NEW_ARRAY(f->tmp, bool, g->nnodes + 1);
  f->uses = NEW_ARRAY(f->tmp, int, g->nvals);
  f->within = NEW_ARRAY(f->tmp, int, g->nvals);
  f->built = NEW_ARRAY(f->tmp, Val, g->nvals);
  f->stamp = NEW_ARRAY(f->tmp, int, g->nvals);
  f->turn = NEW(f->tmp, int);
  f->leaves = NEW_ARRAY(f->tmp, bool, g->nvals);
  f->to_row = NEW_ARRAY(f->tmp, bool, g->nvals);
  for (int i = 0; i < g->noutputs; i++) f->leaves[g->outputs[i].val] = true;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    f->of[i] = -1;
    for (int j = 0; j < n->nargs; j++) {
      f->uses[n->args[j]]++;
      if (kind_of(g, n) == G_OUTSIDE || kind_of(g, n) == G_ALONE || op_reads_memory(n->op, j) ||
          (n->op == OP_contract_from && j == 2))
        f->leaves[n->args[j]] = true;
    }
  }
  find_lazy(f);
  find_rows(f);
  for (int i = 0; i < g->nnodes; i++)
    if (!f->lazy[i]) keep_unfit(f, i);
  for (int i = 0; i < g->nnodes; i++)
    if (!f->lazy[i]) place(f, i);
  if (!f->apart) find_recomputed(f);
  return fuse_emit(f);
}

Module *pass_fuse(Module *m, const Target *t) {
  Module *to = rewrite_module(m);
  Known known = {0};
  for (int i = 0; i < m->ngraphs; i++) { /* loop bodies stand before their callers */
    const Graph *g = m->graphs[i];
    Fuse f = {.g = g, .known = &known, .to = to, .tmp = arena_new(), .apart = t->apart};
    Rewrite r = rewrite_begin(to, g);
    f.out = r.to;
    f.out->region = g->region;
    f.map = r.map;
    bool ok = fuse_graph(&f);
    arena_free(f.tmp);
    if (!ok) return NULL;
  }
  /* callees before callers: regions were appended after the graph that needed them first */
  Graph **order = NEW_ARRAY(to->arena, Graph *, to->ngraphs);
  int n = 0;
  for (int pass = 0; pass < 3; pass++)
    for (int i = 0; i < to->ngraphs; i++) {
      Graph *g = to->graphs[i];
      int rank = !g->region ? 2 : !strcmp(g->region, "loop") ? 1 : 0;
      if (rank == pass) order[n++] = g;
    }
  to->graphs = order;
  to->cap_graphs = n;
  return to;
}
