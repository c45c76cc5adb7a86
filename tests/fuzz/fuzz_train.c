/* Settings: TRAIN.yaml and --set in the compiler, --set and a checkpoint's texts in the runtime. Both read the same table, so
 * both must be of one mind about every value.
 *
 * The bytes are train.yaml, then one KEY=VALUE behind each line "====". */
#include "frontend/frontend.h"
#include "runtime/settings.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <string.h>

/* What the runtime takes it shows as text, and takes that text for the same value. */
static void check_runtime(const char *set, bool at_run) {
  Report err = {0};
  Settings s, again;
  MUST(settings_default(&s, NULL, &err), "the defaults are refused: %s", err.text);
  again = s;
  bool ok = settings_assign(&s, set, &err);
  MUST(ok || !at_run, "--set %s: right for the compiler, wrong for the runtime: %s", set, err.text);
  fuzz_report(&err, !ok);
  for (int i = 0; ok && i < setting_count; i++) {
    char first[64], second[64];
    settings_text(&s, i, first);
    if (setting_table[i].build) continue;
    MUST(settings_set(&again, setting_table[i].key, first, &err), "%s=%s is not taken back: %s", setting_table[i].key,
         first, err.text);
    MUST(!strcmp(settings_text(&again, i, second), first), "%s=%s became %s", setting_table[i].key, first, second);
  }
  for (int64_t k = 0; ok && k < 4; k++) {
    double lr = settings_lr(&s, k * s.steps / 3);
    MUST(isfinite(lr) && lr >= 0, "a learning rate of %g", lr);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzPart part[6];
  fuzz_split(data, size, part, LEN(part));
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  fuzz_put("train.yaml", part[0].at, part[0].n);
  TrainSpec *spec = train_load(a, d, fuzz_path("train.yaml"));
  fuzz_diags(d, !spec);
  MUST(!spec || !d->n, "loaded with errors: %s", d->list[0].text);
  for (int i = 1; i < LEN(part); i++) {
    const char *set = arena_strndup(a, (const char *)part[i].at, part[i].n), *eq = strchr(set, '=');
    if (!*set) continue;
    bool at_run = eq && !train_check(a, arena_strndup(a, set, (size_t)(eq - set)), eq + 1, true);
    check_runtime(set, at_run);
    if (spec && !train_set(a, d, spec, set)) spec = NULL;
    fuzz_diags(d, !spec && !d->n);
  }
  arena_free(a);
  return 0;
}
