/* chunk: large row-wise values are made and used up a few rows at a time, in a loop.
 *
 * Why: the logits of a language model are the largest tensor of its training step ([B, T, vocab], with their gradient and the
 * softmax between), yet every row of them is made from one row of the last hidden state and ends in one loss and one row
 * of gradient. A loop over rows needs one chunk of them, and each chunk is used while it is near.
 *
 * How: the seed is a contraction whose result is larger than the target's `chunk` and whose leading axes are rows. The set grows
 * from it: every node that reads one of its large values, the row-level nodes between, and copies (broadcast, onehot) of
 * the same size that they read. It must be row-wise throughout: each node keeps the rows, or is a contraction that sums
 * over all of them. It must be closed: nothing outside depends on the set and feeds it. Then the set becomes the body of a
 * loop graph; rows are sliced, contractions over rows continue a carried sum (contract_from: the same chain, so the same bits).
 *
 * Invariant: the result is bit for bit that of the whole: chains over rows are at most 4096 long, or nothing is done.
 * Chains of bf16 go by pairs of rows, so slices of them have an even number.
 * (So a micro-batch of more than 4096 tokens keeps its logits whole; smaller ones, accumulated, are the same step.) */
#include "ir/rule.h"
#include "passes/passes.h"
#include "passes/rewrite.h"
#include <stdio.h>
#include <string.h>

typedef struct Chunk {
  const Graph *g;
  Arena *tmp;
  int64_t limit;     /* bytes: larger values are divided, into parts of at most that */
  Type big;          /* of the seed */
  int lead;          /* its leading axes that are rows: all but the last */
  bool *in;          /* by node: in the set */
  bool *copy;        /* by node: there because the set reads it */
  bool *accumulates; /* by node: a contraction over the rows */
  bool *after;       /* by value: depends on the set */
  bool pairs;        /* a contraction over the rows goes by pairs of them: slices have an even number */
  int64_t count;
  Type slice_lead; /* dims [0, lead) of a slice */
} Chunk;

static bool rows_lead(const Chunk *c, Type t) { /* does it start with the row axes? */
  if (t.rank < c->lead) return false;
  for (int i = 0; i < c->lead; i++)
    if (!dim_eq(t.dim[i], c->big.dim[i])) return false;
  return true;
}
static bool row_level(const Chunk *c, Type t) {
  return t.rank == c->lead && rows_lead(c, t);
}
static bool large(const Chunk *c, Type t) {
  return t.rank == c->big.rank && shape_eq(t, c->big);
}

/* Do the row axes of every operand that has them become the row axes of the result, or (contractions) vanish together? */
static bool row_wise(Chunk *c, int node) {
  const Graph *g = c->g;
  const Node *n = &g->nodes[node];
  Type r = val_type(g, n->res);
  if (op_info[n->op].ew || n->op == OP_stop || n->op == OP_cast || n->op == OP_onehot || n->op == OP_valid ||
      n->op == OP_rowmax || n->op == OP_pick)
    return rows_lead(c, r);
  if (n->op == OP_broadcast) {
    if (!rows_lead(c, r)) return false;
    Type x = val_type(g, n->args[0]);
    const Attr *axes = node_attr(n, "axes");
    bool any = false, all = x.rank >= c->lead;
    for (int i = 0; i < x.rank; i++) any |= axes->ints[i] < c->lead;
    for (int i = 0; i < c->lead && all; i++) all = axes->ints[i] == i;
    return !any || all;
  }
  if (n->op == OP_sum) {
    const Attr *axes = node_attr(n, "axes");
    for (int i = 0; i < axes->n; i++)
      if (axes->ints[i] < c->lead) return false;
    return rows_lead(c, r);
  }
  if (n->op != OP_contract) return false;
  Rule rule;
  const char *err;
  if (!rule_parse(node_attr(n, "rule")->str, &rule, &err)) return false;
  bool ra = rows_lead(c, val_type(g, n->args[0])), rb = rows_lead(c, val_type(g, n->args[1]));
  if (ra && rb) { /* summed over exactly the rows, in their order; of i8 no sum goes on */
    if (val_type(g, n->args[0]).dt == DT_i8) return false;
    int64_t rows = 1;
    if (rule.na < c->lead || rule.nb < c->lead) return false;
    int summed = 0;
    for (int i = 0; i < rule.na; i++) summed += rule_summed(&rule, rule.a[i]);
    for (int i = 0; i < c->lead; i++) {
      if (rule.a[i] != rule.b[i] || !rule_summed(&rule, rule.a[i])) return false;
      rows *= c->big.dim[i].n;
    }
    c->accumulates[node] = true;
    c->pairs |= val_type(g, n->args[0]).dt == DT_bf16;
    return summed == c->lead && rows <= CHAIN;
  }
  for (int i = 0; i < c->lead; i++) { /* rows of one operand pass through */
    const char *side = ra ? rule.a : rule.b, *other = ra ? rule.b : rule.a;
    if (!(ra || rb) || rule.out[i] != side[i] || rule_find(other, ra ? rule.nb : rule.na, side[i]) >= 0) return false;
  }
  return true;
}

/* Slices of the loop lie at distances known at build time. */
static bool fixed_slices(const Chunk *c, const Node *n) {
  for (int k = 0; k < n->nargs + n->nres; k++) {
    Type t = val_type(c->g, k < n->nargs ? n->args[k] : n->res + (Val)(k - n->nargs));
    for (int i = 0; i < t.rank && rows_lead(c, t); i++)
      if (t.dim[i].sym) return false;
  }
  return true;
}

static bool set_value(const Chunk *c, Val v) {
  return c->g->def[v] >= 0 && c->in[c->g->def[v]];
}

/* Copies of the large shape that set members read come along, with what they copy if that is large too. */
static void take_copies(Chunk *c, Val v) {
  int def = c->g->def[v];
  if (def < 0 || c->in[def] || !large(c, val_type(c->g, v))) return;
  const Node *n = &c->g->nodes[def];
  if (n->op != OP_broadcast && n->op != OP_onehot && !op_info[n->op].ew) return;
  c->in[def] = c->copy[def] = true;
  for (int i = 0; i < n->nargs; i++) take_copies(c, n->args[i]);
}

/* A copy that others read too is made for them anyway: the loop gets it from there. Users stand behind what they use. */
static void leave_shared(Chunk *c) {
  const Graph *g = c->g;
  bool *outside = NEW_ARRAY(c->tmp, bool, g->nvals);
  for (int i = 0; i < g->noutputs; i++) outside[g->outputs[i].val] = true;
  for (int i = g->nnodes - 1; i >= 0; i--) {
    const Node *n = &g->nodes[i];
    if (c->copy[i] && outside[n->res]) c->in[i] = false;
    for (int j = 0; j < n->nargs && !c->in[i]; j++) outside[n->args[j]] = true;
  }
}

static bool grow(Chunk *c, int seed) {
  const Graph *g = c->g;
  c->in[seed] = true;
  for (int i = seed + 1; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    bool reads_large = false, reads_row = false;
    for (int j = 0; j < n->nargs; j++)
      if (set_value(c, n->args[j]) && !c->accumulates[g->def[n->args[j]]]) {
        Type t = val_type(g, n->args[j]);
        reads_large |= large(c, t);
        reads_row |= row_level(c, t);
      }
    /* row-level results may stay in the loop as long as they stay rows */
    bool take = reads_large || (reads_row && (op_info[n->op].ew || n->op == OP_broadcast || n->op == OP_stop) &&
                                rows_lead(c, val_type(g, n->res)));
    if (!take) continue;
    c->in[i] = true;
    for (int j = 0; j < n->nargs; j++) take_copies(c, n->args[j]);
  }
  leave_shared(c);
  for (int i = 0; i < g->nnodes; i++)
    if (c->in[i] && !(row_wise(c, i) && fixed_slices(c, &g->nodes[i]))) return false;
  for (int i = seed; i < g->nnodes; i++) { /* closed */
    const Node *n = &g->nodes[i];
    bool depends = c->in[i];
    for (int j = 0; j < n->nargs; j++) {
      if (c->in[i] && c->after[n->args[j]] && !set_value(c, n->args[j])) return false;
      /* a sum over the rows is whole only behind the loop */
      if (c->in[i] && set_value(c, n->args[j]) && c->accumulates[g->def[n->args[j]]]) return false;
      depends |= c->after[n->args[j]];
    }
    for (int j = 0; j < n->nres; j++) c->after[n->res + (Val)j] = depends;
  }
  return true;
}

/* Divides the rows: the first axis as far as it goes, then the second. */
static bool divide(Chunk *c) {
  int64_t want = (type_bytes(c->big) + c->limit - 1) / c->limit;
  c->slice_lead = c->big;
  c->count = 1;
  for (int axis = 0; axis < c->lead && c->count < want; axis++) {
    int64_t n = c->big.dim[axis].n, parts = (want + c->count - 1) / c->count, within = 1;
    for (int i = axis + 1; i < c->lead; i++) within *= c->big.dim[i].n;
    while (parts < n && (n % parts || (c->pairs && n / parts * within % 2))) parts++;
    if (parts > n) parts = n;
    c->slice_lead.dim[axis].n = n / parts;
    c->slice_lead.dim[axis].name = NULL;
    c->count *= parts; /* parts < n: that is enough, so slices are contiguous: all axes before are 1 */
  }
  int64_t rows = 1;
  for (int i = 0; i < c->lead; i++) rows *= c->slice_lead.dim[i].n;
  return c->count > 1 && !(c->pairs && rows % 2);
}

static Type sliced(const Chunk *c, Type t) {
  if (rows_lead(c, t))
    for (int i = 0; i < c->lead; i++) t.dim[i] = c->slice_lead.dim[i];
  return t;
}

typedef struct Body {
  Graph *loop;
  Val *map;   /* by old value */
  Val *args;  /* old values, by input of the loop */
  bool *zero; /* by input: a carried sum, from 0 */
  Type *type; /* of what the caller gives or gets */
  Val *outs;
  int nargs, nouts;
} Body;

static Val body_input(Chunk *c, Body *b, Val old, Type whole, bool zero, const char *name) {
  char auto_name[24];
  snprintf(auto_name, sizeof auto_name, "x%d", b->nargs);
  b->args[b->nargs] = old;
  b->zero[b->nargs] = zero;
  b->type[b->nargs++] = whole;
  return graph_input(b->loop, name ? name : auto_name, IN_DATA, zero ? whole : sliced(c, whole), (Span){0});
}

static bool make_body(Chunk *c, Module *to, Body *b, const char *name) {
  const Graph *g = c->g;
  bool *outside = NEW_ARRAY(c->tmp, bool, g->nvals);
  for (int i = 0; i < g->noutputs; i++) outside[g->outputs[i].val] = true;
  for (int i = 0; i < g->nnodes; i++)
    for (int j = 0; j < g->nodes[i].nargs && !c->in[i]; j++) outside[g->nodes[i].args[j]] = true;
  b->loop = graph_new(to, name);
  b->loop->region = intern("loop");
  b->map = NEW_ARRAY(c->tmp, Val, g->nvals);
  b->args = NEW_ARRAY(c->tmp, Val, g->nvals);
  b->outs = NEW_ARRAY(c->tmp, Val, g->nvals);
  b->zero = NEW_ARRAY(c->tmp, bool, g->nvals);
  b->type = NEW_ARRAY(c->tmp, Type, g->nvals);
  for (int i = 0; i < g->nnodes; i++) {
    if (!c->in[i]) continue;
    const Node *n = &g->nodes[i];
    Val args[8];
    for (int j = 0; j < n->nargs; j++) {
      if (!b->map[n->args[j]]) b->map[n->args[j]] = body_input(c, b, n->args[j], val_type(g, n->args[j]), false, NULL);
      args[j] = b->map[n->args[j]];
    }
    OpKind op = n->op;
    int nargs = n->nargs;
    char out[24];
    if (c->accumulates[i]) {
      snprintf(out, sizeof out, "sum%d", b->nouts);
      op = OP_contract_from;
      args[nargs++] = body_input(c, b, n->res, val_type(g, n->res), true, out);
    } else {
      snprintf(out, sizeof out, "y%d", b->nouts);
    }
    Type t = sliced(c, val_type(g, n->res));
    b->map[n->res] = graph_add(b->loop, op, args, nargs, n->attrs, n->nattrs, &t, n->span);
    if (!b->map[n->res]) return false;
    if (!outside[n->res]) continue;
    graph_output(b->loop, out, b->map[n->res]);
    b->outs[b->nouts++] = n->res;
  }
  return true;
}

/* The graph with the set replaced by one call. */
static bool rewrite(Chunk *c, Module *to, Graph **out) {
  const Graph *g = c->g;
  Body b = {0};
  char name[64];
  snprintf(name, sizeof name, "%s.loop", g->name);
  if (!make_body(c, to, &b, name)) return false;
  Rewrite r = rewrite_begin(to, g);
  *out = r.to;
  /* what does not depend on the set, the loop, the rest */
  for (int phase = 0; phase < 2; phase++) {
    for (int i = 0; i < g->nnodes; i++)
      if (!c->in[i] && c->after[g->nodes[i].res] == (phase == 1) && !rewrite_copy(&r, &g->nodes[i])) return false;
    if (phase) break;
    Val *args = NEW_ARRAY(c->tmp, Val, b.nargs + 1);
    Type *want = NEW_ARRAY(c->tmp, Type, b.nouts + 1);
    Span at = {0};
    for (int i = 0; i < g->nnodes && !at.file; i++)
      if (c->in[i]) at = g->nodes[i].span;
    for (int i = 0; i < b.nargs; i++)
      args[i] = b.zero[i] ? graph_broadcast(r.to, graph_const(r.to, 0, at), b.type[i], NULL, at) : r.map[b.args[i]];
    for (int i = 0; i < b.nouts; i++) want[i] = val_type(g, b.outs[i]);
    Attr attrs[2] = {attr_str("fn", b.loop->name), attr_int("count", c->count)};
    Val res = graph_add(r.to, OP_call, args, b.nargs, attrs, 2, want, at);
    if (!res) return false;
    for (int i = 0; i < b.nouts; i++) r.map[b.outs[i]] = res + (Val)i;
  }
  rewrite_outputs(&r);
  return true;
}

static bool chunk_graph(const Graph *g, const Target *target, Module *to) {
  Arena *tmp = arena_new();
  Graph *out = NULL;
  bool ok = true;
  for (int i = 0; i < g->nnodes && !out && ok; i++) {
    const Node *n = &g->nodes[i];
    Type t = val_type(g, n->res);
    if (n->op != OP_contract || t.rank < 2 || target->chunk < 1 || type_bytes(t) <= target->chunk) continue;
    Chunk c = {.g = g, .tmp = tmp, .limit = target->chunk, .big = t, .lead = t.rank - 1};
    c.in = NEW_ARRAY(tmp, bool, g->nnodes);
    c.copy = NEW_ARRAY(tmp, bool, g->nnodes);
    c.accumulates = NEW_ARRAY(tmp, bool, g->nnodes);
    c.after = NEW_ARRAY(tmp, bool, g->nvals);
    if (rows_lead(&c, val_type(g, n->args[0])) && grow(&c, i) && divide(&c)) ok = rewrite(&c, to, &out);
  }
  if (ok && !out) {
    Rewrite r = rewrite_begin(to, g);
    r.to->region = g->region;
    for (int i = 0; i < g->nnodes && ok; i++) ok = rewrite_copy(&r, &g->nodes[i]) != 0;
    if (ok) rewrite_outputs(&r);
  }
  arena_free(tmp);
  return ok;
}

Module *pass_chunk(Module *m, const Target *t) {
  Module *to = rewrite_module(m);
  for (int i = 0; i < m->ngraphs; i++)
    if (!chunk_graph(m->graphs[i], t, to)) return NULL;
  return to;
}
