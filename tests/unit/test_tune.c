/* The tuner: schedules as data, the database, entries as text, and what a search keeps. Times are never judged here. */
#include "codegen/fingerprint.h"
#include "runtime/machine.h"
#include "tune/tune.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static Arena *arena;
static Diags *diags;
static char folder[64];

static void begin(void) {
  arena = arena_new();
  diags = diags_new(arena);
  strcpy(folder, "/tmp/ink-tune-XXXXXX");
  cr_assert(mkdtemp(folder) != NULL);
}

static void end(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  cr_assert((system(command)) == (0));
  arena_free(arena);
}

TestSuite(tune, .init = begin, .fini = end);

static const char *path(const char *name) {
  return arena_printf(arena, "%s/%s", folder, name);
}

/* A diagnostic holds the text; they are forgotten. */
static void says(const char *text) {
  bool there = false;
  for (int i = 0; i < diags->n; i++) there = there || strstr(diags->list[i].text, text);
  cr_expect(there, "it does not say '%s', but: %s", text, diags->n ? diags->list[0].text : "nothing");
  diags->n = 0;
}

static void quiet(void) {
  cr_assert(diags->n == 0, "%s", diags->list[0].text);
}

static Target target(const char *name) {
  Target t;
  cr_assert(target_resolve(arena, diags, name, &t));
  return t;
}

static const Graph *region(const char *text) {
  const char *whole = arena_printf(arena, "module \"t\"\n%s", text);
  Module *m = module_parse(arena, diags, diags_source(diags, "t.ir", whole, strlen(whole)));
  quiet();
  cr_assert(m && module_verify(m));
  return m->graphs[0];
}

static const Graph *product(int m, int n, int k, const char *rule) {
  bool a_km = rule[0] == 'k', b_kn = rule[3] == 'k';
  return region(arena_printf(arena,
                             "region contract @contract.5(\n  %%x0: f32[%d, %d] data,\n  %%x1: f32[%d, %d] data\n) {\n"
                             "  %%1 = contract %%x0, %%x1 {rule=\"%s\"} : f32[%d, %d]\n  return y0=%%1\n}\n",
                             a_km ? k : m, a_km ? m : k, b_kn ? k : n, b_kn ? n : k, rule, m, n));
}

/* ---- schedules */

static uint64_t seed = 1;
static int next(int n) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int)((seed >> 33) % (uint64_t)n);
}

/* Any values that the table has, and some that it has not. */
static Schedule any(void) {
  Schedule c = {0};
  for (int f = 0; f < SCHEDULE_FIELDS; f++) {
    const ScheduleField *field = &schedule_field[f];
    *schedule_at(&c, f) = next(4) ? field->values[next(field->nvalues)] : 1 + next(3000);
  }
  return c;
}

Test(tune, schedule_text) {
  for (int i = 0; i < 200; i++) {
    Schedule c = any(), again;
    const char *text = schedule_text(arena, &c), *wrong = schedule_parse(text, &again);
    cr_assert(!wrong && !memcmp(&c, &again, sizeof c), "%s: %s", text, wrong);
  }
}

Test(tune, schedule_bad_text) {
  Target t = target("cpu:x86-64-v3");
  Schedule c = schedule_default(&t, &(ContractShape){100, 100, 100}), out;
  const char *good = schedule_text(arena, &c);
  static const char *const bad[] = {"",          "nv",    "nv=",        "nv=2",
                                    "mr=2 nv=2", "nv=-2", "nv=2  mr=2", "nv=99999999999999999999"};
  for (int i = 0; i < LEN(bad); i++) cr_expect(schedule_parse(bad[i], &out), "'%s' is taken", bad[i]);
  for (size_t n = 0; n < strlen(good); n++) {
    const char *text = arena_strndup(arena, good, n);
    /* a shorter last number is a schedule, too */
    if (schedule_parse(text, &out)) continue;
    cr_expect(!strcmp(schedule_text(arena, &out), text));
  }
  cr_expect(schedule_parse(arena_printf(arena, "%s ", good), &out) != NULL);
  cr_expect(schedule_parse(arena_printf(arena, "%s x=1", good), &out) != NULL);
  cr_expect(!schedule_parse(good, &out));
}

/* What fit makes is right, whatever it was, but for blocks that are too large. */
Test(tune, schedule_fit) {
  static const char *const targets[] = {"cpu:x86-64-v3", "cpu:x86-64-v4", "cpu:x86-64", "cpu:x86-64-v3,lanes=16"};
  static const int64_t extent[] = {1, 2, 7, 14, 15, 64, 100, 1000, 4095, 4096, 4097, 50257};
  int right = 0, count = 0;
  for (int i = 0; i < LEN(targets); i++) {
    Target t = target(targets[i]);
    for (int j = 0; j < 500; j++) {
      ContractShape s = {extent[next(LEN(extent))], extent[next(LEN(extent))], extent[next(LEN(extent))]};
      Schedule c = any(), d = schedule_default(&t, &s);
      schedule_fit(&c, &t, &s);
      const char *wrong = schedule_wrong(&c, &t, &s);
      cr_expect(!wrong || strstr(wrong, "too much memory"), "%s: %s", schedule_text(arena, &c), wrong);
      cr_expect(!schedule_wrong(&d, &t, &s), "the default: %s", schedule_text(arena, &d));
      right += !wrong;
      count++;
    }
  }
  cr_expect(right > count / 2);
}

Test(tune, schedule_wrong) {
  Target t = target("cpu:x86-64-v3");
  ContractShape s = {100, 100, 100};
  static const struct {
    int field, value;
  } bad[] = {{SCHEDULE_nv, 0},       {SCHEDULE_nv, 9}, {SCHEDULE_nv, 1 << 24}, {SCHEDULE_mr, 0},
             {SCHEDULE_mr, 17},      {SCHEDULE_mr, 7}, {SCHEDULE_kc, 0},       {SCHEDULE_kc, 12},
             {SCHEDULE_kc, 1 << 20}, {SCHEDULE_mc, 7}, {SCHEDULE_mc, 0},       {SCHEDULE_nc, 17},
             {SCHEDULE_nc, 0},       {SCHEDULE_mb, 1}, {SCHEDULE_mb, 1 << 24}, {SCHEDULE_by_rows, 2}};
  for (int i = 0; i < LEN(bad); i++) {
    Schedule c = schedule_default(&t, &s);
    *schedule_at(&c, bad[i].field) = bad[i].value;
    cr_expect(schedule_wrong(&c, &t, &s), "%s is taken", schedule_text(arena, &c));
  }
}

typedef struct Given {
  Schedule c;
  int asked;
} Given;

static bool give(void *ctx, const Graph *g, const ContractShape *s, Schedule *out) {
  Given *given = ctx;
  (void)g, (void)s;
  given->asked++;
  *out = given->c;
  return true;
}

Test(tune, lowering_checks_its_schedule) {
  Given given = {.c = {0}};
  ScheduleSource source = {give, &given};
  Target t = target("cpu:x86-64-v3");
  Lowered low;
  const Graph *g = product(40, 50, 60, "mk,nk->mn");
  t.schedules = &source;
  cr_expect(!lower_region(g, &t, kmodule_new(arena, "k"), &low));
  says("region @contract.5: its schedule: the register tile");
  given.c = schedule_default(&t, &(ContractShape){40, 50, 60});
  given.c.mr = 3, given.c.mc = 6, given.c.mb = 12;
  KModule *km = kmodule_new(arena, "k");
  cr_expect(lower_region(g, &t, km, &low) && given.asked == 2);
  quiet();
}

/* ---- the law: no schedule changes a bit */

static void same_bits(const char *target_name, const Graph *g, int tries) {
  Target t = target(target_name);
  Report r = {0};
  if (!target_here(&t) || !machine_has(t.require, &r)) {
    report_free(&r);
    return;
  }
  Stand *stand = stand_open(arena, diags, &t, 2, 1 << 20);
  Bench *b = bench_open(arena, diags, g, &t, stand, 1);
  quiet();
  cr_assert(b != NULL);
  for (int i = 0; i < tries; i++) {
    Schedule c = any();
    int number;
    schedule_fit(&c, &t, bench_shape(b));
    if (schedule_wrong(&c, &t, bench_shape(b))) continue;
    cr_assert(bench_add(b, &c, 1, &number));
    cr_expect(bench_agree(b, 0, number), "%s: other bits", schedule_text(arena, &c));
    cr_expect(bench_run(b, number) >= 0);
  }
  bench_close(b);
  stand_close(stand);
  quiet();
}

Test(tune, bits) {
  same_bits("cpu:native", product(45, 70, 33, "mk,nk->mn"), 8);
  same_bits("cpu:native", product(130, 17, 300, "km,kn->mn"), 8);
  same_bits(
      "cpu:native",
      region("region contract @contract.0(\n  %x0: bf16[30, 99] data,\n  %x1: bf16[40, 99] data,\n"
             "  %x2: f32[30, 40] data\n) {\n  %1 = contract_from %x0, %x1, %x2 {rule=\"mk,nk->mn\"} : f32[30, 40]\n"
             "  return y0=%1\n}\n"),
      8);
  same_bits("cpu:x86-64-v3", product(20, 40, 4100, "mk,kn->mn"), 6);
  same_bits(
      "cpu:x86-64-v3",
      region("region contract @contract.0(\n  %x0: f32[3, 20, 30] data,\n  %x1: f32[3, 20, 25] data,\n"
             "  %x2: f32[30, 25] data\n) {\n  %1 = contract_from %x0, %x1, %x2 {rule=\"btk,btn->kn\"} : f32[30, 25]\n"
             "  %2 = exp %1 : f32[30, 25]\n  return y0=%1, y1=%2\n}\n"),
      6);
}

/* Two schedules of one kernel are one candidate. */
Test(tune, candidates) {
  Target t = target("cpu:native");
  Stand *stand = stand_open(arena, diags, &t, 1, 1 << 20);
  Bench *b = bench_open(arena, diags, product(10, 20, 30, "mk,nk->mn"), &t, stand, 0);
  cr_assert(b != NULL);
  Schedule c[3];
  int number[3];
  for (int i = 0; i < 3; i++) c[i] = schedule_default(&t, bench_shape(b));
  c[1].mr = 2, c[1].mc = c[1].mb = 4;
  c[2] = c[1];
  cr_assert(bench_add(b, c, 3, number));
  cr_expect((number[0]) == (0) && (number[1]) == (1) && (number[2]) == (1));
  bench_close(b);
  stand_close(stand);
  quiet();
}

/* Faster by far, slower by far: what is surely so comes out right. */
Test(tune, cost) {
  Target t = target("cpu:x86-64-v3");
  ContractShape s = {1024, 768, 768};
  Schedule good = schedule_default(&t, &s), bad = good;
  bad.mr = 1, bad.mc = bad.mb = 8, bad.nv = 1, bad.kc = 8;
  cr_expect(tune_cost(&bad, &t, &s, 2) > 2 * tune_cost(&good, &t, &s, 2));
  cr_expect(tune_cost(&good, &t, &s, 1) > 1.5 * tune_cost(&good, &t, &s, 2));
}

/* ---- the database */

static TuneEntry entry(const Graph *g, const Target *t, bool won) {
  TuneEntry e;
  ContractShape s = {45, 70, 33};
  Schedule c = schedule_default(t, &s);
  cr_assert(tune_key(arena, diags, g, t, &e));
  e.base = e.schedule = schedule_text(arena, &c);
  c.mr = 2, c.mc = 4, c.mb = 8;
  if (won) e.schedule = schedule_text(arena, &c);
  e.seconds = won ? 0.5 : 0.75, e.base_seconds = 0.75, e.tried = 7, e.threads = 2, e.cut = won, e.model = "m\"<odd>'";
  return e;
}

static void same_entry(const TuneEntry *x, const TuneEntry *y) {
  const char *a[] = {x->region, x->target, x->machine, x->schedule, x->base, x->model, x->kernel, x->version};
  const char *b[] = {y->region, y->target, y->machine, y->schedule, y->base, y->model, y->kernel, y->version};
  for (int i = 0; i < LEN(a); i++) cr_expect(!strcmp(a[i], b[i]), "'%s' is '%s'", a[i], b[i]);
  cr_expect(x->seconds == y->seconds && x->base_seconds == y->base_seconds);
  cr_expect(x->tried == y->tried && x->threads == y->threads && x->cut == y->cut);
}

static TuneDb *open_db(const char *name, bool write) {
  TuneDb *db;
  cr_assert(tune_db_open(arena, diags, path(name), write, &db), "%s", diags->n ? diags->list[0].text : "");
  return db;
}

Test(tune, db) {
  Target t = target("cpu:native");
  const Graph *g = product(45, 70, 33, "mk,nk->mn");
  cr_expect(!open_db("sub/none.db", false)); /* nothing there: no error, no file */
  TuneDb *db = open_db("sub/folder/t.db", true);
  TuneEntry e = entry(g, &t, true), found, *all;
  bool there;
  int n;
  cr_assert(tune_db_get(db, arena, diags, &e, &found, &there) && !there);
  TuneTry tries[] = {{e.base, 0.25}, {e.schedule, 0.125}}, *read;
  cr_assert(tune_db_put(db, diags, &e, tries, 2));
  tune_db_close(db);
  db = open_db("sub/folder/t.db", false);
  cr_assert(tune_db_get(db, arena, diags, &e, &found, &there) && there);
  same_entry(&e, &found);
  cr_assert(tune_db_tries(db, arena, diags, &found, &read, &n) && n == 2);
  cr_expect(!strcmp(read[1].schedule, e.schedule) && read[1].seconds == 0.125);
  cr_expect(!tune_db_put(db, diags, &e, NULL, 0)); /* opened for reading */
  says("readonly");
  tune_db_close(db);
  db = open_db("sub/folder/t.db", true); /* a second one takes the first one's place, its tries too */
  e.schedule = e.base;
  cr_assert(tune_db_put(db, diags, &e, tries, 1));
  cr_assert(tune_db_list(db, arena, diags, &all, &n) && n == 1);
  same_entry(&e, &all[0]);
  cr_assert(tune_db_tries(db, arena, diags, &all[0], &read, &n) && n == 1);
  TuneEntry other = e;
  other.machine = "another";
  cr_assert(tune_db_get(db, arena, diags, &other, &found, &there) && !there);
  other = e;
  other.target = "cpu:x86-64-v3";
  cr_assert(tune_db_get(db, arena, diags, &other, &found, &there) && !there);
  tune_db_close(db);
  quiet();
}

/* The key does not know the region's name, but all else. */
Test(tune, key) {
  Target t = target("cpu:native"), plain = target("cpu");
  TuneEntry x, y;
  Graph *g = (Graph *)(uintptr_t)product(45, 70, 33, "mk,nk->mn");
  cr_assert(tune_key(arena, diags, g, &t, &x));
  g->name = "contract.77";
  cr_assert(tune_key(arena, diags, g, &plain, &y));
  cr_expect(!strcmp(x.region, y.region) && !strcmp(x.target, y.target) && !strcmp(x.machine, y.machine));
  cr_expect(!strcmp(tune_short(arena, &x), tune_short(arena, &y)) && strlen(tune_short(arena, &x)) == 12);
  cr_assert(tune_key(arena, diags, product(45, 70, 34, "mk,nk->mn"), &t, &y));
  cr_expect(strcmp(x.region, y.region) && strcmp(tune_short(arena, &x), tune_short(arena, &y)));
}

static void patch(const char *name, long at, const void *bytes, size_t n) {
  FILE *f = fopen(path(name), "r+b");
  cr_assert(f && !fseek(f, at, SEEK_SET) && fwrite(bytes, 1, n, f) == n && !fclose(f));
}

static void refused(const char *name, const char *why) {
  for (int write = 0; write < 2; write++) {
    TuneDb *db;
    cr_expect(!tune_db_open(arena, diags, path(name), write, &db) && !db, "%s is taken", name);
    says(why);
  }
}

Test(tune, db_damaged) {
  Target t = target("cpu:native");
  TuneEntry e = entry(product(45, 70, 33, "mk,nk->mn"), &t, true);
  char junk[5000];
  memset(junk, 'x', sizeof junk);
  cr_assert(file_write_atomic(path("junk.db"), junk, sizeof junk));
  refused("junk.db", "not a database");
  static const char *const names[] = {"newer.db", "foreign.db", "torn.db", "pages.db"};
  for (int i = 0; i < LEN(names); i++) {
    TuneDb *db = open_db(names[i], true);
    for (int k = 0; k < 20; k++) {
      TuneEntry each = e;
      each.machine = arena_printf(arena, "machine-%d", k);
      cr_assert(tune_db_put(db, diags, &each, NULL, 0));
    }
    tune_db_close(db);
  }
  /* offsets of the header of SQLite's file format */
  patch("newer.db", 60, "\0\0\0\x09", 4);
  refused("newer.db", "newer ink (version 9");
  patch("foreign.db", 68, "\0\0\0\x09", 4);
  refused("foreign.db", "not a tuning database");
  cr_assert(!truncate(path("torn.db"), 4096 * 2 + 100));
  refused("torn.db", "tuning database");
  patch("pages.db", 4096, junk, sizeof junk);
  refused("pages.db", "tuning database");
  cr_assert(!mkdir(path("folder.db"), 0777));
  refused("folder.db", "is not a file");
}

/* Processes that tune at once. */
Test(tune, db_many_writers) {
  enum { WRITERS = 4, PUTS = 25 };
  Target t = target("cpu:native");
  TuneEntry e = entry(product(45, 70, 33, "mk,nk->mn"), &t, true), *all;
  int n;
  for (int w = 0; w < WRITERS; w++) {
    if (fork()) continue;
    TuneDb *db;
    bool ok = tune_db_open(arena, diags, path("t.db"), true, &db);
    for (int i = 0; ok && i < PUTS; i++) {
      TuneTry tried = {e.base, i};
      e.machine = arena_printf(arena, "machine-%d-%d", i % 5 ? w : 9, i); /* some are everybody's */
      ok = tune_db_put(db, diags, &e, &tried, 1);
    }
    tune_db_close(db);
    _exit(ok ? 0 : 1);
  }
  for (int w = 0, status; w < WRITERS; w++) cr_expect(wait(&status) > 0 && status == 0);
  TuneDb *db = open_db("t.db", false);
  cr_assert(tune_db_list(db, arena, diags, &all, &n));
  cr_expect((n) == (WRITERS * 20 + 5));
  for (int i = 0; i < n; i++) {
    TuneTry *tries;
    int ntries;
    cr_expect(tune_db_tries(db, arena, diags, &all[i], &tries, &ntries) && ntries == 1);
  }
  tune_db_close(db);
}

/* A writer that is killed at any moment leaves what was there before, for readers and writers. */
Test(tune, db_killed_writer) {
  Target t = target("cpu:native");
  TuneEntry e = entry(product(45, 70, 33, "mk,nk->mn"), &t, true), *all;
  int n, last = 0;
  tune_db_close(open_db("t.db", true));
  for (int round = 0; round < 12; round++) {
    pid_t pid = fork();
    if (!pid) {
      TuneDb *db;
      TuneTry tried = {e.base, 1};
      if (!tune_db_open(arena, diags, path("t.db"), true, &db)) _exit(1);
      for (int i = 0;; i++) {
        e.machine = arena_printf(arena, "machine-%d-%d", round, i);
        if (!tune_db_put(db, diags, &e, &tried, 1)) _exit(1);
      }
    }
    usleep((useconds_t)(20000 + 3000 * next(10)));
    kill(pid, SIGKILL);
    int status;
    cr_assert(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    TuneDb *db = open_db("t.db", round & 1);
    cr_assert(tune_db_list(db, arena, diags, &all, &n) && n >= last, "%d of %d", n, last);
    for (int i = 0; i < n; i++) {
      TuneTry *tries;
      int ntries;
      cr_assert(tune_db_tries(db, arena, diags, &all[i], &tries, &ntries) && ntries == 1);
    }
    last = n;
    tune_db_close(db);
  }
  cr_expect(last > 0);
}

/* ---- what a build takes */

static bool build_lowers(const char *name, const Graph *g, const Target *t, TuneUse *u, Text *kernel) {
  Lowered low;
  KModule *km = kmodule_new(arena, "k");
  cr_assert(tune_use_open(u, arena, diags, name ? path(name) : NULL, false, t));
  Target with = *t;
  with.schedules = &u->source;
  bool ok = lower_region(g, &with, km, &low) && !u->failed;
  tune_use_close(u);
  text_free(kernel);
  if (ok) kmodule_print(km, NULL, kernel);
  return ok;
}

static void put(const char *name, const TuneEntry *e) {
  TuneDb *db = open_db(name, true);
  cr_assert(tune_db_put(db, diags, e, NULL, 0));
  tune_db_close(db);
}

Test(tune, use) {
  Target t = target("cpu:native");
  const Graph *g = product(45, 70, 33, "mk,nk->mn");
  TuneEntry e = entry(g, &t, true), kept = entry(g, &t, false);
  Text without = {0}, with = {0};
  TuneUse u;
  cr_assert(build_lowers(NULL, g, &t, &u, &without) && u.asked == 1 && !u.ntuned);
  cr_assert(build_lowers("none.db", g, &t, &u, &with) && u.asked == 1 && !u.ntuned && !strcmp(with.s, without.s));
  put("t.db", &e);
  cr_assert(build_lowers("t.db", g, &t, &u, &with) && u.ntuned == 1 && strcmp(with.s, without.s));
  cr_expect(!strcmp(u.tuned[0], "contract.5"));
  cr_assert(build_lowers("t.db", product(45, 70, 34, "mk,nk->mn"), &t, &u, &with) && !u.ntuned && !u.best);
  put("t.db", &kept);
  cr_assert(build_lowers("t.db", g, &t, &u, &with) && !u.ntuned && u.best == 1 && !strcmp(with.s, without.s));
  TuneEntry stale = e; /* measured against another default */
  stale.base = e.schedule, stale.schedule = e.base;
  put("t.db", &stale);
  cr_assert(build_lowers("t.db", g, &t, &u, &with) && !u.ntuned && !u.best && !strcmp(with.s, without.s));
  static const char *const bad[] = {"", "nv=2", "nv=1 mr=0 kc=8 mc=1 nc=1 mb=1 by_rows=0"};
  for (int i = 0; i < LEN(bad); i++) {
    TuneEntry broken = e;
    broken.schedule = bad[i];
    put("t.db", &broken);
    cr_expect(!build_lowers("t.db", g, &t, &u, &with) && u.failed);
    says("the schedule of region @contract.5");
  }
  cr_expect(!tune_use_open(&u, arena, diags, path("none.db"), true, &t));
  says("there is no tuning database");
  text_free(&with);
  text_free(&without);
}

/* ---- entries as text */

static bool import(const char *text, int *n, int *foreign, TuneEntry **e) {
  return tune_import(arena, diags, diags_source(diags, "tuning.txt", text, strlen(text)), e, n, foreign);
}

Test(tune, exchange) {
  Target t = target("cpu:native"), v3 = target("cpu:x86-64-v3");
  TuneEntry e[3] = {entry(product(45, 70, 33, "mk,nk->mn"), &t, true),
                    entry(product(45, 70, 33, "km,kn->mn"), &v3, false)};
  TuneEntry *back;
  Text text = {0}, again = {0};
  int n, foreign;
  e[1].model = "tab\tline\nback\\slash";
  e[2] = e[0];
  e[2].machine = "another-machine";
  tune_export(e, 3, &text);
  cr_assert(import(text.s, &n, &foreign, &back), "%s", diags->n ? diags->list[0].text : "");
  cr_assert(n == 2 && foreign == 1);
  for (int i = 0; i < n; i++) same_entry(&e[i], &back[i]);
  tune_export(back, n, &again);
  cr_expect(strstr(text.s, again.s) == text.s);
  cr_assert(import(arena_printf(arena, "%s\n# a comment\n\n", text.s), &n, &foreign, &back) && n == 2);
  text_free(&text);
  text_free(&again);
}

/* The text with the first `from` made `to`, or cut before it where `to` is NULL. */
static const char *with(const char *text, const char *from, const char *to) {
  const char *at = strstr(text, from);
  cr_assert(at != NULL, "no '%s'", from);
  return arena_printf(arena, "%.*s%s%s", (int)(at - text), text, to ? to : "", to ? at + strlen(from) : "");
}

Test(tune, import_bad) {
  Target t = target("cpu:native");
  TuneEntry e = entry(product(45, 70, 33, "mk,nk->mn"), &t, true), *back;
  Text text = {0};
  int n, foreign;
  tune_export(&e, 1, &text);
  static const struct {
    const char *from, *to, *why;
  } bad[] = {
      {"inkstone tuning 1", "", "no tuning data"},
      {"inkstone tuning 1", "inkstone tuning 2", "newer ink: version 2"},
      {"inkstone tuning 1", "inkstone tuning 0", "no tuning data"},
      {"inkstone tuning 1", "inkstone tuning 1x", "no tuning data"},
      {"nv=", "nw=", "its schedule"},
      {"mr=2", "mr=0", "its schedule"},
      {"mr=2", "mr=64", "its schedule: the register tile"},
      {"mc=4", "mc=5", "its schedule: mc"},
      {"0.75", "x", "seconds"},
      {"0.75", "inf", "seconds"},
      {"0.75", "-1", "seconds"},
      {"\t7\t", "\t-7\t", "counts"},
      {"\t7\t", "\t7\t7\t", "13 fields"},
      {"cpu:native", "cpu:pdp11", "unknown target"},
      {"region contract", "region map", "its region"},
      {"region contract @r", "region contract @s", "its region"},
      {"region contract", "graph", "its region"},
      {"mk,nk", "mk,nj", "its region"},
      {"f32[45, 33]", "f32[45,33]", "its region"},
      {"f32[45, 33]", "f32[45, 34]", "its region"},
      {"f32[45, 33]", "f32[99999999999999, 9999999999]", "its region"},
      {"\\n", "\\q", "backslash"},
      {"\\n", NULL, "its region"},
      {"\tregion", NULL, "13 fields"},
  };
  for (int i = 0; i < LEN(bad); i++) {
    cr_expect(!import(with(text.s, bad[i].from, bad[i].to), &n, &foreign, &back), "taken: %s for %s", bad[i].to,
              bad[i].from);
    int line = diags->n ? (int)diags->list[0].at.line : 0;
    cr_expect(line == (strstr(bad[i].from, "inkstone") ? 1 : 2), "line %d", line);
    says(bad[i].why);
  }
  cr_expect(!import("", &n, &foreign, &back));
  says("no tuning data");
  text_free(&text);
}

/* ---- the search */

static bool at_once(void *ctx) {
  (void)ctx;
  return true;
}

Test(tune, search) {
  Target t = target("cpu:native");
  const Graph *g = product(45, 70, 33, "mk,nk->mn");
  Stand *stand = stand_open(arena, diags, &t, 2, 1 << 16);
  TuneEntry e;
  TuneTry *tries;
  int n;
  Search s = {.region = g, .target = &t, .stand = stand, .until = machine_seconds() - 1};
  cr_assert(tune_key(arena, diags, g, &t, &e));
  cr_expect((tune_search(&s, arena, diags, &e, &tries, &n)) == (SEARCH_LATE));
  s.until = s.limit = machine_seconds() + 60;
  s.stop = at_once;
  cr_expect((tune_search(&s, arena, diags, &e, &tries, &n)) == (SEARCH_STOPPED));
  s.stop = NULL;
  s.until = s.limit = machine_seconds() + 5;
  cr_assert((tune_search(&s, arena, diags, &e, &tries, &n)) == (SEARCH_DONE));
  cr_expect(machine_seconds() < s.until + 30);
  cr_expect(n > 0 && e.tried == n && e.threads == 2 && e.base_seconds > 0 && e.seconds > 0);
  cr_expect(!tune_won(&e) || e.seconds < e.base_seconds);
  for (int i = 0; i < n; i++)
    for (int j = 0; j < i; j++)
      cr_expect(strcmp(tries[i].schedule, tries[j].schedule), "tried twice: %s", tries[i].schedule);
  Schedule c;
  cr_expect(!schedule_parse(e.schedule, &c) && !schedule_wrong(&c, &t, &(ContractShape){45, 70, 33}));
  stand_close(stand);
  quiet();
}
