/* Random models: files of the fuzzers' grammar from pseudo-random choices, the first that loads and is small enough to be
 * evaluated. So what the frontend makes of blocks, loops, prelude functions and attention goes through all stages, too. */
#include "frontend/frontend.h"
#include "generate.h"
#include "tests/fuzz/grammar.h"
#include <string.h>

enum { TRIES = 40, CHOICES = 400, ELEMENTS = 1 << 13 };
#define WORK 2e6 /* FLOPs of the forward graph */

static bool small(const Graph *g) {
  double flops = 0;
  for (int v = 1; v < g->nvals; v++)
    if (type_elements(g->types[v]) > ELEMENTS) return false;
  for (int i = 0; i < g->nnodes; i++) flops += node_flops(g, &g->nodes[i]);
  return flops < WORK && g->nnodes < 300;
}

Module *generate_model(Arena *a, uint64_t seed, Text *yaml) {
  for (uint64_t attempt = 0; attempt < TRIES; attempt++) {
    uint8_t bytes[CHOICES];
    for (uint64_t i = 0; i < CHOICES; i += 8) {
      uint64_t key[3] = {seed, attempt, i}, h = hash64(key, sizeof key);
      memcpy(bytes + i, &h, 8);
    }
    yaml->n = 0;
    grammar_model(bytes, 40 + bytes[0] + bytes[1] / 2, yaml);
    Diags *d = diags_new(a);
    ModelOptions opt = {.batch = 2, .time = 2 + bytes[2] % 3, .text = yaml->s, .symbolic = false};
    Model *m = model_load(a, d, "model.yaml", &opt);
    if (m && !d->n && small(m->mod->graphs[0])) return m->mod;
  }
  return NULL;
}
