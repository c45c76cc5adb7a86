/* Dead code: nodes that no output needs are left out. Inputs stay: they are the graph's face to the outside. */
#include "passes/passes.h"
#include "passes/rewrite.h"

static void dce(Module *into, const Graph *g) {
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
    if (live[g->nodes[i].res]) rewrite_copy(&r, &g->nodes[i]);
  rewrite_outputs(&r);
}

Module *pass_dce(Module *m, const Target *t) {
  int errors = rewrite_errors(m);
  Module *out = rewrite_module(m);
  for (int i = 0; i < m->ngraphs; i++) dce(out, m->graphs[i]);
  return rewrite_errors(m) == errors ? out : NULL;
}
