/* Parts of regions: one output made again from what else the region has, where only pointwise work lies between.
 *
 * Why: a contraction with an activation behind it stores both, what it summed and what the activation made of it. To have the second
 * again, it takes the first and a walk over it, not the contraction.
 * How: from the output backwards, up to inputs and other outputs of the region. If all on the way belongs into a map, and is
 * one (region_fits), it is a region of kind map. Kernels of all kinds have the evaluator's bits, so this one has those of
 * the region that it is a part of. */
#include "passes/remat.h"
#include "passes/rewrite.h"
#include <string.h>

static bool pointwise(OpKind op) {
  return op_info[op].ew || op == OP_const || op == OP_broadcast || op == OP_onehot || op == OP_valid || op == OP_stop ||
         op == OP_cast || op == OP_gather || op == OP_transpose || op == OP_dropout;
}

typedef struct Cut {
  const Part *part;
  Rewrite r;
  int *from, nfrom;
} Cut;

/* Where the part is given v from: as Part.from; INT32_MIN: it makes it. */
static int given(const Part *p, Val v) {
  const Graph *g = p->of;
  for (int i = 0; i < g->ninputs; i++)
    if (g->inputs[i].val == v) return i;
  for (int o = 0; o < g->noutputs; o++)
    if (g->outputs[o].val == v && v != g->outputs[p->output].val) return -1 - o;
  return INT32_MIN;
}

static bool want(Cut *c, Val v) {
  const Graph *g = c->part->of;
  if (c->r.map[v]) return true;
  int from = given(c->part, v);
  if (from != INT32_MIN) {
    const char *name = intern(arena_printf(c->r.to->mod->arena, "x%d", c->nfrom));
    c->from[c->nfrom++] = from;
    return (c->r.map[v] = graph_input(c->r.to, name, IN_DATA, val_type(g, v), (Span){0})) != 0;
  }
  const Node *n = val_node(g, v);
  if (!pointwise(n->op)) return false;
  for (int i = 0; i < n->nargs; i++)
    if (!want(c, n->args[i])) return false;
  return rewrite_copy(&c->r, n) != 0;
}

static Graph *build(const Part *p, Module *m, const char *name, int *from, int *nfrom) {
  Cut c = {.part = p, .r = rewrite_empty(m, p->of, name), .from = from};
  c.r.to->region = intern("map");
  Val out = p->of->outputs[p->output].val;
  if (!want(&c, out)) return NULL;
  graph_output(c.r.to, intern("y0"), c.r.map[out]);
  *nfrom = c.nfrom;
  return c.r.to;
}

static bool segmented(const Graph *g) {
  for (int v = 1; v < g->nvals; v++)
    for (int k = 0; k < g->types[v].rank; k++)
      if (g->types[v].dim[k].seg) return true;
  return false;
}

static Part part_new(Parts *parts, const Graph *of, int output) {
  Part p = {.of = of, .output = output};
  bool input = of->def[of->outputs[output].val] < 0;
  if (of->noutputs < 2 || !of->region || !strcmp(of->region, "loop") || input || segmented(of)) return p;
  p.from = NEW_ARRAY(parts->tmp, int, of->nvals);
  Module *m = module_new(parts->tmp, diags_new(parts->tmp), "try");
  memcpy(m->mesh, of->mod->mesh, sizeof m->mesh);
  m->naxes = of->mod->naxes;
  Graph *g = build(&p, m, "part", p.from, &p.nfrom);
  if (!g || !g->nnodes || !region_fits(g, "map")) return p;
  p.trial = g;
  p.alias = live_aliases(g, parts->tmp);
  return p;
}

int part_find(Parts *p, const Graph *of, int output) {
  int i = 0;
  while (i < p->n && !(p->list[i].of == of && p->list[i].output == output)) i++;
  if (i == p->n) {
    Part new = part_new(p, of, output);
    PUSH(p->tmp, p->list, p->n, p->cap, new);
  }
  return p->list[i].trial ? i : -1;
}

const Graph *part_region(Parts *p, int part, Module *to) {
  Part *x = &p->list[part];
  if (x->made) return x->made;
  const char *name;
  do name = intern(arena_printf(to->arena, "again.%d", p->made++));
  while (module_find(p->from, name));
  return x->made = build(x, to, name, x->from, &x->nfrom);
}

double part_flops(const Part *part) {
  double sum = 0;
  for (int i = 0; i < part->trial->nnodes; i++) sum += node_flops(part->trial, &part->trial->nodes[i]);
  return sum;
}
