/* One region's candidates on this machine: compiled together, loaded into this process, timed one call at a time.
 *
 * The state of the caches is that of a step, in which each kernel runs once between others. Before every call all threads read
 * through memory: as much as a step touches, at most what drives out their L2 caches and a good part of L3 (FLUSH). So
 * operands come from L3 or memory, and scratch and code too, or from nearer if the whole step is small. Then they read what
 * the step before has just written (`warm`), a share each, so that it lies about where that kernel would have left it.
 *
 * A call's time is the processor time of the thread that took longest: kernels wait for nothing, so what else runs on the
 * machine is left out as far as it can be. Values are made up, finite, and the same for all candidates.
 * Must hold: candidates whose kernels print alike are one and the same. */
#include "codegen/jit.h"
#include "ink/program.h"
#include "runtime/machine.h"
#include "runtime/pool.h"
#include "tune/tune.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_BUFFERS = 64, MAX_INTS = 32, FLUSH = 32 << 20, PAGE = 4096, LINE = 64 };

typedef struct Candidate {
  Schedule schedule;
  uint64_t text; /* hash of the kernel */
  KernelFn fn;
  int64_t scratch;
} Candidate;

struct Stand {
  Pool *pool;
  char *flush;
  size_t flush_bytes;
};

struct Bench {
  Arena *arena;
  Diags *diags;
  const Graph *region;
  Target target; /* gives the candidate at hand to the lowering */
  ScheduleSource source;
  const Schedule *now; /* NULL: the default */
  ContractShape shape;
  Stand *stand;
  int threads;
  uint64_t warm;
  Candidate *candidates;
  int n, cap;
  Jit **jits;
  int njits, cap_jits;
  char *memory, *scratch;
  size_t memory_bytes, scratch_bytes, stride; /* stride: of a thread's scratch */
  void *buf[MAX_BUFFERS];
  int64_t ints[MAX_INTS];
  double *spent; /* by thread, a cache line each */
  uint64_t sink; /* what was read for the caches' sake */
};

static bool give(void *ctx, const Graph *region, const ContractShape *s, Schedule *out) {
  Bench *b = ctx;
  (void)region;
  b->shape = *s;
  if (b->now) *out = *b->now;
  return b->now != NULL;
}

/* ---- memory */

static char *map(Diags *d, size_t bytes) {
  char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    diag_error(d, (Span){0}, "no memory to measure kernels in: %s", strerror(errno));
    return NULL;
  }
  madvise(p, bytes, MADV_HUGEPAGE); /* as the runtime's own memory; a hint */
  return p;
}

static size_t round_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

static Type buffer_type(const Graph *g, int i) {
  return val_type(g, i < g->ninputs ? g->inputs[i].val : g->outputs[i - g->ninputs].val);
}

/* The input that an output is made in, or -1. */
static int updated(const Graph *g, int o) {
  for (int i = 0; i < g->ninputs; i++)
    if (region_alias(g, o, i) == REGION_MUST) return i;
  return -1;
}

/* Buffers side by side, each some lines further on, so that equal sizes do not fall on the same sets of a cache. */
static bool take_memory(Bench *b) {
  const Graph *g = b->region;
  int n = g->ninputs + g->noutputs;
  Report r = {0};
  size_t at[MAX_BUFFERS];
  if (n > MAX_BUFFERS) return diag_error(b->diags, (Span){0}, "region @%s has %d operands", g->name, n);
  for (int i = 0; i < n; i++) {
    at[i] = b->memory_bytes;
    b->memory_bytes += round_up((size_t)type_bytes(buffer_type(g, i)), PAGE) + 5 * LINE;
  }
  if (!machine_fits(b->memory_bytes, "measuring", &r)) {
    diag_error(b->diags, (Span){0}, "region @%s: %s", g->name, r.text);
    report_free(&r);
    return false;
  }
  b->memory = map(b->diags, b->memory_bytes);
  b->spent = NEW_ARRAY(b->arena, double, b->threads *LINE / (int)sizeof(double));
  for (int i = 0; b->memory && i < n; i++) b->buf[i] = b->memory + at[i];
  for (int o = 0; o < g->noutputs; o++) {
    int in = updated(g, o);
    if (in >= 0) b->buf[g->ninputs + o] = b->buf[in];
  }
  return b->memory != NULL;
}

static bool take_scratch(Bench *b, int64_t bytes) {
  size_t stride = round_up((size_t)bytes + 1, PAGE);
  if (stride <= b->stride) return true;
  if (b->scratch) munmap(b->scratch, b->scratch_bytes);
  b->stride = stride;
  b->scratch_bytes = stride * (size_t)b->threads;
  return (b->scratch = map(b->diags, b->scratch_bytes)) != NULL;
}

static uint32_t mix(uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

/* Floats in [-1, 1), in f32 or as the upper half of one; integers that index stay inside. */
static void fill(const Graph *g, int i, void *to) {
  Type t = buffer_type(g, i);
  int64_t n = type_elements(t), bound = graph_index_use(g, g->inputs[i].val).bound;
  for (int64_t x = 0; x < n; x++) {
    uint32_t r = mix((uint32_t)x + 0x9e3779b9u * (uint32_t)(i + 1)), bits;
    float f = (float)(int32_t)r * 0x1p-31f;
    memcpy(&bits, &f, sizeof bits);
    if (t.dt == DT_i32)
      ((int32_t *)to)[x] = (int32_t)(r % (uint32_t)(bound ? bound : 4));
    else if (dtype_bytes[t.dt] == 4)
      ((float *)to)[x] = f;
    else if (dtype_bytes[t.dt] == 8)
      ((double *)to)[x] = (double)f;
    else if (dtype_bytes[t.dt] == 2)
      ((uint16_t *)to)[x] = (uint16_t)(bits >> 16);
    else
      ((int8_t *)to)[x] = (int8_t)(r % 16);
  }
}

static void fill_all(Bench *b) {
  for (int i = 0; i < b->region->ninputs; i++) fill(b->region, i, b->buf[i]);
}

/* ---- candidates */

/* A symbolic extent has its bound. */
static int64_t bound_of(const Graph *g, const char *name) {
  for (int v = 1; v < g->nvals; v++)
    for (int i = 0; i < g->types[v].rank; i++)
      if (g->types[v].dim[i].sym && !strcmp(g->types[v].dim[i].name, name)) return g->types[v].dim[i].n;
  return 0;
}

static const char *kernel_name(Arena *a, int number) {
  return arena_printf(a, "c%d", number);
}

/* Lowers a schedule to candidate number b->n, into km, or finds the candidate that it is already. */
static bool lower(Bench *b, const Schedule *c, KModule *km, int *number) {
  Graph g = *b->region;
  Lowered low;
  Text text = {0};
  g.name = kernel_name(b->arena, b->n);
  b->now = c;
  if (!lower_region(&g, &b->target, km, &low)) return false;
  kmodule_print(km, g.name, &text);
  const char *body = strchr(text.s, '('); /* behind its name */
  uint64_t hash = body ? hash64(body, strlen(body)) : 0;
  text_free(&text);
  for (*number = 0; *number < b->n; ++*number)
    if (b->candidates[*number].text == hash) {
      km->n--;
      return true;
    }
  if (low.nsyms > MAX_INTS) return diag_error(b->diags, (Span){0}, "region @%s: too many extents", b->region->name);
  for (int i = 0; i < low.nsyms; i++) b->ints[i] = bound_of(b->region, low.syms[i]);
  Candidate made = {.text = hash, .scratch = low.scratch};
  if (c) made.schedule = *c;
  PUSH(b->arena, b->candidates, b->n, b->cap, made);
  return take_scratch(b, low.scratch);
}

/* A module for each thread, all compiled at once. */
typedef struct Share {
  KModule *km;
  Arena *arena;
  Diags *diags;
  Text object;
  bool ok;
} Share;
typedef struct Compiling {
  const Target *target;
  Share *share;
} Compiling;

static void compile(void *ctx, int thread, int threads) {
  Compiling *c = ctx;
  Share *s = &c->share[thread];
  (void)threads;
  s->ok = !s->km->n || llvm_compile(s->km, c->target, LLVM_OBJECT, NULL, NULL, 0, s->diags, &s->object);
}

static bool load(Bench *b, Share *s) {
  for (int i = 0; i < s->diags->n; i++) diag_error(b->diags, (Span){0}, "%s", s->diags->list[i].text);
  if (!s->ok || !s->km->n) return s->ok;
  Jit *j = jit_load(b->diags, &s->object);
  if (!j) return false;
  PUSH(b->arena, b->jits, b->njits, b->cap_jits, j);
  for (int i = 0; i < s->km->n; i++) {
    const char *name = s->km->kernels[i]->name;
    Candidate *c = &b->candidates[strtol(name + 1, NULL, 10)];
    if (!(c->fn = (KernelFn)(uintptr_t)jit_symbol(j, b->diags, name))) return false;
  }
  return true;
}

bool bench_add(Bench *b, const Schedule *c, int n, int *number) {
  Compiling all = {&b->target, NEW_ARRAY(b->arena, Share, b->threads)};
  bool ok = true;
  int at = 0;
  for (int i = 0; i < b->threads; i++) {
    Share *s = &all.share[i];
    s->arena = arena_new();
    s->diags = diags_new(s->arena);
    s->km = kmodule_new(s->arena, "candidates");
  }
  for (int i = 0; ok && i < n; i++) {
    int before = b->n;
    ok = lower(b, c ? &c[i] : NULL, all.share[at].km, &number[i]);
    if (b->n > before) at = (at + 1) % b->threads;
  }
  if (ok) pool_run(b->stand->pool, compile, &all);
  for (int i = 0; i < b->threads; i++) {
    Share *s = &all.share[i];
    ok = ok && load(b, s);
    text_free(&s->object);
    arena_free(s->arena);
  }
  return ok;
}

const ContractShape *bench_shape(const Bench *b) {
  return &b->shape;
}

/* ---- runs */

typedef struct Call {
  Bench *b;
  KernelFn fn;
  int64_t dealt;
} Call;

static double processor_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* This thread's share of a buffer, a line at a time. */
static uint64_t stream(const char *at, size_t bytes, int thread, int threads) {
  size_t lines = bytes / LINE, from = lines * (size_t)thread / (size_t)threads;
  size_t to = lines * ((size_t)thread + 1) / (size_t)threads;
  uint64_t sum = 0;
  for (size_t i = from; i < to; i++) sum += *(const uint64_t *)(at + i * LINE);
  return sum;
}

static void call(void *ctx, int thread, int threads) {
  Call *c = ctx;
  Bench *b = c->b;
  uint64_t sum = stream(b->stand->flush, b->stand->flush_bytes, thread, threads);
  pool_barrier(b->stand->pool);
  for (int i = 0; i < b->region->ninputs && i < 64; i++)
    if (b->warm >> i & 1) sum += stream(b->buf[i], (size_t)type_bytes(buffer_type(b->region, i)), thread, threads);
  pool_barrier(b->stand->pool);
  double before = processor_seconds();
  c->fn(b->buf, b->ints, thread, threads, b->scratch + b->stride * (size_t)thread, &c->dealt);
  b->spent[thread * (LINE / (int)sizeof(double))] = processor_seconds() - before;
  if (sum == 1) b->sink = sum; /* so that the reads stay */
}

double bench_run(Bench *b, int number) {
  Call c = {b, b->candidates[number].fn, 0};
  double most = 0;
  pool_run(b->stand->pool, call, &c);
  for (int i = 0; i < b->threads; i++) {
    double spent = b->spent[i * (LINE / (int)sizeof(double))];
    most = spent > most ? spent : most;
  }
  return most;
}

static void call_plainly(void *ctx, int thread, int threads) {
  Call *c = ctx;
  c->fn(c->b->buf, c->b->ints, thread, threads, c->b->scratch + c->b->stride * (size_t)thread, &c->dealt);
}

static void compute(Bench *b, int number, bool alone) {
  const Graph *g = b->region;
  Call c = {b, b->candidates[number].fn, 0};
  fill_all(b);
  for (int o = 0; o < g->noutputs; o++)
    if (updated(g, o) < 0) memset(b->buf[g->ninputs + o], 0xff, (size_t)type_bytes(val_type(g, g->outputs[o].val)));
  if (alone)
    call_plainly(&c, 0, 1);
  else
    pool_run(b->stand->pool, call_plainly, &c);
}

/* Two NaNs are equal. */
static bool same(DType dt, const void *x, const void *y, int64_t n) {
  const float *f = x, *g = y;
  if (!memcmp(x, y, (size_t)(n * dtype_bytes[dt]))) return true;
  for (int64_t i = 0; dt == DT_f32 && i < n; i++)
    if (memcmp(&f[i], &g[i], 4) && !(f[i] != f[i] && g[i] != g[i])) return false;
  return dt == DT_f32;
}

bool bench_agree(Bench *b, int x, int y) {
  const Graph *g = b->region;
  bool agree = true;
  char *want[MAX_BUFFERS];
  compute(b, x, false);
  for (int o = 0; o < g->noutputs; o++) {
    size_t bytes = (size_t)type_bytes(val_type(g, g->outputs[o].val));
    if (!(want[o] = malloc(bytes + 1))) abort();
    memcpy(want[o], b->buf[g->ninputs + o], bytes);
  }
  for (int alone = 0; alone < 2; alone++) {
    compute(b, y, alone);
    for (int o = 0; o < g->noutputs; o++) {
      Type t = val_type(g, g->outputs[o].val);
      agree = agree && same(t.dt, want[o], b->buf[g->ninputs + o], type_elements(t));
    }
  }
  for (int o = 0; o < g->noutputs; o++) free(want[o]);
  fill_all(b);
  return agree;
}

/* ---- life */

Stand *stand_open(Arena *a, Diags *d, const Target *t, int threads, int64_t footprint) {
  Stand *s = NEW(a, Stand);
  Report r = {0};
  int64_t most = 2 * t->l2 * threads + (t->l3 < FLUSH ? t->l3 : FLUSH);
  s->flush_bytes = (size_t)(footprint < most ? footprint : most) / PAGE * PAGE + PAGE;
  s->flush = map(d, s->flush_bytes);
  if (s->flush) memset(s->flush, 1, s->flush_bytes); /* pages of its own */
  if (s->flush && !(s->pool = pool_new(threads, &r))) diag_error(d, (Span){0}, "%s", r.text);
  report_free(&r);
  if (s->pool) return s;
  stand_close(s);
  return NULL;
}

void stand_close(Stand *s) {
  if (!s) return;
  if (s->flush) munmap(s->flush, s->flush_bytes);
  pool_free(s->pool);
}

int stand_threads(const Stand *s) {
  return pool_threads(s->pool);
}

Bench *bench_open(Arena *a, Diags *d, const Graph *region, const Target *t, Stand *stand, uint64_t warm) {
  Bench *b = NEW(a, Bench);
  int number;
  b->arena = a, b->diags = d, b->region = region, b->target = *t;
  b->stand = stand, b->threads = stand_threads(stand), b->warm = warm;
  b->source = (ScheduleSource){give, b};
  b->target.schedules = &b->source;
  if (take_memory(b) && bench_add(b, NULL, 1, &number)) {
    b->candidates[0].schedule = schedule_default(t, &b->shape);
    fill_all(b);
    return b;
  }
  bench_close(b);
  return NULL;
}

void bench_close(Bench *b) {
  if (!b) return;
  for (int i = 0; i < b->njits; i++) jit_free(b->jits[i]);
  if (b->memory) munmap(b->memory, b->memory_bytes);
  if (b->scratch) munmap(b->scratch, b->scratch_bytes);
}
