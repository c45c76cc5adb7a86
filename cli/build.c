/* ink build: a model to a program on disk. */
#include "cli/artifact.h"
#include "runtime/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool build_program(Compile *c, const char *path, const char *cc, bool quiet, bool times) {
  double start = machine_seconds(), since;
  if (!target_resolve(c->arena, c->diags, c->target_name, &c->target)) return false;
  const char *inkrt = place_inkrt(c->arena, c->diags, &c->target);
  if (!inkrt || !compile_run(c, STAGE_OBJECT)) return false;
  if (!cc && target_here(&c->target)) cc = getenv("CC");
  since = machine_seconds();
  if (!link_program(c->arena, c->diags, &c->object, &c->target, cc && *cc ? cc : NULL, inkrt, path)) return false;
  compile_phase(c, "link", &since);
  if (quiet) return true;
  struct stat st = {0};
  Text t = {0};
  compile_report(c, sysconf(_SC_NPROCESSORS_ONLN), times, &t);
  stat(path, &st);
  text_add(&t, "%s: %s, built in %.2f s\n", path, cli_bytes(c->arena, st.st_size), since - start);
  fwrite(t.s, 1, t.n, stdout);
  text_free(&t);
  return true;
}

static bool print_after(void *name, const PassInfo *pass, const Module *before, const Module *after) {
  (void)before;
  if (strcmp(name, pass->name)) return true;
  Text t = {0};
  module_print(after, true, &t);
  bool ok = cli_write(NULL, t.s, t.n);
  text_free(&t);
  return ok;
}

static int run(Args *a) {
  Compile c;
  const char *path = args_get(a, "-o"), *after = args_get(a, "--dump-after");
  if (!compile_options(&c, a, a->operand[0])) return EXIT_USAGE;
  if (!path) {
    cli_error("build: where to? give -o FILE");
    return EXIT_USAGE;
  }
  if (after && !pass_find(after)) {
    cli_error("build: --dump-after: no pass '%s'; ink help opt lists them", after);
    return EXIT_USAGE;
  }
  if (after) {
    c.observe = print_after;
    c.observe_ctx = (void *)(uintptr_t)after;
  }
  bool quiet = args_get(a, "--quiet") != NULL, times = args_get(a, "--time") != NULL;
  bool ok = c.infer ? artifact_build(&c, a, path, args_get(a, "--cc"), quiet, times)
                    : build_program(&c, path, args_get(a, "--cc"), quiet, times);
  if (!ok) cli_diags(c.diags);
  compile_free(&c);
  return ok ? EXIT_OK : EXIT_FAILED;
}

static const Option options[] = {
    COMPILE_OPTIONS,
    TUNE_OPTIONS,
    ARTIFACT_OPTIONS,
    {"-o", "FILE", false, "the program to write"},
    {"--cc", "COMPILER", false,
     "the C compiler that links it (default: CC, or cc; for another architecture ARCH-linux-gnu-gcc)"},
    {"--dump-after", "PASS", false, "print the graphs after this pass"},
    {"--time", NULL, false, "show how long each phase took"},
    {"--quiet", NULL, false, "print nothing but errors"},
};

const Command cmd_build = {
    .name = "build",
    .usage = "MODEL.yaml --for train|infer [--train TRAIN.yaml] [--weights DIR] [--set KEY=VALUE ...] [--target "
             "TARGET] -o FILE",
    .summary = "a model to a native program that trains or serves it",
    .doc = "Compiles the model into one executable file. It needs nothing but the C library when it runs.\n"
           "--for train: FILE --data DIR --run DIR trains; FILE --help says what else it takes.\n"
           "--for infer: an artifact, with weights and tokenizer in it: FILE generate, chat, serve, batch, eval, "
           "bench, weights;\n"
           "FILE COMMAND --help says what they take.\n"
           "MODEL.yaml is a file or the name of a model that comes with ink (models/).",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .asks_for = true,
    .run = run,
};
