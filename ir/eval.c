/* The reference evaluator: tensors, the walk over a graph's nodes, calls. The ops are in eval_*.c.
 *
 * A node's results are allocated when it runs and freed after their last use; results of the graph are copied to the
 * caller. In EVAL_EXACT every floating value is held as an f32; results of a narrower dtype are rounded to it after the
 * node, which for an op that only copies changes nothing.
 *
 * What must hold: the graph passed the verifier. Data may still be wrong (an index out of range, a symbol without a
 * value, an input of another shape): those are diagnostics. */
#include "ir/eval_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES ((int64_t)1 << 36) /* of one value */

bool dtype_integral(DType dt) {
  return dt == DT_i32 || dt == DT_i8;
}

size_t tensor_size(DType dt, EvalMode mode) {
  return mode == EVAL_DOUBLE && !dtype_integral(dt) ? sizeof(double) : 4;
}

Tensor tensor_new(Arena *a, Type t, EvalMode mode) {
  return (Tensor){t, arena_alloc(a, (size_t)type_elements(t) * tensor_size(t.dt, mode))};
}

double tensor_get(const Tensor *t, EvalMode mode, int64_t i) {
  if (dtype_integral(t->type.dt)) return ((const int32_t *)t->data)[i];
  return mode == EVAL_DOUBLE ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
}

void tensor_set(Tensor *t, EvalMode mode, int64_t i, double v) {
  if (dtype_integral(t->type.dt))
    ((int32_t *)t->data)[i] = (int32_t)v;
  else if (mode == EVAL_DOUBLE)
    ((double *)t->data)[i] = v;
  else
    ((float *)t->data)[i] = t->type.dt == DT_bf16 ? round_bf16((float)v) : (float)v;
}

/* Element i of a tensor stands at this element of memory. */
static int64_t place(Type t, int64_t i) {
  int64_t k = t.panel ? type_elements(t) / type_rows(t) : 0;
  return t.panel ? type_panel_at(t, i / k, i % k) : i;
}

void tensor_write(const Tensor *t, void *memory) {
  int64_t n = type_elements(t->type);
  if (t->type.panel) {
    memset(memory, 0, (size_t)type_bytes(t->type));
    for (int64_t i = 0; i < n; i++) {
      uint32_t u = ((const uint32_t *)t->data)[i];
      int64_t at = place(t->type, i);
      if (t->type.dt == DT_bf16)
        ((uint16_t *)memory)[at] = (uint16_t)(u >> 16);
      else if (t->type.dt == DT_i8)
        ((uint8_t *)memory)[at] = (uint8_t)u;
      else
        ((uint32_t *)memory)[at] = u;
    }
    return;
  }
  const uint32_t *u = t->data;
  if (t->type.dt == DT_bf16) /* upper halves */
    for (int64_t i = 0; i < n; i++) ((uint16_t *)memory)[i] = (uint16_t)(u[i] >> 16);
  else if (t->type.dt == DT_i8)
    for (int64_t i = 0; i < n; i++) ((uint8_t *)memory)[i] = (uint8_t)u[i];
  else
    memcpy(memory, u, (size_t)n * 4);
}

void tensor_read(Tensor *t, const void *memory) {
  int64_t n = type_elements(t->type);
  uint32_t *u = t->data;
  if (!t->type.panel && dtype_bytes[t->type.dt] == 4) {
    memcpy(u, memory, (size_t)n * 4);
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    int64_t at = place(t->type, i);
    u[i] = t->type.dt == DT_bf16 ? (uint32_t)((const uint16_t *)memory)[at] << 16
           : t->type.dt == DT_i8 ? (uint32_t)((const int8_t *)memory)[at]
                                 : ((const uint32_t *)memory)[at];
  }
}

/* To the nearest bf16, ties to even; the float it stands for. */
float round_bf16(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  if (isnan(x))
    u |= 0x400000;
  else
    u += 0x7fff + (u >> 16 & 1);
  u &= 0xffff0000;
  memcpy(&x, &u, 4);
  return x;
}

bool eval_fail(Eval *e, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *text = arena_vprintf(e->d->arena, fmt, ap);
  va_end(ap);
  return diag_error(e->d, e->n->span, "%s: %s", op_info[e->n->op].name, text);
}

bool type_bind(const Graph *g, Type t, const Binding *bind, int nbind, Span at, Diags *d, Type *out) {
  *out = t;
  for (int i = 0; i < t.rank; i++) {
    Dim *dim = &out->dim[i];
    dim->seg = 0;
    if (!dim->sym) continue;
    int k = 0;
    while (k < nbind && strcmp(bind[k].name, dim->name) != 0) k++;
    if (k == nbind) return diag_error(d, at, "@%s: the extent %s has no value", g->name, dim->name);
    if (bind[k].n < 0 || bind[k].n > dim->n)
      return diag_error(d, at, "@%s: the extent %s is %lld, its bound is %lld", g->name, dim->name,
                        (long long)bind[k].n, (long long)dim->n);
    dim->n = bind[k].n;
    dim->sym = false;
  }
  return true;
}

static bool value_type(const Graph *g, Val v, EvalMode mode, const Binding *bind, int nbind, Span at, Diags *d,
                       Type *out) {
  if (!type_bind(g, g->types[v], bind, nbind, at, d, out)) return false;
  if (mode == EVAL_EXACT && (out->dt == DT_f64 || out->dt == DT_f8e4m3))
    return diag_error(d, at, "@%s: kernels have no arithmetic in %s", g->name, dtype_name[out->dt]);
  if (type_elements(*out) > MAX_BYTES / 8) return diag_error(d, at, "@%s: a value is too large", g->name);
  return true;
}

typedef bool (*EvalFn)(Eval *e);
static const EvalFn eval_fn[OP_COUNT] = {
#define EW1(name, ...) [OP_##name] = eval_elementwise,
#define EW2(name, ...) [OP_##name] = eval_elementwise,
#define EW3(name, ...) [OP_##name] = eval_elementwise,
#define OP(name, ...) [OP_##name] = eval_##name,
#include "ir/ops.def"
};

static void round_narrow(Tensor *t) {
  if (t->type.dt != DT_bf16) return;
  int64_t n = type_elements(t->type);
  float *x = t->data;
  for (int64_t i = 0; i < n; i++) x[i] = round_bf16(x[i]);
}

/* Values of a graph while it runs. Those of inputs are the caller's. */
typedef struct Values {
  Tensor *t;     /* by value; data NULL: not there */
  int *last_use; /* node after which a value is freed; nnodes for outputs */
} Values;

static bool run_node(const Graph *g, int at, EvalMode mode, const Binding *bind, int nbind, const EvalWatch *watch,
                     Values *v, Diags *d) {
  const Node *n = &g->nodes[at];
  Tensor arg_few[8], *arg = arg_few;
  if (n->nargs > LEN(arg_few) && !(arg = calloc((size_t)n->nargs, sizeof *arg)))
    return diag_error(d, n->span, "out of memory");
  for (int i = 0; i < n->nargs; i++) arg[i] = v->t[n->args[i]];
  bool ok = true;
  for (int i = 0; ok && i < n->nres; i++) {
    Tensor *t = &v->t[n->res + (Val)i];
    ok = value_type(g, n->res + (Val)i, mode, bind, nbind, n->span, d, &t->type);
    size_t bytes = ok ? (size_t)type_elements(t->type) * tensor_size(t->type.dt, mode) : 0;
    if (ok && !(t->data = calloc(bytes ? bytes : 1, 1)))
      ok = diag_error(d, n->span, "%s: no memory for %zu bytes", op_info[n->op].name, bytes);
  }
  Eval e = {g, n, mode, bind, nbind, watch, d, arg, &v->t[n->res]};
  ok = ok && eval_fn[n->op](&e);
  if (mode == EVAL_EXACT)
    for (int i = 0; ok && i < n->nres; i++) round_narrow(&v->t[n->res + (Val)i]);
  if (ok && watch) ok = watch->see(watch->ctx, g, n, arg, &v->t[n->res]);
  if (arg != arg_few) free(arg);
  return ok;
}

bool graph_run(const Graph *g, EvalMode mode, const Tensor *in, const Binding *bind, int nbind, const EvalWatch *watch,
               Tensor *out, Diags *d) {
  Values v = {calloc((size_t)g->nvals, sizeof(Tensor)), calloc((size_t)g->nvals, sizeof(int))};
  bool ok = (v.t && v.last_use) || diag_error(d, (Span){0}, "out of memory");
  for (int i = 0; ok && i < g->ninputs; i++) {
    const Input *input = &g->inputs[i];
    Type want;
    ok = value_type(g, input->val, mode, bind, nbind, input->span, d, &want);
    if (ok && (!type_eq(want, in[i].type) || !in[i].data))
      ok = diag_error(d, input->span, "@%s: the data given for input %s has another type", g->name, input->name);
    v.t[input->val] = (Tensor){want, in[i].data};
  }
  for (int i = 0; ok && i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    for (int k = 0; k < n->nargs; k++) v.last_use[n->args[k]] = i;
    for (int k = 0; k < n->nres; k++) v.last_use[n->res + (Val)k] = i;
  }
  for (int i = 0; ok && i < g->noutputs; i++) v.last_use[g->outputs[i].val] = g->nnodes;
  for (int i = 0; ok && i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    ok = run_node(g, i, mode, bind, nbind, watch, &v, d);
    for (int k = 0; k < n->nargs + n->nres; k++) {
      Val x = k < n->nargs ? n->args[k] : n->res + (Val)(k - n->nargs);
      if (g->def[x] < 0 || v.last_use[x] != i) continue;
      free(v.t[x].data);
      v.t[x].data = NULL;
    }
  }
  for (int i = 0; ok && i < g->noutputs; i++) {
    const Tensor *t = &v.t[g->outputs[i].val];
    memcpy(out[i].data, t->data, (size_t)type_elements(t->type) * tensor_size(t->type.dt, mode));
  }
  for (int x = 1; v.t && x < g->nvals; x++)
    if (g->def[x] >= 0) free(v.t[x].data);
  free(v.t);
  free(v.last_use);
  return ok;
}

bool graph_eval(const Graph *g, EvalMode mode, const Tensor *in, const Binding *bind, int nbind, Arena *a, Tensor *out,
                Diags *d) {
  return graph_eval_watched(g, mode, in, bind, nbind, NULL, a, out, d);
}

bool graph_eval_watched(const Graph *g, EvalMode mode, const Tensor *in, const Binding *bind, int nbind,
                        const EvalWatch *watch, Arena *a, Tensor *out, Diags *d) {
  for (int i = 0; i < g->noutputs; i++) {
    Type t;
    if (!value_type(g, g->outputs[i].val, mode, bind, nbind, (Span){0}, d, &t)) return false;
    out[i] = tensor_new(a, t, mode);
  }
  return graph_run(g, mode, in, bind, nbind, watch, out, d);
}

/* ---- call */

/* One callee input or output over the turns of a call. */
static void *slice(const Tensor *t, int64_t elements, EvalMode mode, int64_t turn) {
  bool whole = type_elements(t->type) == elements;
  return (char *)t->data + (whole ? 0 : (size_t)(turn * elements) * tensor_size(t->type.dt, mode));
}

/* Without a count: one turn. With one: operands and results that are larger than the callee's are cut along the leading
 * axes, slice by slice; an output named as an input is that input's value in the next turn, its last is the result. */
bool eval_call(Eval *e) {
  const Graph *f = module_find(e->g->mod, node_attr(e->n, "fn")->str);
  const Attr *count = node_attr(e->n, "count");
  int64_t turns = count ? count->i : 1;
  if (!f) return eval_fail(e, "there is no graph '%s'", node_attr(e->n, "fn")->str);
  Tensor *in = calloc((size_t)f->ninputs + (size_t)f->noutputs + 1, sizeof *in), *out = in ? in + f->ninputs : NULL;
  void **fresh = calloc((size_t)f->noutputs + 1, sizeof *fresh); /* where a carried output goes, apart from its input */
  bool ok = (in && fresh) || eval_fail(e, "out of memory");
  for (int64_t turn = 0; ok && turn < turns; turn++) {
    for (int i = 0; ok && i < f->ninputs; i++) {
      ok = type_bind(f, f->types[f->inputs[i].val], e->bind, e->nbind, e->n->span, e->d, &in[i].type);
      in[i].data = slice(&e->arg[i], type_elements(in[i].type), e->mode, turn);
    }
    for (int o = 0; ok && o < f->noutputs; o++) {
      ok = type_bind(f, f->types[f->outputs[o].val], e->bind, e->nbind, e->n->span, e->d, &out[o].type);
      int64_t n = type_elements(out[o].type);
      out[o].data = slice(&e->out[o], n, e->mode, turn);
      const Input *carried = count ? graph_find_input(f, f->outputs[o].name) : NULL;
      if (!ok || !carried) continue;
      size_t bytes = (size_t)n * tensor_size(out[o].type.dt, e->mode);
      if (!fresh[o] && !(fresh[o] = calloc(bytes ? bytes : 1, 1))) ok = eval_fail(e, "out of memory");
      if (turn > 0) in[carried - f->inputs].data = e->out[o].data;
      out[o].data = fresh[o];
    }
    ok = ok && graph_run(f, e->mode, in, e->bind, e->nbind, e->watch, out, e->d);
    for (int o = 0; ok && o < f->noutputs; o++)
      if (fresh[o])
        memcpy(e->out[o].data, fresh[o], (size_t)type_elements(out[o].type) * tensor_size(out[o].type.dt, e->mode));
  }
  for (int o = 0; fresh && o < f->noutputs; o++) free(fresh[o]);
  free(fresh);
  free(in);
  return ok;
}
