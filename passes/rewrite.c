/* Copying a graph node by node into the next one, through a map from old values to new.
 *
 * Must hold: a node is copied after its operands are mapped, which execution order gives. Types that name a value (the
 * offsets of a segmented extent) go through the map, too. */
#include "passes/rewrite.h"

#include <string.h>

Type rewrite_type(const Rewrite *r, Type t) {
  for (int i = 0; i < t.rank; i++)
    if (t.dim[i].seg) t.dim[i].seg = r->map[t.dim[i].seg];
  return t;
}

Val rewrite_input(Rewrite *r, const Input *in) {
  Val v = graph_input(r->to, in->name, in->kind, rewrite_type(r, r->from->types[in->val]), in->span);
  r->to->inputs[r->to->ninputs - 1].decay = in->decay;
  return r->map[in->val] = v;
}

Rewrite rewrite_empty(Module *into, const Graph *from, const char *name) {
  Rewrite r = {from, graph_new(into, name), NEW_ARRAY(into->arena, Val, from->nvals)};
  r.to->region = from->region;
  return r;
}

Rewrite rewrite_begin(Module *into, const Graph *from) {
  Rewrite r = rewrite_empty(into, from, from->name);
  for (int i = 0; i < from->ninputs; i++) rewrite_input(&r, &from->inputs[i]);
  return r;
}

Val rewrite_copy(Rewrite *r, const Node *n) {
  Arena *a = r->to->mod->arena;
  Val args_few[8], *args = n->nargs <= LEN(args_few) ? args_few : NEW_ARRAY(a, Val, n->nargs);
  Type want_few[8], *want = n->nres <= LEN(want_few) ? want_few : NEW_ARRAY(a, Type, n->nres);
  for (int i = 0; i < n->nargs; i++) args[i] = r->map[n->args[i]];
  for (int i = 0; i < n->nres; i++) want[i] = rewrite_type(r, r->from->types[n->res + (Val)i]);
  Val v = graph_add(r->to, n->op, args, n->nargs, n->attrs, n->nattrs, want, n->span);
  for (int i = 0; v && i < n->nres; i++) r->map[n->res + (Val)i] = v + (Val)i;
  if (v && n->nplaces) {
    Node *copy = &r->to->nodes[r->to->nnodes - 1];
    copy->places = n->places;
    copy->nplaces = n->nplaces;
  }
  return v;
}

void rewrite_outputs(Rewrite *r) {
  for (int i = 0; i < r->from->noutputs; i++)
    graph_output(r->to, r->from->outputs[i].name, r->map[r->from->outputs[i].val]);
}

Module *rewrite_module(const Module *m) {
  Module *n = module_new(m->arena, m->diags, m->name);
  memcpy(n->mesh, m->mesh, sizeof n->mesh);
  n->naxes = m->naxes;
  n->compute = m->compute;
  n->serve = m->serve;
  return n;
}

bool *rewrite_live(const Graph *g, Arena *a) {
  bool *live = NEW_ARRAY(a, bool, g->nvals);
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
  return live;
}

static bool rewrite_graph(const Module *from, Module *into, int i, bool *seen, bool (*one)(Module *, const Graph *)) {
  if (seen[i]) return true;
  seen[i] = true;
  const Graph *g = from->graphs[i];
  for (int k = 0; k < g->nnodes; k++) {
    if (g->nodes[k].op != OP_call) continue;
    const char *fn = node_attr(&g->nodes[k], "fn")->str;
    for (int j = 0; j < from->ngraphs; j++)
      if (from->graphs[j]->name == fn && !rewrite_graph(from, into, j, seen, one)) return false;
  }
  return one(into, g);
}

bool rewrite_graphs(const Module *from, Module *into, bool (*one)(Module *into, const Graph *g)) {
  bool *seen = NEW_ARRAY(from->arena, bool, from->ngraphs);
  for (int i = 0; i < from->ngraphs; i++)
    if (!rewrite_graph(from, into, i, seen, one)) return false;
  for (int i = 0; i < from->ngraphs; i++) /* into the order of the text; graphs that `one` added stay behind */
    for (int k = i; k < into->ngraphs; k++)
      if (into->graphs[k]->name == from->graphs[i]->name) {
        Graph *g = into->graphs[k];
        for (; k > i; k--) into->graphs[k] = into->graphs[k - 1];
        into->graphs[i] = g;
      }
  return true;
}
