/* Cuts the power at every point of a recorded run, and goes on from there.
 *
 * usage: crash-replay [OPTIONS] TRACE END [-- COMMAND...]
 *   --base DIR      what lay in the folder before the first operation (default: nothing), all of it on the disk
 *   --killed T --after N   or what the first N operations of the trace T left, on the disk or not: a kill, then a power cut
 *   --drop N        leaves out operation N of the trace: a test of the comparison with END
 *   --unsynced      takes fsync of a file for nothing: a test of the whole, for then states must fail
 *   --list          prints the operations and ends
 *   --torn V        torn states drawn a prefix (default 6), besides the four plain ones
 *   --states N      runs N of the distinct states, drawn by the seed (default: all)
 *   --least STEP    the checkpoint that the base holds
 *   --damaged       the base holds a damaged checkpoint, so a note about it is right
 *   --seed S, --jobs J, --work DIR
 *   --only P.V      one state alone; without COMMAND it is left in DIR/0 to be looked at
 *
 * First the whole trace is carried out by the model of disk.h and held against END, the real folder, byte for byte: were an
 * operation missing, this would fail. Then for every prefix of the trace the states that a crash may leave are made. Each
 * distinct one is written out and COMMAND run on it ("@" in it stands for the folder). It must exit with status 0, go on
 * from the last checkpoint that the trace had made sure of, or from a later one, and leave exactly what END holds: the
 * same files with the same bytes, and metrics.jsonl line by line but for its times. */
#include "tests/crash/disk.h"
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLAIN = 4, OUTPUT = 1 << 16, SECONDS = 120 };

typedef struct Candidate {
  uint64_t hash;
  int prefix, variant;
  long saved;    /* the newest step that is promised, over all prefixes that may leave this state */
  uint64_t rank; /* drawn: the lowest N are run */
} Candidate;

static struct {
  Trace trace, killed;
  State base, end;
  char **command;
  const char *work;
  long torn, states, jobs, least, drop, after;
  uint64_t seed;
  bool damaged, list, unsynced;
  int only_prefix, only_variant;
  Candidate *cand;
  int n, cap;
  int *table, size; /* hash to index + 1 */
} r = {.torn = 6, .jobs = 1, .least = -1, .drop = -1, .seed = 1, .only_prefix = -1};

static uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9e3779b97f4a7c15u ^ (b + 0x7f4a7c15u) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 31) * 0x94d049bb133111ebu;
  return z ^ z >> 29;
}

static State crash(const Disk *d, int prefix, int variant) {
  static const CrashKind plain[PLAIN] = {CRASH_ALL, CRASH_NONE, CRASH_NAMES, CRASH_BYTES};
  CrashKind kind = variant < PLAIN ? plain[variant] : variant % 2 ? CRASH_ORDERED : CRASH_ANY;
  return disk_crash(d, kind, mix(mix(r.seed, (uint64_t)prefix), (uint64_t)variant));
}

/* ---- all the states, each once */

static void grow_table(void) {
  r.size = r.size ? 2 * r.size : 1 << 12;
  r.table = must_alloc(r.table, (size_t)r.size * sizeof(int));
  memset(r.table, 0, (size_t)r.size * sizeof(int));
  for (int i = 0; i < r.n; i++) {
    uint64_t at = r.cand[i].hash;
    while (r.table[at % (uint64_t)r.size]) at++;
    r.table[at % (uint64_t)r.size] = i + 1;
  }
}

static void add(uint64_t hash, int prefix, int variant, long saved) {
  if (2 * (r.n + 1) > r.size) grow_table();
  uint64_t at = hash;
  for (int i; (i = r.table[at % (uint64_t)r.size]); at++)
    if (r.cand[i - 1].hash == hash) {
      if (r.cand[i - 1].saved < saved) r.cand[i - 1].saved = saved;
      return;
    }
  r.table[at % (uint64_t)r.size] = r.n + 1;
  if (r.n == r.cap) r.cand = must_alloc(r.cand, (size_t)(r.cap = r.cap ? 2 * r.cap : 1024) * sizeof(Candidate));
  r.cand[r.n++] = (Candidate){hash, prefix, variant, saved, mix(r.seed + 1, hash)};
}

static long promised(const Disk *d) {
  return disk_saved(d) > r.least ? disk_saved(d) : r.least;
}

static Disk *first_disk(void) {
  Disk *d = disk_new(&r.base);
  if (r.after > r.killed.n) give_up("--after is past the trace");
  for (long i = 0; i < r.after; i++) disk_apply(d, &r.killed.op[i]);
  return d;
}

static void step(Disk *d, int prefix) {
  const TraceOp *o = &r.trace.op[prefix];
  if (!r.unsynced || o->kind != TR_FSYNC || disk_is_folder(d, o->handle)) disk_apply(d, o);
}

/* Returns the number of states made, with those that are alike. */
static int enumerate(void) {
  Disk *d = first_disk();
  int made = 0;
  for (int prefix = 0; prefix <= r.trace.n; prefix++) {
    if (prefix) step(d, prefix - 1);
    for (int v = 0; v < PLAIN + (int)r.torn; v++, made++) {
      State s = crash(d, prefix, v);
      add(state_hash(&s), prefix, v, promised(d));
      state_free(&s);
    }
  }
  disk_free(d);
  return made;
}

static int by_rank(const void *a, const void *b) {
  uint64_t x = ((const Candidate *)a)->rank, y = ((const Candidate *)b)->rank;
  return x < y ? -1 : x > y;
}

static int by_prefix(const void *a, const void *b) {
  const Candidate *x = a, *y = b;
  return x->prefix != y->prefix ? (x->prefix < y->prefix ? -1 : 1) : x->variant - y->variant;
}

static void choose(void) {
  if (r.only_prefix >= 0) {
    int at = 0;
    while (at < r.n && (r.cand[at].prefix != r.only_prefix || r.cand[at].variant != r.only_variant)) at++;
    if (at == r.n) give_up("state %d.%d is no state of its own", r.only_prefix, r.only_variant);
    r.cand[0] = r.cand[at];
    r.n = 1;
  }
  qsort(r.cand, (size_t)r.n, sizeof(Candidate), by_rank);
  if (r.states && r.states < r.n) r.n = (int)r.states;
  qsort(r.cand, (size_t)r.n, sizeof(Candidate), by_prefix);
}

/* ---- one state */

static int run_command(const char *dir, const char *out) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) give_up("cannot fork");
  if (!pid) {
    int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0666), n = 0;
    dup2(fd, 1), dup2(fd, 2);
    char *argv[64];
    for (; r.command[n] && n < 63; n++) {
      char text[8192], *mark = strchr(r.command[n], '@');
      if (mark) snprintf(text, sizeof(text), "%.*s%s%s", (int)(mark - r.command[n]), r.command[n], dir, mark + 1);
      argv[n] = mark ? strdup(text) : r.command[n];
    }
    argv[n] = NULL;
    alarm(SECONDS);
    execv(argv[0], argv);
    _exit(127);
  }
  int status;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* metrics.jsonl without its times, each line held to be JSON; false when one is none. */
static bool without_times(Entry *e) {
  size_t to = 0;
  for (size_t at = 0; at < e->n;) {
    unsigned char *line = e->bytes + at, *end = memchr(line, '\n', e->n - at);
    if (!end) return false;
    size_t n = (size_t)(end - line), keep = n;
    json_t *v = json_loadb((const char *)line, n, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(v)) return false;
    json_decref(v);
    unsigned char *times = memmem(line, n, ", \"tokens_per_s\"", 16);
    if (times) keep = (size_t)(times - line);
    memmove(e->bytes + to, line, keep);
    e->bytes[to + keep] = '\n';
    to += keep + 1;
    at += n + 1;
  }
  e->n = to;
  return true;
}

static State scan_end(const char *dir) {
  State s = state_scan(dir);
  for (int i = 0; i < s.n; i++) {
    const char *name = strrchr(s.entry[i].path, '/');
    if (s.entry[i].kind == ENTRY_FILE && name && !strcmp(name, "/metrics.jsonl") && !without_times(&s.entry[i])) {
      state_add(&s, "metrics.jsonl that is no JSON", ENTRY_DIR, NULL, 0);
      state_sort(&s);
      break;
    }
  }
  return s;
}

/* The step that the command went on from, read from what it said; -1: from the start. */
static long went_on(const char *said) {
  const char *at = strstr(said, "going on from step ");
  return at ? strtol(at + 19, NULL, 10) : -1;
}

static bool judge(const Candidate *c, const State *s, const char *dir, long *from) {
  char out[4096], why[8192], said[OUTPUT];
  state_clear(dir);
  state_write(s, dir);
  if (!r.command) return true;
  snprintf(out, sizeof(out), "%s.out", dir);
  int status = run_command(dir, out);
  FILE *f = fopen(out, "r");
  size_t n = f ? fread(said, 1, sizeof(said) - 1, f) : 0;
  if (f) fclose(f);
  said[n] = 0;
  *from = went_on(said);
  State have = {0};
  const char *bad = NULL;
  if (status)
    snprintf(why, sizeof(why), "exit status %d", status), bad = why;
  else if (*from < c->saved)
    snprintf(why, sizeof(why), "step %ld was saved; the run went on from %ld", c->saved, *from), bad = why;
  else if (!r.damaged && strstr(said, "damaged"))
    bad = "a torn checkpoint under its final name";
  else {
    have = scan_end(dir);
    bad = state_difference(&r.end, &have, why, sizeof(why));
  }
  if (bad) {
    char op[4096];
    printf("FAIL  state %d.%d, a crash after %s: %s\n", c->prefix, c->variant,
           c->prefix ? trace_text(&r.trace.op[c->prefix - 1], op, sizeof(op)) : "nothing", bad);
    for (char *line = strtok(said, "\n"); line; line = strtok(NULL, "\n")) printf("      %s\n", line);
  }
  state_free(&have);
  return !bad;
}

/* ---- all of them, by several processes */

typedef struct Count {
  long tested, failed, resumed;
} Count;

static Count work(int job) {
  char dir[4096];
  Count count = {0};
  snprintf(dir, sizeof(dir), "%s/%d", r.work, job);
  if (mkdir(dir, 0777) && access(dir, W_OK)) give_up("cannot make %s", dir);
  Disk *d = first_disk();
  int prefix = 0;
  for (int i = job; i < r.n; i += (int)r.jobs) {
    const Candidate *c = &r.cand[i];
    while (prefix < c->prefix) step(d, prefix++);
    State s = crash(d, c->prefix, c->variant);
    long from = -1;
    count.tested++;
    count.failed += !judge(c, &s, dir, &from);
    count.resumed += from >= 0;
    state_free(&s);
  }
  disk_free(d);
  return count;
}

static Count work_all(void) {
  Count all = {0};
  int pipes[2];
  if (pipe(pipes)) give_up("no pipe");
  fflush(stdout);
  for (int job = 0; job < r.jobs; job++)
    if (!fork()) {
      Count c = work(job);
      fflush(stdout);
      _exit(write(pipes[1], &c, sizeof(c)) != sizeof(c));
    }
  close(pipes[1]);
  for (Count c; read(pipes[0], &c, sizeof(c)) == sizeof(c);)
    all.tested += c.tested, all.failed += c.failed, all.resumed += c.resumed;
  while (wait(NULL) > 0) {
  }
  if (all.tested != r.n) give_up("only %ld of %d states were tested", all.tested, r.n);
  return all;
}

/* ---- the trace against the real folder */

static void compare(const char *dir) {
  Disk *d = first_disk();
  for (int i = 0; i < r.trace.n; i++)
    if (i + 1 != r.drop) disk_apply(d, &r.trace.op[i]);
  State want = state_scan(dir), have = disk_crash(d, CRASH_ALL, 0);
  char why[8192];
  const char *bad = state_difference(&want, &have, why, sizeof(why));
  if (bad) give_up("the trace does not lead to %s: %s", dir, bad);
  state_free(&want), state_free(&have);
  disk_free(d);
}

static void parse(int argc, char **argv, const char **trace, const char **end) {
  int n = 0;
  for (int i = 1; i < argc; i++) {
    const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
    if (!strcmp(a, "--")) {
      r.command = argv + i + 1;
      break;
    }
    if (!strcmp(a, "--list") || !strcmp(a, "--damaged") || !strcmp(a, "--unsynced")) {
      *(a[2] == 'l' ? &r.list : a[2] == 'd' ? &r.damaged : &r.unsynced) = true;
      continue;
    }
    if (strncmp(a, "--", 2)) {
      if (n == 2) give_up("what is %s?", a);
      *(n++ ? end : trace) = a;
      continue;
    }
    i++;
    if (!strcmp(a, "--base"))
      r.base = state_scan(v);
    else if (!strcmp(a, "--killed"))
      r.killed = trace_read(v);
    else if (!strcmp(a, "--work"))
      r.work = v;
    else if (!strcmp(a, "--only")) {
      if (sscanf(v, "%d.%d", &r.only_prefix, &r.only_variant) != 2) give_up("--only wants PREFIX.VARIANT");
    } else {
      long *to = !strcmp(a, "--torn")     ? &r.torn
                 : !strcmp(a, "--states") ? &r.states
                 : !strcmp(a, "--least")  ? &r.least
                 : !strcmp(a, "--jobs")   ? &r.jobs
                 : !strcmp(a, "--drop")   ? &r.drop
                 : !strcmp(a, "--after")  ? &r.after
                 : !strcmp(a, "--seed")   ? (long *)&r.seed
                                          : NULL;
      char *rest;
      if (!to) give_up("unknown option %s", a);
      *to = strtol(v, &rest, 10);
      if (!*v || *rest) give_up("%s wants a number", a);
    }
  }
  if (n < 2) give_up("usage: crash-replay [OPTIONS] TRACE END [-- COMMAND...]");
}

int main(int argc, char **argv) {
  const char *trace = NULL, *end = NULL;
  parse(argc, argv, &trace, &end);
  r.trace = trace_read(trace);
  if (r.list) {
    char text[8192];
    for (int i = 0; i < r.trace.n; i++) printf("%d %s\n", i + 1, trace_text(&r.trace.op[i], text, sizeof(text)));
    return 0;
  }
  compare(end);
  r.end = scan_end(end);
  if (!r.command && r.only_prefix < 0) return 0;
  if (!r.work) give_up("--work is missing: where are states written?");
  int made = enumerate(), distinct = r.n;
  choose();
  Count c = work_all();
  printf("%d operations, %d prefixes, %d states made, %d distinct, %ld tested (%ld resumed, %ld from the start), %ld "
         "failed\n",
         r.trace.n, r.trace.n + 1, made, distinct, c.tested, c.resumed, c.tested - c.resumed, c.failed);
  return c.failed != 0;
}
