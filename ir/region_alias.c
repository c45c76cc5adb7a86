/* Which operand of a region its kernel may, or must, write a result over. It follows from the order in which a kernel of each
 * kind reads and writes elements, and holds on every target. */
#include "ir/region.h"
#include <string.h>

/* Is the value read by the producers of a contraction's operands? */
static bool feeds_operand(const Graph *g, Val v, Val operand) {
  Arena *tmp = arena_new();
  bool *read = NEW_ARRAY(tmp, bool, g->nvals);
  read[operand] = true;
  for (int i = g->nnodes; i-- > 0;) { /* from the end, each node once: along all paths it could take for ever */
    const Node *n = &g->nodes[i];
    bool wanted = false;
    for (int k = 0; k < n->nres; k++) wanted |= read[n->res + (Val)k];
    for (int k = 0; k < n->nargs; k++) read[n->args[k]] |= wanted;
  }
  bool feeds = read[v];
  arena_free(tmp);
  return feeds;
}

static bool same_map(const Graph *g, Val a, Val b) {
  const Node *c = region_contract(g);
  Arena *tmp = arena_new();
  Space s;
  bool ok = space_solve(g, c ? c->res : region_anchor(g), tmp, &s) && s.known[a] && s.known[b] &&
            !memcmp(s.map[a], s.map[b], (size_t)val_type(g, a).rank);
  /* every axis that is walked (and not summed) must be in the value, or two threads would touch one element */
  for (int i = 0; ok && i < s.rank; i++) {
    bool in = s.reduced >> i & 1;
    for (int j = 0; j < val_type(g, a).rank; j++) in |= s.map[a][j] == i;
    ok = in;
  }
  arena_free(tmp);
  return ok;
}

/* A gather's table is read out of order. (A pick is too, but before its row's stores begin.) */
static bool read_indirectly(const Graph *g, Val v) {
  for (int i = 0; i < g->nnodes; i++)
    if (g->nodes[i].op == OP_gather && g->nodes[i].args[0] == v) return true;
  return false;
}

RegionAlias region_alias(const Graph *g, int output, int input) {
  Val out = g->outputs[output].val, in = g->inputs[input].val;
  if (!type_eq(val_type(g, out), val_type(g, in))) return REGION_NONE;
  const Node *n = &g->nodes[0];
  if (!strcmp(g->region, "scatter_add")) return in == n->args[0] ? REGION_MUST : REGION_NONE;
  if (n->op == OP_page_keys || n->op == OP_page_values) return in == n->args[0] ? REGION_MUST : REGION_NONE;
  if (!strcmp(g->region, "rope")) return in == n->args[0] ? REGION_MAY : REGION_NONE;
  if (n->op == OP_attend || n->op == OP_attend_grad || n->op == OP_attend_pages) return REGION_NONE;
  const Node *c = region_contract(g);
  if (c && c->op == OP_contract_from && in == c->args[2] && out == c->res) return REGION_MUST;
  if (c && (feeds_operand(g, in, c->args[0]) || feeds_operand(g, in, c->args[1]))) return REGION_NONE;
  if (read_indirectly(g, in)) return REGION_NONE;
  return same_map(g, out, in) ? REGION_MAY : REGION_NONE;
}
