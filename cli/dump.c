/* ink dump: the model at any stage of the pipeline, as text. */
#include "cli/compile.h"
#include "cli/dot.h"
#include "driver/roofline.h"
#include "runtime/machine.h"

#include <stdio.h>
#include <string.h>

static int stage_find(const char *name) {
  for (int i = 0; i < DUMP_COUNT; i++)
    if (!strcmp(dump_names[i], name)) return i;
  const char *near = near_miss(name, dump_names, DUMP_COUNT);
  cli_error("dump: no stage '%s'%s%s%s; there are source, graph, fused, kernels, program, llvm, asm", name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
  return -1;
}

static bool roofline(Compile *c, Text *out) {
  Roofline limit;
  return compile_run(c, STAGE_KERNELS) && roofline_machine(&c->target, machine_cores(), &limit, c->diags) &&
         roofline_table(c, &limit, out);
}

static bool dump(Compile *c, Dump stage, const char *kernel, bool dot, bool limits, Text *out) {
  if (limits) return roofline(c, out);
  if (!dot) return compile_dump(c, stage, kernel, out);
  if (!compile_run(c, stage == DUMP_GRAPH ? STAGE_GRAPH : STAGE_FUSED)) return false;
  dot_print(c->module, out);
  return true;
}

static int run(Args *a) {
  Compile c;
  const char *name = args_get(a, "--stage"), *after = args_get(a, "--after"), *kernel = args_get(a, "--kernel");
  if (!compile_options(&c, a, a->operand[0])) return EXIT_USAGE;
  int stage = stage_find(name ? name : "graph");
  bool dot = args_get(a, "--dot") != NULL, limits = args_get(a, "--roofline") != NULL;
  if (stage < 0) return EXIT_USAGE;
  if (after && (stage != DUMP_GRAPH || !pass_find(after))) {
    if (pass_find(after))
      cli_error("dump: --after goes with --stage graph");
    else
      cli_error("dump: no pass '%s'; ink help opt lists them", after);
    return EXIT_USAGE;
  }
  if ((kernel && stage <= DUMP_FUSED) || (kernel && stage == DUMP_PROGRAM) ||
      (dot && stage != DUMP_GRAPH && stage != DUMP_FUSED)) {
    cli_error("dump: %s does not go with --stage %s", dot ? "--dot" : "--kernel", dump_names[stage]);
    return EXIT_USAGE;
  }
  if (limits && (stage != DUMP_KERNELS || kernel)) {
    cli_error(kernel ? "dump: --roofline is of all kernels" : "dump: --roofline goes with --stage kernels");
    return EXIT_USAGE;
  }
  c.stop_after = after;
  Text out = {0};
  bool ok = dump(&c, (Dump)stage, kernel, dot, limits, &out);
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
    TUNE_OPTIONS,
    {"--stage", "STAGE", false, "source, graph (default), fused, kernels, program, llvm or asm"},
    {"--after", "PASS", false, "graphs as they are after this pass"},
    {"--kernel", "NAME", false, "this kernel only"},
    {"--dot", NULL, false, "graphs in Graphviz form"},
    {"--roofline", NULL, false, "of the kernels: calls, FLOPs, bytes, and the time at this machine's limits"},
    {"-o", "FILE", false, "write there instead of to the terminal"},
};

const Command cmd_dump = {
    .name = "dump",
    .usage = "MODEL.yaml --for train [--stage STAGE] [--after PASS] [--kernel NAME] [--roofline] [-o FILE] [--dot]",
    .summary = "the model at any stage of the compilation",
    .doc = "Shows what ink makes of a model on the way to machine code:\n"
           "  source   the specification after base, variants and --set\n"
           "  graph    values and ops, as loaded or, with --after, as a pass left them\n"
           "  fused    regions, one for each kernel, and the calls that run them\n"
           "  kernels  loop nests over vectors; with --roofline how fast they could be (docs/profiling.md)\n"
           "  program  step lists, buffers and their places in memory\n"
           "  llvm     LLVM's text; asm: the target's assembly",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .asks_for = true,
    .run = run,
};
