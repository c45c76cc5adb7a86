/* Simplification: each rule stands beside the pattern it matches.
 *
 * The nodes are walked in order and built anew; before a node is appended, the rules of its op look at it and at the nodes that
 * define its operands in the new graph. A rule returns a value to use instead, which it may build through `build`, so what a
 * rule makes is simplified in turn; every rule leaves fewer or smaller nodes, so this ends. Nodes that no output needs are
 * not looked at; those that lose their last user here are dce's to take.
 *
 * Rules keep the value as real arithmetic has it. Bits may change where a sum is associated anew or a constant folded:
 * that is no offence against the numerical law, because evaluator and kernels both run the graph that comes out of here.
 * x + 0 stays, for it is not x where x is -0. */
#include "ir/expr.h"
#include "ir/rule.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

#include <string.h>

typedef struct Simplify {
  Graph *g; /* the new graph */
  int depth;
} Simplify;

/* A node that is about to be built. */
typedef struct Want {
  OpKind op;
  Val arg[3];
  int nargs;
  const Attr *attrs;
  int nattrs;
  Type type; /* of the result, for ops that take it */
  Span at;
} Want;

static Val build(Simplify *s, Want w);

static Val ew(Simplify *s, OpKind op, Val a, Val b, Val c, Span at) {
  return build(s, (Want){.op = op, .arg = {a, b, c}, .nargs = op_info[op].nargs, .at = at});
}

static Val shaped(Simplify *s, OpKind op, Val x, Type to, const Attr *attr, Span at) {
  return build(s,
               (Want){.op = op, .arg = {x}, .nargs = 1, .attrs = attr, .nattrs = attr ? 1 : 0, .type = to, .at = at});
}

static const Node *def(const Simplify *s, Val v, OpKind op) {
  const Node *n = val_node(s->g, v);
  return n && n->op == op ? n : NULL;
}

static bool is_const(const Simplify *s, Val v, double *x) {
  const Node *n = def(s, v, OP_const);
  if (n) *x = node_attr(n, "value")->num;
  return n != NULL;
}

static bool is(const Simplify *s, Val v, double x) {
  double y;
  return is_const(s, v, &y) && y == x;
}

static Type type(const Simplify *s, Val v) {
  return val_type(s->g, v);
}

/* broadcast(const 0) */
static bool is_zeros(const Simplify *s, Val v) {
  const Node *n = def(s, v, OP_broadcast);
  return n && is(s, n->args[0], 0);
}

static const Attr *want_attr(const Want *w, const char *name) {
  for (int i = 0; i < w->nattrs; i++)
    if (strcmp(w->attrs[i].name, name) == 0) return &w->attrs[i];
  return NULL;
}

/* ---- elementwise */

/* op(const...) -> const, in double: rounded once, where it is used */
static Val fold(Simplify *s, const Want *w) {
  static const char *const names[] = {"a", "b", "c"};
  double x[3];
  for (int i = 0; i < w->nargs; i++)
    if (!is_const(s, w->arg[i], &x[i])) return 0;
  double y = expr_eval(expr_table(op_info[w->op].value, names, w->nargs), x);
  return y == y && y - y == 0 ? graph_const(s->g, y, w->at) : 0; /* text has no inf, NaN stays where it arises */
}

/* op(..., broadcast(scalar), ...) -> op(..., scalar, ...), where another operand keeps the shape;
 * op(broadcast(scalar), scalar, ...) -> broadcast(op(scalar, ...)) */
static Val unspread(Simplify *s, const Want *w) {
  Want n = *w;
  int spread = 0, whole = 0;
  const Node *last = NULL;
  for (int i = 0; i < w->nargs; i++) {
    const Node *b = def(s, w->arg[i], OP_broadcast);
    if (b && type(s, b->args[0]).rank == 0) {
      n.arg[i] = b->args[0];
      last = b;
      spread++;
    } else {
      whole += type(s, w->arg[i]).rank > 0;
    }
  }
  if (!spread) return 0;
  if (whole) return build(s, n);
  return shaped(s, OP_broadcast, build(s, n), type(s, last->res), last->attrs, w->at);
}

/* op(broadcast(x), broadcast(y), scalar) -> broadcast(op(x, y, scalar)), all broadcast alike: fewer elements to work on */
static Val small(Simplify *s, const Want *w) {
  Want n = *w;
  const Node *first = NULL;
  for (int i = 0; i < w->nargs; i++) {
    if (type(s, w->arg[i]).rank == 0) continue;
    const Node *b = def(s, w->arg[i], OP_broadcast);
    if (!b) return 0;
    const Attr *axes = node_attr(b, "axes"), *of = first ? node_attr(first, "axes") : axes;
    if (axes->n != of->n || memcmp(axes->ints, of->ints, sizeof(int64_t) * (size_t)of->n) != 0) return 0;
    first = b;
    n.arg[i] = b->args[0];
  }
  return first ? shaped(s, OP_broadcast, build(s, n), type(s, first->res), first->attrs, w->at) : 0;
}

/* x + scatter_add(y, i, u) -> scatter_add(x + y, i, u); y of zeros leaves. Gradients of an embedding so go to their
 * accumulator row by row. */
static Val add_scatter(Simplify *s, const Want *w) {
  for (int i = 0; i < 2; i++) {
    const Node *n = def(s, w->arg[i], OP_scatter_add);
    Val x = w->arg[1 - i];
    if (!n || !shape_eq(type(s, x), type(s, n->res))) continue;
    if (!is_zeros(s, n->args[0])) x = ew(s, OP_add, x, n->args[0], 0, w->at);
    return build(s, (Want){.op = OP_scatter_add, .arg = {x, n->args[1], n->args[2]}, .nargs = 3, .at = n->span});
  }
  return 0;
}

static Val elementwise(Simplify *s, const Want *w) {
  Val a = w->arg[0], b = w->arg[1], r = 0;
  const Node *n;
  double c;
  if ((r = fold(s, w)) || (r = unspread(s, w)) || (r = small(s, w))) return r;
  bool keeps_a = w->nargs > 1 && type(s, a).rank >= type(s, b).rank; /* the result has a's shape */
  bool keeps_b = w->nargs > 1 && type(s, b).rank >= type(s, a).rank;
  switch (w->op) {
  case OP_mul:
    if (is(s, b, 1) && keeps_a) return a;
    if (is(s, a, 1) && keeps_b) return b;
    if (is(s, b, -1) && keeps_a) return ew(s, OP_neg, a, 0, 0, w->at);
    if (is(s, a, -1) && keeps_b) return ew(s, OP_neg, b, 0, 0, w->at);
    return 0;
  case OP_div: return is(s, b, 1) && keeps_a ? a : 0;
  case OP_neg:
    if ((n = def(s, a, OP_neg))) return n->args[0];
    return 0;
  case OP_sub: /* x - 0; x - -y -> x + y */
    if (is_const(s, b, &c) && c == 0 && 1 / c > 0 && keeps_a) return a;
    if ((n = def(s, b, OP_neg))) return ew(s, OP_add, a, n->args[0], 0, w->at);
    return 0;
  case OP_add: /* x + -y -> x - y */
    if ((r = add_scatter(s, w))) return r;
    if ((n = def(s, b, OP_neg))) return ew(s, OP_sub, a, n->args[0], 0, w->at);
    if ((n = def(s, a, OP_neg))) return ew(s, OP_sub, b, n->args[0], 0, w->at);
    return 0;
  case OP_select: /* a constant condition; equal branches */
    if (is_const(s, a, &c)) {
      Val pick = c != 0 ? b : w->arg[2], other = c != 0 ? w->arg[2] : b;
      if (type(s, pick).rank >= type(s, other).rank) return pick;
    }
    if (b == w->arg[2] && type(s, b).rank >= type(s, a).rank) return b;
    return 0;
  default: return 0;
  }
}

/* ---- shapes */

/* To the same shape; of a broadcast */
static Val broadcast(Simplify *s, const Want *w) {
  Type from = type(s, w->arg[0]);
  const Attr *axes = want_attr(w, "axes");
  if (from.rank == w->type.rank) return w->arg[0]; /* axes rise, so all are there */
  const Node *n = def(s, w->arg[0], OP_broadcast);
  if (!n) return 0;
  Attr both = *node_attr(n, "axes");
  for (int i = 0; i < both.n; i++) both.ints[i] = axes->ints[both.ints[i]];
  return shaped(s, OP_broadcast, n->args[0], w->type, &both, w->at);
}

/* To the same shape; of a reshape; of a broadcast scalar */
static Val reshape(Simplify *s, const Want *w) {
  const Node *n;
  if (shape_eq(type(s, w->arg[0]), w->type)) return w->arg[0];
  if ((n = def(s, w->arg[0], OP_reshape))) return shaped(s, OP_reshape, n->args[0], w->type, NULL, w->at);
  if ((n = def(s, w->arg[0], OP_broadcast)) && type(s, n->args[0]).rank == 0)
    return shaped(s, OP_broadcast, n->args[0], w->type, n->attrs, w->at);
  return 0;
}

/* To the same dtype; to bf16 and back to f32 and to bf16 again */
static Val cast(Simplify *s, const Want *w) {
  if (type(s, w->arg[0]).dt == w->type.dt) return w->arg[0];
  const Node *n = def(s, w->arg[0], OP_cast);
  bool back = n && w->type.dt == DT_bf16 && type(s, w->arg[0]).dt == DT_f32 && type(s, n->args[0]).dt == DT_bf16;
  return back ? n->args[0] : 0;
}

/* The identity; of a transpose */
static Val transpose(Simplify *s, const Want *w) {
  const Attr *perm = want_attr(w, "perm");
  bool same = true;
  for (int i = 0; i < perm->n; i++) same = same && perm->ints[i] == i;
  if (same) return w->arg[0];
  const Node *n = def(s, w->arg[0], OP_transpose);
  if (!n) return 0;
  Attr both = *node_attr(n, "perm");
  for (int i = 0; i < both.n; i++) both.ints[i] = node_attr(n, "perm")->ints[perm->ints[i]];
  return shaped(s, OP_transpose, n->args[0], (Type){0}, &both, w->at);
}

/* sum(-x) -> -sum(x) */
static Val sum(Simplify *s, const Want *w) {
  const Node *n = def(s, w->arg[0], OP_neg);
  if (!n) return 0;
  Want of = *w;
  of.arg[0] = n->args[0];
  return ew(s, OP_neg, build(s, of), 0, 0, w->at);
}

/* ---- gathers before the work on their rows */

enum { MAX_ROWS_MEMO = 64 };
typedef struct Rows {
  Simplify *s;
  Val index; /* i32[n] */
  Dim rows;  /* of the table */
  Span at;
  bool moved;  /* past some node that computes */
  bool *whole; /* by value: all of its rows are needed anyway */
  int nwhole;
  struct {
    Val v, to;
    int lead;
  } memo[MAX_ROWS_MEMO];
  int n;
} Rows;

static Val rows_of(Rows *r, Val v, int lead);

/* [n] ++ the dims of t after its first `lead` */
static Type rows_type(const Rows *r, Type t, int lead) {
  Type o = {.dt = t.dt, .rank = t.rank - lead + 1, .partial = t.partial};
  o.dim[0] = type(r->s, r->index).dim[0];
  for (int i = lead; i < t.rank; i++) o.dim[i - lead + 1] = t.dim[i];
  return o;
}

/* How many leading dims of t number the same rows; 0: none do. A run-time extent is the only one but for those of 1. */
static int leading(const Rows *r, Type t) {
  int64_t have = 1;
  for (int k = 0; k < t.rank; k++) {
    Dim d = t.dim[k];
    if (r->rows.sym && have == 1 && dim_eq(d, r->rows)) return k + 1;
    if (d.sym || (have *= d.n) > r->rows.n || (r->rows.sym && have > 1)) return 0;
    if (!r->rows.sym && have == r->rows.n) return k + 1;
  }
  return 0;
}

/* reshape(u): the leading dims of u that hold the same rows */
static Val rows_reshape(Rows *r, const Node *n, int lead) {
  int k = leading(r, type(r->s, n->args[0]));
  if (!k) return 0;
  Val x = rows_of(r, n->args[0], k);
  return x ? shaped(r->s, OP_reshape, x, rows_type(r, type(r->s, n->res), lead), NULL, r->at) : 0;
}

static Val rows_elementwise(Rows *r, const Node *n, int lead) {
  Val arg[3] = {0};
  for (int i = 0; i < n->nargs; i++) {
    arg[i] = type(r->s, n->args[i]).rank == 0 ? n->args[i] : rows_of(r, n->args[i], lead);
    if (!arg[i]) return 0;
  }
  return ew(r->s, n->op, arg[0], arg[1], arg[2], n->span);
}

static Val rows_cast(Rows *r, const Node *n, int lead) {
  if (type(r->s, n->args[0]).dt == DT_i32) return 0;
  Val x = rows_of(r, n->args[0], lead);
  return x ? shaped(r->s, OP_cast, x, rows_type(r, type(r->s, n->res), lead), NULL, n->span) : 0;
}

/* The rows run along letters of the first operand alone, which lead it and the result: one letter takes their place. */
static Val rows_contract(Rows *r, const Node *n, int lead) {
  Rule rule;
  const char *err;
  if (!rule_parse(node_attr(n, "rule")->str, &rule, &err)) return 0;
  if (lead > rule.na || lead > rule.no) return 0;
  for (int i = 0; i < lead; i++)
    if (rule.out[i] != rule.a[i] || rule_find(rule.b, rule.nb, rule.a[i]) >= 0) return 0;
  Val a = rows_of(r, n->args[0], lead);
  if (!a) return 0;
  memmove(rule.a + 1, rule.a + lead, (size_t)(rule.na - lead));
  memmove(rule.out + 1, rule.out + lead, (size_t)(rule.no - lead));
  rule.na -= lead - 1;
  rule.no -= lead - 1;
  char text[3 * MAX_RANK + 4];
  rule_text(&rule, text);
  Attr attr = attr_str("rule", text);
  return build(
      r->s, (Want){.op = OP_contract, .arg = {a, n->args[1]}, .nargs = 2, .attrs = &attr, .nattrs = 1, .at = n->span});
}

/* All of the rows' axes are the operand's, or none is. */
static Val rows_broadcast(Rows *r, const Node *n, int lead) {
  Attr axes = *node_attr(n, "axes");
  Val x = n->args[0];
  int in = 0;
  while (in < axes.n && axes.ints[in] < lead) in++;
  if (in > 0) {
    if (in != lead || !(x = rows_of(r, x, lead))) return 0;
    for (int i = lead; i < axes.n; i++) axes.ints[i - lead + 1] = axes.ints[i] - lead + 1;
    axes.ints[0] = 0;
    axes.n -= lead - 1;
  } else {
    for (int i = 0; i < axes.n; i++) axes.ints[i] -= lead - 1;
  }
  return shaped(r->s, OP_broadcast, x, rows_type(r, type(r->s, n->res), lead), &axes, n->span);
}

/* sum and rowmax over axes behind the rows' */
static Val rows_reduce(Rows *r, const Node *n, int lead) {
  Type t = type(r->s, n->args[0]);
  Attr axes = n->op == OP_sum ? *node_attr(n, "axes") : attr_ints("axes", 1, (int64_t[]){t.rank - 1});
  if (axes.ints[0] < lead) return 0;
  Val x = rows_of(r, n->args[0], lead);
  if (!x) return 0;
  for (int i = 0; i < axes.n; i++) axes.ints[i] -= lead - 1;
  return build(r->s,
               (Want){.op = n->op, .arg = {x}, .nargs = 1, .attrs = &axes, .nattrs = n->op == OP_sum, .at = n->span});
}

/* Rows `index` of v, whose first `lead` dims number r->rows rows; where no rule helps, a gather. */
static Val rows_of(Rows *r, Val v, int lead) {
  for (int i = 0; i < r->n; i++)
    if (r->memo[i].v == v && r->memo[i].lead == lead) return r->memo[i].to;
  const Node *n = val_node(r->s->g, v);
  Node copy;
  Val to = 0;
  if (n && r->n < MAX_ROWS_MEMO && !((int)v < r->nwhole && r->whole[v])) {
    copy = *n; /* building below moves the nodes */
    if (copy.op == OP_reshape)
      to = rows_reshape(r, &copy, lead);
    else if (op_info[copy.op].ew)
      to = rows_elementwise(r, &copy, lead);
    else if (copy.op == OP_cast)
      to = rows_cast(r, &copy, lead);
    else if (copy.op == OP_contract)
      to = rows_contract(r, &copy, lead);
    else if (copy.op == OP_broadcast)
      to = rows_broadcast(r, &copy, lead);
    else if (copy.op == OP_sum || copy.op == OP_rowmax)
      to = rows_reduce(r, &copy, lead);
    if (to && copy.op != OP_reshape) r->moved = true;
  }
  if (!to) {
    Type t = type(r->s, v), flat = rows_type(r, t, lead);
    flat.dim[0] = r->rows;
    Val x = lead == 1 ? v : shaped(r->s, OP_reshape, v, flat, NULL, r->at);
    if (x) to = graph_add(r->s->g, OP_gather, (Val[]){x, r->index}, 2, NULL, 0, NULL, r->at);
  }
  if (to && r->n < MAX_ROWS_MEMO) {
    r->memo[r->n].v = v;
    r->memo[r->n].lead = lead;
    r->memo[r->n++].to = to;
  }
  return to;
}

/* Values that an op reads which does not work row by row: attention needs the keys of all positions. */
static void find_whole(Rows *r) {
  const Graph *g = r->s->g;
  r->nwhole = g->nvals;
  r->whole = NEW_ARRAY(g->mod->arena, bool, g->nvals);
  for (int i = g->nnodes - 1; i >= 0; i--) {
    const Node *n = &g->nodes[i];
    bool by_rows = op_info[n->op].ew || n->op == OP_contract || n->op == OP_broadcast || n->op == OP_reshape ||
                   n->op == OP_cast || n->op == OP_sum || n->op == OP_rowmax;
    for (int k = 0; k < n->nargs; k++)
      if (!by_rows || r->whole[n->res]) r->whole[n->args[k]] = true;
  }
}

/* gather(f(x), i) -> f(gather(x, i)) for f that works row by row, when fewer rows are taken than there are: the logits of one
 * position need the last layers at that position alone. */
static Val gather(Simplify *s, const Want *w) {
  Type table = type(s, w->arg[0]), index = type(s, w->arg[1]);
  const Node *n = val_node(s->g, w->arg[0]);
  if (index.rank != 1 || index.dim[0].n >= table.dim[0].n || !n) return 0;
  if (n->op != OP_reshape && n->op != OP_contract && n->op != OP_cast && !op_info[n->op].ew) return 0;
  Rows r = {.s = s, .index = w->arg[1], .rows = table.dim[0], .at = w->at};
  find_whole(&r);
  Val v = rows_of(&r, w->arg[0], 1);
  return r.moved ? v : 0;
}

/* ---- the engine */

static Val rules(Simplify *s, const Want *w) {
  if (op_info[w->op].ew) return elementwise(s, w);
  switch (w->op) {
  case OP_broadcast: return broadcast(s, w);
  case OP_reshape: return reshape(s, w);
  case OP_cast: return cast(s, w);
  case OP_transpose: return transpose(s, w);
  case OP_sum: return sum(s, w);
  case OP_gather: return gather(s, w);
  default: return 0;
  }
}

/* The value of a node: by a rule, or by appending it. Rules are tried to a depth no sensible graph comes near. */
static Val build(Simplify *s, Want w) {
  for (int i = 0; i < w.nargs; i++)
    if (!w.arg[i]) return 0;
  if (s->depth < 200) {
    s->depth++;
    Val v = rules(s, &w);
    s->depth--;
    if (v) return v;
  }
  return graph_add(s->g, w.op, w.arg, w.nargs, w.attrs, w.nattrs, &w.type, w.at);
}

static bool simplify(Module *into, const Graph *g) {
  Rewrite r = rewrite_begin(into, g);
  Simplify s = {.g = r.to};
  bool *live = rewrite_live(g, into->arena);
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (n->nres == 0 || !live[n->res]) continue;
    if (n->nargs > 3 || n->nres != 1) {
      if (!rewrite_copy(&r, n)) return false;
      continue;
    }
    Want w = {.op = n->op, .nargs = n->nargs, .attrs = n->attrs, .nattrs = n->nattrs, .at = n->span};
    w.type = rewrite_type(&r, g->types[n->res]);
    for (int k = 0; k < n->nargs; k++) w.arg[k] = r.map[n->args[k]];
    if (!(r.map[n->res] = build(&s, w))) return false;
  }
  rewrite_outputs(&r);
  return true;
}

Module *pass_simplify(Module *m, const Target *t) {
  Module *out = rewrite_module(m);
  return rewrite_graphs(m, out, simplify) ? out : NULL;
}
