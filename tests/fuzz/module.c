/* Modules under test, see module.h.
 *
 * The evaluator would run for years on extents that are legal, so what a graph costs is counted first: values and
 * arithmetic, times the turns of the calls on the way. The target is a machine's fixed numbers, small ones where that makes
 * the passes do more. */
#include "tests/fuzz/module.h"
#include "codegen/codegen.h"
#include "ir/eval.h"
#include "ir/infer.h"
#include "passes/passes.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 250, GRAPHS = 32, COST = 3000, SYMBOLS = 16 };

static const Target target = {.name = "cpu:x86-64-v3",
                              .arch = "x86_64",
                              .triple = "x86_64-unknown-linux-gnu",
                              .cpu = "x86-64-v3",
                              .features = "",
                              .require = "avx2,fma,bmi2",
                              .lanes = 8,
                              .registers = 16,
                              .l1 = 32 << 10,
                              .l2 = 512 << 10,
                              .l3 = 8 << 20,
                              .chunk = 4096,
                              .cores = 2};

static bool small(const Module *m) {
  int nodes = 0;
  for (int i = 0; i < m->ngraphs; i++) nodes += m->graphs[i]->nnodes + m->graphs[i]->ninputs + m->graphs[i]->noutputs;
  return nodes <= NODES && m->ngraphs <= GRAPHS;
}

/* With places or without: both parse, to the same module. Only the form without is held against itself, for what has no
 * place gets the one it has in the text. */
void fuzz_module_text(const Module *m) {
  if (!small(m)) return;
  Arena *a = arena_new();
  Text first = {0}, places = {0}, again = {0};
  module_print(m, false, &first);
  module_print(m, true, &places);
  for (int i = 0; i < 2; i++) {
    const Text *t = i ? &places : &first;
    Diags *d = diags_new(a);
    Module *read = module_parse(a, d, diags_source(d, "again.ir", t->s, t->n));
    MUST(read, "a printed module does not parse: %u:%u: %s\n%s", d->list[0].at.line, d->list[0].at.col, d->list[0].text,
         t->s);
    MUST(module_verify(read), "a parsed module does not verify: %s\n%s", d->list[0].text, t->s);
    again.n = 0;
    module_print(read, false, &again);
    MUST(first.n == again.n && !memcmp(first.s, again.s, first.n), "printed otherwise:\n%s\n%s", first.s, again.s);
  }
  Text *all[] = {&first, &places, &again};
  for (int i = 0; i < LEN(all); i++) text_free(all[i]);
  arena_free(a);
}

/* ---- the evaluator */

static double cost(const Module *m, const Graph *g, double *known) {
  int at = 0;
  while (m->graphs[at] != g) at++;
  if (known[at] >= 0) return known[at];
  double sum = g->nnodes + 1;
  for (int v = 1; v < g->nvals; v++) sum += (double)type_elements(g->types[v]);
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (n->op == OP_table) sum += 16 * (double)type_elements(g->types[n->res]);
    if (n->op != OP_call) {
      sum += node_flops(g, n);
      continue;
    }
    const Attr *count = node_attr(n, "count");
    sum += cost(m, module_find(m, node_attr(n, "fn")->str), known) * (count ? (double)count->i : 1);
  }
  return known[at] = sum;
}

static bool cheap(const Module *m, const Graph *g) {
  double known[GRAPHS];
  for (int i = 0; i < GRAPHS; i++) known[i] = -1;
  return cost(m, g, known) <= COST;
}

/* Values of symbolic extents: a name's hash says how far below its bound. */
static int bind_symbols(const Graph *g, Binding *bind) {
  int n = 0;
  for (int v = 1; v < g->nvals; v++)
    for (int k = 0; k < g->types[v].rank; k++) {
      Dim d = g->types[v].dim[k];
      bool known = !d.sym;
      for (int j = 0; j < n; j++) known = known || !strcmp(bind[j].name, d.name);
      if (known || n == SYMBOLS) continue;
      uint64_t h = hash64(d.name, strlen(d.name));
      bind[n++] = (Binding){d.name, h % 3 && d.n > 0 ? d.n : (int64_t)(h / 3 % (uint64_t)(d.n > 0 ? d.n + 1 : 1))};
    }
  return n;
}

/* Mostly values that make sense; sometimes an index out of range, an infinity or a NaN. */
static double draw(const Graph *g, const Input *in, DType dt, int64_t i) {
  uint64_t key[2] = {hash64(in->name, strlen(in->name)), (uint64_t)i}, h = hash64(key, sizeof key);
  int64_t bound = dt == DT_i32 ? graph_index_use(g, in->val).bound : 0;
  if (dt == DT_i32) return h % 64 ? (double)(h / 64 % (uint64_t)(bound > 0 ? bound : 4)) : h % 128 ? -1.0 : 2e9;
  if (dt == DT_i8) return (double)(int8_t)h;
  return h % 97 ? ((double)(h / 97 % 512) - 256) / 256 : h % 2 ? INFINITY : NAN;
}

/* False when the data was refused. */
static bool eval(const Graph *g, EvalMode mode, Arena *a, Tensor *out) {
  Binding bind[SYMBOLS];
  int nbind = bind_symbols(g, bind);
  Diags *d = diags_new(a);
  Tensor *in = NEW_ARRAY(a, Tensor, g->ninputs + 1);
  for (int i = 0; i < g->ninputs; i++) {
    Type t = g->types[g->inputs[i].val];
    for (int k = 0; k < t.rank; k++) {
      t.dim[k].seg = 0;
      for (int b = 0; t.dim[k].sym && b < nbind; b++)
        if (!strcmp(bind[b].name, t.dim[k].name)) t.dim[k].n = bind[b].n, t.dim[k].sym = false;
    }
    in[i] = tensor_new(a, t, mode);
    for (int64_t x = 0, n = type_elements(t); x < n; x++) tensor_set(&in[i], mode, x, draw(g, &g->inputs[i], t.dt, x));
  }
  bool ok = graph_eval(g, mode, in, bind, nbind, a, out, d);
  fuzz_diags(d, !ok);
  return ok;
}

void fuzz_module_eval(const Module *m) {
  if (!small(m)) return;
  for (int i = 0; i < m->ngraphs; i++) {
    const Graph *g = m->graphs[i];
    if (!cheap(m, g)) continue;
    Arena *a = arena_new();
    Tensor *out = NEW_ARRAY(a, Tensor, g->noutputs + 1);
    eval(g, EVAL_DOUBLE, a, out);
    eval(g, EVAL_EXACT, a, out);
    arena_free(a);
  }
}

/* The same graphs compute the same bits, where both have them. */
static void check_same(const Module *before, const Module *after, const char *pass) {
  if (!small(before) || !small(after)) return;
  for (int i = 0; i < before->ngraphs; i++) {
    const Graph *g = before->graphs[i], *h = module_find(after, g->name);
    if (g->region || !h || h->ninputs != g->ninputs || h->noutputs != g->noutputs || !cheap(before, g) ||
        !cheap(after, h))
      continue;
    Arena *a = arena_new();
    Tensor *x = NEW_ARRAY(a, Tensor, g->noutputs + 1), *y = NEW_ARRAY(a, Tensor, g->noutputs + 1);
    if (eval(g, EVAL_EXACT, a, x) && eval(h, EVAL_EXACT, a, y))
      for (int o = 0; o < g->noutputs; o++)
        for (int64_t k = 0; k < type_elements(x[o].type); k++) {
          double u = tensor_get(&x[o], EVAL_EXACT, k), v = tensor_get(&y[o], EVAL_EXACT, k);
          MUST(!memcmp(&u, &v, sizeof u) || (isnan(u) && isnan(v)), "%s made element %lld of @%s's %s %.9g, not %.9g",
               pass, (long long)k, g->name, g->outputs[o].name, v, u);
        }
    arena_free(a);
  }
}

/* ---- passes */

static void check_kernels(const Module *m) {
  Arena *a = arena_new();
  KModule *km = kmodule_new(a, "kernels"), *again;
  Text first = {0}, second = {0};
  bool ok = true;
  for (int i = 0; i < m->ngraphs && ok; i++) {
    Lowered low;
    if (!m->graphs[i]->region) continue;
    ok = lower_region(m->graphs[i], &target, km, &low);
    MUST(ok || m->diags->n, "@%s is not lowered, without a word", m->graphs[i]->name);
    if (ok)
      MUST(kernel_verify(low.kernel, m->diags), "the kernel of @%s: %s", m->graphs[i]->name,
           m->diags->list[m->diags->n - 1].text);
  }
  if (ok && km->n) {
    Diags *d = diags_new(a);
    kmodule_print(km, NULL, &first);
    again = kmodule_parse(a, d, diags_source(d, "again.kir", first.s, first.n));
    MUST(again, "printed kernels do not parse: %u: %s\n%s", d->list[0].at.line, d->list[0].text, first.s);
    kmodule_print(again, NULL, &second);
    MUST(!strcmp(first.s, second.s), "kernels printed otherwise:\n%s\n%s", first.s, second.s);
  }
  text_free(&first);
  text_free(&second);
  arena_free(a);
}

void fuzz_module_passes(Module *m, const char *first) {
  if (!small(m)) return;
  for (int i = 0; i < m->ngraphs; i++)
    if (m->graphs[i]->region) first = "schedule"; /* the passes before it take graphs before fusion */
  for (const PassInfo *p = pass_find(first); p < pass_table + pass_count; p++) {
    int errors = m->diags->n;
    Diags *d = m->diags;
    Module *next = p->run(m, &target);
    MUST(next || d->n > errors, "pass %s fails without a word", p->name);
    if (!next || d->n > errors) return;
    if (!module_verify(next)) {
      Text t = {0};
      module_print(m, false, &t);
      fuzz_broken(__FILE__, __LINE__, "pass %s left a module that does not verify: %s\n%s", p->name,
                  d->list[errors].text, t.s);
    }
    if (!strcmp(p->name, "cse") || !strcmp(p->name, "dce") || !strcmp(p->name, "schedule"))
      check_same(m, next, p->name);
    m = next;
    if (!small(m)) return;
  }
  fuzz_module_text(m);
  check_kernels(m);
}
