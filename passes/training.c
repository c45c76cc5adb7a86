/* From a model to its training program: graph @forward becomes @micro, @update, @eval and, where it has logits, @sample.
 *
 *   @forward  data, params -> loss (row losses of any rank), maybe logits
 *   @micro    loss_sum += L and grad.P += gradient of L * inv_count, for every param P; L is the sum of all row losses
 *   @update   the gradients' global norm, clipping, AdamW (Loshchilov and Hutter 2019), grad.P = 0; leaves grad_norm
 *   @eval     loss_sum += L; dropout, here and in @sample, is the identity
 *   @sample   the logits of one position: rows of logits[B, T, V] numbered through, `position` i32[1] -> next_logits[1, V]
 *
 * States are inputs and outputs of one name: grad.P, m.P, v.P with the shape of P in f32, and the scalars loss_sum and
 * grad_norm. What the runtime gives anew is data: inv_count, and for @update lr, beta1, beta2, eps, weight_decay, clip,
 * bias1 = 1 - beta1^t, bias2 = 1 - beta2^t. A param that the loss does not depend on has no gradient to add, so its
 * grad.P stays 0. Graphs other than @forward pass through, and so does that of a module that is to serve. */
#include "passes/passes.h"
#include "passes/rewrite.h"

#include <string.h>

static const char *prefixed(Module *m, const char *prefix, const char *name) {
  return arena_printf(m->arena, "%s%s", prefix, name);
}

static Val scalar_input(Graph *g, const char *name, InputKind kind) {
  return graph_input(g, name, kind, type_scalar(DT_f32), (Span){0});
}

static Type state_type(Type t) {
  t.dt = DT_f32;
  return t;
}

static Val cast_to(Graph *g, Val x, DType dt, Span at) {
  Type t = val_type(g, x);
  if (t.dt == dt) return x;
  t.dt = dt;
  return graph_add(g, OP_cast, &x, 1, NULL, 0, &t, at);
}

/* The sum over every axis, in f32; the last axis first, so that no single row is as long as the whole. */
static Val sum_all(Graph *g, Val x, Span at) {
  static const int64_t axes[MAX_RANK] = {0, 1, 2, 3, 4, 5};
  x = cast_to(g, x, DT_f32, at);
  int rank = x ? val_type(g, x).rank : 0;
  if (rank > 0) x = graph_sum(g, x, 1, (int64_t[]){rank - 1}, at);
  return x && rank > 1 ? graph_sum(g, x, rank - 1, axes, at) : x;
}

static Span span_of(const Graph *g, Val v) {
  return val_node(g, v) ? val_node(g, v)->span : val_input(g, v)->span;
}

static void copy_inputs(Rewrite *r, InputKind kind) {
  for (int i = 0; i < r->from->ninputs; i++)
    if (r->from->inputs[i].kind == kind) rewrite_input(r, &r->from->inputs[i]);
}

/* The nodes of @forward; then L. drop: with dropout. */
static Val copy_forward(Rewrite *r, bool drop) {
  for (int i = 0; i < r->from->nnodes; i++) {
    const Node *n = &r->from->nodes[i];
    if (n->op == OP_dropout && !drop)
      r->map[n->res] = r->map[n->args[0]];
    else if (!rewrite_copy(r, n))
      return 0;
  }
  const Output *loss = graph_find_output(r->from, "loss");
  return sum_all(r->to, r->map[loss->val], span_of(r->from, loss->val));
}

static bool make_micro(Module *into, const Graph *f) {
  Rewrite r = rewrite_empty(into, f, "micro");
  Graph *g = r.to;
  int n = 0;
  Val *params = NEW_ARRAY(into->arena, Val, f->ninputs), *grads = NEW_ARRAY(into->arena, Val, f->ninputs);
  Val *sums = NEW_ARRAY(into->arena, Val, f->ninputs);
  copy_inputs(&r, IN_DATA);
  Val inv_count = scalar_input(g, "inv_count", IN_DATA);
  copy_inputs(&r, IN_PARAM);
  for (int i = 0; i < f->ninputs; i++) {
    const Input *in = &f->inputs[i];
    if (in->kind != IN_PARAM) continue;
    params[n] = r.map[in->val];
    sums[n++] =
        graph_input(g, prefixed(into, "grad.", in->name), IN_STATE, state_type(val_type(g, r.map[in->val])), in->span);
  }
  Val loss_sum = scalar_input(g, "loss_sum", IN_STATE), loss = copy_forward(&r, true);
  if (!loss || !autodiff(g, loss, inv_count, params, n, grads)) return false;
  graph_output(g, "loss_sum", graph_ew(g, OP_add, loss_sum, loss, 0, span_of(g, loss)));
  for (int i = 0; i < n; i++) {
    const Input *in = val_input(g, params[i]);
    if (!grads[i]) continue;
    Val d = cast_to(g, grads[i], DT_f32, in->span);
    graph_output(g, prefixed(into, "grad.", in->name), graph_ew(g, OP_add, sums[i], d, 0, in->span));
  }
  return true;
}

static bool make_eval(Module *into, const Graph *f) {
  Rewrite r = rewrite_empty(into, f, "eval");
  copy_inputs(&r, IN_DATA);
  copy_inputs(&r, IN_PARAM);
  Val loss_sum = scalar_input(r.to, "loss_sum", IN_STATE), loss = copy_forward(&r, false);
  if (!loss) return false;
  graph_output(r.to, "loss_sum", graph_ew(r.to, OP_add, loss_sum, loss, 0, span_of(r.to, loss)));
  return true;
}

/* ---- @update */

typedef struct Update {
  Graph *g;
  Val lr, beta1, beta2, eps, scale; /* scale: of the gradients, from clipping */
  Val rest1, rest2;                 /* 1 - beta */
  Val keep;                         /* 1 - lr * weight_decay */
  Val step;                         /* lr / bias1 */
  Val root;                         /* 1 / sqrt(bias2) */
} Update;

static Val ew(Graph *g, OpKind op, Val a, Val b, Span at) {
  return graph_ew(g, op, a, b, 0, at);
}

/* m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p = (1 - lr wd) p - lr (m / bias1) / (sqrt(v / bias2) + eps) */
static void adamw(Update *u, const char *name, bool decay, Val p, Val grad, Val m, Val v, Span at) {
  Graph *g = u->g;
  Module *mod = g->mod;
  DType dt = val_type(g, p).dt;
  grad = ew(g, OP_mul, grad, u->scale, at);
  m = ew(g, OP_add, ew(g, OP_mul, m, u->beta1, at), ew(g, OP_mul, grad, u->rest1, at), at);
  Val square = ew(g, OP_mul, ew(g, OP_mul, grad, grad, at), u->rest2, at);
  v = ew(g, OP_add, ew(g, OP_mul, v, u->beta2, at), square, at);
  Val below = ew(g, OP_add, ew(g, OP_mul, ew(g, OP_sqrt, v, 0, at), u->root, at), u->eps, at);
  Val move = ew(g, OP_div, ew(g, OP_mul, m, u->step, at), below, at);
  Val from = cast_to(g, p, DT_f32, at);
  if (decay) from = ew(g, OP_mul, from, u->keep, at);
  graph_output(g, name, cast_to(g, ew(g, OP_sub, from, move, at), dt, at));
  graph_output(g, prefixed(mod, "m.", name), m);
  graph_output(g, prefixed(mod, "v.", name), v);
  Val zero = graph_broadcast(g, graph_const(g, 0, at), state_type(val_type(g, p)), NULL, at);
  graph_output(g, prefixed(mod, "grad.", name), zero);
}

static void update_scalars(Update *u, Val norm, Span at) {
  Graph *g = u->g;
  Val one = graph_const(g, 1, at), zero = graph_const(g, 0, at);
  Val wd = graph_find_input(g, "weight_decay")->val, clip = graph_find_input(g, "clip")->val;
  Val bias1 = graph_find_input(g, "bias1")->val, bias2 = graph_find_input(g, "bias2")->val;
  Val ratio = ew(g, OP_div, clip, ew(g, OP_add, norm, graph_const(g, 1e-6, at), at), at);
  u->scale = graph_ew(g, OP_select, ew(g, OP_gt, clip, zero, at), ew(g, OP_min, ratio, one, at), one, at);
  u->rest1 = ew(g, OP_sub, one, u->beta1, at);
  u->rest2 = ew(g, OP_sub, one, u->beta2, at);
  u->keep = ew(g, OP_sub, one, ew(g, OP_mul, u->lr, wd, at), at);
  u->step = ew(g, OP_div, u->lr, bias1, at);
  u->root = ew(g, OP_rsqrt, bias2, 0, at);
}

static bool make_update(Module *into, const Graph *f) {
  static const char *const scalars[] = {"lr", "beta1", "beta2", "eps", "weight_decay", "clip", "bias1", "bias2"};
  static const char *const states[] = {"grad.", "m.", "v."};
  Rewrite r = rewrite_empty(into, f, "update");
  Graph *g = r.to;
  for (int i = 0; i < LEN(scalars); i++) scalar_input(g, scalars[i], IN_DATA);
  copy_inputs(&r, IN_PARAM);
  int n = 0;
  Val(*state)[3] = arena_alloc(into->arena, sizeof *state * (size_t)f->ninputs);
  for (int s = 0; s < 3; s++) {
    n = 0;
    for (int i = 0; i < f->ninputs; i++) {
      const Input *in = &f->inputs[i];
      if (in->kind == IN_PARAM)
        state[n++][s] = graph_input(g, prefixed(into, states[s], in->name), IN_STATE,
                                    state_type(val_type(g, r.map[in->val])), in->span);
    }
  }
  scalar_input(g, "grad_norm", IN_STATE);

  Val norm = 0;
  for (int i = 0; i < n; i++) {
    Val grad = state[i][0];
    Span at = span_of(g, grad);
    Val square = sum_all(g, ew(g, OP_square, grad, 0, at), at);
    norm = norm ? ew(g, OP_add, norm, square, at) : square;
  }
  Span none = {0};
  norm = norm ? ew(g, OP_sqrt, norm, 0, none) : graph_const(g, 0, none);
  Update u = {.g = g, .lr = graph_find_input(g, "lr")->val, .eps = graph_find_input(g, "eps")->val};
  u.beta1 = graph_find_input(g, "beta1")->val;
  u.beta2 = graph_find_input(g, "beta2")->val;
  update_scalars(&u, norm, none);
  n = 0;
  for (int i = 0; i < f->ninputs; i++) {
    const Input *in = &f->inputs[i];
    if (in->kind != IN_PARAM) continue;
    adamw(&u, in->name, in->decay, r.map[in->val], state[n][0], state[n][1], state[n][2], in->span);
    n++;
  }
  graph_output(g, "grad_norm", norm);
  return true;
}

/* ---- @sample */

/* logits [B, T, V] of constant extents, beside tokens i32[B, T]: otherwise there is nothing to sample from. */
static bool can_sample(const Graph *f) {
  const Output *logits = graph_find_output(f, "logits");
  const Input *tokens = graph_find_input(f, "tokens");
  if (!logits || !tokens || tokens->kind != IN_DATA) return false;
  Type l = val_type(f, logits->val), t = val_type(f, tokens->val);
  return l.rank == 3 && t.rank == 2 && t.dt == DT_i32 && dim_eq(l.dim[0], t.dim[0]) && dim_eq(l.dim[1], t.dim[1]) &&
         !l.dim[0].sym && !l.dim[1].sym;
}

static bool make_sample(Module *into, const Graph *f) {
  Rewrite r = rewrite_empty(into, f, "sample");
  Graph *g = r.to;
  copy_inputs(&r, IN_DATA);
  Val position = graph_input(g, "position", IN_DATA, type_make(DT_i32, 1, (int64_t[]){1}), (Span){0});
  copy_inputs(&r, IN_PARAM);
  if (!copy_forward(&r, false)) return false;
  Val logits = r.map[graph_find_output(f, "logits")->val];
  Span at = span_of(g, logits);
  Type t = val_type(g, logits), rows = {.dt = t.dt, .rank = 2, .dim = {dim_const(t.dim[0].n * t.dim[1].n), t.dim[2]}};
  Val flat = graph_add(g, OP_reshape, &logits, 1, NULL, 0, &rows, at);
  Val next = graph_add(g, OP_gather, (Val[]){flat, position}, 2, NULL, 0, NULL, at);
  if (!next) return false;
  graph_output(g, "next_logits", cast_to(g, next, DT_f32, at));
  return true;
}

static bool check_forward(const Graph *f) {
  Diags *d = f->mod->diags;
  const Output *loss = graph_find_output(f, "loss");
  static const char *const taken[] = {"inv_count", "position", "loss_sum", "grad_norm", "lr",    "beta1",
                                      "beta2",     "eps",      "clip",     "bias1",     "bias2", "weight_decay"};
  if (!loss) return diag_error(d, (Span){0}, "@forward has no output 'loss' to train on");
  DType dt = val_type(f, loss->val).dt;
  if (dt != DT_f32 && dt != DT_bf16)
    return diag_error(d, span_of(f, loss->val), "the loss is %s; expected floating numbers", dtype_name[dt]);
  for (int i = 0; i < f->ninputs; i++) {
    const Input *in = &f->inputs[i];
    if (in->kind == IN_STATE) return diag_error(d, in->span, "@forward: %s is a state", in->name);
    for (int k = 0; k < LEN(taken); k++)
      if (strcmp(in->name, taken[k]) == 0)
        return diag_error(d, in->span, "an input can not be called '%s': training uses that name", in->name);
  }
  return true;
}

static bool training(Module *into, const Graph *g) {
  if (strcmp(g->name, "forward") == 0 && !g->mod->serve.seqs) {
    bool ok = check_forward(g) && make_micro(into, g) && make_update(into, g) && make_eval(into, g);
    return ok && (!can_sample(g) || make_sample(into, g));
  }
  Rewrite r = rewrite_begin(into, g);
  for (int k = 0; k < g->nnodes; k++)
    if (!rewrite_copy(&r, &g->nodes[k])) return false;
  rewrite_outputs(&r);
  return true;
}

Module *pass_training(Module *m, const Target *t) {
  Module *out = rewrite_module(m);
  return rewrite_graphs(m, out, training) ? out : NULL;
}
