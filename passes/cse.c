/* Common subexpressions: a node equal to an earlier one becomes it.
 *
 * Equal: the same op, operands, attributes and result types. The operands of add and mul are ordered first, so a + b is
 * b + a (which have the same bits). One hash table a graph, chained; values are never redefined, so an earlier equal
 * node always serves. */
#include "passes/passes.h"
#include "passes/rewrite.h"

#include <string.h>

typedef struct Table {
  int *first, *next; /* 1 + node of the new graph; first by hash, next by node */
  int size;          /* a power of two */
} Table;

static uint64_t mix(uint64_t h, uint64_t x) {
  h = (h ^ x) * 0x9E3779B97F4A7C15u;
  return h ^ h >> 29;
}

static uint64_t node_hash(const Graph *g, const Node *n) {
  uint64_t h = n->op;
  for (int i = 0; i < n->nargs; i++) h = mix(h, n->args[i]);
  for (int i = 0; i < n->nattrs; i++) {
    const Attr *a = &n->attrs[i];
    uint64_t num;
    memcpy(&num, &a->num, sizeof num);
    h = mix(mix(mix(h, (uint64_t)a->i), num), (uint64_t)(uintptr_t)a->str);
    for (int k = 0; k < a->n; k++) h = mix(h, (uint64_t)a->ints[k]);
  }
  Type t = n->nres ? g->types[n->res] : (Type){0};
  for (int i = 0; i < t.rank; i++) h = mix(h, (uint64_t)t.dim[i].n);
  return h;
}

static bool attr_same(const Attr *a, const Attr *b) {
  return a->name == b->name && a->kind == b->kind && a->i == b->i && memcmp(&a->num, &b->num, sizeof a->num) == 0 &&
         a->str == b->str && a->n == b->n && memcmp(a->ints, b->ints, sizeof(int64_t) * (size_t)a->n) == 0;
}

static bool node_same(const Graph *g, const Node *a, const Node *b) {
  if (a->op != b->op || a->nargs != b->nargs || a->nres != b->nres || a->nattrs != b->nattrs) return false;
  for (int i = 0; i < a->nargs; i++)
    if (a->args[i] != b->args[i]) return false;
  for (int i = 0; i < a->nattrs; i++)
    if (!attr_same(&a->attrs[i], &b->attrs[i])) return false;
  for (int i = 0; i < a->nres; i++)
    if (!type_eq(g->types[a->res + (Val)i], g->types[b->res + (Val)i])) return false;
  return true;
}

static bool cse(Module *into, const Graph *g) {
  Table t = {.size = 16};
  while (t.size < 2 * g->nnodes) t.size *= 2;
  t.first = NEW_ARRAY(into->arena, int, t.size);
  t.next = NEW_ARRAY(into->arena, int, g->nnodes);
  Rewrite r = rewrite_begin(into, g);
  for (int i = 0; i < g->nnodes; i++) {
    Node n = g->nodes[i];
    Val swapped[2];
    if ((n.op == OP_add || n.op == OP_mul) && r.map[n.args[0]] > r.map[n.args[1]]) {
      swapped[0] = n.args[1];
      swapped[1] = n.args[0];
      n.args = swapped;
    }
    /* The copy is appended, then taken back if an equal node is there: its types are inferred only once that way. */
    int nnodes = r.to->nnodes, nvals = r.to->nvals;
    if (!rewrite_copy(&r, &n)) return false;
    const Node *copy = &r.to->nodes[nnodes];
    int *slot = &t.first[node_hash(r.to, copy) & (uint64_t)(t.size - 1)], at = *slot;
    while (at && !node_same(r.to, &r.to->nodes[at - 1], copy)) at = t.next[at - 1];
    if (at) {
      for (int k = 0; k < n.nres; k++) r.map[n.res + (Val)k] = r.to->nodes[at - 1].res + (Val)k;
      r.to->nnodes = nnodes;
      r.to->nvals = nvals;
    } else {
      t.next[nnodes] = *slot;
      *slot = 1 + nnodes;
    }
  }
  rewrite_outputs(&r);
  return true;
}

Module *pass_cse(Module *m, const Target *t) {
  Module *out = rewrite_module(m);
  return rewrite_graphs(m, out, cse) ? out : NULL;
}
