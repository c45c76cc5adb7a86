/* ink tune: measures schedules of a model's contractions on this machine, and keeps what won for the builds that follow. */
#include "tune/tune.h"
#include "cli/compile.h"
#include "codegen/fingerprint.h"
#include "runtime/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig) {
  (void)sig;
  if (interrupted) _exit(130); /* a second time: at once; all that was found is stored */
  interrupted = 1;
}

static bool stop(void *ctx) {
  (void)ctx;
  return interrupted != 0;
}

static const char *gain(Arena *a, const TuneEntry *e) {
  if (!tune_won(e)) return "default is best";
  return arena_printf(a, "%+.1f%%", 100 * (e->base_seconds / e->seconds - 1));
}

/* ---- tuning */

typedef struct View {
  Arena *arena;
  bool terminal; /* a line that changes can be shown */
  double begun;
} View;

static void progress(void *ctx, const Tune *t, int i) {
  View *v = ctx;
  const TuneKernel *k = &t->kernels[i];
  const TuneEntry *e = &k->entry;
  double left = t->until - machine_seconds();
  int done = t->known + t->found + 1;
  if (v->terminal) printf("\r\033[K");
  if (k->state == TUNE_NEW) {
    printf("%-14s %9.3f -> %9.3f ms  %-16s %3" PRId64 " tried%s\n", k->region->name, 1e3 * e->base_seconds,
           1e3 * e->seconds, gain(v->arena, e), e->tried, e->cut ? ", cut short" : "");
  } else if (v->terminal && k->state == TUNE_WAITS) {
    printf("%d of %d, %.0f s left: %s", done, t->n, left > 0 ? left : 0, k->region->name);
    if (e->tried > 0 && e->base_seconds > 0)
      printf(", %" PRId64 " tried, best so far %.3f of %.3f ms", e->tried, 1e3 * e->seconds, 1e3 * e->base_seconds);
  }
  fflush(stdout);
}

static void summary(const Tune *t, const char *path, double since) {
  double base = 0, best = 0;
  int won = 0, cut = 0, late = 0;
  for (int i = 0; i < t->n; i++) {
    const TuneKernel *k = &t->kernels[i];
    if (k->state != TUNE_KNOWN && k->state != TUNE_NEW) {
      late++;
      continue;
    }
    won += tune_won(&k->entry);
    cut += k->entry.cut;
    base += k->calls * k->entry.base_seconds;
    best += k->calls * k->entry.seconds;
  }
  if (!t->n)
    printf("this model has no contractions: nothing to tune\n");
  else if (t->known == t->n && !t->again)
    printf("all %d contraction kernels are in the database: nothing to do (%.1f s)\n", t->n, since);
  else
    printf("%d of %d contraction kernels measured, %d known before, in %.1f s\n", t->found, t->n, t->known, since);
  if (t->n)
    printf("tuned: %d of %d; their part of a step: %.1f -> %.1f ms (%+.1f%%)\n", won, t->n - late, 1e3 * base,
           1e3 * best, best > 0 ? 100 * (base / best - 1) : 0.0);
  if (late) printf("not reached: %d, for which the time was too short; ink tune again goes on with them\n", late);
  if (cut) printf("cut short: %d; ink tune --again searches on from what they found\n", cut);
  printf("database: %s\n", path);
}

/* "90", "90s", "2m", "1h". */
static bool parse_budget(const char *text, double *out) {
  char *end;
  double v = text ? strtod(text, &end) : 120;
  *out = v;
  if (!text) return true;
  double unit = !strcmp(end, "") || !strcmp(end, "s") ? 1 : !strcmp(end, "m") ? 60 : !strcmp(end, "h") ? 3600 : 0;
  *out = v * unit;
  if (end != text && unit > 0 && *out > 0 && *out <= 1e6) return true;
  cli_error("tune: --budget takes a time such as 120s or 5m, not '%s'", text);
  return false;
}

static bool tune(Args *a, Compile *c, TuneDb *db, const char *path, double budget, int64_t threads) {
  View view = {.arena = a->arena, .terminal = isatty(STDOUT_FILENO) == 1, .begun = machine_seconds()};
  const char *page = args_get(a, "--report");
  struct sigaction act = {.sa_handler = on_interrupt}, before;
  if (!compile_run(c, STAGE_FUSED)) return false;
  c->target.schedules = NULL;
  Tune t = {.module = c->module,
            .model = c->model->name,
            .target = &c->target,
            .db = db,
            .threads = (int)threads,
            .budget = budget,
            .again = args_get(a, "--again") != NULL,
            .stop = stop,
            .progress = progress,
            .ctx = &view};
  sigaction(SIGINT, &act, &before);
  bool ok = tune_module(&t, a->arena, c->diags);
  sigaction(SIGINT, &before, NULL);
  if (t.stopped) printf("%sinterrupted: what was found so far is kept\n", view.terminal ? "\r\033[K" : "");
  if (ok) summary(&t, path, machine_seconds() - view.begun);
  if (ok && page) {
    Text html = {0};
    ok = tune_page(db, a->arena, c->diags, &t, &html);
    if (ok && !cli_write(page, html.s, html.n)) ok = false;
    text_free(&html);
  }
  return ok && !t.stopped;
}

/* ---- the database */

static bool list(Args *a, TuneDb *db, Diags *d) {
  TuneEntry *e;
  int n;
  if (!tune_db_list(db, a->arena, d, &e, &n)) return false;
  Text t = {0};
  text_add(&t, "%-12s  %-10s %-14s %-14s %10s %10s  %-16s %5s  schedule\n", "entry", "model", "kernel", "target",
           "default ms", "best ms", "gain", "tried");
  for (int i = 0; i < n; i++)
    text_add(&t, "%s  %-10s %-14s %-14s %10.3f %10.3f  %-16s %5" PRId64 "  %s\n", tune_short(a->arena, &e[i]),
             e[i].model, e[i].kernel, e[i].target, 1e3 * e[i].base_seconds, 1e3 * e[i].seconds, gain(a->arena, &e[i]),
             e[i].tried, e[i].schedule);
  text_add(&t, "%d %s\n", n, n == 1 ? "entry" : "entries");
  Text clean = {0};
  text_write_clean(&clean, t.s, t.n);
  bool ok = cli_write(NULL, clean.s, clean.n);
  text_free(&t);
  text_free(&clean);
  return ok;
}

static void explain_one(Args *a, const TuneEntry *e, const TuneTry *x, int n, Text *t) {
  text_add(t, "entry %s: %s of %s, %s on %s, %" PRId64 " threads, ink %s\n\n%s\n", tune_short(a->arena, e), e->kernel,
           e->model, e->target, e->machine, e->threads, e->version, e->region);
  text_add(t, "%" PRId64 " candidates tried%s\n", e->tried, e->cut ? "; the budget cut the search short" : "");
  text_add(t, "%10.4f ms  %s  (default)\n", 1e3 * e->base_seconds, e->base);
  for (int i = 0; i < n; i++)
    text_add(t, "%10.4f ms  %s%s\n", 1e3 * x[i].seconds, x[i].schedule,
             tune_won(e) && !strcmp(x[i].schedule, e->schedule) ? "  (best)" : "");
  if (tune_won(e))
    text_add(t, "\nin turns with the default: %.4f against %.4f ms, %s\n  %s\n", 1e3 * e->seconds,
             1e3 * e->base_seconds, gain(a->arena, e), e->schedule);
  else
    text_add(t, "\nnone was faster than the default beyond doubt: it stays\n");
}

static bool explain(Args *a, TuneDb *db, Diags *d, const char *what) {
  TuneEntry *e;
  int n, shown = 0;
  Text t = {0}, clean = {0};
  if (!tune_db_list(db, a->arena, d, &e, &n)) return false;
  for (int i = 0; i < n; i++) {
    TuneTry *x;
    int tries;
    const char *name = arena_printf(a->arena, "%s:%s", e[i].model, e[i].kernel);
    if (strcmp(e[i].kernel, what) && strcmp(name, what) && strcmp(tune_short(a->arena, &e[i]), what)) continue;
    if (!tune_db_tries(db, a->arena, d, &e[i], &x, &tries)) return false;
    if (shown++) text_add(&t, "\n");
    explain_one(a, &e[i], x, tries, &t);
  }
  if (!shown)
    return diag_hint(d, (Span){0},
                     "ink tune --list shows them; a name is contract.3, char:contract.3 or an entry's digits",
                     "no entry '%s' in the tuning database", what);
  text_write_clean(&clean, t.s, t.n);
  bool ok = cli_write(NULL, clean.s, clean.n);
  text_free(&t);
  text_free(&clean);
  return ok;
}

static bool export(Args *a, TuneDb *db, Diags *d, const char *path) {
  TuneEntry *e;
  int n;
  Text t = {0};
  if (!tune_db_list(db, a->arena, d, &e, &n)) return false;
  tune_export(e, n, &t);
  bool ok = cli_write(path, t.s, t.n);
  if (ok) printf("%s: %d %s\n", path, n, n == 1 ? "entry" : "entries");
  text_free(&t);
  return ok;
}

static bool import(Args *a, TuneDb *db, Diags *d, const char *path) {
  enum { LIMIT = 64 << 20 };
  uint32_t file;
  TuneEntry *e;
  int n, foreign;
  if (!diags_read(d, path, LIMIT, &file) || !tune_import(a->arena, d, file, &e, &n, &foreign)) return false;
  for (int i = 0; i < n; i++)
    if (!tune_db_put(db, d, &e[i], NULL, 0)) return false;
  printf("%s: %d %s imported\n", path, n, n == 1 ? "entry" : "entries");
  if (foreign) printf("left out: %d of other kinds of machines, which would not be used here\n", foreign);
  return true;
}

/* ---- the command */

static bool database(Args *a, Diags *d, bool write, const char **path, TuneDb **db) {
  *path = args_get(a, "--tune-db");
  if (!*path && !(*path = tune_db_default(a->arena)))
    return diag_error(d, (Span){0},
                      "where is the tuning database? neither HOME nor XDG_CACHE_HOME is set; give --tune-db FILE");
  if (!tune_db_open(a->arena, d, *path, write, db)) return false;
  return *db || diag_hint(d, (Span){0}, "ink tune MODEL.yaml makes one", "there is no tuning database %s", *path);
}

static int run(Args *a) {
  static const char *const queries[] = {"--list", "--export", "--import", "--explain"};
  const char *query = NULL, *path, *value = NULL;
  for (int i = 0; i < LEN(queries); i++) {
    if (!args_get(a, queries[i])) continue;
    if (query) {
      cli_error("tune: %s and %s: one at a time", query, queries[i]);
      return EXIT_USAGE;
    }
    query = queries[i], value = args_get(a, query);
  }
  Compile c = {.arena = a->arena, .diags = diags_new(a->arena)};
  int64_t threads = 1;
  double budget = 0;
  TuneDb *db = NULL;
  if (query && a->noperands) {
    cli_error("tune: %s takes no model", query);
    return EXIT_USAGE;
  }
  if (!query && (!compile_options(&c, a, a->operand[0]) || !parse_budget(args_get(a, "--budget"), &budget) ||
                 !args_count(a, "--threads", 1024, machine_cores(), &threads)))
    return EXIT_USAGE;
  bool writes = !query || !strcmp(query, "--import"), ok = database(a, c.diags, writes, &path, &db);
  if (!ok)
    ;
  else if (!query)
    ok = tune(a, &c, db, path, budget, threads);
  else if (!strcmp(query, "--list"))
    ok = list(a, db, c.diags);
  else if (!strcmp(query, "--explain"))
    ok = explain(a, db, c.diags, value);
  else if (!strcmp(query, "--export"))
    ok = export(a, db, c.diags, value);
  else
    ok = import(a, db, c.diags, value);
  if (!ok) cli_diags(c.diags);
  tune_db_close(db);
  compile_free(&c);
  return ok ? EXIT_OK : EXIT_FAILED;
}

static const Option options[] = {
    COMPILE_OPTIONS,
    {"--tune-db", "FILE", false, "the database (default: ~/.cache/inkstone/tune.db)"},
    {"--budget", "TIME", false, "how long it may take: 120s (default), 5m, 1h"},
    {"--threads", "N", false, "threads that the program will use (default: the machine's cores)"},
    {"--again", NULL, false, "search kernels that are in the database, too, from what was found"},
    {"--report", "FILE.html", false, "what was tried and what won, as one page"},
    {"--list", NULL, false, "show the database"},
    {"--explain", "KERNEL", false, "what was tried for a kernel, what won, by how much"},
    {"--export", "FILE", false, "write the database as text"},
    {"--import", "FILE", false, "take entries from such a text; each is checked"},
};

const Command cmd_tune = {
    .name = "tune",
    .usage =
        "MODEL.yaml [--for train] [--budget 120s] [--report FILE.html] | --list | --explain KERNEL | --export FILE | "
        "--import FILE",
    .summary = "measure what makes a model fast on this machine, for builds to come",
    .doc =
        "Tries other schedules for the model's contractions than the cost model's, on this machine, and keeps what is\n"
        "faster in a database that ink build reads. No schedule changes a result. Ctrl-C keeps what was found.\n"
        "Give the model, --set, --batch, --seq, --train and --target as for ink build: other sizes are other kernels.",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .run = run,
};
