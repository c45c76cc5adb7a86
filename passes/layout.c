/* layout: weights of a program that serves lie in memory as its contractions read them.
 *
 * Why: a decode reads each weight once, so it may not be packed first; and its panels are one stream of memory. In training weights
 * change every step, and a contraction packs its operands itself.
 * How: after fusion. Where every call of a contraction's region passes a parameter as the same operand, whose dims are the
 * result's columns and then all that is summed, the region's input becomes packed: panels of two vectors of columns. If the region
 * rounds it to bf16 first, it is kept in bf16 and the rounding leaves. The parameter of the main graph changes with it if all
 * that reads it does; else a second one, NAME.packed, stands beside it (an embedding that is also the logits' weight).
 *
 * Only modules that serve are touched. Invariant: the same bits. */
#include "ir/region.h"
#include "ir/rule.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

#include <string.h>

/* What becomes of a region: its packed input and the type of it. */
typedef struct Change {
  const Graph *region;
  int input; /* -1: none */
  Type type;
  Val cast; /* the value that rounds the input, which it takes the place of; 0: none */
  Graph *made;
} Change;

static int uses(const Graph *g, Val v) {
  int n = 0;
  for (int i = 0; i < g->nnodes; i++)
    for (int k = 0; k < g->nodes[i].nargs; k++) n += g->nodes[i].args[k] == v;
  for (int i = 0; i < g->noutputs; i++) n += g->outputs[i].val == v;
  return n;
}

/* Letters first..first+n-1 of b, neighbours in that order in `in` of ni letters? */
static bool run_of(const char *b, int first, int n, const char *in, int ni) {
  int at = rule_find(in, ni, b[first]);
  for (int i = 0; i < n; i++)
    if (at < 0 || at + i >= ni || in[at + i] != b[first + i]) return false;
  return true;
}

/* How many dims of operand j are columns, if it can be packed: the last columns of the result, then what is summed. */
static int columns_of(const Rule *r, int j) {
  const char *b = j ? r->b : r->a, *a = j ? r->a : r->b;
  int nb = j ? r->nb : r->na, na = j ? r->na : r->nb, split = 0;
  while (split < nb && rule_find(r->out, r->no, b[split]) >= 0) split++;
  if (!split || split == nb || r->no < split || memcmp(r->out + r->no - split, b, (size_t)split)) return 0;
  for (int i = 0; i < split; i++)
    if (rule_find(a, na, b[i]) >= 0) return 0;
  return run_of(b, split, nb - split, a, na) ? split : 0;
}

/* Are the result's last `n` axes walked as one? A panel may span them only then. */
static bool one_run(const Graph *g, Val res, int n) {
  Arena *tmp = arena_new();
  Space s;
  bool ok = space_solve(g, res, tmp, &s) && space_group(&s, s.rank - n) == space_group(&s, s.rank - 1);
  arena_free(tmp);
  return ok;
}

static Change change_of(const Graph *g, const Target *t) {
  Change c = {.region = g, .input = -1};
  Rule r;
  const char *err;
  const Node *n = g->region && !strcmp(g->region, "contract") ? region_contract(g) : NULL;
  if (!n || n->op != OP_contract || !rule_parse(node_attr(n, "rule")->str, &r, &err)) return c;
  for (int j = 1; j >= 0; j--) {
    Val v = n->args[j], cast = 0;
    const Node *d = val_node(g, v);
    if (d && d->op == OP_cast && uses(g, v) == 1) cast = v, v = d->args[0];
    Type type = val_type(g, v);
    int split = columns_of(&r, j);
    if (g->def[v] >= 0 || uses(g, v) != 1 || !split || n->args[0] == n->args[1] || !one_run(g, n->res, split)) continue;
    if (cast) type.dt = val_type(g, cast).dt;
    type.split = split, type.panel = 2 * t->lanes;
    bool fixed = type.dt == DT_f32 || type.dt == DT_bf16;
    for (int i = 0; i < type.rank; i++) fixed = fixed && !type.dim[i].sym && !type.dim[i].seg && !type.dim[i].axis;
    if (!fixed) continue;
    c.input = -1 - g->def[v], c.type = type, c.cast = cast;
    return c;
  }
  return c;
}

static bool changes(const Change *c, int n, const Node *call, int operand, const Change **which) {
  const char *fn = call->op == OP_call ? node_attr(call, "fn")->str : NULL;
  for (int i = 0; fn && i < n; i++)
    if (c[i].region->name == fn && c[i].input == operand) {
      if (which) *which = &c[i];
      return true;
    }
  return false;
}

/* A region may change only if all of its calls pass a parameter there that nothing updates. */
static void drop_shared(const Module *m, Change *c, int n) {
  for (int i = 0; i < m->ngraphs; i++) {
    const Graph *g = m->graphs[i];
    for (int k = 0; k < g->nnodes; k++)
      for (int j = 0; j < g->nodes[k].nargs; j++) {
        const Change *at;
        if (!changes(c, n, &g->nodes[k], j, &at)) continue;
        const Input *in = val_input(g, g->nodes[k].args[j]);
        if (g->region || !in || in->kind != IN_PARAM || graph_find_output(g, in->name)) c[at - c].input = -1;
      }
  }
}

static bool rewrite_region(Module *into, Change *c) {
  const Graph *g = c->region;
  Rewrite r = rewrite_empty(into, g, g->name);
  r.to->region = g->region;
  for (int i = 0; i < g->ninputs; i++) {
    const Input *in = &g->inputs[i];
    if (i != c->input) {
      rewrite_input(&r, in);
      continue;
    }
    r.map[in->val] = graph_input(r.to, in->name, in->kind, c->type, in->span);
    if (c->cast) r.map[c->cast] = r.map[in->val];
  }
  for (int i = 0; i < g->nnodes; i++)
    if ((!c->cast || g->nodes[i].res != c->cast) && !rewrite_copy(&r, &g->nodes[i])) return false;
  rewrite_outputs(&r);
  c->made = r.to;
  return true;
}

/* The main graph: parameters that are packed, or have a packed one beside them. */
static bool rewrite_main(Module *into, const Graph *g, const Change *c, int n) {
  Rewrite r = rewrite_empty(into, g, g->name);
  r.to->region = g->region;
  Val *packed = NEW_ARRAY(into->arena, Val, g->nvals);
  for (int i = 0; i < g->ninputs; i++) {
    const Input *in = &g->inputs[i];
    const Change *as = NULL, *other;
    int readers = 0;
    bool same = true; /* all that take it packed want one type */
    for (int k = 0; k < g->nnodes; k++)
      for (int j = 0; j < g->nodes[k].nargs; j++)
        if (g->nodes[k].args[j] == in->val && changes(c, n, &g->nodes[k], j, &other)) {
          same = same && (!as || type_eq(as->type, other->type));
          as = other;
          readers++;
        }
    bool all = as && same && readers == uses(g, in->val);
    if (!all) rewrite_input(&r, in);
    if (!as) continue;
    if (!same) return diag_error(into->diags, in->span, "%s is read in two packed forms", in->name);
    const char *name = all ? in->name : intern(arena_printf(into->arena, "%s" PACKED, in->name));
    packed[in->val] = graph_input(r.to, name, in->kind, as->type, in->span);
  }
  for (int k = 0; k < g->nnodes; k++) { /* a call takes one operand at most packed: a region has one contraction */
    const Node *node = &g->nodes[k];
    int j = 0;
    while (j < node->nargs && !changes(c, n, node, j, NULL)) j++;
    if (j == node->nargs) {
      if (!rewrite_copy(&r, node) && node->nres) return false;
      continue;
    }
    Node call = *node; /* the packed one as a value of its own, for it may be another operand as well */
    call.args = NEW_ARRAY(into->arena, Val, node->nargs);
    for (int i = 0; i < node->nargs; i++) call.args[i] = node->args[i];
    call.args[j] = 0;
    r.map[0] = packed[node->args[j]];
    if (!rewrite_copy(&r, &call)) return false;
    r.map[0] = 0;
  }
  rewrite_outputs(&r);
  return true;
}

Module *pass_layout(Module *m, const Target *t) {
  if (!m->serve.seqs) return m;
  Module *out = rewrite_module(m);
  Change *c = NEW_ARRAY(m->arena, Change, m->ngraphs + 1);
  for (int i = 0; i < m->ngraphs; i++) c[i] = change_of(m->graphs[i], t);
  drop_shared(m, c, m->ngraphs);
  for (int i = 0; i < m->ngraphs; i++) /* callees stand first after fusion */
    if (!(m->graphs[i]->region && strcmp(m->graphs[i]->region, "loop")
              ? rewrite_region(out, &c[i])
              : rewrite_main(out, m->graphs[i], c, m->ngraphs)))
      return NULL;
  return out;
}
