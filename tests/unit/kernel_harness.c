/* Building, guarding, running and comparing kernels (kernel_harness.h). */
#include "kernel_harness.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, MAX_ARGS = 32, PATTERN = 0xa5 };

/* ---- building */

static bool load(KernelSet *s, const Text *object) {
  if (!(s->jit = jit_load(s->diags, object))) return false;
  for (int i = 0; i < s->module->ngraphs; i++) {
    const Graph *g = s->module->graphs[i];
    if (g->region && !(s->fn[i] = (KernelFn)(uintptr_t)jit_symbol(s->jit, s->diags, g->name))) return false;
  }
  s->peak = (KernelFn)(uintptr_t)jit_symbol(s->jit, s->diags, "peak");
  return s->peak != NULL;
}

bool kernels_build(KernelSet *s, const char *target, const char *text, Text *why) {
  memset(s, 0, sizeof *s);
  s->arena = arena_new();
  s->diags = diags_new(s->arena);
  Text object = {0};
  uint32_t file = diags_source(s->diags, "test.ir", text, strlen(text));
  bool ok = target_resolve(s->arena, s->diags, target, &s->target) &&
            (s->module = module_parse(s->arena, s->diags, file)) && module_verify(s->module);
  if (ok) {
    s->km = kmodule_new(s->arena, s->module->name);
    s->lowered = NEW_ARRAY(s->arena, Lowered, s->module->ngraphs);
    s->fn = NEW_ARRAY(s->arena, KernelFn, s->module->ngraphs);
    for (int i = 0; i < s->module->ngraphs; i++)
      if (s->module->graphs[i]->region)
        ok = lower_region(s->module->graphs[i], &s->target, s->km, &s->lowered[i]) && ok;
    Lowered peak;
    ok = ok && lower_peak(&s->target, s->km, &peak, &s->peak_flops);
    ok = ok && llvm_compile(s->km, &s->target, LLVM_OBJECT, NULL, NULL, 0, s->diags, &object);
  }
  if (ok && kernels_runnable(s)) ok = load(s, &object);
  if (!ok) diags_render(s->diags, why);
  text_free(&object);
  if (!ok) kernels_free(s);
  return ok;
}

bool kernels_runnable(const KernelSet *s) {
  if (!target_here(&s->target)) return false;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (strstr(s->target.require, "avx512") &&
      !(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")))
    return false;
  if (strstr(s->target.require, "avx2") && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")))
    return false;
#endif
  return true;
}

void kernels_free(KernelSet *s) {
  jit_free(s->jit);
  if (s->arena) arena_free(s->arena);
  memset(s, 0, sizeof *s);
}

/* ---- values */

static uint64_t next(uint64_t *seed) { /* splitmix64 */
  uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static float value(uint64_t *seed, const char *region) {
  static const float special[] = {0.f,     -0.f, INFINITY, -INFINITY, NAN,   1.f,   -1.f, 1e-40f, -1e-45f,
                                  3.4e38f, 88.f, -88.f,    -103.5f,   0.92f, 4.01f, 10.f, 0.625f, 1.17549435e-38f};
  uint64_t r = next(seed);
  float x = (float)(int32_t)(uint32_t)(r >> 32) * 0x1p-31f; /* [-1, 1) */
  if (!strncmp(region, "special.", 8) && (r & 3) == 0) return special[(r >> 2) % LEN(special)];
  if (!strncmp(region, "rare.", 5) && (r & 2047) == 0) return special[(r >> 11) % LEN(special)];
  if (!strncmp(region, "small.", 6)) return ldexpf(x, (int)(r >> 8 & 7) - 66); /* products around the smallest normal */
  if (!strncmp(region, "wide.", 5) || !strncmp(region, "special.", 8)) return ldexpf(x, (int)(r >> 8 & 31) - 12);
  if ((r & 63) == 0) return r & 64 ? 0.f : -0.f;
  return x * 2;
}

void kernels_fill(const Graph *g, int input, Tensor *t, uint64_t *seed) {
  int64_t n = type_elements(t->type);
  if (t->type.dt == DT_i8) {
    for (int64_t i = 0; i < n; i++) {
      uint64_t r = next(seed);
      ((int32_t *)t->data)[i] = (r & 7) == 0 ? (r & 8 ? -128 : 127) : (int8_t)(r >> 8);
    }
    return;
  }
  if (t->type.dt != DT_i32) {
    bool sum = !strncmp(g->name, "small.", 6) && t->type.dt == DT_f32;
    for (int64_t i = 0; i < n; i++) tensor_set(t, EVAL_EXACT, i, ldexp((double)value(seed, g->name), sum ? -62 : 0));
    return;
  }
  IndexUse use = graph_index_use(g, g->inputs[input].val);
  int64_t bound = use.bound ? use.bound : 1000;
  for (int64_t i = 0; i < n; i++) {
    uint64_t r = next(seed);
    ((int32_t *)t->data)[i] =
        use.negative && (r & 7) == 0 ? -1 - (int32_t)(r >> 60) : (int32_t)((r >> 8) % (uint64_t)bound);
  }
}

/* ---- guarded memory */

typedef struct Guarded {
  char *map;
  size_t whole, room, bytes;
  char *data;
} Guarded;

/* Data that ends (or begins) at a page that can not be touched; the rest of its pages holds a pattern. */
static Guarded guarded(size_t bytes, bool at_end) {
  Guarded m = {.bytes = bytes, .room = (bytes + PAGE - 1) / PAGE * PAGE + (bytes ? 0 : PAGE)};
  m.whole = m.room + 2 * PAGE;
  m.map = mmap(NULL, m.whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m.map == MAP_FAILED || mprotect(m.map + PAGE, m.room, PROT_READ | PROT_WRITE)) abort();
  m.data = m.map + PAGE + (at_end ? m.room - bytes : 0);
  memset(m.map + PAGE, PATTERN, (size_t)(m.data - m.map - PAGE));
  memset(m.data + bytes, PATTERN, (size_t)(m.map + PAGE + m.room - (m.data + bytes)));
  return m;
}

static bool intact(const Guarded *m) {
  for (const char *p = m->map + PAGE; p < m->map + PAGE + m->room; p++)
    if ((p < m->data || p >= m->data + m->bytes) && (unsigned char)*p != PATTERN) return false;
  return true;
}

static sigjmp_buf trap;
static void on_fault(int sig) {
  siglongjmp(trap, sig);
}

/* ---- one run */

typedef struct Run {
  KernelSet *s;
  const Graph *g;
  const Lowered *low;
  KernelFn fn;
  const Tensor *in, *want;
  int64_t ints[MAX_ARGS];
  Text *why;
} Run;

static size_t bytes_of(const Tensor *t) {
  return (size_t)type_bytes(t->type);
}

static bool compare(Run *r, int o, const void *memory, const char *what) {
  int64_t n = type_elements(r->want[o].type), bad = 0, first = -1;
  Arena *a = arena_new();
  Tensor read = tensor_new(a, r->want[o].type, EVAL_EXACT);
  const float *want = r->want[o].data, *got = read.data;
  tensor_read(&read, memory);
  for (int64_t i = 0; i < n; i++) {
    if (!memcmp(&got[i], &want[i], 4) || (isnan(got[i]) && isnan(want[i]))) continue;
    if (!bad++) first = i;
  }
  if (bad)
    text_add(r->why,
             "@%s, %s: output %d: %lld of %lld elements differ; element %lld is %.9g (%a), expected %.9g (%a)\n",
             r->g->name, what, o, (long long)bad, (long long)n, (long long)first, (double)got[first],
             (double)got[first], (double)want[first], (double)want[first]);
  arena_free(a);
  return !bad;
}

/* share[o]: the input whose buffer output o has, or -1. */
static bool run(Run *r, int threads, bool reverse, bool at_end, const int *share) {
  const Graph *g = r->g;
  Guarded in[MAX_ARGS], out[MAX_ARGS], scratch = guarded((size_t)r->low->scratch, true);
  void *buf[2 * MAX_ARGS];
  char what[96];
  bool ok = true;
  int n = snprintf(what, sizeof what, "%d threads%s%s", threads, reverse ? " in reverse" : "", at_end ? "" : ", left");
  for (int i = 0; i < g->ninputs; i++) {
    in[i] = guarded(bytes_of(&r->in[i]), at_end);
    tensor_write(&r->in[i], in[i].data);
    buf[i] = in[i].data;
  }
  bool shared[MAX_ARGS] = {false};
  for (int o = 0; o < g->noutputs; o++) {
    out[o] = share[o] >= 0 ? in[share[o]] : guarded(bytes_of(&r->want[o]), at_end);
    if (share[o] >= 0) {
      shared[share[o]] = true;
      if (n < (int)sizeof what)
        n += snprintf(what + n, sizeof what - (size_t)n, ", output %d in input %d", o, share[o]);
    } else {
      memset(out[o].data, 0xff, out[o].bytes);
    }
    buf[g->ninputs + o] = out[o].data;
  }
  for (int i = 0; i < g->ninputs; i++)
    if (!shared[i]) mprotect(in[i].map + PAGE, in[i].room, PROT_READ);
  struct sigaction act = {.sa_handler = on_fault}, segv, bus;
  sigaction(SIGSEGV, &act, &segv), sigaction(SIGBUS, &act, &bus);
  volatile int th = 0;
  int64_t dealt = 0;
  int sig = sigsetjmp(trap, 1);
  if (!sig) {
    for (int t = 0; t < threads; t++) {
      th = reverse ? threads - 1 - t : t;
      memset(scratch.data, 0xff, scratch.bytes);
      r->fn(buf, r->ints, th, threads, scratch.data, &dealt);
    }
  } else {
    text_add(r->why, "@%s, %s: thread %d touches memory that is not its own\n", g->name, what, th);
    ok = false;
  }
  sigaction(SIGSEGV, &segv, NULL), sigaction(SIGBUS, &bus, NULL);
  if (ok && dealt) {
    text_add(r->why, "@%s, %s: leaves a count of turns behind\n", g->name, what);
    ok = false;
  }
  for (int o = 0; ok && o < g->noutputs; o++) ok = compare(r, o, out[o].data, what);
  for (int i = 0; i < g->ninputs; i++)
    if (!intact(&in[i])) text_add(r->why, "@%s, %s: writes around input %d\n", g->name, what, i), ok = false;
  for (int o = 0; o < g->noutputs; o++)
    if (!intact(&out[o])) text_add(r->why, "@%s, %s: writes around output %d\n", g->name, what, o), ok = false;
  if (!intact(&scratch)) text_add(r->why, "@%s, %s: writes around its scratch\n", g->name, what), ok = false;
  for (int o = 0; o < g->noutputs; o++)
    if (share[o] < 0) munmap(out[o].map, out[o].whole);
  for (int i = 0; i < g->ninputs; i++) munmap(in[i].map, in[i].whole);
  munmap(scratch.map, scratch.whole);
  return ok;
}

/* ---- all runs of a region */

static Tensor bound_tensor(Arena *a, Type t, const Binding *bind, int nbind) {
  for (int i = 0; i < t.rank; i++)
    for (int b = 0; b < nbind; b++)
      if (t.dim[i].sym && !strcmp(t.dim[i].name, bind[b].name)) t.dim[i].n = bind[b].n, t.dim[i].sym = false;
  return tensor_new(a, t, EVAL_EXACT);
}

static int check_bound(Run *r, const Binding *bind, int nbind, uint64_t seed) {
  const Graph *g = r->g;
  Arena *a = arena_new();
  Tensor in[MAX_ARGS], want[MAX_ARGS];
  int failed = 0, none[MAX_ARGS], share[MAX_ARGS];
  for (int i = 0; i < g->ninputs; i++) {
    in[i] = bound_tensor(a, val_type(g, g->inputs[i].val), bind, nbind);
    kernels_fill(g, i, &in[i], &seed);
  }
  if (!graph_eval(g, EVAL_EXACT, in, bind, nbind, a, want, r->s->diags)) {
    diags_render(r->s->diags, r->why);
    arena_free(a);
    return 1;
  }
  r->in = in, r->want = want;
  for (int o = 0; o < g->noutputs; o++) {
    none[o] = -1;
    for (int i = 0; i < g->ninputs; i++)
      if (region_alias(g, o, i) == REGION_MUST) none[o] = i;
  }
  bool large = r->low->flops > 2e7;
  failed += !run(r, 1, false, true, none);
  failed += !run(r, 3, true, false, none);
  if (!large) {
    failed += !run(r, 2, false, true, none);
    failed += !run(r, 7, false, false, none);
    failed += !run(r, 7, true, true, none);
  }
  for (int o = 0; o < g->noutputs; o++)
    for (int i = 0; i < g->ninputs; i++)
      if (region_alias(g, o, i) == REGION_MAY) {
        memcpy(share, none, sizeof share);
        share[o] = i;
        failed += !run(r, 3, false, true, share);
      }
  arena_free(a);
  return failed;
}

/* Symbolic extents: their bounds, ones, and some between. */
static int check_region(KernelSet *s, int n, uint64_t seed, Text *why) {
  const Graph *g = s->module->graphs[n];
  Run r = {.s = s, .g = g, .low = &s->lowered[n], .fn = s->fn[n], .why = why};
  if (g->ninputs > MAX_ARGS || g->noutputs > MAX_ARGS || r.low->nsyms > MAX_ARGS) abort();
  Binding bind[MAX_ARGS];
  int failed = 0, rounds = r.low->nsyms ? 6 : 1;
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < r.low->nsyms; i++) {
      int64_t bound = 1;
      for (int x = 0; x < g->ninputs; x++) {
        Type t = val_type(g, g->inputs[x].val);
        for (int j = 0; j < t.rank; j++)
          if (t.dim[j].sym && !strcmp(t.dim[j].name, r.low->syms[i])) bound = t.dim[j].n;
      }
      int64_t v = round == 0 ? bound : round == 1 ? 1 : 1 + (int64_t)(next(&seed) % (uint64_t)bound);
      bind[i] = (Binding){r.low->syms[i], v};
      r.ints[i] = v;
    }
    int f = check_bound(&r, bind, r.low->nsyms, seed + (uint64_t)round);
    for (int i = 0; f && i < r.low->nsyms; i++) text_add(why, "  with %s = %lld\n", bind[i].name, (long long)bind[i].n);
    failed += f;
  }
  return failed;
}

int kernels_check(KernelSet *s, uint64_t seed, Text *why) {
  int failed = 0;
  for (int i = 0; i < s->module->ngraphs; i++)
    if (s->module->graphs[i]->region && s->fn[i]) failed += check_region(s, i, seed + (uint64_t)i, why);
  return failed;
}
