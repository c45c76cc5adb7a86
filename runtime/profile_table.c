/* The table of --profile.
 *
 * A kernel's time is what its calls cost the run, the kernel and the wait for the slowest thread: the mean over threads of both,
 * which is the same on each of them. So the rows add up to the step: kernels, what the lists cost besides (threads that
 * start and end), data, and what is left. Rates and the share of the limit are of that time. */
#include "runtime/columns.h"
#include "runtime/profile.h"
#include "runtime/sites.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct Row {
  int kernel;
  int64_t calls;
  double busy, wait; /* ns, mean over threads */
} Row;

static int by_time(const void *a, const void *b) {
  const Row *x = a, *y = b;
  double d = y->busy + y->wait - x->busy - x->wait;
  return d > 0 ? 1 : d < 0 ? -1 : x->kernel - y->kernel;
}

static void collect(const Profile *f, Row *row) {
  const Program *p = f->p;
  for (int i = 0; i < p->nkernels; i++) row[i] = (Row){.kernel = i};
  for (int i = 0; i < p->nsteps; i++) {
    if (p->steps[i].kind != STEP_CALL) continue;
    Row *r = &row[p->steps[i].kernel];
    r->calls += f->lane[0].step[i].calls;
    for (int t = 0; t < f->threads; t++) {
      r->busy += (double)f->lane[t].step[i].busy / f->threads;
      r->wait += (double)f->lane[t].step[i].wait / f->threads;
    }
  }
}

static void add_kernel(const Profile *f, const Row *r, const int64_t *calls, double steps, double step_ns,
                       Text *cells) {
  const Program *p = f->p;
  const ProgramKernel *k = &p->kernel_info[r->kernel];
  double ns = r->busy + r->wait, n = (double)r->calls;
  Text line = {0}, layer = {0};
  sites_lines(p, r->kernel, calls, &line);
  sites_layers(p, r->kernel, calls, &layer);
  columns_add(cells, "%s", program_string(p, k->name));
  columns_add(cells, "%.6g", n / steps);
  columns_add(cells, "%.3f", 1e-6 * ns / steps);
  columns_add(cells, "%.1f%%", 100 * ns / step_ns);
  columns_add(cells, "%.1f%%", ns > 0 ? 100 * r->wait / ns : 0);
  columns_add(cells, "%.1f", ns > 0 ? k->flops * n / ns : 0);
  columns_add(cells, "%.1f", ns > 0 ? k->bytes * n / ns : 0);
  double least = 1e9 * roofline_seconds(&f->limit, k->flops, k->bytes) * n;
  if (least > 0 && ns > 0)
    columns_add(cells, "%.1f%%", 100 * least / ns);
  else
    columns_add(cells, "-");
  columns_add(cells, "%d", sites_number(p, r->kernel, calls));
  columns_add(cells, "%s", line.s);
  columns_add(cells, "%s", layer.s);
  columns_row(cells);
  text_free(&line), text_free(&layer);
}

static void add_other(const char *name, double ns, double steps, double step_ns, Text *cells) {
  columns_add(cells, "%s", name);
  columns_add(cells, "%s", "");
  columns_add(cells, "%.3f", 1e-6 * ns / steps);
  columns_add(cells, "%.1f%%", 100 * ns / step_ns);
  columns_row(cells);
}

static double phase(const Profile *f, ProfilePhase what) {
  return (double)f->phase[what].ns;
}

/* Between steps, in seconds. */
static void add_between(const Profile *f, Text *out) {
  static const struct {
    ProfilePhase what;
    const char *name;
  } told[] = {{PROFILE_EVAL, "evaluation"}, {PROFILE_SAVE, "checkpoints"}, {PROFILE_LOG, "metrics and progress"}};
  double all = (double)(f->ended - f->begun), rest = all - phase(f, PROFILE_STEP);
  text_add(out, "between steps %.3f s of %.3f s:", 1e-9 * rest, 1e-9 * all);
  for (int i = 0; i < LEN(told); i++) {
    rest -= phase(f, told[i].what);
    text_add(out, " %s %.3f s (%" PRId64 "),", told[i].name, 1e-9 * phase(f, told[i].what), f->phase[told[i].what].n);
  }
  text_add(out, " other %.3f s\n", 1e-9 * (rest > 0 ? rest : 0));
}

void profile_table(const Profile *f, Text *out) {
  const Program *p = f->p;
  double steps = (double)f->phase[PROFILE_STEP].n, step = phase(f, PROFILE_STEP), kernels = 0;
  if (steps < 1 || step <= 0) {
    text_add(out, "profile: no step was finished\n");
    return;
  }
  Row *row = calloc((size_t)p->nkernels + 1, sizeof(Row));
  int64_t *calls = calloc((size_t)p->nsteps + 1, sizeof(int64_t));
  if (row && calls) {
    Text cells = {0};
    collect(f, row);
    for (int i = 0; i < p->nsteps; i++) calls[i] = f->lane[0].step[i].calls;
    qsort(row, (size_t)p->nkernels, sizeof(Row), by_time);
    text_add(out, "profile of %" PRId64 " steps of %.3f ms (%" PRId64 " to %" PRId64 ")", f->phase[PROFILE_STEP].n,
             1e-6 * step / steps, f->first, f->last);
    int64_t taken = f->taken[1] - f->taken[0];
    if (taken) text_add(out, "; %" PRId64 " times a core was taken away by other programs", taken);
    text_add(out, "\n");
    roofline_text(&f->limit, out);
    static const char *const head[] = {"kernel", "calls", "ms",    "share", "wait",  "GFLOP/s",
                                       "GB/s",   "limit", "sites", "lines", "layers"};
    for (int i = 0; i < LEN(head); i++) columns_add(&cells, "%s", head[i]);
    columns_row(&cells);
    for (int i = 0; i < p->nkernels; i++) {
      if (!row[i].calls) continue;
      kernels += row[i].busy + row[i].wait;
      add_kernel(f, &row[i], calls, steps, step, &cells);
    }
    double lists = phase(f, PROFILE_MICRO) + phase(f, PROFILE_UPDATE);
    add_other("between kernels", lists - kernels, steps, step, &cells);
    add_other("data", phase(f, PROFILE_DATA), steps, step, &cells);
    add_other("rest of the step", step - lists - phase(f, PROFILE_DATA), steps, step, &cells);
    add_other("step", step, steps, step, &cells);
    columns_print(&cells, "lrrrrrrrrll", out);
    add_between(f, out);
    text_free(&cells);
  } else {
    text_add(out, "profile: out of memory\n");
  }
  free(row), free(calls);
}
