/* Whole models in the evaluator: the tiny GPT-2 and Llama of tests/golden through the frontend and the passes, then ten
 * steps of training by graph evaluation, against PyTorch's numbers; and the passes against each other.
 *
 * The bounds are those of tests/golden/README.md: losses 1e-4 relative, gradients 1e-3 of a tensor's norm (floored at 1e-6
 * of the global norm), gradient norms 1e-3. */
#include "eval_help.h"
#include "frontend/frontend.h"
#include "passes/passes.h"
#include <jansson.h>

TestSuite(golden, .init = setup, .fini = teardown);

enum { B = 2, T = 16, STEPS = 10 };
#define GPT2 "gpt2", "dims.d=32", "dims.layers=2", "dims.heads=2", "dims.ctx=16", "dims.vocab=64"
#define LLAMA                                                                                                          \
  "llama", "dims.d=32", "dims.layers=2", "dims.heads=4", "dims.kv=2", "dims.ff=48", "dims.ctx=16", "dims.vocab=64"

static Model *load(const char *const *words, int n) { /* the model, then its sets */
  ModelOptions opt = {.sets = words + 1, .nsets = n - 1, .batch = B, .time = T, .models = "models"};
  Model *m = model_load(a, d, arena_printf(a, "models/%s.yaml", words[0]), &opt);
  no_errors(words[0]);
  cr_assert(not(zero(ptr, m)));
  return m;
}

/* Through the passes up to and with `last`; each result is verified. */
static Module *pipeline(Module *m, const char *last) {
  Target t = {.name = "cpu", .lanes = 8, .registers = 16, .l1 = 32 << 10, .l2 = 512 << 10, .l3 = 16 << 20, .cores = 2};
  for (int i = 0; i < pass_count; i++) {
    m = pass_table[i].run(m, &t);
    no_errors(pass_table[i].name);
    bool ok = module_verify(m);
    no_errors(pass_table[i].name);
    cr_assert(ok);
    if (strcmp(pass_table[i].name, last) == 0) return m;
  }
  cr_fail("no pass %s", last);
  return NULL;
}

/* ---- safetensors, as far as the goldens need it */

typedef struct Weights {
  char *bytes, *data;
  json_t *head;
} Weights;

static Weights weights_open(const char *path) {
  uint32_t file;
  cr_assert(diags_read(d, path, 1 << 24, &file), "%s", path);
  Source s = d->sources[file - 1];
  uint64_t n;
  memcpy(&n, s.text, 8);
  Weights w = {.bytes = (char *)s.text, .data = (char *)s.text + 8 + n};
  w.head = json_loadb(s.text + 8, n, 0, NULL);
  cr_assert(not(zero(ptr, w.head)));
  return w;
}

static const float *weights_find(const Weights *w, const char *name) {
  json_t *info = json_object_get(w->head, name);
  cr_assert(info != NULL, "no tensor %s", name);
  return (const float *)(w->data + json_integer_value(json_array_get(json_object_get(info, "data_offsets"), 0)));
}

/* Calls `each` with the index of every element of the parameter and that of its twin in the checkpoint's tensor. */
static void walk(const Piece *p, void (*each)(void *ctx, int64_t param, int64_t tensor), void *ctx) {
  int64_t n = 1, at[MAX_RANK] = {0};
  for (int k = 0; k < p->rank; k++) n *= p->dim[k];
  for (int64_t i = 0; i < n; i++) {
    int64_t from = p->base, to = p->start;
    for (int k = 0; k < p->rank; k++) from += at[k] * p->stride[k], to += at[k] * p->pstride[k];
    each(ctx, to, from);
    for (int k = p->rank - 1; k >= 0 && ++at[k] == p->dim[k]; k--) at[k] = 0;
  }
}

typedef struct Pair {
  Tensor *t;
  EvalMode mode;
  const float *f;
  double gap, norm;
} Pair;
static void copy_in(void *ctx, int64_t param, int64_t tensor) {
  Pair *p = ctx;
  tensor_set(p->t, p->mode, param, p->f[tensor]);
}
static void compare(void *ctx, int64_t param, int64_t tensor) {
  Pair *p = ctx;
  double want = p->f[tensor], gap = tensor_get(p->t, p->mode, param) - want;
  p->gap += gap * gap;
  p->norm += want * want;
}

/* ---- a training run by evaluation */

typedef struct Run {
  Model *model;
  Graph *micro, *update;
  EvalMode mode;
  const char **name; /* of params and states of both graphs, with their values */
  Tensor *value;
  int n, cap, cap_value;
} Run;

static Tensor *slot(Run *r, const char *name, Type t) {
  for (int i = 0; i < r->n; i++)
    if (r->name[i] == name) return &r->value[i];
  int n = r->n;
  PUSH(a, r->name, n, r->cap, name);
  PUSH(a, r->value, r->n, r->cap_value, tensor_new(a, t, r->mode));
  return &r->value[r->n - 1];
}

/* Inputs from the slots; `data` gives the others. Outputs go back into the slots of their names. */
static void step_graph(Run *r, Graph *g, Tensor (*data)(Run *r, const Input *in, Type t)) {
  Tensor *in = NEW_ARRAY(a, Tensor, g->ninputs);
  for (int i = 0; i < g->ninputs; i++) {
    Type t = val_type(g, g->inputs[i].val);
    in[i] = g->inputs[i].kind == IN_DATA ? data(r, &g->inputs[i], t) : *slot(r, g->inputs[i].name, t);
  }
  Tensor *out = run_graph(g, r->mode, in);
  for (int i = 0; i < g->noutputs; i++) *slot(r, g->outputs[i].name, out[i].type) = out[i];
}

static const uint16_t *tokens;
static int step;

static Tensor scalar(Run *r, double v) {
  Tensor t = tensor_new(a, type_scalar(DT_f32), r->mode);
  tensor_set(&t, r->mode, 0, v);
  return t;
}

static Tensor data_of(Run *r, const Input *in, Type t) {
  static const struct {
    const char *name;
    double value;
  } settings[] = {{"inv_count", 1. / (B * T)}, {"lr", 1e-3}, {"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8},
                  {"weight_decay", 0.1},       {"clip", 1}};
  for (int i = 0; i < LEN(settings); i++)
    if (strcmp(in->name, settings[i].name) == 0) return scalar(r, settings[i].value);
  if (strcmp(in->name, "bias1") == 0) return scalar(r, 1 - pow(0.9, step + 1));
  if (strcmp(in->name, "bias2") == 0) return scalar(r, 1 - pow(0.95, step + 1));
  Tensor x = tensor_new(a, t, r->mode);
  const char *source = in->name;
  for (int i = 0; i < r->model->ninputs; i++)
    if (strcmp(r->model->inputs[i].name, in->name) == 0) source = r->model->inputs[i].source;
  for (int64_t i = 0; i < type_elements(t); i++) {
    int64_t window = 2 * step + i / T, at = window * T + i % T;
    if (strcmp(source, "positions") == 0)
      tensor_set(&x, r->mode, i, (double)(i % T));
    else
      tensor_set(&x, r->mode, i, tokens[at + (strcmp(source, "targets") == 0)]);
  }
  return x;
}

/* Of every tensor of the checkpoint, which may be several parameters' pieces: a part that no loss depends on, as the bias of
 * attention's keys, is measured by the whole. */
static void check_gradients(Run *r, const Weights *want, double global) {
  const char *tensor;
  json_t *info;
  json_object_foreach(want->head, tensor, info) {
    Pair c = {.mode = r->mode};
    if (strcmp(tensor, "__metadata__") == 0) continue;
    c.f = weights_find(want, tensor);
    for (int i = 0; i < r->model->nparams; i++) {
      const ModelParam *p = &r->model->params[i];
      c.t = slot(r, intern(arena_printf(a, "grad.%s", p->name)), (Type){0});
      for (int k = 0; k < p->npieces; k++)
        if (strcmp(p->pieces[k].tensor, tensor) == 0) walk(&p->pieces[k], compare, &c);
    }
    cr_assert(c.norm > 0, "no parameter is stored in %s", tensor);
    cr_assert(sqrt(c.gap) <= 1e-3 * fmax(sqrt(c.norm), 1e-6 * global), "gradient of %s is off by %g of %g", tensor,
              sqrt(c.gap), sqrt(c.norm));
  }
}

static void check_model(const char *const *words, int n, EvalMode mode) {
  const char *name = words[0];
  Run r = {.model = load(words, n), .mode = mode};
  Module *m = pipeline(r.model->mod, "dce");
  r.micro = module_find(m, "micro");
  r.update = module_find(m, "update");
  uint32_t file;
  cr_assert(diags_read(d, arena_printf(a, "tests/golden/%s/tokens.bin", name), 1 << 20, &file));
  tokens = (const uint16_t *)(d->sources[file - 1].text + 1024);
  cr_assert(diags_read(d, arena_printf(a, "tests/golden/%s/steps.txt", name), 1 << 20, &file));
  const char *line = d->sources[file - 1].text;
  Weights init = weights_open(arena_printf(a, "tests/golden/%s/init/model.safetensors", name));
  Weights grads = weights_open(arena_printf(a, "tests/golden/%s/grads1.safetensors", name));
  for (int i = 0; i < r.model->nparams; i++) {
    const ModelParam *p = &r.model->params[i];
    Pair c = {.t = slot(&r, p->name, val_type(r.micro, graph_find_input(r.micro, p->name)->val)), .mode = mode};
    for (int k = 0; k < p->npieces; k++) {
      c.f = weights_find(&init, p->pieces[k].tensor);
      walk(&p->pieces[k], copy_in, &c);
    }
  }
  for (step = 0; step < STEPS; step++) {
    double want_loss, want_norm;
    int number;
    while (*line == '#') line = strchr(line, '\n') + 1;
    cr_assert(eq(int, sscanf(line, "%d %lf %lf", &number, &want_loss, &want_norm), 3));
    cr_assert(eq(int, number, step + 1));
    line = strchr(line, '\n') + 1;
    *slot(&r, intern("loss_sum"), type_scalar(DT_f32)) = scalar(&r, 0);
    step_graph(&r, r.micro, data_of);
    double loss = tensor_get(slot(&r, intern("loss_sum"), type_scalar(DT_f32)), mode, 0) / (B * T);
    cr_assert(fabs(loss - want_loss) <= 1e-4 * want_loss, "%s step %d: loss %.8g, PyTorch has %.8g", name, step + 1,
              loss, want_loss);
    if (step == 0) check_gradients(&r, &grads, want_norm);
    step_graph(&r, r.update, data_of);
    double norm = tensor_get(slot(&r, intern("grad_norm"), type_scalar(DT_f32)), mode, 0);
    cr_assert(fabs(norm - want_norm) <= 1e-3 * want_norm, "%s step %d: gradient norm %.8g, PyTorch has %.8g", name,
              step + 1, norm, want_norm);
  }
  json_decref(init.head);
  json_decref(grads.head);
}

Test(golden, gpt2_trains_as_in_pytorch) {
  check_model((const char *const[]){GPT2}, 6, EVAL_EXACT);
}
Test(golden, llama_trains_as_in_pytorch) {
  check_model((const char *const[]){LLAMA}, 8, EVAL_EXACT);
}
Test(golden, gpt2_in_double) {
  check_model((const char *const[]){GPT2}, 6, EVAL_DOUBLE);
}

/* ---- passes against each other: the same inputs, the same outputs by name */

static void same_outputs(Module *one, Module *two, EvalMode mode, double tolerance) {
  static const char *const graphs[] = {"micro", "update", "eval", "sample"};
  for (int k = 0; k < LEN(graphs); k++) {
    const Graph *g = module_find(one, graphs[k]), *h = module_find(two, graphs[k]);
    if (!g) continue;
    cr_assert(h != NULL, "@%s is gone", graphs[k]);
    Tensor *in = random_inputs(g, mode, 21, 0.05, 0.3), *out = run_graph(g, mode, in), *other = run_graph(h, mode, in);
    for (int o = 0; o < g->noutputs; o++) {
      const Tensor *x = &out[o], *y = &other[output_index(h, g->outputs[o].name)];
      double size = 0;
      for (int64_t i = 0; i < type_elements(x->type); i++) size = fmax(size, fabs(tensor_get(x, mode, i)));
      for (int64_t i = 0; i < type_elements(x->type); i++) {
        double p = tensor_get(x, mode, i), q = tensor_get(y, mode, i);
        cr_assert(p == q || (isnan(p) && isnan(q)) || fabs(p - q) <= tolerance * size,
                  "@%s %s[%lld]: %.9g before, %.9g after", g->name, g->outputs[o].name, (long long)i, p, q);
      }
    }
  }
}

static void check_passes(const char *const *words, int n) {
  Model *m = load(words, n);
  Module *plain = pipeline(m->mod, "training"), *lean = pipeline(m->mod, "dce"), *fused = pipeline(m->mod, "fuse");
  same_outputs(plain, lean, EVAL_DOUBLE, 1e-10);
  same_outputs(lean, fused, EVAL_EXACT, 0); /* bit for bit */
}

Test(golden, passes_keep_what_gpt2_computes) {
  check_passes((const char *const[]){GPT2}, 6);
}
Test(golden, passes_keep_what_llama_computes) {
  check_passes((const char *const[]){LLAMA}, 8);
}
