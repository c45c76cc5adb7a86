/* Shape inference of the ops that are not elementwise: infer_NAME for every OP row of ops.def, in its order.
 *
 * Each checks its operands (dtype, rank, extents, indices) and sets f->out and f->nout. Operand counts and attributes
 * were checked before (infer.c), extents of the results are after. Placement: dims keep their mesh axis where the op
 * works on it shard by shard; an axis whose elements the op must see together is refused when it is split. */
#include "ir/expr.h"
#include "ir/infer.h"

#include <string.h>

static bool one(Infer *f, Type t) {
  f->out[0] = t;
  f->nout = 1;
  return true;
}

static const char *nth(int i) {
  static const char *const word[] = {"first", "second", "third", "fourth", "fifth", "sixth"};
  return word[i];
}

static bool is_float(DType dt) {
  return dt == DT_f32 || dt == DT_bf16 || dt == DT_f64 || dt == DT_f8e4m3;
}

static bool need_float(Infer *f, int i) {
  if (is_float(f->t[i].dt)) return true;
  return infer_fail(f, "the %s operand is %s; expected floating numbers", nth(i), dtype_name[f->t[i].dt]);
}

static bool need_i32(Infer *f, int i, const char *what) {
  if (f->t[i].dt == DT_i32) return true;
  return infer_fail(f, "%s must be i32, not %s", what, dtype_name[f->t[i].dt]);
}

static bool need_dtype(Infer *f, int i, DType dt) {
  if (f->t[i].dt == dt) return true;
  return infer_fail(f, "the %s operand is %s, expected %s", nth(i), dtype_name[f->t[i].dt], dtype_name[dt]);
}

static bool need_rank(Infer *f, int i, int rank) {
  if (f->t[i].rank == rank) return true;
  return infer_fail(f, "the %s operand has %s; expected %d dims", nth(i), shape_text(f->g, f->t[i]), rank);
}

static bool need_want(Infer *f) {
  return f->want != NULL || infer_fail(f, "the type of the result must be given");
}

static bool same_dims(Infer *f, int i, int di, int j, int dj) {
  Dim a = f->t[i].dim[di], b = f->t[j].dim[dj];
  if (dim_eq(a, b)) return true;
  return infer_fail(f, "the %s operand has %s, the %s %s: %s is not %s", nth(i), shape_text(f->g, f->t[i]), nth(j),
                    shape_text(f->g, f->t[j]), dim_text(f->g, a), dim_text(f->g, b));
}

/* The op needs all elements along this dim in one place. */
static bool whole(Infer *f, int i, int dim) {
  Dim d = f->t[i].dim[dim];
  if (!d.axis) return true;
  return infer_fail(f, "%s of the %s operand must not be split over mesh axis %s", dim_text(f->g, d), nth(i),
                    f->g->mod->mesh[d.axis - 1].name);
}

/* Are two shapes the same number of elements for every value of the symbols: equal constant products, equal symbols. */
static bool same_elements(Type a, Type b) {
  Type ca = a, cb = b;
  bool used[MAX_RANK] = {false};
  for (int i = 0; i < b.rank; i++)
    if (b.dim[i].sym) cb.dim[i].n = 1;
  int left = 0;
  for (int i = 0; i < b.rank; i++) left += b.dim[i].sym;
  for (int i = 0; i < a.rank; i++) {
    if (!a.dim[i].sym) continue;
    ca.dim[i].n = 1;
    int k = 0;
    while (k < b.rank && (used[k] || !b.dim[k].sym || b.dim[k].name != a.dim[i].name)) k++;
    if (k == b.rank) return false;
    used[k] = true;
    left--;
  }
  int64_t n = type_elements(ca);
  return left == 0 && n == type_elements(cb) && n <= MAX_ELEMENTS;
}

bool infer_const(Infer *f) {
  return one(f, type_scalar(DT_f32));
}

bool infer_table(Infer *f) {
  static const char *const index[] = {"i", "j", "k", "l"};
  if (!need_want(f)) return false;
  if (f->want->rank > LEN(index)) return infer_fail(f, "at most %d dims", LEN(index));
  for (int i = 0; i < f->want->rank; i++)
    if (f->want->dim[i].sym || f->want->dim[i].seg)
      return infer_fail(f, "%s is not known at build time", dim_text(f->g, f->want->dim[i]));
  if (f->want->partial) return infer_fail(f, "a table has no pending sum");
  Expr e;
  uint32_t col = 0;
  const char *err = NULL;
  const char *text = infer_attr(f, "expr")->str;
  if (!expr_parse(f->g->mod->arena, text, index, f->want->rank, &e, &col, &err))
    return infer_fail(f, "in '%s' at column %u: %s", text, col + 1, err);
  return one(f, *f->want);
}

bool infer_cast(Infer *f) {
  if (!need_want(f)) return false;
  Type t = f->t[0];
  if (!shape_eq(t, *f->want) || t.partial != f->want->partial)
    return infer_fail(f, "the operand has %s, the result %s: a cast keeps the shape", shape_text(f->g, t),
                      shape_text(f->g, *f->want));
  t.dt = f->want->dt;
  return one(f, t);
}

bool infer_stop(Infer *f) {
  return one(f, f->t[0]);
}

bool infer_broadcast(Infer *f) {
  if (!need_want(f)) return false;
  Type x = f->t[0], r = *f->want;
  const Attr *axes = infer_attr(f, "axes");
  if (axes->n != x.rank)
    return infer_fail(f, "the operand has %s, axes has %d entries: one per dim", shape_text(f->g, x), axes->n);
  if (r.dt != x.dt || r.partial != x.partial)
    return infer_fail(f, "from %s to %s: only the shape may change", type_text(f->g, x), type_text(f->g, r));
  for (int i = 0; i < x.rank; i++) {
    int64_t k = axes->ints[i];
    if (k < 0 || k >= r.rank) return infer_fail(f, "axis %lld is not an axis of %s", (long long)k, shape_text(f->g, r));
    if (i > 0 && k <= axes->ints[i - 1]) return infer_fail(f, "axes must rise");
    if (!dim_eq(x.dim[i], r.dim[k]))
      return infer_fail(f, "from %s to %s: %s is not %s", shape_text(f->g, x), shape_text(f->g, r),
                        dim_text(f->g, x.dim[i]), dim_text(f->g, r.dim[k]));
    if (!r.dim[k].name) r.dim[k].name = x.dim[i].name;
  }
  return one(f, r);
}

bool infer_reshape(Infer *f) {
  if (!need_want(f)) return false;
  Type x = f->t[0], r = *f->want;
  if (r.dt != x.dt || r.partial != x.partial)
    return infer_fail(f, "from %s to %s: only the shape may change", type_text(f->g, x), type_text(f->g, r));
  if (!same_elements(x, r))
    return infer_fail(f, "%s and %s do not have the same number of elements", shape_text(f->g, x), shape_text(f->g, r));
  return one(f, r);
}

bool infer_transpose(Infer *f) {
  Type x = f->t[0], r = x;
  const Attr *perm = infer_attr(f, "perm");
  bool seen[MAX_RANK] = {false};
  if (perm->n != x.rank)
    return infer_fail(f, "the operand has %s, perm has %d entries: one per dim", shape_text(f->g, x), perm->n);
  for (int i = 0; i < x.rank; i++) {
    int64_t k = perm->ints[i];
    if (k < 0 || k >= x.rank || seen[k]) return infer_fail(f, "perm must have every axis once");
    seen[k] = true;
    r.dim[i] = x.dim[k];
  }
  return one(f, r);
}

bool infer_sum(Infer *f) {
  Type x = f->t[0], r = x;
  const Attr *axes = infer_attr(f, "axes");
  bool in[MAX_RANK] = {false};
  if (!need_float(f, 0)) return false;
  if (axes->n == 0) return infer_fail(f, "axes is empty");
  for (int i = 0; i < axes->n; i++) {
    int64_t k = axes->ints[i];
    if (k < 0 || k >= x.rank) return infer_fail(f, "axis %lld is not an axis of %s", (long long)k, shape_text(f->g, x));
    if (i > 0 && k <= axes->ints[i - 1]) return infer_fail(f, "axes must rise");
    in[k] = true;
  }
  if (in[x.rank - 1] && axes->ints[0] != x.rank - axes->n)
    return infer_fail(f, "axes that include the last must be the trailing ones: take two sums");
  r.rank = 0;
  for (int i = 0; i < x.rank; i++) {
    if (!in[i])
      r.dim[r.rank++] = x.dim[i];
    else if (x.dim[i].axis)
      r.partial |= 1u << (x.dim[i].axis - 1);
  }
  return one(f, r);
}

bool infer_rowmax(Infer *f) {
  Type r = f->t[0];
  if (!need_float(f, 0)) return false;
  if (r.rank == 0) return infer_fail(f, "the operand has no dims");
  if (!whole(f, 0, r.rank - 1)) return false;
  r.rank--;
  return one(f, r);
}

/* Products of two i8 that an i32 holds in any case: 131071 * 128 * 128 < 2^31. */
enum { MOST_PRODUCTS_I8 = 131071 };

static int64_t products(const Infer *f, const Rule *r, int64_t most) {
  int64_t n = 1;
  for (int i = 0; i < r->na; i++)
    if (rule_summed(r, r->a[i])) n = n > most ? n : n * f->t[0].dim[i].n;
  return n;
}

/* Products of bf16 are added up, and given, in f32; those of i8 in i32. Extents of equal letters are equal; placement may differ only where the result says what becomes of it: a letter
 * that one operand has replicated is sliced, a split letter that is summed leaves a pending sum. */
static bool infer_rule(Infer *f, Rule *r, Type *out) {
  const char *err, *text = infer_attr(f, "rule")->str;
  const Graph *g = f->g;
  const Type *a = &f->t[0], *b = &f->t[1];
  if (!rule_parse(text, r, &err)) return infer_fail(f, "rule '%s': %s", text, err);
  if ((a->dt != DT_i8 && !need_float(f, 0)) || !need_dtype(f, 1, a->dt)) return false;
  for (int i = 0; i < 2; i++) {
    int n = i ? r->nb : r->na;
    if (n != f->t[i].rank)
      return infer_fail(f, "rule '%s' has %d letter%s for the %s operand, which has %s", text, n, n == 1 ? "" : "s",
                        nth(i), shape_text(g, f->t[i]));
  }
  *out = (Type){.dt = a->dt == DT_bf16 ? DT_f32
                      : a->dt == DT_i8 ? DT_i32
                                       : a->dt,
                .rank = r->no,
                .partial = a->partial | b->partial};
  if (a->partial & b->partial) return infer_fail(f, "a sum over a mesh axis is still due in both operands");
  for (int i = 0; i < r->na; i++) {
    int k = rule_find(r->b, r->nb, r->a[i]);
    if (k < 0) continue;
    Dim da = a->dim[i], db = b->dim[k];
    uint8_t pa = da.axis, pb = db.axis;
    da.axis = db.axis = 0;
    if (!dim_eq(da, db))
      return infer_fail(f, "letter '%c' is %s in the first operand but %s in the second", r->a[i], dim_text(g, da),
                        dim_text(g, db));
    if (pa != pb)
      return infer_fail(f, "letter '%c' is %s in the first operand but %s in the second", r->a[i],
                        dim_text(g, a->dim[i]), dim_text(g, b->dim[k]));
    if (rule_summed(r, r->a[i]) && pa) {
      if (out->partial >> (pa - 1) & 1)
        return infer_fail(f, "letter '%c' is split over mesh axis %s, over which a sum is due already", r->a[i],
                          g->mod->mesh[pa - 1].name);
      out->partial |= 1u << (pa - 1);
    }
  }
  for (int i = 0; i < r->no; i++) {
    int ka = rule_find(r->a, r->na, r->out[i]), kb = rule_find(r->b, r->nb, r->out[i]);
    Dim d = ka >= 0 ? a->dim[ka] : b->dim[kb];
    if (!d.name && kb >= 0) d.name = b->dim[kb].name;
    out->dim[i] = d;
  }
  if (a->dt == DT_i8 && products(f, r, MOST_PRODUCTS_I8) > MOST_PRODUCTS_I8)
    return infer_fail(f, "more than %d products of i8 for one result may overflow its i32", MOST_PRODUCTS_I8);
  return true;
}

bool infer_contract(Infer *f) {
  Rule r;
  Type t;
  return infer_rule(f, &r, &t) && one(f, t);
}

bool infer_contract_from(Infer *f) {
  Rule r;
  Type t;
  if (!infer_rule(f, &r, &t)) return false;
  if (!type_eq(f->t[2], t))
    return infer_fail(f, "the third operand is %s, the product %s", type_text(f->g, f->t[2]), type_text(f->g, t));
  if (f->t[0].dt == DT_i8) return infer_fail(f, "there is none of i8: a sum that goes on may overflow its i32");
  if (products(f, &r, CHAIN) > CHAIN) return infer_fail(f, "more than %d products a chain", CHAIN);
  return one(f, t);
}

/* out = indices... ++ rest..., rest the dims of `row` after its first. */
static bool index_shape(Infer *f, Type indices, Type rows, Type *out) {
  int rank = indices.rank + rows.rank - 1;
  if (rows.rank == 0) return infer_fail(f, "the first operand has no dims");
  if (rank > MAX_RANK) return infer_fail(f, "the result would have %d dims; the limit is %d", rank, MAX_RANK);
  *out = indices;
  out->dt = rows.dt;
  out->rank = rank;
  for (int i = 1; i < rows.rank; i++) out->dim[indices.rank + i - 1] = rows.dim[i];
  return true;
}

bool infer_gather(Infer *f) {
  Type r;
  if (!need_i32(f, 1, "indices") || !index_shape(f, f->t[1], f->t[0], &r) || !whole(f, 0, 0)) return false;
  return one(f, r);
}

bool infer_scatter_add(Infer *f) {
  Type r;
  if (!need_float(f, 0) || !need_i32(f, 1, "indices") || !need_dtype(f, 2, f->t[0].dt)) return false;
  if (!index_shape(f, f->t[1], f->t[0], &r) || !whole(f, 0, 0)) return false;
  if (!shape_eq(r, f->t[2]))
    return infer_fail(f, "the updates have %s, expected %s: the dims of the indices, then those of a row",
                      shape_text(f->g, f->t[2]), shape_text(f->g, r));
  return one(f, f->t[0]);
}

bool infer_pick(Infer *f) {
  Type r = f->t[0];
  if (!need_i32(f, 1, "the index")) return false;
  if (r.rank == 0) return infer_fail(f, "the first operand has no dims");
  if (!need_rank(f, 1, r.rank - 1) || !whole(f, 0, r.rank - 1)) return false;
  for (int i = 0; i < r.rank - 1; i++)
    if (!same_dims(f, 0, i, 1, i)) return false;
  r.rank--;
  return one(f, r);
}

bool infer_onehot(Infer *f) {
  if (!need_want(f) || !need_i32(f, 0, "the index")) return false;
  Type r = *f->want;
  bool ok = is_float(r.dt) && r.rank == f->t[0].rank + 1;
  for (int i = 0; ok && i < f->t[0].rank; i++) {
    ok = dim_eq(r.dim[i], f->t[0].dim[i]);
    if (!r.dim[i].name) r.dim[i].name = f->t[0].dim[i].name;
  }
  if (!ok)
    return infer_fail(f, "the result is %s; expected floating numbers with the dims of the index, %s, and one more",
                      type_text(f->g, r), shape_text(f->g, f->t[0]));
  return one(f, r);
}

bool infer_valid(Infer *f) {
  Type r = f->t[0];
  if (!need_i32(f, 0, "the index")) return false;
  r.dt = DT_f32;
  return one(f, r);
}

static bool need_flag(Infer *f, const char *name) {
  const Attr *a = infer_attr(f, name);
  return !a || a->i == 0 || a->i == 1 || infer_fail(f, "%s must be 0 or 1, not %lld", name, (long long)a->i);
}

bool infer_rope(Infer *f) {
  const Type *x = &f->t[0];
  const char *style = infer_attr(f, "style")->str;
  if (strcmp(style, "half") != 0 && strcmp(style, "pairs") != 0)
    return infer_fail(f, "style must be 'half' or 'pairs', not '%s'", style);
  if (!need_flag(f, "inverse") || !need_float(f, 0) || !need_rank(f, 0, 4) || !need_i32(f, 3, "positions"))
    return false;
  if (!need_rank(f, 1, 2) || !need_rank(f, 2, 2) || !need_rank(f, 3, 1)) return false;
  if (!need_dtype(f, 1, DT_f32) || !need_dtype(f, 2, DT_f32)) return false;
  if (!same_dims(f, 1, 0, 2, 0) || !same_dims(f, 1, 1, 2, 1) || !same_dims(f, 0, 1, 3, 0)) return false;
  Dim e = x->dim[3], half = f->t[1].dim[1];
  if (e.sym || half.sym || e.n % 2 != 0 || half.n != e.n / 2)
    return infer_fail(f, "x has %s, the tables %s: the tables have one column per two of %s", shape_text(f->g, *x),
                      shape_text(f->g, f->t[1]), dim_text(f->g, e));
  return whole(f, 0, 3) && one(f, *x);
}

bool infer_dropout(Infer *f) {
  double rate = infer_attr(f, "rate")->num;
  if (!(rate >= 0 && rate < 1)) return infer_fail(f, "the rate must be from 0 to below 1, not %g", rate);
  if (!need_float(f, 0)) return false;
  for (int i = 1; i < 4; i++)
    if (!need_i32(f, i, "what random bits are made from") || !need_rank(f, i, 0)) return false;
  return one(f, f->t[0]);
}

/* A window belongs to a causal mask, and to as many queries as keys: every query sees at least the key of its place. */
static bool need_window(Infer *f) {
  const Attr *w = infer_attr(f, "window");
  if (!w || w->i == 0) return true;
  if (w->i < 0) return infer_fail(f, "window must not be negative, it is %lld", (long long)w->i);
  if (!infer_attr(f, "causal")->i) return infer_fail(f, "a window needs causal 1");
  return same_dims(f, 0, 1, 1, 1);
}

/* q[b, t, h, e], k and v[b, s, g, e] with h a multiple of g. */
static bool attend_operands(Infer *f) {
  for (int i = 0; i < 3; i++)
    if (!need_float(f, i) || !need_rank(f, i, 4) || !need_dtype(f, i, f->t[0].dt)) return false;
  if (!need_flag(f, "causal")) return false;
  if (!same_dims(f, 0, 0, 1, 0) || !same_dims(f, 0, 3, 1, 3)) return false;
  for (int i = 0; i < 4; i++)
    if (!same_dims(f, 1, i, 2, i)) return false;
  if (!whole(f, 0, 1) || !whole(f, 1, 1) || !whole(f, 0, 3) || !need_window(f)) return false;
  Dim h = f->t[0].dim[2], g = f->t[1].dim[2];
  if (h.sym || g.sym || g.n < 1 || h.n % g.n != 0)
    return infer_fail(f, "%s query heads are not a multiple of %s key heads", dim_text(f->g, h), dim_text(f->g, g));
  if (h.axis != g.axis)
    return infer_fail(f, "query heads %s and key heads %s are placed differently", dim_text(f->g, h),
                      dim_text(f->g, g));
  return true;
}

static Type lse_type(const Infer *f) {
  const Type *q = &f->t[0];
  return (Type){.dt = DT_f32, .rank = 3, .dim = {q->dim[0], q->dim[2], q->dim[1]}};
}

bool infer_attend(Infer *f) {
  if (!attend_operands(f)) return false;
  f->out[0] = f->t[0];
  f->out[1] = lse_type(f);
  f->nout = 2;
  return true;
}

bool infer_attend_grad(Infer *f) {
  if (!attend_operands(f)) return false;
  if (!type_eq(f->t[3], f->t[0]) || !type_eq(f->t[5], f->t[0]))
    return infer_fail(f, "q is %s, o is %s, do is %s: they must be equal", type_text(f->g, f->t[0]),
                      type_text(f->g, f->t[3]), type_text(f->g, f->t[5]));
  if (!type_eq(f->t[4], lse_type(f)))
    return infer_fail(f, "lse is %s, expected %s", type_text(f->g, f->t[4]), type_text(f->g, lse_type(f)));
  for (int i = 0; i < 3; i++) f->out[i] = f->t[i];
  f->nout = 3;
  return true;
}

/* pages [p, g, e, 64] of keys or [p, g, 64, e] of values, slots i32[t], x[b, t, g, e]. */
static bool page_operands(Infer *f, int position, int width) {
  Type *p = (Type *)&f->t[0], *x = (Type *)&f->t[2];
  if (!need_float(f, 0) || !need_rank(f, 0, 4) || !need_i32(f, 1, "slots") || !need_rank(f, 1, 1)) return false;
  if (!need_float(f, 2) || !need_rank(f, 2, 4) || !same_dims(f, 1, 0, 2, 1)) return false;
  if (!same_dims(f, 0, 1, 2, 2) || !same_dims(f, 0, width, 2, 3)) return false;
  if (p->dim[position].sym || p->dim[position].n != PAGE_KEYS || p->dim[width].sym || x->dim[0].sym || x->dim[0].n != 1)
    return infer_fail(f, "pages %s and x %s: a page has %d positions, x one row of sequences", shape_text(f->g, *p),
                      shape_text(f->g, *x), (int)PAGE_KEYS);
  return whole(f, 0, 4) && whole(f, 2, 4) && one(f, *p);
}

bool infer_page_keys(Infer *f) {
  return page_operands(f, 3, 2);
}

bool infer_page_values(Infer *f) {
  return page_operands(f, 2, 3);
}

bool infer_attend_pages(Infer *f) {
  const Type *q = &f->t[0], *k = &f->t[1], *v = &f->t[2];
  if (!need_float(f, 0) || !need_rank(f, 0, 4) || !need_float(f, 1) || !need_rank(f, 1, 4)) return false;
  if (!need_dtype(f, 2, k->dt) || !need_rank(f, 2, 4)) return false;
  if (!need_i32(f, 3, "positions") || !need_rank(f, 3, 1) || !need_i32(f, 4, "starts") || !need_rank(f, 4, 1))
    return false;
  if (!need_i32(f, 5, "the table") || !need_rank(f, 5, 2)) return false;
  if (!same_dims(f, 1, 0, 2, 0) || !same_dims(f, 1, 1, 2, 1) || !same_dims(f, 1, 2, 2, 3)) return false;
  if (!same_dims(f, 0, 3, 1, 2) || !same_dims(f, 0, 1, 3, 0)) return false;
  if (k->dim[3].sym || k->dim[3].n != PAGE_KEYS || v->dim[2].sym || v->dim[2].n != PAGE_KEYS || k->dim[2].sym)
    return infer_fail(f, "keys %s and values %s: a page has %d positions", shape_text(f->g, *k), shape_text(f->g, *v),
                      (int)PAGE_KEYS);
  Dim h = q->dim[2], g = k->dim[1];
  if (h.sym || g.sym || h.n % g.n != 0)
    return infer_fail(f, "%s query heads are not a multiple of %s key heads", dim_text(f->g, h), dim_text(f->g, g));
  if (q->dim[0].sym || q->dim[0].n != 1)
    return infer_fail(f, "q is %s: sequences lie side by side in one row", shape_text(f->g, *q));
  const Attr *w = infer_attr(f, "window");
  if (w && (w->i < 0 || w->i > MAX_EXTENT)) return infer_fail(f, "window must be 0 (none) or more");
  for (int i = 0; i < 3; i++)
    if (!whole(f, i, 4)) return false;
  return one(f, *q);
}

/* A type of the callee in the words of the caller: offsets are inputs of the callee, so they are operands here. */
static bool to_caller(Infer *f, const Graph *callee, Type *t) {
  for (int i = 0; i < t->rank; i++) {
    if (!t->dim[i].seg) continue;
    int32_t def = t->dim[i].seg < (Val)callee->nvals ? callee->def[t->dim[i].seg] : 0;
    if (def >= 0 || -1 - def >= f->nargs)
      return infer_fail(f, "@%s: offsets of its inputs and outputs must be its inputs", callee->name);
    t->dim[i].seg = f->args[-1 - def];
  }
  return true;
}

/* Is `whole` `count` slices of type `slice`, one after the other along the leading axes. */
static bool slices(Type whole_, Type slice, int64_t count) {
  int i = whole_.rank, k = slice.rank;
  if (whole_.dt != slice.dt || whole_.partial != slice.partial) return false;
  while (i > 0 && k > 0 && dim_eq(whole_.dim[i - 1], slice.dim[k - 1])) i--, k--;
  Type a = whole_, b = slice;
  a.rank = i, b.rank = k;
  for (int j = 0; j < i; j++)
    if (a.dim[j].sym || a.dim[j].seg || a.dim[j].axis) return false;
  for (int j = 0; j < k; j++)
    if (b.dim[j].sym || b.dim[j].seg || b.dim[j].axis) return false;
  int64_t na = type_elements(a), nb = type_elements(b);
  return na <= MAX_ELEMENTS && nb > 0 && na % nb == 0 && na / nb == count;
}

/* Ways from a graph back to itself by calls would never end; the callee must stand earlier in the module, which the
 * verifier checks for all; here only the direct one. */
bool infer_call(Infer *f) {
  const Attr *fn = infer_attr(f, "fn"), *count = infer_attr(f, "count");
  const Module *m = f->g->mod;
  const Graph *callee = module_find(m, fn->str);
  if (!callee) {
    const char **names = NEW_ARRAY(m->arena, const char *, m->ngraphs);
    for (int i = 0; i < m->ngraphs; i++) names[i] = m->graphs[i]->name;
    const char *near = near_miss(fn->str, names, m->ngraphs);
    return diag_hint(m->diags, f->at, near ? arena_printf(m->arena, "did you mean '%s'?", near) : NULL,
                     "call: there is no graph '%s'", fn->str);
  }
  if (callee == f->g) return infer_fail(f, "@%s calls itself", fn->str);
  if (count && count->i < 1) return infer_fail(f, "count must be at least 1, not %lld", (long long)count->i);
  if (callee->ninputs != f->nargs)
    return infer_fail(f, "@%s has %d inputs, not %d", fn->str, callee->ninputs, f->nargs);
  for (int i = 0; i < f->nargs; i++) {
    Type t = callee->types[callee->inputs[i].val];
    if (!to_caller(f, callee, &t)) return false;
    if (type_eq(t, f->t[i])) continue;
    if (!count || !slices(f->t[i], t, count->i))
      return infer_fail(f, "input %s of @%s is %s, the operand is %s%s", callee->inputs[i].name, fn->str,
                        type_text(f->g, t), type_text(f->g, f->t[i]),
                        count ? ", neither that nor count slices of it" : "");
    if (graph_find_output(callee, callee->inputs[i].name))
      return infer_fail(f,
                        "input %s of @%s is carried from turn to turn, so it can not be sliced: it is %s, the "
                        "operand %s",
                        callee->inputs[i].name, fn->str, type_text(f->g, t), type_text(f->g, f->t[i]));
  }
  for (int i = 0; i < callee->noutputs; i++) {
    const Output *o = &callee->outputs[i];
    Type t = callee->types[o->val];
    if (!to_caller(f, callee, &t)) return false;
    if (count && !graph_find_input(callee, o->name)) { /* stacked */
      Type stacked = t;
      if (f->want)
        stacked = f->want[i];
      else if (t.rank == 0)
        stacked = (Type){.dt = t.dt, .rank = 1, .dim = {dim_const(count->i)}, .partial = t.partial};
      else if (t.dim[0].n <= MAX_EXTENT / count->i)
        stacked.dim[0] = dim_const(t.dim[0].n * count->i);
      if (!slices(stacked, t, count->i))
        return infer_fail(f, "output %s of @%s is %s; %s is not %lld of it", o->name, fn->str, type_text(f->g, t),
                          type_text(f->g, stacked), (long long)count->i);
      t = stacked;
    }
    f->out[i] = t;
  }
  f->nout = callee->noutputs;
  return true;
}
