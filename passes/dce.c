/* Dead code: nodes that no output needs are left out. Inputs stay: they are the graph's face to the outside.
 *
 * And the order of what stays: a node that adds to a state (grad.w + the gradient just found) stands as early as it can, right
 * behind the last of its operands. Autodiff can give it only at the end, where the gradients of all weights, or all
 * that they are made of, would have to be kept until then. */
#include "passes/passes.h"
#include "passes/rewrite.h"

/* By value: the result of add or scatter_add onto a state, or onto such a result, that no other node reads. */
static bool *find_sums(const Graph *g, const bool *live, Arena *a) {
  bool *sum = NEW_ARRAY(a, bool, g->nvals);
  for (int i = 0; i < g->ninputs; i++) sum[g->inputs[i].val] = g->inputs[i].kind == IN_STATE;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (n->op == OP_add) sum[n->res] = sum[n->args[0]] || sum[n->args[1]];
    if (n->op == OP_scatter_add) sum[n->res] = sum[n->args[0]];
  }
  for (int i = g->nnodes - 1; i >= 0; i--) { /* users come later: what they are not, their operands are not */
    const Node *n = &g->nodes[i];
    bool user = n->nres == 1 && sum[n->res];
    for (int k = 0; k < n->nargs; k++)
      if (!user && n->nres && live[n->res] && g->def[n->args[k]] >= 0) sum[n->args[k]] = false;
  }
  return sum;
}

static bool dce(Module *into, const Graph *g) {
  Arena *a = into->arena;
  bool *live = rewrite_live(g, a), *sum = find_sums(g, live, a);
  /* Node i comes at place[i]: 1 + i, or right behind the node that its last operand waits for. */
  int *place = NEW_ARRAY(a, int, g->nnodes), *first = NEW_ARRAY(a, int, g->nnodes + 1);
  int *next = NEW_ARRAY(a, int, g->nnodes), *last = NEW_ARRAY(a, int, g->nnodes + 1);
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (n->nres == 0 || !live[n->res]) continue;
    place[i] = 1 + i;
    if (n->nres == 1 && sum[n->res]) {
      place[i] = 0;
      for (int k = 0; k < n->nargs; k++) {
        int32_t def = g->def[n->args[k]];
        if (def >= 0 && place[def] > place[i]) place[i] = place[def];
      }
    }
    int *list = last[place[i]] ? &next[last[place[i]] - 1] : &first[place[i]]; /* 1 + node; 0: the end */
    *list = last[place[i]] = 1 + i;
  }
  Rewrite r = rewrite_begin(into, g);
  for (int p = 0; p <= g->nnodes; p++)
    for (int i = first[p]; i; i = next[i - 1])
      if (!rewrite_copy(&r, &g->nodes[i - 1])) return false;
  rewrite_outputs(&r);
  return true;
}

Module *pass_dce(Module *m, const Target *t) {
  Module *out = rewrite_module(m);
  return rewrite_graphs(m, out, dce) ? out : NULL;
}
