/* Groups to regions. A region is a graph built from the group's members and the copies that they read; its inputs are what it
 * takes from outside, in the order it is first asked for. Regions are written without names and positions; equal text means
 * one region. What is tried before it is decided is built the same way, in an arena that goes with the trial. */
#include "passes/fuse.h"
#include <stdio.h>
#include <string.h>

/* What the lowerings hold at once: buffers of a kernel, results of a tile, sums of a column block. */
enum { MAX_INPUTS = 60, MAX_MEMBERS = 400, MAX_TILE_MEMBERS = 48, MAX_SUMS = 8 };

/* ---- building a region graph from members */

typedef struct Build {
  const Fuse *f;
  Graph *r;
  int turn;
  Val *ins; /* old values, by input */
  int nins, cap_ins;
} Build;

static Val got(const Build *b, Val v) {
  return b->f->stamp[v] == b->turn ? b->f->built[v] : 0;
}

static Val set(const Build *b, Val v, Val r) {
  b->f->stamp[v] = b->turn;
  return b->f->built[v] = r;
}

static Val want(Build *b, Val v);

/* Regions know no names of constant extents; offsets of segments are inputs of theirs. */
static Type bare(Build *b, Type t) {
  for (int i = 0; i < t.rank; i++) {
    if (!t.dim[i].sym) t.dim[i].name = NULL;
    if (t.dim[i].seg) t.dim[i].seg = want(b, t.dim[i].seg);
  }
  return t;
}

/* Where a region is tried, in an arena that goes with it. */
static Module *trial(const Fuse *f, Arena *a, Diags *d) {
  Module *m = module_new(a, d, "try");
  memcpy(m->mesh, f->to->mesh, sizeof m->mesh);
  m->naxes = f->to->naxes;
  return m;
}

static Val new_input(Build *b, Val v) {
  char name[16];
  Type t = bare(b, val_type(b->f->g, v));
  snprintf(name, sizeof name, "x%d", b->nins);
  PUSH(b->f->tmp, b->ins, b->nins, b->cap_ins, v);
  return graph_input(b->r, name, IN_DATA, t, (Span){0});
}

/* Operand i of a node. What a kernel updates in place must not be read as another of its operands: it is an input twice then. */
static Val operand(Build *b, const Node *n, int i) {
  bool twice = (n->op == OP_scatter_add && i == 2 && n->args[2] == n->args[0]) ||
               (n->op == OP_contract_from && i == 2 && got(b, n->args[2]));
  return twice ? new_input(b, n->args[i]) : want(b, n->args[i]);
}

static bool build_node(Build *b, int node) {
  const Graph *g = b->f->g;
  const Node *n = &g->nodes[node];
  Val args[8];
  for (int i = 0; i < n->nargs; i++)
    if (!(args[i] = operand(b, n, i))) return false;
  Type t = bare(b, val_type(g, n->res));
  Val r = graph_add(b->r, n->op, args, n->nargs, n->attrs, n->nattrs, &t, n->span);
  if (!r) return false;
  for (int i = 0; i < n->nres; i++) set(b, n->res + (Val)i, r + (Val)i);
  return true;
}

static Val want(Build *b, Val v) {
  const Graph *g = b->f->g;
  if (got(b, v)) return got(b, v);
  int node = g->def[v];
  if (node >= 0 && b->f->lazy[node]) return build_node(b, node) ? got(b, v) : 0;
  return set(b, v, new_input(b, v));
}

/* Members in order, every listed value an output. */
static bool build(Build *b, const Fuse *f, Module *m, const char *name, const char *kind, const int *node, int n,
                  const Val *outs, int nouts) {
  *b = (Build){.f = f, .r = graph_new(m, name)};
  b->r->region = intern(kind);
  b->turn = ++*f->turn;
  for (int i = 0; i < n; i++)
    if (!build_node(b, node[i])) return false;
  for (int i = 0; i < nouts; i++) {
    char y[16];
    snprintf(y, sizeof y, "y%d", i);
    graph_output(b->r, y, got(b, outs[i]));
  }
  return true;
}

/* Members' values that others may read, too: an output each, unless those others join or make it again. */
static int count_outputs(const Fuse *f, const int *node, int n) {
  int outputs = 0;
  for (int i = 0; i < n; i++) {
    const Node *m = &f->g->nodes[node[i]];
    for (int k = 0; k < m->nargs; k++) f->within[m->args[k]]++;
  }
  for (int i = 0; i < n; i++) {
    Val v = f->g->nodes[node[i]].res;
    outputs += f->leaves[v] || f->uses[v] > f->within[v];
  }
  for (int i = 0; i < n; i++) {
    const Node *m = &f->g->nodes[node[i]];
    for (int k = 0; k < m->nargs; k++) f->within[m->args[k]] = 0;
  }
  return outputs;
}

bool fuse_fits(const Fuse *f, const int *node, int n, const char *kind) {
  bool tile = !strcmp(kind, "contract") || !strcmp(kind, "column");
  if (n > (tile ? MAX_TILE_MEMBERS : MAX_MEMBERS)) return false;
  if (n > REGION_OUTPUTS && count_outputs(f, node, n) > REGION_OUTPUTS) return false;
  int sums = 0;
  for (int i = 0; i < n; i++) sums += f->g->nodes[node[i]].op == OP_sum;
  if (sums > MAX_SUMS && !strcmp(kind, "column")) return false;
  Arena *a = arena_new();
  Module *m = trial(f, a, diags_new(a));
  Fuse local = *f; /* the trial's allocations go with the trial */
  local.tmp = a;
  Val *outs = NEW_ARRAY(a, Val, n);
  for (int i = 0; i < n; i++) outs[i] = f->g->nodes[node[i]].res;
  Build b;
  bool ok = build(&b, &local, m, "r", kind, node, n, outs, n) && b.nins <= MAX_INPUTS && region_fits(b.r, kind);
  arena_free(a);
  return ok;
}

/* ---- what leaves a group, and where it comes from */

static void list_outputs(Fuse *f) {
  const Graph *g = f->g;
  bool *crosses = NEW_ARRAY(f->tmp, bool, g->nvals);
  for (int i = 0; i < g->noutputs; i++) crosses[g->outputs[i].val] = true;
  for (int x = 0; x < f->ngroups; x++) {
    if (f->group[x].into >= 0 || f->group[x].kind == G_OUTSIDE) continue;
    Build b; /* its inputs are what crosses into it */
    Arena *a = arena_new();
    Module *m = trial(f, a, diags_new(a));
    Group *gr = &f->group[x];
    build(&b, f, m, "r", fuse_kind_name(f, gr), gr->node, gr->n, NULL, 0);
    for (int i = 0; i < b.nins; i++) crosses[b.ins[i]] = true;
    arena_free(a);
  }
  for (int i = 0; i < g->nnodes; i++)
    if (fuse_outside(g->nodes[i].op))
      for (int j = 0; j < g->nodes[i].nargs; j++) crosses[g->nodes[i].args[j]] = true;
  for (int i = 0; i < g->nnodes; i++) {
    int gr = fuse_alive(f, f->of[i]);
    for (int j = 0; gr >= 0 && j < g->nodes[i].nres; j++) {
      Val v = g->nodes[i].res + (Val)j;
      Group *to = &f->group[gr];
      /* an op alone keeps all of its results: its kernel writes them together */
      if (crosses[v] || to->kind == G_ALONE) PUSH(f->tmp, to->outs, to->nouts, to->cap_outs, v);
    }
  }
}

static bool same_place(Span a, Span b) {
  return a.file == b.file && a.line == b.line && a.in == b.in;
}

/* Where the results come from, then what else is computed on the way, copies of producers included. */
static void list_places(Fuse *f, Group *gr, const Graph *region) {
  const Graph *g = f->g;
  for (int i = 0; i < gr->nouts; i++) {
    Span at = g->nodes[g->def[gr->outs[i]]].span;
    PUSH(f->to->arena, gr->places, gr->nplaces, gr->cap_places, at);
  }
  for (int i = 0; i < region->nnodes; i++) {
    const Node *n = &region->nodes[i];
    bool known = !n->span.file || fuse_free(n->op);
    for (int k = 0; k < gr->nplaces && !known; k++) known = same_place(gr->places[k], n->span);
    if (!known) PUSH(f->to->arena, gr->places, gr->nplaces, gr->cap_places, n->span);
  }
}

/* The region of these members: one that is there already, or a new one. */
static Graph *region_for(Fuse *f, Group *gr, Build *b) {
  Arena *a = arena_new();
  const char *kind = fuse_kind_name(f, gr);
  Known *known = f->known;
  Graph *found = NULL;
  if (build(b, f, trial(f, a, f->to->diags), "r", kind, gr->node, gr->n, gr->outs, gr->nouts)) {
    Text text = {0};
    list_places(f, gr, b->r);
    graph_print(b->r, false, &text);
    int number = 0;
    for (int i = 0; i < known->n && !found; i++) {
      number += !strcmp(known->region[i]->region, kind);
      if (!strcmp(known->text[i], text.s)) found = known->region[i];
    }
    const char *name = arena_printf(f->to->arena, "%s.%d", kind, number);
    if (!found && build(b, f, f->to, name, kind, gr->node, gr->n, gr->outs, gr->nouts)) {
      found = b->r;
      PUSH(f->to->arena, known->region, known->n, known->cap_region, found);
      PUSH(f->to->arena, known->text, known->n_text, known->cap_text, arena_strdup(f->to->arena, text.s));
    }
    text_free(&text);
  }
  arena_free(a);
  return found;
}

static bool emit_group(Fuse *f, int x);

static bool emit_values(Fuse *f, const Val *v, int n, Val *out) {
  for (int i = 0; i < n; i++) {
    if (!f->map[v[i]] && !emit_group(f, fuse_alive(f, f->of[f->g->def[v[i]]]))) return false;
    out[i] = f->map[v[i]];
  }
  return true;
}

static bool emit_outside(Fuse *f, const Node *n) {
  Val *args = NEW_ARRAY(f->tmp, Val, n->nargs + 1);
  Type *want = NEW_ARRAY(f->tmp, Type, n->nres);
  if (!emit_values(f, n->args, n->nargs, args)) return false;
  for (int i = 0; i < n->nres; i++) want[i] = val_type(f->g, n->res + (Val)i);
  Val r = graph_add(f->out, n->op, args, n->nargs, n->attrs, n->nattrs, want, n->span);
  for (int i = 0; r && i < n->nres; i++) f->map[n->res + (Val)i] = r + (Val)i;
  return r != 0;
}

static bool emit_group(Fuse *f, int x) {
  Group *gr = &f->group[x];
  if (gr->done) return true;
  gr->done = true;
  if (gr->kind == G_OUTSIDE) return emit_outside(f, &f->g->nodes[gr->node[0]]);
  Build b;
  Graph *r = region_for(f, gr, &b);
  if (!r) return false;
  Val *args = NEW_ARRAY(f->tmp, Val, b.nins + 1);
  if (!emit_values(f, b.ins, b.nins, args)) return false;
  Attr fn = attr_str("fn", r->name);
  Span at = f->g->nodes[gr->node[0]].span;
  for (int i = 0; i < gr->nplaces && !at.file; i++) at = gr->places[i];
  Val res = graph_add(f->out, OP_call, args, b.nins, &fn, 1, NULL, at);
  if (res) {
    Node *call = &f->out->nodes[f->out->nnodes - 1];
    call->places = gr->places;
    call->nplaces = gr->nplaces;
  }
  for (int i = 0; res && i < gr->nouts; i++) f->map[gr->outs[i]] = res + (Val)i;
  return res != 0;
}

bool fuse_emit(Fuse *f) {
  const Graph *g = f->g;
  list_outputs(f);

  /* in order of each group's last node, dependences first: close to the order of the source */
  for (int i = 0; i < g->nnodes; i++) {
    int gr = fuse_alive(f, f->of[i]);
    if (gr >= 0 && f->group[gr].node[f->group[gr].n - 1] == i && !emit_group(f, gr)) return false;
  }
  for (int i = 0; i < g->noutputs; i++) {
    Val v;
    if (!emit_values(f, &g->outputs[i].val, 1, &v)) return false;
    graph_output(f->out, g->outputs[i].name, v);
  }
  return true;
}
