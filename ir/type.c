/* Types of values: equality and sizes. Counts saturate, so that a type from outside can be measured before it is
 * checked: type_elements is MAX_ELEMENTS + 1 for anything larger than MAX_ELEMENTS. */
#include "ir/type.h"

#include <string.h>

const char *const dtype_name[DT_COUNT] = {
#define DT(name, bytes, doc) #name,
#include "ir/dtypes.def"
};

const int dtype_bytes[DT_COUNT] = {
#define DT(name, bytes, doc) bytes,
#include "ir/dtypes.def"
};

bool dtype_parse(const char *s, DType *out) {
  for (int i = 0; i < DT_COUNT; i++)
    if (strcmp(s, dtype_name[i]) == 0) {
      *out = (DType)i;
      return true;
    }
  return false;
}

Dim dim_const(int64_t n) {
  return (Dim){.n = n};
}

bool dim_eq(Dim a, Dim b) {
  if (a.n != b.n || a.sym != b.sym || a.axis != b.axis || a.seg != b.seg) return false;
  return !a.sym || a.name == b.name;
}

bool shape_eq(Type a, Type b) {
  if (a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; i++)
    if (!dim_eq(a.dim[i], b.dim[i])) return false;
  return true;
}

bool type_eq(Type a, Type b) {
  return a.dt == b.dt && a.partial == b.partial && a.split == b.split && a.panel == b.panel && shape_eq(a, b);
}

Type type_make(DType dt, int rank, const int64_t *n) {
  Type t = {.dt = dt, .rank = rank};
  for (int i = 0; i < rank && i < MAX_RANK; i++) t.dim[i] = dim_const(n[i]);
  return t;
}

Type type_scalar(DType dt) {
  return (Type){.dt = dt};
}

int64_t type_elements(Type t) {
  int64_t n = 1;
  for (int i = 0; i < t.rank; i++) {
    int64_t d = t.dim[i].n;
    if (d < 0 || (d > 0 && n > MAX_ELEMENTS / d)) return MAX_ELEMENTS + 1;
    n *= d;
  }
  return n;
}

int64_t type_rows(Type t) {
  t.rank = t.split;
  return type_elements(t);
}

static int64_t columns(Type t) {
  int64_t n = type_rows(t);
  return n ? type_elements(t) / n : 0;
}

/* k that lie side by side: bf16 in pairs, i8 in quads. */
static int64_t group(Type t) {
  return t.dt == DT_bf16 ? 2 : t.dt == DT_i8 ? 4 : 1;
}

static int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

int64_t type_panel_at(Type t, int64_t n, int64_t k) {
  int64_t p = group(t), depth = round_up(columns(t), p);
  return (n / t.panel * depth + k / p * p) * t.panel + n % t.panel * p + k % p;
}

int64_t type_bytes(Type t) {
  if (!t.panel) return type_elements(t) * dtype_bytes[t.dt];
  return round_up(type_rows(t), t.panel) * round_up(columns(t), group(t)) * dtype_bytes[t.dt];
}
