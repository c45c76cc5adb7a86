/* What --profile and --trace cost: the micro-batch of a model in one process, in turns not looked at, profiled, and traced.
 *
 * usage: bench_profile MODEL.yaml [ROUNDS [THREADS [KEY=VALUE...]]]     micro-batches of 12 x 64
 * Printed is the median over the rounds of the ratio to the run beside it that was not looked at: of the main thread's CPU
 * time with one thread (what else runs on the machine disturbs it least), of wall time with more; and how much of the wall
 * time the profile's lanes have told. */
#include "codegen/jit.h"
#include "driver/compile.h"
#include "runtime/inkrt.h"
#include "runtime/profile.h"
#include "runtime/random.h"
#include "runtime/sites.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { OFF, PROFILED, TRACED, KINDS };

static double seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double median(double *v, int n) {
  qsort(v, (size_t)n, sizeof *v, by_value);
  return v[n / 2];
}

static int fail(const char *why) {
  fprintf(stderr, "bench_profile: %s\n", why);
  return 1;
}

int main(int argc, char **argv) {
  int rounds = argc > 2 ? atoi(argv[2]) : 200, threads = argc > 3 ? atoi(argv[3]) : 1;
  if (argc < 2 || rounds < 1 || threads < 1)
    return fail("usage: bench_profile MODEL.yaml [ROUNDS [THREADS [KEY=VALUE...]]]");
  Arena *a = arena_new();
  Compile c = {.arena = a,
               .diags = diags_new(a),
               .models = place_models(a),
               .model_path = argv[1],
               .target_name = "cpu:native",
               .batch = 12,
               .time = 64,
               .sets = (const char **)argv + 4,
               .nsets = argc > 4 ? argc - 4 : 0};
  Jit *jit = compile_run(&c, STAGE_OBJECT) ? jit_load(c.diags, &c.object) : NULL;
  const unsigned char *blob = jit ? jit_symbol(jit, c.diags, "ink_program") : NULL;
  const KernelFn *kernels = jit ? jit_symbol(jit, c.diags, "ink_kernels") : NULL;
  Text text = {0};
  diags_render(c.diags, &text);
  if (!kernels) return fail(text.s);
  Report err = {0};
  Program p;
  Engine *e = program_open(&p, blob, kernels, &err) ? engine_new(&p, threads, &err) : NULL;
  Profile *profile = e ? profile_new(&p, threads, &err) : NULL, *traced = e ? profile_new(&p, threads, &err) : NULL;
  if (!traced) return fail(err.text);
  int64_t *calls = NEW_ARRAY(a, int64_t, p.nsteps + 1), all = 0;
  int micro = program_list(&p, "micro");
  sites_count(&p, micro, 1, calls);
  for (int i = 0; i < p.nsteps; i++) all += calls[i];
  traced->trace = trace_new(&p, threads, 3, all, 4, &err);
  if (!traced->trace) return fail(err.text);
  init_params(e, 1);
  engine_set_scalar(e, "inv_count", 1.0 / 768);

  clockid_t clock = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  Profile *of[KINDS] = {NULL, profile, traced};
  double *ratio[KINDS] = {0}, *off = NEW_ARRAY(a, double, rounds);
  for (int k = 0; k < KINDS; k++) ratio[k] = NEW_ARRAY(a, double, rounds);
  int64_t wall = 0;
  engine_run(e, micro);
  for (int r = -2; r < rounds; r++) {
    double took[KINDS];
    for (int i = 0; i < KINDS; i++) {
      int k = (i + r + 2) % KINDS; /* each comes first as often */
      profile_step(of[k], r);
      engine_set_profile(e, of[k]);
      int64_t from = profile_now();
      double start = seconds(clock);
      engine_run(e, micro);
      took[k] = seconds(clock) - start;
      if (k == PROFILED && r >= -1) wall += profile_now() - from; /* a profile leaves its first step out */
    }
    for (int k = 0; k < KINDS && r >= 0; k++) ratio[k][r] = took[k] / took[OFF];
    if (r >= 0) off[r] = took[OFF];
  }
  int64_t told = 0;
  for (int i = 0; i < p.nsteps; i++)
    for (int t = 0; t < threads; t++) told += (profile->lane[t].step[i].busy + profile->lane[t].step[i].wait);
  printf("%s: %" PRId64 " calls in %.2f ms of %s time, %d thread%s, %d rounds\n", argv[1], all,
         1e3 * median(off, rounds), threads == 1 ? "CPU" : "wall", threads, threads == 1 ? "" : "s", rounds);
  printf("profiled %+.3f %%, traced %+.3f %%\n", 100 * (median(ratio[PROFILED], rounds) - 1),
         100 * (median(ratio[TRACED], rounds) - 1));
  printf("told by the lanes: %.2f %% of the wall time\n", 100 * (double)told / threads / (double)wall);
  enum { CALLS = 1000000 };
  double start = seconds(CLOCK_THREAD_CPUTIME_ID);
  for (int i = 0; i < CALLS; i++) profile_call(profile, 0, 0, 0, profile_from(profile));
  printf("noting a call takes %.0f ns\n", 1e9 * (seconds(CLOCK_THREAD_CPUTIME_ID) - start) / CALLS);
  engine_free(e);
  profile_free(profile), profile_free(traced);
  jit_free(jit);
  compile_free(&c);
  arena_free(a);
  return 0;
}
