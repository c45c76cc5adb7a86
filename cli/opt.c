/* ink opt: textual IR in, passes, textual IR out; or, with --run, what the graphs compute.
 *
 * Inputs for --run are pseudo-random but the same on every machine: floats are multiples of 1/256 in [-1, 1), a function
 * of the input's name and the element's index alone, so that the same module before and after a pass sees the same
 * values. Integers stay below the extent that they index. --input NAME=V,V,... gives values instead, repeated as needed. */
#include "check/check.h"
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IR_LIMIT = 256 << 20, SHOWN = 64 };

static bool given_values(Args *a, const char *name, Tensor *t, EvalMode mode) {
  size_t n = strlen(name);
  const char *text;
  for (int i = 0; (text = args_at(a, "--input", i)); i++) {
    if (strncmp(text, name, n) || text[n] != '=') continue;
    double v[256];
    int count = 0;
    for (const char *s = text + n + 1; *s && count < LEN(v);) {
      char *end;
      v[count++] = strtod(s, &end);
      if (end == s || (*end && *end != ',')) {
        cli_error("opt: --input %s: a list of numbers, please", text);
        return false;
      }
      s = *end ? end + 1 : end;
    }
    if (!count) {
      cli_error("opt: --input %s: no value", text);
      return false;
    }
    for (int64_t x = 0, all = type_elements(t->type); x < all; x++) tensor_set(t, mode, x, v[x % count]);
  }
  return true;
}

static int bindings(Args *a, const Graph *g, Binding b[CHECK_BINDINGS]) {
  int n = values_bind(g, 0, b);
  const char *text;
  for (int i = 0; i < n; i++) {
    size_t len = strlen(b[i].name);
    for (int j = 0; (text = args_at(a, "--bind", j)); j++)
      if (!strncmp(text, b[i].name, len) && text[len] == '=') b[i].n = strtoll(text + len + 1, NULL, 10);
  }
  return n;
}

static void print_tensor(const Graph *g, const Output *o, const Tensor *t, EvalMode mode, Text *out) {
  int64_t n = type_elements(t->type);
  double sum = 0, squares = 0;
  text_add(out, "@%s %s = %s[", g->name, o->name, dtype_name[t->type.dt]);
  for (int k = 0; k < t->type.rank; k++) text_add(out, "%s%" PRId64, k ? ", " : "", t->type.dim[k].n);
  text_add(out, "]");
  for (int64_t x = 0; x < n; x++) {
    double v = tensor_get(t, mode, x);
    if (x < SHOWN) text_add(out, " %.15g", v);
    sum += v;
    squares += v * v;
  }
  if (n > SHOWN) text_add(out, " ... sum %.15g squares %.15g", sum, squares);
  text_add(out, "\n");
}

static bool run_graph(Args *a, const Graph *g, EvalMode mode, Diags *d, Text *out) {
  Binding bind[CHECK_BINDINGS];
  Values made_up = {0};
  int nbind = bindings(a, g, bind);
  Tensor *in = NEW_ARRAY(a->arena, Tensor, g->ninputs + 1), *res = NEW_ARRAY(a->arena, Tensor, g->noutputs + 1);
  for (int i = 0; i < g->ninputs; i++) {
    if (!values_input(g, i, &made_up, bind, nbind, mode, a->arena, d, &in[i])) return false;
    if (!given_values(a, g->inputs[i].name, &in[i], mode)) return false;
  }
  if (!graph_eval(g, mode, in, bind, nbind, a->arena, res, d)) return false;
  for (int o = 0; o < g->noutputs; o++) print_tensor(g, &g->outputs[o], &res[o], mode, out);
  return true;
}

static Module *run_passes(Args *a, Module *m, const Target *t, Diags *d) {
  const char *list = args_get(a, "--pass");
  for (const char *s = list; m && s && *s;) {
    size_t n = strcspn(s, ",");
    char *name = arena_strndup(a->arena, s, n);
    const PassInfo *p = pass_find(name);
    if (!p) {
      const char *names[64];
      int k = 0;
      for (; k < pass_count && k < LEN(names); k++) names[k] = pass_table[k].name;
      const char *near = near_miss(name, names, k);
      diag_hint(d, (Span){0}, near ? arena_printf(a->arena, "did you mean '%s'?", near) : NULL, "no pass '%s'", name);
      return NULL;
    }
    m = p->run(m, t);
    if (m && !module_verify(m)) return NULL;
    s += n + (s[n] == ',');
  }
  return m;
}

static bool work(Args *a, Diags *d, Text *out) {
  uint32_t file;
  Target target;
  const char *mode = args_get(a, "--mode"), *name = args_get(a, "--target");
  if (!target_resolve(a->arena, d, name ? name : "cpu:x86-64-v3", &target)) return false;
  if (!diags_read(d, a->operand[0], IR_LIMIT, &file)) return false;
  Module *m = module_parse(a->arena, d, file);
  if (!m || !module_verify(m)) return false;
  m = run_passes(a, m, &target, d);
  if (!m || d->n) return false;
  if (!args_get(a, "--run")) {
    module_print(m, args_get(a, "--spans") != NULL, out);
    return true;
  }
  bool exact = mode && !strcmp(mode, "exact");
  for (int i = 0; i < m->ngraphs; i++)
    if (!m->graphs[i]->region && !run_graph(a, m->graphs[i], exact ? EVAL_EXACT : EVAL_DOUBLE, d, out)) return false;
  return true;
}

static int run(Args *a) {
  const char *mode = args_get(a, "--mode");
  if (!a->noperands) {
    cli_error("opt: which file? usage: ink opt %s", a->command->usage);
    return EXIT_USAGE;
  }
  if (mode && strcmp(mode, "exact") && strcmp(mode, "double")) {
    cli_error("opt: --mode may be double or exact, not '%s'", mode);
    return EXIT_USAGE;
  }
  Diags *d = diags_new(a->arena);
  Text out = {0};
  bool ok = work(a, d, &out);
  if (ok)
    ok = cli_write(args_get(a, "-o"), out.s ? out.s : "", out.n);
  else
    cli_diags(d);
  text_free(&out);
  return ok ? EXIT_OK : EXIT_FAILED;
}

static const Option options[] = {
    {"--pass", "NAME,...", false, "passes to run, in this order"},
    {"--run", NULL, false, "evaluate the graphs and print their outputs instead of the text"},
    {"--mode", "MODE", false, "of --run: double (default) or exact, the kernels' arithmetic"},
    {"--input", "NAME=V,V,...", true, "values of an input of --run, repeated as needed (default: pseudo-random)"},
    {"--bind", "NAME=N", true, "value of a symbolic extent for --run (default: its bound)"},
    {"--target", "TARGET", false, "machine whose numbers passes see (default: cpu:x86-64-v3)"},
    {"--spans", NULL, false, "print where each value comes from"},
    {"-o", "FILE", false, "write there instead of to the terminal"},
};

#define PASS(name, keeps, doc) "  " #name ": " doc "\n" /* the table of passes, as text */
const Command cmd_opt = {
    .name = "opt",
    .usage = "FILE.ir [--pass NAME,...] [--run [--mode double|exact]] [-o FILE]",
    .summary = "passes over textual IR, or its evaluation",
    .doc = "Reads a module in the text form that ink dump prints, runs passes over it and prints it again.\n"
           "With --run the reference evaluator computes the graphs instead.\n\npasses\n"
#include "passes/passes.def"
    ,
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .run = run,
};
