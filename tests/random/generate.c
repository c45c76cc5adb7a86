/* Random modules.
 *
 * A graph grows op by op. Each op has its maker (make_NAME, found by token pasting like the compiler's own functions, so
 * a new row of ops.def without one does not link): it picks operands among the values that are there, or adds inputs for
 * them, and appends its node. Extents come from a few sizes around vector, block and tile edges; the same few are used
 * throughout one graph, so that values of equal shape meet. Operands of log, sqrt and division are kept positive half of the
 * time, so that not everything drowns in NaNs. */
#include "generate.h"
#include "ir/rule.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_POOL = 5, LIMIT = 1 << 13 }; /* LIMIT: elements of a value */
#define WORK 3e6                        /* multiply-adds of a node */

typedef struct Gen {
  Graph *g;
  uint64_t seed;
  Style style;
  Dim pool[MAX_POOL];
  int npool, names;
  bool constant; /* under construction: no operand may depend on a param */
  DType dt;      /* of new floating values */
} Gen;

static const Span nowhere = {0};

static uint64_t next(Gen *x) { /* splitmix64 */
  uint64_t z = x->seed += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}
static int below(Gen *x, int n) {
  return (int)(next(x) >> 33) % n;
}
static bool chance(Gen *x, int percent) {
  return below(x, 100) < percent;
}

/* ---- extents, types, operands */

static Dim some_dim(Gen *x) {
  return x->pool[below(x, x->npool)];
}

static Dim new_size(Gen *x) {
  static const int sizes[] = {1,  1,  2,  2,  3,  3,  4,  5,  5,  6,  7,  8,  8,   9,   11,  12,
                              13, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 127, 129, 200};
  return dim_const(sizes[below(x, LEN(sizes))]);
}

static void make_pool(Gen *x) {
  static const char *const names[] = {"B", "T", "d", "N", "R"};
  x->npool = 2 + below(x, MAX_POOL - 1);
  for (int i = 0; i < x->npool; i++) {
    x->pool[i] = new_size(x);
    if (chance(x, 30)) x->pool[i].name = intern(names[i]);
    if (x->style == STYLE_PLAIN && chance(x, 15) && x->pool[i].n > 1)
      x->pool[i].name = intern(names[i]), x->pool[i].sym = true;
  }
  if (chance(x, 4)) x->pool[0] = dim_const(4090 + below(x, 20)); /* chains restart at 4096 */
}

static bool small(Type t) {
  return type_elements(t) <= LIMIT;
}

static Type some_type(Gen *x, int most) {
  Type t = {.dt = x->dt};
  int rank = below(x, most + 1);
  for (int i = 0; i < rank; i++) {
    t.dim[t.rank++] = some_dim(x);
    if (!small(t)) t.rank--;
  }
  return t;
}

/* The name is unique in the graph, and none that training takes. */
static Val new_input(Gen *x, Type t, const char *stem) {
  Arena *a = x->g->mod->arena;
  InputKind kind = IN_DATA;
  if (t.dt != DT_i32 && x->style == STYLE_TRAIN && !x->constant && chance(x, 60)) kind = IN_PARAM;
  if (t.dt != DT_i32 && x->style == STYLE_PLAIN && chance(x, 30)) kind = chance(x, 50) ? IN_STATE : IN_PARAM;
  return graph_input(x->g, arena_printf(a, "%s%d", stem, x->names++), kind, t, nowhere);
}

static bool floating(DType dt) {
  return dt == DT_f32 || dt == DT_bf16 || dt == DT_f64;
}

typedef bool (*Fit)(Gen *x, Type t, const void *ctx);

/* A value for which fit holds, later ones rather; 0: none. */
static Val find_value(Gen *x, Fit fit, const void *ctx) {
  Val found = 0;
  int seen = 0;
  for (int v = x->g->nvals - 1; v > 0; v--) {
    if (x->constant && x->g->def[v] >= 0) continue;
    if (x->constant && x->g->inputs[-1 - x->g->def[v]].kind == IN_PARAM) continue;
    if (!fit(x, x->g->types[v], ctx)) continue;
    seen++;
    if (!found || below(x, seen + 1) == 0) found = (Val)v;
    if (found && chance(x, 50)) break;
  }
  return found;
}

static bool of_type(Gen *x, Type t, const void *ctx) {
  (void)x;
  return type_eq(t, *(const Type *)ctx);
}
/* What ops other than elementwise ones take here: a floating value of at least that rank, without placement. */
static bool of_rank(Gen *x, Type t, const void *ctx) {
  if (!floating(t.dt) || t.rank < *(const int *)ctx || t.dt != x->dt || t.partial) return false;
  for (int i = 0; i < t.rank; i++)
    if (t.dim[i].axis || t.dim[i].seg) return false;
  return true;
}

static Val value_of(Gen *x, Type t) { /* of exactly this type */
  Val v = chance(x, 75) ? find_value(x, of_type, &t) : 0;
  return v ? v : new_input(x, t, "x");
}

static Val value_ranked(Gen *x, int least) {
  Val v = chance(x, 92) ? find_value(x, of_rank, &least) : 0;
  if (v) return v;
  Type t = some_type(x, 4);
  while (t.rank < least) t.dim[t.rank++] = dim_const(1 + below(x, 3));
  return new_input(x, t, "x");
}

static Type with_dtype(Type t, DType dt) {
  t.dt = dt;
  return t;
}

static Val add(Gen *x, OpKind op, const Val *args, int n, const Attr *attrs, int nattrs, const Type *want) {
  return graph_add(x->g, op, args, n, attrs, nattrs, want, nowhere);
}

static Val add1(Gen *x, OpKind op, Val v, const Type *want) {
  return add(x, op, &v, 1, NULL, 0, want);
}

/* ---- elementwise */

static Val broadcast_to(Gen *x, Type to) {
  Type t = {.dt = to.dt};
  int64_t axes[MAX_RANK];
  for (int i = 0; i < to.rank; i++)
    if (chance(x, 45)) axes[t.rank] = i, t.dim[t.rank++] = to.dim[i];
  Val v = value_of(x, t);
  Attr at = attr_ints("axes", t.rank, axes);
  return add(x, OP_broadcast, &v, 1, &at, 1, &to);
}

static Val positive(Gen *x, Val v) {
  Val half = graph_const(x->g, 0.5, nowhere);
  if (val_type(x->g, v).dt != DT_f32) return v;
  return graph_ew(x->g, OP_add, graph_ew(x->g, OP_square, v, 0, 0, nowhere), half, 0, nowhere);
}

static bool elementwise_operand(Gen *x, Type t, const void *ctx) {
  (void)ctx;
  return t.dt == x->dt && !t.partial;
}

static Val make_elementwise(Gen *x, OpKind op) {
  Val args[3] = {chance(x, 90) ? find_value(x, elementwise_operand, NULL) : 0};
  if (!args[0]) args[0] = value_ranked(x, 0);
  Type t = val_type(x->g, args[0]);
  for (int i = 1; i < op_info[op].nargs; i++) {
    Type scalar = type_scalar(t.dt);
    args[i] = chance(x, 15) ? value_of(x, scalar) : chance(x, 25) && t.rank ? broadcast_to(x, t) : value_of(x, t);
  }
  for (int i = op_info[op].nargs - 1; i > 0; i--) { /* the scalar may stand first */
    Val other = args[i];
    if (chance(x, 30)) args[i] = args[0], args[0] = other;
  }
  bool divides = op == OP_log || op == OP_sqrt || op == OP_rsqrt || op == OP_div;
  if (divides && chance(x, 60)) {
    Val *last = &args[op_info[op].nargs - 1];
    *last = positive(x, *last);
  }
  return graph_ew(x->g, op, args[0], args[1], args[2], nowhere);
}

/* ---- the other rows of ops.def, in its order */

static Val make_const(Gen *x) {
  static const double values[] = {0, 1, -1, 0.5, 2, -0.25, 1e-5, 3.75, 0.1};
  return graph_const(x->g, values[below(x, LEN(values))], nowhere);
}

static Val make_table(Gen *x) {
  static const char *const texts[] = {"1", "i", "0.5 * i", "1. / (1 + i)", "i < 3 ? 0.25 : -1", "cos(0.1 * i)"};
  static const char *const texts2[] = {"i + 2 * j", "j < i ? 1 : 0", "sin(i / 10 ^ (2 * j / 8))", "exp(-0.1 * i) * j"};
  Type t = some_type(x, 3);
  for (int i = 0; i < t.rank; i++)
    if (t.dim[i].sym || t.dim[i].seg) return 0;
  t.dt = DT_f32;
  Attr e = attr_str("expr", t.rank == 0   ? "0.75"
                            : t.rank == 1 ? texts[below(x, LEN(texts))]
                                          : texts2[below(x, LEN(texts2))]);
  return add(x, OP_table, NULL, 0, &e, 1, &t);
}

static Val make_cast(Gen *x) {
  Val v = value_ranked(x, 0);
  Type t = val_type(x->g, v);
  if (x->style == STYLE_TYPES) {
    static const DType to[] = {DT_f32, DT_bf16, DT_f64, DT_bf16};
    t.dt = to[below(x, LEN(to))];
    v = add1(x, OP_cast, v, &t);
    t.dt = x->dt;
  }
  return add1(x, OP_cast, v, &t);
}

static Val make_stop(Gen *x) {
  return add1(x, OP_stop, value_ranked(x, 0), NULL);
}

static Val make_broadcast(Gen *x) {
  Type to = some_type(x, 4);
  Val v = value_ranked(x, 0);
  Type t = val_type(x->g, v);
  int64_t axes[MAX_RANK];
  if (chance(x, 50)) return broadcast_to(x, to);
  to = (Type){.dt = t.dt}; /* dims of v with others put between */
  for (int i = 0; i < t.rank; i++) {
    while (to.rank + t.rank - i < 4 && chance(x, 40)) to.dim[to.rank++] = some_dim(x);
    axes[i] = to.rank;
    to.dim[to.rank++] = t.dim[i];
  }
  if (to.rank < 4 && chance(x, 50)) to.dim[to.rank++] = some_dim(x);
  if (!small(to)) return 0;
  Attr at = attr_ints("axes", t.rank, axes);
  return add(x, OP_broadcast, &v, 1, &at, 1, &to);
}

/* Neighbours merged, an extent split, ones put in or taken out. */
static Val make_reshape(Gen *x) {
  Val v = value_ranked(x, 0);
  Type t = val_type(x->g, v), r = {.dt = t.dt};
  for (int i = 0; i < t.rank; i++) {
    Dim k = t.dim[i];
    if (k.sym) {
      r.dim[r.rank++] = k;
    } else if (r.rank && !r.dim[r.rank - 1].sym && chance(x, 40)) {
      r.dim[r.rank - 1] = dim_const(r.dim[r.rank - 1].n * k.n);
    } else if (k.n % 2 == 0 && r.rank + t.rank - i < 5 && chance(x, 30)) {
      r.dim[r.rank++] = dim_const(2);
      r.dim[r.rank++] = dim_const(k.n / 2);
    } else if (k.n != 1 || chance(x, 50)) {
      r.dim[r.rank++] = k;
    }
    if (r.rank + t.rank - i < 5 && chance(x, 10)) r.dim[r.rank++] = dim_const(1);
  }
  return add1(x, OP_reshape, v, &r);
}

static Val make_transpose(Gen *x) {
  Val v = value_ranked(x, 1 + below(x, 2));
  int64_t perm[MAX_RANK];
  int rank = val_type(x->g, v).rank;
  for (int i = 0; i < rank; i++) {
    int k = below(x, i + 1);
    perm[i] = perm[k];
    perm[k] = i;
  }
  Attr at = attr_ints("perm", rank, perm);
  return add(x, OP_transpose, &v, 1, &at, 1, NULL);
}

static Val make_sum(Gen *x) {
  Val v = value_ranked(x, 1);
  int rank = val_type(x->g, v).rank, n = 0;
  int64_t axes[MAX_RANK];
  if (rank == 1 || chance(x, 50)) { /* the last ones */
    for (int i = chance(x, 60) ? rank - 1 : below(x, rank); i < rank; i++) axes[n++] = i;
  } else {
    for (int i = 0; i < rank - 1; i++)
      if (chance(x, 50)) axes[n++] = i;
    if (!n) axes[n++] = below(x, rank - 1);
  }
  return graph_sum(x->g, v, n, axes, nowhere);
}

static Val make_rowmax(Gen *x) {
  return add1(x, OP_rowmax, value_ranked(x, 1), NULL);
}

static void shuffle(Gen *x, char *letters, int n) {
  for (int i = n - 1; i > 0; i--) {
    int k = below(x, i + 1);
    char c = letters[i];
    letters[i] = letters[k];
    letters[k] = c;
  }
}

/* Every letter of the first operand is batch, kept or summed; the second gets those it must have and new ones. */
static bool make_rule(Gen *x, Type a, Rule *r, Dim dim[26]) {
  *r = (Rule){.na = a.rank};
  double work = 1;
  for (int i = 0; i < a.rank; i++) {
    char c = (char)('a' + i);
    dim[i] = a.dim[i];
    r->a[i] = c;
    work *= (double)a.dim[i].n;
    bool batch = chance(x, 20), summed = !batch && chance(x, i == a.rank - 1 ? 70 : 35);
    if (batch || summed) r->b[r->nb++] = c;
    if (!summed) r->out[r->no++] = c;
  }
  for (int i = 0; r->no < 4 && r->nb < 4 && i < 2 && (chance(x, 60) || !r->nb); i++) {
    int n = a.rank + i;
    dim[n] = chance(x, 70) ? some_dim(x) : new_size(x);
    r->b[r->nb++] = r->out[r->no++] = (char)('a' + n);
    work *= (double)dim[n].n;
  }
  shuffle(x, r->b, r->nb);
  if (chance(x, 50)) shuffle(x, r->out, r->no);
  Type out = {.rank = r->no}, b = {.rank = r->nb};
  for (int i = 0; i < r->no; i++) out.dim[i] = dim[r->out[i] - 'a'];
  for (int i = 0; i < r->nb; i++) b.dim[i] = dim[r->b[i] - 'a'];
  return work < WORK && small(out) && small(b);
}

static Type letters_type(Gen *x, const char *letters, int n, const Dim dim[26]) {
  Type t = {.dt = x->dt, .rank = n};
  for (int i = 0; i < n; i++) t.dim[i] = dim[letters[i] - 'a'];
  return t;
}

static Val contraction(Gen *x, OpKind op) {
  Rule r;
  Dim dim[26];
  char text[3 * MAX_RANK + 4];
  Val args[3] = {value_ranked(x, 1)};
  if (!make_rule(x, val_type(x->g, args[0]), &r, dim)) return 0;
  int64_t chain = 1;
  for (int i = 0; i < r.na; i++)
    if (rule_summed(&r, r.a[i])) chain *= dim[i].n;
  if (op == OP_contract_from && chain > 4096) return 0;
  args[1] = value_of(x, letters_type(x, r.b, r.nb, dim));
  Type out = letters_type(x, r.out, r.no, dim);
  if (x->dt == DT_bf16) out.dt = DT_f32;
  if (op == OP_contract_from) args[2] = value_of(x, out);
  rule_text(&r, text);
  Attr rule = attr_str("rule", text);
  Val v = add(x, op, args, op_info[op].nargs, &rule, 1, NULL);
  out.dt = x->dt; /* what comes next is made of such values */
  return v && x->dt == DT_bf16 ? add1(x, OP_cast, v, &out) : v;
}

static Val make_contract(Gen *x) {
  return contraction(x, OP_contract);
}
static Val make_contract_from(Gen *x) {
  return contraction(x, OP_contract_from);
}

/* A fresh one each time: what an index may be follows from all of its uses. */
static Val new_index(Gen *x, int rank, const Dim *dim) {
  Type t = {.dt = DT_i32};
  for (int i = 0; i < rank; i++) {
    t.dim[t.rank++] = dim ? dim[i] : some_dim(x);
    if (!small(t)) t.dim[i] = dim_const(1);
  }
  return new_input(x, t, "i");
}

static Val make_gather(Gen *x) {
  Val table = value_ranked(x, 1);
  Type t = val_type(x->g, table), r;
  if (t.dim[0].sym) return 0; /* indices are below its bound, rows may be fewer */
  int rank = below(x, 3);
  Val args[] = {table, new_index(x, rank, NULL)};
  r = val_type(x->g, args[1]);
  for (int i = 1; i < t.rank; i++) r.dim[r.rank++] = t.dim[i];
  return small(r) ? add(x, OP_gather, args, 2, NULL, 0, NULL) : 0;
}

static Val make_scatter_add(Gen *x) {
  Val base = value_ranked(x, 1);
  Type t = val_type(x->g, base);
  if (t.dim[0].sym) return 0;
  Val index = new_index(x, below(x, 3), NULL);
  Type u = with_dtype(val_type(x->g, index), t.dt);
  for (int i = 1; i < t.rank; i++) u.dim[u.rank++] = t.dim[i];
  if (!small(u) || u.rank > 5) return 0;
  x->constant = x->style == STYLE_TRAIN; /* autodiff has no gradient of the updates */
  Val args[] = {base, index, value_of(x, u)};
  x->constant = false;
  return add(x, OP_scatter_add, args, 3, NULL, 0, NULL);
}

static Val make_pick(Gen *x) {
  Val v = value_ranked(x, 1);
  Type t = val_type(x->g, v);
  if (t.dim[t.rank - 1].sym) return 0;
  Val args[] = {v, new_index(x, t.rank - 1, t.dim)};
  return add(x, OP_pick, args, 2, NULL, 0, NULL);
}

static Val make_onehot(Gen *x) {
  Val index = new_index(x, below(x, 3), NULL);
  Type t = with_dtype(val_type(x->g, index), x->dt);
  Dim n = some_dim(x);
  if (n.sym) return 0;
  t.dim[t.rank++] = n;
  return small(t) ? add1(x, OP_onehot, index, &t) : 0;
}

static Val make_valid(Gen *x) {
  return add1(x, OP_valid, new_index(x, below(x, 4), NULL), NULL);
}

/* A value [b, t, h, e] with its extents small and e even. */
static Val heads(Gen *x, Dim b, Dim t, int h, int e) {
  Type q = {.dt = x->dt, .rank = 4, .dim = {b, t, dim_const(h), dim_const(e)}};
  return small(q) ? value_of(x, q) : 0;
}

static Val make_rope(Gen *x) {
  static const char *const styles[] = {"half", "pairs"};
  Dim t = some_dim(x);
  int e = 2 * (1 + below(x, chance(x, 20) ? 40 : 8));
  Val v = heads(x, some_dim(x), t, 1 + below(x, 4), e);
  if (!v) return 0;
  Type table = {.dt = DT_f32, .rank = 2, .dim = {dim_const(1 + below(x, 70)), dim_const(e / 2)}};
  x->constant = x->style == STYLE_TRAIN;
  Val args[] = {v, value_of(x, table), value_of(x, table), new_index(x, 1, &t)};
  x->constant = false;
  Attr at[] = {attr_str("style", styles[below(x, 2)]), attr_int("inverse", below(x, 2))};
  return add(x, OP_rope, args, 4, at, chance(x, 70) ? 2 : 1, NULL);
}

/* Masks of one key and stream meet now and then: they are the same only where the element is. */
static Val make_dropout(Gen *x) {
  static const double rates[] = {0, 0.1, 0.5, 0.5, 0.9};
  Val args[4] = {chance(x, 90) ? find_value(x, elementwise_operand, NULL) : 0};
  if (!args[0]) args[0] = value_ranked(x, 0);
  Type scalar = type_scalar(DT_i32);
  for (int i = 1; i < 4; i++) {
    Attr e = attr_str("expr", chance(x, 50) ? "3" : "-2147483648");
    args[i] = chance(x, 60) ? find_value(x, of_type, &scalar) : 0;
    if (!args[i]) args[i] = chance(x, 50) ? new_index(x, 0, NULL) : add(x, OP_table, NULL, 0, &e, 1, &scalar);
  }
  Attr rate = attr_num("rate", rates[below(x, LEN(rates))]);
  return add(x, OP_dropout, args, 4, &rate, 1, NULL);
}

static Val attention(Gen *x, bool grad) {
  Dim b = some_dim(x), t = some_dim(x), s = chance(x, 60) ? t : some_dim(x);
  int g = 1 + below(x, 3), h = g * (1 + below(x, 3)), e = 1 + below(x, chance(x, 20) ? 80 : 12);
  Val q = heads(x, b, t, h, e), k = heads(x, b, s, g, e), v = heads(x, b, s, g, e);
  if (!q || !k || !v || (double)(b.n * t.n) * (double)(s.n * h * e) > WORK) return 0;
  Attr at[] = {attr_int("causal", t.n <= s.n && below(x, 2)), attr_num("scale", 1 / sqrt(e)),
               attr_int("window", 1 + below(x, (int)t.n + 1))};
  int nattrs = at[0].i && dim_eq(t, s) && chance(x, 40) ? 3 : 2;
  Val o = add(x, OP_attend, (Val[]){q, k, v}, 3, at, nattrs, NULL);
  if (!o || !grad) return o;
  Val args[] = {q, k, v, o, o + 1, value_of(x, val_type(x->g, q))};
  return add(x, OP_attend_grad, args, 6, at, nattrs, NULL);
}

static Val make_attend(Gen *x) {
  return attention(x, false);
}
static Val make_attend_grad(Gen *x) {
  return x->style == STYLE_TRAIN ? attention(x, false) : attention(x, true); /* no second derivatives */
}

/* Pages go with tables that made-up numbers are none of: tests/unit/test_pages.c. */
static Val make_page_keys(Gen *x) {
  return 0;
}
static Val make_page_values(Gen *x) {
  return 0;
}
static Val make_attend_pages(Gen *x) {
  return 0;
}

/* ---- calls: another graph of the module, with a count whose first operand is sliced and whose second is carried */

static Val make_call(Gen *x) {
  Module *m = x->g->mod;
  if (x->style != STYLE_CALLS || m->ngraphs < 2) return 0;
  const Graph *f = m->graphs[below(x, m->ngraphs - 1)];
  if (f->ninputs > 30) return 0;
  Val args[32];
  bool loop = f->region != NULL;
  int64_t count = 1 + below(x, 3);
  for (int i = 0; i < f->ninputs; i++) {
    Type t = val_type(f, f->inputs[i].val);
    bool carried = graph_find_output(f, f->inputs[i].name) != NULL;
    if (loop && count > 1 && !carried && t.dt != DT_i32 && t.rank && chance(x, 50)) t.dim[0].n *= count;
    if (!small(t)) return 0;
    args[i] = t.dt == DT_i32 ? new_input(x, t, "i") : value_of(x, t);
  }
  Attr at[] = {attr_str("fn", f->name), attr_int("count", count)};
  return add(x, OP_call, args, f->ninputs, at, loop ? 2 : 1, NULL);
}

typedef Val (*MakeFn)(Gen *x);
static const MakeFn make[OP_COUNT] = {
#define OP(name, ...) [OP_##name] = make_##name,
#include "ir/ops.def"
};

/* ---- graphs */

static Val make_any(Gen *x) {
  /* elementwise ops are most of the table and of most models; contractions and sums are what has kernels of its own */
  static const OpKind often[] = {OP_contract,  OP_contract,    OP_contract, OP_sum,  OP_sum,          OP_broadcast,
                                 OP_transpose, OP_reshape,     OP_rowmax,   OP_add,  OP_mul,          OP_attend,
                                 OP_gather,    OP_scatter_add, OP_pick,     OP_rope, OP_contract_from};
  OpKind op = chance(x, 55) ? often[below(x, LEN(often))] : (OpKind)(1 + below(x, OP_COUNT - 1));
  return op_info[op].ew ? make_elementwise(x, op) : make[op](x);
}

static int uses_of(const Graph *g, Val v) {
  int n = 0;
  for (int i = 0; i < g->nnodes; i++)
    for (int k = 0; k < g->nodes[i].nargs; k++) n += g->nodes[i].args[k] == v;
  return n;
}

static bool computed(const Graph *g, Val v) {
  return g->def[v] >= 0;
}

/* Outputs: what nobody reads, and some of the rest; the next value of some states. */
static void choose_outputs(Gen *x) {
  Graph *g = x->g;
  char name[16];
  int n = 0;
  for (int i = 0; i < g->ninputs; i++) {
    const Input *in = &g->inputs[i];
    if (in->kind == IN_DATA || !chance(x, 70)) continue;
    for (int v = g->nvals - 1; v > 0; v--)
      if (computed(g, (Val)v) && type_eq(g->types[v], g->types[in->val]) && chance(x, 60)) {
        graph_output(g, in->name, (Val)v);
        break;
      }
  }
  for (int v = g->nvals - 1; v > 0 && n < 8; v--) {
    if (!computed(g, (Val)v) || !(uses_of(g, (Val)v) == 0 || chance(x, 8))) continue;
    snprintf(name, sizeof name, "y%d", n++);
    graph_output(g, intern(name), (Val)v);
  }
}

static void grow(Gen *x, int nodes) {
  for (int tries = 0; x->g->nnodes < nodes && tries < 10 * nodes; tries++) make_any(x);
  if (!x->g->nnodes) make_elementwise(x, OP_tanh);
}

static Val scaled(Gen *x, Val v) { /* keeps what follows from growing without bound */
  return graph_ew(x->g, OP_tanh, v, 0, 0, nowhere);
}

/* The loss: a few values, each summed or as it is, added up to scalars. */
static void choose_loss(Gen *x) {
  Graph *g = x->g;
  Val loss = 0;
  int terms = 0;
  for (int v = g->nvals - 1; v > 0 && terms < 3; v--) {
    const Node *n = val_node(g, (Val)v);
    Type t = g->types[v];
    if (!n || t.dt != DT_f32 || (n->op == OP_attend && (Val)v != n->res)) continue;
    if (uses_of(g, (Val)v) && !chance(x, 20)) continue;
    int64_t axes[MAX_RANK] = {0, 1, 2, 3, 4, 5};
    Val term = chance(x, 50) ? scaled(x, (Val)v) : (Val)v;
    if (t.rank) term = graph_sum(g, term, t.rank, axes, nowhere);
    loss = loss ? graph_ew(g, OP_add, loss, term, 0, nowhere) : term;
    terms++;
  }
  if (!loss) loss = graph_const(g, 1, nowhere);
  graph_output(g, "loss", loss);
}

/* The log-sum-exp of attention has no gradient: it may not be read where one would flow. */
static bool reads_lse(const Graph *g) {
  for (int i = 0; i < g->nnodes; i++)
    for (int k = 0; k < g->nodes[i].nargs; k++) {
      const Node *n = val_node(g, g->nodes[i].args[k]);
      if (n && n->op == OP_attend && g->nodes[i].args[k] != n->res) return true;
    }
  return false;
}

/* Integer inputs that no op bounds may hold anything; new graphs start with a few values to pick from. */
static void begin(Gen *x) {
  make_pool(x);
  for (int i = 1 + below(x, 3); i > 0; i--) new_input(x, some_type(x, 4), "x");
}

static void training_graph(Gen *x, Module *m) {
  for (int tries = 0;; tries++) {
    x->g = graph_new(m, "forward");
    x->names = 0;
    begin(x);
    Val p = graph_input(x->g, "w", IN_PARAM, some_type(x, 3), nowhere); /* there is something to train */
    graph_ew(x->g, OP_mul, p, p, 0, nowhere);
    grow(x, 1 + below(x, 14));
    if (!reads_lse(x->g)) break;
    m->ngraphs--;
  }
  choose_loss(x);
}

/* f32 by way of narrower and wider types, segments, a mesh: what is here must survive text, verifier, passes, evaluator. */
static void types_graph(Gen *x, Module *m) {
  m->naxes = 1 + below(x, 2);
  m->mesh[0] = (MeshAxis){intern("dp"), 2};
  m->mesh[1] = (MeshAxis){intern("tp"), 4};
  x->g = graph_new(m, "g");
  static const DType dts[] = {DT_f32, DT_bf16, DT_bf16, DT_f64};
  x->dt = dts[below(x, LEN(dts))];
  begin(x);
  Type off = type_make(DT_i32, 1, (int64_t[]){3});
  Val offsets = graph_input(x->g, "off", IN_DATA, off, nowhere);
  for (int i = 0; i < 2; i++) {
    Type t = some_type(x, 3);
    if (!t.rank) continue;
    int k = below(x, t.rank);
    switch (below(x, 3)) {
    case 0: t.dim[k].axis = (uint8_t)(1 + below(x, m->naxes)); break;
    case 1: t.partial = 1; break;
    default: t.dim[k] = (Dim){.n = 40, .name = intern("S"), .sym = true, .seg = offsets};
    }
    Val v = new_input(x, t, "t");
    if (t.partial) {
      graph_ew(x->g, OP_neg, v, 0, 0, nowhere);
      continue;
    }
    for (int j = 0; j < 3; j++) v = graph_ew(x->g, chance(x, 50) ? OP_silu : OP_exp, v, 0, 0, nowhere);
    if (v && t.rank > 1 && k != t.rank - 1) graph_sum(x->g, v, 1, (int64_t[]){t.rank - 1}, nowhere);
  }
  grow(x, 1 + below(x, 10));
  choose_outputs(x);
}

/* Loops: region loop @f with a carried sum and a row of its own; plain callees too. */
static void callee(Gen *x, Module *m, int number) {
  char name[24];
  snprintf(name, sizeof name, "f%d", number);
  x->g = graph_new(m, intern(name));
  bool loop = true;
  x->names = 100 * (number + 1);
  begin(x);
  x->g->region = loop ? intern("loop") : NULL;
  Type t = some_type(x, 2);
  Val acc = graph_input(x->g, "acc", IN_STATE, t, nowhere);
  Val sum = graph_ew(x->g, OP_add, acc, value_of(x, t), 0, nowhere);
  graph_output(x->g, "acc", sum);
  Val y = graph_ew(x->g, OP_tanh, sum, 0, 0, nowhere);
  graph_output(x->g, "y", y);
}

static void calls_graph(Gen *x, Module *m) {
  int n = 1 + below(x, 2);
  for (int i = 0; i < n; i++) callee(x, m, i);
  x->g = graph_new(m, "g");
  x->names = 0;
  begin(x);
  for (int i = 0; i < 2; i++) make_call(x);
  grow(x, 2 + below(x, 8));
  choose_outputs(x);
}

Module *generate(Arena *a, Diags *d, uint64_t seed, Style *style) {
  Gen x = {.seed = seed, .dt = DT_f32};
  Module *m = module_new(a, d, "random");
  int kind = below(&x, 100);
  x.style = kind < 45   ? STYLE_PLAIN
            : kind < 70 ? STYLE_TRAIN
            : kind < 80 ? STYLE_TYPES
            : kind < 86 ? STYLE_CALLS
                        : STYLE_MODEL;
  if (x.style == STYLE_MODEL) {
    Text yaml = {0};
    Module *model = generate_model(a, seed, &yaml);
    text_free(&yaml);
    *style = STYLE_MODEL;
    if (model && chance(&x, 40)) model->compute = DT_bf16;
    if (model) return model;
    x.style = STYLE_PLAIN;
  }
  switch (x.style) {
  case STYLE_TRAIN:
    if (chance(&x, 40)) m->compute = DT_bf16;
    training_graph(&x, m);
    break;
  case STYLE_TYPES: types_graph(&x, m); break;
  case STYLE_CALLS: calls_graph(&x, m); break;
  default:
    x.g = graph_new(m, "g");
    begin(&x);
    grow(&x, 1 + below(&x, chance(&x, 20) ? 30 : 12));
    choose_outputs(&x);
  }
  *style = x.style;
  return m;
}
