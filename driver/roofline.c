/* The roofline of a program: for each kernel its calls in a training step, the FLOPs and bytes of a call, and the time at the
 * machine's limits. Nothing of the program is run; the limits are measured here, with the kernel `peak` that every training
 * program has, and the runtime's walk over memory.
 *
 * A step is as many micro-batches as the settings say, and the update. Extents known only at run time count at their bounds. */
#include "driver/roofline.h"
#include "codegen/jit.h"
#include "runtime/columns.h"
#include "runtime/machine.h"
#include "runtime/settings.h"
#include "runtime/sites.h"
#include <inttypes.h>
#include <stdlib.h>

/* ---- the machine */

typedef struct PeakRun {
  KernelFn kernel;
  float out[64];
} PeakRun;

static void peak_thread(void *ctx, int thread, int threads) {
  PeakRun *r = ctx;
  void *buf[] = {r->out};
  r->kernel(buf, NULL, thread, threads, NULL, NULL);
}

static double peak_rate(Pool *p, PeakRun *r, double flops, double seconds) {
  double best = 0, end = machine_seconds() + seconds;
  pool_run(p, peak_thread, r); /* wakes the cores and their clocks */
  do {
    double start = machine_seconds();
    pool_run(p, peak_thread, r);
    double rate = flops * pool_threads(p) / (machine_seconds() - start);
    if (rate > best) best = rate;
  } while (machine_seconds() < end);
  return best;
}

static bool measure(const Target *t, Pool *p, Roofline *out, Arena *a, Diags *d, Report *err) {
  Text object = {0};
  KModule *km = kmodule_new(a, "machine");
  Lowered low;
  double flops = 0;
  PeakRun r = {0};
  bool ok = lower_peak(t, km, &low, &flops) && llvm_compile(km, t, LLVM_OBJECT, NULL, NULL, 0, d, &object);
  Jit *j = ok ? jit_load(d, &object) : NULL;
  text_free(&object);
  void *at = j ? jit_symbol(j, d, "peak") : NULL;
  ok = at != NULL;
  if (ok) {
    *(void **)&r.kernel = at;
    out->flops = peak_rate(p, &r, flops, 0.2);
    ok = roofline_memory(out, p, 0.3, err);
  }
  jit_free(j);
  return ok;
}

bool roofline_machine(const Target *t, int threads, Roofline *out, Diags *d) {
  Report err = {0};
  Arena *a = arena_new();
  *out = (Roofline){.threads = threads};
  Pool *p = machine_has(t->require, &err) ? pool_new(threads, &err) : NULL;
  bool ok = p && measure(t, p, out, a, d, &err);
  if (err.n) diag_error(d, (Span){0}, "the machine cannot be measured: %s", err.text);
  pool_free(p);
  arena_free(a);
  report_free(&err);
  return ok;
}

/* ---- the table */

typedef struct Row {
  int kernel;
  int64_t calls;
  double seconds; /* of all calls */
} Row;

static int by_time(const void *a, const void *b) {
  const Row *x = a, *y = b;
  return x->seconds < y->seconds ? 1 : x->seconds > y->seconds ? -1 : x->kernel - y->kernel;
}

static void add_row(const Program *p, const Row *r, const int64_t *calls, double total, const Roofline *limit,
                    Text *cells) {
  const ProgramKernel *k = &p->kernel_info[r->kernel];
  Text line = {0};
  double rate = roofline_rate(limit, k->bytes);
  sites_lines(p, r->kernel, calls, &line);
  columns_add(cells, "%s", program_string(p, k->name));
  columns_add(cells, "%" PRId64, r->calls);
  columns_add(cells, "%.3f", 1e-6 * k->flops);
  columns_add(cells, "%.3f", 1e-6 * k->bytes);
  if (k->bytes > 0)
    columns_add(cells, "%.2f", k->flops / k->bytes);
  else
    columns_add(cells, "-");
  columns_add(cells, "%s", k->flops / limit->flops > k->bytes / rate ? "compute" : "memory");
  columns_add(cells, "%.3f", 1e3 * r->seconds);
  columns_add(cells, "%.1f%%", total > 0 ? 100 * r->seconds / total : 0);
  columns_add(cells, "%d", sites_number(p, r->kernel, calls));
  columns_add(cells, "%s", line.s);
  columns_row(cells);
  text_free(&line);
}

static void add_rows(const Program *p, int64_t micro_batches, const int64_t *calls, const Roofline *limit, Arena *a,
                     Text *out) {
  static const char *const head[] = {"kernel", "calls", "MFLOP", "MB",    "FLOP/B",
                                     "bound",  "ms",    "share", "sites", "lines"};
  Row *row = NEW_ARRAY(a, Row, p->nkernels + 1);
  double total = 0, flops = 0, bytes = 0;
  int64_t all = 0;
  for (int i = 0; i < p->nkernels; i++) row[i].kernel = i;
  for (int i = 0; i < p->nsteps; i++)
    if (p->steps[i].kind == STEP_CALL) row[p->steps[i].kernel].calls += calls[i];
  for (int i = 0; i < p->nkernels; i++) {
    const ProgramKernel *k = &p->kernel_info[i];
    double n = (double)row[i].calls;
    row[i].seconds = n * roofline_seconds(limit, k->flops, k->bytes);
    total += row[i].seconds, flops += n * k->flops, bytes += n * k->bytes, all += row[i].calls;
  }
  qsort(row, (size_t)p->nkernels, sizeof *row, by_time);
  text_add(out, "roofline of a training step of %" PRId64 " micro-batch%s of %" PRId64, micro_batches,
           micro_batches == 1 ? "" : "es", p->h->batch);
  if (p->h->time) text_add(out, " x %" PRId64, p->h->time);
  text_add(out, "\n");
  roofline_text(limit, out);
  Text cells = {0};
  for (int i = 0; i < LEN(head); i++) columns_add(&cells, "%s", head[i]);
  columns_row(&cells);
  for (int i = 0; i < p->nkernels; i++)
    if (row[i].calls) add_row(p, &row[i], calls, total, limit, &cells);
  columns_add(&cells, "step");
  columns_add(&cells, "%" PRId64, all);
  columns_add(&cells, "%.3f", 1e-6 * flops);
  columns_add(&cells, "%.3f", 1e-6 * bytes);
  columns_add(&cells, "%.2f", bytes > 0 ? flops / bytes : 0);
  columns_add(&cells, "%s", "");
  columns_add(&cells, "%.3f", 1e3 * total);
  columns_add(&cells, "100.0%%");
  columns_row(&cells);
  columns_print(&cells, "lrrrrlrrrl", out);
  text_free(&cells);
}

bool roofline_table(const Compile *c, const Roofline *limit, Text *out) {
  Report err = {0};
  Program p;
  Settings s;
  bool ok = program_open(&p, (const unsigned char *)c->blob.s, NULL, &err) && settings_default(&s, &p, &err) &&
            settings_check(&s, &p, &err);
  if (!ok) {
    diag_error(c->diags, (Span){0}, "%s", err.text);
    report_free(&err);
    return false;
  }
  int64_t *calls = NEW_ARRAY(c->arena, int64_t, p.nsteps + 1), micro_batches = s.global_batch / p.h->batch;
  sites_count(&p, program_list(&p, "micro"), micro_batches, calls);
  sites_count(&p, program_list(&p, "update"), 1, calls);
  add_rows(&p, micro_batches, calls, limit, c->arena, out);
  return true;
}
