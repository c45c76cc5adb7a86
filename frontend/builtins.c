/* Built-in functions: the ops that are not elementwise (those are callable by their names without a word here), with the
 * language's conveniences: axes by name, wildcards in index rules, position tables. One row of the table each.
 *
 * A function checks what it must understand itself; the rest is checked by shape inference, which reports at the same
 * place. Arguments that were not given are V_ABSENT. */
#include "frontend/build.h"
#include <ctype.h>
#include <math.h>
#include <string.h>

static const Value bad = {.kind = V_BAD};

static Value add_op(Builder *b, Frame *f, const Ast *e, OpKind op, const Val *v, int n, const Attr *attr, int nattrs,
                    const Type *want) {
  for (int i = 0; i < n; i++)
    if (!v[i]) return bad;
  return value_tensor(b, graph_add(b->g, op, v, n, attr, nattrs, want, build_span(f, e)));
}

static Val tensor_arg(Builder *b, Frame *f, const Ast *e, const Value *arg, int i) {
  if (arg[i].kind == V_TENSOR) return arg[i].val;
  if (arg[i].kind != V_BAD) build_error(b, f, e, "%s is not a tensor", operand_text(b, e, i));
  return 0;
}

static bool int_value(Builder *b, Frame *f, const Ast *e, Value v, const char *what, int64_t lo, int64_t hi,
                      int64_t *out) {
  if (v.kind != V_NUM || v.dim.sym || v.num != floor(v.num) || v.num < (double)lo || v.num > (double)hi) {
    build_error(b, f, e, "%s is an integer from %lld to %lld", what, (long long)lo, (long long)hi);
    return false;
  }
  *out = (int64_t)v.num;
  return true;
}

/* ---- einsum */

typedef struct Rule {
  char text[64];
  int n;
  Dim dim[128];               /* extent of a letter */
  int owner[128];             /* 1 + operand that has set it */
  char wild[2][MAX_RANK + 1]; /* letters that * and + stand for */
  int nwild[2];               /* 1 + their number; 0: not met yet */
} Rule;

static char fresh_letter(const char *rule, const Rule *r) {
  static const char letters[] = "btsuvwxyzacdefghijklmnopqr";
  for (const char *c = letters; *c; c++)
    if (!strchr(rule, *c) && !strchr(r->wild[0], *c) && !strchr(r->wild[1], *c)) return *c;
  return 0;
}

static int wild_index(char c) {
  return c == '*' ? 0 : c == '+' ? 1 : -1;
}

/* One operand's letters: wildcards take the axes that no letter names. */
static bool rule_operand(Builder *b, Frame *f, const Ast *e, const char *whole, const char *s, size_t n, int operand,
                         Type t, Rule *r) {
  int letters = 0, wilds = 0;
  for (size_t i = 0; i < n; i++) {
    if (wild_index(s[i]) >= 0)
      wilds++;
    else if (islower((unsigned char)s[i]))
      letters++;
    else
      return build_error(b, f, e, "the rule \"%s\" has a '%c': letters a to z, * and + only", whole, s[i]), false;
  }
  const char *name = operand_text(b, e, operand);
  if (wilds > 1) return build_error(b, f, e, "two wildcards in one operand of \"%s\"", whole), false;
  if (t.rank < letters || (!wilds && t.rank != letters))
    return build_error(b, f, e, "%s has shape %s; the rule \"%s\" wants %s%d axes", name, build_shape_text(b->arena, t),
                       whole, wilds ? "at least " : "", letters),
           false;
  int axis = 0;
  for (size_t i = 0; i < n; i++) {
    int w = wild_index(s[i]);
    int count = w < 0 ? 1 : t.rank - letters;
    if (w >= 0 && !r->nwild[w]) {
      r->nwild[w] = 1 + count;
      for (int k = 0; k < count; k++) r->wild[w][k] = fresh_letter(whole, r);
    } else if (w >= 0 && r->nwild[w] != 1 + count) {
      return build_error(b, f, e, "'%c' of \"%s\" stands for different numbers of axes", s[i], whole), false;
    }
    for (int k = 0; k < count; k++, axis++) {
      char c = w < 0 ? s[i] : r->wild[w][k];
      int l = (unsigned char)c;
      if (!r->owner[l]) {
        r->owner[l] = 1 + operand;
        r->dim[l] = t.dim[axis];
      } else if (!dim_eq(r->dim[l], t.dim[axis])) {
        return build_error(b, f, e, "%s has %s, %s wants %s", operand_text(b, e, r->owner[l] - 1),
                           build_dim_text(b->arena, r->dim[l]), name, build_dim_text(b->arena, t.dim[axis])),
               false;
      }
      r->text[r->n++] = c;
    }
  }
  return true;
}

static Value run_einsum(Builder *b, Frame *f, const Ast *e, Value *arg) {
  if (arg[0].kind != V_STR) return build_error(b, f, e, "the first argument is a rule such as \"btd,ed->bte\"");
  const char *s = arg[0].str, *comma = strchr(s, ','), *arrow = strstr(s, "->");
  if (!comma || !arrow || comma > arrow || strlen(s) > 24)
    return build_error(b, f, e, "\"%.40s\" is not a rule such as \"btd,ed->bte\"", s);
  Val v[2] = {tensor_arg(b, f, e, arg, 1), tensor_arg(b, f, e, arg, 2)};
  if (!v[0] || !v[1]) return bad;
  Rule r = {0};
  if (!rule_operand(b, f, e, s, s, (size_t)(comma - s), 1, val_type(b->g, v[0]), &r)) return bad;
  r.text[r.n++] = ',';
  if (!rule_operand(b, f, e, s, comma + 1, (size_t)(arrow - comma - 1), 2, val_type(b->g, v[1]), &r)) return bad;
  r.text[r.n++] = '-';
  r.text[r.n++] = '>';
  int rank = 0;
  for (const char *c = arrow + 2; *c; c++) {
    int w = wild_index(*c);
    if (w < 0 && (!islower((unsigned char)*c) || !r.owner[(unsigned char)*c]))
      return build_error(b, f, e, "'%c' right of the arrow of \"%s\" is in no operand", *c, s);
    for (int k = 0; w >= 0 ? k < MAX_RANK && r.wild[w][k] : k < 1; k++, rank++) {
      if (rank == MAX_RANK) return build_error(b, f, e, "a result of more than %d axes", (int)MAX_RANK);
      r.text[r.n++] = w < 0 ? *c : r.wild[w][k];
    }
  }
  return value_tensor(b, graph_contract(b->g, intern(r.text), v[0], v[1], build_span(f, e)));
}

/* ---- reductions and axes */

static bool one_axis(Builder *b, Frame *f, const Ast *e, Value v, Type t, int64_t *out) {
  if (v.kind == V_NUM && v.dim.n && v.dim.name) {
    for (int i = 0; i < t.rank; i++)
      if (t.dim[i].name == v.dim.name) return *out = i, true;
    return build_error(b, f, e, "%s has no axis '%s'", build_shape_text(b->arena, t), v.dim.name), false;
  }
  if (!int_value(b, f, e, v, "an axis", -t.rank, t.rank - 1, out)) return false;
  if (*out < 0) *out += t.rank;
  return true;
}

/* The axes an argument names, ascending; the last one if it is absent. */
static bool axes_arg(Builder *b, Frame *f, const Ast *e, Value v, Type t, int64_t *axes, int *n) {
  *n = 0;
  if (!t.rank) return build_error(b, f, e, "the operand is a scalar"), false;
  bool used[MAX_RANK] = {0};
  Value one = v;
  const Value *item = v.kind == V_LIST ? v.item : &one;
  int count = v.kind == V_LIST ? v.n : 1;
  if (v.kind == V_ABSENT) one = value_num(-1);
  for (int i = 0; i < count; i++) {
    int64_t axis;
    if (!one_axis(b, f, e, item[i], t, &axis)) return false;
    if (used[axis]) return build_error(b, f, e, "axis %d is named twice", (int)axis), false;
    used[axis] = true;
  }
  for (int i = 0; i < t.rank; i++)
    if (used[i]) axes[(*n)++] = i;
  return true;
}

static Value run_sum(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v = tensor_arg(b, f, e, arg, 0);
  int64_t axes[MAX_RANK];
  int n;
  if (!v || !axes_arg(b, f, e, arg[1], val_type(b->g, v), axes, &n)) return bad;
  return value_tensor(b, graph_sum(b->g, v, n, axes, build_span(f, e)));
}

static Value run_max(Builder *b, Frame *f, const Ast *e, Value *arg) {
  if (arg[1].kind != V_ABSENT) return build_ew(b, f, e, OP_max, arg, 2);
  Val v = tensor_arg(b, f, e, arg, 0);
  return add_op(b, f, e, OP_rowmax, &v, 1, NULL, 0, NULL);
}

static Value run_size(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v = tensor_arg(b, f, e, arg, 0);
  int64_t axes[MAX_RANK];
  int n;
  if (!v) return bad;
  Type t = val_type(b->g, v);
  if (!axes_arg(b, f, e, arg[1], t, axes, &n)) return bad;
  double size = 1;
  for (int i = 0; i < n; i++) {
    if (t.dim[axes[i]].sym)
      return build_error(b, f, e, "the extent of '%s' is known only at run time", t.dim[axes[i]].name);
    size *= (double)t.dim[axes[i]].n;
  }
  return value_num(size);
}

/* x repeated along the axes that `like` has after those of x. */
static Value run_spread(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v[2] = {tensor_arg(b, f, e, arg, 0), tensor_arg(b, f, e, arg, 1)};
  if (!v[0] || !v[1]) return bad;
  Type t = val_type(b->g, v[0]), to = val_type(b->g, v[1]);
  int64_t axes[MAX_RANK];
  if (t.rank > to.rank)
    return build_error(b, f, e, "%s has more axes than %s", build_shape_text(b->arena, t),
                       build_shape_text(b->arena, to));
  for (int i = 0; i < t.rank; i++) {
    if (!dim_eq(t.dim[i], to.dim[i]))
      return build_error(b, f, e, "%s and %s don't line up at their first axes: %s against %s",
                         build_shape_text(b->arena, t), build_shape_text(b->arena, to),
                         build_dim_text(b->arena, t.dim[i]), build_dim_text(b->arena, to.dim[i]));
    axes[i] = i;
  }
  if (t.rank == to.rank) return arg[0];
  to.dt = t.dt;
  return value_tensor(b, graph_broadcast(b->g, v[0], to, axes, build_span(f, e)));
}

/* ---- shapes */

static Value run_reshape(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v = tensor_arg(b, f, e, arg, 0);
  if (!v) return bad;
  if (arg[1].kind != V_LIST || arg[1].n > MAX_RANK)
    return build_error(b, f, e, "the shape is a list of at most %d extents", (int)MAX_RANK);
  Type t = {.dt = val_type(b->g, v).dt, .rank = arg[1].n};
  for (int i = 0; i < t.rank; i++) {
    Value x = arg[1].item[i];
    int64_t n;
    if (x.kind == V_NUM && x.dim.n) {
      t.dim[i] = x.dim;
    } else {
      if (!int_value(b, f, e, x, "an extent", 1, MAX_EXTENT, &n)) return bad;
      t.dim[i] = dim_const(n);
    }
  }
  return add_op(b, f, e, OP_reshape, &v, 1, NULL, 0, &t);
}

static Value run_transpose(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v = tensor_arg(b, f, e, arg, 0);
  if (!v) return bad;
  Type t = val_type(b->g, v);
  if (arg[1].kind != V_LIST || arg[1].n != t.rank)
    return build_error(b, f, e, "the order is a list of the %d axes", t.rank);
  int64_t perm[MAX_RANK];
  for (int i = 0; i < t.rank; i++)
    if (!one_axis(b, f, e, arg[1].item[i], t, &perm[i])) return bad;
  Attr a = attr_ints("perm", t.rank, perm);
  return add_op(b, f, e, OP_transpose, &v, 1, &a, 1, NULL);
}

static Value run_cast(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v = tensor_arg(b, f, e, arg, 0);
  if (!v) return bad;
  Type t = val_type(b->g, v);
  if (arg[1].kind != V_STR || !dtype_parse(arg[1].str, &t.dt))
    return build_error(b, f, e, "the second argument is a dtype such as f32");
  return add_op(b, f, e, OP_cast, &v, 1, NULL, 0, &t);
}

/* ---- indices */

static Value run_op2(Builder *b, Frame *f, const Ast *e, Value *arg, OpKind op) {
  Val v[2] = {tensor_arg(b, f, e, arg, 0), tensor_arg(b, f, e, arg, 1)};
  return add_op(b, f, e, op, v, 2, NULL, 0, NULL);
}

static Value run_lookup(Builder *b, Frame *f, const Ast *e, Value *arg) {
  return run_op2(b, f, e, arg, OP_gather);
}

static Value run_pick(Builder *b, Frame *f, const Ast *e, Value *arg) {
  return run_op2(b, f, e, arg, OP_pick);
}

static Value run_stop(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v = tensor_arg(b, f, e, arg, 0);
  return add_op(b, f, e, OP_stop, &v, 1, NULL, 0, NULL);
}

static Value run_valid(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v = tensor_arg(b, f, e, arg, 0);
  return add_op(b, f, e, OP_valid, &v, 1, NULL, 0, NULL);
}

static Value run_onehot(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v = tensor_arg(b, f, e, arg, 0);
  if (!v) return bad;
  Type t = val_type(b->g, v);
  int64_t n = arg[1].dim.n;
  if (t.rank == MAX_RANK) return build_error(b, f, e, "a result of more than %d axes", (int)MAX_RANK);
  if (!n && !int_value(b, f, e, arg[1], "the extent", 1, MAX_EXTENT, &n)) return bad;
  t.dim[t.rank++] = arg[1].dim.n ? arg[1].dim : dim_const(n);
  t.dt = DT_f32;
  return add_op(b, f, e, OP_onehot, &v, 1, NULL, 0, &t);
}

/* 0, 1, ... as far as a run-time extent reaches is data: the input that is fed with positions, made when it is first
 * needed (the draft run finds that out; in the real one it is declared with the others). */
static Val positions_input(Builder *b, Dim d, Span at) {
  for (int i = 0; i < b->ninputs; i++) {
    const InputSpec *in = &b->input[i];
    if (!strcmp(in->source, "positions") && in->type.rank == 1 && dim_eq(in->type.dim[0], d)) return in->val;
  }
  if (strcmp(d.name, "T") || graph_find_input(b->g, "positions")) {
    diag_error(b->diags, at, "the extent of '%s' is known only at run time", d.name);
    return 0;
  }
  InputSpec in = {.name = intern("positions"), .source = intern("positions"), .at = at};
  in.type = (Type){.dt = DT_i32, .rank = 1, .dim = {d}};
  in.val = graph_input(b->g, in.name, IN_DATA, in.type, at);
  b->input[b->ninputs++] = in;
  return in.val;
}

static Val positions(Builder *b, Dim d, Span at) {
  if (d.sym) return positions_input(b, d, at);
  Type t = {.dt = DT_i32, .rank = 1, .dim = {d}};
  Attr a = attr_str("expr", "i");
  return graph_add(b->g, OP_table, NULL, 0, &a, 1, &t, at);
}

static Value run_range(Builder *b, Frame *f, const Ast *e, Value *arg) {
  int64_t n = arg[0].dim.n;
  if (arg[0].kind == V_BAD) return bad;
  if (!n && !int_value(b, f, e, arg[0], "the extent", 1, MAX_EXTENT, &n)) return bad;
  return value_tensor(b, positions(b, arg[0].dim.n ? arg[0].dim : dim_const(n), build_span(f, e)));
}

/* ---- dropout */

/* Half of the key of random numbers, which the runtime sets for each micro-batch. */
static Val dropout_key(Builder *b, const char *name, Span at) {
  const Input *in = graph_find_input(b->g, name);
  return in ? in->val : graph_input(b->g, intern(name), IN_DATA, type_scalar(DT_i32), at);
}

static Value run_dropout(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val x = tensor_arg(b, f, e, arg, 0);
  if (!x || arg[1].kind == V_BAD) return bad;
  double rate = arg[1].kind == V_NUM && !arg[1].dim.sym ? arg[1].num : -1;
  if (!(rate >= 0 && rate < 1)) return build_error(b, f, e, "the rate is a number from 0 to below 1");
  if (rate == 0) return value_tensor(b, x);
  Span at = build_span(f, e);
  Type scalar = type_scalar(DT_i32);
  Attr stream = attr_str("expr", intern(arena_printf(b->arena, "%d", b->ndropouts++))), a = attr_num("rate", rate);
  Val v[4] = {x, dropout_key(b, "dropout.key0", at), dropout_key(b, "dropout.key1", at)};
  v[3] = graph_add(b->g, OP_table, NULL, 0, &stream, 1, &scalar, at); /* an operand: layers have one kernel */
  return add_op(b, f, e, OP_dropout, v, 4, &a, 1, NULL);
}

/* ---- attention */

static Value run_rope(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v[4] = {tensor_arg(b, f, e, arg, 0), tensor_arg(b, f, e, arg, 1), tensor_arg(b, f, e, arg, 2)};
  if (!v[0] || !v[1] || !v[2]) return bad;
  Type t = val_type(b->g, v[0]);
  const char *style = arg[3].kind == V_STR ? arg[3].str : "half";
  if (strcmp(style, "half") && strcmp(style, "pairs"))
    return build_error(b, f, e, "style '%s' is neither half nor pairs", style);
  if (t.rank != 4)
    return build_error(b, f, e, "x has shape %s; expected [batch, time, heads, extent]", build_shape_text(b->arena, t));
  v[3] = arg[4].kind == V_ABSENT ? positions(b, t.dim[1], build_span(f, e)) : tensor_arg(b, f, e, arg, 4);
  Attr a = attr_str("style", intern(style));
  return add_op(b, f, e, OP_rope, v, 4, &a, 1, NULL);
}

static Value run_attend(Builder *b, Frame *f, const Ast *e, Value *arg) {
  Val v[3] = {tensor_arg(b, f, e, arg, 0), tensor_arg(b, f, e, arg, 1), tensor_arg(b, f, e, arg, 2)};
  if (!v[0] || !v[1] || !v[2]) return bad;
  Type t = val_type(b->g, v[0]);
  int64_t causal = 0, window = 0;
  if (t.rank != 4)
    return build_error(b, f, e, "q has shape %s; expected [batch, time, heads, extent]", build_shape_text(b->arena, t));
  if (arg[3].kind != V_ABSENT && !int_value(b, f, e, arg[3], "causal", 0, 1, &causal)) return bad;
  double scale = 1 / sqrt((double)t.dim[3].n);
  if (arg[4].kind == V_NUM && !arg[4].dim.sym)
    scale = arg[4].num;
  else if (arg[4].kind != V_ABSENT)
    return build_error(b, f, e, "scale is a number");
  if (arg[5].kind != V_ABSENT && !int_value(b, f, e, arg[5], "window", 0, MAX_EXTENT, &window)) return bad;
  Attr a[] = {attr_int("causal", causal), attr_num("scale", scale), attr_int("window", window)};
  return add_op(b, f, e, OP_attend, v, 3, a, window ? 3 : 2, NULL);
}

const Builtin builtin_table[] = {
    {"einsum",
     3,
     {"rule", "x", "y"},
     run_einsum,
     "sum of products by an index rule; * and + stand for the axes no letter names"},
    {"lookup", 2, {"table", "ids"}, run_lookup, "rows of a table at i32 indices"},
    {"sum",
     1,
     {"x", "axis"},
     run_sum,
     "sum over an axis or a list of axes, by name or number; the last one by default"},
    {"max", 1, {"x", "y"}, run_max, "of one operand: the largest along the last axis; of two: the larger, elementwise"},
    {"size", 1, {"x", "axis"}, run_size, "the extent of an axis (the product over a list), a number"},
    {"spread", 2, {"x", "like"}, run_spread, "x repeated along the axes that `like` has after those of x"},
    {"reshape", 2, {"x", "shape"}, run_reshape, "the same elements in row-major order under another shape"},
    {"transpose", 2, {"x", "order"}, run_transpose, "the axes in another order, by name or number"},
    {"cast", 2, {"x", "to"}, run_cast, "to another dtype"},
    {"stop", 1, {"x"}, run_stop, "x; no gradient flows"},
    {"pick", 2, {"x", "ids"}, run_pick, "the element of each row of x at an i32 index; 0 where it is negative"},
    {"valid", 1, {"ids"}, run_valid, "1 where an i32 index is not negative, else 0"},
    {"onehot", 2, {"ids", "n"}, run_onehot, "rows with a 1 at the index along a new last axis of extent n"},
    {"range", 1, {"n"}, run_range, "0, 1, ..., n - 1 as i32"},
    {"dropout",
     2,
     {"x", "rate"},
     run_dropout,
     "in training: every element 0 with probability `rate`, else times 1 / (1 - rate); elsewhere x"},
    {"rope",
     3,
     {"x", "cos", "sin", "style", "positions"},
     run_rope,
     "rotary embedding of x[b, t, heads, e] by tables [positions, e/2]; style half (default) or pairs; positions 0, 1, "
     "... by default"},
    {"attend",
     3,
     {"q", "k", "v", "causal", "scale", "window"},
     run_attend,
     "attention of q[b, t, heads, e] over k and v[b, s, groups, e]; causal 0 or 1; scale 1/sqrt(e) by default; window: "
     "how many keys, its own the last, a query sees (0: all)"},
};
const int builtin_count = LEN(builtin_table);

const Builtin *builtin_find(const char *name) {
  for (int i = 0; i < builtin_count; i++)
    if (!strcmp(builtin_table[i].name, name)) return &builtin_table[i];
  return NULL;
}
