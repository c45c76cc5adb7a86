/* The effective spec: a model file with its bases, variant and overrides merged into one tree. */
#ifndef INK_FRONTEND_SPEC_H
#define INK_FRONTEND_SPEC_H
#include "frontend/frontend.h"
#include "frontend/yaml.h"

/* Reads the file named by path (an optional variant after a colon: "gpt2.yaml:350M"), merges what `base:` names below it,
 * the chosen variant and opt's sets above it. `base` and `variants` are gone from the result. NULL after errors. */
YNode *spec_load(Arena *a, Diags *d, const char *path, const ModelOptions *opt);
#endif
