/* Memory budgets: how amounts are read, that lifetimes as passes see them are those of the plan, and what a limit does to it. */
#include "driver/compile.h"
#include "passes/live.h"
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
TestSuite(budget, .init = setup, .fini = teardown, .timeout = 300);

Test(budget, amounts) {
  static const struct {
    const char *text;
    int64_t bytes;
  } good[] = {{"none", 0},
              {"1", 1},
              {"1073741824", 1ll << 30},
              {"4KiB", 4096},
              {"1.5 MiB", 3 << 19},
              {"8GiB", 8ll << 30},
              {"2TiB", 2ll << 40},
              {"4194304TiB", 1ll << 62}};
  static const char *const bad[] = {
      "",     "0",    "-1",       "0.5",    "1.5",        "8G",        "8GB",
      "8gib", "GiB",  "1e9",      "8 GiB ", "8  GiB",     " 8GiB",     "nan",
      "inf",  "0x10", "1.2.3GiB", "None",   "5000000TiB", "0.0001KiB", "99999999999999999999999MiB"};
  int64_t bytes;
  for (int i = 0; i < LEN(good); i++) {
    cr_assert(train_bytes(good[i].text, &bytes), "%s", good[i].text);
    cr_assert(eq(i64, bytes, good[i].bytes), "%s", good[i].text);
  }
  for (int i = 0; i < LEN(bad); i++) cr_assert(not(train_bytes(bad[i], &bytes)), "'%s' is taken", bad[i]);
}

static const char *const sets[] = {"dims.d=32", "dims.layers=3", "dims.heads=2", "dims.vocab=97", "dims.ctx=48"};

static Compile *compile(const char *model, const char *target, const char *memory) {
  Compile *c = NEW(a, Compile);
  bool mlp = strstr(model, "mlp") != NULL;
  *c = (Compile){.arena = a, .diags = d, .model_path = model, .target_name = target, .batch = 4, .time = mlp ? 0 : 40};
  for (int i = 0; i < LEN(sets) && !mlp; i++) PUSH(a, c->sets, c->nsets, c->cap_sets, sets[i]);
  if (memory) PUSH(a, c->sets, c->nsets, c->cap_sets, arena_printf(a, "memory=%s", memory));
  bool ok = compile_run(c, STAGE_PROGRAM);
  Text t = {0};
  if (!ok && !memory) diags_render(d, &t);
  cr_assert(ok || memory, "%s", t.s ? t.s : "");
  text_free(&c->blob);
  return ok ? c : NULL;
}

static int64_t alive(const Module *m) {
  int64_t most = 0;
  for (int i = 0; i < m->ngraphs; i++) {
    if (m->graphs[i]->region) continue;
    Live live = live_new(m->graphs[i], a);
    int64_t peak = live_graph(&live, a).peak;
    if (peak > most) most = peak;
  }
  return most;
}

static const char *const models[] = {"models/gpt2.yaml", "models/llama.yaml", "models/char.yaml", "models/mlp.yaml"};

/* What the pass takes for alive is what the plan finds alive, to the byte: with loops, without, with nothing fused. */
Test(budget, lifetimes_are_the_plans) {
  static const char *const targets[] = {"cpu:x86-64-v3", "cpu:x86-64-v3,chunk=8192", "cpu:x86-64-v3,fuse=0",
                                        "cpu:x86-64-v3,memory=1", "cpu:x86-64-v3,chunk=8192,memory=200000"};
  for (int i = 0; i < LEN(models); i++)
    for (int t = 0; t < LEN(targets); t++) {
      Compile *c = compile(models[i], targets[t], NULL);
      cr_expect(eq(i64, alive(c->module), c->report.peak), "%s for %s", models[i], targets[t]);
    }
}

/* A limit of the pass: kept where it can be, and nothing is computed more for a limit that is met. */
Test(budget, limits) {
  for (int i = 0; i < 3; i++) {
    Compile *all = compile(models[i], "cpu:x86-64-v3", NULL),
            *least = compile(models[i], "cpu:x86-64-v3,memory=1", NULL);
    int64_t high = alive(all->module), low = alive(least->module);
    cr_assert(lt(i64, low * 3, high * 2), "%s: %lld of %lld bytes are the least", models[i], (long long)low,
              (long long)high);
    int steps = all->report.steps;
    for (int share = 10; share >= 0; share--) {
      int64_t limit = low + (high - low) * share / 10;
      const char *target = arena_printf(a, "cpu:x86-64-v3,memory=%lld", (long long)limit);
      Compile *c = compile(models[i], target, NULL);
      cr_expect(le(i64, alive(c->module), limit), "%s within %lld bytes", models[i], (long long)limit);
      if (share == 10) cr_expect(eq(int, c->report.steps, steps), "%s: steps for nothing", models[i]);
      if (share < 10) cr_expect(gt(int, c->report.steps, steps));
    }
  }
}

/* A budget: what is promised is within it, whatever it is, or nothing is built. */
Test(budget, promises) {
  for (int i = 0; i < LEN(models); i++) {
    Compile *all = compile(models[i], "cpu:x86-64-v3", NULL);
    int64_t most = program_memory(&all->report, all->target.cores);
    int built = 0, refused = 0;
    for (int64_t budget = most; budget > all->report.persistent && !refused; budget -= all->report.arena / 12 + 1) {
      Compile *c = compile(models[i], "cpu:x86-64-v3", arena_printf(a, "%lld", (long long)budget));
      if (!c) {
        refused++;
        cr_assert(eq(int, d->n, 1));
        cr_assert(strstr(d->list[0].text, "is too little") != NULL, "%s", d->list[0].text);
        d->n = 0;
        continue;
      }
      built++;
      int64_t now = program_memory(&c->report, c->target.cores);
      cr_expect(le(i64, now, budget), "%s: %lld promised", models[i], (long long)now);
      cr_expect(eq(i64, c->traded.memory, most - now));
      cr_expect(eq(int, c->traded.calls > 0, budget < most));
      cr_expect(c->traded.more >= 0 && c->traded.more < c->traded.flops);
    }
    cr_expect(gt(int, built, i < 3 ? 4 : 0), "%s: %d budgets are met", models[i], built);
    cr_expect(eq(int, refused, 1));
  }
}
