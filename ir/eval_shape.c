/* Ops of the evaluator that move elements: broadcast, reshape, transpose, gather, scatter_add, pick, onehot, valid.
 *
 * An index that is out of range is a diagnostic; negative ones mean "none" where the op table says so. */
#include "ir/eval_inner.h"

#include <string.h>

void dense_strides(Type t, int64_t *stride) {
  int64_t s = 1;
  for (int i = t.rank - 1; i >= 0; i--) {
    stride[i] = s;
    s *= t.dim[i].n;
  }
}

/* One row of the innermost axis. */
static void copy_row(char *dst, const char *src, size_t size, int64_t n, int64_t stride) {
  if (stride == 1) {
    memcpy(dst, src, (size_t)n * size);
  } else if (size == 4) {
    const uint32_t *s = (const uint32_t *)src;
    for (int64_t i = 0; i < n; i++) ((uint32_t *)dst)[i] = s[i * stride];
  } else {
    const uint64_t *s = (const uint64_t *)src;
    for (int64_t i = 0; i < n; i++) ((uint64_t *)dst)[i] = s[i * stride];
  }
}

void strided_copy(void *dst, const void *src, size_t size, int rank, const int64_t *n, const int64_t *stride) {
  int64_t at[2 * MAX_RANK] = {0}, rows = 1, from = 0;
  if (rank == 0) {
    memcpy(dst, src, size);
    return;
  }
  for (int k = 0; k < rank - 1; k++) rows *= n[k];
  if (n[rank - 1] == 0) return;
  char *to = dst;
  for (int64_t r = 0; r < rows; r++) {
    copy_row(to, (const char *)src + from * (int64_t)size, size, n[rank - 1], stride[rank - 1]);
    to += (size_t)n[rank - 1] * size;
    for (int k = rank - 2; k >= 0; k--) {
      from += stride[k];
      if (++at[k] < n[k]) break;
      from -= n[k] * stride[k];
      at[k] = 0;
    }
  }
}

static void extents(Type t, int64_t *n) {
  for (int i = 0; i < t.rank; i++) n[i] = t.dim[i].n;
}

static bool copy_whole(Eval *e) {
  Type t = e->out->type;
  memcpy(e->out->data, e->arg->data, (size_t)type_elements(t) * tensor_size(t.dt, e->mode));
  return true;
}

bool eval_reshape(Eval *e) {
  if (type_elements(e->arg->type) != type_elements(e->out->type))
    return eval_fail(e, "the extents given at run time do not fit the new shape");
  return copy_whole(e);
}

bool eval_stop(Eval *e) {
  return copy_whole(e);
}

bool eval_broadcast(Eval *e) {
  const Attr *axes = node_attr(e->n, "axes");
  Type t = e->out->type;
  int64_t n[MAX_RANK], dense[MAX_RANK], stride[MAX_RANK] = {0};
  extents(t, n);
  dense_strides(e->arg->type, dense);
  for (int i = 0; i < axes->n; i++) stride[axes->ints[i]] = dense[i];
  strided_copy(e->out->data, e->arg->data, tensor_size(t.dt, e->mode), t.rank, n, stride);
  return true;
}

bool eval_transpose(Eval *e) {
  const Attr *perm = node_attr(e->n, "perm");
  Type t = e->out->type;
  int64_t n[MAX_RANK], dense[MAX_RANK], stride[MAX_RANK];
  extents(t, n);
  dense_strides(e->arg->type, dense);
  for (int i = 0; i < t.rank; i++) stride[i] = dense[perm->ints[i]];
  strided_copy(e->out->data, e->arg->data, tensor_size(t.dt, e->mode), t.rank, n, stride);
  return true;
}

static bool range(Eval *e, int64_t at, int32_t index, int64_t n) {
  return eval_fail(e, "index %d (element %lld of the indices) is not in [0, %lld)", index, (long long)at, (long long)n);
}

bool eval_gather(Eval *e) {
  const Tensor *table = &e->arg[0];
  const int32_t *index = e->arg[1].data;
  int64_t rows = table->type.dim[0].n, n = type_elements(e->arg[1].type);
  size_t bytes = n ? (size_t)(type_elements(e->out->type) / n) * tensor_size(table->type.dt, e->mode) : 0;
  for (int64_t i = 0; i < n; i++) {
    if (index[i] < 0 || index[i] >= rows) return range(e, i, index[i], rows);
    memcpy((char *)e->out->data + (size_t)i * bytes, (const char *)table->data + (size_t)index[i] * bytes, bytes);
  }
  return true;
}

bool eval_scatter_add(Eval *e) {
  const int32_t *index = e->arg[1].data;
  Type t = e->out->type;
  int64_t rows = t.dim[0].n, n = type_elements(e->arg[1].type), row = rows ? type_elements(t) / rows : 0;
  memcpy(e->out->data, e->arg[0].data, (size_t)type_elements(t) * tensor_size(t.dt, e->mode));
  for (int64_t i = 0; i < n; i++) {
    if (index[i] >= rows) return range(e, i, index[i], rows);
    if (index[i] < 0) continue;
    if (e->mode == EVAL_DOUBLE) {
      double *to = (double *)e->out->data + index[i] * row;
      const double *from = (const double *)e->arg[2].data + i * row;
      for (int64_t k = 0; k < row; k++) to[k] = to[k] + from[k];
    } else {
      float *to = (float *)e->out->data + index[i] * row;
      const float *from = (const float *)e->arg[2].data + i * row;
      for (int64_t k = 0; k < row; k++) to[k] = to[k] + from[k];
      for (int64_t k = 0; k < row && t.dt == DT_bf16; k++) to[k] = round_bf16(to[k]); /* it is added to where it lies */
    }
  }
  return true;
}

bool eval_pick(Eval *e) {
  const int32_t *index = e->arg[1].data;
  Type t = e->arg[0].type;
  int64_t n = type_elements(e->out->type), cols = t.dim[t.rank - 1].n;
  size_t size = tensor_size(t.dt, e->mode);
  for (int64_t i = 0; i < n; i++) {
    if (index[i] >= cols) return range(e, i, index[i], cols);
    if (index[i] < 0) continue;
    memcpy((char *)e->out->data + (size_t)i * size, (const char *)e->arg[0].data + (size_t)(i * cols + index[i]) * size,
           size);
  }
  return true;
}

bool eval_onehot(Eval *e) {
  const int32_t *index = e->arg[0].data;
  Type t = e->out->type;
  int64_t n = type_elements(e->arg[0].type), cols = t.dim[t.rank - 1].n;
  for (int64_t i = 0; i < n; i++) {
    if (index[i] >= cols) return range(e, i, index[i], cols);
    if (index[i] >= 0) tensor_set(e->out, e->mode, i * cols + index[i], 1);
  }
  return true;
}

bool eval_valid(Eval *e) {
  const int32_t *index = e->arg[0].data;
  int64_t n = type_elements(e->out->type);
  for (int64_t i = 0; i < n; i++) tensor_set(e->out, e->mode, i, index[i] >= 0);
  return true;
}
