/* --check-nan's search and its words: every dtype and block edge, the first output and element whatever the threads, the
 * rule about infinities, what went in although it was overwritten, slices of loops, data and parameters. */
#include "runtime/check_nan.h"
#include "runtime/inkrt.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_fixture.h"

/* ---- one value among many */

Test(check_nan, finds_the_first_of_every_dtype_and_place) {
  enum { N = 5000 };
  static float f[N];
  static uint16_t h[N];
  static double g[N];
  static const int at[] = {0, 1, 1023, 1024, 1025, 2048, 4095, 4096, N - 1};
  for (int k = 0; k < (int)(sizeof at / sizeof *at); k++) {
    for (int i = 0; i < N; i++) f[i] = i % 3 ? 3.4e38f : -1e-45f, h[i] = 0x7f7f, g[i] = 1e308;
    for (int dtype = DTYPE_F32; dtype <= DTYPE_F64; dtype++) {
      const void *x = dtype == DTYPE_F32 ? (void *)f : dtype == DTYPE_BF16 ? (void *)h : (void *)g;
      cr_assert(eq(i64, nan_first(x, dtype, 0, N, true), -1));
    }
    f[at[k]] = -INFINITY, h[at[k]] = 0xff80, g[at[k]] = INFINITY;
    for (int dtype = DTYPE_F32; dtype <= DTYPE_F64; dtype++) {
      const void *x = dtype == DTYPE_F32 ? (void *)f : dtype == DTYPE_BF16 ? (void *)h : (void *)g;
      cr_assert(eq(i64, nan_first(x, dtype, 0, N, true), at[k]));
      cr_assert(eq(i64, nan_first(x, dtype, 0, N, false), -1)); /* infinities are let pass */
      cr_assert(eq(i64, nan_first(x, dtype, at[k] + 1, N, true), -1));
      cr_assert(eq(i64, nan_first(x, dtype, 0, at[k], true), -1));
    }
    f[at[k]] = (float)NAN, h[at[k]] = 0x7f81, g[at[k]] = (double)NAN;
    for (int dtype = DTYPE_F32; dtype <= DTYPE_F64; dtype++) {
      const void *x = dtype == DTYPE_F32 ? (void *)f : dtype == DTYPE_BF16 ? (void *)h : (void *)g;
      cr_assert(eq(i64, nan_first(x, dtype, 0, N, false), at[k]));
    }
  }
  static const int32_t ints[4] = {-1, -1, -1, -1}; /* the bits of a NaN */
  cr_assert(eq(i64, nan_first(ints, DTYPE_I32, 0, 4, true), -1));
}

/* ---- in a program. Its steps, spoilt: */

typedef struct Run {
  Fixture *f;
  Program p;
  Engine *e;
  NanCheck *check;
  Report err;
} Run;

static void run_new(Run *r, Fixture *f, const KernelFn *kernels, int threads) {
  *r = (Run){.f = f};
  cr_assert(program_open(&r->p, f->blob, kernels, &r->err), "%s", r->err.text);
  r->e = engine_new(&r->p, threads, &r->err);
  cr_assert(ne(ptr, r->e, NULL), "%s", r->err.text);
  r->check = nan_new(&r->p, threads, &r->err);
  cr_assert(ne(ptr, r->check, NULL), "%s", r->err.text);
  engine_set_check(r->e, r->check);
}

static void run_free(Run *r) {
  engine_free(r->e);
  nan_free(r->check);
  report_free(&r->err);
  fixture_free(r->f);
}

static bool run_list(Run *r, const char *list) {
  return engine_run(r->e, program_list(&r->p, list)) || nan_tell(r->check, r->e, "now", &r->err);
}

static void says(const char *text, const char *part) {
  cr_assert(text && strstr(text, part), "'%s' does not say '%s'", text ? text : "", part);
}

/* As the fixture's, but NaN in both outputs, late in the first and early in the second. */
static void spoilt_forward(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                           int64_t *dealt) {
  fix_forward(b, ints, thread, threads, scratch, dealt);
  int64_t from, to;
  fix_range(FIX_ROWS, thread, threads, &from, &to);
  if (from <= 20 && 20 < to) ((float *)b[5])[20 * FIX_VOCAB + 3] = INFINITY;
  if (from <= 29 && 29 < to) ((float *)b[5])[29 * FIX_VOCAB] = (float)NAN;
  if (from <= 0 && 0 < to) ((float *)b[6])[0] = (float)NAN;
}

/* Adds to loss_sum what makes it overflow. */
static void spoilt_sum(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                       int64_t *dealt) {
  if (!thread) *(float *)b[1] *= 1e38f;
  (void)ints, (void)threads, (void)scratch, (void)dealt;
}

Test(check_nan, a_clean_run_is_left_alone) {
  Run r;
  run_new(&r, fixture_new(), fix_kernels, 2);
  cr_assert(nan_loaded(r.e, "nothing", &r.err));
  cr_assert(run_list(&r, "micro"));
  cr_assert(run_list(&r, "eval"));
  cr_assert(eq(int, r.err.lines, 0));
  run_free(&r);
}

Test(check_nan, the_first_output_and_element_whatever_the_threads) {
  KernelFn kernels[FIX_KERNELS];
  memcpy(kernels, fix_kernels, sizeof kernels);
  kernels[FIX_FORWARD] = spoilt_forward;
  for (int threads = 1; threads <= 5; threads++) {
    Run r;
    run_new(&r, fixture_new(), kernels, threads);
    cr_assert(not(run_list(&r, "micro")));
    cr_assert(eq(int, r.check->what.output, 0));
    cr_assert(eq(i64, r.check->what.element, 20 * FIX_VOCAB + 3));
    says(r.err.text, "kernel forward stored inf, the first value that is not finite (list micro, now)");
    says(r.check->text.text,
         "p: f32[32, 16] (output 1 of 2), inf at [20, 3], element 323; 1 NaN and 1 infinity in 512");
    says(r.check->text.text, "b0: f32[16], 0 to 0, mean 0; there [3]: 0");
    says(r.check->text.text, "tokens: i32[4, 8], 0 to 0, mean 0\n");
    cr_assert(eq(dbl, engine_scalar(r.e, "loss_sum"), 0)); /* the next step did not run */
    run_free(&r);
  }
}

Test(check_nan, what_was_overwritten_is_still_told) {
  Fixture *f = fixture_new();
  ProgramStep *steps = (ProgramStep *)(f->blob + f->h.steps.at);
  ProgramArg *args = (ProgramArg *)(f->blob + f->h.args.at);
  ProgramArg moved[3] = {args[steps[1].args], args[steps[1].args + 1], args[steps[1].args + 1]};
  ProgramArg all[160]; /* sum's arguments become nll, loss_sum, loss_sum: read, and updated in place */
  memcpy(all, args, f->h.args.n * sizeof *args);
  memcpy(all + f->h.args.n, moved, sizeof moved);
  steps[1].args = f->h.args.n;
  steps[1].nargs = 3;
  f->h.args = fix_table(f, all, f->h.args.n + 3, sizeof *all);
  f->h.bytes = f->n;
  fixture_seal(f);
  KernelFn kernels[FIX_KERNELS];
  memcpy(kernels, fix_kernels, sizeof kernels);
  kernels[FIX_SUM] = spoilt_sum;
  Run r;
  run_new(&r, f, kernels, 2);
  cr_assert(ge(u64, r.check->kept_bytes, 4));
  engine_set_scalar(r.e, "loss_sum", 250);
  cr_assert(not(run_list(&r, "micro")));
  says(r.check->text.text, "stored  loss_sum: f32 (output 1 of 1), inf");
  says(r.check->text.text, "loss_sum: f32 = 250\n");
  run_free(&r);
}

/* A step that read an infinity may store one, but no NaN. */
static void masked_forward(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                           int64_t *dealt) {
  if (!thread) {
    ((float *)b[2])[5] = -INFINITY; /* stands for a table of the model */
    ((float *)b[6])[4] = -INFINITY;
  }
  (void)ints, (void)threads, (void)scratch, (void)dealt;
}

static void masked_then_nan(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                            int64_t *dealt) {
  masked_forward(b, ints, thread, threads, scratch, dealt);
  if (!thread) ((float *)b[6])[7] = (float)NAN;
}

Test(check_nan, an_infinity_that_was_read_may_be_stored) {
  KernelFn kernels[FIX_KERNELS];
  memcpy(kernels, fix_kernels, sizeof kernels);
  kernels[FIX_FORWARD] = masked_forward;
  Run r;
  run_new(&r, fixture_new(), kernels, 2);
  cr_assert(run_list(&r, "eval")); /* the sum of them is an infinity made of one */
  run_free(&r);
  kernels[FIX_FORWARD] = masked_then_nan;
  run_new(&r, fixture_new(), kernels, 2);
  cr_assert(not(run_list(&r, "eval")));
  cr_assert(eq(int, r.check->what.output, 1));
  cr_assert(eq(i64, r.check->what.element, 7));
  run_free(&r);
}

/* In a loop: the slice of the turn, its index in the whole buffer, and the turn are named. */
static void spoilt_turn(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                        int64_t *dealt) {
  static int turn;
  float *x = b[0];
  if (!thread)
    for (int i = 0; i < 4; i++) x[i] = turn == 2 && i == 1 ? (float)NAN : 1;
  if (!thread) turn++;
  (void)ints, (void)threads, (void)scratch, (void)dealt;
}

Test(check_nan, turns_of_a_loop) {
  Fixture *f = fixture_new();
  ProgramList *lists = (ProgramList *)(f->blob + f->h.lists.at);
  ProgramStep *steps = (ProgramStep *)(f->blob + f->h.steps.at);
  ProgramArg *args = (ProgramArg *)(f->blob + f->h.args.at);
  ProgramInt *ints = (ProgramInt *)(f->blob + f->h.ints.at);
  ints[0] = (ProgramInt){.c = 5};
  args[steps[lists[4].step].args].stride = 16;
  ProgramStep *outer = &steps[lists[2].step];
  *outer = (ProgramStep){.kind = STEP_LIST, .kernel = 4, .count = 0};
  lists[2].nsteps = 1;
  KernelFn kernels[FIX_KERNELS];
  memcpy(kernels, fix_kernels, sizeof kernels);
  kernels[FIX_PEAK] = spoilt_turn;
  Run r;
  run_new(&r, f, kernels, 2);
  cr_assert(not(run_list(&r, "eval")));
  says(r.err.text, "(list eval, turn 2 of peak, now)");
  says(r.check->text.text, "peak_out: f32[64] (output 1 of 1), NaN at [9], element 9; 1 NaN and 0 infinities in 4");
  says(r.check->text.text, "reads nothing");
  run_free(&r);
}

/* ---- before anything runs */

Test(check_nan, parameters_as_they_were_loaded) {
  Run r;
  run_new(&r, fixture_new(), fix_kernels, 1);
  ((float *)engine_named(r.e, "w"))[3 * FIX_VOCAB + 5] = (float)NAN;
  ((float *)engine_named(r.e, "m.b1"))[2] = -INFINITY;
  cr_assert(not(nan_loaded(r.e, "the checkpoint x", &r.err)));
  says(r.err.text, "parameter 'w' holds NaN at [3, 5] in the checkpoint x (1 NaN and 0 infinities in 256)\n");
  says(r.err.text, "state 'm.b1' holds -inf at [2] in the checkpoint x (0 NaN and 1 infinity in 16)\n");
  cr_assert(eq(int, r.err.lines, 2));
  run_free(&r);
}

Test(check_nan, data_before_a_list) {
  Run r;
  run_new(&r, fixture_new(), fix_kernels, 2);
  engine_set_scalar(r.e, "inv_count", (double)INFINITY);
  cr_assert(not(run_list(&r, "micro")));
  says(r.err.text, "'inv_count' holds inf before anything is computed (list micro, now)");
  run_free(&r);
}

Test(check_nan, a_program_of_unknown_extents_is_refused) {
  Fixture *f = fixture_new();
  ProgramSymbol symbol = {.name = fix_text(f, "n"), .bound = 9};
  f->h.symbols = fix_table(f, &symbol, 1, sizeof(symbol));
  f->h.bytes = f->n;
  fixture_seal(f);
  Program p;
  Report err = {0};
  cr_assert(program_open(&p, f->blob, fix_kernels, &err));
  cr_assert(eq(ptr, nan_new(&p, 1, &err), NULL));
  says(err.text, "--check-nan");
  report_free(&err);
  fixture_free(f);
}
