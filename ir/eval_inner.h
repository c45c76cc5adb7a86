/* Inside of the evaluator: one function per op (eval_NAME), found by token pasting, and what they share.
 *
 * A function reads e->arg (types concrete: no symbolic extents) and fills e->out, whose data is allocated and zeroed.
 * In EVAL_EXACT it computes in f32; eval.c rounds results of narrower dtypes afterwards. */
#ifndef INK_IR_EVAL_INNER_H
#define INK_IR_EVAL_INNER_H
#include "ir/eval.h"
#include "ir/expr.h"

typedef struct Eval {
  const Graph *g;
  const Node *n;
  EvalMode mode;
  const Binding *bind;
  int nbind;
  const EvalWatch *watch; /* or NULL */
  Diags *d;
  const Tensor *arg;
  Tensor *out;
} Eval;

bool eval_elementwise(Eval *e);
#define OP(name, ...) bool eval_##name(Eval *e);
#include "ir/ops.def"

bool eval_fail(Eval *e, const char *fmt, ...) PRINTF(2, 3); /* "op: text" at the node's span; false */

/* Elements are 4 bytes, doubles 8. */
size_t tensor_size(DType dt, EvalMode mode);
bool dtype_integral(DType dt);
/* t with the extents of `bind`; false with a diagnostic if one is missing or over its bound. */
bool type_bind(const Graph *g, Type t, const Binding *bind, int nbind, Span at, Diags *d, Type *out);
/* Runs g; out[i].data is allocated by the caller for output i. */
bool graph_run(const Graph *g, EvalMode mode, const Tensor *in, const Binding *bind, int nbind, const EvalWatch *watch,
               Tensor *out, Diags *d);

/* dst (dense, row-major over n[]) = src at the strides (in elements). */
void strided_copy(void *dst, const void *src, size_t size, int rank, const int64_t *n, const int64_t *stride);
void dense_strides(Type t, int64_t *stride);

/* out[i] = the expression (of expr_exact) over var[k][i * step[k]], n elements, step 0 or 1. */
void exact_run(const Expr *e, const float *const *var, const int *step, int64_t n, float *out);
float round_bf16(float x);

/* A function compiled twice, for a plain x86-64 and with FMA, where a fused step is one instruction: BODY is static inline
 * ALWAYS_INLINE, name chooses when called. The bits are the same. */
#define ALWAYS_INLINE __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GNUC__)
#define WITH_FMA(name, body, params, args) WITH_FMA_(name, body, params, args)
#define WITH_FMA_(name, body, params, args)                                                                            \
  __attribute__((target("avx2,fma"))) static void name##_fma params {                                                  \
    body args;                                                                                                         \
  }                                                                                                                    \
  static void name##_any params {                                                                                      \
    body args;                                                                                                         \
  }                                                                                                                    \
  static void name params {                                                                                            \
    if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2"))                                               \
      name##_fma args;                                                                                                 \
    else                                                                                                               \
      name##_any args;                                                                                                 \
  }
#else
#define WITH_FMA(name, body, params, args)                                                                             \
  static void name params {                                                                                            \
    body args;                                                                                                         \
  }
#endif
#endif
