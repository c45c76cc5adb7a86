/* A config.json, a generation_config.json and an index of weights as they come: to a model file that loads, or to a reason.
 *
 * The bytes are config.json; behind a line "====" generation_config.json, and behind another model.safetensors.index.json in a
 * folder without shards. The architectures are those of models/, which is read at every input: the target runs at the root. */
#include "frontend/frontend.h"
#include "frontend/import.h"
#include "frontend/yaml.h"
#include "runtime/weights.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

/* What a user would get: the file is YAML, its own text once written, and a model or a reason why not. */
static void check_text(Arena *a, const char *text) {
  Diags *d = diags_new(a);
  YNode *root = yaml_text(a, d, "model.yaml", text);
  MUST(root, "the model file is no YAML: %s\n%s", d->n ? d->list[0].text : "", text);
  for (const char *p = text; *p; p++) MUST(*p == '\n' || (unsigned char)*p >= ' ', "a control character in\n%s", text);
  ModelOptions opt = {.batch = 1, .models = "models", .text = text};
  Model *m = model_load(a, d, "model.yaml", &opt);
  fuzz_diags(d, !m);
  MUST(!m || !d->n, "loaded with errors: %s", d->list[0].text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzPart part[3];
  int n = fuzz_split(data, size, part, LEN(part));
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  ImportSource src = {.models = "models", .name = "fuzz", .weights = "weights", .bare = size % 2 == 1};
  src.config = diags_source(d, "config.json", (const char *)part[0].at, part[0].n);
  if (n > 1 && part[1].n)
    src.generation = diags_source(d, "generation_config.json", (const char *)part[1].at, part[1].n);
  Import out;
  bool ok = import_config(a, d, &src, &out);
  fuzz_diags(d, !ok);
  MUST(!ok || !d->n, "imported with errors: %s", d->list[0].text);
  for (int i = 0; i < out.nunmapped; i++)
    for (const char *p = out.unmapped[i]; *p; p++)
      MUST(*p >= ' ' && *p < 127, "a key that a terminal may not see: %s", out.unmapped[i]);
  if (ok) check_text(a, out.text);
  if (n > 2) {
    WeightTensor one = {.name = "t", .rank = 1, .dim = {4}, .param = -1};
    WeightMap map = {&one, 1, "*.skip\nx?"};
    Report err = {0};
    fuzz_put("model.safetensors.index.json", part[2].at, part[2].n);
    fuzz_report(&err, !weights_check(&map, fuzz_path(""), &err));
  }
  arena_free(a);
  return 0;
}
