/* Time by kernel, as thread 0 saw it: a kernel and the wait for the slowest thread. FLOPs are the model's arithmetic. */
#include "runtime/profile.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct Line {
  int kernel;
  double seconds;
} Line;

static int by_time(const void *a, const void *b) {
  double x = ((const Line *)a)->seconds, y = ((const Line *)b)->seconds;
  return x > y ? -1 : x < y;
}

void profile_table(const Engine *e, double peak, Report *out) {
  const Program *p = engine_program(e);
  const KernelTime *times = engine_times(e);
  Line *line = times ? calloc((size_t)p->nkernels + 1, sizeof(Line)) : NULL;
  if (!line) return;
  double total = 0;
  for (int i = 0; i < p->nkernels; i++) {
    line[i] = (Line){i, times[i].seconds};
    total += times[i].seconds;
  }
  qsort(line, (size_t)p->nkernels, sizeof(Line), by_time);
  report_add(out, "%-28s %-28s %9s %10s %7s %9s %7s %9s", "kernel", "from", "calls", "ms", "share", "GFLOP/s",
             "of peak", "GB/s");
  for (int i = 0; i < p->nkernels && total > 0; i++) {
    const ProgramKernel *k = &p->kernel_info[line[i].kernel];
    const KernelTime *t = &times[line[i].kernel];
    if (!t->calls) continue;
    char from[64], of[16] = "-";
    snprintf(from, sizeof(from), "%s:%u", program_string(p, k->file), k->line);
    double rate = t->seconds > 0 ? (double)t->calls / t->seconds : 0;
    if (peak > 0) snprintf(of, sizeof(of), "%.1f%%", 100 * k->flops * rate / peak);
    report_add(out, "%-28s %-28s %9" PRId64 " %10.2f %6.1f%% %9.1f %7s %9.1f", program_string(p, k->name), from,
               t->calls, 1e3 * t->seconds, 100 * t->seconds / total, 1e-9 * k->flops * rate, of,
               1e-9 * k->bytes * rate);
  }
  free(line);
}
