/* Kernels as text: what parses verifies, and prints the same again and again. */
#include "ir/kir.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  Text first = {0}, second = {0};
  KModule *km = kmodule_parse(a, d, diags_source(d, "kernels.kir", (const char *)data, size));
  fuzz_diags(d, !km);
  if (km) {
    for (int i = 0; i < km->n; i++) MUST(kernel_verify(km->kernels[i], d), "parsed, but it does not verify");
    kmodule_print(km, NULL, &first);
    KModule *again = kmodule_parse(a, d, diags_source(d, "again.kir", first.s ? first.s : "", first.n));
    MUST(again, "printed kernels do not parse: %u: %s\n%s", d->list[0].at.line, d->list[0].text, first.s);
    kmodule_print(again, NULL, &second);
    MUST(first.n == second.n && (!first.n || !memcmp(first.s, second.s, first.n)), "printed otherwise:\n%s\n%s",
         first.s, second.s);
  }
  text_free(&first);
  text_free(&second);
  arena_free(a);
  return 0;
}
