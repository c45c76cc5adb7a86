/* The engine: memory of a program's buffers, and the walk over its step lists.
 *
 * Every thread walks the list itself and calls each kernel with its own number; a barrier follows where the next one touches
 * what it, or one before it, wrote (or writes what they read), and at the end of a list. Control flow only depends on the lists, so the threads agree
 * without talking. Addresses and integers that do not change with the index of a LIST are resolved once, at start, into tables
 * shared by all; a step that has some which do is resolved per thread when it runs.
 *
 * What must hold: one block for DATA, PARAM and STATE buffers (but those that the caller gave), one for TEMP (the arena), both zeroed at start; scratch is
 * private to a thread. Lanes: the table's order of steps satisfies every wait (checked by program_open), so one
 * process without communication runs the steps in that order. */
#include "runtime/check_nan.h"
#include "runtime/inkrt.h"
#include "runtime/machine.h"
#include "runtime/profile.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, GROUP = 32 /* steps between barriers, at most */ };

/* Per thread: where a step with varying arguments puts them, and the kernels' scratch. */
typedef struct Lane {
  void **buf;
  int64_t *ints;
  void *scratch;
} Lane;

struct Engine {
  const Program *p;
  Pool *pool;
  unsigned char *persistent, *arena, *scratch;
  size_t persistent_bytes, arena_bytes, scratch_bytes; /* mapped */
  size_t scratch_stride;
  void **given;            /* by buffer: where it lies, if not here; NULL: all do */
  int64_t *symbols;        /* values, by symbol */
  void **addresses;        /* by argument, index 0 */
  int64_t *values;         /* by integer, index 0 */
  unsigned char *vary;     /* by step: depends on the index of the running LIST */
  unsigned char *meet;     /* by step: a barrier follows */
  unsigned char *nth;      /* by step: which it is of those since the last barrier */
  int64_t dealt[GROUP][8]; /* by nth: the count behind a loop that is dealt out (ir/kir.def); a cache line apart */
  Lane *lanes;             /* by thread */
  Profile *profile;        /* NULL: off */
  NanCheck *check;         /* NULL: off */
  int list;                /* being run */
};

static void *map_memory(size_t bytes, const char *what, Report *err) {
  char text[32];
  void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) {
    report_add(err, "cannot get %s for %s: %s", machine_size(bytes, text), what, strerror(errno));
    return NULL;
  }
  if (bytes >= 4u << 20) madvise(m, bytes, MADV_HUGEPAGE); /* fewer TLB misses; a hint, so failing is fine */
  return m;
}

static size_t round_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

static bool take_memory(Engine *e, int threads, Report *err) {
  const ProgramHeader *h = e->p->h;
  uint64_t most = UINT64_C(1) << 46;
  if (h->persistent_bytes > most || h->arena_bytes > most || h->scratch_bytes > UINT64_C(1) << 36)
    return report_add(err, "the program asks for an impossible amount of memory");
  e->persistent_bytes = round_up(h->persistent_bytes + 1, 4096);
  e->arena_bytes = round_up(h->arena_bytes + 1, 4096);
  /* Threads' scratch lies page-aligned apart, so that no cache line or prefetch is shared. */
  e->scratch_stride = round_up(h->scratch_bytes + 1, 4096);
  e->scratch_bytes = e->scratch_stride * (size_t)threads;
  uint64_t all = (uint64_t)e->persistent_bytes + e->arena_bytes + e->scratch_bytes;
  if (!machine_fits(all, program_string(e->p, h->model), err)) return false;
  e->persistent = map_memory(e->persistent_bytes, "parameters and state", err);
  e->arena = map_memory(e->arena_bytes, "the arena", err);
  e->scratch = map_memory(e->scratch_bytes, "the threads' scratch", err);
  return e->persistent && e->arena && e->scratch;
}

void *engine_buffer(Engine *e, int buffer) {
  const ProgramBuffer *b = &e->p->buffers[buffer];
  if (e->given && e->given[buffer]) return e->given[buffer];
  switch ((BufferKind)b->kind) {
  case BUF_TEMP: return e->arena + b->offset;
  case BUF_CONST: return (void *)(e->p->blob + b->offset);
  default: return e->persistent + b->offset;
  }
}

void *engine_named(Engine *e, const char *name) {
  int i = program_buffer(e->p, name);
  return i < 0 ? NULL : engine_buffer(e, i);
}

static int64_t int_value(const Engine *e, const ProgramInt *i, int64_t index) {
  int64_t v = i->c + i->step * index + (i->sym ? i->mul * e->symbols[i->sym - 1] : 0);
  return i->max > 0 && v > i->max ? i->max : v;
}

static char *arg_address(Engine *e, const ProgramArg *a, int64_t index) {
  return (char *)engine_buffer(e, (int)a->buffer) + a->offset + a->stride * index;
}

static void resolve_ints(Engine *e) {
  for (int i = 0; i < e->p->nints; i++) e->values[i] = int_value(e, &e->p->ints[i], 0);
}

static void resolve(Engine *e) {
  const Program *p = e->p;
  for (int i = 0; i < p->nargs; i++) e->addresses[i] = arg_address(e, &p->args[i], 0);
  resolve_ints(e);
  for (int i = 0; i < p->nsteps; i++) {
    const ProgramStep *s = &p->steps[i];
    e->vary[i] = 0;
    if (s->kind != STEP_CALL) continue;
    for (uint32_t k = 0; k < s->nargs; k++) e->vary[i] |= p->args[s->args + k].stride != 0;
    for (uint32_t k = 0; k < s->nints; k++) e->vary[i] |= p->ints[s->ints + k].step != 0;
  }
}

/* ---- steps that need no barrier between them */

static bool overlap(const ProgramBuffer *a, const ProgramBuffer *b) {
  if (a == b) return true;
  return a->kind == BUF_TEMP && b->kind == BUF_TEMP && a->offset < b->offset + b->bytes &&
         b->offset < a->offset + a->bytes;
}

/* Arguments of a step in front of what it writes; a kernel that names no outputs may write all. */
static uint32_t reads(const Program *p, const ProgramStep *s) {
  uint32_t outputs = p->kernel_info[s->kernel].outputs;
  return outputs ? s->nargs - outputs : 0;
}

/* Does one write what the other touches? By whole buffers: the arguments of a loop's steps move. */
static bool disturb(const Program *p, const ProgramStep *a, const ProgramStep *b) {
  uint32_t reads_a = reads(p, a), reads_b = reads(p, b);
  for (uint32_t i = 0; i < a->nargs; i++)
    for (uint32_t j = 0; j < b->nargs; j++)
      if ((i >= reads_a || j >= reads_b) &&
          overlap(&p->buffers[p->args[a->args + i].buffer], &p->buffers[p->args[b->args + j].buffer]))
        return true;
  return false;
}

/* A list's steps in groups whose kernels may run at once, a barrier behind each. */
static void group_steps(Engine *e, const ProgramList *l) {
  const Program *p = e->p;
  uint32_t first = l->step, end = l->step + l->nsteps;
  for (uint32_t i = first; i < end; i++) {
    const ProgramStep *s = &p->steps[i];
    bool joins = s->kind == STEP_CALL && i - first < GROUP;
    for (uint32_t k = first; k < i && joins; k++) joins = !disturb(p, &p->steps[k], s);
    if (!joins) {
      if (i > first) e->meet[i - 1] = 1;
      first = s->kind == STEP_CALL ? i : i + 1;
    }
    e->nth[i] = (unsigned char)(i < first ? 0 : i - first);
  }
  if (end > first) e->meet[end - 1] = 1;
}

static bool all_given(const Program *p, void *const *given, Report *err) {
  if (program_list(p, "serve") < 0) return true;
  for (int i = 0; i < p->nbuffers; i++)
    if ((p->buffers[i].kind == BUF_PARAM || p->buffers[i].kind == BUF_STATE) && !(given && given[i]))
      return report_add(err, "the program serves, but nothing holds its '%s'", program_string(p, p->buffers[i].name));
  return true;
}

Engine *engine_new(const Program *p, int threads, Report *err) {
  return engine_new_given(p, threads, NULL, err);
}

Engine *engine_new_given(const Program *p, int threads, void *const *given, Report *err) {
  if (!all_given(p, given, err)) return NULL;
  if (!machine_has(program_string(p, p->h->cpu_features), err)) return NULL;
  Engine *e = calloc(1, sizeof(Engine));
  if (!e) {
    report_add(err, "out of memory");
    return NULL;
  }
  e->p = p;
  uint32_t most_args = 1, most_ints = 1;
  for (int i = 0; i < p->nsteps; i++) {
    if (p->steps[i].kind != STEP_CALL) continue;
    if (p->steps[i].nargs > most_args) most_args = p->steps[i].nargs;
    if (p->steps[i].nints > most_ints) most_ints = p->steps[i].nints;
  }
  e->pool = pool_new(threads, err);
  e->symbols = calloc((size_t)p->nsymbols + 1, sizeof(int64_t));
  e->given = calloc((size_t)p->nbuffers + 1, sizeof(void *));
  e->addresses = calloc((size_t)p->nargs + 1, sizeof(void *));
  e->values = calloc((size_t)p->nints + 1, sizeof(int64_t));
  e->vary = calloc((size_t)p->nsteps + 1, 1);
  e->meet = calloc((size_t)p->nsteps + 1, 1);
  e->nth = calloc((size_t)p->nsteps + 1, 1);
  e->lanes = calloc((size_t)(threads > 0 ? threads : 1), sizeof(Lane));
  if (!e->pool || !take_memory(e, threads, err)) {
    engine_free(e);
    return NULL;
  }
  if (given && e->given) memcpy(e->given, given, (size_t)p->nbuffers * sizeof(void *));
  bool ok = e->symbols && e->given && e->addresses && e->values && e->vary && e->meet && e->nth && e->lanes;
  for (int t = 0; ok && t < threads; t++) {
    Lane *l = &e->lanes[t];
    l->buf = calloc(most_args, sizeof(void *));
    l->ints = calloc(most_ints, sizeof(int64_t));
    l->scratch = e->scratch + (size_t)t * e->scratch_stride;
    ok = l->buf && l->ints;
  }
  if (!ok) {
    report_add(err, "out of memory");
    engine_free(e);
    return NULL;
  }
  for (int i = 0; i < p->nsymbols; i++) e->symbols[i] = p->symbols[i].bound;
  resolve(e);
  for (int i = 0; i < p->nlists; i++) group_steps(e, &p->lists[i]);
  return e;
}

void engine_free(Engine *e) {
  if (!e) return;
  if (e->lanes && e->pool)
    for (int t = 0; t < pool_threads(e->pool); t++) free(e->lanes[t].buf), free(e->lanes[t].ints);
  pool_free(e->pool);
  if (e->persistent) munmap(e->persistent, e->persistent_bytes);
  if (e->arena) munmap(e->arena, e->arena_bytes);
  if (e->scratch) munmap(e->scratch, e->scratch_bytes);
  free(e->symbols), free(e->given), free(e->addresses), free(e->values), free(e->vary), free(e->meet), free(e->nth);
  free(e->lanes);
  free(e);
}

const Program *engine_program(const Engine *e) {
  return e->p;
}
Pool *engine_pool(Engine *e) {
  return e->pool;
}

bool engine_set_symbol(Engine *e, const char *name, int64_t value) {
  for (int i = 0; i < e->p->nsymbols; i++)
    if (!strcmp(program_string(e->p, e->p->symbols[i].name), name)) {
      if (value < 0 || value > e->p->symbols[i].bound) return false;
      e->symbols[i] = value;
      resolve_ints(e);
      return true;
    }
  return false;
}

void engine_set_scalar(Engine *e, const char *name, double value) {
  int i = program_buffer(e->p, name);
  if (i < 0) return;
  void *at = engine_buffer(e, i);
  switch (e->p->buffers[i].dtype) {
  case DTYPE_F32: *(float *)at = (float)value; break;
  case DTYPE_F64: *(double *)at = value; break;
  case DTYPE_I32: *(int32_t *)at = (int32_t)value; break;
  default: break;
  }
}

double engine_scalar(Engine *e, const char *name) {
  int i = program_buffer(e->p, name);
  if (i < 0) return 0;
  const void *at = engine_buffer(e, i);
  switch (e->p->buffers[i].dtype) {
  case DTYPE_F32: return *(const float *)at;
  case DTYPE_F64: return *(const double *)at;
  case DTYPE_I32: return *(const int32_t *)at;
  default: return 0;
  }
}

/* False, to every thread: the check found something. */
static bool walk(Engine *e, int list, int64_t index, int thread, int threads) {
  const Program *p = e->p;
  const ProgramList *l = &p->lists[list];
  Lane *lane = &e->lanes[thread];
  for (uint32_t i = l->step; i < l->step + l->nsteps; i++) {
    const ProgramStep *s = &p->steps[i];
    if (s->kind == STEP_LIST) {
      int64_t n = int_value(e, &p->ints[s->count], index);
      for (int64_t k = 0; k < n; k++)
        if (!walk(e, s->kernel, k, thread, threads)) return false;
      continue;
    }
    void **buf = e->addresses + s->args;
    int64_t *ints = e->values + s->ints;
    if (e->vary[i] && index) {
      for (uint32_t k = 0; k < s->nargs; k++) lane->buf[k] = arg_address(e, &p->args[s->args + k], index);
      for (uint32_t k = 0; k < s->nints; k++) lane->ints[k] = int_value(e, &p->ints[s->ints + k], index);
      buf = lane->buf;
      ints = lane->ints;
    }
    NanStep here = {e->list, list, (int)i, index, buf};
    if (e->check) nan_before(e->check, &here, e->pool, thread, threads);
    if (e->check && e->profile) profile_skip(e->profile, thread);
    p->kernels[s->kernel](buf, ints, thread, threads, lane->scratch, e->dealt[e->nth[i]]);
    int64_t end = profile_from(e->profile);
    bool ends = list == e->list && i + 1 == l->step + l->nsteps; /* pool_run meets */
    if ((e->meet[i] && !ends) || e->check) pool_barrier(e->pool);
    if (e->profile) profile_call(e->profile, thread, (int)i, index, end);
    if (e->check && !nan_after(e->check, &here, e->pool, thread, threads)) return false;
  }
  return true;
}

static void walk_thread(void *ctx, int thread, int threads) {
  Engine *e = ctx;
  if (e->profile) profile_enter(e->profile, thread);
  walk(e, e->list, 0, thread, threads);
}

bool engine_run(Engine *e, int list) {
  if (list < 0) return true;
  e->list = list;
  if (e->check && !nan_data(e->check, e, list)) return false;
  pool_run(e->pool, walk_thread, e);
  if (e->profile) profile_leave(e->profile);
  return !e->check || !e->check->found;
}

void engine_set_check(Engine *e, NanCheck *check) {
  e->check = check;
}

NanCheck *engine_check(const Engine *e) {
  return e->check;
}

double engine_peak(Engine *e, double seconds) {
  int list = program_list(e->p, "peak");
  if (list < 0 || e->p->h->peak_flops <= 0) return 0;
  double flops = e->p->h->peak_flops * pool_threads(e->pool);
  engine_run(e, list); /* wakes the cores and their clocks */
  double best = 0, end = machine_seconds() + seconds;
  for (double start = machine_seconds(); start < end;) {
    engine_run(e, list);
    double now = machine_seconds();
    if (now > start && flops / (now - start) > best) best = flops / (now - start);
    start = now;
  }
  return best;
}

void engine_set_profile(Engine *e, Profile *profile) {
  e->profile = profile;
}
