/* What an integer value indexes: the loader checks token ids against it before a kernel reads a table with them, and made-up
 * inputs of tests stay below it.
 *
 * Followed forward from the value through whatever passes it on unchanged (reshape, broadcast, transpose, stop, cast to
 * an integer) and through calls to the ops that index: gather, scatter_add, pick, onehot, rope. */
#include "ir/graph.h"

static IndexUse indexed_by(const Graph *g, const Node *n, int operand) {
  Type first = val_type(g, n->args[0]), res = val_type(g, n->res);
  IndexUse none = {0, true};
  switch (n->op) {
  case OP_gather: return operand == 1 ? (IndexUse){first.dim[0].n, false} : none;
  case OP_scatter_add: return operand == 1 ? (IndexUse){first.dim[0].n, true} : none;
  case OP_pick: return operand == 1 ? (IndexUse){first.dim[first.rank - 1].n, true} : none;
  case OP_onehot: return (IndexUse){res.dim[res.rank - 1].n, true};
  case OP_rope: return operand == 3 ? (IndexUse){val_type(g, n->args[1]).dim[0].n, false} : none;
  case OP_reshape:
  case OP_broadcast:
  case OP_transpose:
  case OP_stop: return graph_index_use(g, n->res);
  case OP_call: {
    const Attr *fn = node_attr(n, "fn");
    const Graph *c = fn ? module_find(g->mod, fn->str) : NULL;
    return c && operand < c->ninputs ? graph_index_use(c, c->inputs[operand].val) : none;
  }
  default: return none;
  }
}

IndexUse graph_index_use(const Graph *g, Val v) {
  IndexUse all = {0, true};
  for (int i = 0; i < g->nnodes; i++)
    for (int k = 0; k < g->nodes[i].nargs; k++) {
      if (g->nodes[i].args[k] != v) continue;
      IndexUse u = indexed_by(g, &g->nodes[i], k);
      if (u.bound && (!all.bound || u.bound < all.bound)) all.bound = u.bound;
      all.negative = all.negative && u.negative;
    }
  return all;
}
