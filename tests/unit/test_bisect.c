/* Bisection with compilers that are wrong on purpose: tables of passes and lowerings of this file's own. What must come out: the
 * kind of fault, its stage, a small module, and a file that shows it again. */
#include "check/check.h"
#include "passes/rewrite.h"
#include "runtime/safetensors.h"
#include "runtime_files.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>

TestSuite(bisect, .timeout = 120);

static Arena *a;
static Diags *d;
static Bisect b;

static const char model[] = "module \"m\"\n"
                            "graph @forward(%x: f32[B=6, 8] data, %w: f32[8, 8] param, %v: f32[8] param nodecay) {\n"
                            "  %1 = contract %x, %w {rule=\"bi,oi->bo\"} : f32[B=6, 8]   # m.yaml:3\n"
                            "  %2 = broadcast %v {axes=[1]} : f32[B=6, 8]   # m.yaml:4\n"
                            "  %3 = sub %1, %2 : f32[B=6, 8]   # m.yaml:4\n"
                            "  %4 = silu %3 : f32[B=6, 8]   # m.yaml:5\n"
                            "  %5 = square %4 : f32[B=6, 8]   # m.yaml:6\n"
                            "  %6 = sum %5 {axes=[1]} : f32[B=6]   # m.yaml:6\n"
                            "  return loss=%6\n"
                            "}\n";

static Module *parse(const char *text) {
  if (!a) a = arena_new();
  d = diags_new(a);
  Module *m = module_parse(a, d, diags_source(d, "test.ir", text, strlen(text)));
  Text t = {0};
  diags_render(d, &t);
  cr_assert(m && module_verify(m), "%s", t.s);
  text_free(&t);
  return m;
}

/* ---- wrong passes: node `from` of any graph as op `to`, or, with OP_NONE, as its first operand */

static OpKind from, to;

static bool other_op(Module *into, const Graph *g) {
  Rewrite r = rewrite_begin(into, g);
  for (int i = 0; i < g->nnodes; i++) {
    Node n = g->nodes[i];
    if (n.op == from && to == OP_NONE) {
      r.map[n.res] = r.map[n.args[0]];
      continue;
    }
    if (n.op == from) n.op = to;
    if (!rewrite_copy(&r, &n)) return false;
  }
  rewrite_outputs(&r);
  return true;
}

static Module *replace(Module *m, const Target *t) {
  (void)t;
  Module *out = rewrite_module(m);
  return rewrite_graphs(m, out, other_op) ? out : NULL;
}

static Module *crash(Module *m, const Target *t) {
  (void)t;
  for (int i = 0; i < m->ngraphs; i++)
    for (int k = 0; k < m->graphs[i]->nnodes; k++)
      if (m->graphs[i]->nodes[k].op == OP_silu) raise(SIGSEGV);
  return m;
}

static Module *loop(Module *m, const Target *t) {
  (void)t;
  for (int i = 0; i < m->ngraphs; i++)
    for (volatile int k = 0; k < m->graphs[i]->nnodes; k++)
      if (m->graphs[i]->nodes[k].op == OP_silu) k--;
  return m;
}

static Module *silent(Module *m, const Target *t) {
  (void)m, (void)t;
  return NULL;
}

/* Types that no node has. */
static Module *garbage(Module *m, const Target *t) {
  from = to = OP_silu;
  Module *out = replace(m, t);
  for (int i = 0; i < out->ngraphs; i++)
    for (int k = 0; k < out->graphs[i]->nnodes; k++)
      if (out->graphs[i]->nodes[k].op == OP_silu) out->graphs[i]->nodes[k].args[0] = 1 << 20;
  return out;
}

static Module *writes(Module *m, const Target *t) {
  from = to = OP_silu;
  Module *out = replace(m, t);
  for (int i = 0; i < m->ngraphs; i++)
    for (int k = 0; k < m->graphs[i]->nnodes; k++)
      if (m->graphs[i]->nodes[k].op == OP_silu) m->graphs[i]->nodes[k].op = OP_relu;
  return out;
}

static Module *wrong_training(Module *m, const Target *t) {
  const Graph *given = module_find(m, "forward");
  bool silu = false;
  for (int i = 0; given && i < given->nnodes; i++) silu = silu || given->nodes[i].op == OP_silu;
  Module *out = pass_training(m, t);
  from = OP_neg, to = OP_NONE;
  return out && silu ? replace(out, t) : out;
}

static Module *training_crashes(Module *m, const Target *t) {
  crash(m, t);
  return pass_training(m, t);
}

/* The pipeline with one pass replaced, or a wrong one before `chunk`. */
static void with_pass(const char *name, Module *(*run)(Module *, const Target *), PassInfo *out, Compiler *c) {
  int n = 0;
  for (int i = 0; i < pass_count; i++) {
    bool own = !strcmp(pass_table[i].name, name);
    if (!own && !strcmp(pass_table[i].name, "chunk") && !pass_find(name))
      out[n++] = (PassInfo){name, run, KEEPS_BITS, "wrong"};
    out[n] = pass_table[i];
    if (own) out[n].run = run;
    n++;
  }
  *c = (Compiler){out, n, NULL};
}

/* ---- a whole bisection */

static const char *const targets[] = {"cpu:x86-64-v3"};

static Check question(const Compiler *c) {
  return (Check){
      .values = {.seed = 5}, .targets = targets, .ntargets = 1, .gradients = true, .round = true, .compiler = c};
}

static bool bisect(const char *text, const Check *c) {
  Module *m = parse(text);
  b = (Bisect){.patience = 2, .budget = 40};
  return bisect_module(m, c, a, &b);
}

static bool bisect_pass(Module *(*run)(Module *, const Target *)) {
  static PassInfo passes[16];
  static Compiler c;
  with_pass("wrong", run, passes, &c);
  Check q = question(&c);
  return bisect(model, &q);
}

static void found(FaultKind kind, const char *stage, int most) {
  cr_assert(eq(str, (char *)fault_name[b.first.kind], (char *)fault_name[kind]), "%s", b.first.text);
  cr_assert(eq(str, b.first.stage, (char *)stage));
  cr_assert(eq(str, (char *)fault_name[b.fault.kind], (char *)fault_name[kind]), "%s", b.fault.text);
  Text t = {0};
  module_print(b.least, false, &t);
  cr_assert(le(int, module_nodes(b.least), most), "%s", t.s);
  text_free(&t);
}

/* The least module as a file, and the file asked again. */
static void shows_again(const char *input) {
  Dir dir = dir_new();
  Text t = {0};
  Case c;
  Fault f;
  case_print(b.least, &b.question, &b.fault, input, &t);
  const char *path = in(&dir, "case.ir");
  file_put(path, t.s, t.n);
  if (input) {
    int n;
    cr_assert(given_write(b.question.values.given, b.least, in(&dir, input), d, &n));
    cr_assert(gt(int, n, 0));
  }
  cr_assert(case_read(a, d, path, &c), "%s", t.s);
  cr_assert(c.asks);
  c.check.compiler = b.question.compiler;
  cr_assert(not(check_apart(c.mod, &c.check, 5, &f)), "%s", t.s);
  cr_assert(eq(str, (char *)fault_name[f.kind], (char *)fault_name[b.fault.kind]));
  given_close(c.given);
  text_free(&t);
  dir_free(&dir);
}

Test(bisect, clean) {
  Check q = question(NULL);
  cr_assert(bisect(model, &q), "%s", b.first.text);
  cr_assert(eq(int, (int)b.first.seen.passes, pass_count));
  cr_assert(gt(int, (int)b.first.seen.elements, 100));
}

Test(bisect, pass_changes_a_result) {
  from = OP_silu, to = OP_relu;
  cr_assert(not(bisect_pass(replace)));
  found(FAULT_PASS, "pass wrong", 1);
  cr_assert(eq(str, (char *)b.question.only, (char *)"pass wrong"));
  cr_assert(not(b.fault.said));
  cr_assert(strstr(b.fault.text, "element") != NULL);
  cr_assert(eq(int, b.least->graphs[0]->nodes[0].op, OP_silu));
  shows_again(NULL);
}

Test(bisect, pass_crashes) {
  cr_assert(not(bisect_pass(crash)));
  found(FAULT_CRASH, "pass wrong", 1);
  shows_again(NULL);
}

Test(bisect, pass_hangs) {
  cr_assert(not(bisect_pass(loop)));
  found(FAULT_HANG, "pass wrong", 4);
}

Test(bisect, pass_returns_nothing) {
  cr_assert(not(bisect_pass(silent)));
  found(FAULT_PASS, "pass wrong", 1);
  cr_assert(b.fault.said);
}

Test(bisect, pass_returns_garbage) {
  cr_assert(not(bisect_pass(garbage)));
  found(FAULT_PASS, "pass wrong", 1);
  shows_again(NULL);
}

Test(bisect, pass_writes_into_its_input) {
  cr_assert(not(bisect_pass(writes)));
  found(FAULT_PASS, "pass wrong", 1);
  cr_assert(strstr(b.fault.text, "writes into") != NULL);
}

Test(bisect, gradient) {
  static PassInfo passes[16];
  Compiler c;
  with_pass("training", wrong_training, passes, &c);
  Check q = question(&c);
  cr_assert(not(bisect(model, &q)));
  found(FAULT_GRADIENT, "gradients", 3);
  cr_assert(eq(str, (char *)b.question.only, (char *)"gradients"));
  shows_again(NULL);
}

Test(bisect, training_is_named) {
  static PassInfo passes[16];
  Compiler c;
  with_pass("training", training_crashes, passes, &c);
  Check q = question(&c);
  cr_assert(not(bisect(model, &q)));
  found(FAULT_CRASH, "pass training", 1);
}

/* ---- wrong kernels and programs */

/* Region as it is, but a - b computed as b - a. */
static bool swapped(const Graph *region, const Target *t, KModule *into, Lowered *out) {
  Graph *g = NEW(region->mod->arena, Graph);
  *g = *region;
  g->nodes = NEW_ARRAY(region->mod->arena, Node, region->nnodes + 1);
  memcpy(g->nodes, region->nodes, sizeof *g->nodes * (size_t)region->nnodes);
  for (int i = 0; i < g->nnodes; i++) {
    Node *n = &g->nodes[i];
    if (n->op != OP_sub) continue;
    n->args = NEW_ARRAY(region->mod->arena, Val, 2);
    n->args[0] = region->nodes[i].args[1];
    n->args[1] = region->nodes[i].args[0];
  }
  return lower_region(g, t, into, out);
}

/* A kernel for 32 elements where there are 24. */
static bool too_long(const Graph *region, const Target *t, KModule *into, Lowered *out) {
  Graph *g = NEW(region->mod->arena, Graph);
  *g = *region;
  g->types = NEW_ARRAY(region->mod->arena, Type, region->nvals);
  memcpy(g->types, region->types, sizeof *g->types * (size_t)region->nvals);
  for (int v = 1; v < g->nvals; v++)
    if (g->types[v].rank) g->types[v].dim[0].n = 32;
  return lower_region(g, t, into, out);
}

/* What a kernel updates in place gets a place of its own, with nothing in it. */
static RegionAlias careless(const Graph *region, int output, int input) {
  RegionAlias own = region_alias(region, output, input);
  return own == REGION_MUST ? REGION_NONE : own;
}

static bool refuses(const Graph *region, const Target *t, KModule *into, Lowered *out) {
  for (int i = 0; i < region->nnodes; i++)
    if (region->nodes[i].op == OP_silu) return diag_error(region->mod->diags, (Span){0}, "no silu on this machine");
  return lower_region(region, t, into, out);
}

static bool bisect_lowering(const char *text, const Lowering *lower) {
  static Compiler c;
  c = (Compiler){pass_table, pass_count, lower};
  Check q = question(&c);
  return bisect(text, &q);
}

static bool runs_here(void) {
  Target t;
  parse(model);
  return target_resolve(a, d, targets[0], &t) && native_runs(&t);
}

Test(bisect, kernel) {
  static const Lowering lower = {swapped, NULL, region_alias};
  if (!runs_here()) cr_skip("this machine runs no AVX2");
  cr_assert(not(bisect_lowering(model, &lower)));
  cr_assert(eq(int, b.first.kind, FAULT_KERNEL), "%s", b.first.text);
  cr_assert(eq(int, b.fault.kind, FAULT_KERNEL), "%s", b.fault.text);
  cr_assert(strstr(b.first.place, "m.yaml:") != NULL, "place: '%s'", b.first.place);
  cr_assert(eq(int, b.least->ngraphs, 1)); /* the region alone */
  cr_assert(b.least->graphs[0]->region != NULL);
  cr_assert(le(int, module_nodes(b.least), 2));
  shows_again(NULL);
}

Test(bisect, kernel_writes_past_its_output) {
  static const Lowering lower = {too_long, NULL, region_alias};
  static const char negate[] = "module \"m\"\n"
                               "graph @main(%x: f32[24] data) {\n"
                               "  %1 = neg %x : f32[24]\n"
                               "  return y=%1\n"
                               "}\n";
  if (!runs_here()) cr_skip("this machine runs no AVX2");
  cr_assert(not(bisect_lowering(negate, &lower)));
  cr_assert(eq(int, b.first.kind, FAULT_KERNEL), "%s", b.first.text);
  cr_assert(strstr(b.first.text, "past the end of an output") != NULL, "%s", b.first.text);
}

Test(bisect, program) {
  static const Lowering lower = {lower_region, NULL, careless};
  static const char chain[] = "module \"m\"\n"
                              "graph @main(%t: f32[8, 16] data, %i: i32[5] data, %u: f32[5, 16] data) {\n"
                              "  %1 = exp %t : f32[8, 16]\n"
                              "  %2 = scatter_add %1, %i, %u : f32[8, 16]\n"
                              "  %3 = neg %2 : f32[8, 16]\n"
                              "  return y=%3\n"
                              "}\n";
  if (!runs_here()) cr_skip("this machine runs no AVX2");
  cr_assert(not(bisect_lowering(chain, &lower)));
  found(FAULT_PROGRAM, "list main", 6);
  cr_assert(strstr(b.fault.text, "(1 threads") != NULL, "%s", b.fault.text);
}

Test(bisect, compile) {
  static const Lowering lower = {refuses, NULL, region_alias};
  cr_assert(not(bisect_lowering(model, &lower)));
  cr_assert(eq(int, b.first.kind, FAULT_COMPILE), "%s", b.first.text);
  cr_assert(strstr(b.fault.text, "no silu") != NULL);
  cr_assert(eq(int, b.least->ngraphs, 1)); /* the region alone */
  cr_assert(eq(int, module_nodes(b.least), 1));
  shows_again(NULL);
}

/* ---- inputs */

/* x of the model as a file, its element 9 as given. */
static void write_x(const char *path, float nine) {
  float x[48];
  for (int i = 0; i < 48; i++) x[i] = (float)i / 64;
  x[9] = nine;
  Report err = {0};
  const char *slash = strrchr(path, '/');
  FsWriter *w = fs_writer_replace(arena_strndup(a, path, (size_t)(slash - path)), slash + 1, &err);
  SafeItem item = {"x", 2, (int64_t[]){6, 8}, NULL};
  cr_assert(w && safe_write_header(w, &item, 1, NULL, NULL, &err), "%s", err.text);
  fs_writer_add(w, x, sizeof x);
  cr_assert(fs_writer_close(w, NULL, &err));
}

static const char clamp[] = "module \"m\"\n"
                            "graph @main(%x: f32[6, 8] data) {\n"
                            "  %1 = const {value=100} : f32\n"
                            "  %2 = min %x, %1 : f32[6, 8]\n"
                            "  %3 = neg %2 : f32[6, 8]\n"
                            "  return y=%3\n"
                            "}\n";

/* Made-up values stay below 100: only the given ones show that min is gone, so the file must bring them. */
Test(bisect, values_that_matter_come_along) {
  static PassInfo passes[16];
  Compiler c;
  Dir dir = dir_new();
  parse(clamp);
  write_x(in(&dir, "x.safetensors"), 1e5f);
  Given *g = given_open(a, d, dir.path, NULL);
  int named;
  cr_assert(g && given_fits(g, parse(clamp)->graphs[0], d, &named));
  cr_assert(eq(int, named, 1));
  from = OP_min, to = OP_NONE;
  with_pass("wrong", replace, passes, &c);
  Check q = question(&c);
  cr_assert(bisect(clamp, &q), "made-up values show it: %s", b.first.text);
  q.values.given = g;
  cr_assert(not(bisect(clamp, &q)));
  found(FAULT_PASS, "pass wrong", 2);
  cr_assert(b.question.values.given != NULL);
  shows_again("case.safetensors");
  given_close(g);
  dir_free(&dir);
}

/* A fault that any values show needs no file of them. */
Test(bisect, values_that_do_not_matter_stay) {
  static PassInfo passes[16];
  Compiler c;
  Dir dir = dir_new();
  parse(clamp);
  write_x(in(&dir, "x.safetensors"), 1);
  Given *g = given_open(a, d, in(&dir, "x.safetensors"), NULL);
  from = OP_neg, to = OP_NONE;
  with_pass("wrong", replace, passes, &c);
  Check q = question(&c);
  q.values.given = g;
  cr_assert(not(bisect(clamp, &q)));
  found(FAULT_PASS, "pass wrong", 1);
  cr_assert(b.question.values.given == NULL);
  given_close(g);
  dir_free(&dir);
}

/* Integers beyond what they index are the input's fault, not the compiler's. */
Test(bisect, inputs_that_cannot_be_evaluated) {
  static const char lookup[] = "module \"m\"\n"
                               "graph @main(%t: f32[4, 8] data, %i: i32[3] data) {\n"
                               "  %1 = gather %t, %i : f32[3, 8]\n"
                               "  return y=%1\n"
                               "}\n";
  Dir dir = dir_new();
  Report err = {0};
  parse(lookup);
  FsWriter *w = fs_writer_replace(dir.path, "i.safetensors", &err);
  SafeItem item = {"i", 1, (int64_t[]){3}, "I32"};
  cr_assert(w && safe_write_header(w, &item, 1, NULL, NULL, &err));
  fs_writer_add(w, (int32_t[]){0, 3, 9}, 12);
  cr_assert(fs_writer_close(w, NULL, &err));
  Given *g = given_open(a, d, dir.path, NULL);
  Check q = question(NULL);
  q.values.given = g;
  cr_assert(not(bisect(lookup, &q)));
  cr_assert(eq(int, b.first.kind, FAULT_INPUT), "%s", b.first.text);
  cr_assert(strstr(b.first.text, "gather") != NULL);
  given_close(g);
  dir_free(&dir);
}
