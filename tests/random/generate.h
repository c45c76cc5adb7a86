/* Random modules: well-typed graphs of every op of the table. The same seed gives the same module on every machine. */
#ifndef INK_TESTS_GENERATE_H
#define INK_TESTS_GENERATE_H
#include "ir/graph.h"

/* What the module is for. */
typedef enum Style {
  STYLE_PLAIN, /* graphs of data and states, some extents symbolic */
  STYLE_TRAIN, /* graph @forward with params and a loss */
  STYLE_TYPES, /* also bf16 and f64, segmented extents, placements on a mesh, pending sums */
  STYLE_CALLS, /* graphs that call others, in turns too */
  STYLE_MODEL, /* what the frontend makes of a model file (model.c) */
  STYLE_COUNT
} Style;

Module *generate(Arena *a, Diags *d, uint64_t seed, Style *style);
/* The graph of a random model, its file in *yaml; NULL: of these choices none loads. */
Module *generate_model(Arena *a, uint64_t seed, Text *yaml);
#endif
