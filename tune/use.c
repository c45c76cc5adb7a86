/* What a build takes from the database: for each contract region the schedule that was measured to be better than the default.
 *
 * An entry holds for the default that it was measured against: where the cost model says something else by now, the
 * entry is stale, and the region counts as not tuned. One that is damaged is an error. */
#include "tune/tune.h"
#include <string.h>

static bool find(void *ctx, const Graph *region, const ContractShape *s, Schedule *out) {
  TuneUse *u = ctx;
  TuneEntry key, e;
  bool found;
  u->asked++;
  if (u->failed || !u->db) return false;
  u->failed = !tune_key(u->arena, u->diags, region, u->target, &key) ||
              !tune_db_get(u->db, u->arena, u->diags, &key, &e, &found);
  if (u->failed || !found) return false;
  Schedule base = schedule_default(u->target, s);
  if (strcmp(e.base, schedule_text(u->arena, &base))) return false;
  if (!tune_won(&e)) {
    u->best++;
    return false;
  }
  const char *wrong = schedule_parse(e.schedule, out);
  if (!wrong) wrong = schedule_wrong(out, u->target, s);
  if (wrong) {
    diag_hint(u->diags, (Span){0}, "ink tune --again measures it anew; --no-tune-db builds without the database",
              "tuning database: the schedule of region @%s: %s", region->name, wrong);
    u->failed = true;
    return false;
  }
  PUSH(u->arena, u->tuned, u->ntuned, u->cap_tuned, region->name);
  return true;
}

bool tune_use_open(TuneUse *u, Arena *a, Diags *d, const char *path, bool must, const Target *t) {
  *u = (TuneUse){.source = {find, u}, .arena = a, .diags = d, .target = t};
  if (!path) return true;
  if (!tune_db_open(a, d, path, false, &u->db)) return false;
  return u->db || !must || diag_error(d, (Span){0}, "there is no tuning database %s", path);
}

void tune_use_close(TuneUse *u) {
  tune_db_close(u->db);
  u->db = NULL;
}
