/* Whole models: what every shipped model's compiled program computes, against the evaluator.
 *
 * A small version of each model goes through the command's own pipeline (driver/compile.c). Machines then run the same ten
 * steps of two micro-batches side by side: the exact evaluator on the module before chunk and fuse (the reference), on
 * the module at the pipeline's end (slow, so for the first steps), and the compiled program in the runtime's engine, for
 * several targets and numbers of threads. After each list every parameter, gradient, moment and scalar must have the
 * reference's bits. The evaluator in double says how far all of them may be from the mathematics.
 *
 * Beside it: every module and kernel that the pipeline makes for these models survives printing and parsing, and depth
 * costs no kernels. */
#include "codegen/jit.h"
#include "driver/compile.h"
#include "ir/eval.h"
#include "runtime/inkrt.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 10, EVALUATED = 2, MICRO = 2, BATCH = 2, MACHINES = 2 + 3 * 6 };

static Arena *a;
static Diags *d;
static void setup(void) {
  a = arena_new();
  d = diags_new(a);
}
static void teardown(void) {
  arena_free(a);
}
TestSuite(models, .init = setup, .fini = teardown, .timeout = 500);

static void no_errors(const Diags *diags, const char *where) {
  Text t = {0};
  diags_render(diags, &t);
  if (t.n) cr_fail("%s:\n%s", where, t.s);
}

/* ---- the models: extents that no vector width divides, keys and values shared by heads, more than one block of keys */

typedef struct Small {
  const char *path;
  int64_t time;
  int64_t chunk; /* bytes: below the logits, above every other value made by a contraction */
  const char *sets[8];
} Small;

static const Small gpt2 = {
    "models/gpt2.yaml",
    20,
    8400,
    {"dims.d=30", "dims.layers=2", "dims.heads=3", "dims.ff=52", "dims.ctx=24", "dims.vocab=201"}};
static const Small llama = {
    "models/llama.yaml",
    70,
    23000,
    {"dims.d=40", "dims.layers=1", "dims.heads=4", "dims.kv=2", "dims.ff=36", "dims.ctx=72", "dims.vocab=151"}};
static const Small experts = {"models/mixtral.yaml",
                              70,
                              23000,
                              {"dims.d=40", "dims.layers=1", "dims.heads=4", "dims.kv=2", "dims.ff=12",
                               "dims.experts=3", "dims.ctx=72", "dims.vocab=151"}};
static const Small chars = {
    "models/char.yaml", 16, 13000, {"dims.d=24", "dims.layers=2", "dims.heads=2", "dims.ctx=16", "dims.vocab=229"}};
static const Small dropped = {
    "models/char.yaml",
    16,
    13000,
    {"dims.d=24", "dims.layers=2", "dims.heads=2", "dims.ctx=16", "dims.vocab=229", "consts.dropout=0.3"}};
static const Small mlp = {"models/mlp.yaml", 0, 72, {"dims.pixels=35", "dims.hidden=9"}};

#define CHUNKED "cpu:x86-64-v3,chunk="

/* The pipeline up to the stage, or only to the end of the pass `last`. */
static Compile *compile(const Small *s, const char *target, const char *last, Stage until) {
  Compile *c = NEW(a, Compile);
  if (!strcmp(target, CHUNKED)) target = arena_printf(a, "%s%lld", CHUNKED, (long long)s->chunk);
  *c = (Compile){.model_path = s->path, .target_name = target, .arena = a, .diags = d, .stop_after = last};
  c->batch = BATCH;
  c->time = s->time;
  while (c->nsets < LEN(s->sets) && s->sets[c->nsets]) c->nsets++;
  c->sets = NEW_ARRAY(a, const char *, c->nsets);
  for (int i = 0; i < c->nsets; i++) c->sets[i] = s->sets[i];
  bool ok = compile_run(c, until);
  no_errors(d, s->path);
  cr_assert(ok, "%s", s->path);
  return c;
}

/* ---- machines: named values and lists that change them */

typedef struct Named {
  const char *name;
  Tensor t;
} Named;

typedef struct Machine {
  const char *what;
  /* an evaluator */
  const Module *mod;
  EvalMode mode;
  Named *values;
  int n, cap;
  /* or a program */
  Engine *engine;
  Program program;
} Machine;

static Tensor *slot(Machine *m, const char *name, Type t) {
  for (int i = 0; i < m->n; i++)
    if (!strcmp(m->values[i].name, name)) return &m->values[i].t;
  Named fresh = {name, tensor_new(a, t, m->mode)};
  PUSH(a, m->values, m->n, m->cap, fresh);
  return &m->values[m->n - 1].t;
}

static void evaluate(Machine *m, const Graph *g) {
  Tensor *in = NEW_ARRAY(a, Tensor, g->ninputs), *out = NEW_ARRAY(a, Tensor, g->noutputs);
  for (int i = 0; i < g->ninputs; i++) in[i] = *slot(m, g->inputs[i].name, val_type(g, g->inputs[i].val));
  bool ok = graph_eval(g, m->mode, in, NULL, 0, a, out, d);
  no_errors(d, m->what);
  cr_assert(ok, "%s", m->what);
  for (int i = 0; i < g->noutputs; i++) *slot(m, g->outputs[i].name, out[i].type) = out[i];
}

static void machine_run(Machine *m, const char *list) {
  if (m->mod)
    evaluate(m, module_find(m->mod, list));
  else
    engine_run(m->engine, program_list(&m->program, list));
}

/* Gives a value from outside. Programs have no buffer for what they do not read. */
static void machine_set(Machine *m, const char *name, Type t, const double *x) {
  if (m->mod) {
    Tensor *to = slot(m, name, t);
    *to = tensor_new(a, t, m->mode); /* an old value may share its memory with another name */
    for (int64_t i = 0; i < type_elements(t); i++) tensor_set(to, m->mode, i, x[i]);
    return;
  }
  void *at = engine_named(m->engine, name);
  for (int64_t i = 0; at && i < type_elements(t); i++)
    if (t.dt == DT_i32)
      ((int32_t *)at)[i] = (int32_t)x[i];
    else
      ((float *)at)[i] = (float)x[i];
}

static void set_scalar(Machine *m, const char *name, double x) {
  machine_set(m, name, type_scalar(DT_f32), &x);
}

static double machine_scalar(Machine *m, const char *name) {
  return m->mod ? tensor_get(slot(m, name, type_scalar(DT_f32)), m->mode, 0) : engine_scalar(m->engine, name);
}

static void load_program(Machine *m, const Compile *c, const char *what, int threads) {
  Jit *jit = jit_load(d, &c->object); /* lives to the end of the test, as its programs do */
  const void *blob = jit ? jit_symbol(jit, d, "ink_program") : NULL,
             *kernels = jit ? jit_symbol(jit, d, "ink_kernels") : NULL;
  no_errors(d, what);
  Report err = {0};
  *m = (Machine){.what = arena_printf(a, "%s, %d threads", what, threads)};
  if (!program_open(&m->program, blob, (const KernelFn *)kernels, &err) ||
      !(m->engine = engine_new(&m->program, threads, &err)))
    cr_fail("%s: %s", m->what, err.text);
}

/* ---- comparing */

static void compare(Machine *m, Machine *want, const char *name, Type t, const char *when) {
  const Tensor *w = slot(want, name, t);
  const float *x = w->data, *y = m->mod ? slot(m, name, t)->data : engine_named(m->engine, name);
  cr_assert(y != NULL, "%s: no buffer %s", m->what, name);
  int64_t n = type_elements(t), wrong = 0, first = 0;
  for (int64_t i = n - 1; i >= 0; i--)
    if (memcmp(&x[i], &y[i], sizeof *x) && !(isnan(x[i]) && isnan(y[i]))) wrong++, first = i;
  if (wrong)
    cr_fail("%s, %s: %lld of %lld elements of %s differ; the first, %lld, is %a, not %a", m->what, when,
            (long long)wrong, (long long)n, name, (long long)first, (double)y[first], (double)x[first]);
}

/* All that a list leaves: its outputs, and the states and parameters it reads. */
static int compare_list(Machine *m, Machine *want, const char *list, const char *when) {
  const Graph *g = module_find(want->mod, list);
  int n = 0;
  for (int i = 0; i < g->noutputs; i++, n++) compare(m, want, g->outputs[i].name, val_type(g, g->outputs[i].val), when);
  for (int i = 0; i < g->ninputs; i++)
    if (g->inputs[i].kind != IN_DATA) compare(m, want, g->inputs[i].name, val_type(g, g->inputs[i].val), when), n++;
  return n;
}

/* Gradients in double: each within 1e-3 of its norm, the norm floored at 1e-6 of the global one. */
static void compare_gradients(Machine *exact, Machine *truth) {
  const Graph *g = module_find(truth->mod, "micro");
  double global = 0;
  for (int round = 0; round < 2; round++)
    for (int i = 0; i < g->ninputs; i++) {
      const char *name = g->inputs[i].name;
      if (strncmp(name, "grad.", 5)) continue;
      Type t = val_type(g, g->inputs[i].val);
      double norm = 0, gap = 0;
      for (int64_t k = 0; k < type_elements(t); k++) {
        double x = tensor_get(slot(truth, name, t), EVAL_DOUBLE, k);
        double y = tensor_get(slot(exact, name, t), EVAL_EXACT, k);
        norm += x * x;
        gap += (x - y) * (x - y);
      }
      global += round ? 0 : norm;
      if (round) cr_assert(le(dbl, sqrt(gap), 1e-3 * fmax(sqrt(norm), 1e-6 * sqrt(global))), "%s", name);
    }
  cr_assert(global > 0);
}

/* ---- steps */

static uint64_t seed;
static double uniform(double lo, double hi) { /* splitmix64 */
  uint64_t z = seed += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return lo + (hi - lo) * (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* Evaluators of fused modules drop out after the first steps. */
static bool runs(const Machine *m, int i, int step) {
  return i < 2 || !m[i].mod || step <= EVALUATED;
}

static void set_all(Machine *m, int n, const char *name, Type t, const double *x) {
  for (int i = 0; i < n; i++) machine_set(&m[i], name, t, x);
}

static void init_params(Machine *m, int n, const Model *model) {
  const Graph *g = module_find(m->mod, "micro");
  for (int i = 0; i < model->nparams; i++) {
    const Input *in = graph_find_input(g, model->params[i].name);
    cr_assert(in != NULL, "%s", model->params[i].name);
    Type t = val_type(g, in->val);
    double *x = NEW_ARRAY(a, double, type_elements(t)), base = model->params[i].init == INIT_ONES;
    for (int64_t k = 0; k < type_elements(t); k++) x[k] = (double)(float)(base + uniform(-0.1, 0.1));
    set_all(m, n, in->name, t, x);
  }
}

/* New inputs; returns how many rows count. A few targets are -1, which count for nothing. */
static int64_t feed(Machine *m, int n, const Model *model) {
  const Graph *g = module_find(m->mod, "micro");
  int64_t count = 0;
  for (int i = 0; i < model->ninputs; i++) {
    const Input *in = graph_find_input(g, model->inputs[i].name);
    const char *source = model->inputs[i].source;
    bool target = !strcmp(source, "targets") || !strcmp(source, "labels");
    cr_assert(in != NULL);
    Type t = val_type(g, in->val);
    int64_t bound = graph_index_use(g, in->val).bound;
    double *x = NEW_ARRAY(a, double, type_elements(t));
    for (int64_t k = 0; k < type_elements(t); k++) {
      x[k] = t.dt == DT_i32 ? floor(uniform(0, (double)bound)) : (double)(float)uniform(0, 1);
      if (!strcmp(source, "targets") && uniform(0, 1) < 0.1) x[k] = -1;
      count += target && x[k] >= 0;
    }
    set_all(m, n, in->name, t, x);
  }
  return count;
}

/* The key of dropout: any two numbers, others in each micro-batch. */
static void set_dropout_key(Machine *m, int step, int micro) {
  double key[2] = {1e9 * step - 5e9, -2147483648. + micro};
  machine_set(m, "dropout.key0", type_scalar(DT_i32), &key[0]);
  machine_set(m, "dropout.key1", type_scalar(DT_i32), &key[1]);
}

static void scalars(Machine *m, int step) {
  set_scalar(m, "lr", 0.01);
  set_scalar(m, "beta1", 0.9);
  set_scalar(m, "beta2", 0.95);
  set_scalar(m, "eps", 1e-8);
  set_scalar(m, "weight_decay", 0.1);
  set_scalar(m, "clip", 1);
  set_scalar(m, "bias1", 1 - pow(0.9, step));
  set_scalar(m, "bias2", 1 - pow(0.95, step));
}

/* machine 0: the reference; 1: in double. */
static void run_machines(Machine *m, int n, const Model *model) {
  init_params(m, n, model);
  for (int step = 1; step <= STEPS; step++) {
    double loss[MACHINES] = {0}, zero = 0;
    for (int b = 0; b < MICRO; b++) {
      int64_t count = feed(m, n, model);
      for (int i = 0; i < n; i++) {
        if (!runs(m, i, step)) continue;
        char when[64];
        snprintf(when, sizeof when, "step %d, micro-batch %d", step, b + 1);
        set_scalar(&m[i], "inv_count", 1 / (double)(count * MICRO));
        machine_set(&m[i], "loss_sum", type_scalar(DT_f32), &zero);
        set_dropout_key(&m[i], step % 4 + 4, b);
        machine_run(&m[i], "micro");
        if (i > 1) compare_list(&m[i], &m[0], "micro", when);
        loss[i] += machine_scalar(&m[i], "loss_sum") / (double)(count * MICRO);
      }
    }
    if (step == 1) compare_gradients(&m[0], &m[1]);
    cr_assert(lt(dbl, fabs(loss[0] - loss[1]), 1e-4 * fabs(loss[1])), "step %d", step);
    for (int i = 0; i < n; i++) {
      if (!runs(m, i, step)) continue;
      char when[64];
      snprintf(when, sizeof when, "update %d", step);
      scalars(&m[i], step);
      machine_run(&m[i], "update");
      if (i > 1) cr_assert(compare_list(&m[i], &m[0], "update", when) > 4 * model->nparams - 1);
    }
  }
  static const char *const lists[] = {"eval", "sample"};
  for (int l = 0; l < LEN(lists); l++)
    for (int i = 0; i < n && module_find(m->mod, lists[l]); i++) {
      if (!runs(m, i, STEPS + 1)) continue;
      double zero = 0, position = BATCH * (double)model->time - 2;
      machine_set(&m[i], "loss_sum", type_scalar(DT_f32), &zero);
      machine_set(&m[i], "position", type_make(DT_i32, 1, (int64_t[]){1}), &position);
      machine_run(&m[i], lists[l]);
      if (i > 1) cr_assert(compare_list(&m[i], &m[0], lists[l], lists[l]) > 0);
    }
}

static const char *const targets[] = {"cpu:x86-64-v3", "cpu:x86-64-v3,lanes=16", "cpu:x86-64-v3,lanes=4,memory=1",
                                      CHUNKED,         "cpu:x86-64-v3,fuse=0",   "cpu:x86-64-v4"};
_Static_assert(MACHINES >= 2 + 3 * LEN(targets),
               "two evaluators, and each target's graph and its program on 1 and 2 threads");

static bool runnable(const Target *t) {
  if (!target_here(t)) return false;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (strstr(t->require, "avx512") && !(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")))
    return false;
  if (strstr(t->require, "avx2") && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return false;
#endif
  return true;
}

/* Are the logits made in a loop? */
static bool in_loop(const Module *m) {
  for (int i = 0; i < m->ngraphs; i++) {
    const Graph *g = m->graphs[i];
    for (int k = 0; k < g->nnodes && g->region && !strcmp(g->region, "loop"); k++)
      if (g->nodes[k].op == OP_pick) return true;
  }
  return false;
}

static void check_model(const Small *s, bool every_target) {
  Machine m[MACHINES];
  int n = 2;
  seed = 1;
  Compile *reference = compile(s, targets[0], "dce", STAGE_FUSED);
  m[0] = (Machine){.what = "evaluator", .mod = reference->module, .mode = EVAL_EXACT};
  m[1] = (Machine){.what = "evaluator in double", .mod = reference->module, .mode = EVAL_DOUBLE};
  for (int t = 0; t < LEN(targets); t++) {
    if (!every_target && t && strcmp(targets[t], CHUNKED)) continue;
    Compile *c = compile(s, targets[t], NULL, STAGE_OBJECT);
    if (!strcmp(targets[t], CHUNKED)) cr_assert(in_loop(compile(s, CHUNKED, "chunk", STAGE_FUSED)->module));
    m[n++] =
        (Machine){.what = arena_printf(a, "%s, fused, evaluated", targets[t]), .mod = c->module, .mode = EVAL_EXACT};
    if (runnable(&c->target)) {
      load_program(&m[n++], c, targets[t], 1);
      load_program(&m[n++], c, targets[t], 2);
    } else {
      fprintf(stderr, "%s: programs for %s are not run: this is no %s with %s\n", s->path, targets[t], c->target.arch,
              c->target.require);
    }
    compile_free(c);
  }
  run_machines(m, n, reference->model);
  for (int i = 0; i < n; i++) engine_free(m[i].engine);
}

Test(models, gpt2_is_the_evaluator_s_bits) {
  check_model(&gpt2, true);
}
Test(models, llama_is_the_evaluator_s_bits) {
  check_model(&llama, true);
}
Test(models, experts_are_the_evaluator_s_bits) {
  check_model(&experts, true);
}
Test(models, char_is_the_evaluator_s_bits) {
  check_model(&chars, false);
}
Test(models, dropout_is_the_evaluator_s_bits) {
  check_model(&dropped, false);
}
Test(models, mlp_is_the_evaluator_s_bits) {
  check_model(&mlp, true);
}

/* ---- text: print, parse, print */

static void check_text(const Module *m, const char *what) {
  Text once = {0}, twice = {0};
  module_print(m, false, &once);
  Module *again = module_parse(a, d, diags_source(d, what, once.s, once.n));
  no_errors(d, what);
  cr_assert(again != NULL, "%s", what);
  cr_assert(module_verify(again), "%s", what);
  module_print(again, false, &twice);
  cr_assert(eq(str, twice.s, once.s), "%s", what);
  text_free(&twice); /* `once` is a source now */
}

static void check_kernels(const Compile *c, const char *what) {
  Text once = {0}, twice = {0};
  cr_assert(c->kernels->n > 0);
  kmodule_print(c->kernels, NULL, &once);
  KModule *again = kmodule_parse(a, d, diags_source(d, what, once.s, once.n));
  no_errors(d, what);
  cr_assert(again != NULL, "%s", what);
  cr_assert(eq(int, again->n, c->kernels->n));
  for (int i = 0; i < again->n; i++) cr_assert(kernel_verify(again->kernels[i], d), "%s", what);
  no_errors(d, what);
  kmodule_print(again, NULL, &twice);
  cr_assert(eq(str, twice.s, once.s), "%s", what);
  text_free(&twice);
}

Test(models, every_stage_reads_back_as_it_was_written) {
  static const Small *const all[] = {&gpt2, &llama, &experts, &chars, &dropped, &mlp};
  for (int i = 0; i < LEN(all); i++) {
    check_text(compile(all[i], targets[0], NULL, STAGE_GRAPH)->module, arena_printf(a, "%s, source", all[i]->path));
    for (int p = 0; p < pass_count; p++)
      for (int chunked = 0; chunked < 2; chunked++)
        check_text(compile(all[i], chunked ? CHUNKED : targets[0], pass_table[p].name, STAGE_FUSED)->module,
                   arena_printf(a, "%s after %s", all[i]->path, pass_table[p].name));
    for (int t = 0; t < LEN(targets); t++)
      check_kernels(compile(all[i], targets[t], NULL, STAGE_KERNELS),
                    arena_printf(a, "%s for %s", all[i]->path, targets[t]));
  }
}

/* ---- depth */

static int regions(const Small *s, const char *layers) {
  Small deep = *s;
  for (int i = 0; deep.sets[i]; i++)
    if (!strncmp(deep.sets[i], "dims.layers=", 12)) deep.sets[i] = layers;
  const Module *m = compile(&deep, targets[0], NULL, STAGE_FUSED)->module;
  int n = 0;
  for (int i = 0; i < m->ngraphs; i++) {
    const Graph *g = m->graphs[i];
    bool scalars_only = true;
    for (int k = 0; k < g->ninputs; k++) scalars_only = scalars_only && !val_type(g, g->inputs[k].val).rank;
    n += g->region && !scalars_only;
  }
  return n;
}

/* Regions of scalars apart: the gradients' norms are summed in one of them for every 60 parameters. */
Test(models, eighty_layers_have_the_kernels_of_two) {
  static const Small *const deep[] = {&gpt2, &llama, &chars, &dropped};
  for (int i = 0; i < LEN(deep); i++) {
    int two = regions(deep[i], "dims.layers=2");
    cr_assert(two > 5);
    cr_assert(eq(int, regions(deep[i], "dims.layers=80"), two), "%s", deep[i]->path);
  }
}
