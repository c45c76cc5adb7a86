/* Kernels that memory limits, past the last cache: GB/s beside a plain read and copies in the same turns.
 *
 *   bench_memory [--quick] [--best] [--threads LIST]
 *
 * Regions are written here as fusion writes them: a residual sum, RMSNorm and LayerNorm with what their backward pass keeps, an
 * AdamW update in place. Bytes are those that must move: each input read once, each output written once. A store through the
 * caches reads its line first, so such a kernel can reach what the plain copy does; stores around them, what `copy nt` does. */
#include "runtime/machine.h"
#include "tests/bench/turns.h"
#include "tests/unit/kernel_harness.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 768, MAX_THREADS = 256, MAX_LISTS = 8 };

static const char norm_head[] = "region row @%s(%%x: f32[%d, %d] data, %%w: f32[%d] data) {\n";
static const char norm_tail[] =
    "  %%13 = broadcast %%w {axes=[1]} : f32[%d, %d]\n  %%14 = mul %%12, %%13 : f32[%d, %d]\n"
    "  return y=%%14, r=%%10\n}\n";

/* rows x D elements in every large tensor. */
static void write_regions(Text *o, int rows) {
  text_add(o, "module \"bench\"\nregion map @add(%%a: f32[%d, %d] data, %%b: f32[%d, %d] data) {\n", rows, D, rows, D);
  text_add(o, "  %%1 = add %%a, %%b : f32[%d, %d]\n  return y=%%1\n}\n", rows, D);
  for (int layer = 0; layer < 2; layer++) {
    text_add(o, norm_head, layer ? "layernorm" : "rmsnorm", rows, D, D);
    text_add(o, "  %%1 = const {value=%.17g} : f32\n", 1.0 / D);
    if (layer) {
      text_add(o, "  %%2 = sum %%x {axes=[1]} : f32[%d]\n  %%3 = mul %%1, %%2 : f32[%d]\n", rows, rows);
      text_add(o, "  %%4 = broadcast %%3 {axes=[0]} : f32[%d, %d]\n  %%5 = sub %%x, %%4 : f32[%d, %d]\n", rows, D, rows,
               D);
    }
    const char *centred = layer ? "%5" : "%x";
    text_add(o, "  %%6 = square %s : f32[%d, %d]\n  %%7 = sum %%6 {axes=[1]} : f32[%d]\n", centred, rows, D, rows);
    text_add(o, "  %%8 = mul %%1, %%7 : f32[%d]\n  %%20 = const {value=1e-05} : f32\n", rows);
    text_add(o, "  %%9 = add %%8, %%20 : f32[%d]\n  %%10 = rsqrt %%9 : f32[%d]\n", rows, rows);
    text_add(o, "  %%11 = broadcast %%10 {axes=[0]} : f32[%d, %d]\n  %%12 = mul %s, %%11 : f32[%d, %d]\n", rows, D,
             centred, rows, D);
    text_add(o, norm_tail, rows, D, rows, D);
  }
  /* g, m, v, w, then clip's factor, beta1, 1 - beta1, beta2, 1 - beta2, 1 / (1 - beta2^t), eps, lr / (1 - beta1^t), 1 - lr decay */
  static const char *const steps[] = {
      "1 = mul %g, %clip",  "2 = mul %n1, %1",  "3 = mul %b1, %m",   "4 = add %2, %3",    "5 = mul %1, %1",
      "6 = mul %n2, %5",    "7 = mul %b2, %v",  "8 = add %6, %7",    "9 = mul %8, %c2",   "10 = sqrt %9",
      "11 = add %10, %eps", "12 = mul %4, %lr", "13 = div %12, %11", "14 = mul %w, %dec", "15 = sub %14, %13"};
  text_add(
      o,
      "region map @adamw(%%g: f32[%d, %d] data, %%m: f32[%d, %d] data, %%v: f32[%d, %d] data, %%w: f32[%d, %d] data, ",
      rows, D, rows, D, rows, D, rows, D);
  text_add(o, "%%clip: f32 data, %%b1: f32 data, %%n1: f32 data, %%b2: f32 data, %%n2: f32 data, %%c2: f32 data, "
              "%%eps: f32 data, %%lr: f32 data, %%dec: f32 data) {\n");
  for (int i = 0; i < LEN(steps); i++) text_add(o, "  %%%s : f32[%d, %d]\n", steps[i], rows, D);
  text_add(o, "  return m=%%4, v=%%8, w=%%15\n}\n");
}

typedef struct Options {
  bool quick, best;
  int threads[MAX_LISTS], nthreads;
} Options;

/* A probe's rate by the clock that the kernels are timed with. */
static double probe_rate(Meter *m, Probe p, int threads) {
  Reading r = {0};
  meter_read(m, p, LEVEL_DRAM, threads > 1, &r);
  return threads > 1 ? r.rate : r.cpu_rate;
}

static void measure(const Options *o, const KernelSet *set, int index, Meter *m, int threads) {
  static const Probe probes[] = {PROBE_READ, PROBE_COPY, PROBE_COPY_NT};
  const Graph *g = set->module->graphs[index];
  const Lowered *low = &set->lowered[index];
  void *bufs[1][32] = {{0}}, *scratch[MAX_THREADS];
  int n = 0;
  for (int i = 0; i < g->ninputs; i++)
    bufs[0][n++] = numbers_new(DT_f32, type_elements(val_type(g, g->inputs[i].val)), 7 + i);
  if (!strcmp(g->name, "adamw")) { /* as it is half way through training; moments of squares are not negative */
    static const float now[] = {1, 0.9f, 0.1f, 0.99f, 0.01f, 1.5f, 1e-8f, 1e-3f, 0.9999f};
    for (int i = 0; i < LEN(now); i++) *(float *)bufs[0][4 + i] = now[i];
    float *v = bufs[0][2];
    for (int64_t i = 0; i < type_elements(val_type(g, g->inputs[2].val)); i++) v[i] *= v[i];
  }
  for (int i = 0; i < g->noutputs; i++) {
    int same = -1; /* updated in place, as in a program */
    for (int k = 0; k < g->ninputs && !strcmp(g->name, "adamw"); k++)
      if (!strcmp(g->inputs[k].name, g->outputs[i].name)) same = k;
    bufs[0][n++] =
        same >= 0 ? bufs[0][same] : numbers_new(DT_f32, type_elements(val_type(g, g->outputs[i].val)), 90 + i);
  }
  for (int i = 0; i < threads; i++) scratch[i] = numbers_new(DT_f32, low->scratch / 4 + 16, 5);
  KernelCalls calls = {set->fn[index], bufs, 1, 0, scratch, threads > 1 ? meter_pool(m) : NULL};
  Side side = {g->name, kernel_spell, &calls};
  Samples rate[LEN(probes)] = {{.n = 0}}, ratio[LEN(probes)] = {{.n = 0}};
  double start = turns_wall(), budget = o->quick ? 0.3 : 3;
  for (int t = 0; t < TURNS_MOST && (t < (o->quick ? 3 : 7) || turns_wall() - start < budget); t++) {
    side_turn(&side, threads);
    for (int i = 0; i < LEN(probes); i++) {
      double r = probe_rate(m, probes[i], threads);
      samples_add(&rate[i], r);
      samples_add(&ratio[i], low->bytes / side.now / r);
    }
  }
  double seconds = o->best ? samples_least(&side.seconds) : samples_median(&side.seconds);
  printf("%-10s %3d %6.0f %8.1f", g->name, threads, low->bytes / (1 << 20), 1e-9 * low->bytes / seconds);
  for (int i = 0; i < LEN(probes); i++) {
    double r = o->best ? samples_most(&rate[i]) : samples_median(&rate[i]);
    printf("  %8.1f %5.2fx", 1e-9 * r, o->best ? low->bytes / seconds / r : samples_median(&ratio[i]));
  }
  printf("\n");
  fflush(stdout);
  for (int i = n; i-- > 0;) {
    bool again = false;
    for (int k = 0; k < i; k++) again |= bufs[0][k] == bufs[0][i];
    Val v = i < g->ninputs ? g->inputs[i].val : g->outputs[i - g->ninputs].val;
    if (!again) numbers_free(bufs[0][i], DT_f32, type_elements(val_type(g, v)));
  }
  for (int i = 0; i < threads; i++) numbers_free(scratch[i], DT_f32, low->scratch / 4 + 16);
}

static bool parse(Options *o, int argc, char **argv) {
  *o = (Options){0};
  const char *threads = NULL;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--quick"))
      o->quick = true;
    else if (!strcmp(argv[i], "--best"))
      o->best = true;
    else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
      threads = argv[++i];
    else
      return false;
  }
  o->nthreads = turns_threads(threads, o->threads, MAX_LISTS, MAX_THREADS);
  return o->nthreads > 0;
}

int main(int argc, char **argv) {
  Options o;
  if (!parse(&o, argc, argv)) {
    fprintf(stderr, "usage: bench_memory [--quick] [--best] [--threads LIST]\n");
    return 2;
  }
  Arena *arena = arena_new();
  Diags *d = diags_new(arena);
  Target native;
  Text text = {0}, why = {0};
  KernelSet set;
  bool ok = target_resolve(arena, d, "cpu:native", &native);
  /* three times the last cache for each tensor, or 64 MiB */
  int64_t bytes = ok && 3 * native.l3 > (64 << 20) ? 3 * native.l3 : 64 << 20;
  write_regions(&text, (int)(bytes / 4 / D));
  ok = ok && kernels_build(&set, "cpu:native", text.s, &why);
  if (ok) {
    printf("%-10s %3s %6s %8s  %8s %6s  %8s %6s  %8s %6s\n", "f32", "thr", "MiB", "GB/s", "read", "ours", "copy",
           "ours", "copy nt", "ours");
    for (int i = 0; i < o.nthreads && ok; i++) {
      Meter *m = meter_new(d, &native, o.threads[i]);
      ok = m != NULL;
      for (int k = 0; k < set.module->ngraphs && ok; k++) measure(&o, &set, k, m, o.threads[i]);
      meter_free(m);
    }
    kernels_free(&set);
  }
  diags_render(d, &why);
  if (!ok) fputs(why.s, stderr);
  text_free(&text), text_free(&why);
  arena_free(arena);
  return ok ? 0 : 1;
}
