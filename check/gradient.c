/* Gradients of @forward as the training pass makes them, against differences along random directions, in double.
 *
 * With grad.* and loss_sum at 0 and inv_count at 1, @micro leaves in grad.P the gradient of L, the sum of all losses, and @eval
 * leaves L. For a direction e over the elements of P, L(P + h e) - L(P - h e) over 2 h, improved once by Richardson's
 * step, must be grad.P . e. What autodiff takes as constant (stop, rowmax, comparisons, integers) is held at its value at
 * P in the runs beside it, so that both mean the same derivative. Where two step widths or the two sides disagree
 * (a kink, an overflow) nothing is concluded; a fault is what three sets of inputs agree on. With dropout, which @eval has not,
 * L is that of @micro. */
#include "check/check.h"
#include "passes/rewrite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of held nodes: recorded in one evaluation of a graph, written over in later ones. */
typedef struct Held {
  Tensor *value; /* by node */
  Arena *a;
  bool replay;
  double largest; /* finite value that any node made: rounding is a matter of these */
} Held;

static bool is_held(const Graph *g, const Node *n) {
  DType dt = val_type(g, n->res).dt;
  return n->op == OP_stop || n->op == OP_rowmax || n->op == OP_gt || n->op == OP_lt || dt == DT_i32 || dt == DT_i8;
}

static bool hold(void *ctx, const Graph *g, const Node *n, const Tensor *arg, Tensor *res) {
  Held *h = ctx;
  (void)arg;
  for (int64_t i = 0; i < type_elements(res->type); i++) {
    double x = fabs(tensor_get(res, EVAL_DOUBLE, i));
    if (isfinite(x) && x > h->largest) h->largest = x;
  }
  if (n < g->nodes || n >= g->nodes + g->nnodes || !is_held(g, n)) return true;
  Tensor *t = &h->value[n - g->nodes];
  bool whole = res->type.dt == DT_i32 || res->type.dt == DT_i8;
  size_t bytes = (whole ? 4 : 8) * (size_t)type_elements(res->type);
  if (h->replay) {
    memcpy(res->data, t->data, bytes);
  } else {
    *t = tensor_new(h->a, res->type, EVAL_DOUBLE);
    memcpy(t->data, res->data, bytes);
  }
  return true;
}

typedef struct Gradient {
  const Check *c;
  Arena *a;
  Diags *d;
  const Graph *micro, *eval; /* eval: leaves L first; @eval, or @micro itself */
  Values values;
  Binding bind[CHECK_BINDINGS];
  int nbind;
  Tensor *in; /* of eval */
  Held held;
} Gradient;

static bool constant_input(const Input *in, double *v) {
  *v = !strcmp(in->name, "inv_count");
  return *v > 0 || !strcmp(in->name, "loss_sum") || !strncmp(in->name, "grad.", 5);
}

static Tensor *inputs(Gradient *x, const Graph *g) {
  Tensor *in = NEW_ARRAY(x->a, Tensor, g->ninputs + 1);
  for (int i = 0; i < g->ninputs; i++) {
    double v;
    if (!values_input(g, i, &x->values, x->bind, x->nbind, EVAL_DOUBLE, x->a, x->d, &in[i])) return NULL;
    for (int64_t k = 0; constant_input(&g->inputs[i], &v) && k < type_elements(in[i].type); k++)
      tensor_set(&in[i], EVAL_DOUBLE, k, v);
  }
  return in;
}

/* L at the inputs as they are; NaN when the evaluation fails. */
static double loss(Gradient *x) {
  EvalWatch watch = {hold, &x->held};
  Tensor *out = NEW_ARRAY(x->a, Tensor, x->eval->noutputs);
  if (!graph_eval_watched(x->eval, EVAL_DOUBLE, x->in, x->bind, x->nbind, &watch, x->a, out, x->d)) return NAN;
  return tensor_get(out, EVAL_DOUBLE, 0);
}

static double direction(uint64_t seed, int64_t i) {
  uint64_t key[2] = {seed, (uint64_t)i}, h = hash64(key, sizeof key);
  return (h & 1 ? 0.5 : -0.5) * (1 + (double)(h >> 40) * 0x1p-24);
}

/* *bend: how far the slopes of the two sides are apart; at a kink that is no matter of h. */
static double difference(Gradient *x, Tensor *p, const Tensor *at, uint64_t seed, double h, double middle,
                         double *bend) {
  double side[2];
  for (int s = 0; s < 2; s++) {
    for (int64_t i = 0; i < type_elements(p->type); i++)
      tensor_set(p, EVAL_DOUBLE, i, tensor_get(at, EVAL_DOUBLE, i) + (s ? -h : h) * direction(seed, i));
    side[s] = loss(x);
  }
  memcpy(p->data, at->data, 8 * (size_t)type_elements(p->type));
  *bend = fabs(side[0] - middle - (middle - side[1])) / h;
  return (side[0] - side[1]) / (2 * h);
}

/* false: grad (of the param at input `in` of @eval) is not what differences say; text tells. */
static bool agrees(Gradient *x, int in, const Tensor *grad, char *text, size_t room) {
  Tensor *p = &x->in[in], at = tensor_new(x->a, p->type, EVAL_DOUBLE);
  memcpy(at.data, p->data, 8 * (size_t)type_elements(p->type));
  uint64_t seed = x->values.seed + (uint64_t)in;
  double got = 0, magnitude = 0;
  for (int64_t i = 0; i < type_elements(p->type); i++) {
    got += tensor_get(grad, EVAL_DOUBLE, i) * direction(seed, i);
    magnitude += fabs(tensor_get(grad, EVAL_DOUBLE, i));
  }
  double middle = loss(x), bend;
  for (double h = 1e-4; h > 1e-7; h /= 32) {
    double wide = difference(x, p, &at, seed, h, middle, &bend);
    double narrow = difference(x, p, &at, seed, h / 2, middle, &bend);
    double want = (4 * narrow - wide) / 3, unsure = fabs(wide - narrow), noise = 3e-14 * (1 + x->held.largest) / h;
    double scale = fabs(want) + fabs(got) + 1e-3 * magnitude;
    if (!isfinite(want) || !isfinite(got) || unsure > 1e-3 * scale + noise || bend > 0.05 * scale + noise) continue;
    if (fabs(want - got) <= 1e-5 * scale + 20 * unsure + noise + bend) return true;
    snprintf(text, room, "d loss / d %s along a direction is %.9g, by differences %.9g", x->eval->inputs[in].name, got,
             want);
    return false;
  }
  return true; /* nothing to conclude */
}

/* One set of inputs. *param: the first that disagrees, NULL when none does. */
static bool once(Gradient *x, const char **param, char *text, size_t room) {
  *param = NULL;
  x->nbind = values_bind(x->micro, x->values.seed, x->bind);
  x->held = (Held){.value = NEW_ARRAY(x->a, Tensor, x->eval->nnodes + 1), .a = x->a};
  Tensor *all = inputs(x, x->micro), *out = NEW_ARRAY(x->a, Tensor, x->micro->noutputs + 1);
  x->in = inputs(x, x->eval);
  if (!all || !x->in || !graph_eval(x->micro, EVAL_DOUBLE, all, x->bind, x->nbind, x->a, out, x->d)) return false;
  double l = loss(x);
  if (x->d->n) return false;
  x->held.replay = true;
  for (int i = 0; i < x->eval->ninputs && isfinite(l) && !*param; i++) {
    const Input *in = &x->eval->inputs[i];
    if (in->kind != IN_PARAM) continue;
    const char *name = arena_printf(x->a, "grad.%s", in->name);
    Tensor none = tensor_new(x->a, x->in[i].type, EVAL_DOUBLE), *grad = &none;
    for (int o = 0; o < x->micro->noutputs; o++)
      if (!strcmp(x->micro->outputs[o].name, name)) grad = &out[o];
    if (!agrees(x, i, grad, text, room)) *param = in->name;
  }
  return true;
}

static bool gradients(Gradient *x, const Graph *forward, const PassInfo *training, Fault *f) {
  Target t = {0};
  Module *trained = training->run(forward->mod, &t);
  snprintf(f->where, sizeof f->where, "training");
  if (!trained || !module_verify(trained)) return false;
  x->micro = module_find(trained, "micro");
  x->eval = module_find(trained, "eval");
  for (int i = 0; i < x->micro->nnodes; i++)
    if (x->micro->nodes[i].op == OP_dropout) x->eval = x->micro;
  const char *param = NULL;
  for (int i = 0; i < 3; i++) {
    Arena *a = arena_new(), *whole = x->a;
    x->a = a;
    x->values = x->c->values;
    x->values.special = false;
    x->values.seed += (uint64_t)i << 32;
    bool ok = once(x, &param, f->text, sizeof f->text);
    if (param) snprintf(f->where, sizeof f->where, "%s", param);
    x->a = whole;
    arena_free(a);
    if (!ok) return false;
    if (!param) return true;
  }
  f->kind = FAULT_GRADIENT;
  return false;
}

bool check_gradients(const Graph *forward, const PassInfo *training, const Check *c, Fault *f) {
  Gradient x = {.c = c, .a = arena_new(), .d = forward->mod->diags};
  bool ok = gradients(&x, forward, training, f);
  if (!ok && f->kind == FAULT_NONE) {
    Text t = {0};
    f->kind = FAULT_PASS;
    f->said = true;
    diags_render(x.d, &t);
    snprintf(f->text, sizeof f->text, "%s", t.n ? t.s : "it gives up, and no diagnostic says why");
    text_free(&t);
  }
  arena_free(x.a);
  return ok;
}
