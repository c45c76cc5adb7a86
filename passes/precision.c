/* precision: what a module is to be computed in. With `compute bf16` its f32 graphs get contractions and attention of bf16.
 *
 * Why: half the memory for what goes from kernel to kernel, and the machine's instructions for products of bf16.
 * How: every value has an f32 form, a bf16 form, or both, each made when it is first asked for. Contractions and
 * attention take the bf16 forms of their operands. A contraction's result is f32; it is rounded, so that bf16 is what is stored, where
 * it is an activation or the gradient of one: where a later contraction takes something made of it. It stays f32 where
 *   nothing does               it is a weight's gradient, to be added up in f32
 *   it leads to the loss       without a contraction between: logits, which the loss is made of
 * Everything else (norms, softmax, the loss, sums, the optimizer) reads and makes f32. What only moves elements (reshape, transpose,
 * broadcast) stays on the side where its operand is, so that casts stand at their sources: a weight's on the weight, which the
 * packing of an operand computes.
 *
 * Params, states and their updates are f32 as before: masters, moments and gradients. Graphs that are of bf16 by themselves stay
 * as they are, and so do modules that ask for f32. */
#include "ir/region.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

#include <string.h>

typedef struct Precision {
  Rewrite r;          /* its map: f32 forms (and values of other dtypes), 0: not made */
  Val *half;          /* by old value: bf16 forms, 0: not made */
  Val *again;         /* by old value: the bf16 form in f32, where the f32 form has all bits */
  bool *feeds, *ends; /* by old value: leads to a factor; leads to the loss without a contraction between */
  bool *factor;       /* by old value: is one itself */
} Precision;

static Val cast_to(Graph *g, Val x, DType dt, Span at) {
  Type t = val_type(g, x);
  t.dt = dt;
  return graph_add(g, OP_cast, &x, 1, NULL, 0, &t, at);
}

static Span span_of(const Graph *g, Val v) {
  return val_node(g, v) ? val_node(g, v)->span : val_input(g, v)->span;
}

static bool is_attention(OpKind op) {
  return op == OP_attend || op == OP_attend_grad || op == OP_attend_pages || op == OP_page_keys || op == OP_page_values;
}

/* Operands that are products' factors. */
static bool is_factor(const Node *n, int arg) {
  if (op_is_contract(n->op)) return arg < 2;
  if (n->op == OP_attend_pages) return arg == 0;
  if (n->op == OP_page_keys || n->op == OP_page_values) return arg == 2;
  return n->op == OP_attend || (n->op == OP_attend_grad && arg != 4); /* the log-sum-exp is f32 */
}

static bool moves(OpKind op) {
  return op == OP_reshape || op == OP_transpose || op == OP_broadcast || op == OP_stop;
}

/* ---- the forms of a value */

static Val full(Precision *p, Val v) {
  if (!p->r.map[v] && p->half[v]) p->r.map[v] = cast_to(p->r.to, p->half[v], DT_f32, span_of(p->r.from, v));
  return p->r.map[v];
}

static Val half(Precision *p, Val v);

/* A node that moves elements, on the bf16 form of its operand. */
static Val move_half(Precision *p, const Node *n) {
  Type t = rewrite_type(&p->r, val_type(p->r.from, n->res));
  Val x = half(p, n->args[0]);
  t.dt = DT_bf16;
  return x ? graph_add(p->r.to, n->op, &x, 1, n->attrs, n->nattrs, &t, n->span) : 0;
}

/* Values of other dtypes than f32 have one form. */
static Val half(Precision *p, Val v) {
  const Graph *g = p->r.from;
  if (val_type(g, v).dt != DT_f32) return p->r.map[v];
  if (p->half[v]) return p->half[v];
  const Node *n = val_node(g, v);
  return p->half[v] = n && moves(n->op) ? move_half(p, n) : cast_to(p->r.to, p->r.map[v], DT_bf16, span_of(g, v));
}

/* ---- what becomes of a value */

static void find_uses(Precision *p) {
  const Graph *g = p->r.from;
  for (int i = 0; i < g->noutputs; i++)
    p->ends[g->outputs[i].val] |= !strcmp(g->outputs[i].name, "loss_sum") || !strcmp(g->outputs[i].name, "loss");
  for (int i = g->nnodes - 1; i >= 0; i--) {
    const Node *n = &g->nodes[i];
    bool product = op_is_contract(n->op) || is_attention(n->op);
    for (int k = 0; k < n->nres; k++) {
      Val r = n->res + (Val)k;
      for (int j = 0; j < n->nargs; j++) {
        p->factor[n->args[j]] |= product && is_factor(n, j);
        p->feeds[n->args[j]] |= product ? is_factor(n, j) : p->feeds[r];
        p->ends[n->args[j]] |= !product && p->ends[r];
      }
    }
  }
}

static bool rounded(const Precision *p, Val v) {
  return p->feeds[v] && !p->ends[v];
}

/* ---- nodes */

static bool narrows(const Precision *p, const Node *n) {
  const Graph *g = p->r.from;
  bool product = op_is_contract(n->op) || is_attention(n->op);
  int first = n->op == OP_page_keys || n->op == OP_page_values ? 2 : 0;
  return (product || (n->op == OP_rope && rounded(p, n->res))) && val_type(g, n->args[first]).dt == DT_f32;
}

/* Results of bf16 where the old ones were f32 are those values' bf16 forms. */
static bool narrow(Precision *p, const Node *n) {
  const Graph *g = p->r.from;
  Graph *to = p->r.to;
  Val args[6];
  for (int k = 0; k < n->nargs; k++) {
    bool factor = n->op == OP_rope ? k == 0 : is_factor(n, k);
    if (!(args[k] = factor ? half(p, n->args[k]) : full(p, n->args[k]))) return false;
  }
  Val v = graph_add(to, n->op, args, n->nargs, n->attrs, n->nattrs, NULL, n->span);
  for (int k = 0; v && k < n->nres; k++) {
    Val old = n->res + (Val)k, new = v + (Val)k;
    bool was = val_type(g, old).dt == DT_f32, wide = val_type(to, new).dt == DT_f32;
    *(was && !wide ? &p->half[old] : &p->r.map[old]) = new;
    if (!wide || !op_is_contract(n->op) || !rounded(p, old)) continue;
    p->r.map[old] = 0;
    if (!(p->half[old] = cast_to(to, new, DT_bf16, n->span))) return false;
  }
  return v != 0;
}

/* A gradient that is a factor is stored as bf16 in any case; what only adds it up (a bias's gradient) reads that. */
static Val added_up(Precision *p, const Node *n, Val v) {
  for (int k = 0; k < n->nres; k++)
    if (p->feeds[n->res + (Val)k] || p->ends[n->res + (Val)k]) return 0;
  if (n->op != OP_sum || !p->factor[v] || val_type(p->r.from, v).dt != DT_f32 || !half(p, v)) return 0;
  if (!p->again[v]) p->again[v] = cast_to(p->r.to, p->half[v], DT_f32, span_of(p->r.from, v));
  return p->again[v];
}

static bool keep(Precision *p, const Node *n) {
  Val first = n->nargs ? n->args[0] : 0, sum = first ? added_up(p, n, first) : 0;
  if (sum) {
    Val all = p->r.map[first];
    p->r.map[first] = sum;
    bool ok = rewrite_copy(&p->r, n) != 0;
    p->r.map[first] = all;
    return ok;
  }
  if (moves(n->op) && !p->r.map[first]) return (p->half[n->res] = move_half(p, n)) != 0;
  for (int k = 0; k < n->nargs; k++)
    if (!full(p, n->args[k])) return false;
  return rewrite_copy(&p->r, n) || n->nres == 0;
}

static bool precision(Module *into, const Graph *g) {
  Arena *a = into->arena;
  int n = g->nvals;
  Precision p = {rewrite_begin(into, g), NEW_ARRAY(a, Val, n),  NEW_ARRAY(a, Val, n),
                 NEW_ARRAY(a, bool, n),  NEW_ARRAY(a, bool, n), NEW_ARRAY(a, bool, n)};
  find_uses(&p);
  for (int i = 0; i < g->nnodes; i++)
    if (!(narrows(&p, &g->nodes[i]) ? narrow : keep)(&p, &g->nodes[i])) return false;
  for (int i = 0; i < g->noutputs; i++)
    if (!full(&p, g->outputs[i].val)) return false;
  rewrite_outputs(&p.r);
  return true;
}

static bool copy(Module *into, const Graph *g) {
  Rewrite r = rewrite_begin(into, g);
  for (int i = 0; i < g->nnodes; i++)
    if (!rewrite_copy(&r, &g->nodes[i]) && g->nodes[i].nres) return false;
  rewrite_outputs(&r);
  return true;
}

Module *pass_precision(Module *m, const Target *t) {
  Module *out = rewrite_module(m);
  out->compute = DT_f32; /* done */
  return rewrite_graphs(m, out, m->compute == DT_bf16 ? precision : copy) ? out : NULL;
}
