/* Graphs as text: what parses and verifies prints and parses back, survives every pass, and runs in the evaluator. */
#include "ir/graph.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/module.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  Module *m = module_parse(a, d, diags_source(d, "graph.ir", (const char *)data, size));
  bool ok = m && module_verify(m);
  fuzz_diags(d, !ok);
  if (ok) {
    fuzz_module_text(m);
    fuzz_module_eval(m);
    fuzz_module_passes(m, "simplify");
    if (module_find(m, "forward") && !d->n) fuzz_module_passes(m, "training");
    fuzz_diags(d, false);
  }
  arena_free(a);
  return 0;
}
