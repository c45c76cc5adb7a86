/* A model file as it comes: YAML, then the model language, to a module that verifies and survives its text form.
 *
 * The bytes are model.yaml in a folder of its own, beside two more files: base.yaml, a whole model that `base:` may name,
 * and the settings a command line would give (behind a line "====", one --set each). */
#include "frontend/frontend.h"
#include "frontend/yaml.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/module.h"

#include <string.h>

static const char base[] = "model: base\n"
                           "dims: {v: 8, d: 4, ctx: 6}\n"
                           "inputs: {x: {from: tokens}, y: {from: targets}}\n"
                           "params:\n  w: {shape: [v, d], init: normal(0.1)}\n"
                           "forward: |\n  logits = einsum(\"btd,vd->btv\", lookup(w, x), w)\n"
                           "loss: cross_entropy(logits, y)\n"
                           "variants:\n  large: {dims: {d: 16}}\n";

/* The effective specification is YAML, and written from its own tree it is the same text. */
static void check_effective(Arena *a, const char *text) {
  Diags *d = diags_new(a);
  YNode *root = yaml_parse(a, d, diags_source(d, "effective.yaml", text, strlen(text)));
  MUST(root, "the effective specification is no YAML: %s\n%s", d->n ? d->list[0].text : "", text);
  Text again = {0};
  yaml_write(root, &again);
  MUST(!strcmp(text, again.s), "written otherwise:\n%s\n%s", text, again.s);
  text_free(&again);
}

/* Any tree, not only a model's, is written so that it is read as the same tree. */
static void check_yaml(Arena *a, const FuzzPart *part) {
  Diags *d = diags_new(a);
  YNode *root = yaml_parse(a, d, diags_source(d, "some.yaml", (const char *)part->at, part->n));
  fuzz_diags(d, !root);
  Text text = {0};
  if (root) {
    yaml_write(root, &text);
    check_effective(a, text.s);
  }
  text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzPart part[6];
  const char *sets[5];
  fuzz_split(data, size, part, LEN(part));
  Arena *a = arena_new();
  ModelOptions opt = {.sets = sets, .batch = 2, .symbolic = size % 2 == 1};
  for (int i = 1; i < LEN(part); i++) {
    const char *set = arena_strndup(a, (const char *)part[i].at, part[i].n);
    if (*set) sets[opt.nsets++] = set;
  }
  check_yaml(a, &part[0]);
  static bool ready;
  if (!ready) fuzz_put("base.yaml", base, sizeof base - 1);
  ready = true;
  fuzz_put("model.yaml", part[0].at, part[0].n);
  Diags *d = diags_new(a);
  Model *m = model_load(a, d, fuzz_path("model.yaml"), &opt);
  fuzz_diags(d, !m);
  MUST(!m || !d->n, "loaded with errors: %s", d->list[0].text);
  if (m) {
    fuzz_module_text(m->mod);
    check_effective(a, m->effective);
  }
  arena_free(a);
  return 0;
}
