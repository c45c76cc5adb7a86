/* serve: from a model's forward graph to the one that answers requests.
 *
 * @forward was built for one row of T tokens, T an extent of run time, with its positions as data. What a row of tokens means is
 * free as long as no op mixes them but attention: so the row holds the tokens of any number of sequences side by side, and
 * attention goes by pages of keys and values.
 *
 *   @forward  tokens i32[1, T], positions i32[T], params -> logits [1, T, V]
 *   @serve    the same, and data: positions i32[T] for attention; slots i32[T], where each token's keys and values go; starts
 *             i32[S + 1], table i32[S, W]: the sequences and their pages; rows i32[R], the tokens whose logits are wanted; states
 *             keys.I [P, g, e, 64] and values.I [P, g, 64, e] for each attention -> logits f32[R, V], and hidden f32[R, d],
 *             what the logits are a product of, where they are one. All these names begin with "serve.", for parameters have
 *             names of the model's own
 *
 * T, S, R and P are run-time extents: one program serves every mix. Attention must be causal; any other op that takes
 * elements of several tokens is an error at its place. What only the loss needs is left out, and so is dropout. */
#include "ir/rule.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

#include <string.h>

typedef struct Serve {
  Rewrite r;
  Val slots, positions, starts, table, rows;
  int nattend;
} Serve;

static Dim symbol(const char *name, int64_t bound) {
  return (Dim){.n = bound, .name = intern(name), .sym = true};
}

/* The axis of tokens; -1: none; -2: more than one. */
static int time_axis(Type t) {
  int axis = -1;
  for (int i = 0; i < t.rank; i++)
    if (t.dim[i].sym && !strcmp(t.dim[i].name, "T")) axis = axis == -1 ? i : -2;
  return axis;
}

static bool mixed(const Graph *g, const Node *n) {
  return diag_hint(g->mod->diags, n->span,
                   "what is served is computed token by token; only causal attention looks back",
                   "%s takes elements of several tokens", op_info[n->op].name);
}

static bool sums_time(const Graph *g, const Node *n) {
  Rule r;
  const char *err;
  if (!rule_parse(node_attr(n, "rule")->str, &r, &err)) return true;
  for (int k = 0; k < 2; k++) {
    int axis = time_axis(val_type(g, n->args[k]));
    if (axis >= 0 && rule_summed(&r, k ? r.b[axis] : r.a[axis])) return true;
  }
  return false;
}

/* Is every element of the results made from one token? */
static bool by_token(const Graph *g, const Node *n) {
  Type x = n->nargs ? val_type(g, n->args[0]) : (Type){0};
  int axis = time_axis(x);
  for (int k = 0; k < n->nres; k++)
    if (time_axis(val_type(g, n->res + (Val)k)) == -2) return false;
  switch (n->op) {
  case OP_sum: {
    const Attr *axes = node_attr(n, "axes");
    for (int i = 0; i < axes->n; i++)
      if (axes->ints[i] == axis) return false;
    return true;
  }
  case OP_rowmax:
  case OP_pick: return axis < 0 || axis != x.rank - 1;
  case OP_contract: return !sums_time(g, n);
  case OP_gather: return axis < 0;
  case OP_reshape: /* rows stay rows: nothing but extents of 1 stands before the tokens */
    for (int k = 0; k < 2; k++) {
      Type t = k ? val_type(g, n->res) : x;
      for (int i = 0; i < time_axis(t); i++)
        if (t.dim[i].sym || t.dim[i].n != 1) return false;
    }
    return true;
  case OP_const:
  case OP_table:
  case OP_cast:
  case OP_stop:
  case OP_broadcast:
  case OP_transpose:
  case OP_onehot:
  case OP_valid:
  case OP_rope: return true;
  default: return op_info[n->op].ew;
  }
}

/* ---- attention by pages */

static Val page_state(Serve *s, const char *name, Type x, bool keys, Span at) {
  Module *m = s->r.to->mod;
  Type t = {.dt = m->compute, .rank = 4, .dim = {symbol("P", m->serve.pages), x.dim[2]}};
  t.dim[keys ? 2 : 3] = x.dim[3];
  t.dim[keys ? 3 : 2] = dim_const(PAGE_KEYS);
  return graph_input(s->r.to, intern(name), IN_STATE, t, at);
}

/* States are inputs, and inputs come before all nodes. */
static bool declare_pages(Serve *s, const bool *live) {
  const Graph *g = s->r.from;
  Arena *a = g->mod->arena;
  int count = 0;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (n->op != OP_attend || !live[n->res]) continue;
    Type q = val_type(g, n->args[0]), k = val_type(g, n->args[1]);
    if (!node_attr(n, "causal")->i || time_axis(q) != 1 || time_axis(k) != 1 || q.dim[0].sym || q.dim[0].n != 1)
      return diag_error(g->mod->diags, n->span,
                        "attention that is not causal over the tokens cannot be served token by token");
    page_state(s, arena_printf(a, "serve.keys.%d", count), k, true, n->span);
    page_state(s, arena_printf(a, "serve.values.%d", count), k, false, n->span);
    count++;
  }
  return true;
}

static Val write_pages(Serve *s, OpKind op, const char *name, Val x, Span at) {
  Val args[] = {graph_find_input(s->r.to, name)->val, s->slots, x};
  Val v = graph_add(s->r.to, op, args, 3, NULL, 0, NULL, at);
  if (v) graph_output(s->r.to, name, v);
  return v;
}

static bool attend(Serve *s, const Node *n) {
  Graph *to = s->r.to;
  Arena *a = to->mod->arena;
  int i = s->nattend++;
  const Val *map = s->r.map;
  Val k = write_pages(s, OP_page_keys, intern(arena_printf(a, "serve.keys.%d", i)), map[n->args[1]], n->span);
  Val v = write_pages(s, OP_page_values, intern(arena_printf(a, "serve.values.%d", i)), map[n->args[2]], n->span);
  if (!k || !v) return false;
  Val args[] = {map[n->args[0]], k, v, s->positions, s->starts, s->table};
  Attr attrs[2] = {*node_attr(n, "scale")};
  const Attr *window = node_attr(n, "window");
  if (window) attrs[1] = *window;
  return (s->r.map[n->res] = graph_add(to, OP_attend_pages, args, 6, attrs, window ? 2 : 1, NULL, n->span)) != 0;
}

/* ---- inputs, outputs */

static Val data_input(Serve *s, const char *name, int rank, Dim a, Dim b) {
  Type t = {.dt = DT_i32, .rank = rank, .dim = {a, b}};
  return graph_input(s->r.to, intern(name), IN_DATA, t, (Span){0});
}

static bool declare(Serve *s, const bool *live, Dim tokens) {
  const Graph *g = s->r.from;
  Module *m = s->r.to->mod;
  for (int i = 0; i < g->ninputs; i++) {
    const Input *in = &g->inputs[i];
    if (in->kind != IN_DATA || !live[in->val]) continue;
    Type t = val_type(g, in->val);
    bool one_row = t.rank == 2 && !t.dim[0].sym && t.dim[0].n == 1;
    if (t.dt != DT_i32 || time_axis(t) != t.rank - 1 || !(t.rank == 1 || one_row))
      return diag_error(m->diags, in->span, "input '%s': what is served is fed with tokens and their positions alone",
                        in->name);
    rewrite_input(&s->r, in);
  }
  s->positions = data_input(s, "serve.positions", 1, tokens, (Dim){0});
  s->slots = data_input(s, "serve.slots", 1, tokens, (Dim){0});
  s->starts = data_input(s, "serve.starts", 1, symbol("S1", m->serve.seqs + 1), (Dim){0});
  s->table = data_input(s, "serve.table", 2, symbol("S", m->serve.seqs), dim_const(m->serve.width));
  s->rows = data_input(s, "serve.rows", 1, symbol("R", m->serve.rows), (Dim){0});
  for (int i = 0; i < g->ninputs; i++)
    if (g->inputs[i].kind == IN_PARAM && live[g->inputs[i].val]) rewrite_input(&s->r, &g->inputs[i]);
  return declare_pages(s, live);
}

/* The rows wanted of x [1, T, n], in f32. */
static bool output_rows(Serve *s, const char *name, Val x, Span at) {
  Graph *g = s->r.to;
  Type t = val_type(g, x), flat = {.dt = t.dt, .rank = 2, .dim = {t.dim[1], t.dim[2]}};
  Val v = graph_add(g, OP_reshape, &x, 1, NULL, 0, &flat, at);
  if (v) v = graph_add(g, OP_gather, (Val[]){v, s->rows}, 2, NULL, 0, NULL, at);
  if (v && t.dt != DT_f32) {
    Type f = val_type(g, v);
    f.dt = DT_f32;
    v = graph_add(g, OP_cast, &v, 1, NULL, 0, &f, at);
  }
  if (v) graph_output(g, name, v);
  return v != 0;
}

static bool is_rows(Type t) {
  return t.rank == 3 && time_axis(t) == 1 && !t.dim[0].sym && t.dim[0].n == 1;
}

/* What the logits need of the forward graph. */
static bool *needed(const Graph *g, Val logits) {
  bool *live = NEW_ARRAY(g->mod->arena, bool, g->nvals);
  live[logits] = true;
  for (int i = g->nnodes; i-- > 0;) {
    const Node *n = &g->nodes[i];
    bool any = false;
    for (int k = 0; k < n->nres; k++) any = any || live[n->res + (Val)k];
    if (!any) continue;
    live[n->res] = true;
    for (int k = 0; k < (n->op == OP_dropout ? 1 : n->nargs); k++) live[n->args[k]] = true;
  }
  return live;
}

static bool make_serve(Module *into, const Graph *f) {
  const Output *logits = graph_find_output(f, "logits");
  if (!logits || !is_rows(val_type(f, logits->val)))
    return diag_error(into->diags, (Span){0}, "the model gives no 'logits' for each token: there is nothing to serve");
  Serve s = {.r = rewrite_empty(into, f, "serve")};
  Dim tokens = val_type(f, logits->val).dim[1];
  bool *live = needed(f, logits->val);
  if (!declare(&s, live, tokens)) return false;
  bool ok = true;
  for (int i = 0; i < f->nnodes; i++) {
    const Node *n = &f->nodes[i];
    if (!n->nres || !live[n->res]) continue;
    if (n->op == OP_dropout)
      s.r.map[n->res] = s.r.map[n->args[0]];
    else if (n->op == OP_attend)
      ok = attend(&s, n) && ok;
    else if (!by_token(f, n))
      ok = mixed(f, n);
    else if (ok && !rewrite_copy(&s.r, n))
      return false;
    if (!ok && !into->diags->n) return false;
  }
  if (!ok) return false;
  const Node *last = val_node(f, logits->val);
  if (last && last->op == OP_contract && is_rows(val_type(f, last->args[0])) &&
      !output_rows(&s, "serve.hidden", s.r.map[last->args[0]], last->span))
    return false;
  return output_rows(&s, "serve.logits", s.r.map[logits->val], last ? last->span : (Span){0});
}

static bool serve(Module *into, const Graph *g) {
  if (!strcmp(g->name, "forward") && g->mod->serve.seqs) return make_serve(into, g);
  Rewrite r = rewrite_begin(into, g);
  for (int k = 0; k < g->nnodes; k++)
    if (!rewrite_copy(&r, &g->nodes[k]) && g->nodes[k].nres) return false;
  rewrite_outputs(&r);
  return true;
}

Module *pass_serve(Module *m, const Target *t) {
  Module *out = rewrite_module(m);
  return rewrite_graphs(m, out, serve) ? out : NULL;
}
