/* What an integer value indexes: the loader checks token ids against it before a kernel reads a table with them, and made-up
 * inputs of tests stay below it.
 *
 * Followed forward from the value through whatever passes it on unchanged (reshape, broadcast, transpose, stop, cast to
 * an integer) and through calls to the ops that index: gather, scatter_add, pick, onehot, rope. */
#include "ir/graph.h"

static int64_t indexed_by(const Graph *g, const Node *n, int operand) {
  Type first = val_type(g, n->args[0]), res = val_type(g, n->res);
  switch (n->op) {
  case OP_gather:
  case OP_scatter_add: return operand == 1 ? first.dim[0].n : 0;
  case OP_pick: return operand == 1 ? first.dim[first.rank - 1].n : 0;
  case OP_onehot: return res.dim[res.rank - 1].n;
  case OP_rope: return operand == 3 ? val_type(g, n->args[1]).dim[0].n : 0;
  case OP_reshape:
  case OP_broadcast:
  case OP_transpose:
  case OP_stop: return graph_index_bound(g, n->res);
  case OP_call: {
    const Attr *fn = node_attr(n, "fn");
    const Graph *c = fn ? module_find(g->mod, fn->str) : NULL;
    return c && operand < c->ninputs ? graph_index_bound(c, c->inputs[operand].val) : 0;
  }
  default: return 0;
  }
}

int64_t graph_index_bound(const Graph *g, Val v) {
  int64_t least = 0;
  for (int i = 0; i < g->nnodes; i++)
    for (int k = 0; k < g->nodes[i].nargs; k++) {
      int64_t b = g->nodes[i].args[k] == v ? indexed_by(g, &g->nodes[i], k) : 0;
      if (b && (!least || b < least)) least = b;
    }
  return least;
}
