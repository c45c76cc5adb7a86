/* Regions to kernels: the table of lowerings by kind, argument buffers. */
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
    {"page_keys", lower_page_keys},
    {"page_values", lower_page_values},
    {"attend_pages", lower_attend_pages},
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
    if (dt != DT_f32 && dt != DT_bf16 && dt != DT_i32 && dt != DT_i8)
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
    Type in = val_type(region, region->inputs[i].val); /* packed, a group of k stands in the place of an f32 */
    lo.in_buf[region->inputs[i].val] = k_buf(k, name, in.panel ? DT_f32 : in.dt, KBUF_IN);
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
