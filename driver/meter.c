/* How a reading is taken: every thread calls the probe again and again for some milliseconds, counts what it did, and looks
 * at both clocks. The rate of all is what all did over the time from the first one's start to the last one's end: threads that
 * did not run at the same moment had memory to themselves, and must not count as if they had shared it.
 *
 * What must hold: data is not zero and holds no NaN, whatever type it is taken for; source and target of a copy do not start
 * at the same place of a page (loads would wait for stores that look alike); before a read of a cache its data is in it. */
#include "driver/meter.h"
#include "runtime/machine.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { BARRIERS = 200, BARRIERS_BEFORE = 20, HUGE_PAGE = 2 << 20, STAGGER = 1088 };
static const double SPELL = 0.003;               /* seconds of a reading: less than a turn of the system's scheduler */
static const int64_t CALL_BYTES = 4 << 20;       /* gone over by a call: past what calling costs */
static const int64_t EACH = (int64_t)32 << 20;   /* bytes of a buffer for each thread: past its share of all caches */
static const int64_t MOST = (int64_t)2048 << 20; /* past that, touching the pages takes longer than measuring */

typedef struct Own {                                  /* a thread's part, on cache lines of its own */
  _Alignas(128) unsigned char numbers[PROBE_SCRATCH]; /* for probes in registers */
  float sum[PROBE_GRAIN];                             /* what reads leave */
  double start, end, cpu, done; /* of the last reading: seconds of both clocks; operations or bytes */
  int64_t at;                   /* bytes: where reads and copies of memory go on, so that it is cold */
} Own;

struct Meter {
  Target target;
  ProbeSet probes;
  Pool *pool;
  Own *own;
  char *map, *x, *y; /* two buffers of `bytes` in one mapping */
  size_t nmap;
  int64_t bytes;
};

typedef struct Turn {
  Meter *m;
  const ProbeKernel *k;
  bool memory;
  Level level;
  int64_t n, times; /* floats and passes of a call */
} Turn;

static double clock_seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of a buffer, for each of so many threads: whole pages. */
static int64_t part_bytes(const Meter *m, int threads) {
  return m->bytes / threads / 4096 * 4096;
}

/* One call. Memory is gone through piece by piece, around and around. */
static void call(const Turn *t, Own *own, int thread, int threads) {
  const Meter *m = t->m;
  if (!t->memory) {
    t->k->fn((void *[]){own->numbers}, NULL, 0, 1, NULL, NULL);
    return;
  }
  bool copies = t->k == &m->probes.probe[PROBE_COPY] || t->k == &m->probes.probe[PROBE_COPY_NT];
  int64_t part = part_bytes(m, threads), at = 0;
  if (t->level == LEVEL_DRAM) {
    at = own->at + 8 * t->n <= part ? own->at + 4 * t->n : 0;
    own->at = at;
  }
  void *buf[2] = {m->x + part * thread + at, copies ? (void *)(m->y + part * thread + at) : own->sum};
  t->k->fn(buf, (int64_t[]){t->n, t->times}, 0, 1, NULL, NULL);
}

static void take(const Turn *t, int thread, int threads) {
  Own *own = &t->m->own[thread];
  call(t, own, thread, threads); /* data into its cache, clocks up */
  if (threads > 1) pool_barrier(t->m->pool);
  own->start = clock_seconds(CLOCK_MONOTONIC), own->cpu = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
  int calls = 0;
  do {
    call(t, own, thread, threads);
    calls++;
  } while ((own->end = clock_seconds(CLOCK_MONOTONIC)) - own->start < SPELL);
  own->cpu = clock_seconds(CLOCK_THREAD_CPUTIME_ID) - own->cpu;
  own->done = calls * (t->memory ? t->k->bytes * (double)t->n * (double)t->times : t->k->ops);
}

static void take_thread(void *ctx, int thread, int threads) {
  take(ctx, thread, threads);
}

/* Bytes of each thread at a level: half a cache, so that its other users leave them there; more than double the cache below.
 * 0: there is no such number. */
static int64_t extent(const Meter *m, Level level, int threads) {
  const Target *t = &m->target;
  if (level == LEVEL_DRAM) return part_bytes(m, threads);
  int64_t n = level == LEVEL_L1 ? t->l1 / 2 : level == LEVEL_L2 ? t->l2 / 2 : t->l3 / 2 / threads;
  int64_t below = level == LEVEL_L2 ? t->l1 : level == LEVEL_L3 ? t->l2 : 0;
  return n > 2 * below && n <= part_bytes(m, threads) ? n : 0;
}

bool meter_read(Meter *m, Probe p, Level level, bool all, Reading *out) {
  int threads = all ? pool_threads(m->pool) : 1;
  Turn t = {m, &m->probes.probe[p], p >= PROBE_READ, level, 0, 1};
  if (!t.k->fn) return false;
  if (t.memory) {
    int64_t n = extent(m, level, threads);
    if (level == LEVEL_DRAM && n > CALL_BYTES) n = CALL_BYTES;
    t.n = n / 4 / PROBE_GRAIN * PROBE_GRAIN;
    if (!t.n) return false;
    if (level != LEVEL_DRAM) t.times = (CALL_BYTES + n - 1) / n;
  }
  if (all)
    pool_run(m->pool, take_thread, &t);
  else
    take(&t, 0, 1);
  *out = (Reading){0, 0, 1};
  double done = 0, start = m->own[0].start, end = m->own[0].end;
  for (int i = 0; i < threads; i++) {
    const Own *o = &m->own[i];
    double share = o->cpu / (o->end - o->start);
    done += o->done;
    start = o->start < start ? o->start : start;
    end = o->end > end ? o->end : end;
    out->cpu_rate += o->done / o->cpu;
    out->share = share < out->share ? share : out->share;
  }
  out->rate = done / (end - start);
  return true;
}

typedef struct BarrierTurn {
  Pool *pool;
  double seconds;
} BarrierTurn;

static void barriers(void *ctx, int thread, int threads) {
  BarrierTurn *t = ctx;
  for (int i = 0; i < BARRIERS_BEFORE; i++) pool_barrier(t->pool);
  double start = clock_seconds(CLOCK_MONOTONIC);
  for (int i = 0; i < BARRIERS; i++) pool_barrier(t->pool);
  if (!thread) t->seconds = (clock_seconds(CLOCK_MONOTONIC) - start) / BARRIERS;
}

static Pool *new_pool(Diags *d, int threads) {
  Report why = {0};
  Pool *p = pool_new(threads, &why);
  if (!p) diag_error(d, (Span){0}, "%.*s", (int)strcspn(why.text, "\n"), why.text);
  report_free(&why);
  return p;
}

bool meter_barrier(Diags *d, int threads, double *seconds) {
  BarrierTurn t = {new_pool(d, threads), 0};
  if (!t.pool) return false;
  pool_run(t.pool, barriers, &t);
  pool_free(t.pool);
  *seconds = t.seconds;
  return true;
}

/* Every 16 bits are a bf16 in [0.5, 1), every 32 an f32 there, and no byte is 0. */
static void fill(void *to, int64_t bytes) {
  uint64_t seed = 1, *x = to;
  for (int64_t i = 0; i < bytes / 8; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    x[i] = 0x3f013f013f013f01u | ((seed >> 8) & 0x007e007e007e007eu);
  }
}

/* By the threads that will use it, so that it lies near them. */
static void fill_part(void *ctx, int thread, int threads) {
  Meter *m = ctx;
  int64_t part = part_bytes(m, threads);
  fill(m->x + thread * part, part);
  fill(m->y + thread * part, part);
  int64_t rest = m->bytes - threads * part;
  if (!thread) fill(m->x + threads * part, rest), fill(m->y + threads * part, rest);
}

static bool new_buffers(Meter *m, Diags *d) {
  int64_t bytes = 4 * m->target.l3, most = (int64_t)(machine_memory() / 4), each = pool_threads(m->pool) * EACH;
  bytes = bytes < each ? each : bytes;
  bytes = bytes > MOST ? MOST : bytes;
  if (most && bytes > most) bytes = most;
  m->bytes = bytes / HUGE_PAGE * HUGE_PAGE;
  if (m->bytes < (int64_t)pool_threads(m->pool) * HUGE_PAGE)
    return diag_error(d, (Span){0}, "too little memory to measure its speed");
  m->nmap = (size_t)(2 * m->bytes + 2 * HUGE_PAGE);
  m->map = mmap(NULL, m->nmap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m->map == MAP_FAILED) {
    m->map = NULL;
    return diag_error(d, (Span){0}, "no memory of %zu bytes to measure its speed: %s", m->nmap, strerror(errno));
  }
  madvise(m->map, m->nmap, MADV_HUGEPAGE); /* as the runtime does; a hint */
  m->x = m->map + (HUGE_PAGE - (uintptr_t)m->map % HUGE_PAGE) % HUGE_PAGE;
  m->y = m->x + m->bytes + STAGGER;
  pool_run(m->pool, fill_part, m);
  return true;
}

Meter *meter_new(Diags *d, const Target *t, int threads) {
  Meter *m = calloc(1, sizeof *m);
  Own *own = aligned_alloc(128, sizeof(Own) * (size_t)threads);
  if (!m || !own) {
    free(m), free(own);
    diag_error(d, (Span){0}, "out of memory");
    return NULL;
  }
  m->target = *t;
  m->own = own;
  memset(own, 0, sizeof(Own) * (size_t)threads);
  for (int i = 0; i < threads; i++) fill(own[i].numbers, sizeof own[i].numbers);
  if ((m->pool = new_pool(d, threads)) && new_buffers(m, d) && probes_load(d, t, &m->probes)) return m;
  meter_free(m);
  return NULL;
}

void meter_free(Meter *m) {
  if (!m) return;
  probes_free(&m->probes);
  if (m->map) munmap(m->map, m->nmap);
  pool_free(m->pool);
  free(m->own);
  free(m);
}

Pool *meter_pool(Meter *m) {
  return m->pool;
}
