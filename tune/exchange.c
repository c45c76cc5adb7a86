/* Entries as text: a line that names the form and its version, then a line an entry, fields apart by tabs.
 *
 *   inkstone tuning 1
 *   TARGET  MACHINE  SCHEDULE  DEFAULT  SECONDS  SECONDS-OF-DEFAULT  TRIED  THREADS  CUT  MODEL  KERNEL  VERSION  REGION
 *
 * In a field "\n", "\t" and "\\" stand for a line end, a tab, a backslash. Empty lines and lines that begin with "#" are nothing.
 * The text may come from a stranger: each region goes through the parser and the verifier, and must print as it stands; each
 * schedule through schedule_wrong(), the lowering and the verifier of kernels. Times are only shown. */
#include "codegen/fingerprint.h"
#include "tune/tune.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TITLE "inkstone tuning "
enum { FIELDS = 13, REGION_LIMIT = 1 << 20 };

/* ---- out */

static void escaped(Text *out, const char *s) {
  for (; *s; s++) {
    if (*s == '\n')
      text_add(out, "\\n");
    else if (*s == '\t')
      text_add(out, "\\t");
    else if (*s == '\\')
      text_add(out, "\\\\");
    else
      text_write(out, s, 1);
  }
}

void tune_export(const TuneEntry *e, int n, Text *out) {
  text_add(out, TITLE "%d\n", TUNE_TEXT_VERSION);
  for (int i = 0; i < n; i++, e++) {
    const char *first[] = {e->target, e->machine, e->schedule, e->base}, *last[] = {e->model, e->kernel, e->version};
    for (int k = 0; k < LEN(first); k++) escaped(out, first[k]), text_add(out, "\t");
    text_add(out, "%.9g\t%.9g\t%" PRId64 "\t%" PRId64 "\t%d\t", e->seconds, e->base_seconds, e->tried, e->threads,
             e->cut);
    for (int k = 0; k < LEN(last); k++) escaped(out, last[k]), text_add(out, "\t");
    escaped(out, e->region);
    text_add(out, "\n");
  }
}

/* ---- in */

typedef struct Reader {
  Arena *arena;
  Diags *diags;
  Span at;
  const char *machine; /* this one */
  bool foreign;        /* the entry at hand is of another machine */
} Reader;

static bool wrong(Reader *r, const char *what) {
  return diag_error(r->diags, r->at, "%s", what);
}

/* In place. false: a backslash before something else. */
static bool unescape(char *s) {
  char *to = s;
  for (; *s; s++) {
    if (*s == '\\') {
      s++;
      if (*s != 'n' && *s != 't' && *s != '\\') return false;
      *to++ = *s == 'n' ? '\n' : *s == 't' ? '\t' : '\\';
    } else {
      *to++ = *s;
    }
  }
  *to = 0;
  return true;
}

static bool count(const char *s, int64_t most, int64_t *out) {
  char *end;
  errno = 0;
  *out = strtoll(s, &end, 10);
  return *s >= '0' && *s <= '9' && !*end && !errno && *out <= most;
}

static bool seconds(const char *s, double *out) {
  char *end;
  *out = strtod(s, &end);
  return *s >= '0' && *s <= '9' && !*end && isfinite(*out);
}

/* Lowers the region with a schedule that has passed schedule_wrong. */
typedef struct Trial {
  const Target *target;
  const char *text, *base; /* schedules */
  const char *wrong;
} Trial;

static bool try_schedule(void *ctx, const Graph *region, const ContractShape *s, Schedule *out) {
  Trial *t = ctx;
  Schedule base;
  (void)region;
  t->wrong = schedule_parse(t->base, &base);
  if (!t->wrong) t->wrong = schedule_parse(t->text, out);
  if (!t->wrong) t->wrong = schedule_wrong(out, t->target, s);
  return !t->wrong;
}

/* The one region of the text, as a module. */
static const Graph *parse_region(Reader *r, Arena *a, Diags *d, const char *text) {
  const char *whole = arena_printf(a, "module \"tuning\"\n%s", text);
  Module *m = module_parse(a, d, diags_source(d, "region", whole, strlen(whole)));
  if (!m || !module_verify(m)) {
    diag_error(r->diags, r->at, "its region: %s", d->n ? d->list[0].text : "it does not verify");
    return NULL;
  }
  const Graph *g = m->ngraphs == 1 ? m->graphs[0] : NULL;
  Text again = {0};
  if (g && g->region) graph_print(g, false, &again);
  bool same = again.s && !strcmp(again.s, text) && !strcmp(g->name, "r") && !strcmp(g->region, "contract");
  text_free(&again);
  if (same) return g;
  wrong(r, "its region is not one contraction, written as ink writes it");
  return NULL;
}

static bool check(Reader *r, const TuneEntry *e) {
  Arena *tmp = arena_new();
  Diags *d = diags_new(tmp);
  Target t;
  Lowered low;
  Trial trial = {.target = &t, .text = e->schedule, .base = e->base};
  const ScheduleSource source = {try_schedule, &trial};
  const Graph *g = NULL;
  bool ok = target_resolve(tmp, d, e->target, &t);
  if (!ok) diag_error(r->diags, r->at, "%s", d->list[0].text);
  if (ok) ok = (g = parse_region(r, tmp, d, e->region)) != NULL;
  if (ok) {
    t.schedules = &source;
    bool lowered = lower_region(g, &t, kmodule_new(tmp, "tuning"), &low);
    if (trial.wrong)
      ok = diag_error(r->diags, r->at, "its schedule: %s", trial.wrong);
    else if (!lowered)
      ok = diag_error(r->diags, r->at, "its schedule makes no kernel: %s", d->n ? d->list[0].text : "refused");
  }
  arena_free(tmp);
  return ok;
}

static bool entry(Reader *r, char *line, TuneEntry *e) {
  char *f[FIELDS];
  int n = 0;
  for (char *s = line; s && n < FIELDS; n++) {
    f[n] = s;
    if (n < FIELDS - 1 && (s = strchr(s, '\t'))) *s++ = 0;
  }
  if (n < FIELDS || strchr(f[FIELDS - 1], '\t')) return wrong(r, "an entry has 13 fields, apart by tabs");
  for (int i = 0; i < FIELDS; i++)
    if (!unescape(f[i])) return wrong(r, "a backslash stands before n, t or a backslash");
  int64_t cut;
  *e = (TuneEntry){.target = f[0], .machine = f[1], .schedule = f[2], .base = f[3], .model = f[9], .kernel = f[10]};
  e->version = f[11], e->region = f[12];
  if (strlen(e->region) > REGION_LIMIT) return wrong(r, "its region is too long");
  if (!seconds(f[4], &e->seconds) || !seconds(f[5], &e->base_seconds)) return wrong(r, "its times are no seconds");
  if (!count(f[6], 1 << 30, &e->tried) || !count(f[7], 1 << 20, &e->threads) || !count(f[8], 1, &cut))
    return wrong(r, "its counts are no numbers, or too large");
  e->cut = cut;
  r->foreign = strcmp(e->machine, r->machine) != 0;
  return r->foreign || check(r, e);
}

/* The first line: which version of this form. */
static bool title(Reader *r, const char *line) {
  int64_t version;
  if (strncmp(line, TITLE, strlen(TITLE)) || !count(line + strlen(TITLE), INT64_MAX, &version) || version < 1)
    return diag_hint(r->diags, r->at, "ink tune --export writes such files",
                     "this is no tuning data: its first line is not \"" TITLE "%d\"", TUNE_TEXT_VERSION);
  if (version > TUNE_TEXT_VERSION)
    return diag_error(r->diags, r->at, "written by a newer ink: version %" PRId64 " of the form; this ink knows %d",
                      version, TUNE_TEXT_VERSION);
  return true;
}

bool tune_import(Arena *a, Diags *d, uint32_t file, TuneEntry **out, int *n, int *foreign) {
  Source src = d->sources[file - 1];
  Target here;
  Reader r = {.arena = a, .diags = d, .at = {.file = file, .line = 1, .col = 1}};
  int cap = 0, before = d->n;
  *out = NULL, *n = 0, *foreign = 0;
  if (memchr(src.text, 0, src.n)) return wrong(&r, "this is no text");
  if (!target_resolve(a, d, "cpu:native", &here)) return false;
  r.machine = machine_fingerprint(a, &here);
  for (char *line = arena_strndup(a, src.text, src.n), *next; line; line = next, r.at.line++) {
    if ((next = strchr(line, '\n'))) *next++ = 0;
    if (r.at.line == 1) {
      if (!title(&r, line)) return false;
      continue;
    }
    TuneEntry e;
    if (!*line || *line == '#' || !entry(&r, line, &e)) continue;
    if (r.foreign)
      ++*foreign;
    else
      PUSH(a, *out, *n, cap, e);
  }
  return d->n == before;
}
