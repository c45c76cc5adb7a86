/* What build, inspect and serve share about artifacts. */
#ifndef INK_CLI_ARTIFACT_H
#define INK_CLI_ARTIFACT_H
#include "cli/compile.h"

/* The options that go with --for infer, as rows of an option table. */
#define ARTIFACT_OPTIONS                                                                                               \
  {"--weights", "FILE|DIR", false,                                                                                     \
   "inference: safetensors file, Hugging Face folder, or run folder (default: what an imported model names)"},         \
  {                                                                                                                    \
    "--tokenizer", "DIR|FILE", false, "inference: the tokenizer's files (default: those of the weights' folder)"       \
  }

/* The pipeline with --for infer, the link, and the sections behind it; prints the report unless quiet. false: an error was
 * printed, or is in c->diags. */
bool artifact_build(Compile *c, const Args *a, const char *path, const char *cc, bool quiet, bool times);
/* Where the weights of a path lie: of a run's folder its newest checkpoint, else the path itself. */
const char *artifact_weights(Arena *a, const char *path);
#endif
