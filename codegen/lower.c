/* Regions to kernels: the table of lowerings by kind, argument buffers, and what may share memory. */
#include "codegen/lower.h"
#include "codegen/lower_tile.h"
#include <stdio.h>
#include <string.h>

static const struct Lowering {
  const char *kind;
  bool (*run)(Lower *lo);
} lowerings[] = {
    {"map", lower_map},
    {"row", lower_row},
    {"column", lower_column},
    {"contract", lower_contract},
    {"attend", lower_attend},
    {"attend_grad", lower_attend_grad},
    {"scatter_add", lower_scatter_add},
    {"rope", lower_rope},
};

static void collect_symbols(const Graph *g, Kernel *k) {
  for (int i = 0; i < g->ninputs; i++) {
    Type t = val_type(g, g->inputs[i].val);
    for (int j = 0; j < t.rank; j++)
      if (t.dim[j].sym) lower_extent(k, t.dim[j]); /* registers the name */
  }
}

/* What every lowering relies on. */
static bool suits(const Graph *g, Diags *d, Span at) {
  for (int v = 1; v < g->nvals; v++) {
    DType dt = val_type(g, (Val)v).dt;
    if (dt != DT_f32 && dt != DT_bf16 && dt != DT_i32)
      return diag_error(d, at, "region @%s: kernels of this target have no %s yet", g->name, dtype_name[dt]);
  }
  if (g->noutputs > MAX_OUTPUTS)
    return diag_error(d, at, "region @%s has %d outputs; a kernel has at most %d", g->name, g->noutputs, MAX_OUTPUTS);
  bool walks = !strcmp(g->region, "map") || !strcmp(g->region, "row") || !strcmp(g->region, "column") ||
               !strcmp(g->region, "contract");
  return !walks || region_fits(g, g->region);
}

bool lower_region(const Graph *region, const Target *t, KModule *into, Lowered *out) {
  Diags *d = region->mod->diags;
  const struct Lowering *l = NULL;
  for (int i = 0; i < LEN(lowerings); i++)
    if (region->region && !strcmp(region->region, lowerings[i].kind)) l = &lowerings[i];
  if (!l)
    return diag_error(d, (Span){0}, "region @%s: no lowering for kind '%s'", region->name,
                      region->region ? region->region : "");
  Arena *tmp = arena_new();
  Kernel *k = kmodule_add(into, region->name);
  Lower lo = {.g = region, .t = t, .k = k, .tmp = tmp, .d = d};
  lo.in_buf = NEW_ARRAY(tmp, int, region->nvals);
  lo.out_buf = NEW_ARRAY(tmp, int, region->noutputs);
  for (int i = 0; i < region->nvals; i++) lo.in_buf[i] = -1;
  char name[32];
  for (int i = 0; i < region->ninputs; i++) {
    snprintf(name, sizeof name, "x%d", i);
    lo.in_buf[region->inputs[i].val] = k_buf(k, name, val_type(region, region->inputs[i].val).dt, KBUF_IN);
  }
  for (int i = 0; i < region->noutputs; i++) {
    snprintf(name, sizeof name, "y%d", i);
    lo.out_buf[i] = k_buf(k, name, val_type(region, region->outputs[i].val).dt, KBUF_OUT);
  }
  /* the first node with a position names the kernel's line */
  *out = (Lowered){.kernel = k};
  for (int i = 0; i < region->nnodes && !out->span.file; i++)
    if (region->nodes[i].span.file) out->span = region->nodes[i].span;
  if (out->span.file) {
    k->file = d->sources[out->span.file - 1].path;
    k->line = out->span.line;
  }
  out->flops = region_flops(region);
  out->bytes = region_bytes(region);
  collect_symbols(region, k);
  int before = d->n;
  bool ok = suits(region, d, out->span) && l->run(&lo);
  if (!ok && d->n == before)
    diag_error(d, out->span, "region @%s (%s): its values do not share one iteration space", region->name,
               region->region);
  ok = ok && kernel_verify(k, d);
  arena_free(tmp);
  out->scratch = k->scratch;
  out->syms = k->params;
  out->nsyms = k->nparams;
  return ok;
}

bool lower_peak(const Target *t, KModule *into, Lowered *out, double *flops) {
  enum { TURNS = 1 << 16 };
  Kernel *k = kmodule_add(into, "peak");
  int y = k_buf(k, "y0", DT_f32, KBUF_OUT), lanes = t->lanes, n = t->registers >= 32 ? 24 : 12;
  KV a = k_splat(k, k_load(k, y, k_ic(k, 0), 1), lanes), b = k_splat(k, k_load(k, y, k_ic(k, 1), 1), lanes), acc[32];
  for (int i = 0; i < n; i++) acc[i] = k_splat(k, k_load(k, y, k_ic(k, 2 + i), 1), lanes);
  KV loop = k_for(k, k_ic(k, 0), k_ic(k, TURNS), 1);
  for (int i = 0; i < n; i++) acc[i] = k_iter(k, acc[i]);
  for (int i = 0; i < n; i++) acc[i] = k_f(k, K_fma, acc[i], a, b);
  k_yield(k, acc, n);
  k_end(k);
  KV sum = k_result(k, loop, 0);
  for (int i = 1; i < n; i++) sum = k_f(k, K_fadd, sum, k_result(k, loop, i), 0);
  k_if(k, k_i2(k, K_ieq, k_op0(k, K_thread), k_ic(k, 0)));
  k_store(k, y, k_ic(k, 32), sum);
  k_end(k);
  *flops = 2.0 * n * lanes * TURNS;
  *out = (Lowered){.kernel = k, .flops = *flops};
  return true;
}

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
  if (!strcmp(g->region, "rope")) return in == n->args[0] ? REGION_MAY : REGION_NONE;
  if (!strcmp(g->region, "attend") || !strcmp(g->region, "attend_grad")) return REGION_NONE;
  const Node *c = region_contract(g);
  if (c && c->op == OP_contract_from && in == c->args[2] && out == c->res) return REGION_MUST;
  if (c && (feeds_operand(g, in, c->args[0]) || feeds_operand(g, in, c->args[1]))) return REGION_NONE;
  if (read_indirectly(g, in)) return REGION_NONE;
  return same_map(g, out, in) ? REGION_MAY : REGION_NONE;
}
