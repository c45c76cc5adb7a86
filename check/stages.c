/* One module through the whole pipeline, every stage held to the one before it.
 *
 *   text       print, parse, print: the same text, at every stage
 *   input      can the module be evaluated at all? If not, the inputs are at fault, not the compiler
 *   gradients  autodiff of @forward against differences, in double; behind training, the first pass
 *   passes     each by what its row of passes.def promises: VALUES in double, BITS in the exact arithmetic
 *   kernels    every call of a region that the evaluator makes is made of the compiled kernel too, with the same operands
 *   lists      the program's steps over its planned memory, on one thread and on two
 *
 * The first fault ends the check. Passes before `chunk` do not look at the target, so they run once for all targets. A value that
 * rounding alone decides (a comparison of equal things) may differ after algebra: a pass that keeps VALUES is at fault only
 * when three sets of inputs say so. */
#include "check/check.h"
#include "ir/region.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const fault_name[FAULT_KINDS] = {"none",    "input",  "text",    "pass",  "gradient",
                                             "compile", "kernel", "program", "crash", "hang"};

typedef struct Stage {
  const Check *c;
  Fault *f;
  Arena *a;
  Diags *d;
  Values values;     /* in use: c->values, or another seed */
  const Module *now; /* what the stage starts from */
  const PassInfo *passes;
  int npasses;
} Stage;

/* What the main graphs of a module compute. */
typedef struct Results {
  const Module *mod;
  EvalMode mode;
  Tensor **out; /* by graph; NULL for regions */
} Results;

static void doing(Stage *s, const char *fmt, ...) PRINTF(2, 3);
static void doing(Stage *s, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(s->f->stage, sizeof s->f->stage, fmt, ap);
  va_end(ap);
  if (s->c->enter) s->c->enter(s->c->enter_ctx, s->f->stage, s->now);
}

/* The evaluator takes the time that it takes, whatever is left of a stage's. */
static void evaluating(Stage *s) {
  if (s->c->enter) s->c->enter(s->c->enter_ctx, "evaluation", s->now);
}

/* What a module that cannot be evaluated is: alone, a question that makes no sense; in the pipeline, what the stage made of it. */
static FaultKind unless_asked_alone(const Stage *s, FaultKind kind) {
  return s->c->only ? FAULT_INPUT : kind;
}

static bool fault(Stage *s, FaultKind kind, const char *where, const char *fmt, ...) PRINTF(4, 5);
static bool fault(Stage *s, FaultKind kind, const char *where, const char *fmt, ...) {
  va_list ap;
  s->f->kind = kind;
  snprintf(s->f->where, sizeof s->f->where, "%s", where);
  va_start(ap, fmt);
  vsnprintf(s->f->text, sizeof s->f->text, fmt, ap);
  va_end(ap);
  return false;
}

/* The diagnostics as a fault. */
static bool refused(Stage *s, FaultKind kind, const char *where) {
  Text t = {0};
  diags_render(s->d, &t);
  fault(s, kind, where, "%s", t.n ? t.s : "it gives up, and no diagnostic says why");
  s->f->said = true;
  text_free(&t);
  return false;
}

static bool is_main(const Graph *g) {
  return !g->region;
}

/* ---- text */

static const char *text_of(Stage *s, const Module *m, bool spans) {
  Text t = {0};
  module_print(m, spans, &t);
  const char *copy = arena_strdup(s->a, t.s ? t.s : "");
  text_free(&t);
  return copy;
}

Module *module_reread(Arena *a, Diags *d, const char *text) {
  uint32_t file = diags_source(d, "module.ir", text, strlen(text));
  Module *m = module_parse(a, d, file);
  for (int i = 0; m && i < m->ngraphs; i++) {
    Graph *g = m->graphs[i];
    for (int k = 0; k < g->nnodes; k++)
      if (g->nodes[k].span.file == file) g->nodes[k].span = (Span){0};
    for (int k = 0; k < g->ninputs; k++)
      if (g->inputs[k].span.file == file) g->inputs[k].span = (Span){0};
  }
  return m;
}

/* The module again, from its text. NULL: a fault. */
static Module *again(Stage *s, const Module *m, const char *where) {
  const char *text = text_of(s, m, true), *plain = text_of(s, m, false);
  Module *copy = module_reread(s->a, s->d, text);
  if (!copy || !module_verify(copy)) return refused(s, FAULT_TEXT, where), NULL;
  const char *after = text_of(s, copy, false);
  if (!strcmp(plain, after)) return copy;
  size_t i = 0;
  while (plain[i] == after[i]) i++;
  while (i > 0 && plain[i - 1] != '\n') i--;
  fault(s, FAULT_TEXT, where, "printed:   %.*s\nread back: %.*s", (int)strcspn(plain + i, "\n"), plain + i,
        (int)strcspn(after + i, "\n"), after + i);
  return NULL;
}

static bool kernels_round(Stage *s, const KModule *km) {
  for (int i = 0; i < km->n; i++) {
    Text t = {0}, u = {0};
    kmodule_print(km, km->kernels[i]->name, &t);
    const char *text = arena_strdup(s->a, t.s);
    KModule *back = kmodule_parse(s->a, s->d, diags_source(s->d, "kernel.kir", text, strlen(text)));
    if (back) kmodule_print(back, NULL, &u);
    bool same = back && u.s && !strcmp(text, u.s);
    text_free(&t);
    text_free(&u);
    if (!back) return refused(s, FAULT_TEXT, km->kernels[i]->name);
    if (!same) return fault(s, FAULT_TEXT, km->kernels[i]->name, "the kernel's text reads back as another");
  }
  return true;
}

/* ---- evaluation */

static Tensor *inputs_of(Stage *s, const Graph *g, EvalMode mode, Binding *bind, int *nbind) {
  Tensor *in = NEW_ARRAY(s->a, Tensor, g->ninputs + 1);
  *nbind = values_bind(g, s->values.seed, bind);
  for (int i = 0; i < g->ninputs; i++)
    if (!values_input(g, i, &s->values, bind, *nbind, mode, s->a, s->d, &in[i])) return NULL;
  return in;
}

static bool evaluate(Stage *s, const Module *m, EvalMode mode, const EvalWatch *watch, Results *r) {
  *r = (Results){m, mode, NEW_ARRAY(s->a, Tensor *, m->ngraphs)};
  for (int i = 0; i < m->ngraphs; i++) {
    const Graph *g = m->graphs[i];
    Binding bind[CHECK_BINDINGS];
    int nbind;
    if (!is_main(g)) continue;
    Tensor *in = inputs_of(s, g, mode, bind, &nbind);
    r->out[i] = NEW_ARRAY(s->a, Tensor, g->noutputs + 1);
    if (!in || !graph_eval_watched(g, mode, in, bind, nbind, watch, s->a, r->out[i], s->d)) return false;
  }
  return true;
}

static const Tensor *result(const Results *r, const char *graph, const char *output) {
  for (int i = 0; i < r->mod->ngraphs; i++) {
    const Graph *g = r->mod->graphs[i];
    if (!is_main(g) || strcmp(g->name, graph)) continue;
    for (int o = 0; o < g->noutputs; o++)
      if (!strcmp(g->outputs[o].name, output)) return &r->out[i][o];
  }
  return NULL;
}

static bool bits_differ(Stage *s, char *text, size_t room, const char *graph, const char *output, const Tensor *got,
                        const Tensor *want) {
  int64_t first = 0, bad = values_differ(got, want, &first);
  s->f->seen.elements += type_elements(want->type);
  if (!bad) return false;
  snprintf(text, room, "@%s, output %s: %lld of %lld elements differ; element %lld is %.9g (%a), not %.9g (%a)", graph,
           output, (long long)bad, (long long)type_elements(want->type), (long long)first,
           tensor_get(got, EVAL_EXACT, first), tensor_get(got, EVAL_EXACT, first), tensor_get(want, EVAL_EXACT, first),
           tensor_get(want, EVAL_EXACT, first));
  return true;
}

/* In double: beyond what associating anew explains. What was infinite or nothing before may be folded to anything. */
static bool values_changed(Stage *s, char *text, size_t room, const char *graph, const char *output, const Tensor *got,
                           const Tensor *want) {
  for (int64_t i = 0, n = type_elements(want->type); i < n; i++) {
    double x = tensor_get(want, EVAL_DOUBLE, i), y = tensor_get(got, EVAL_DOUBLE, i);
    if (!isfinite(x) || fabs(x - y) <= 1e-8 * (1 + fabs(x))) continue;
    snprintf(text, room, "@%s, output %s: element %lld is %.15g (%a), was %.15g (%a)", graph, output, (long long)i, y,
             y, x, x);
    return true;
  }
  s->f->seen.elements += type_elements(want->type);
  return false;
}

/* Does `after` compute what `before` does? false: text says what differs first. */
static bool same(Stage *s, const Results *after, const Results *before, char *text, size_t room) {
  for (int i = 0; i < before->mod->ngraphs; i++) {
    const Graph *g = before->mod->graphs[i];
    for (int o = 0; is_main(g) && o < g->noutputs; o++) {
      const char *name = g->outputs[o].name;
      const Tensor *got = result(after, g->name, name);
      if (!got) {
        snprintf(text, room, "output %s of @%s is gone", name, g->name);
        return false;
      }
      if ((before->mode == EVAL_EXACT ? bits_differ : values_changed)(s, text, room, g->name, name, got,
                                                                      &before->out[i][o]))
        return false;
    }
  }
  return true;
}

/* ---- passes */

static bool has_dtype(const Module *m, DType dt) {
  for (int i = 0; i < m->ngraphs; i++)
    for (int v = 1; v < m->graphs[i]->nvals; v++)
      if (m->graphs[i]->types[v].dt == dt) return true;
  return false;
}

/* The evaluator's mode in which a pass that keeps `keeps` is held to it: there is no exact arithmetic of f64 and f8. */
static EvalMode mode_for(const Module *m, int keeps) {
  return keeps == KEEPS_BITS && !has_dtype(m, DT_f64) && !has_dtype(m, DT_f8e4m3) ? EVAL_EXACT : EVAL_DOUBLE;
}

static bool compare_pass(Stage *s, const PassInfo *p, const Module *before, const Module *after) {
  EvalMode mode = mode_for(before, p->keeps);
  int tries = p->keeps == KEEPS_VALUES ? 3 : 1;
  char text[600];
  evaluating(s);
  for (int i = 0; i < tries; i++) {
    Results x, y;
    Values all = s->values;
    if (p->keeps == KEEPS_VALUES) s->values.special = false;
    if (i) s->values.seed += (uint64_t)i << 32;
    bool given = evaluate(s, before, mode, NULL, &x), ok = given && evaluate(s, after, mode, NULL, &y);
    s->values = all;
    if (!ok) return refused(s, given ? FAULT_PASS : unless_asked_alone(s, FAULT_PASS), p->name);
    if (same(s, &y, &x, text, sizeof text)) return true;
  }
  return fault(s, FAULT_PASS, p->name, "%s", text);
}

static Module *run_pass(Stage *s, const PassInfo *p, Module *m, const Target *t) {
  s->now = m;
  doing(s, "pass %s", p->name);
  const char *given = text_of(s, m, false);
  Module *out = p->run(m, t);
  if (!out || s->d->n) return refused(s, FAULT_PASS, p->name), NULL;
  if (strcmp(given, text_of(s, m, false)))
    return fault(s, FAULT_PASS, p->name, "the pass writes into the module that it was given"), NULL;
  if (!module_verify(out)) return refused(s, FAULT_PASS, p->name), NULL;
  if (s->c->round && !again(s, out, p->name)) return NULL;
  s->f->seen.passes++;
  return p->keeps == KEEPS_NOTHING || compare_pass(s, p, m, out) ? out : NULL;
}

/* ---- kernels and programs */

typedef struct Kernels {
  Stage *s;
  const Native *n;
  const Target *t;
  Module *mod;
  const Binding *bind;
  int nbind;
  int *seen; /* by graph: how often its kernel was tried */
} Kernels;

enum { TRIES = 3 };

static bool try_kernel(void *ctx, const Graph *g, const Node *n, const Tensor *arg, Tensor *res) {
  Kernels *k = ctx;
  Stage *s = k->s;
  const Graph *r = n->op == OP_call ? module_find(g->mod, node_attr(n, "fn")->str) : NULL;
  if (!r || !r->region || !strcmp(r->region, "loop")) return true;
  int index = 0;
  while (k->mod->graphs[index] != r) index++;
  if (node_attr(n, "count") || k->seen[index]++ >= TRIES) return true;
  static const int threads[] = {1, 3};
  const Kernel *compiled = k->n->km->kernels[kmodule_find(k->n->km, r->name)];
  s->now = k->mod;
  doing(s, "kernel %s", r->name);
  if (compiled->file) snprintf(s->f->place, sizeof s->f->place, "%.140s:%u", compiled->file, compiled->line);
  s->f->seen.kernels += k->seen[index] == 1;
  for (int i = 0; i < LEN(threads); i++) {
    Tensor *out = NEW_ARRAY(s->a, Tensor, r->noutputs + 1);
    for (int o = 0; o < r->noutputs; o++) out[o] = tensor_new(s->a, res[o].type, EVAL_EXACT);
    const char *wrong = native_kernel(k->n, r, arg, k->bind, k->nbind, threads[i], out);
    if (wrong)
      return fault(s, FAULT_KERNEL, r->name, "@%s %s (%d threads, %s)", r->name, wrong, threads[i], k->t->name);
    for (int o = 0; o < r->noutputs; o++) {
      char text[500];
      if (!bits_differ(s, text, sizeof text, r->name, r->outputs[o].name, &out[o], &res[o])) continue;
      return fault(s, FAULT_KERNEL, r->name, "%s (%d threads, %s)", text, threads[i], k->t->name);
    }
  }
  s->f->place[0] = 0;
  evaluating(s);
  return true;
}

static bool check_kernels(Stage *s, Module *m, const Native *n, const Target *t) {
  Kernels k = {s, n, t, m, .seen = NEW_ARRAY(s->a, int, m->ngraphs)};
  EvalWatch watch = {try_kernel, &k};
  for (int i = 0; i < m->ngraphs; i++) {
    const Graph *g = m->graphs[i];
    if (!is_main(g)) continue;
    Binding bind[CHECK_BINDINGS];
    Tensor *in = inputs_of(s, g, EVAL_EXACT, bind, &k.nbind), *out = NEW_ARRAY(s->a, Tensor, g->noutputs + 1);
    k.bind = bind;
    s->now = m;
    evaluating(s);
    if (!in || !graph_eval_watched(g, EVAL_EXACT, in, bind, k.nbind, &watch, s->a, out, s->d))
      return s->f->kind ? false : refused(s, unless_asked_alone(s, FAULT_COMPILE), t->name);
  }
  return true;
}

static bool check_lists(Stage *s, const Module *m, const Native *n, const Target *t, const Results *want) {
  for (int i = 0; i < m->ngraphs; i++) {
    const Graph *g = m->graphs[i];
    Binding bind[CHECK_BINDINGS];
    int nbind;
    if (!is_main(g)) continue;
    Tensor *in = inputs_of(s, g, EVAL_EXACT, bind, &nbind), *out = NEW_ARRAY(s->a, Tensor, g->noutputs + 1);
    for (int threads = 1; in && threads <= 2; threads++) {
      s->now = m;
      doing(s, "list %s", g->name);
      s->f->seen.lists += threads == 1;
      for (int o = 0; o < g->noutputs; o++)
        out[o] = tensor_new(s->a, values_type(val_type(g, g->outputs[o].val), bind, nbind), EVAL_EXACT);
      if (!native_list(n, g, in, bind, nbind, threads, out, s->d)) return refused(s, FAULT_PROGRAM, g->name);
      for (int o = 0; o < g->noutputs; o++) {
        char text[500];
        const Tensor *w = result(want, g->name, g->outputs[o].name);
        if (w && bits_differ(s, text, sizeof text, g->name, g->outputs[o].name, &out[o], w))
          return fault(s, FAULT_PROGRAM, g->name, "%s (%d threads, %s)", text, threads, t->name);
      }
    }
  }
  return true;
}

/* The machine's part: from the module after all passes. */
static bool check_native(Stage *s, Module *m, const Target *t) {
  for (int dt = 0; dt < DT_COUNT; dt++)
    if (dt != DT_f32 && dt != DT_bf16 && dt != DT_i32 && dt != DT_i8 && has_dtype(m, (DType)dt))
      return true; /* no kernels for these */
  Native n;
  Results want;
  s->now = m;
  doing(s, "code generation for %s", t->name);
  if (!native_open(&n, m, t, s->c->compiler ? s->c->compiler->lower : NULL, !s->c->quick, s->a, s->d))
    return refused(s, FAULT_COMPILE, t->name);
  bool ok = !s->c->round || kernels_round(s, n.km);
  if (ok && n.jit)
    ok = check_kernels(s, m, &n, t) &&
         (evaluating(s), evaluate(s, m, EVAL_EXACT, NULL, &want) || refused(s, FAULT_COMPILE, t->name)) &&
         check_lists(s, m, &n, t, &want);
  native_close(&n);
  return ok;
}

static bool has_regions(const Module *m) {
  for (int i = 0; i < m->ngraphs; i++)
    if (!is_main(m->graphs[i]) && strcmp(m->graphs[i]->region, "loop")) return true;
  return false;
}

/* Regions alone: a graph for each, that calls it. */
static bool call_regions(Module *m) {
  for (int i = 0, n = m->ngraphs; i < n; i++)
    if (is_main(m->graphs[i])) return true;
  for (int i = 0, n = m->ngraphs; i < n; i++) {
    const Graph *r = m->graphs[i];
    Graph *g = graph_new(m, intern(arena_printf(m->arena, "of.%s", r->name)));
    Val *args = NEW_ARRAY(m->arena, Val, r->ninputs + 1);
    Attr fn = attr_str("fn", r->name);
    for (int k = 0; k < r->ninputs; k++)
      args[k] = graph_input(g, r->inputs[k].name, IN_DATA, val_type(r, r->inputs[k].val), r->inputs[k].span);
    Val v = graph_add(g, OP_call, args, r->ninputs, &fn, 1, NULL, (Span){0});
    for (int o = 0; v && o < r->noutputs; o++)
      graph_output(g, intern(arena_printf(m->arena, "out.%s", r->outputs[o].name)), v + (Val)o);
    if (!v) return false;
  }
  return module_verify(m);
}

static const PassInfo *pass_named(const Stage *s, const char *name) {
  for (int i = 0; i < s->npasses; i++)
    if (!strcmp(s->passes[i].name, name)) return &s->passes[i];
  return NULL;
}

static bool asked(const Stage *s, const char *stage) {
  return !s->c->only || !strcmp(s->c->only, stage);
}

/* From `given` to its copy m: can it be read back, and evaluated? */
static bool input_stage(Stage *s, const Module *given, Module **m) {
  Results r;
  s->now = given;
  doing(s, "text");
  if (!(*m = again(s, given, "input"))) return false;
  if (!call_regions(*m)) return refused(s, FAULT_INPUT, "input");
  if (!asked(s, "gradients")) return true; /* a stage alone evaluates what it needs */
  doing(s, "input");
  return evaluate(s, *m, EVAL_DOUBLE, NULL, &r) || refused(s, FAULT_INPUT, "input");
}

/* m: before training, which is known not to crash. */
static bool gradient_stage(Stage *s, const Module *m) {
  const Graph *forward = module_find(m, "forward");
  const PassInfo *training = pass_named(s, "training");
  if (!s->c->gradients || !training || !forward || !graph_find_output(forward, "loss")) return true;
  s->now = m;
  doing(s, "gradients");
  return check_gradients(forward, training, s->c, s->f);
}

/* One pass, from the module before it. */
static bool pass_alone(Stage *s, Module *m, const char *name, const Target *t) {
  const PassInfo *p = pass_named(s, name);
  if (!p) return fault(s, FAULT_INPUT, "input", "there is no pass '%s'", name);
  return run_pass(s, p, m, t) != NULL;
}

static bool stages(Stage *s, const Module *given) {
  const char *only = s->c->only;
  Module *m;
  Target *targets = NEW_ARRAY(s->a, Target, s->c->ntargets);
  if (!input_stage(s, given, &m)) return false;
  for (int i = 0; i < s->c->ntargets; i++)
    if (!target_resolve(s->a, s->d, s->c->targets[i], &targets[i])) return refused(s, FAULT_INPUT, "target");
  if (only && !strcmp(only, "gradients")) return gradient_stage(s, m);
  if (only && !strncmp(only, "pass ", 5)) return pass_alone(s, m, only + 5, &targets[0]);
  s->values.bounds = m;
  bool fused = only || has_regions(m); /* then there is nothing left for passes */
  if (only && strcmp(only, "program")) return true;
  int split = 0; /* passes whose result is the same for every target come before `chunk` */
  while (split < s->npasses && strcmp(s->passes[split].name, "chunk")) split++;
  for (int i = 0; i < split && !fused; i++) {
    const Module *before = m;
    if (!(m = run_pass(s, &s->passes[i], m, &targets[0]))) return false;
    if (s->passes[i].keeps == KEEPS_NOTHING) s->values.bounds = m; /* new graphs: what they index stays as it is here */
    if (&s->passes[i] == pass_named(s, "training") && !gradient_stage(s, before)) return false;
  }
  for (int t = 0; t < s->c->ntargets; t++) {
    Module *of = m;
    for (int i = split; i < s->npasses && !fused; i++)
      if (!(of = run_pass(s, &s->passes[i], of, &targets[t]))) return false;
    if (!check_native(s, of, &targets[t])) return false;
  }
  return true;
}

bool check_module(const Module *m, const Check *c, Fault *f) {
  Arena *a = arena_new();
  const Compiler *own = c->compiler;
  Stage s = {.c = c, .f = f, .a = a, .d = diags_new(a), .values = c->values};
  s.passes = own ? own->passes : pass_table;
  s.npasses = own ? own->npasses : pass_count;
  memset(f, 0, sizeof *f);
  bool ok = stages(&s, m);
  arena_free(a);
  return ok;
}
