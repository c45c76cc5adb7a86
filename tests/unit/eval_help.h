/* What tests of the evaluator and of derivatives share: graphs from text, random data, outputs by name. */
#ifndef INK_TESTS_EVAL_HELP_H
#define INK_TESTS_EVAL_HELP_H
#include "ir/eval.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Arena *a;
static Diags *d;
static inline void setup(void) {
  a = arena_new();
  d = diags_new(a);
}
static inline void teardown(void) {
  arena_free(a);
}

static inline void no_errors(const char *where) {
  Text t = {0};
  diags_render(d, &t);
  if (t.n) cr_fail("%s:\n%s", where, t.s);
  text_free(&t);
}

static inline Module *parse_module(const char *text) {
  Module *m = module_parse(a, d, diags_source(d, "text.ir", text, strlen(text)));
  bool ok = m && module_verify(m);
  no_errors(text);
  cr_assert(ok);
  return m;
}

/* splitmix64 (Vigna): small, and the same on every machine. */
static inline double uniform(uint64_t *seed, double lo, double hi) {
  uint64_t z = *seed += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return lo + (hi - lo) * (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* One tensor an input: floats in [lo, hi), rounded to f32 so that both modes get the same; integers in [-1, 3), those of an
 * input whose name begins with "pos", "row" or "tok" in [0, 3). */
static inline Tensor *random_inputs(const Graph *g, EvalMode mode, uint64_t seed, double lo, double hi) {
  Tensor *in = NEW_ARRAY(a, Tensor, g->ninputs);
  for (int i = 0; i < g->ninputs; i++) {
    Type t = val_type(g, g->inputs[i].val);
    const char *name = g->inputs[i].name;
    bool whole = strncmp(name, "pos", 3) == 0 || strncmp(name, "row", 3) == 0 || strncmp(name, "tok", 3) == 0;
    in[i] = tensor_new(a, t, mode);
    for (int64_t k = 0; k < type_elements(t); k++)
      tensor_set(&in[i], mode, k,
                 t.dt == DT_i32 ? floor(uniform(&seed, whole ? 0 : -1, 3)) : (double)(float)uniform(&seed, lo, hi));
  }
  return in;
}

static inline Tensor *run_graph(const Graph *g, EvalMode mode, const Tensor *in) {
  Tensor *out = NEW_ARRAY(a, Tensor, g->noutputs);
  bool ok = graph_eval(g, mode, in, NULL, 0, a, out, d);
  no_errors(g->name);
  cr_assert(ok);
  return out;
}

static inline int output_index(const Graph *g, const char *name) {
  for (int i = 0; i < g->noutputs; i++)
    if (strcmp(g->outputs[i].name, name) == 0) return i;
  cr_fail("@%s has no output %s", g->name, name);
  return -1;
}
static inline int input_index(const Graph *g, const char *name) {
  for (int i = 0; i < g->ninputs; i++)
    if (strcmp(g->inputs[i].name, name) == 0) return i;
  cr_fail("@%s has no input %s", g->name, name);
  return -1;
}
#endif
