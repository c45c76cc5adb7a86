/* Clocks, medians, numbers, and spells of kernels (turns.h). */
#include "tests/bench/turns.h"
#include "runtime/machine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PLACE = 1088 };                          /* bytes: beginnings of arrays move on by that, within a page */
static const double SPELL = 0.004, LONG = 0.02; /* seconds: of a spell; of a call that needs no other before it */
static const long SETTLE_NS = 1000000;          /* until the threads of whoever ran before are asleep */

static double clock_seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double turns_clock(int threads) {
  return clock_seconds(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC);
}

double turns_wall(void) {
  return clock_seconds(CLOCK_MONOTONIC);
}

int turns_threads(const char *list, int *out, int room, int most) {
  int n = 0;
  if (!list) {
    out[n++] = 1;
    if (machine_cores() > 1) out[n++] = machine_cores() < most ? machine_cores() : most;
    return n;
  }
  for (char *end; *list; list = *end ? end + 1 : end) {
    long v = strtol(list, &end, 10);
    if (end == list || (*end && *end != ',') || v < 1 || v > most || n == room) return 0;
    out[n++] = (int)v;
  }
  return n;
}

void samples_add(Samples *s, double v) {
  if (s->n < TURNS_MOST) s->v[s->n++] = v;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

double samples_median(const Samples *s) {
  Samples t = *s;
  qsort(t.v, (size_t)t.n, sizeof t.v[0], by_value);
  return t.n ? 0.5 * (t.v[(t.n - 1) / 2] + t.v[t.n / 2]) : 0;
}

double samples_least(const Samples *s) {
  double v = s->v[0];
  for (int i = 1; i < s->n; i++) v = s->v[i] < v ? s->v[i] : v;
  return v;
}

double samples_most(const Samples *s) {
  double v = s->v[0];
  for (int i = 1; i < s->n; i++) v = s->v[i] > v ? s->v[i] : v;
  return v;
}

static size_t mapped(DType dt, int64_t n) {
  return ((size_t)n * (size_t)dtype_bytes[dt] + 4095) / 4096 * 4096 + 4096;
}

/* The upper half of the nearest bf16, ties to even; x is finite. */
static uint16_t bf16_of(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

void *numbers_new(DType dt, int64_t n, uint64_t seed) {
  static unsigned place;
  size_t bytes = mapped(dt, n);
  void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) {
    perror("memory for a benchmark");
    exit(1);
  }
  if (bytes >= 4u << 20) madvise(m, bytes, MADV_HUGEPAGE);
  void *x = (char *)m + (place += PLACE) % 4096 / 64 * 64;
  for (int64_t i = 0; i < n; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    float v = ((float)(seed >> 41) + 0.5f) * 0x1p-22f - 1;
    if (dt == DT_bf16)
      ((uint16_t *)x)[i] = bf16_of(v);
    else if (dt == DT_i8)
      ((int8_t *)x)[i] = (int8_t)(seed >> 56);
    else
      ((float *)x)[i] = v;
  }
  return x;
}

void numbers_free(void *x, DType dt, int64_t n) {
  if (x) munmap((void *)((uintptr_t)x & ~(uintptr_t)4095), mapped(dt, n));
}

void side_turn(Side *s, int threads) {
  if (threads > 1) nanosleep(&(struct timespec){0, SETTLE_NS}, NULL);
  double start = turns_clock(threads);
  if (!s->calls) {
    s->spell(s->ctx, 1); /* the very first: pages, code */
    double one = turns_clock(threads) - start;
    if (one < LONG) {
      start = turns_clock(threads);
      s->spell(s->ctx, 1);
      one = turns_clock(threads) - start;
    }
    s->now = one;
    s->calls = one >= SPELL ? 1 : (int)(SPELL / (one > 1e-7 ? one : 1e-7));
  }
  if (s->now < LONG) s->spell(s->ctx, 1);
  start = turns_clock(threads);
  s->spell(s->ctx, s->calls);
  s->now = (turns_clock(threads) - start) / s->calls;
  samples_add(&s->seconds, s->now);
}

static void calls_of_thread(void *ctx, int thread, int threads) {
  KernelCalls *k = ctx;
  for (int i = 0; i < k->calls; i++) {
    k->fn(k->bufs[(k->next + i) % k->copies], NULL, thread, threads, k->scratch[thread], &k->dealt);
    if (k->pool) pool_barrier(k->pool);
  }
}

void kernel_spell(void *ctx, int calls) {
  KernelCalls *k = ctx;
  k->calls = calls;
  if (k->pool)
    pool_run(k->pool, calls_of_thread, k);
  else
    calls_of_thread(k, 0, 1);
  k->next = (k->next + calls) % k->copies;
}
