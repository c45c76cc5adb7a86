/* Kernel IR: a kernel is a loop nest over tiles, in SSA form with structured loops that carry values.
 *
 *   kernel @map.0 "gpt2.yaml":31 (in x0: f32, out y0: f32) {
 *     %1 = thread
 *     %2 = threads
 *     ...
 *     for %10 = %5 to %9 step 8 {
 *       %11 = load x0, %10 : f32x8
 *       %12 = fmul %11, %11 : f32x8
 *       store y0, %10, %12
 *     }
 *   }
 *
 * A loop carries values: `iter %3 = %2` behind its `for`, `yield %7` at its end, `result %10, 0` after it. Types: i64 (an
 * index) or f32 with 1 or more lanes. Buffers are the kernel's arguments followed by scratch, which is private to the
 * thread. Element indices, not bytes, address them. A kernel is called by every thread and divides the work by `thread`
 * and `threads`. */
#ifndef INK_IR_KIR_H
#define INK_IR_KIR_H
#include "ir/type.h"

typedef enum KOp {
#define K(name, ...) K_##name,
#include "ir/kir.def"
  K_COUNT
} KOp;
typedef struct KOpInfo {
  const char *name, *operands, *doc;
} KOpInfo;
extern const KOpInfo kop_info[K_COUNT];

typedef uint32_t KV; /* a value: 1 + number of its instruction; 0: none */

enum { KIR_LANES = 64 };
typedef struct KIns {
  uint8_t op;
  uint8_t lanes; /* of the result: 0 none; for i64 values 1 */
  bool index;    /* the result is an i64 */
  uint16_t buf;
  KV a, b, c;
  int64_t imm;
  double num;
  const KV *list;      /* yield */
  const uint8_t *mask; /* shuffle: lanes entries */
  int n;               /* of list */
  uint32_t line;       /* YAML line, 0: the kernel's */
} KIns;

typedef enum { KBUF_IN, KBUF_OUT, KBUF_SCRATCH } KBufKind;
typedef struct KBuf {
  const char *name;
  DType dt;
  KBufKind kind;
  int64_t n;      /* scratch: elements */
  int64_t offset; /* scratch: byte offset in the thread's scratch, 64-byte aligned */
} KBuf;

typedef struct Kernel {
  const char *name;
  const char *file; /* YAML file and line, for debug information */
  uint32_t line;
  KBuf *bufs;
  int nbufs, cap_bufs;
  const char **params; /* names of the symbolic extents, by `param` number */
  int nparams, cap_params;
  KIns *ins;
  int nins, cap_ins;
  int64_t scratch; /* bytes */
  Arena *arena;
} Kernel;

typedef struct KModule {
  Arena *arena;
  const char *name;
  Kernel **kernels;
  int n, cap;
} KModule;

KModule *kmodule_new(Arena *a, const char *name);
Kernel *kmodule_add(KModule *km, const char *name);
int kmodule_find(const KModule *km, const char *kernel); /* index or -1 */
/* Text (kir_text.c): parse(print(km)) prints the same. only: one kernel, or NULL for all. */
void kmodule_print(const KModule *km, const char *only, Text *out);
KModule *kmodule_parse(Arena *a, Diags *d, uint32_t file); /* NULL after errors */
/* Operands defined before use and in scope, types as kir.def says, loops closed, masks and buffers in range. */
bool kernel_verify(const Kernel *k, Diags *d);

/* ---- building. Index arithmetic folds constants, so a loop over constants prints as such. */
int k_buf(Kernel *k, const char *name, DType dt, KBufKind kind);
int k_scratch(Kernel *k, const char *name, DType dt, int64_t n);
KV k_ic(Kernel *k, int64_t v);
KV k_fc(Kernel *k, double v, int lanes);
KV k_param(Kernel *k, const char *symbol);
KV k_op0(Kernel *k, KOp op); /* thread, threads */
KV k_i2(Kernel *k, KOp op, KV a, KV b);
KV k_f(Kernel *k, KOp op, KV a, KV b, KV c); /* float operations; lanes of a */
KV k_for(Kernel *k, KV lo, KV hi, int64_t step);
KV k_deal(Kernel *k, KV lo, KV hi, int64_t step);
KV k_iter(Kernel *k, KV init);
void k_yield(Kernel *k, const KV *v, int n);
void k_end(Kernel *k);
KV k_result(Kernel *k, KV loop, int i);
void k_if(Kernel *k, KV cond);
KV k_load(Kernel *k, int buf, KV at, int lanes);
KV k_load_n(Kernel *k, int buf, KV at, KV n, int lanes);
KV k_load_s(Kernel *k, int buf, KV at, KV stride, int lanes);
KV k_load_q(Kernel *k, int buf, KV at, KV n, int lanes); /* n: of quads, 0: all */
KV k_load_i(Kernel *k, int buf, KV at);
void k_store(Kernel *k, int buf, KV at, KV v);
void k_store_n(Kernel *k, int buf, KV at, KV v, KV n);
void k_stream(Kernel *k, int buf, KV at, KV v);
void k_prefetch(Kernel *k, int buf, KV at, bool write);
void k_store_s(Kernel *k, int buf, KV at, KV v, KV stride);
KV k_splat(Kernel *k, KV v, int lanes);
KV k_extract(Kernel *k, KV v, int lane);
KV k_shuffle(Kernel *k, KV a, KV b, const uint8_t *mask, int lanes);
KV k_keep_n(Kernel *k, KV v, KV n, double other);
KV k_join(Kernel *k, KV low, KV high, int bits);
KV k_hot(Kernel *k, KV target, KV column, int lanes);
KV k_word(Kernel *k, KV index, KV stride, int upper, int lanes);
KV k_nonneg(Kernel *k, KV index);

static inline KV k_add(Kernel *k, KV a, KV b) {
  return k_i2(k, K_iadd, a, b);
}
static inline KV k_sub(Kernel *k, KV a, KV b) {
  return k_i2(k, K_isub, a, b);
}
static inline KV k_mul(Kernel *k, KV a, KV b) {
  return k_i2(k, K_imul, a, b);
}
static inline KV k_min(Kernel *k, KV a, KV b) {
  return k_i2(k, K_imin, a, b);
}
static inline int k_lanes(const Kernel *k, KV v) {
  return k->ins[v - 1].lanes;
}
bool k_const(const Kernel *k, KV v, int64_t *out); /* is it an iconst? */
#endif
