/* Reductions, contractions and rope of the evaluator, in the canonical orders of docs/numerics.md.
 *
 * A contraction of any rule becomes products of matrices: its letters are sorted into those of both operands and the
 * result (batch), of one operand and the result (rows, columns), and the summed ones, in the order they stand in the
 * first operand; operands are copied into that order, the result is copied back. */
#include "ir/eval_inner.h"
#include "ir/rule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REAL float
#define NAME(x) x##_f
#define FMA __builtin_fmaf
#define WIDE 64
#include "ir/eval_real.h"

/* ---- contractions of bf16: what vdpbf16ps computes */

enum { COLUMNS = WIDE };
#undef REAL
#undef NAME
#undef FMA
#undef WIDE

static float without_subnormals(float x) {
  return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

/* fma(a, b, c) rounded as if exponents had no end, then to a zero of its sign where that is below 2^-126. The same product and
 * sum 2^64 times as large says whether it is: where that overflows, the result is far above. */
static inline ALWAYS_INLINE float fma_flushed(float a, float b, float c) {
  float r = __builtin_fmaf(a, b, c), large = __builtin_fmaf(a * 0x1p64f, b, c * 0x1p64f);
  return __builtin_fabsf(large) < 0x1p-62f ? __builtin_copysignf(0, r) : r;
}

/* As chain_body, by pairs of k, in each the odd one first; an odd end is filled up with +0. No operand is subnormal. */
static inline ALWAYS_INLINE void pairs_body(const float *a, int64_t lda, const float *b, int64_t nk, int rows,
                                            float acc[4][COLUMNS]) {
  for (int m = 0; m < rows; m++)
    for (int64_t k = 0; k < nk; k += 2) {
      bool whole = k + 1 < nk;
      float even = a[m * lda + k], odd = whole ? a[m * lda + k + 1] : 0;
      for (int j = 0; j < COLUMNS; j++) {
        float x = fma_flushed(odd, whole ? b[(k + 1) * COLUMNS + j] : 0, acc[m][j]);
        acc[m][j] = fma_flushed(even, b[k * COLUMNS + j], x);
      }
    }
}
WITH_FMA(pairs, pairs_body, (const float *a, int64_t lda, const float *b, int64_t nk, int rows, float acc[4][COLUMNS]),
         (a, lda, b, nk, rows, acc))

#define REAL double
#define NAME(x) x##_d
#define FMA __builtin_fma
#define WIDE 32
#include "ir/eval_real.h"

/* Letters of a contraction by what they do, with strides in both operands (0 where absent) and the dense result. */
typedef struct Letters {
  int n;
  int64_t size, dim[2 * MAX_RANK], a[2 * MAX_RANK], b[2 * MAX_RANK], o[2 * MAX_RANK];
} Letters;

static void letter_add(Letters *l, const Rule *r, const Eval *e, char c) {
  int64_t sa[MAX_RANK], sb[MAX_RANK], so[MAX_RANK];
  int ia = rule_find(r->a, r->na, c), ib = rule_find(r->b, r->nb, c), io = rule_find(r->out, r->no, c);
  dense_strides(e->arg[0].type, sa);
  dense_strides(e->arg[1].type, sb);
  dense_strides(e->out->type, so);
  l->dim[l->n] = ia >= 0 ? e->arg[0].type.dim[ia].n : e->arg[1].type.dim[ib].n;
  l->a[l->n] = ia >= 0 ? sa[ia] : 0;
  l->b[l->n] = ib >= 0 ? sb[ib] : 0;
  l->o[l->n] = io >= 0 ? so[io] : 0;
  l->size *= l->dim[l->n++];
}

/* Copies x, with the strides of two groups of letters, to dense [first][second]. */
static void pack(void *to, const void *x, size_t size, const Letters *p, const int64_t *ps, const Letters *q,
                 const int64_t *qs) {
  int64_t n[4 * MAX_RANK], stride[4 * MAX_RANK];
  for (int i = 0; i < p->n; i++) n[i] = p->dim[i], stride[i] = ps[i];
  for (int i = 0; i < q->n; i++) n[p->n + i] = q->dim[i], stride[p->n + i] = qs[i];
  strided_copy(to, x, size, p->n + q->n, n, stride);
}

/* The inverse of pack for the result: dense [first][second] to the result's strides. */
static void unpack(void *out, const void *from, size_t size, const Letters *p, const Letters *q) {
  int64_t at[4 * MAX_RANK] = {0}, n[4 * MAX_RANK], stride[4 * MAX_RANK], to = 0, total = p->size * q->size;
  int rank = p->n + q->n;
  for (int i = 0; i < p->n; i++) n[i] = p->dim[i], stride[i] = p->o[i];
  for (int i = 0; i < q->n; i++) n[p->n + i] = q->dim[i], stride[p->n + i] = q->o[i];
  for (int64_t i = 0; i < total; i++) {
    memcpy((char *)out + (size_t)to * size, (const char *)from + (size_t)i * size, size);
    for (int k = rank - 1; k >= 0; k--) {
      to += stride[k];
      if (++at[k] < n[k]) break;
      to -= n[k] * stride[k];
      at[k] = 0;
    }
  }
}

/* c[m][n] of i8 a[m][k] and b[k][n], in i32: exact in any order, for no sum overflows (ir/infer_ops.c). */
static void product_i(const int32_t *a, const int32_t *b, int32_t *c, int64_t nm, int64_t nn, int64_t nk) {
  memset(c, 0, sizeof *c * (size_t)(nm * nn));
  for (int64_t m = 0; m < nm; m++, c += nn)
    for (int64_t k = 0; k < nk; k++)
      for (int64_t n = 0; n < nn; n++) c[n] += a[m * nk + k] * b[k * nn + n];
}

static bool contract(Eval *e, bool from) {
  Rule r;
  const char *err;
  if (!rule_parse(node_attr(e->n, "rule")->str, &r, &err)) return eval_fail(e, "%s", err);
  Letters batch = {.size = 1}, rows = {.size = 1}, cols = {.size = 1}, sum = {.size = 1};
  for (int i = 0; i < r.no; i++) {
    bool a = rule_find(r.a, r.na, r.out[i]) >= 0, b = rule_find(r.b, r.nb, r.out[i]) >= 0;
    letter_add(a && b ? &batch : a ? &rows : &cols, &r, e, r.out[i]);
  }
  for (int i = 0; i < r.na; i++)
    if (rule_summed(&r, r.a[i])) letter_add(&sum, &r, e, r.a[i]);

  bool exact = e->mode == EVAL_EXACT, pair = exact && e->arg[0].type.dt == DT_bf16;
  int64_t wide = exact ? 64 : 32, padded = (cols.size + wide - 1) / wide * wide;
  bool bytes = e->arg[0].type.dt == DT_i8;
  size_t size = tensor_size(e->arg[0].type.dt, e->mode);
  char *a = malloc((size_t)(rows.size * sum.size) * size + 1), *b = malloc((size_t)(sum.size * cols.size) * size + 1);
  char *panel = malloc((size_t)(sum.size * padded) * size + 1), *c = malloc((size_t)(rows.size * cols.size) * size + 1);
  bool ok = (a && b && panel && c) || eval_fail(e, "out of memory");
  int64_t at[MAX_RANK] = {0}, oa = 0, ob = 0, oo = 0;
  for (int64_t i = 0; ok && i < batch.size && type_elements(e->out->type) > 0; i++) {
    char *out = (char *)e->out->data + (size_t)oo * size;
    if (sum.size > 0) {
      pack(a, (const char *)e->arg[0].data + (size_t)oa * size, size, &rows, rows.a, &sum, sum.a);
      pack(b, (const char *)e->arg[1].data + (size_t)ob * size, size, &sum, sum.b, &cols, cols.b);
    }
    if (from) pack(c, (const char *)e->arg[2].data + (size_t)oo * size, size, &rows, rows.o, &cols, cols.o);
    for (int64_t x = 0; pair && x < rows.size * sum.size; x++) ((float *)a)[x] = without_subnormals(((float *)a)[x]);
    for (int64_t x = 0; pair && x < sum.size * cols.size; x++) ((float *)b)[x] = without_subnormals(((float *)b)[x]);
    for (int64_t x = 0; pair && from && x < rows.size * cols.size; x++)
      ((float *)c)[x] = without_subnormals(((float *)c)[x]);
    if (bytes) {
      product_i((int32_t *)a, (int32_t *)b, (int32_t *)c, rows.size, cols.size, sum.size);
    } else if (exact) {
      panels_f((float *)b, sum.size, cols.size, (float *)panel);
      product_f((float *)a, (float *)panel, (float *)c, rows.size, cols.size, sum.size, from, pair ? pairs : chain_f);
    } else {
      panels_d((double *)b, sum.size, cols.size, (double *)panel);
      product_d((double *)a, (double *)panel, (double *)c, rows.size, cols.size, sum.size, from, chain_d);
    }
    unpack(out, c, size, &rows, &cols);
    for (int k = batch.n - 1; k >= 0; k--) {
      oa += batch.a[k], ob += batch.b[k], oo += batch.o[k];
      if (++at[k] < batch.dim[k]) break;
      oa -= batch.dim[k] * batch.a[k], ob -= batch.dim[k] * batch.b[k], oo -= batch.dim[k] * batch.o[k];
      at[k] = 0;
    }
  }
  free(a);
  free(b);
  free(panel);
  free(c);
  return ok;
}

bool eval_contract(Eval *e) {
  return contract(e, false);
}

bool eval_contract_from(Eval *e) {
  return contract(e, true);
}

bool eval_sum(Eval *e) {
  const Attr *axes = node_attr(e->n, "axes");
  Type t = e->arg->type;
  bool in[MAX_RANK] = {false};
  for (int i = 0; i < axes->n; i++) in[axes->ints[i]] = true;
  int64_t n = 1, kept = type_elements(e->out->type);
  for (int i = 0; i < axes->n; i++) n *= t.dim[axes->ints[i]].n;
  if (in[t.rank - 1]) {
    if (e->mode == EVAL_EXACT)
      sum_rows_f(e->arg->data, kept, n, e->out->data);
    else
      sum_rows_d(e->arg->data, kept, n, e->out->data);
    return true;
  }
  /* The summed axes first, in order; then one chain a column. */
  int64_t dim[MAX_RANK], stride[MAX_RANK], dense[MAX_RANK];
  int k = 0;
  dense_strides(t, dense);
  for (int pass = 0; pass < 2; pass++)
    for (int i = 0; i < t.rank; i++)
      if (in[i] == (pass == 0)) dim[k] = t.dim[i].n, stride[k++] = dense[i];
  size_t size = tensor_size(t.dt, e->mode);
  char *x = malloc((size_t)(n * kept) * size + 1), *acc = malloc((size_t)kept * size + 1);
  bool ok = (x && acc) || eval_fail(e, "out of memory");
  if (ok && n * kept > 0) {
    strided_copy(x, e->arg->data, size, t.rank, dim, stride);
    if (e->mode == EVAL_EXACT)
      sum_columns_f((float *)x, n, kept, e->out->data, (float *)acc);
    else
      sum_columns_d((double *)x, n, kept, e->out->data, (double *)acc);
  }
  free(x);
  free(acc);
  return ok;
}

bool eval_rowmax(Eval *e) {
  Type t = e->arg->type;
  int64_t rows = type_elements(e->out->type), n = t.dim[t.rank - 1].n;
  if (e->mode == EVAL_EXACT)
    max_rows_f(e->arg->data, rows, n, e->out->data);
  else
    max_rows_d(e->arg->data, rows, n, e->out->data);
  return true;
}

bool eval_rope(Eval *e) {
  const Attr *inverse = node_attr(e->n, "inverse");
  bool pairs = strcmp(node_attr(e->n, "style")->str, "pairs") == 0, back = inverse && inverse->i;
  Type t = e->arg[0].type;
  const int32_t *pos = e->arg[3].data;
  int64_t rows = e->arg[1].type.dim[0].n, n[4];
  for (int i = 0; i < 4; i++) n[i] = t.dim[i].n;
  for (int64_t i = 0; i < n[1]; i++)
    if (pos[i] < 0 || pos[i] >= rows)
      return eval_fail(e, "position %d (element %lld) is not in [0, %lld)", pos[i], (long long)i, (long long)rows);
  if (e->mode == EVAL_EXACT)
    rotate_f(e->arg[0].data, e->arg[1].data, e->arg[2].data, pos, n, pairs, back, e->out->data);
  else
    rotate_d(e->arg[0].data, e->arg[1].data, e->arg[2].data, pos, n, pairs, back, e->out->data);
  return true;
}
