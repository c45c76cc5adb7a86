/* Entries of a tuning database as text (ink tune --import): what is taken goes out and comes in again as the same, and each entry's
 * schedule is one that the lowering takes.
 *
 * "HERE" in the bytes stands for this machine's word, so that seeds are of the machine that runs them. */
#include "codegen/fingerprint.h"
#include "tests/fuzz/fuzz.h"
#include "tune/tune.h"

#include <string.h>

static void put_here(const uint8_t *data, size_t size, const char *here, Text *out) {
  for (size_t i = 0; i < size; i++) {
    if (size - i >= 4 && !memcmp(data + i, "HERE", 4)) {
      text_add(out, "%s", here);
      i += 3;
    } else {
      text_write(out, data + i, 1);
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  Target here;
  Text text = {0}, first = {0}, second = {0};
  TuneEntry *e, *again;
  int n, m, foreign;
  MUST(target_resolve(a, d, "cpu:native", &here), "no native target");
  put_here(data, size, machine_fingerprint(a, &here), &text);
  bool ok = tune_import(a, d, diags_source(d, "tuning.txt", text.s ? text.s : "", text.n), &e, &n, &foreign);
  fuzz_diags(d, !ok);
  MUST(ok == !d->n, "taken with errors, or refused without");
  if (ok) {
    tune_export(e, n, &first);
    MUST(tune_import(a, d, diags_source(d, "again.txt", first.s, first.n), &again, &m, &foreign) && m == n && !foreign,
         "not taken back: %s\n%s", d->n ? d->list[0].text : "", first.s);
    tune_export(again, m, &second);
    MUST(first.n == second.n && !memcmp(first.s, second.s, first.n), "written otherwise:\n%s\n%s", first.s, second.s);
  }
  text_free(&text);
  text_free(&first);
  text_free(&second);
  arena_free(a);
  return 0;
}
