/* Random modules through every stage of the compiler (check/): thousands of small questions whose answers are known.
 *
 * usage: random [--seed S] [--count N | --seconds N] [--keep DIR] [--first] [--quick] [--print] [FILE.ir ...]
 *   --seed S      first seed (1); module i is made from seed S + i
 *   --count N     how many (1000); --seconds N: as many as that time allows
 *   --keep DIR    where shrunk faults are written (build/random)
 *   --print       print the module of --seed, and what is wrong with it
 *   --first       stop at the first fault
 *   --quick       no machine code: text, gradients, passes and the making of kernels alone
 *   FILE.ir       these modules instead: the faults of former days, tests/random/found
 *
 * A child process does a batch, so that a crash costs a batch and not the run; the module whose turn it was is then asked
 * alone. A fault is shrunk (check/shrink.c) and written with its seed, to become a test. Exit status 1: there was one. */
#include "check/check.h"
#include "generate.h"
#include "runtime/machine.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCH = 200 };
static const double PATIENCE = 20;   /* seconds for one module */
static const double SHRINKING = 300; /* seconds for one fault */

typedef struct Options {
  uint64_t seed;
  int64_t count;
  double seconds;
  const char *keep;
  bool print, first, quick;
  int files; /* argv index of the first file, 0: none */
} Options;

static const char *const targets[] = {"cpu:x86-64-v3,chunk=2048",
                                      "cpu:x86-64-v3,lanes=16",
                                      "cpu:x86-64-v3,lanes=4,memory=1",
                                      "cpu:x86-64-v3,l3=0",
                                      "cpu:x86-64-v4,memory=4096,l3=1024",
                                      "cpu:x86-64-v4,chunk=2048,memory=1",
                                      "cpu:x86-64-v4,fuse=0"};

/* The questions about the module of a seed: one target, which the seed chooses. */
static Check check_for(const Options *o, uint64_t seed) {
  uint64_t h = hash64(&seed, sizeof seed);
  Check c = {.values = {.seed = seed | 1, .special = h % 8 == 0},
             .ntargets = 1,
             .gradients = true,
             .round = true,
             .quick = o->quick};
  c.targets = &targets[h / 8 % LEN(targets)];
  return c;
}

static Module *module_of(Arena *a, uint64_t seed) {
  Style style;
  return generate(a, diags_new(a), seed, &style);
}

static bool has_errors(const Module *m, Fault *f) {
  if (!m->diags->n) return false;
  Text t = {0};
  diags_render(m->diags, &t);
  *f = (Fault){.kind = FAULT_COMPILE, .where = "generator"};
  snprintf(f->text, sizeof f->text, "%s", t.s);
  text_free(&t);
  return true;
}

/* ---- shrinking */

typedef struct Same {
  const Check *c;
  Fault was;
} Same;

/* Where a fault is may move while its module shrinks (map.3 becomes map.0); of what kind it is may not. */
static bool still(void *ctx, const Module *m) {
  Same *s = ctx;
  Fault f;
  double patience = s->was.kind == FAULT_HANG ? PATIENCE / 8 : PATIENCE;
  if (check_apart(m, s->c, patience, &f) || f.kind != s->was.kind) return false;
  return f.kind != FAULT_PASS || !strcmp(f.where, s->was.where);
}

static void report(const Options *o, const Module *m, const char *name, const Check *c, const Fault *f) {
  Arena *a = arena_new();
  Same s = {c, *f};
  printf("%s: %s %s\n%s\n", name, fault_name[f->kind], f->where, f->text);
  Module *least = shrink_module(m, a, SHRINKING, still, &s);
  Text t = {0};
  Fault last = *f;
  if (least) check_apart(least, c, PATIENCE, &last);
  case_print(least ? least : m, c, &last, NULL, &t);
  char path[600];
  mkdir(o->keep, 0777);
  snprintf(path, sizeof path, "%s/%s.ir", o->keep, name);
  if (!file_write_atomic(path, t.s, t.n)) printf("cannot write %s: %s\n", path, strerror(errno));
  printf("%s\nshrunk to %s:\n%s", last.text, path, t.s);
  fflush(stdout);
  text_free(&t);
  arena_free(a);
}

/* ---- runs */

typedef struct Progress {  /* shared with the child */
  int64_t at, done, aside; /* aside: the module itself cannot be evaluated, its indices being out of range */
  bool bad;
} Progress;

static void batch(const Options *o, int64_t from, int64_t to, Progress *p) {
  for (p->at = from; p->at < to; p->at++) {
    uint64_t seed = o->seed + (uint64_t)p->at;
    Arena *a = arena_new();
    Fault f;
    Check c = check_for(o, seed);
    alarm((unsigned)PATIENCE);
    Module *m = module_of(a, seed);
    bool errors = has_errors(m, &f), ok = !errors && check_module(m, &c, &f);
    if (errors || (!ok && f.kind != FAULT_INPUT)) {
      p->bad = true;
      return;
    }
    alarm(0);
    *(ok ? &p->done : &p->aside) += 1;
    arena_free(a);
  }
}

static void one(const Options *o, uint64_t seed) {
  Arena *a = arena_new();
  Fault f;
  Check c = check_for(o, seed);
  Module *m = module_of(a, seed);
  char name[40];
  snprintf(name, sizeof name, "seed-%" PRIu64, seed);
  if (has_errors(m, &f))
    printf("%s: the generator itself: %s", name, f.text);
  else if (!check_apart(m, &c, PATIENCE, &f) && f.kind != FAULT_INPUT)
    report(o, m, name, &c, &f);
  else
    printf("%s: not again\n", name);
  arena_free(a);
}

static int run_seeds(const Options *o) {
  Progress *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  double start = machine_seconds();
  int64_t at = 0;
  int faults = 0;
  if (p == MAP_FAILED) return perror("random"), 2;
  memset(p, 0, sizeof *p);
  while (o->seconds > 0 ? machine_seconds() - start < o->seconds : at < o->count) {
    int64_t to = at + BATCH;
    int status = 0;
    if (o->seconds <= 0 && to > o->count) to = o->count;
    fflush(NULL);
    p->at = at;
    p->bad = false;
    pid_t pid = fork();
    if (pid < 0) return perror("random"), 2;
    if (!pid) {
      batch(o, at, to, p);
      _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    at = to;
    if (!status && !p->bad) continue;
    faults++;
    if (o->first) break;
    one(o, o->seed + (uint64_t)p->at);
    at = p->at + 1;
  }
  double seconds = machine_seconds() - start;
  printf("%" PRId64 " random modules from seed %" PRIu64 ", %" PRId64 " more set aside, %d faults, %.0f a minute\n",
         p->done, o->seed, p->aside, faults, 60 * (double)p->done / seconds);
  return faults ? 1 : 0;
}

/* A kept module, checked on all targets with several inputs. */
static int run_file(const char *path) {
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  Case kept;
  int bad = 0;
  Module *m = case_read(a, d, path, &kept) ? kept.mod : NULL;
  if (!m) {
    Text t = {0};
    diags_render(d, &t);
    printf("%s", t.s);
    text_free(&t);
    bad = 1;
  }
  for (int special = 0; m && special < 2 && !bad; special++) {
    Check c = {.values = {.seed = kept.check.values.seed + (uint64_t)special, .special = special, .given = kept.given},
               .targets = targets,
               .ntargets = LEN(targets),
               .gradients = true,
               .round = true,
               .only = kept.check.only};
    Fault f;
    if (check_apart(m, &c, 5 * PATIENCE, &f)) continue;
    printf("%s: %s %s: %s\n", path, fault_name[f.kind], f.where, f.text);
    bad = 1;
  }
  given_close(kept.given);
  arena_free(a);
  return bad;
}

static int print_one(const Options *o) {
  Arena *a = arena_new();
  Module *m = module_of(a, o->seed);
  Text t = {0};
  module_print(m, false, &t);
  printf("%s", t.s);
  text_free(&t);
  arena_free(a);
  one(o, o->seed);
  return 0;
}

static bool parse(int argc, char **argv, Options *o) {
  *o = (Options){.seed = 1, .count = 1000, .keep = "build/random"};
  for (int i = 1; i < argc; i++) {
    const char *v = i + 1 < argc ? argv[i + 1] : NULL;
    if (!strcmp(argv[i], "--print"))
      o->print = true;
    else if (!strcmp(argv[i], "--first"))
      o->first = true;
    else if (!strcmp(argv[i], "--quick"))
      o->quick = true;
    else if (argv[i][0] != '-')
      o->files = o->files ? o->files : i;
    else if (!v)
      return false;
    else if (!strcmp(argv[i], "--seed"))
      o->seed = strtoull(v, NULL, 10), i++;
    else if (!strcmp(argv[i], "--count"))
      o->count = strtoll(v, NULL, 10), i++;
    else if (!strcmp(argv[i], "--seconds"))
      o->seconds = strtod(v, NULL), i++;
    else if (!strcmp(argv[i], "--keep"))
      o->keep = v, i++;
    else
      return false;
  }
  return true;
}

int main(int argc, char **argv) {
  Options o;
  if (!parse(argc, argv, &o)) {
    fprintf(stderr, "usage: random [--seed S] [--count N | --seconds N] [--keep DIR] [--first] [--quick] [--print] "
                    "[FILE.ir ...]\n");
    return 2;
  }
  if (o.print) return print_one(&o);
  if (!o.files) return run_seeds(&o);
  int bad = 0;
  for (int i = o.files; i < argc && !(bad && o.first); i++) bad += run_file(argv[i]);
  printf("%d modules, %d faults\n", argc - o.files, bad);
  return bad ? 1 : 0;
}
