/* Values at a point: the one place where elementwise ops, broadcasts, gathers and loads become Kernel IR.
 * Every lowering walks a space with a Cursor and asks for values here. */
#include "codegen/lower.h"
#include "ir/expr.h"
#include <assert.h>
#include <string.h>

KV lower_extent(Kernel *k, Dim d) {
  return d.sym ? k_param(k, d.name) : k_ic(k, d.n);
}

KV lower_extents(Kernel *k, const Space *s, int group) {
  KV n = k_ic(k, 1);
  for (int i = s->start[group]; i < s->start[group + 1]; i++) n = k_mul(k, n, lower_extent(k, s->dim[i]));
  return n;
}

void lower_share(Kernel *k, KV units, int64_t grain, KV *lo, KV *hi) {
  KV g = k_ic(k, grain), th = k_op0(k, K_thread), n = k_op0(k, K_threads);
  KV blocks = k_i2(k, K_idiv, k_add(k, units, k_ic(k, grain - 1)), g);
  *lo = k_min(k, k_mul(k, k_i2(k, K_idiv, k_mul(k, blocks, th), n), g), units);
  *hi = k_min(k, k_mul(k, k_i2(k, K_idiv, k_mul(k, blocks, k_add(k, th, k_ic(k, 1))), n), g), units);
}

/* ---- expressions */

static KOp step_op(ExprOp op) {
  switch (op) {
  case EX_ADD: return K_fadd;
  case EX_SUB: return K_fsub;
  case EX_MUL: return K_fmul;
  case EX_DIV: return K_fdiv;
  case EX_NEG: return K_fneg;
  case EX_LT: return K_flt;
  case EX_GT: return K_fgt;
  case EX_LE: return K_fle;
  case EX_GE: return K_fge;
  case EX_EQ: return K_feq;
  case EX_SELECT: return K_select;
  case EX_SQRT: return K_sqrt;
  case EX_ABS: return K_fabs;
  case EX_FMA: return K_fma;
  case EX_ROUND: return K_round;
  case EX_FLOOR: return K_floor;
  case EX_POW2: return K_pow2;
  case EX_EXPONENT: return K_exponent;
  case EX_MANTISSA: return K_mantissa;
  default: return K_COUNT; /* no kernel form: build-time only */
  }
}

KV lower_math(Kernel *k, const char *text, const KV *args, int lanes) {
  static const char *const names[] = {"a", "b", "c"};
  const Expr *e = expr_exact(text, names, 3);
  KV v[512];
  assert(e->n <= LEN(v));
  for (int i = 0; i < e->n; i++) {
    const ExprStep *s = &e->step[i];
    if (s->op == EX_NUM) {
      v[i] = k_fc(k, s->num, lanes);
    } else if (s->op == EX_VAR) {
      v[i] = args[s->n];
    } else {
      KOp op = step_op(s->op);
      assert(op != K_COUNT);
      int n = op == K_select || op == K_fma ? 3 : strlen(kop_info[op].operands) > 1 ? 2 : 1;
      v[i] = k_f(k, op, v[s->arg[0]], n > 1 ? v[s->arg[1]] : 0, n > 2 ? v[s->arg[2]] : 0);
    }
  }
  return v[e->n - 1];
}

KV lower_rounded(Lower *lo, Val v, KV x) {
  return val_type(lo->g, v).dt == DT_bf16 ? k_f(lo->k, K_tobf16, x, 0, 0) : x;
}

/* ---- cursor */

Cursor cursor_new(Lower *lo, const Space *s, int vgroup) {
  Cursor c = {.lo = lo, .s = s, .vgroup = vgroup, .lanes = 1};
  c.full = NEW_ARRAY(lo->tmp, KV, lo->g->nvals);
  c.rows = NEW_ARRAY(lo->tmp, KV, lo->g->nvals);
  c.given = NEW_ARRAY(lo->tmp, bool, lo->g->nvals);
  return c;
}

void cursor_begin(Cursor *c, int lanes, KV count) {
  c->lanes = lanes;
  c->count = count;
  memset(c->full, 0, sizeof(KV) * (size_t)c->lo->g->nvals);
}

void cursor_rows_reset(Cursor *c) {
  memset(c->rows, 0, sizeof(KV) * (size_t)c->lo->g->nvals);
  memset(c->given, 0, sizeof(bool) * (size_t)c->lo->g->nvals);
  cursor_begin(c, 1, 0);
}

bool cursor_is_full(const Cursor *c, Val v) {
  return c->vgroup >= 0 && space_has(c->s, c->lo->g, v, c->vgroup);
}

void cursor_set(Cursor *c, Val v, KV x) {
  (cursor_is_full(c, v) ? c->full : c->rows)[v] = x;
  c->given[v] = true;
}

void cursor_unflatten(Cursor *c, KV flat, int n) {
  Kernel *k = c->lo->k;
  for (int i = n - 1; i >= 0; i--) {
    KV e = lower_extents(k, c->s, i);
    c->idx[i] = i ? k_i2(k, K_imod, flat, e) : flat;
    if (i) flat = k_i2(k, K_idiv, flat, e);
  }
}

KV cursor_address(Cursor *c, Val v) {
  const Graph *g = c->lo->g;
  Kernel *k = c->lo->k;
  Type t = val_type(g, v);
  KV at = k_ic(k, 0), stride = k_ic(k, 1);
  for (int i = t.rank - 1; i >= 0;) {
    int axis = c->s->map[v][i], group = space_group(c->s, axis), n = c->s->start[group + 1] - c->s->start[group];
    at = k_add(k, at, k_mul(k, c->idx[group], stride));
    /* the whole group is present and in order (make_groups), so its last axis has the unit step */
    for (int j = 0; j < n; j++, i--) stride = k_mul(k, stride, lower_extent(k, t.dim[i]));
  }
  return at;
}

/* Elements of v between neighbours along the vector group. */
static KV lane_stride(Cursor *c, Val v) {
  Kernel *k = c->lo->k;
  Type t = val_type(c->lo->g, v);
  KV stride = k_ic(k, 1);
  int last = c->s->start[c->vgroup + 1] - 1;
  for (int i = t.rank - 1; i >= 0 && c->s->map[v][i] != last; i--) stride = k_mul(k, stride, lower_extent(k, t.dim[i]));
  return stride;
}

/* Lane j's distance from the cursor's place; lanes beyond the count take the last valid element's. */
static KV lane_offset(Cursor *c, int j) {
  Kernel *k = c->lo->k;
  return c->count ? k_min(k, k_ic(k, j), k_sub(k, c->count, k_ic(k, 1))) : k_ic(k, j);
}

/* x with a scalar in lane j (the first one in all of them). */
static KV with_lane(Cursor *c, KV x, int j, KV scalar) {
  Kernel *k = c->lo->k;
  uint8_t mask[KIR_LANES];
  KV e = k_splat(k, scalar, c->lanes);
  for (int m = 0; m < c->lanes; m++) mask[m] = (uint8_t)(m == j ? c->lanes + m : m);
  return x ? k_shuffle(k, x, e, mask, c->lanes) : e;
}

static KV load_value(Cursor *c, int buf, KV at, KV stride, bool full) {
  Kernel *k = c->lo->k;
  if (!full || c->lanes == 1) return k_load(k, buf, at, 1);
  int64_t one;
  bool unit = k_const(k, stride, &one) && one == 1;
  if (unit) return c->count ? k_load_n(k, buf, at, c->count, c->lanes) : k_load(k, buf, at, c->lanes);
  if (!c->count) return k_load_s(k, buf, at, stride, c->lanes);
  KV x = 0;
  for (int j = 0; j < c->lanes; j++)
    x = with_lane(c, x, j, k_load(k, buf, k_add(k, at, k_mul(k, lane_offset(c, j), stride)), 1));
  return x;
}

static KV emit(Cursor *c, Val v, bool full);

static KV wide(Cursor *c, Val v, bool full) { /* an operand in the width that is being emitted */
  KV x = cursor_is_full(c, v) ? cursor_value(c, v) : 0;
  if (!x) x = c->rows[v] ? c->rows[v] : emit(c, v, false);
  return full && c->lanes > 1 ? k_splat(c->lo->k, x, c->lanes) : x;
}

static KV index_of(Cursor *c, Val idx) {
  return k_load_i(c->lo->k, c->lo->in_buf[idx], cursor_address(c, idx));
}

/* A gather: the table's row comes from the index, its other axes from the cursor. */
static KV emit_gather(Cursor *c, const Node *n, bool full) {
  const Graph *g = c->lo->g;
  Kernel *k = c->lo->k;
  Val table = n->args[0];
  Type t = val_type(g, table);
  KV row_size = k_ic(k, 1), at = k_ic(k, 0);
  for (int i = t.rank - 1; i >= 1; i--) {
    int axis = c->s->map[table][i], group = space_group(c->s, axis);
    if (axis == c->s->start[group + 1] - 1) at = k_add(k, at, k_mul(k, c->idx[group], row_size));
    row_size = k_mul(k, row_size, lower_extent(k, t.dim[i]));
  }
  at = k_add(k, at, k_mul(k, index_of(c, n->args[1]), row_size));
  KV stride = full && c->vgroup >= 0 ? lane_stride(c, table) : k_ic(k, 1);
  return load_value(c, c->lo->in_buf[table], at, stride, full);
}

/* x at the index along the last group, 0 where it is negative: a scalar recomputed at that one column. */
static KV emit_pick(Cursor *c, const Node *n) {
  Kernel *k = c->lo->k;
  KV idx = index_of(c, n->args[1]);
  Cursor at = *c;
  at.full = NEW_ARRAY(c->lo->tmp, KV, c->lo->g->nvals);
  at.lanes = 1;
  at.count = 0;
  at.idx[c->vgroup] = k_i2(k, K_imax, idx, k_ic(k, 0));
  KV x = cursor_value(&at, n->args[0]);
  return k_f(k, K_select, k_nonneg(k, idx), x, k_fc(k, 0, 1));
}

/* Each lane its own index: lane by lane. */
static KV emit_lanes(Cursor *c, Val v) {
  Cursor at = *c;
  KV x = 0;
  at.lanes = 1;
  at.count = 0;
  for (int j = 0; j < c->lanes; j++) {
    at.full = NEW_ARRAY(c->lo->tmp, KV, c->lo->g->nvals);
    at.idx[c->vgroup] = k_add(c->lo->k, c->idx[c->vgroup], lane_offset(c, j));
    x = with_lane(c, x, j, emit(&at, v, true));
  }
  return x;
}

static KV emit_dropout(Cursor *c, const Node *n, bool full) {
  Kernel *k = c->lo->k;
  Val v = n->res;
  double rate = node_attr(n, "rate")->num;
  int lanes = full ? c->lanes : 1;
  KV key[2] = {index_of(c, n->args[1]), index_of(c, n->args[2])};
  KV stride = lanes > 1 ? lane_stride(c, v) : k_ic(k, 0), zero = k_fc(k, 0, lanes);
  bool far = type_elements(val_type(c->lo->g, v)) > UINT32_MAX;
  KV dropped =
      lower_dropped(k, key, index_of(c, n->args[3]), cursor_address(c, v), stride, far, dropout_limit(rate), lanes);
  KV x = k_f(k, K_fmul, wide(c, n->args[0], full), k_fc(k, 1 / (1 - rate), lanes), 0);
  return lower_rounded(c->lo, v, k_f(k, K_select, dropped, zero, x));
}

static KV emit(Cursor *c, Val v, bool full) {
  const Graph *g = c->lo->g;
  Kernel *k = c->lo->k;
  int lanes = full ? c->lanes : 1;
  const Node *n = val_node(g, v);
  if (!n)
    return load_value(c, c->lo->in_buf[v], cursor_address(c, v), full && c->lanes > 1 ? lane_stride(c, v) : 0, full);
  const OpInfo *info = &op_info[n->op];
  if (info->ew) {
    KV a[3] = {0};
    for (int i = 0; i < n->nargs; i++) a[i] = wide(c, n->args[i], full);
    return lower_rounded(c->lo, v, lower_math(k, info->value, a, lanes));
  }
  if ((n->op == OP_gather || n->op == OP_valid || n->op == OP_onehot) && lanes > 1 &&
      cursor_is_full(c, n->args[n->nargs - 1]))
    return emit_lanes(c, v);
  switch (n->op) {
  case OP_const: return k_fc(k, node_attr(n, "value")->num, lanes);
  case OP_cast: {
    DType from = val_type(g, n->args[0]).dt, to = val_type(g, v).dt;
    KV x = wide(c, n->args[0], full);
    bool whole = from == DT_i32 || from == DT_i8; /* integers go by the bits of i32 */
    if (from == to || (from == DT_i8 && to == DT_i32)) return x;
    if (whole) x = k_f(k, K_tofloat, x, 0, 0);
    if (to == DT_i8) x = lower_math(k, "a < -128. ? -128. : a > 127. ? 127. : a", &x, lanes);
    return to == DT_i32 || to == DT_i8 ? k_f(k, K_toint, x, 0, 0) : lower_rounded(c->lo, v, x);
  }
  case OP_stop:
  case OP_transpose:
  case OP_broadcast: return wide(c, n->args[0], full);
  case OP_gather: return emit_gather(c, n, full);
  case OP_valid: return k_nonneg(k, index_of(c, n->args[0]));
  case OP_onehot:
    return k_hot(k, index_of(c, n->args[0]), c->idx[space_group(c->s, c->s->map[v][val_type(g, v).rank - 1])], lanes);
  case OP_pick: return emit_pick(c, n);
  case OP_dropout: return emit_dropout(c, n, full);
  default: break;
  }
  assert(!"value has no form at a point");
  return 0;
}

KV cursor_value(Cursor *c, Val v) {
  bool full = cursor_is_full(c, v);
  KV *memo = full ? c->full : c->rows;
  if (memo[v]) return full || c->lanes == 1 ? memo[v] : k_splat(c->lo->k, memo[v], c->lanes);
  if (!full) { /* not made ahead: emitted here, and not kept, for an inner scope must not leak */
    KV x = emit(c, v, false);
    return c->lanes == 1 ? x : k_splat(c->lo->k, x, c->lanes);
  }
  return c->full[v] = emit(c, v, true);
}

static bool is_reduction(OpKind op) {
  return op == OP_sum || op == OP_rowmax || op_is_contract(op);
}

/* seen: what was looked at for this question and was no reason to say no; each value once, not along all paths to it. */
static bool is_ready(const Cursor *c, Val v, bool *seen) {
  if (c->given[v] || c->rows[v] || seen[v]) return true;
  const Node *n = val_node(c->lo->g, v);
  if (!n) return true;
  if (is_reduction(n->op)) return false;
  seen[v] = true;
  for (int i = 0; i < n->nargs; i++)
    if (!is_ready(c, n->args[i], seen)) return false;
  return true;
}

bool cursor_ready(const Cursor *c, Val v) {
  Arena *tmp = arena_new();
  bool ready = is_ready(c, v, NEW_ARRAY(tmp, bool, c->lo->g->nvals));
  arena_free(tmp);
  return ready;
}

void cursor_rows(Cursor *c) {
  const Graph *g = c->lo->g;
  int lanes = c->lanes;
  c->lanes = 1;
  for (int i = 0; i < g->ninputs; i++) {
    Val v = g->inputs[i].val;
    if (c->s->known[v] && !cursor_is_full(c, v) && !c->rows[v] && val_type(g, v).dt != DT_i32 &&
        !(val_type(g, v).rank && c->s->map[v][0] == MAP_INDIRECT))
      c->rows[v] = emit(c, v, false);
  }
  for (int i = 0; i < g->nnodes; i++) {
    Val v = g->nodes[i].res;
    if (c->s->known[v] && !cursor_is_full(c, v) && !c->rows[v] && !is_reduction(g->nodes[i].op) && cursor_ready(c, v))
      c->rows[v] = emit(c, v, false);
  }
  c->lanes = lanes;
}

void cursor_store(Cursor *c, int output, KV x) {
  Kernel *k = c->lo->k;
  Val v = c->lo->g->outputs[output].val;
  int buf = c->lo->out_buf[output];
  KV at = cursor_address(c, v);
  if (!cursor_is_full(c, v) || c->lanes == 1) {
    k_store(k, buf, at, x);
    return;
  }
  KV stride = lane_stride(c, v);
  int64_t one;
  if (k_const(k, stride, &one) && one == 1) {
    if (c->count)
      k_store_n(k, buf, at, x, c->count);
    else if (type_bytes(val_type(c->lo->g, v)) > c->lo->t->l3)
      k_stream(k, buf, at, x); /* nothing of it is left in the caches when the next kernel comes */
    else
      k_store(k, buf, at, x);
  } else if (!c->count) {
    k_store_s(k, buf, at, x, stride);
  } else {
    for (int j = 0; j < c->lanes; j++) {
      k_if(k, k_i2(k, K_ilt, k_ic(k, j), c->count));
      k_store(k, buf, k_add(k, at, k_mul(k, k_ic(k, j), stride)), k_extract(k, x, j));
      k_end(k);
    }
  }
}

void cursor_store_lanes(Cursor *c, KV at, void *unused) {
  const Graph *g = c->lo->g;
  KV *out = NEW_ARRAY(c->lo->tmp, KV, g->noutputs);
  (void)unused;
  c->idx[c->vgroup] = at;
  for (int i = 0; i < g->noutputs; i++) /* all loads before any store: outputs may share inputs' buffers */
    if (cursor_is_full(c, g->outputs[i].val)) out[i] = cursor_value(c, g->outputs[i].val);
  for (int i = 0; i < g->noutputs; i++)
    if (cursor_is_full(c, g->outputs[i].val)) cursor_store(c, i, out[i]);
}

void cursor_store_rows(Cursor *c) {
  const Graph *g = c->lo->g;
  cursor_begin(c, 1, 0);
  for (int i = 0; i < g->noutputs; i++)
    if (!cursor_is_full(c, g->outputs[i].val)) cursor_store(c, i, cursor_value(c, g->outputs[i].val));
}

/* ---- reductions and lane loops */

KV lower_combine(Kernel *k, KV a, KV b, bool max) {
  return max ? k_f(k, K_select, k_f(k, K_fgt, a, b, 0), a, b) : k_f(k, K_fadd, a, b, 0);
}

KV lower_tree(Kernel *k, const KV *acc, int nv, int lanes, bool max) {
  KV v[KIR_LANES];
  memcpy(v, acc, sizeof(KV) * (size_t)nv);
  for (; nv > 1; nv /= 2)
    for (int j = 0; j < nv / 2; j++) v[j] = lower_combine(k, v[j], v[j + nv / 2], max);
  KV x = v[0];
  for (int s = lanes / 2; s >= 1; s /= 2) {
    uint8_t mask[KIR_LANES];
    for (int j = 0; j < lanes; j++) mask[j] = (uint8_t)(j < s ? j + s : j);
    x = lower_combine(k, x, k_shuffle(k, x, x, mask, lanes), max);
  }
  return k_extract(k, x, 0);
}

void lower_lanes(Cursor *c, KV lo, KV hi, LaneBody *body, void *ctx) {
  Kernel *k = c->lo->k;
  int lanes = c->lo->t->lanes;
  KV n = k_sub(k, hi, lo), whole = k_add(k, lo, k_mul(k, k_i2(k, K_idiv, n, k_ic(k, lanes)), k_ic(k, lanes)));
  KV i = k_for(k, lo, whole, lanes);
  cursor_begin(c, lanes, 0);
  body(c, i, ctx);
  k_end(k);
  int64_t a, b;
  if (k_const(k, whole, &a) && k_const(k, hi, &b) && a == b) return;
  KV tail = k_sub(k, hi, whole);
  k_if(k, k_i2(k, K_ilt, k_ic(k, 0), tail));
  cursor_begin(c, lanes, tail);
  body(c, whole, ctx);
  k_end(k);
  cursor_begin(c, lanes, 0);
}
