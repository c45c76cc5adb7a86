/* Reverse-mode differentiation: appends to a graph the nodes of a scalar's gradients.
 *
 * One sweep from the loss back to the start. adj[v] is the sum of what v's users have given it so far; when the sweep
 * reaches the node that defines v, all users have been there, so adj[v] is its gradient (Baydin et al. 2018, section
 * 3.2). Only values that depend on a wanted value are followed.
 *
 * Elementwise rows: the derivative texts of ops.def, parsed once, become nodes, over the operands a, b, c, the result y and
 * its gradient dy. Other rows: grad_NAME below, found by token pasting. Gradient nodes carry the span of the node
 * they belong to.
 *
 * Must hold: adj[v] has v's type. An op without a gradient that stands between the loss and a wanted value is an
 * error, except where the op table says that none flows. */
#include "ir/expr.h"
#include "ir/rule.h"
#include "passes/rewrite.h"

#include <string.h>

typedef struct Grad {
  Graph *g;
  Val *adj;   /* by value: gradient so far; 0: none */
  bool *need; /* by value: depends on a wanted value */
} Grad;

static bool fail(Grad *s, const Node *n, const char *what) {
  return diag_error(s->g->mod->diags, n->span, "%s: no gradient%s", op_info[n->op].name, what);
}

static bool flows(const Grad *s, const Node *n, int arg) {
  return s->need[n->args[arg]];
}

/* adj[operand] += grad. */
static bool give(Grad *s, const Node *n, int arg, Val grad) {
  if (!grad) return false;
  Val x = n->args[arg];
  s->adj[x] = s->adj[x] ? graph_ew(s->g, OP_add, s->adj[x], grad, 0, n->span) : grad;
  return s->adj[x] != 0;
}

/* The sum over every axis: the last first, so that no single row is as long as the whole. */
static Val sum_all(Graph *g, Val x, Span at) {
  static const int64_t axes[MAX_RANK] = {0, 1, 2, 3, 4, 5};
  int rank = val_type(g, x).rank;
  if (rank > 0) x = graph_sum(g, x, 1, (int64_t[]){rank - 1}, at);
  return x && rank > 1 ? graph_sum(g, x, rank - 1, axes, at) : x;
}

/* A scalar of dtype dt. */
static Val scalar(Graph *g, double v, DType dt, Span at) {
  Val c = graph_const(g, v, at);
  Type want = type_scalar(dt);
  return dt == DT_f32 ? c : graph_add(g, OP_cast, &c, 1, NULL, 0, &want, at);
}

static Val cast_to(Graph *g, Val x, DType dt, Span at) {
  Type t = val_type(g, x);
  if (t.dt == dt) return x;
  t.dt = dt;
  return graph_add(g, OP_cast, &x, 1, NULL, 0, &t, at);
}

static Val spread(Graph *g, Val x, Type to, Span at) {
  int64_t axes[MAX_RANK] = {0};
  for (int i = 0; i < val_type(g, x).rank; i++) axes[i] = i;
  return graph_broadcast(g, x, to, axes, at);
}

/* ---- elementwise rows */

static OpKind op_of(const ExprStep *st) {
  switch (st->op) {
  case EX_ADD: return OP_add;
  case EX_SUB: return OP_sub;
  case EX_MUL: return OP_mul;
  case EX_DIV: return OP_div;
  case EX_NEG: return OP_neg;
  case EX_GT: return OP_gt;
  case EX_LT: return OP_lt;
  case EX_SELECT: return OP_select;
  case EX_SQRT: return OP_sqrt;
  case EX_ABS: return OP_abs;
  case EX_CALL: break;
  default: return OP_NONE;
  }
  return st->n == FN_exp    ? OP_exp
         : st->n == FN_log  ? OP_log
         : st->n == FN_tanh ? OP_tanh
         : st->n == FN_erf  ? OP_erf
                            : OP_NONE;
}

/* The text as nodes. vars: values of a, b, c, y, dy. */
static Val instantiate(Graph *g, const Expr *e, const Val vars[5], DType dt, Span at) {
  Val *v = NEW_ARRAY(g->mod->arena, Val, e->n);
  for (int i = 0; i < e->n; i++) {
    const ExprStep *st = &e->step[i];
    if (st->op == EX_VAR) {
      v[i] = vars[st->n];
    } else if (st->op == EX_NUM) {
      v[i] = scalar(g, st->num, dt, at);
    } else {
      OpKind op = op_of(st);
      if (op == OP_NONE) {
        diag_error(g->mod->diags, at, "a derivative of the op table uses an operation that no op has");
        return 0;
      }
      v[i] = graph_ew(g, op, v[st->arg[0]], v[st->arg[1]], v[st->arg[2]], at);
    }
    if (!v[i]) return 0;
  }
  return v[e->n - 1];
}

static bool grad_elementwise(Grad *s, const Node *n) {
  static const char *const names[] = {"a", "b", "c", "y", "dy"};
  const OpInfo *info = &op_info[n->op];
  Type t = val_type(s->g, n->res);
  Val vars[5] = {n->args[0], n->nargs > 1 ? n->args[1] : 0, n->nargs > 2 ? n->args[2] : 0, n->res, s->adj[n->res]};
  for (int i = 0; i < n->nargs; i++) {
    if (!flows(s, n, i)) continue;
    const Expr *e = expr_table(info->d[i], names, LEN(names));
    if (e->n == 1 && e->step[0].op == EX_NUM) continue; /* "0.": none */
    Val d = instantiate(s->g, e, vars, t.dt, n->span);
    if (d && val_type(s->g, n->args[i]).rank == 0) d = sum_all(s->g, d, n->span);
    if (!give(s, n, i, d)) return false;
  }
  return true;
}

/* ---- the other rows */

#define OP(name, ...) static bool grad_##name(Grad *s, const Node *n);
#include "ir/ops.def"

static bool grad_const(Grad *s, const Node *n) {
  return true;
}
static bool grad_table(Grad *s, const Node *n) {
  return true;
}
static bool grad_stop(Grad *s, const Node *n) {
  return true;
}
static bool grad_rowmax(Grad *s, const Node *n) {
  return true;
}
static bool grad_onehot(Grad *s, const Node *n) {
  return true;
}
static bool grad_valid(Grad *s, const Node *n) {
  return true;
}

static bool grad_cast(Grad *s, const Node *n) {
  Type t = val_type(s->g, n->args[0]), r = val_type(s->g, n->res);
  bool from = t.dt == DT_i32 || t.dt == DT_i8, to = r.dt == DT_i32 || r.dt == DT_i8;
  if (from || to) return true; /* steps: flat almost everywhere */
  return give(s, n, 0, graph_add(s->g, OP_cast, &s->adj[n->res], 1, NULL, 0, &t, n->span));
}

static bool grad_broadcast(Grad *s, const Node *n) {
  const Attr *axes = node_attr(n, "axes");
  int64_t added[MAX_RANK];
  int count = 0, k = 0;
  if (axes->n == 0) return give(s, n, 0, sum_all(s->g, s->adj[n->res], n->span));
  for (int i = 0; i < val_type(s->g, n->res).rank; i++) {
    if (k < axes->n && axes->ints[k] == i)
      k++;
    else
      added[count++] = i;
  }
  return give(s, n, 0, graph_sum(s->g, s->adj[n->res], count, added, n->span));
}

static bool grad_reshape(Grad *s, const Node *n) {
  Type t = val_type(s->g, n->args[0]);
  return give(s, n, 0, graph_add(s->g, OP_reshape, &s->adj[n->res], 1, NULL, 0, &t, n->span));
}

static bool grad_transpose(Grad *s, const Node *n) {
  const Attr *perm = node_attr(n, "perm");
  int64_t back[MAX_RANK];
  for (int i = 0; i < perm->n; i++) back[perm->ints[i]] = i;
  Attr a = attr_ints("perm", perm->n, back);
  return give(s, n, 0, graph_add(s->g, OP_transpose, &s->adj[n->res], 1, &a, 1, NULL, n->span));
}

static bool grad_sum(Grad *s, const Node *n) {
  const Attr *axes = node_attr(n, "axes");
  Type t = val_type(s->g, n->args[0]);
  int64_t kept[MAX_RANK] = {0};
  int count = 0, k = 0;
  for (int i = 0; i < t.rank; i++) {
    if (k < axes->n && axes->ints[k] == i)
      k++;
    else
      kept[count++] = i;
  }
  return give(s, n, 0, graph_broadcast(s->g, s->adj[n->res], t, kept, n->span));
}

/* The gradient of the operand with letters `of`: the result's gradient times the other operand, the rule turned around. The
 * factor that has the last of the letters stands second: a row of the result then runs along a row of that factor. */
static Val contract_grad(Grad *s, const Node *n, Val other, const char *lo, int nlo, const char *of, int nof,
                         const Rule *r) {
  bool second = nof > 0 && rule_find(lo, nlo, of[nof - 1]) >= 0;
  Rule t = {0};
  t.na = second ? r->no : nlo;
  memcpy(t.a, second ? r->out : lo, (size_t)t.na);
  t.nb = second ? nlo : r->no;
  memcpy(t.b, second ? lo : r->out, (size_t)t.nb);
  t.no = nof;
  memcpy(t.out, of, (size_t)nof);
  char text[3 * MAX_RANK + 4];
  rule_text(&t, text);
  DType dt = val_type(s->g, other).dt; /* the operands'; the result of bf16 is f32 */
  Val dy = cast_to(s->g, s->adj[n->res], dt, n->span);
  Val d = dy ? graph_contract(s->g, text, second ? dy : other, second ? other : dy, n->span) : 0;
  return d ? cast_to(s->g, d, dt, n->span) : 0;
}

static bool grad_contract(Grad *s, const Node *n) {
  Rule r;
  const char *err;
  if (!rule_parse(node_attr(n, "rule")->str, &r, &err)) return fail(s, n, "");
  if (flows(s, n, 0) && !give(s, n, 0, contract_grad(s, n, n->args[1], r.b, r.nb, r.a, r.na, &r))) return false;
  return !flows(s, n, 1) || give(s, n, 1, contract_grad(s, n, n->args[0], r.a, r.na, r.b, r.nb, &r));
}

static bool grad_contract_from(Grad *s, const Node *n) {
  return grad_contract(s, n) && (!flows(s, n, 2) || give(s, n, 2, s->adj[n->res]));
}

static bool grad_gather(Grad *s, const Node *n) {
  Type t = val_type(s->g, n->args[0]);
  Val zero = spread(s->g, scalar(s->g, 0, t.dt, n->span), t, n->span);
  Val args[] = {zero, n->args[1], s->adj[n->res]};
  return give(s, n, 0, graph_add(s->g, OP_scatter_add, args, 3, NULL, 0, NULL, n->span));
}

static bool grad_scatter_add(Grad *s, const Node *n) {
  if (flows(s, n, 2)) return fail(s, n, " of the updates"); /* would gather at indices that may be negative */
  return !flows(s, n, 0) || give(s, n, 0, s->adj[n->res]);
}

static bool grad_pick(Grad *s, const Node *n) {
  Type t = val_type(s->g, n->args[0]);
  Val hot = graph_add(s->g, OP_onehot, &n->args[1], 1, NULL, 0, &t, n->span);
  Val dy = spread(s->g, s->adj[n->res], t, n->span);
  return give(s, n, 0, graph_ew(s->g, OP_mul, hot, dy, 0, n->span));
}

static bool grad_rope(Grad *s, const Node *n) {
  if (flows(s, n, 1) || flows(s, n, 2)) return fail(s, n, " of the tables");
  const Attr *inverse = node_attr(n, "inverse");
  Attr attrs[] = {*node_attr(n, "style"), attr_int("inverse", !(inverse && inverse->i))};
  Val args[] = {s->adj[n->res], n->args[1], n->args[2], n->args[3]};
  return give(s, n, 0, graph_add(s->g, OP_rope, args, 4, attrs, attrs[1].i ? 2 : 1, NULL, n->span));
}

/* Linear, so the same mask on the gradient: it is made again, not kept. */
static bool grad_dropout(Grad *s, const Node *n) {
  Val args[] = {s->adj[n->res], n->args[1], n->args[2], n->args[3]};
  return give(s, n, 0, graph_add(s->g, OP_dropout, args, 4, n->attrs, n->nattrs, NULL, n->span));
}

static bool grad_attend(Grad *s, const Node *n) {
  if (s->adj[n->res + 1]) return fail(s, n, " through the log-sum-exp");
  Val args[] = {n->args[0], n->args[1], n->args[2], n->res, n->res + 1, s->adj[n->res]};
  Val d = graph_add(s->g, OP_attend_grad, args, 6, n->attrs, n->nattrs, NULL, n->span);
  for (int i = 0; d && i < 3; i++)
    if (flows(s, n, i) && !give(s, n, i, d + (Val)i)) return false;
  return d != 0;
}

static bool grad_attend_grad(Grad *s, const Node *n) {
  return fail(s, n, "");
}

static bool grad_page_keys(Grad *s, const Node *n) {
  return fail(s, n, ": pages are for serving");
}
static bool grad_page_values(Grad *s, const Node *n) {
  return grad_page_keys(s, n);
}
static bool grad_attend_pages(Grad *s, const Node *n) {
  return grad_page_keys(s, n);
}

static bool grad_call(Grad *s, const Node *n) {
  return fail(s, n, ": differentiate before graphs are split up");
}

typedef bool (*GradFn)(Grad *s, const Node *n);
static const GradFn grad_fn[OP_COUNT] = {
#define EW1(name, ...) [OP_##name] = grad_elementwise,
#define EW2(name, ...) [OP_##name] = grad_elementwise,
#define EW3(name, ...) [OP_##name] = grad_elementwise,
#define OP(name, ...) [OP_##name] = grad_##name,
#include "ir/ops.def"
};

bool autodiff(Graph *g, Val loss, Val seed, const Val *wrt, int nwrt, Val *grad) {
  Arena *a = g->mod->arena;
  Type t = val_type(g, loss);
  if (t.rank != 0 || t.dt != DT_f32)
    return diag_error(g->mod->diags, val_node(g, loss) ? val_node(g, loss)->span : (Span){0},
                      "only an f32 scalar has gradients");
  int nvals = g->nvals, nnodes = g->nnodes;
  Grad s = {g, NEW_ARRAY(a, Val, nvals), NEW_ARRAY(a, bool, nvals)};
  for (int i = 0; i < nwrt; i++) s.need[wrt[i]] = true;
  for (int i = 0; i < nnodes; i++) {
    const Node *n = &g->nodes[i];
    bool any = false;
    for (int k = 0; k < n->nargs; k++) any = any || s.need[n->args[k]];
    for (int k = 0; any && k < n->nres; k++) s.need[n->res + (Val)k] = true;
  }
  s.adj[loss] = seed;
  for (int i = nnodes - 1; i >= 0; i--) {
    Node n = g->nodes[i]; /* a copy: the array grows below */
    bool any = false;
    for (int k = 0; k < n.nres; k++) any = any || (s.adj[n.res + (Val)k] && s.need[n.res + (Val)k]);
    if (any && !grad_fn[n.op](&s, &n)) return false;
  }
  for (int i = 0; i < nwrt; i++) grad[i] = s.adj[wrt[i]];
  return true;
}
