/* ink dump: the model at any stage of the pipeline, as text. */
#include "cli/compile.h"
#include "cli/dot.h"

#include <stdio.h>
#include <string.h>

static const char *const stages[] = {"source", "graph", "fused", "kernels", "program", "llvm", "asm"};
enum { S_SOURCE, S_GRAPH, S_FUSED, S_KERNELS, S_PROGRAM, S_LLVM, S_ASM };

static int stage_find(const char *name) {
  for (int i = 0; i < LEN(stages); i++)
    if (!strcmp(stages[i], name)) return i;
  const char *near = near_miss(name, stages, LEN(stages));
  cli_error("dump: no stage '%s'%s%s%s; there are source, graph, fused, kernels, program, llvm, asm", name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
  return -1;
}

static bool check_kernel(Compile *c, const char *kernel) {
  if (!kernel || kmodule_find(c->kernels, kernel) >= 0) return true;
  const char **names = NEW_ARRAY(c->arena, const char *, c->kernels->n + 1);
  for (int i = 0; i < c->kernels->n; i++) names[i] = c->kernels->kernels[i]->name;
  const char *near = near_miss(kernel, names, c->kernels->n);
  const char *hint = near ? arena_printf(c->arena, "did you mean '%s'?", near) : "ink dump --stage kernels lists them";
  return diag_hint(c->diags, (Span){0}, hint, "no kernel '%s'", kernel);
}

static bool dump(Compile *c, int stage, const char *kernel, bool dot, Text *out) {
  static const Stage until[] = {STAGE_SOURCE,  STAGE_GRAPH,   STAGE_FUSED,  STAGE_KERNELS,
                                STAGE_PROGRAM, STAGE_PROGRAM, STAGE_PROGRAM};
  if (!compile_run(c, until[stage])) return false;
  if (stage > S_FUSED && !check_kernel(c, kernel)) return false;
  switch (stage) {
  case S_SOURCE: text_add(out, "%s", c->model->effective); return true;
  case S_GRAPH:
  case S_FUSED:
    if (dot)
      dot_print(c->module, out);
    else
      module_print(c->module, true, out);
    return true;
  case S_KERNELS: kmodule_print(c->kernels, kernel, out); return true;
  case S_PROGRAM: program_list_text(c->blob.s, out); return true;
  default:
    return llvm_compile(c->kernels, &c->target, stage == S_LLVM ? LLVM_TEXT : LLVM_ASM, kernel, NULL, 0, c->diags, out);
  }
}

static int run(Args *a) {
  Compile c;
  const char *name = args_get(a, "--stage"), *after = args_get(a, "--after"), *kernel = args_get(a, "--kernel");
  if (!compile_options(&c, a, a->operand[0])) return EXIT_USAGE;
  int stage = stage_find(name ? name : "graph");
  bool dot = args_get(a, "--dot") != NULL;
  if (stage < 0) return EXIT_USAGE;
  if (after && (stage != S_GRAPH || !pass_find(after))) {
    if (pass_find(after))
      cli_error("dump: --after goes with --stage graph");
    else
      cli_error("dump: no pass '%s'; ink help opt lists them", after);
    return EXIT_USAGE;
  }
  if ((kernel && stage <= S_FUSED) || (kernel && stage == S_PROGRAM) || (dot && stage != S_GRAPH && stage != S_FUSED)) {
    cli_error("dump: %s does not go with --stage %s", dot ? "--dot" : "--kernel", stages[stage]);
    return EXIT_USAGE;
  }
  c.stop_after = after;
  Text out = {0};
  bool ok = dump(&c, stage, kernel, dot, &out);
  if (ok)
    ok = cli_write(args_get(a, "-o"), out.s ? out.s : "", out.n);
  else
    cli_diags(c.diags);
  text_free(&out);
  compile_free(&c);
  return ok ? EXIT_OK : EXIT_FAILED;
}

static const Option options[] = {
    COMPILE_OPTIONS,
    {"--stage", "STAGE", false, "source, graph (default), fused, kernels, program, llvm or asm"},
    {"--after", "PASS", false, "graphs as they are after this pass"},
    {"--kernel", "NAME", false, "this kernel only"},
    {"--dot", NULL, false, "graphs in Graphviz form"},
    {"-o", "FILE", false, "write there instead of to the terminal"},
};

const Command cmd_dump = {
    .name = "dump",
    .usage = "MODEL.yaml --for train [--stage STAGE] [--after PASS] [--kernel NAME] [-o FILE] [--dot]",
    .summary = "the model at any stage of the compilation",
    .doc = "Shows what ink makes of a model on the way to machine code:\n"
           "  source   the specification after base, variants and --set\n"
           "  graph    values and ops, as loaded or, with --after, as a pass left them\n"
           "  fused    regions, one for each kernel, and the calls that run them\n"
           "  kernels  loop nests over vectors\n"
           "  program  step lists, buffers and their places in memory\n"
           "  llvm     LLVM's text; asm: the target's assembly",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .asks_for = true,
    .run = run,
};
