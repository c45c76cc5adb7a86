/* Maps of a region's values into its iteration space: constraints from each node, run forward and backward until
 * nothing changes. A node relates the axes of its result to those of its operands; the anchor's axes are the space. */
#include "ir/region.h"
#include <string.h>

bool op_is_contract(OpKind op) {
  return op == OP_contract || op == OP_contract_from;
}

bool op_reads_memory(OpKind op, int operand) {
  if (op == OP_gather) return true;
  return (op == OP_pick && operand == 1) || (op == OP_dropout && operand > 0) || op == OP_onehot || op == OP_valid;
}

const Node *region_contract(const Graph *g) {
  for (int i = 0; i < g->nnodes; i++)
    if (op_is_contract(g->nodes[i].op)) return &g->nodes[i];
  return NULL;
}

typedef struct Solve {
  const Graph *g;
  Space *s;
  bool changed, conflict;
} Solve;

static void learn(Solve *so, Val v, const int8_t *map) {
  int rank = val_type(so->g, v).rank;
  Space *s = so->s;
  if (!s->known[v]) {
    s->known[v] = so->changed = true;
    memcpy(s->map[v], map, (size_t)rank);
  } else if (memcmp(s->map[v], map, (size_t)rank)) {
    so->conflict = true;
  }
}

static uint32_t reduced_axes(const Graph *g, const Node *n) {
  if (n->op == OP_rowmax || n->op == OP_pick) return 1u << (val_type(g, n->args[0]).rank - 1);
  if (n->op != OP_sum) return 0;
  const Attr *at = node_attr(n, "axes");
  uint32_t bits = 0;
  for (int i = 0; i < at->n; i++) bits |= 1u << at->ints[i];
  return bits;
}

static void relate(Solve *so, const Node *n) {
  const Graph *g = so->g;
  Space *s = so->s;
  Val r = n->res;
  int8_t m[MAX_RANK] = {0};
  int rank = val_type(g, r).rank;
  if (op_info[n->op].ew || n->op == OP_cast || n->op == OP_stop || n->op == OP_valid || n->op == OP_dropout) {
    const int8_t *from = s->known[r] ? s->map[r] : NULL;
    for (int i = 0; i < n->nargs && !from; i++)
      if (s->known[n->args[i]] && val_type(g, n->args[i]).rank == rank) from = s->map[n->args[i]];
    if (!from && rank) return;
    memcpy(m, from ? from : m, from ? (size_t)rank : 0);
    learn(so, r, m);
    for (int i = 0; i < n->nargs; i++) learn(so, n->args[i], m); /* rank 0 compares nothing */
    return;
  }
  switch (n->op) {
  case OP_const: learn(so, r, m); return;
  case OP_broadcast:
    if (!s->known[r]) return;
    for (int i = 0; i < val_type(g, n->args[0]).rank; i++) m[i] = s->map[r][node_attr(n, "axes")->ints[i]];
    learn(so, n->args[0], m);
    return;
  case OP_transpose: {
    const Attr *perm = node_attr(n, "perm");
    if (s->known[n->args[0]]) {
      for (int i = 0; i < rank; i++) m[i] = s->map[n->args[0]][perm->ints[i]];
      learn(so, r, m);
    } else if (s->known[r]) {
      for (int i = 0; i < rank; i++) m[perm->ints[i]] = s->map[r][i];
      learn(so, n->args[0], m);
    }
    return;
  }
  case OP_sum:
  case OP_rowmax:
  case OP_pick: {
    Val x = n->args[0];
    if (!s->known[x]) return;
    uint32_t out = reduced_axes(g, n);
    int k = 0;
    for (int i = 0; i < val_type(g, x).rank; i++)
      if (out >> i & 1)
        s->reduced |= 1u << s->map[x][i];
      else
        m[k++] = s->map[x][i];
    learn(so, r, m);
    if (n->op == OP_pick) learn(so, n->args[1], m);
    return;
  }
  case OP_onehot:
    if (s->known[r]) learn(so, n->args[0], s->map[r]);
    return;
  case OP_gather: {
    if (!s->known[r]) return;
    int ni = val_type(g, n->args[1]).rank;
    learn(so, n->args[1], s->map[r]);
    m[0] = MAP_INDIRECT;
    for (int i = 1; i < val_type(g, n->args[0]).rank; i++) m[i] = s->map[r][ni + i - 1];
    learn(so, n->args[0], m);
    return;
  }
  default: return; /* contractions bound the space */
  }
}

/* Axes i and i+1 of the space go together if every access has both, adjacent and in order, or neither. */
static bool together(const Graph *g, const Space *s, Val v, int axis) {
  int rank = val_type(g, v).rank, at = -1, next = -1;
  for (int i = 0; i < rank; i++) {
    if (s->map[v][i] == axis) at = i;
    if (s->map[v][i] == axis + 1) next = i;
  }
  return (at < 0 && next < 0) || (at >= 0 && next == at + 1);
}

static void make_groups(const Graph *g, Space *s) {
  s->ngroups = 0;
  s->start[0] = 0;
  for (int axis = 0; axis + 1 < s->rank; axis++) {
    bool join = (s->reduced >> axis & 1) == (s->reduced >> (axis + 1) & 1);
    for (int i = 0; i < g->ninputs && join; i++)
      if (s->known[g->inputs[i].val]) join = together(g, s, g->inputs[i].val, axis);
    for (int i = 0; i < g->noutputs && join; i++)
      if (s->known[g->outputs[i].val]) join = together(g, s, g->outputs[i].val, axis);
    for (int i = 0; i < g->nnodes && join;
         i++) { /* ops that look at one axis's own index, and a contraction's result */
      const Node *n = &g->nodes[i];
      if ((n->op == OP_onehot || n->op == OP_dropout || op_is_contract(n->op)) && s->known[n->res])
        join = together(g, s, n->res, axis);
      if (n->op == OP_onehot && s->known[n->args[0]]) join = join && together(g, s, n->args[0], axis);
    }
    if (!join) s->start[++s->ngroups] = axis + 1;
  }
  if (s->rank) s->start[++s->ngroups] = s->rank;
}

bool space_solve(const Graph *g, Val anchor, Arena *a, Space *s) {
  memset(s, 0, sizeof *s);
  Type t = val_type(g, anchor);
  s->rank = t.rank;
  memcpy(s->dim, t.dim, sizeof s->dim);
  s->map = arena_alloc(a, sizeof *s->map * (size_t)g->nvals);
  s->known = NEW_ARRAY(a, bool, g->nvals);
  Solve so = {g, s, true, false};
  int8_t id[MAX_RANK];
  for (int i = 0; i < MAX_RANK; i++) id[i] = (int8_t)i;
  learn(&so, anchor, id);
  for (;;) {
    while (so.changed && !so.conflict) {
      so.changed = false;
      for (int i = 0; i < g->nnodes; i++) relate(&so, &g->nodes[i]);
      for (int i = g->nnodes - 1; i >= 0; i--) relate(&so, &g->nodes[i]);
    }
    /* what has the same shape and shares no value with the anchor's part walks along, the first in order first: what is
     * made of it follows */
    int i = 0;
    while (i < g->nnodes && (s->known[g->nodes[i].res] || !shape_eq(val_type(g, g->nodes[i].res), t))) i++;
    if (so.conflict || i == g->nnodes) break;
    learn(&so, g->nodes[i].res, id);
  }
  make_groups(g, s);
  return !so.conflict;
}

Val region_anchor(const Graph *g) {
  Val best = 0;
  int64_t most = -1;
  bool reduces = false;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    bool red = n->op == OP_sum || n->op == OP_rowmax || n->op == OP_pick;
    Val v = red ? n->args[0] : n->res;
    Type t = val_type(g, v);
    int64_t size = type_elements(t) * (MAX_RANK + 1) + t.rank; /* extents of 1 make ties: the most axes win */
    if ((red && !reduces) || (red == reduces && size > most)) {
      best = v;
      most = size;
      reduces = red;
    }
  }
  return best;
}

int space_group(const Space *s, int axis) {
  int group = 0;
  while (group + 1 < s->ngroups && s->start[group + 1] <= axis) group++;
  return group;
}

bool space_has(const Space *s, const Graph *g, Val v, int group) {
  for (int i = 0; i < val_type(g, v).rank; i++)
    if (s->map[v][i] >= s->start[group] && s->map[v][i] < s->start[group + 1]) return true;
  return false;
}

/* A table's rows are addressed through an index; every other value has a place of its own along each of its axes. */
static bool has_place(const Graph *g, const Space *s, Val v) {
  for (int i = 0; i < val_type(g, v).rank; i++)
    if (s->map[v][i] == MAP_INDIRECT) return false;
  return true;
}

bool region_fits(const Graph *g, const char *kind) {
  Arena *a = arena_new();
  Space s;
  const Node *c = region_contract(g);
  bool ok = space_solve(g, c ? c->res : region_anchor(g), a, &s);
  for (int i = 0; i < g->nnodes && ok; i++) {
    const Node *n = &g->nodes[i];
    for (int k = 0; k < n->nargs && ok; k++) ok = !op_reads_memory(n->op, k) || g->def[n->args[k]] < 0;
    for (int k = n->op == OP_gather; k < n->nargs && ok; k++) ok = has_place(g, &s, n->args[k]);
    if (c) continue;
    ok = ok && s.known[n->res];
    for (int k = 0; k < n->nargs && ok; k++) ok = s.known[n->args[k]];
  }
  for (int i = 0; i < g->noutputs && ok; i++) ok = s.known[g->outputs[i].val];
  uint32_t inner = s.rank ? 1u << (s.rank - 1) : 0;
  if (ok && !strcmp(kind, "map")) ok = !s.reduced;
  if (ok && !strcmp(kind, "row")) {
    /* the reduced axes are one group, the last, and every full output is stored along it */
    ok = s.ngroups > 0 && s.reduced == ((1u << s.rank) - (1u << s.start[s.ngroups - 1]));
    for (int i = 0; i < g->nnodes && ok; i++)
      if (g->nodes[i].op == OP_pick) ok = s.rank - s.start[s.ngroups - 1] == 1;
  }
  if (ok && !strcmp(kind, "column")) {
    /* what comes of the sums does not run along the summed axes again */
    ok = s.reduced && !(s.reduced & inner);
    for (int i = 0; i < g->noutputs && ok; i++)
      for (int j = 0; j < val_type(g, g->outputs[i].val).rank && ok; j++)
        ok = !(s.reduced >> s.map[g->outputs[i].val][j] & 1);
  }
  arena_free(a);
  return ok;
}
