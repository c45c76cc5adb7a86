/* Elementwise ops, casts and constants of the evaluator: the texts of ops.def, run.
 *
 * Exact: step by step over blocks of elements, so that each step is one simple loop; a step is the f32 operation that
 * ir/expr.h defines. Double: element by element with libm. An operand of rank 0 is the same for every element. */
#include "ir/eval_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256 };

static inline uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
static inline float of_bits(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

#define EACH(value)                                                                                                    \
  for (int i = 0; i < BLOCK; i++) o[i] = (value);                                                                      \
  break

static inline ALWAYS_INLINE void steps_body(const Expr *e, float (*v)[BLOCK]) {
  for (int s = 0; s < e->n; s++) {
    const ExprStep *st = &e->step[s];
    const float *a = v[st->arg[0]], *b = v[st->arg[1]], *c = v[st->arg[2]];
    float *o = v[s];
    switch (st->op) {
    case EX_NUM: EACH((float)st->num);
    case EX_VAR: break; /* filled by the caller */
    case EX_ADD: EACH(a[i] + b[i]);
    case EX_SUB: EACH(a[i] - b[i]);
    case EX_MUL: EACH(a[i] * b[i]);
    case EX_DIV: EACH(a[i] / b[i]);
    case EX_NEG: EACH(-a[i]);
    case EX_LT: EACH(a[i] < b[i] ? 1.f : 0.f);
    case EX_GT: EACH(a[i] > b[i] ? 1.f : 0.f);
    case EX_LE: EACH(a[i] <= b[i] ? 1.f : 0.f);
    case EX_GE: EACH(a[i] >= b[i] ? 1.f : 0.f);
    case EX_EQ: EACH(a[i] == b[i] ? 1.f : 0.f);
    case EX_SELECT: EACH(a[i] != 0 ? b[i] : c[i]);
    case EX_SQRT: EACH(sqrtf(a[i]));
    case EX_ABS: EACH(fabsf(a[i]));
    case EX_FMA: EACH(fmaf(a[i], b[i], c[i]));
    case EX_ROUND: EACH(rintf(a[i]));
    case EX_FLOOR: EACH(floorf(a[i]));
    case EX_POW2: EACH(of_bits((bits_of(a[i] + 12582912.f) - 0x4B400000u + 127u) << 23));
    case EX_EXPONENT: EACH((float)((int32_t)(bits_of(a[i]) >> 23 & 255) - 127));
    case EX_MANTISSA: EACH(of_bits((bits_of(a[i]) & 0x007fffffu) | 0x3f800000u));
    case EX_MOD:
    case EX_POW:
    case EX_CALL: abort(); /* expr_exact leaves none */
    }
  }
}
WITH_FMA(steps_run, steps_body, (const Expr *e, float (*v)[BLOCK]), (e, v))

void exact_run(const Expr *e, const float *const *var, const int *step, int64_t n, float *out) {
  float(*v)[BLOCK] = malloc((size_t)e->n * sizeof *v);
  if (!v) abort(); /* a few hundred KiB: as arenas do */
  memset(v, 0, (size_t)e->n * sizeof *v);
  for (int64_t at = 0; at < n; at += BLOCK) {
    int now = n - at < BLOCK ? (int)(n - at) : BLOCK;
    for (int s = 0; s < e->n; s++) {
      if (e->step[s].op != EX_VAR) continue;
      int k = e->step[s].n;
      if (step[k])
        memcpy(v[s], var[k] + at, sizeof(float) * (size_t)now);
      else
        for (int i = 0; i < BLOCK; i++) v[s][i] = var[k][0];
    }
    steps_run(e, v);
    memcpy(out + at, v[e->n - 1], sizeof(float) * (size_t)now);
  }
  free(v);
}

bool eval_elementwise(Eval *e) {
  static const char *const names[] = {"a", "b", "c"};
  const OpInfo *info = &op_info[e->n->op];
  int64_t n = type_elements(e->out->type);
  int step[3] = {0};
  for (int k = 0; k < info->nargs; k++) step[k] = e->arg[k].type.rank > 0;
  if (e->mode == EVAL_EXACT) {
    const float *var[3] = {0};
    for (int k = 0; k < info->nargs; k++) var[k] = e->arg[k].data;
    exact_run(expr_exact(info->value, names, info->nargs), var, step, n, e->out->data);
    return true;
  }
  const Expr *x = expr_table(info->value, names, info->nargs);
  double *out = e->out->data, var[3] = {0};
  for (int64_t i = 0; i < n; i++) {
    for (int k = 0; k < info->nargs; k++) var[k] = ((const double *)e->arg[k].data)[i * step[k]];
    out[i] = expr_eval(x, var);
  }
  return true;
}

bool eval_const(Eval *e) {
  tensor_set(e->out, e->mode, 0, node_attr(e->n, "value")->num);
  return true;
}

bool eval_table(Eval *e) {
  static const char *const index[] = {"i", "j", "k", "l"};
  Type t = e->out->type;
  Expr x;
  uint32_t col;
  const char *err;
  if (!expr_parse(e->d->arena, node_attr(e->n, "expr")->str, index, t.rank, &x, &col, &err))
    return eval_fail(e, "%s at byte %u of the expression", err, col);
  int64_t n = type_elements(t), at[MAX_RANK] = {0};
  double var[MAX_RANK] = {0};
  for (int64_t i = 0; i < n; i++) {
    for (int k = 0; k < t.rank; k++) var[k] = (double)at[k];
    tensor_set(e->out, e->mode, i, expr_eval(&x, var));
    for (int k = t.rank - 1; k >= 0 && ++at[k] == t.dim[k].n; k--) at[k] = 0;
  }
  return true;
}

/* To an integer: nearest, ties to even, saturating; NaN gives 0. */
static double to_integer(double v, DType dt) {
  double lo = dt == DT_i8 ? -128 : INT32_MIN, hi = dt == DT_i8 ? 127 : INT32_MAX;
  v = rint(v);
  return v < lo ? lo : v > hi ? hi : isnan(v) ? 0 : v;
}

bool eval_cast(Eval *e) {
  int64_t n = type_elements(e->out->type);
  DType dt = e->out->type.dt;
  for (int64_t i = 0; i < n; i++) {
    double v = tensor_get(e->arg, e->mode, i);
    tensor_set(e->out, e->mode, i, dtype_integral(dt) ? to_integer(v, dt) : v);
  }
  return true;
}
