/* The tuner: schedules of contractions that were measured, and the database that keeps them.
 *
 *   entry.c     a region's key; the schedule in an entry, checked       db.c        entries in SQLite
 *   use.c       what a build takes from the database                    exchange.c  entries as text, out and in
 *   cost.c      predicted time, to leave out what is hopeless           measure.c   candidates compiled and timed
 *   search.c    one region: from the default to the best found          tune.c      all regions of a module, the budget
 *   page.c      what was tried and what won, as one HTML page
 *
 * By the numerical law a schedule changes no bit of a result: what is here decides about time alone, and every winner is held
 * to the default's bits before it is kept. Nothing here prints. What comes from a file, the database included, is not trusted:
 * a schedule goes through schedule_wrong() and the verifier of kernels before it runs. */
#ifndef INK_TUNE_H
#define INK_TUNE_H
#include "codegen/codegen.h"
#include "codegen/schedule.h"
#include "ink/base.h"

/* ---- entry.c */

/* What is known of a region on a kind of machine. Texts live in the arena of whoever made the entry. */
typedef struct TuneEntry {
  int64_t id; /* in the database */
  /* the key */
  const char *region;  /* as graph_print writes it, under the name "r": the same in all models */
  const char *target;  /* "cpu:native" */
  const char *machine; /* machine_fingerprint() of the machine that measured */
  /* what was found; a default that is no longer what the cost model says makes the entry stale */
  const char *schedule, *base;  /* texts: the best, the default; equal where nothing was better */
  double seconds, base_seconds; /* of one call each, by turns */
  int64_t tried;                /* candidates, the default not counted */
  int64_t threads;
  bool cut; /* the search ended because its time was up */
  /* for people */
  const char *model, *kernel, *version; /* where it was met last: "gpt2", "contract.3"; ink's version */
} TuneEntry;

/* A candidate that was measured. */
typedef struct TuneTry {
  const char *schedule;
  double seconds; /* lower quartile of the calls of its race */
} TuneTry;

/* The key fields of an entry for this region on this machine. */
bool tune_key(Arena *a, Diags *d, const Graph *region, const Target *t, TuneEntry *out);
bool tune_won(const TuneEntry *e); /* is its schedule better than the default? */
/* "a1b2c3d4e5f6": twelve digits that name an entry. */
const char *tune_short(Arena *a, const TuneEntry *e);

/* ---- db.c. Several processes may read and write at once; each put is one transaction. */
typedef struct TuneDb TuneDb;
/* $XDG_CACHE_HOME/inkstone/tune.db, else ~/.cache/inkstone/tune.db; NULL: neither variable is set. */
const char *tune_db_default(Arena *a);
/* write: made where it is not there, with its folders. Else *out is NULL where there is none, which is no error. */
bool tune_db_open(Arena *a, Diags *d, const char *path, bool write, TuneDb **out);
void tune_db_close(TuneDb *db);
/* The entry of key's region, target and machine. */
bool tune_db_get(TuneDb *db, Arena *a, Diags *d, const TuneEntry *key, TuneEntry *out, bool *found);
bool tune_db_put(TuneDb *db, Diags *d, const TuneEntry *e, const TuneTry *tries, int ntries);
/* All entries, by model, kernel, machine. */
bool tune_db_list(TuneDb *db, Arena *a, Diags *d, TuneEntry **out, int *n);
bool tune_db_tries(TuneDb *db, Arena *a, Diags *d, const TuneEntry *e, TuneTry **out, int *n);

/* ---- use.c: a source of schedules for a build. */
typedef struct TuneUse {
  ScheduleSource source; /* for Target.schedules */
  TuneDb *db;            /* NULL: there is none */
  Arena *arena;
  Diags *diags;
  const Target *target;
  const char **tuned; /* regions that got a schedule of the tuner's */
  int ntuned, cap_tuned;
  int asked, best; /* regions asked for; those whose default is the best known */
  bool failed;     /* reading went wrong; a diagnostic says how */
} TuneUse;
/* path NULL: none. must: a file that is not there is an error. */
bool tune_use_open(TuneUse *u, Arena *a, Diags *d, const char *path, bool must, const Target *t);
void tune_use_close(TuneUse *u);

/* ---- exchange.c */
enum { TUNE_TEXT_VERSION = 1 };
void tune_export(const TuneEntry *e, int n, Text *out);
/* The entries of an exported text, each checked: its region parses and verifies, its schedule is right for it and lowers to a
 * kernel that verifies. Those of other kinds of machines are left out and counted. Errors name the line. */
bool tune_import(Arena *a, Diags *d, uint32_t file, TuneEntry **out, int *n, int *foreign);

/* ---- cost.c */
/* Cycles of one core, for comparing schedules of one region. */
double tune_cost(const Schedule *c, const Target *t, const ContractShape *s, int threads);

/* ---- measure.c: one region's candidates on this machine. */
/* The threads, and what is streamed through between calls: footprint is what a step touches, in bytes. NULL after errors. */
typedef struct Stand Stand;
Stand *stand_open(Arena *a, Diags *d, const Target *t, int threads, int64_t footprint);
void stand_close(Stand *s);
int stand_threads(const Stand *s);

typedef struct Bench Bench;
/* warm: a bit per input that the step before has just written; other operands come from memory. NULL after errors. */
Bench *bench_open(Arena *a, Diags *d, const Graph *region, const Target *t, Stand *stand, uint64_t warm);
void bench_close(Bench *b);
const ContractShape *bench_shape(const Bench *b);
/* Candidates get numbers in order; equal kernels are one. number[i]: of c[i]. */
bool bench_add(Bench *b, const Schedule *c, int n, int *number);
double bench_run(Bench *b, int number); /* one call: seconds of the thread that took longest */
/* Do two candidates give the same bits, on all threads and on one? */
bool bench_agree(Bench *b, int x, int y);

/* ---- search.c */
typedef struct Search {
  const Graph *region;
  const Target *target;
  Stand *stand;
  uint64_t warm;
  const Schedule *begin;   /* where to begin besides the default, or NULL */
  double until, limit;     /* machine_seconds() at which to end; the latest, when that is too soon for anything */
  bool (*stop)(void *ctx); /* NULL, or asked often: true ends the search at once */
  void (*look)(void *ctx, const TuneEntry *e); /* NULL, or shown the entry after each race */
  void *ctx;
} Search;
typedef enum { SEARCH_DONE, SEARCH_LATE, SEARCH_STOPPED, SEARCH_FAILED } SearchEnd; /* LATE: no time for a result */
/* Fills in the results of an entry; tries live in the arena. */
SearchEnd tune_search(const Search *s, Arena *a, Diags *d, TuneEntry *e, TuneTry **tries, int *ntries);

/* ---- tune.c */
typedef enum { TUNE_WAITS, TUNE_KNOWN, TUNE_NEW, TUNE_LATE } TuneState; /* LATE: the time was up before its turn */
typedef struct TuneKernel {
  const Graph *region;
  double calls, flops; /* in a step; of one call */
  uint64_t warm;
  TuneState state;
  bool kept;       /* was in the database before */
  TuneEntry entry; /* KNOWN, NEW */
} TuneKernel;
typedef struct Tune {
  const Module *module; /* fused */
  const char *model;
  const Target *target;
  TuneDb *db;
  int threads;
  double budget; /* seconds */
  bool again;    /* search known regions, too, from what was found */
  bool (*stop)(void *ctx);
  /* NULL, or told what the search of kernel i has come to: as it begins, after each race, at its end (no longer TUNE_WAITS). */
  void (*progress)(void *ctx, const struct Tune *t, int i);
  void *ctx;
  /* made */
  TuneKernel *kernels; /* the largest share of a step first */
  int n, known, found; /* kernels; of which an entry was there, and stays; measured now */
  double until;        /* machine_seconds() at which the budget is spent */
  bool stopped;
} Tune;
bool tune_module(Tune *t, Arena *a, Diags *d);

/* ---- page.c */
bool tune_page(TuneDb *db, Arena *a, Diags *d, const Tune *t, Text *out);
#endif
