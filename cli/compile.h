/* What build, train, dump and the like share around the pipeline (driver/compile.h): options and reports. */
#ifndef INK_CLI_COMPILE_H
#define INK_CLI_COMPILE_H
#include "cli/cli.h"
#include "driver/compile.h"

/* The options that every use of the pipeline takes, as rows of an option table. */
#define COMPILE_OPTIONS                                                                                                \
  {"--for", "WHAT", false, "what the program is to do: train, or infer (generate, evaluate, serve)"},                  \
      {"--train", "TRAIN.yaml", false,                                                                                 \
       "training specification: optimizer, schedule, batches (default: built-in values)"},                             \
      {"--set", "KEY=VALUE", true, "change the model (dims.layers=2) or a training default (lr=1e-3)"},                \
      {"--target", "TARGET", false,                                                                                    \
       "cpu:native (default), cpu:x86-64-v3 (AVX2), cpu:x86-64-v4 (AVX-512), cpu:aarch64"},                            \
      {"--batch", "N", false,                                                                                          \
       "training: sequences computed at once (default: micro_batch of the training specification)"},                   \
      {"--seq", "N", false, "training: sequence length (default: the training specification's, else the model's)"},    \
      {"--dtype", "DTYPE", false, "inference: f32 (default), or bf16 for products and the cache"},                     \
      {"--max-batch", "N", false, "inference: sequences at once (default 32)"},                                        \
      {"--max-tokens", "N", false, "inference: tokens of a step, prompts' and decodes' (default 512)"}, {              \
    "--ctx", "N", false, "inference: positions of a sequence (default: the model's ctx)"                               \
  }

/* Where the pipeline goes as far as kernels. */
#define TUNE_OPTIONS                                                                                                   \
  {"--tune-db", "FILE", false, "schedules that ink tune found (default: ~/.cache/inkstone/tune.db)"}, {                \
    "--no-tune-db", NULL, false, "the cost model's schedules alone"                                                    \
  }

/* Reads those options. false: an error was printed. */
bool compile_options(Compile *c, const Args *a, const char *model_path);
/* build.c: the pipeline, then the link; prints the report unless quiet. cc: the C compiler that links, NULL: CC, or
 * the target's own. false: diagnostics are in c->diags. */
bool build_program(Compile *c, const char *path, const char *cc, bool quiet, bool times);
/* The checkpoint that an imported model's file names, as a path; NULL: it names none. The model is loaded. */
const char *compile_weights(const Compile *c);
/* What was built, for people: kernels, memory, and with `times` how long each phase took. */
void compile_report(const Compile *c, int64_t threads, bool times, Text *out);
#endif
