/* One region: from the default's schedule to the best that is found in the time given.
 *
 * A local search. The neighbours of a schedule differ from it in one field (schedule.def lists the values), later in two; those
 * that are wrong, measured already, or hopeless by the predicted time (HOPELESS) are left out. In batches, the most promising of
 * every field first, they are compiled and race against the best so far; a better one becomes the best, and its neighbours
 * follow. The search is done when no neighbour is left, or some batches of pairs brought nothing. One whose slice of the budget is
 * too short even for one candidate takes what that needs, if the budget has it: kernels come in the order in which they matter.
 *
 * The machine is shared, so times are only compared within a race: all take turns, one call each, each round beginning with
 * another; those far behind leave early. Noise only ever adds, so a time is the lower quartile of its calls. Whoever wins may
 * have been lucky, so at the end it meets the default in two series of calls by turns, and must be faster by GAIN in the lower
 * quartiles and in the medians of both, and in more pairs than two standard deviations of chance explain. Else the default
 * stays. Before it counts, its bits are held to the default's: a difference is a fault of the compiler. */
#include "runtime/machine.h"
#include "tune/tune.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 8, ROUNDS = 7, PAIRS = 25, FEW_PAIRS = 3, PAIR_BATCHES = 3 };
static const double HOPELESS = 1.4; /* predicted, of the best's prediction */
static const double GAIN = 1.02;    /* what a winner must gain over the default */
static const double STEP = 1.01;    /* what a race's winner must gain to become the best */
static const double SERIES = 1.5;   /* seconds that a series of pairs should take: long calls need fewer */

typedef struct Racer {
  const char *text; /* of the schedule */
  Schedule schedule;
  double predicted;
  int number; /* in the bench */
  double time[ROUNDS];
  int n;
  bool out;
} Racer;

typedef struct Seen { /* schedules that were measured, or are the same kernel as one that was */
  const char **text;
  int n, cap;
} Seen;

typedef struct State {
  const Search *s;
  Arena *arena;
  Diags *diags;
  Bench *bench;
  int candidates; /* in the bench */
  TuneEntry *entry;
  TuneTry *tries;
  int ntries, cap_tries;
  Seen seen;
  Schedule base, best;
  int best_number;                   /* the default is number 0 */
  double base_seconds, best_seconds; /* of their last race */
  double until;                      /* machine_seconds() at which to end */
  double spent_compiling;            /* seconds for one candidate, so far the most */
  double call;                       /* seconds of one turn, flush and all; of the last ones, mostly */
  bool stopped, failed;
} State;

static bool stop(State *st) {
  if (!st->stopped && st->s->stop && st->s->stop(st->s->ctx)) st->stopped = true;
  return st->stopped || st->failed;
}

static double left(const State *st) {
  return st->until - machine_seconds();
}

static int by_value(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

static double quantile(const double *v, int n, double q) {
  double sorted[PAIRS];
  memcpy(sorted, v, sizeof *v * (size_t)n);
  qsort(sorted, (size_t)n, sizeof *sorted, by_value);
  return sorted[(int)(q * (n - 1))];
}

static double quartile(const double *v, int n) {
  return quantile(v, n, 0.25);
}

static double least(const double *v, int n) {
  return quantile(v, n, 0);
}

/* One call: its processor time. How long a turn takes is known afterwards. */
static double turn(State *st, int number) {
  double since = machine_seconds(), t = bench_run(st->bench, number), took = machine_seconds() - since;
  st->call = st->call > 0 ? 0.75 * st->call + 0.25 * took : took;
  return t;
}

/* ---- neighbours */

static bool seen(const State *st, const char *text) {
  for (int i = 0; i < st->seen.n; i++)
    if (!strcmp(st->seen.text[i], text)) return true;
  return false;
}

typedef struct Neighbours {
  Racer *racer;
  int *rank; /* of the same fields, how many are predicted to be faster */
  int n, cap, cap_rank;
} Neighbours;

static void consider(State *st, Neighbours *near, Schedule c, int first_of_field) {
  const Target *t = st->s->target;
  const ContractShape *shape = bench_shape(st->bench);
  schedule_fit(&c, t, shape);
  const char *text = schedule_text(st->arena, &c);
  if (schedule_wrong(&c, t, shape) || seen(st, text)) return;
  for (int i = 0; i < near->n; i++)
    if (!strcmp(near->racer[i].text, text)) return;
  int threads = stand_threads(st->s->stand), rank = 0;
  Racer r = {.text = text, .schedule = c, .predicted = tune_cost(&c, t, shape, threads)};
  if (r.predicted > HOPELESS * tune_cost(&st->best, t, shape, threads)) return;
  for (int i = first_of_field; i < near->n; i++) {
    bool faster = near->racer[i].predicted <= r.predicted;
    rank += faster;
    near->rank[i] += !faster;
  }
  int n = near->n;
  PUSH(st->arena, near->rank, n, near->cap_rank, rank);
  PUSH(st->arena, near->racer, near->n, near->cap, r);
}

/* All that differ from `from` in one field, beginning with `field`; with depth 2 in two. */
static void neighbours(State *st, Neighbours *near, Schedule from, int field, int depth) {
  for (int f = field; f < SCHEDULE_FIELDS; f++) {
    int first = near->n;
    for (int v = 0; v < schedule_field[f].nvalues; v++) {
      Schedule c = from;
      if (*schedule_at(&c, f) == schedule_field[f].values[v]) continue;
      *schedule_at(&c, f) = schedule_field[f].values[v];
      if (depth > 1)
        neighbours(st, near, c, f + 1, depth - 1);
      else
        consider(st, near, c, first);
    }
  }
}

/* The next batch: of every field the most promising, then the second of every field, and so on. */
static int pick(State *st, int depth, int most, Racer *out) {
  Neighbours near = {0};
  int n = 0;
  neighbours(st, &near, st->best, 0, depth);
  while (n < most) {
    int next = -1;
    for (int i = 0; i < near.n; i++) {
      const Racer *r = &near.racer[i];
      if (r->number < 0) continue;
      if (next < 0 || near.rank[i] < near.rank[next] ||
          (near.rank[i] == near.rank[next] && r->predicted < near.racer[next].predicted))
        next = i;
    }
    if (next < 0) break;
    out[n++] = near.racer[next];
    near.racer[next].number = -1;
  }
  return n;
}

/* ---- races */

/* Compiles a batch; those that are kernels already known leave it. Returns how many are left. */
static int compile(State *st, Racer *r, int n) {
  Schedule c[BATCH];
  int number[BATCH], kept = 0;
  for (int i = 0; i < n; i++) {
    c[i] = r[i].schedule;
    PUSH(st->arena, st->seen.text, st->seen.n, st->seen.cap, r[i].text);
  }
  double since = machine_seconds();
  if (!bench_add(st->bench, c, n, number)) {
    st->failed = true;
    return 0;
  }
  double each = (machine_seconds() - since) / n;
  if (each > st->spent_compiling) st->spent_compiling = each;
  for (int i = 0; i < n; i++) {
    if (number[i] != st->candidates + kept) continue; /* not the next new one: it is known */
    r[kept] = r[i];
    r[kept++].number = number[i];
  }
  st->candidates += kept;
  return kept;
}

/* So far behind that noise alone is no excuse. */
static bool behind(const Racer *best, const Racer *r, int round) {
  return least(r->time, r->n) > (round < 1 ? 1.4 : round < 4 ? 1.12 : 1.05) * least(best->time, best->n);
}

/* The batch against the best so far. false: the time was up before anything is known. */
static bool race(State *st, Racer *r, int n, double reserve) {
  Racer all[BATCH + 1];
  all[0] = (Racer){.number = st->best_number, .schedule = st->best};
  memcpy(all + 1, r, sizeof *r * (size_t)n);
  for (int round = 0; round < ROUNDS && !stop(st); round++) {
    if (round >= 3 && left(st) < reserve + st->call * n) break;
    for (int i = 0; i <= n && !stop(st); i++) {
      Racer *x = &all[(i + round) % (n + 1)];
      if (!x->out) x->time[x->n++] = turn(st, x->number);
    }
    for (int i = 1; i <= n; i++) all[i].out = all[i].out || behind(&all[0], &all[i], round);
  }
  if (stop(st)) return false;
  int first = 0;
  double before = quartile(all[0].time, all[0].n), fastest = before;
  if (st->best_number == 0) st->base_seconds = fastest;
  st->best_seconds = fastest;
  for (int i = 1; i <= n; i++) {
    TuneTry tried = {all[i].text, quartile(all[i].time, all[i].n)};
    PUSH(st->arena, st->tries, st->ntries, st->cap_tries, tried);
    if (!all[i].out && tried.seconds * STEP < before && tried.seconds < fastest) first = i, fastest = tried.seconds;
  }
  if (first) {
    st->best = all[first].schedule;
    st->best_number = all[first].number;
    st->best_seconds = fastest;
  }
  st->entry->tried = st->ntries;
  st->entry->seconds = st->best_seconds;
  st->entry->base_seconds = st->base_seconds;
  if (st->s->look) st->s->look(st->s->ctx, st->entry);
  return true;
}

static int pairs_of(const State *st) {
  double n = SERIES / (2 * st->call);
  return n > PAIRS ? PAIRS : n < FEW_PAIRS ? FEW_PAIRS : (int)n;
}

/* The least that a search takes: a candidate, its race, the two series. */
static bool has_time(State *st) {
  double need = 1.5 * st->spent_compiling + (4 * pairs_of(st) + 12) * st->call, now = machine_seconds();
  if (st->until - now >= need) return true;
  st->until = now + need;
  return st->until <= st->s->limit;
}

/* A series: the best so far and the default by turns, the first of each pair changing. *wins: pairs in which it was faster. */
static bool faster(State *st, int pairs, TuneEntry *e, int *wins) {
  double base[PAIRS], best[PAIRS];
  for (int i = 0; i < pairs; i++) {
    if (stop(st)) return false;
    if (i & 1) best[i] = turn(st, st->best_number);
    base[i] = turn(st, 0);
    if (!(i & 1)) best[i] = turn(st, st->best_number);
    *wins += best[i] < base[i];
  }
  e->base_seconds = quartile(base, pairs);
  e->seconds = quartile(best, pairs);
  return e->base_seconds >= GAIN * e->seconds && quantile(base, pairs, 0.5) >= GAIN * quantile(best, pairs, 0.5);
}

static bool confirm(State *st, TuneEntry *e) {
  int pairs = pairs_of(st), wins = 0;
  e->schedule = schedule_text(st->arena, &st->best);
  e->base_seconds = st->base_seconds;
  bool won = st->best_number && faster(st, pairs, e, &wins) && faster(st, pairs, e, &wins);
  won = won && wins >= pairs + sqrt(2 * pairs); /* of 2 * pairs: half, and two deviations of half a root each */
  if (stop(st)) return false;
  if (won && !bench_agree(st->bench, 0, st->best_number)) {
    st->failed = true;
    return diag_hint(
        st->diags, (Span){0}, "this is a fault of the compiler: no schedule may change a result; please report it",
        "region @%s: with the schedule \"%s\" its kernel computes other bits than with \"%s\"; nothing was stored",
        st->s->region->name, e->schedule, e->base);
  }
  if (!won) {
    e->schedule = e->base;
    e->seconds = e->base_seconds;
  }
  return true;
}

/* ---- the search */

/* Where an earlier search ended. */
static bool begin_there(State *st) {
  Racer r = {.schedule = *st->s->begin};
  r.text = schedule_text(st->arena, &r.schedule);
  if (schedule_wrong(&r.schedule, st->s->target, bench_shape(st->bench)) || seen(st, r.text)) return true;
  int n = compile(st, &r, 1);
  return !st->failed && (!n || race(st, &r, 1, 0));
}

static void climb(State *st, TuneEntry *e) {
  int depth = 1, vain = 0;
  while (!stop(st)) {
    double reserve = 2 * 2 * pairs_of(st) * st->call;
    double each = st->spent_compiling + 4 * st->call; /* of a candidate: its code, some rounds */
    double room = (left(st) - reserve - 4 * st->call) / each;
    int most = room < BATCH ? (int)room : BATCH, before = st->best_number;
    Racer batch[BATCH];
    if (most < 1) {
      e->cut = true;
      return;
    }
    int n = pick(st, depth, most, batch);
    if (!n && depth == 2) return;
    if (!n) {
      depth = 2;
      continue;
    }
    n = compile(st, batch, n);
    if (st->failed || (n && !race(st, batch, n, reserve))) return;
    if (st->best_number != before)
      depth = 1, vain = 0;
    else if (depth == 2 && n && ++vain == PAIR_BATCHES)
      return;
  }
}

SearchEnd tune_search(const Search *s, Arena *a, Diags *d, TuneEntry *e, TuneTry **tries, int *ntries) {
  State st = {.s = s, .arena = a, .diags = d, .entry = e, .until = s->until};
  double since = machine_seconds();
  e->threads = stand_threads(s->stand);
  e->cut = false;
  if (!(st.bench = bench_open(a, d, s->region, s->target, s->stand, s->warm))) return SEARCH_FAILED;
  st.spent_compiling = machine_seconds() - since;
  st.base = st.best = schedule_default(s->target, bench_shape(st.bench));
  e->base = e->schedule = schedule_text(a, &st.base);
  PUSH(a, st.seen.text, st.seen.n, st.seen.cap, e->base);
  st.candidates = 1;
  turn(&st, 0); /* pages come with the first one */
  st.call = 0;
  st.base_seconds = st.best_seconds = turn(&st, 0);
  bool ok = has_time(&st) && (!s->begin || begin_there(&st));
  if (ok) climb(&st, e);
  ok = ok && !stop(&st) && (st.ntries || !e->cut) && confirm(&st, e);
  bench_close(st.bench);
  *tries = st.tries;
  *ntries = st.ntries;
  e->tried = st.ntries;
  return st.failed ? SEARCH_FAILED : st.stopped ? SEARCH_STOPPED : ok ? SEARCH_DONE : SEARCH_LATE;
}
