/* Dead code: nodes that no output needs are left out. Inputs stay: they are the graph's face to the outside. */
#include "passes/passes.h"
#include "passes/rewrite.h"

static bool dce(Module *into, const Graph *g) {
  bool *live = NEW_ARRAY(into->arena, bool, g->nvals);
  for (int i = 0; i < g->noutputs; i++) live[g->outputs[i].val] = true;
  for (int i = g->nnodes - 1; i >= 0; i--) {
    const Node *n = &g->nodes[i];
    bool any = false;
    for (int k = 0; k < n->nres; k++) any = any || live[n->res + (Val)k];
    for (int k = 0; any && k < n->nargs; k++) live[n->args[k]] = true;
    for (int k = 0; any && k < n->nres;
         k++) { /* all results stand or fall together, and their types' offsets with them */
      Type t = g->types[n->res + (Val)k];
      live[n->res + (Val)k] = true;
      for (int d = 0; d < t.rank; d++)
        if (t.dim[d].seg) live[t.dim[d].seg] = true;
    }
  }
  Rewrite r = rewrite_begin(into, g);
  for (int i = 0; i < g->nnodes; i++)
    if (g->nodes[i].nres && live[g->nodes[i].res] && !rewrite_copy(&r, &g->nodes[i])) return false;
  rewrite_outputs(&r);
  return true;
}

Module *pass_dce(Module *m, const Target *t) {
  Module *out = rewrite_module(m);
  return rewrite_graphs(m, out, dce) ? out : NULL;
}
