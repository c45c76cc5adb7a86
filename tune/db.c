/* The database: two tables of SQLite, the entries and what was tried for each.
 *
 * Writers wait for each other (a busy timeout), a put is one transaction, and a process that dies in one leaves the state before.
 * The file is a cache, but what it says decides what a program is made of, so nothing about it is passed over in silence:
 * a file that is damaged, of another program or of a newer ink is an error that says what to do.
 * Must hold: values reach SQL as bound parameters only; the schema in the file is not trusted. */
#include "tune/tune.h"
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WAIT_MS = 20000, SCHEMA = 1, APPLICATION = 0x496e6b54 /* "InkT" */ };

struct TuneDb {
  sqlite3 *sql;
  const char *path;
};

const char *tune_db_default(Arena *a) {
  const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (cache && *cache == '/') return arena_printf(a, "%s/inkstone/tune.db", cache);
  return home && *home ? arena_printf(a, "%s/.cache/inkstone/tune.db", home) : NULL;
}

static bool failed(const TuneDb *db, Diags *d) {
  int code = sqlite3_errcode(db->sql);
  bool damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
  return diag_hint(d, (Span){0}, damaged ? "remove the file, or name another one with --tune-db FILE" : NULL,
                   "tuning database %s: %s", db->path, sqlite3_errmsg(db->sql));
}

static bool run(TuneDb *db, Diags *d, const char *sql) {
  return sqlite3_exec(db->sql, sql, NULL, NULL, NULL) == SQLITE_OK || failed(db, d);
}

static sqlite3_stmt *prepare(TuneDb *db, Diags *d, const char *sql) {
  sqlite3_stmt *s = NULL;
  if (sqlite3_prepare_v2(db->sql, sql, -1, &s, NULL) == SQLITE_OK) return s;
  failed(db, d);
  return NULL;
}

static bool number(TuneDb *db, Diags *d, const char *sql, int64_t *out) {
  sqlite3_stmt *s = prepare(db, d, sql);
  bool ok = s && sqlite3_step(s) == SQLITE_ROW;
  if (ok) *out = sqlite3_column_int64(s, 0);
  if (s && !ok) failed(db, d);
  sqlite3_finalize(s);
  return ok;
}

static bool create(TuneDb *db, Diags *d) {
  static const char *const sql =
      "CREATE TABLE entry(id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, region TEXT NOT NULL, target TEXT NOT NULL,"
      " machine TEXT NOT NULL, schedule TEXT NOT NULL, base TEXT NOT NULL, seconds REAL NOT NULL,"
      " base_seconds REAL NOT NULL, tried INTEGER NOT NULL, threads INTEGER NOT NULL, cut INTEGER NOT NULL,"
      " model TEXT NOT NULL, kernel TEXT NOT NULL, version TEXT NOT NULL, UNIQUE(hash, region, target, machine));"
      "CREATE TABLE try(entry INTEGER NOT NULL, schedule TEXT NOT NULL, seconds REAL NOT NULL);"
      "CREATE INDEX try_entry ON try(entry)";
  char pragmas[128];
  sqlite3_snprintf(sizeof pragmas, pragmas, "PRAGMA application_id=%d; PRAGMA user_version=%d", APPLICATION, SCHEMA);
  return run(db, d, sql) && run(db, d, pragmas);
}

/* Is the file whole, and one of ours? A new one, still empty, gets its tables. */
static bool check(TuneDb *db, Diags *d, bool write) {
  int64_t application, version, tables; /* of one state: another process may be making the tables */
  if (!run(db, d, "BEGIN") || !number(db, d, "PRAGMA application_id", &application) ||
      !number(db, d, "PRAGMA user_version", &version) ||
      !number(db, d, "SELECT count(*) FROM sqlite_schema", &tables) || !run(db, d, "COMMIT"))
    return false;
  if (write && !tables && !application) { /* of two that come at once, one makes the tables */
    bool ok = run(db, d, "BEGIN IMMEDIATE") && number(db, d, "SELECT count(*) FROM sqlite_schema", &tables) &&
              (tables || create(db, d)) && run(db, d, "COMMIT");
    return ok && check(db, d, false);
  }
  if (application != APPLICATION)
    return diag_hint(d, (Span){0}, "name another file with --tune-db FILE", "%s is not a tuning database of ink",
                     db->path);
  if (version > SCHEMA)
    return diag_hint(d, (Span){0}, "use that ink, or name another file with --tune-db FILE",
                     "tuning database %s was written by a newer ink (version %d of the file's form; this ink knows %d)",
                     db->path, (int)version, SCHEMA);
  sqlite3_stmt *s = prepare(db, d, "PRAGMA quick_check(1)");
  bool ok = s && sqlite3_step(s) == SQLITE_ROW;
  if (s && !ok) failed(db, d);
  if (ok && strcmp((const char *)sqlite3_column_text(s, 0), "ok"))
    ok = diag_hint(d, (Span){0}, "remove the file, or name another one with --tune-db FILE",
                   "tuning database %s is damaged: %s", db->path, (const char *)sqlite3_column_text(s, 0));
  sqlite3_finalize(s);
  return ok;
}

static bool make_parents(Arena *a, Diags *d, const char *path) {
  char *p = arena_strdup(a, path);
  for (char *s = p + 1; (s = strchr(s, '/')); s++) {
    *s = 0;
    if (mkdir(p, 0777) && errno != EEXIST)
      return diag_error(d, (Span){0}, "cannot make the folder %s: %s", p, strerror(errno));
    *s = '/';
  }
  return true;
}

bool tune_db_open(Arena *a, Diags *d, const char *path, bool write, TuneDb **out) {
  struct stat st;
  *out = NULL;
  if (stat(path, &st)) {
    if (errno != ENOENT && errno != ENOTDIR)
      return diag_error(d, (Span){0}, "tuning database %s: %s", path, strerror(errno));
    if (!write) return true;
    if (!make_parents(a, d, path)) return false;
  } else if (!S_ISREG(st.st_mode)) {
    return diag_error(d, (Span){0}, "tuning database %s is not a file", path);
  } else if (!write && !st.st_size) {
    return true; /* someone is about to make it */
  }
  TuneDb *db = NEW(a, TuneDb);
  db->path = arena_strdup(a, path);
  int flags =
      SQLITE_OPEN_READWRITE | (write ? SQLITE_OPEN_CREATE : 0); /* a reader, too, ends what a killed writer left */
  bool ok = sqlite3_open_v2(path, &db->sql, flags, NULL) == SQLITE_OK;
  if (!db->sql) return diag_error(d, (Span){0}, "tuning database %s: out of memory", path);
  if (!ok) failed(db, d);
  if (ok) {
    sqlite3_busy_timeout(db->sql, WAIT_MS);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    ok = (write || run(db, d, "PRAGMA query_only=1")) && check(db, d, write);
  }
  if (ok)
    *out = db;
  else
    tune_db_close(db);
  return ok;
}

void tune_db_close(TuneDb *db) {
  if (db) sqlite3_close(db->sql);
}

/* ---- entries */

#define COLUMNS                                                                                                        \
  "id, region, target, machine, schedule, base, seconds, base_seconds, tried, threads, cut, model, kernel, version"

static const char *column(Arena *a, sqlite3_stmt *s, int i) {
  const char *text = (const char *)sqlite3_column_text(s, i);
  return arena_strdup(a, text ? text : "");
}

static TuneEntry read_entry(Arena *a, sqlite3_stmt *s) {
  return (TuneEntry){.id = sqlite3_column_int64(s, 0),
                     .region = column(a, s, 1),
                     .target = column(a, s, 2),
                     .machine = column(a, s, 3),
                     .schedule = column(a, s, 4),
                     .base = column(a, s, 5),
                     .seconds = sqlite3_column_double(s, 6),
                     .base_seconds = sqlite3_column_double(s, 7),
                     .tried = sqlite3_column_int64(s, 8),
                     .threads = sqlite3_column_int64(s, 9),
                     .cut = sqlite3_column_int64(s, 10) != 0,
                     .model = column(a, s, 11),
                     .kernel = column(a, s, 12),
                     .version = column(a, s, 13)};
}

static int64_t region_hash(const TuneEntry *e) {
  uint64_t h = hash64(e->region, strlen(e->region));
  int64_t v;
  memcpy(&v, &h, sizeof v);
  return v;
}

static void bind_text(sqlite3_stmt *s, int i, const char *text) {
  sqlite3_bind_text(s, i, text ? text : "", -1, SQLITE_STATIC);
}

static void bind_key(sqlite3_stmt *s, const TuneEntry *e) {
  sqlite3_bind_int64(s, 1, region_hash(e));
  bind_text(s, 2, e->region);
  bind_text(s, 3, e->target);
  bind_text(s, 4, e->machine);
}

bool tune_db_get(TuneDb *db, Arena *a, Diags *d, const TuneEntry *key, TuneEntry *out, bool *found) {
  sqlite3_stmt *s =
      prepare(db, d, "SELECT " COLUMNS " FROM entry WHERE hash=? AND region=? AND target=? AND machine=?");
  *found = false;
  if (!s) return false;
  bind_key(s, key);
  int code = sqlite3_step(s);
  if (code == SQLITE_ROW) {
    *found = true;
    *out = read_entry(a, s);
  }
  bool ok = code == SQLITE_ROW || code == SQLITE_DONE || failed(db, d);
  sqlite3_finalize(s);
  return ok;
}

/* Runs a statement that gives no rows, and ends it. */
static bool finish(TuneDb *db, Diags *d, sqlite3_stmt *s) {
  bool ok = s && (sqlite3_step(s) == SQLITE_DONE || failed(db, d));
  sqlite3_finalize(s);
  return ok;
}

static bool put(TuneDb *db, Diags *d, const TuneEntry *e, const TuneTry *tries, int ntries) {
  sqlite3_stmt *s = prepare(db, d,
                            "DELETE FROM try WHERE entry IN (SELECT id FROM entry WHERE hash=? AND region=?"
                            " AND target=? AND machine=?)");
  if (s) bind_key(s, e);
  if (!finish(db, d, s)) return false;
  s = prepare(db, d,
              "INSERT OR REPLACE INTO entry(hash, region, target, machine, schedule, base, seconds, base_seconds,"
              " tried, threads, cut, model, kernel, version) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
  if (!s) return false;
  bind_key(s, e);
  bind_text(s, 5, e->schedule);
  bind_text(s, 6, e->base);
  sqlite3_bind_double(s, 7, e->seconds);
  sqlite3_bind_double(s, 8, e->base_seconds);
  sqlite3_bind_int64(s, 9, e->tried);
  sqlite3_bind_int64(s, 10, e->threads);
  sqlite3_bind_int64(s, 11, e->cut);
  bind_text(s, 12, e->model);
  bind_text(s, 13, e->kernel);
  bind_text(s, 14, e->version);
  if (!finish(db, d, s)) return false;
  int64_t id = sqlite3_last_insert_rowid(db->sql);
  for (int i = 0; i < ntries; i++) {
    s = prepare(db, d, "INSERT INTO try VALUES(?,?,?)");
    if (!s) return false;
    sqlite3_bind_int64(s, 1, id);
    bind_text(s, 2, tries[i].schedule);
    sqlite3_bind_double(s, 3, tries[i].seconds);
    if (!finish(db, d, s)) return false;
  }
  return true;
}

bool tune_db_put(TuneDb *db, Diags *d, const TuneEntry *e, const TuneTry *tries, int ntries) {
  if (!run(db, d, "BEGIN IMMEDIATE")) return false;
  if (put(db, d, e, tries, ntries) && run(db, d, "COMMIT")) return true;
  sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
  return false;
}

bool tune_db_list(TuneDb *db, Arena *a, Diags *d, TuneEntry **out, int *n) {
  int cap = 0, code = SQLITE_DONE;
  *out = NULL, *n = 0;
  sqlite3_stmt *s =
      prepare(db, d, "SELECT " COLUMNS " FROM entry ORDER BY model, length(kernel), kernel, machine, target, region");
  if (!s) return false;
  while ((code = sqlite3_step(s)) == SQLITE_ROW) {
    TuneEntry e = read_entry(a, s);
    PUSH(a, *out, *n, cap, e);
  }
  bool ok = code == SQLITE_DONE || failed(db, d);
  sqlite3_finalize(s);
  return ok;
}

bool tune_db_tries(TuneDb *db, Arena *a, Diags *d, const TuneEntry *e, TuneTry **out, int *n) {
  int cap = 0, code = SQLITE_DONE;
  *out = NULL, *n = 0;
  sqlite3_stmt *s = prepare(db, d, "SELECT schedule, seconds FROM try WHERE entry=? ORDER BY rowid");
  if (!s) return false;
  sqlite3_bind_int64(s, 1, e->id);
  while ((code = sqlite3_step(s)) == SQLITE_ROW) {
    TuneTry t = {column(a, s, 0), sqlite3_column_double(s, 1)};
    PUSH(a, *out, *n, cap, t);
  }
  bool ok = code == SQLITE_DONE || failed(db, d);
  sqlite3_finalize(s);
  return ok;
}
