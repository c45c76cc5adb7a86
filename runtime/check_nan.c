/* The search of --check-nan (check_nan.h): each thread looks through its part of what a step stored.
 *
 * Before a step the arguments that it will overwrite are copied, so that what went in can still be told. Which those are
 * follows from the program: an argument whose buffer shares bytes with an output's. After the step every thread notes the
 * first bad value of its part; all of them see all notes, so they agree without talking. Only when there is one does
 * thread 0 look closer, at the inputs, and decide.
 *
 * What must hold: between a thread's note and the next one it writes stands a barrier (the kernel's), and no address is
 * formed outside of an argument's buffer, whatever the program's offsets say. */
#include "runtime/check_nan.h"
#include "runtime/inkrt.h"
#include "runtime/machine.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1024 };

bool nan_is_float(int dtype) {
  return dtype == DTYPE_F32 || dtype == DTYPE_BF16 || dtype == DTYPE_F64;
}

uint32_t nan_outputs(const Program *p, const ProgramStep *s) {
  return s->nargs - p->kernel_info[s->kernel].outputs;
}

/* A slice of a loop's value is as long as its stride; anything else is a whole buffer. */
int64_t nan_elements(const Program *p, const ProgramArg *a, int64_t turn) {
  const ProgramBuffer *b = &p->buffers[a->buffer];
  int64_t size = dtype_size(b->dtype), whole = buffer_elements(b) * size, start, left;
  if (a->stride < 0 || __builtin_mul_overflow(a->stride, turn, &start) ||
      __builtin_add_overflow(start, a->offset, &start))
    return 0;
  if (start < 0 || start >= whole) return 0;
  left = whole - start;
  if (a->stride > 0 && a->stride < left) left = a->stride;
  return left / size;
}

static int64_t first32(const uint32_t *x, int64_t from, int64_t to, bool infinities) {
  const uint32_t inf = 0x7f800000u;
  int64_t i = from;
  for (; to - i >= BLOCK; i += BLOCK) { /* a loop of fixed length: it becomes vectors */
    uint32_t any = 0;
    for (int k = 0; k < BLOCK; k++) any |= (x[i + k] & inf) == inf;
    if (any) break;
  }
  for (; i < to; i++)
    if ((x[i] & inf) == inf && (infinities || x[i] & 0x7fffffu)) return i;
  return -1;
}

static int64_t first16(const uint16_t *x, int64_t from, int64_t to, bool infinities) {
  for (int64_t i = from; i < to; i++)
    if ((x[i] & 0x7f80) == 0x7f80 && (infinities || x[i] & 0x7f)) return i;
  return -1;
}

static int64_t first64(const uint64_t *x, int64_t from, int64_t to, bool infinities) {
  const uint64_t inf = UINT64_C(0x7ff) << 52;
  for (int64_t i = from; i < to; i++)
    if ((x[i] & inf) == inf && (infinities || x[i] << 12)) return i;
  return -1;
}

int64_t nan_first(const void *at, int dtype, int64_t from, int64_t to, bool infinities) {
  switch (dtype) {
  case DTYPE_F32: return first32(at, from, to, infinities);
  case DTYPE_BF16: return first16(at, from, to, infinities);
  case DTYPE_F64: return first64(at, from, to, infinities);
  default: return -1;
  }
}

/* ---- what a step overwrites */

/* The memory a buffer lies in: two buffers can only share bytes in the same one. */
static int memory_of(const ProgramBuffer *b) {
  return b->kind == BUF_TEMP ? 0 : b->kind == BUF_CONST ? 1 : 2;
}

static bool share_bytes(const ProgramBuffer *a, const ProgramBuffer *b) {
  return memory_of(a) == memory_of(b) && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

static bool overwritten(const Program *p, const ProgramStep *s, uint32_t k) {
  const ProgramArg *a = &p->args[s->args];
  for (uint32_t o = nan_outputs(p, s); o < s->nargs; o++)
    if (share_bytes(&p->buffers[a[k].buffer], &p->buffers[a[o].buffer])) return true;
  return false;
}

static uint64_t arg_bytes(const Program *p, const ProgramArg *a, int64_t turn) {
  return (uint64_t)nan_elements(p, a, turn) * (uint64_t)dtype_size(p->buffers[a->buffer].dtype);
}

static uint64_t round64(uint64_t n) {
  return (n + 63) / 64 * 64;
}

/* Bytes kept for the arguments before number k. */
static uint64_t kept_before(const Program *p, const ProgramStep *s, uint32_t k, int64_t turn) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < k; i++)
    if (overwritten(p, s, i)) at += round64(arg_bytes(p, &p->args[s->args + i], turn));
  return at;
}

const void *nan_before_step(const NanCheck *n, const NanStep *s, uint32_t k) {
  const ProgramStep *step = &n->p->steps[s->step];
  return overwritten(n->p, step, k) ? n->kept + kept_before(n->p, step, k, s->turn) : s->buf[k];
}

NanCheck *nan_new(const Program *p, int threads, Report *err) {
  if (p->nsymbols) {
    report_add(err,
               "--check-nan: this program has extents that are known only when it runs; they are not followed yet");
    return NULL;
  }
  NanCheck *n = calloc(1, sizeof(NanCheck));
  uint32_t most_args = 1;
  uint64_t most = 0;
  for (int i = 0; i < p->nsteps; i++) {
    const ProgramStep *s = &p->steps[i];
    if (s->kind != STEP_CALL) continue;
    uint64_t bytes = kept_before(p, s, nan_outputs(p, s), 0);
    if (bytes > most) most = bytes;
    if (s->nargs > most_args) most_args = s->nargs;
  }
  if (n) {
    n->p = p;
    n->kept_bytes = most;
    n->spot = calloc((size_t)threads, sizeof(NanSpot));
    n->buf = calloc(most_args, sizeof(void *));
    if (!machine_fits(most, "--check-nan", err)) return nan_free(n), NULL;
    n->kept = malloc(most + 64);
  }
  if (n && n->spot && n->buf && n->kept) return n;
  nan_free(n);
  report_add(err, "out of memory");
  return NULL;
}

void nan_free(NanCheck *n) {
  if (!n) return;
  free(n->spot), free(n->buf), free(n->kept);
  report_free(&n->text);
  free(n);
}

/* ---- around a step */

static void part(int64_t n, int thread, int threads, int64_t *from, int64_t *to) {
  int64_t share = (n / threads / BLOCK + 1) * BLOCK;
  *from = share * thread < n ? share * thread : n;
  *to = *from + share < n ? *from + share : n;
}

void nan_before(NanCheck *n, const NanStep *s, Pool *pool, int thread, int threads) {
  const Program *p = n->p;
  const ProgramStep *step = &p->steps[s->step];
  uint64_t at = 0;
  for (uint32_t k = 0; k < nan_outputs(p, step); k++) {
    if (!overwritten(p, step, k)) continue;
    int64_t bytes = (int64_t)arg_bytes(p, &p->args[step->args + k], s->turn), from, to;
    part(bytes, thread, threads, &from, &to);
    memcpy(n->kept + at + from, (const char *)s->buf[k] + from, (size_t)(to - from));
    at += round64((uint64_t)bytes);
  }
  if (at) pool_barrier(pool); /* the kernel may write where another thread still copies */
}

static NanSpot search(const Program *p, const NanStep *s, int thread, int threads, bool infinities) {
  const ProgramStep *step = &p->steps[s->step];
  uint32_t first = nan_outputs(p, step);
  for (uint32_t k = first; k < step->nargs; k++) {
    const ProgramArg *a = &p->args[step->args + k];
    int64_t from, to;
    if (!nan_is_float(p->buffers[a->buffer].dtype)) continue;
    part(nan_elements(p, a, s->turn), thread, threads, &from, &to);
    int64_t bad = nan_first(s->buf[k], p->buffers[a->buffer].dtype, from, to, infinities);
    if (bad >= 0) return (NanSpot){(int)(k - first), bad};
  }
  return (NanSpot){-1, 0};
}

static bool read_infinity(const NanCheck *n, const NanStep *s) {
  const Program *p = n->p;
  const ProgramStep *step = &p->steps[s->step];
  for (uint32_t k = 0; k < nan_outputs(p, step); k++) {
    const ProgramArg *a = &p->args[step->args + k];
    int dtype = p->buffers[a->buffer].dtype;
    if (nan_is_float(dtype) && nan_first(nan_before_step(n, s, k), dtype, 0, nan_elements(p, a, s->turn), true) >= 0)
      return true;
  }
  return false;
}

bool nan_after(NanCheck *n, const NanStep *s, Pool *pool, int thread, int threads) {
  n->spot[thread] = search(n->p, s, thread, threads, true);
  pool_barrier(pool);
  NanSpot best = {-1, 0};
  for (int t = 0; t < threads; t++) {
    NanSpot x = n->spot[t];
    if (x.output >= 0 &&
        (best.output < 0 || x.output < best.output || (x.output == best.output && x.element < best.element)))
      best = x;
  }
  if (best.output < 0) return true;
  if (!thread) {
    if (read_infinity(n, s)) best = search(n->p, s, 0, 1, false);
    n->found = best.output >= 0;
    n->what = best;
    n->at = *s;
    memcpy(n->buf, s->buf, n->p->steps[s->step].nargs * sizeof(void *));
    n->at.buf = n->buf;
  }
  pool_barrier(pool);
  return !n->found;
}

bool nan_data(NanCheck *n, struct Engine *e, int run) {
  for (int i = 0; i < n->p->nbuffers; i++) {
    const ProgramBuffer *b = &n->p->buffers[i];
    if (b->kind != BUF_DATA || !nan_is_float(b->dtype)) continue;
    int64_t bad = nan_first(engine_buffer(e, i), b->dtype, 0, buffer_elements(b), true);
    if (bad < 0) continue;
    n->found = true;
    n->what = (NanSpot){i, bad};
    n->at = (NanStep){.run = run, .step = -1};
    return false;
  }
  return true;
}
