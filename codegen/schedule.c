/* The schedule of a contraction: without a tuner block sizes from the cache sizes, after Goto and van de Geijn (2008); the check of
 * one that comes from elsewhere; its fields as text. */
#include "codegen/schedule.h"
#include "codegen/lower_tile.h"
#include "ir/rule.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}
static int64_t parts(int64_t n, int64_t by) {
  return (n + by - 1) / by;
}
static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}
/* n in equal parts of at most `most`, each a multiple of `grain`. */
static int64_t even(int64_t n, int64_t most, int64_t grain) {
  return round_up(parts(n, parts(n, most)), grain);
}

/* Cycles of a thread for all tiles, but for a factor: an fma of a vector a cycle (each of mr * nv a k) or the loads (a vector of b
 * or two scalars of a), and what starts and ends a tile. Rows and columns past the edges cost like others. */
static double tile_cost(const Target *t, const ContractShape *s, int mr, int nv, bool by_rows) {
  int cores = t->cores > 0 ? t->cores : 1;
  int64_t rows = parts(s->m, mr), columns = parts(s->n, (int64_t)nv * t->lanes);
  int64_t tiles = by_rows ? parts(rows, cores) * columns : rows * parts(columns, cores);
  double fmas = mr * nv, loads = nv + 0.5 * mr, turn = fmas > loads ? fmas : loads;
  if (mr * nv < 8) turn += 0.5 * (8 - mr * nv); /* too few chains to hide the latency */
  return (double)tiles * ((double)s->k * turn + 6.0 * mr * nv);
}

/* The register tile that wastes least at the edges of this shape. Larger ones first: at equal cost they load less. */
static void choose_tile(const Target *t, const ContractShape *s, Schedule *c) {
  double best = 0;
  int most = t->registers >= 32 ? 2 * tile_rows(t) : 12;
  /* With few rows packing is all, and rows of B that are read side by side evict one another. */
  int widest = s->m < 4 ? 2 : 6;
  for (int nv = s->panel ? s->panel : 2; nv <= (s->panel ? s->panel : widest); nv++)
    for (int mr = least(TILE_ROWS, most / nv); mr >= 1; mr--) {
      if (mr * nv + nv + 1 > t->registers || mr * nv > TILE_MAX) continue;
      for (int by_rows = 0; by_rows < (s->panel && s->m <= 64 ? 1 : 2); by_rows++) { /* a weight is read once */
        double cost = tile_cost(t, s, mr, nv, by_rows);
        if (best > 0 && cost > 0.996 * best) continue;
        best = cost;
        c->mr = mr, c->nv = nv, c->by_rows = by_rows;
      }
    }
}

Schedule schedule_default(const Target *t, const ContractShape *s) {
  Schedule c = {0};
  choose_tile(t, s, &c);
  int nr = c.nv * t->lanes;
  /* A run of k as deep as a block of A with a row of tiles allows: sums stay in registers, C is written once. Panels are
   * streamed from the second-level cache, which is fast enough for both. */
  int64_t deepest = least(1536, t->l2 * 3 / 4 / (4 * (nr + 6 * c.mr)));
  if (s->panel && s->m <= 64) deepest = CHAIN; /* a panel is used once: one stream */
  c.kc = (int)even(least(s->k, CHAIN), deepest, 8);
  c.mc = (int)round_up(least(s->m, t->l2 * 3 / 8 / (4 * c.kc)), c.mr); /* a block of A */
  c.mb = (int)round_up(even(s->m, 1024, c.mr), c.mc);
  /* A block of B serves all rows: so wide that packing A again for the next one costs little; with few rows so small that it is
   * still in the second-level cache when its tiles come; nothing is packed where the weight is. */
  int64_t columns = s->m <= 64 && !s->panel ? t->l2 / 4 / (4 * c.kc) : 768;
  if (s->panel && s->m <= c.mr) columns = s->n; /* nothing of B is packed, and A only once */
  c.nc = (int)even(s->n, columns > nr ? columns : nr, nr);
  return c;
}

const char *schedule_wrong(const Schedule *c, const Target *t, const ContractShape *s) {
  if (c->mr < 1 || c->mr > TILE_ROWS || c->nv < 1 || c->nv > TILE_VECTORS || c->mr * c->nv > TILE_MAX)
    return "the register tile is too large";
  if (s->panel && c->nv != s->panel) return "the tile is not as wide as the weight's panels";
  if (c->mr * c->nv + c->nv + 1 > t->registers) return "the register tile does not fit the registers";
  int nr = c->nv * t->lanes;
  int64_t most = least(s->k, CHAIN);
  if (c->by_rows < 0 || c->by_rows > 1) return "by_rows is 0 or 1";
  if (c->kc < 1 || (c->kc < most && c->kc % 8) || c->kc > round_up(CHAIN, 8)) return "kc is not a depth";
  if (c->mc < c->mr || c->mc % c->mr || c->mc > 1 << 16) return "mc is not a multiple of the tile's rows";
  if (c->mb < c->mc || c->mb % c->mc || c->mb > 1 << 20) return "mb is not a multiple of mc";
  if (c->nc < nr || c->nc % nr || c->nc > 1 << 20) return "nc is not a multiple of the tile's columns";
  if ((int64_t)c->mb * c->nc > 1 << 26 || (int64_t)c->mc * c->kc > 1 << 26 || (int64_t)c->nc * c->kc > 1 << 26)
    return "its blocks take too much memory";
  return NULL;
}

bool schedule_find(const Target *t, const Graph *region, const ContractShape *s, Schedule *out) {
  const ScheduleSource *from = t->schedules;
  if (!from || !from->find(from->ctx, region, s, out)) {
    *out = schedule_default(t, s);
    return true;
  }
  const char *wrong = schedule_wrong(out, t, s);
  return !wrong || diag_error(region->mod->diags, (Span){0}, "region @%s: its schedule: %s", region->name, wrong);
}

/* ---- fields */

#define FIELD(name, unit, low, high, what, ...) static const int name##_values[] = {__VA_ARGS__};
#include "codegen/schedule.def"

const ScheduleField schedule_field[SCHEDULE_FIELDS] = {
#define FIELD(name, unit, low, high, what, ...)                                                                        \
  {#name, what, offsetof(Schedule, name), name##_values, LEN(name##_values)},
#include "codegen/schedule.def"
};

int *schedule_at(Schedule *c, int field) {
  return (int *)((char *)c + schedule_field[field].at);
}

static int fit(int64_t v, int64_t unit, int64_t low, int64_t high) {
  v = least(round_up(v, unit), high / unit * unit);
  return (int)(v > low ? v : low);
}

void schedule_fit(Schedule *c, const Target *t, const ContractShape *s) {
  if (s->panel) c->nv = s->panel;
#define FIELD(name, unit, low, high, what, ...) c->name = fit(c->name, unit, low, high);
#include "codegen/schedule.def"
}

/* ---- text */

void schedule_print(const Schedule *c, Text *out) {
  Schedule copy = *c;
  for (int i = 0; i < SCHEDULE_FIELDS; i++)
    text_add(out, "%s%s=%d", i ? " " : "", schedule_field[i].name, *schedule_at(&copy, i));
}

const char *schedule_text(Arena *a, const Schedule *c) {
  Text t = {0};
  schedule_print(c, &t);
  const char *s = arena_strdup(a, t.s);
  text_free(&t);
  return s;
}

const char *schedule_parse(const char *text, Schedule *out) {
  memset(out, 0, sizeof *out);
  for (int i = 0; i < SCHEDULE_FIELDS; i++) {
    const char *name = schedule_field[i].name;
    size_t n = strlen(name);
    if (i && *text++ != ' ') return "fields are missing";
    if (strncmp(text, name, n) || text[n] != '=') return "its fields are others than this version's";
    text += n + 1;
    if (*text < '0' || *text > '9') return "a field is not a number";
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || v > 1 << 24) return "a field is too large";
    *schedule_at(out, i) = (int)v;
    text = end;
  }
  return *text ? "something follows its last field" : NULL;
}
