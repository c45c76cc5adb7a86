/* Readings in turns: in every round each figure is taken once, so that what changes on the machine changes all of them, and
 * ratios of one round hold. A figure is the median of its readings (what is there now) and the best (what the machine can).
 *
 * Quiet is judged by what the round itself shows (do all threads reach what one does? how much do readings differ? had each
 * its core?) and by what the system counted meanwhile: time of others on the cores, time the host withheld. */
#include "driver/machine.h"
#include "codegen/fingerprint.h"
#include "runtime/machine.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROUNDS_LEAST = 5, ROUNDS_MOST = 200 };
/* Past these a figure is off by more than a kernel's change that would be worth measuring. Cores are of all that are used. */
static const double SCALING_LEAST = 0.92, SPREAD_MOST = 0.04, SHARE_LEAST = 0.97, OTHERS_MOST = 0.05, STEAL_MOST = 0.02;

static const struct Row {
  const char *id, *what, *unit;
  Probe probe;
  Level level;
} rows[] = {
    {"fma_f32", "f32 multiply-add", "FLOP/s", PROBE_FMA, LEVEL_L1},
    {"dot_bf16", "bf16 dot (vdpbf16ps)", "FLOP/s", PROBE_BF16, LEVEL_L1},
    {"dot_int8", "int8 dot (vpdpbusd)", "OP/s", PROBE_INT8, LEVEL_L1},
    {"read_l1", "read, L1", "B/s", PROBE_READ, LEVEL_L1},
    {"read_l2", "read, L2", "B/s", PROBE_READ, LEVEL_L2},
    {"read_l3", "read, L3", "B/s", PROBE_READ, LEVEL_L3},
    {"read_dram", "read, memory", "B/s", PROBE_READ, LEVEL_DRAM},
    {"copy_dram", "copy, memory", "B/s", PROBE_COPY, LEVEL_DRAM},
    {"copy_dram_nt", "copy, memory, non-temporal", "B/s", PROBE_COPY_NT, LEVEL_DRAM},
};

typedef struct Samples {
  double v[ROUNDS_MOST];
  int n;
} Samples;

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void sort(Samples *s) {
  qsort(s->v, (size_t)s->n, sizeof s->v[0], by_value);
}

static double median(Samples *s) {
  sort(s);
  return s->n ? 0.5 * (s->v[(s->n - 1) / 2] + s->v[s->n / 2]) : 0;
}

/* ---- what the system counts: seconds of all cores */

typedef struct Counted {
  double busy, steal, own, at;
} Counted;

static Counted counted(void) {
  Counted c = {.at = machine_seconds()};
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  c.own = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
  uint64_t v[8] = {0}; /* user, nice, system, idle, iowait, irq, softirq, steal, in ticks */
  FILE *f = fopen("/proc/stat", "r");
  if (f) {
    for (int i = 0; i < LEN(v); i++)
      if (fscanf(f, i ? "%" SCNu64 : "cpu %" SCNu64, &v[i]) != 1) break;
    fclose(f);
  }
  double tick = (double)sysconf(_SC_CLK_TCK);
  c.busy = (double)(v[0] + v[1] + v[2] + v[5] + v[6]) / tick;
  c.steal = (double)v[7] / tick;
  return c;
}

static const char *cpu_name(Arena *a, const Target *t) {
  FILE *f = fopen("/proc/cpuinfo", "r");
  char line[256];
  const char *name = NULL, *colon;
  while (f && !name && fgets(line, sizeof line, f))
    if (!strncmp(line, "model name", 10) && (colon = strchr(line, ':'))) {
      const char *text = colon + 1 + strspn(colon + 1, " \t");
      name = arena_strndup(a, text, strcspn(text, "\n"));
    }
  if (f) fclose(f);
  return name ? name : t->cpu;
}

/* ---- rounds */

typedef struct Rounds {
  Samples rate[LEN(rows)][2]; /* on one thread, on all */
  Samples barrier[16], scaling, share;
  int barrier_threads[16], nbarriers;
} Rounds;

static bool round_of(Meter *m, Diags *d, Rounds *r) {
  int threads = pool_threads(meter_pool(m));
  for (int i = 0; i < LEN(rows); i++) {
    Reading one, all;
    if (meter_read(m, rows[i].probe, rows[i].level, false, &one)) r->rate[i][0].v[r->rate[i][0].n++] = one.rate;
    if (threads == 1 || !meter_read(m, rows[i].probe, rows[i].level, true, &all)) continue;
    r->rate[i][1].v[r->rate[i][1].n++] = all.rate;
    if (rows[i].probe != PROBE_FMA) continue;
    r->scaling.v[r->scaling.n++] = all.rate / (threads * one.rate);
    r->share.v[r->share.n++] = all.share < one.share ? all.share : one.share;
  }
  for (int i = 0; i < r->nbarriers; i++) {
    Samples *s = &r->barrier[i];
    if (!meter_barrier(d, r->barrier_threads[i], &s->v[s->n])) return false;
    s->n++;
  }
  return true;
}

static void add(Arena *a, MachineReport *r, MachineFigure f, Samples *s) {
  f.n = s->n;
  f.median = median(s);
  if (s->n) f.best = !strcmp(f.unit, "s") ? s->v[0] : s->v[s->n - 1];
  PUSH(a, r->figures, r->nfigures, r->cap_figures, f);
}

static void judge(Arena *a, MachineReport *r, Rounds *rounds, const Counted *from, const Counted *to) {
  MachineQuiet *q = &r->quiet;
  Samples *one = &rounds->rate[PROBE_FMA][0];
  double typical = median(one), wall = to->at - from->at, spare = (double)(sysconf(_SC_NPROCESSORS_ONLN) - r->cores);
  q->scaling = rounds->scaling.n ? median(&rounds->scaling) : 1;
  q->share = rounds->share.n ? median(&rounds->share) : 1;
  q->spread = 1 - typical / one->v[one->n - 1]; /* sorted by now */
  q->others = (to->busy - from->busy - (to->own - from->own)) / wall;
  if (q->others < 0) q->others = 0; /* ticks are coarse */
  q->steal = (to->steal - from->steal) / wall;
  if (q->scaling < SCALING_LEAST)
    q->why[q->nwhy++] = arena_printf(a, "%d threads reach %.2f times what one does", r->cores, q->scaling * r->cores);
  if (q->spread > SPREAD_MOST)
    q->why[q->nwhy++] = arena_printf(a, "readings of one thread differ by %.0f%%", 100 * q->spread);
  if (q->share < SHARE_LEAST)
    q->why[q->nwhy++] = arena_printf(a, "a thread had its core %.0f%% of the time", 100 * q->share);
  if (q->others > spare + OTHERS_MOST * r->cores)
    q->why[q->nwhy++] = arena_printf(a, "other programs used %.2f cores", q->others);
  if (q->steal > STEAL_MOST * r->cores) q->why[q->nwhy++] = arena_printf(a, "the host withheld %.2f cores", q->steal);
}

static void figures_of(Arena *a, MachineReport *r, Rounds *rounds) {
  for (int i = 0; i < LEN(rows); i++)
    for (int all = 0; all < (r->cores > 1 ? 2 : 1); all++) {
      const char *lacks = probe_lacks(&r->target, rows[i].probe);
      if (!lacks && !rounds->rate[i][all].n) lacks = "caches too close in size";
      add(a, r, (MachineFigure){rows[i].id, rows[i].what, rows[i].unit, all ? r->cores : 1, .lacks = lacks},
          &rounds->rate[i][all]);
    }
  for (int i = 0; i < rounds->nbarriers; i++)
    add(a, r, (MachineFigure){"barrier", "barrier", "s", rounds->barrier_threads[i]}, &rounds->barrier[i]);
}

bool machine_measure(Arena *a, Diags *d, double seconds, MachineReport *out) {
  double start = machine_seconds();
  memset(out, 0, sizeof *out);
  if (!target_resolve(a, d, "cpu:native", &out->target)) return false;
  out->name = cpu_name(a, &out->target);
  out->fingerprint = machine_fingerprint(a, &out->target);
  out->cores = machine_cores();
  out->memory = (int64_t)machine_memory();
  Meter *m = meter_new(d, &out->target, out->cores);
  if (!m) return false;
  Rounds *r = NEW(a, Rounds);
  for (int n = 2; n <= out->cores && r->nbarriers < LEN(r->barrier);
       n = n * 2 <= out->cores || n == out->cores ? n * 2 : out->cores)
    r->barrier_threads[r->nbarriers++] = n;
  Counted from = counted();
  bool ok = true;
  double first = machine_seconds();
  for (int i = 0; ok && i < ROUNDS_MOST && (i < ROUNDS_LEAST || machine_seconds() - first < seconds); i++)
    ok = round_of(m, d, r);
  Counted to = counted();
  meter_free(m);
  if (!ok) return false;
  judge(a, out, r, &from, &to);
  figures_of(a, out, r);
  out->seconds = machine_seconds() - start;
  return true;
}
