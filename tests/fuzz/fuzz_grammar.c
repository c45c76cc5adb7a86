/* Models of grammar.c: what loads verifies, prints and parses, is evaluated and goes through all passes to kernels.
 * FUZZ_SHOW=1 prints the file. */
#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/grammar.h"
#include "tests/fuzz/module.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Text text = {0};
  grammar_model(data, size, &text);
  if (getenv("FUZZ_SHOW")) fputs(text.s, stderr);
  fuzz_put("model.yaml", text.s, text.n);
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  ModelOptions opt = {.batch = 2, .time = size % 3 == 2 ? 0 : 2, .symbolic = size % 4 == 3};
  Model *m = model_load(a, d, fuzz_path("model.yaml"), &opt);
  fuzz_diags(d, !m);
  if (getenv("FUZZ_SHOW")) {
    Text t = {0};
    diags_render(d, &t);
    fprintf(stderr, "%s\n%s", m ? "loaded" : "refused", t.s ? t.s : "");
    text_free(&t);
  }
  if (m) {
    fuzz_module_text(m->mod);
    fuzz_module_eval(m->mod);
    fuzz_module_passes(m->mod, "training");
    fuzz_diags(d, false);
  }
  arena_free(a);
  text_free(&text);
  return 0;
}
