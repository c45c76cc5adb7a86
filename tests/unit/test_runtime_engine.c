/* Threads and the engine: the barrier, step lists with LIST, what a broken program or a wrong machine gets told. */
#include "runtime/inkrt.h"
#include "runtime/machine.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_fixture.h"
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

/* ---- the pool */

enum { ROUNDS = 2000 };
typedef struct Count {
  Pool *pool;
  int64_t at[8]; /* by thread, not atomic: the barrier must order the accesses */
  _Atomic int wrong;
} Count;

static void count_thread(void *ctx, int thread, int threads) {
  Count *c = ctx;
  for (int r = 1; r <= ROUNDS; r++) {
    c->at[thread] = r;
    pool_barrier(c->pool);
    for (int t = 0; t < threads; t++)
      if (c->at[t] != r) c->wrong++;
    pool_barrier(c->pool);
  }
}

static void check_pool(int threads) {
  Report err = {0};
  Count c = {.pool = pool_new(threads, &err)};
  cr_assert(ne(ptr, c.pool, NULL), "%s", err.text);
  pool_run(c.pool, count_thread, &c);
  pool_run(c.pool, count_thread, &c);
  cr_assert(eq(int, c.wrong, 0));
  pool_free(c.pool);
}

Test(pool, one_thread) {
  check_pool(1);
}
Test(pool, two_threads) {
  check_pool(2);
}
Test(pool, more_threads_than_cores) {
  check_pool(7);
}

static void sleepy_thread(void *ctx, int thread, int threads) {
  Count *c = ctx;
  if (!thread) usleep(2000); /* the others go to sleep on the futex */
  c->at[thread] = thread + 1;
  pool_barrier(c->pool);
  for (int t = 0; t < threads; t++)
    if (c->at[t] != t + 1) c->wrong++;
}

Test(pool, a_sleeper_is_woken) {
  Report err = {0};
  Count c = {.pool = pool_new(3, &err)};
  for (int i = 0; i < 20; i++) {
    pool_run(c.pool, sleepy_thread, &c);
    usleep(300); /* workers sleep between runs, too */
  }
  cr_assert(eq(int, c.wrong, 0));
  pool_free(c.pool);
}

Test(pool, refuses_impossible_counts) {
  Report err = {0};
  cr_assert(eq(ptr, pool_new(0, &err), NULL));
  cr_assert(eq(ptr, pool_new(5000, &err), NULL));
  cr_assert(eq(int, err.lines, 2));
  report_free(&err);
}

/* ---- lists */

static Engine *engine_of(Fixture *f, Program *p, int threads, Report *err) {
  return program_open(p, f->blob, fix_kernels, err) ? engine_new(p, threads, err) : NULL;
}

/* A kernel that appends (address, integers) to a log: what the engine resolved. */
static struct {
  void *buf[32];
  int64_t a[32], b[32];
  int n;
} seen;

static void spy(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch, int64_t *dealt) {
  if (thread) return;
  seen.buf[seen.n] = b[0];
  seen.a[seen.n] = ints[0];
  seen.b[seen.n] = ints[1];
  seen.n++;
  (void)threads, (void)scratch, (void)dealt;
}

static struct {
  char *first, *second; /* what the first two calls write */
  int patience;         /* ms */
  _Atomic int entered, done;
  _Atomic bool at_once, too_early;
} met;

/* In the first call thread 1 waits for thread 0 to reach the second; the third must find both done by both. */
static void meet(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch, int64_t *dealt) {
  bool first = b[1] == met.first, second = b[1] == met.second && b[0] != met.first;
  if (second && thread == 0) met.entered = 1;
  for (int i = 0; first && thread == 1 && !met.entered && i < met.patience; i++)
    nanosleep(&(struct timespec){0, 1000000}, NULL);
  if (first && thread == 1) met.at_once = met.entered != 0;
  if (!first && !second && met.done < 4) met.too_early = true;
  met.done++;
  (void)ints, (void)threads, (void)scratch, (void)dealt;
}

/* Three calls: of b0 to x, of b1 to y, of x to y. */
static void run_three(Fixture *f, const char *x, const char *y, int patience) {
  const char *const args[][2] = {{"b0", x}, {"b1", y}, {x, y}};
  ProgramList *update = (ProgramList *)(f->blob + f->h.lists.at) + 1;
  ProgramStep *steps = (ProgramStep *)(f->blob + f->h.steps.at) + update->step;
  update->nsteps = 3;
  for (int i = 0; i < 3; i++) {
    steps[i].kernel = FIX_SUM, steps[i].nargs = 2, steps[i].nints = 0;
    for (int k = 0; k < 2; k++)
      ((ProgramArg *)(f->blob + f->h.args.at))[steps[i].args + (uint32_t)k].buffer = (uint32_t)fix_find(f, args[i][k]);
  }
  fixture_seal(f);
  KernelFn kernels[] = {fix_forward, meet, fix_backward, fix_norm, fix_adamw, fix_sample, fix_peak};
  Program p;
  Report err = {0};
  cr_assert(program_open(&p, f->blob, kernels, &err), "%s", err.text);
  Engine *e = engine_new(&p, 2, &err);
  cr_assert(ne(ptr, e, NULL), "%s", err.text);
  met.first = engine_named(e, x), met.second = engine_named(e, y), met.patience = patience;
  engine_run(e, program_list(&p, "update"));
  cr_assert(not(met.too_early));
  cr_assert(eq(int, met.done, 6));
  engine_free(e);
}

Test(engine, a_barrier_stands_only_where_kernels_disturb_one_another) {
  run_three(fixture_new(), "m.b0", "m.b1", 5000);
  cr_assert(met.at_once, "the first two calls write different buffers, but one waited for the other");
}

Test(engine, temporaries_that_share_memory_are_not_written_at_once) {
  Fixture *f = fixture_new();
  ProgramBuffer *buffers = (ProgramBuffer *)(f->blob + f->h.buffers.at);
  buffers[fix_find(f, "nll")].offset = buffers[fix_find(f, "p")].offset + 64;
  run_three(f, "p", "nll", 100);
  cr_assert(not(met.at_once), "two calls ran at once that write the same bytes");
}

Test(engine, a_list_runs_with_its_index) {
  Fixture *f = fixture_new();
  /* "eval" becomes: run list "peak" three times; "peak" calls the spy with an address and integers that move */
  ProgramList *lists = (ProgramList *)(f->blob + f->h.lists.at);
  ProgramStep *steps = (ProgramStep *)(f->blob + f->h.steps.at);
  ProgramArg *args = (ProgramArg *)(f->blob + f->h.args.at);
  ProgramInt ints[3] = {{.c = 3}, {.c = 10, .step = 2}, {.c = 1, .mul = 2, .sym = 1, .step = 4, .max = 22}};
  f->h.ints = fix_table(f, ints, 3, sizeof(*ints));
  ProgramSymbol symbol = {.name = fix_text(f, "n"), .bound = 9};
  f->h.symbols = fix_table(f, &symbol, 1, sizeof(symbol));
  f->h.bytes = f->n;
  lists = (ProgramList *)(f->blob + f->h.lists.at);
  steps = (ProgramStep *)(f->blob + f->h.steps.at);
  args = (ProgramArg *)(f->blob + f->h.args.at);
  ProgramStep *inner = &steps[lists[4].step], *outer = &steps[lists[2].step];
  args[inner->args].offset = 4;
  args[inner->args].stride = 16;
  inner->ints = 1, inner->nints = 2;
  *outer = (ProgramStep){.kind = STEP_LIST, .kernel = 4, .count = 0};
  lists[2].nsteps = 1;
  for (uint32_t i = 0; i < f->h.steps.n; i++)
    steps[i].ints = steps[i].kind == STEP_CALL && &steps[i] != inner ? 0 : steps[i].ints;
  for (uint32_t i = 0; i < f->h.steps.n; i++)
    if (&steps[i] != inner) steps[i].nints = 0;
  fixture_seal(f);
  KernelFn kernels[] = {fix_forward, fix_sum, fix_backward, fix_norm, fix_adamw, fix_sample, spy};
  Program p;
  Report err = {0};
  cr_assert(program_open(&p, f->blob, kernels, &err), "%s", err.text);
  Engine *e = engine_new(&p, 2, &err);
  cr_assert(ne(ptr, e, NULL), "%s", err.text);
  engine_run(e, program_list(&p, "eval"));
  cr_assert(eq(int, seen.n, 3));
  char *base = engine_named(e, "peak_out");
  int64_t b[] = {19, 22, 22}; /* 1 + 2 * 9, then + 4 each, at most 22 */
  for (int i = 0; i < 3; i++) {
    cr_assert(eq(ptr, seen.buf[i], base + 4 + 16 * i));
    cr_assert(eq(i64, seen.a[i], 10 + 2 * i));
    cr_assert(eq(i64, seen.b[i], b[i]));
  }
  cr_assert(engine_set_symbol(e, "n", 2));
  cr_assert(not(engine_set_symbol(e, "n", 10)));
  cr_assert(not(engine_set_symbol(e, "m", 1)));
  seen.n = 0;
  engine_run(e, program_list(&p, "eval"));
  for (int i = 0; i < 3; i++) cr_assert(eq(i64, seen.b[i], 5 + 4 * i));
  engine_free(e);
  fixture_free(f);
}

Test(engine, scalars_and_buffers) {
  Fixture *f = fixture_new();
  Program p;
  Report err = {0};
  Engine *e = engine_of(f, &p, 1, &err);
  engine_set_scalar(e, "lr", 0.25);
  engine_set_scalar(e, "position", 3);
  engine_set_scalar(e, "no such scalar", 1);
  cr_assert(eq(dbl, engine_scalar(e, "lr"), 0.25));
  cr_assert(eq(dbl, engine_scalar(e, "position"), 3));
  cr_assert(eq(dbl, engine_scalar(e, "no such scalar"), 0));
  for (int i = 0; i < p.nbuffers; i++) cr_assert(eq(u64, (uint64_t)(uintptr_t)engine_buffer(e, i) % 64, 0));
  cr_assert(engine_peak(e, 0.001) > 0);
  engine_free(e);
  fixture_free(f);
}

/* ---- what a wrong machine or a broken program gets told */

static void check_refused(void (*spoil)(Fixture *), const char *part) {
  Fixture *f = fixture_new();
  spoil(f);
  fixture_seal(f);
  Program p;
  Report err = {0};
  Engine *e = engine_of(f, &p, 1, &err);
  cr_assert(eq(ptr, e, NULL), "a broken program was taken: %s", part);
  cr_assert(ne(ptr, strstr(err.text, part), NULL), "'%s' does not say '%s'", err.text, part);
  report_free(&err);
  fixture_free(f);
}

#define ROW(T, table, i) (&((T *)(f->blob + f->h.table.at))[i])
static void unknown_feature(Fixture *f) {
  f->h.cpu_features = fix_text(f, "sse3,warp9"), f->h.bytes = f->n;
}
static void too_much(Fixture *f) {
  f->h.arena_bytes = UINT64_C(1) << 45;
}
static void absurd(Fixture *f) {
  f->h.arena_bytes = UINT64_MAX;
}
static void other_magic(Fixture *f) {
  f->h.magic[0] = 'X';
}
static void later_version(Fixture *f) {
  f->h.version = PROGRAM_VERSION + 1;
}
static void wild_table(Fixture *f) {
  f->h.args.n = 1 << 20;
}
static void wild_kernel(Fixture *f) {
  ROW(ProgramStep, steps, 0)->kernel = 77;
}
static void wild_arg(Fixture *f) {
  ROW(ProgramArg, args, 3)->buffer = 999;
}
static void wild_buffer(Fixture *f) {
  ROW(ProgramBuffer, buffers, 12)->offset = f->h.persistent_bytes;
}
static void wild_piece(Fixture *f) {
  ROW(ProgramPiece, pieces, 1)->base = 40;
}
static void huge_piece(Fixture *f) {
  ROW(ProgramPiece, pieces, 0)->stride[0] = INT64_MAX;
}
static void collective(Fixture *f) {
  ROW(ProgramStep, steps, 1)->kind = STEP_COLL;
}
static void endless(Fixture *f) {
  *ROW(ProgramStep, steps, 0) = (ProgramStep){.kind = STEP_LIST, .kernel = 0};
}
static void wild_place(Fixture *f) {
  ROW(ProgramStep, steps, 1)->nplaces = 7;
}
static void too_few_places(Fixture *f) {
  ProgramPlace place = {.line = 1};
  f->h.places = fix_table(f, &place, 1, sizeof place);
  f->h.bytes = f->n;
  ROW(ProgramStep, steps, 0)->nplaces = 1;
}
static void wild_place_text(Fixture *f) {
  ProgramPlace place = {.line = 1, .in = UINT32_MAX};
  f->h.places = fix_table(f, &place, 1, sizeof place);
  f->h.bytes = f->n;
}
static void more_outputs_than_arguments(Fixture *f) {
  ROW(ProgramKernel, kernels, FIX_SUM)->outputs = 3;
}
static void late_wait(Fixture *f) {
  ROW(ProgramStep, steps, 0)->wait[0] = 2;
}

Test(program, unknown_cpu_feature) {
  check_refused(unknown_feature, "warp9");
}
Test(program, more_memory_than_there_is) {
  check_refused(too_much, "can be had here");
}
Test(program, absurd_memory) {
  check_refused(absurd, "impossible amount");
}
Test(program, magic) {
  check_refused(other_magic, "no program");
}
Test(program, version) {
  check_refused(later_version, "version 5");
}
Test(program, table_outside) {
  check_refused(wild_table, "table of args");
}
Test(program, kernel_outside) {
  check_refused(wild_kernel, "step 0");
}
Test(program, argument_outside) {
  check_refused(wild_arg, "argument 3");
}
Test(program, buffer_outside) {
  check_refused(wild_buffer, "does not lie in its memory");
}
Test(program, piece_outside) {
  check_refused(wild_piece, "checkpoint view of parameter 'b0'");
}
Test(program, piece_overflow) {
  check_refused(huge_piece, "checkpoint view of parameter 'w'");
}
Test(program, collective) {
  check_refused(collective, "runs one process");
}
Test(program, lists_in_a_circle) {
  check_refused(endless, "too deeply");
}
Test(program, place_outside) {
  check_refused(wild_place, "step 1");
}
Test(program, outputs_without_places) {
  check_refused(too_few_places, "step 0");
}
Test(program, text_of_a_place_outside) {
  check_refused(wild_place_text, "place 0");
}
Test(program, outputs_outside) {
  check_refused(more_outputs_than_arguments, "step 1");
}
Test(program, wait_forwards) {
  check_refused(late_wait, "step 0");
}

Test(machine, names_what_is_missing) {
  Report err = {0};
  cr_assert(machine_has("", &err));
  cr_assert(not(machine_has("nonsense1,nonsense2", &err)));
  cr_assert(ne(ptr, strstr(err.text, "nonsense1"), NULL));
  cr_assert(ne(ptr, strstr(err.text, "nonsense2"), NULL));
  report_free(&err);
#if defined(__x86_64__)
  cr_assert(machine_has("sse3", &err) || err.lines > 0);
  bool avx512 = __builtin_cpu_supports("avx512f");
  report_free(&err);
  cr_assert(eq(int, machine_has("avx512f", &err), avx512));
  cr_assert(avx512 || strstr(err.text, "does not have"));
  report_free(&err);
#endif
}

Test(machine, sizes_read_well) {
  char t[32];
  cr_assert(eq(str, (char *)machine_size(17, t), "17 bytes"));
  cr_assert(eq(str, (char *)machine_size(3 << 19, t), "1.5 MiB"));
  cr_assert(ge(int, machine_cores(), 1));
  cr_assert(machine_memory() > 1 << 20);
}
