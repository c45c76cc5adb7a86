/* All contraction kernels of a module: those that matter most first, each with its part of the budget, each kept when it is done.
 *
 * A kernel matters by its share of a step: operations of a call times calls. Steps are the lists micro and update; what only the
 * others call (eval, sample) counts little. The time that is left is divided again before each search: four fifths by
 * share, one fifth evenly, so that small kernels get a look, too, but no less than a search takes; what a search leaves over goes
 * to those after it.
 *
 * Which operands are warm: those that one of the two calls before made. Others were made long ago, or are weights. */
#include "tune/tune.h"
#include "runtime/machine.h"
#include <stdlib.h>
#include <string.h>

static const double SELDOM = 0.02; /* weight of lists that are no part of a step */
static const double LEAST = 0.5;   /* seconds: with less a search comes to nothing */
static const double EVENLY = 0.2;  /* part of the time that is divided evenly */

static double weight(const Graph *list) {
  return !strcmp(list->name, "micro") || !strcmp(list->name, "update") ? 1 : SELDOM;
}

/* Operands of node `at` that the one or two calls before it made. */
static uint64_t warm_operands(const Graph *g, int at) {
  const Node *n = &g->nodes[at];
  uint64_t warm = 0;
  int calls = 0;
  for (int i = at - 1; i >= 0 && calls < 2; i--) {
    const Node *m = &g->nodes[i];
    if (m->op != OP_call) continue;
    calls++;
    for (int k = 0; k < n->nargs && k < 64; k++)
      if (n->args[k] >= m->res && n->args[k] < m->res + (Val)m->nres) warm |= UINT64_C(1) << k;
  }
  return warm;
}

typedef struct Collect {
  Tune *t;
  Arena *arena;
  double *most; /* by kernel: weight of the call whose operands `warm` speaks of */
  int cap, cap_most;
} Collect;

static void count_call(Collect *c, const Graph *region, double calls, uint64_t warm) {
  Tune *t = c->t;
  int i = 0;
  while (i < t->n && t->kernels[i].region != region) i++;
  if (i == t->n) {
    TuneKernel k = {.region = region};
    for (int j = 0; j < region->nnodes; j++) k.flops += node_flops(region, &region->nodes[j]);
    int n = t->n;
    PUSH(c->arena, c->most, n, c->cap_most, 0);
    PUSH(c->arena, t->kernels, t->n, c->cap, k);
  }
  t->kernels[i].calls += calls;
  if (calls > c->most[i]) c->most[i] = calls, t->kernels[i].warm = warm;
}

static void count_calls(Collect *c, const Graph *g, double times) {
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    const Graph *f = n->op == OP_call ? module_find(g->mod, node_attr(n, "fn")->str) : NULL;
    const Attr *count = f ? node_attr(n, "count") : NULL;
    double turns = count && count->i > 0 ? times * (double)count->i : times;
    if (!f || !f->region) continue;
    if (!strcmp(f->region, "loop"))
      count_calls(c, f, turns);
    else if (!strcmp(f->region, "contract"))
      count_call(c, f, turns, warm_operands(g, i));
  }
}

static int by_share(const void *x, const void *y) {
  const TuneKernel *a = x, *b = y;
  double sa = a->calls * a->flops, sb = b->calls * b->flops;
  return sa != sb ? (sa < sb) - (sa > sb) : strcmp(a->region->name, b->region->name);
}

static void collect(Tune *t, Arena *a) {
  Collect c = {.t = t, .arena = a};
  t->kernels = NULL, t->n = 0;
  for (int i = 0; i < t->module->ngraphs; i++) {
    const Graph *g = t->module->graphs[i];
    if (!g->region) count_calls(&c, g, weight(g));
  }
  if (t->n) qsort(t->kernels, (size_t)t->n, sizeof *t->kernels, by_share);
}

/* Which kernels a build would find in the database: asked in the same way. What was measured on another number of threads is
 * there for a build, but to be measured anew. */
static bool look_up(Tune *t, Arena *a, Diags *d) {
  TuneUse use;
  Target target = *t->target;
  if (!tune_use_open(&use, a, d, NULL, false, t->target)) return false;
  use.db = t->db;
  target.schedules = &use.source;
  for (int i = 0; i < t->n; i++) {
    TuneKernel *k = &t->kernels[i];
    TuneEntry found;
    Lowered low;
    bool there;
    Arena *tmp = arena_new();
    int before = use.ntuned + use.best;
    bool ok = tune_key(a, d, k->region, t->target, &k->entry) && tune_db_get(t->db, a, d, &k->entry, &found, &there);
    k->entry.model = t->model;
    if (ok && !t->again) ok = lower_region(k->region, &target, kmodule_new(tmp, "known"), &low) && !use.failed;
    arena_free(tmp);
    if (!ok) return false;
    k->kept = there && (t->again || use.ntuned + use.best > before);
    if (k->kept) k->entry = found;
    if (k->kept && !t->again && found.threads == t->threads) k->state = TUNE_KNOWN, t->known++;
  }
  return true;
}

/* Bytes that a step touches, at least: inputs, and the largest list's values. */
static int64_t footprint(const Module *m) {
  int64_t most = 0;
  for (int i = 0; i < m->ngraphs; i++) {
    const Graph *g = m->graphs[i];
    int64_t bytes = 0;
    for (int v = 1; v < g->nvals && !g->region; v++) bytes += type_bytes(val_type(g, (Val)v));
    most = bytes > most ? bytes : most;
  }
  return most;
}

/* Seconds for kernel i, of what is left for it and those after it. */
static double slice(const Tune *t, int i) {
  double left = t->until - machine_seconds(), shares = 0;
  int waiting = 0;
  for (int j = i; j < t->n; j++)
    if (t->kernels[j].state == TUNE_WAITS) shares += t->kernels[j].calls * t->kernels[j].flops, waiting++;
  double share = shares > 0 ? t->kernels[i].calls * t->kernels[i].flops / shares : 1;
  double part = left * ((1 - EVENLY) * share + EVENLY / waiting);
  return part > LEAST ? part : left > LEAST ? LEAST : left;
}

typedef struct Turn {
  Tune *t;
  int i;
} Turn;

static bool stop(void *ctx) {
  const Tune *t = ((Turn *)ctx)->t;
  return t->stop && t->stop(t->ctx);
}

static void look(void *ctx, const TuneEntry *e) {
  Turn *u = ctx;
  (void)e;
  if (u->t->progress) u->t->progress(u->t->ctx, u->t, u->i);
}

/* The region of a kernel, searched and kept. false: errors. */
static bool search(Tune *t, int i, Stand *stand, Diags *d) {
  TuneKernel *k = &t->kernels[i];
  TuneEntry before = k->entry;
  Turn turn = {t, i};
  Schedule begin;
  TuneTry *tries;
  int ntries;
  bool from = k->kept && !schedule_parse(k->entry.schedule, &begin);
  Search s = {.region = k->region, .target = t->target, .stand = stand, .warm = k->warm, .begin = from ? &begin : NULL};
  s.until = machine_seconds() + slice(t, i), s.limit = t->until;
  s.stop = stop, s.look = look, s.ctx = &turn;
  look(&turn, &k->entry);
  k->entry.model = t->model, k->entry.kernel = k->region->name, k->entry.version = INK_VERSION;
  SearchEnd end = tune_search(&s, t->module->arena, d, &k->entry, &tries, &ntries);
  if (end == SEARCH_FAILED) return false;
  k->state = end == SEARCH_DONE ? TUNE_NEW : TUNE_LATE;
  t->stopped = end == SEARCH_STOPPED;
  if (end == SEARCH_DONE && !tune_db_put(t->db, d, &k->entry, tries, ntries)) return false;
  t->found += end == SEARCH_DONE;
  if (end != SEARCH_DONE) k->entry = before;
  look(&turn, &k->entry);
  return true;
}

bool tune_module(Tune *t, Arena *a, Diags *d) {
  Report r = {0};
  t->known = t->found = 0;
  t->stopped = false;
  t->until = machine_seconds() + t->budget;
  if (!target_here(t->target) || !machine_has(t->target->require, &r)) {
    diag_error(d, (Span){0}, "target %s cannot be measured here: %s", t->target->name,
               r.text ? r.text : "it is another architecture");
    report_free(&r);
    return false;
  }
  collect(t, a);
  if (!look_up(t, a, d)) return false;
  if (t->known == t->n) return true;
  Stand *stand = stand_open(a, d, t->target, t->threads, footprint(t->module));
  bool ok = stand != NULL;
  for (int i = 0; ok && i < t->n && !t->stopped && machine_seconds() < t->until; i++)
    if (t->kernels[i].state == TUNE_WAITS) ok = search(t, i, stand, d);
  stand_close(stand);
  for (int i = 0; i < t->n; i++) /* searched again, or not, without a result: what is in the database stays */
    if (t->kernels[i].kept && t->kernels[i].state != TUNE_NEW && t->kernels[i].state != TUNE_KNOWN)
      t->kernels[i].state = TUNE_KNOWN, t->known++;
  return ok;
}
