/* TRAIN.yaml: defaults, nesting, overrides, checks. Bad files: tests/frontend/ *.train.yaml, run by test_frontend.c. */
#include "frontend/frontend.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static Arena *a;
static Diags *d;
static void setup(void) {
  a = arena_new();
  d = diags_new(a);
}
static void teardown(void) {
  arena_free(a);
}
TestSuite(train_spec, .init = setup, .fini = teardown);

static const char *value(const TrainSpec *s, const char *key) {
  int k = train_key(key);
  cr_assert(ge(int, k, 0), "no key %s", key);
  return s->value[k];
}

static TrainSpec *load_text(const char *text) {
  return train_text(a, d, "train.yaml", text);
}

Test(train_spec, defaults) {
  TrainSpec *s = train_load(a, d, NULL);
  cr_assert(s != NULL);
  cr_assert(eq(str, (char *)value(s, "lr"), "3e-4"));
  cr_assert(eq(str, (char *)value(s, "schedule.kind"), "cosine"));
  cr_assert(eq(i64, s->micro_batch, 4));
  cr_assert(eq(i64, s->seq, 0));
  cr_assert(eq(int, train_key("learning_rate"), -1));
}

Test(train_spec, shipped_files) {
  static const char *const path[] = {"models/char.train.yaml", "models/gpt2.train.yaml", "models/llama.train.yaml",
                                     "models/mlp.train.yaml"};
  for (int i = 0; i < LEN(path); i++) cr_assert(train_load(a, d, path[i]) != NULL, "%s", path[i]);
  TrainSpec *s = train_load(a, d, "models/char.train.yaml");
  cr_assert(eq(str, (char *)value(s, "lr"), "1e-3"));
  cr_assert(eq(str, (char *)value(s, "adamw.beta2"), "0.99"));
  cr_assert(eq(str, (char *)value(s, "schedule.warmup"), "100"));
  cr_assert(eq(str, (char *)value(s, "eval.batches"), "0"));
  cr_assert(eq(i64, s->micro_batch, 12));
  cr_assert(eq(i64, s->seq, 64));
}

Test(train_spec, nested_and_flat_keys) {
  TrainSpec *s = load_text("lr: 5e-5\nadamw: {beta1: .8, eps: 1E-6}\nadamw.beta2: 0.9\neval:\n  every: 10\n");
  cr_assert(s != NULL);
  cr_assert(eq(str, (char *)value(s, "lr"), "5e-5"));
  cr_assert(eq(str, (char *)value(s, "adamw.beta1"), ".8"));
  cr_assert(eq(str, (char *)value(s, "adamw.beta2"), "0.9"));
  cr_assert(eq(str, (char *)value(s, "eval.every"), "10"));
}

/* The effective text lists every setting, and reads back as the same. */
Test(train_spec, effective_text) {
  TrainSpec *s = load_text("lr: 5e-5\nmicro_batch: 4\nglobal_batch: 12\n");
  cr_assert(s != NULL);
  TrainSpec *again = load_text(s->effective);
  cr_assert(again != NULL);
  cr_assert(eq(str, (char *)s->effective, (char *)again->effective));
  cr_assert(eq(i64, again->micro_batch, 4));
  cr_assert(strstr(s->effective, "adamw.weight_decay: 0.1\n") != NULL);
}

Test(train_spec, overrides) {
  TrainSpec *s = train_load(a, d, NULL);
  cr_assert(train_set(a, d, s, "micro_batch=6"));
  cr_assert(train_set(a, d, s, "schedule.kind=linear"));
  cr_assert(eq(i64, s->micro_batch, 6));
  cr_assert(strstr(s->effective, "schedule.kind: linear\n") != NULL);
  cr_assert(eq(int, d->n, 0));
  static const char *const wrong[] = {"micro_batch=0", "lr=1e",  "lr",       "micro_batches=3", "schedule.kind=step",
                                      "steps=1e3",     "lr=inf", "lr=0x1p3", "global_batch=7"};
  for (int i = 0; i < LEN(wrong); i++) {
    cr_assert(eq(int, train_set(a, d, s, wrong[i]), 0), "%s", wrong[i]);
    cr_assert(eq(int, d->n, i + 1));
  }
}

Test(train_spec, checks_of_one_setting) {
  static const char *const good[][2] = {{"lr", "1e-3"}, {"lr", "0"}, {"steps", "100"}, {"clip", "0.5"}, {"seed", "9"}};
  for (int i = 0; i < LEN(good); i++) cr_assert(train_check(a, good[i][0], good[i][1], true) == NULL, "%s", good[i][0]);
  cr_assert(eq(str, (char *)train_check(a, "weight_decay", "0", true),
               "unknown setting 'weight_decay'; did you mean 'adamw.weight_decay'?"));
  cr_assert(eq(str, (char *)train_check(a, "stpes", "1", true), "unknown setting 'stpes'; did you mean 'steps'?"));
  cr_assert(eq(str, (char *)train_check(a, "adamw.beta1", "2", true), "adamw.beta1: 2 is out of the range 0 to 1"));
  cr_assert(train_check(a, "seq", "128", false) == NULL);
  cr_assert(eq(str, (char *)train_check(a, "seq", "128", true),
               "seq is fixed when the program is built; build it again with --set seq=128"));
}
