/* Contractions against the machine's limit: GFLOP/s and percent of an FMA loop in registers, measured in turns with it.
 *
 *   bench_contract [TARGET] [NAME]     one and two threads; NAME: only shapes whose name contains it
 *
 * Each figure is the best of several repetitions: what the machine can do when nothing else runs. */
#include "tests/unit/kernel_harness.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
  const char *name;
  int m, n, k;
} shapes[] = {{"768x768", 1024, 768, 768},    {"3072x768", 1024, 3072, 768},  {"768x3072", 1024, 768, 3072},
              {"50257x768", 256, 50257, 768}, {"3072x1024", 768, 3072, 1024}, {"512x128", 768, 512, 128}};
static const struct {
  const char *name, *rule, *a, *b;
} forms[] = {{"nt", "mk,nk->mn", "mk", "nk"}, {"nn", "mk,kn->mn", "mk", "kn"}, {"tn", "km,kn->mn", "km", "kn"}};

typedef struct Job {
  KernelFn fn;
  void **buf;
  void *scratch;
  int thread, threads;
  pthread_barrier_t *start;
  double seconds;
} Job;

static double seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *work(void *p) {
  Job *j = p;
  pthread_barrier_wait(j->start);
  double t = seconds(CLOCK_THREAD_CPUTIME_ID);
  j->fn(j->buf, NULL, j->thread, j->threads, j->scratch);
  j->seconds = seconds(CLOCK_THREAD_CPUTIME_ID) - t;
  return NULL;
}

/* The longest time that a thread spent: kernels wait for nothing, so what else runs on the machine is left out. */
static double once(KernelFn fn, void **buf, void **scratch, int threads) {
  pthread_t id[16];
  Job job[16];
  double most = 0;
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, (unsigned)threads);
  for (int i = 0; i < threads; i++) job[i] = (Job){fn, buf, scratch[i], i, threads, &start, 0};
  for (int i = 1; i < threads; i++) pthread_create(&id[i], NULL, work, &job[i]);
  work(&job[0]);
  for (int i = 1; i < threads; i++) pthread_join(id[i], NULL);
  for (int i = 0; i < threads; i++) most = job[i].seconds > most ? job[i].seconds : most;
  pthread_barrier_destroy(&start);
  return most;
}

static float *numbers(int64_t n) {
  float *x = aligned_alloc(64, (size_t)(n * 4 + 63) / 64 * 64);
  if (!x) abort();
  for (int64_t i = 0; i < n; i++) x[i] = (float)(i * 2654435761u % 1000) * 0.002f - 1;
  return x;
}

int main(int argc, char **argv) {
  const char *target = argc > 1 ? argv[1] : "cpu:native", *only = argc > 2 ? argv[2] : "";
  Text text = {0}, why = {0};
  text_add(&text, "module \"bench\"\n");
  for (int s = 0; s < LEN(shapes); s++)
    for (int f = 0; f < LEN(forms); f++) {
      int e[128] = {['m'] = shapes[s].m, ['n'] = shapes[s].n, ['k'] = shapes[s].k};
      const char *a = forms[f].a, *b = forms[f].b;
      text_add(&text, "region contract @n%s.%s(%%a: f32[%d, %d] data, %%b: f32[%d, %d] data) {\n", shapes[s].name,
               forms[f].name, e[(int)a[0]], e[(int)a[1]], e[(int)b[0]], e[(int)b[1]]);
      text_add(&text, "  %%1 = contract %%a, %%b {rule=\"%s\"} : f32[%d, %d]\n  return y=%%1\n}\n", forms[f].rule,
               shapes[s].m, shapes[s].n);
    }
  KernelSet set;
  double t0 = seconds(CLOCK_MONOTONIC);
  if (!kernels_build(&set, target, text.s, &why)) {
    fputs(why.s, stderr);
    return 1;
  }
  printf("%s: %d kernels built in %.2f s\n", target, set.module->ngraphs + 1, seconds(CLOCK_MONOTONIC) - t0);
  float *peak_buf = numbers(64);
  for (int i = 0; i < set.module->ngraphs; i++) {
    const Graph *g = set.module->graphs[i];
    if (!strstr(g->name, only)) continue;
    float *x[3];
    Type types[3] = {val_type(g, g->inputs[0].val), val_type(g, g->inputs[1].val), val_type(g, g->outputs[0].val)};
    for (int j = 0; j < 3; j++) x[j] = numbers(type_elements(types[j]));
    void *buf[3] = {x[0], x[1], x[2]}, *scratch[2], *pbuf[1] = {peak_buf};
    for (int j = 0; j < 2; j++) scratch[j] = numbers(set.lowered[i].scratch / 4 + 16);
    printf("%-16s", g->name);
    for (int threads = 1; threads <= 2; threads++) {
      double best = 1e9, peak = 1e9, spent = 0;
      for (int r = 0; r < 5 || (spent < 0.5 && r < 60); r++) {
        double p = once(set.peak, pbuf, scratch, threads), t = once(set.fn[i], buf, scratch, threads);
        best = t < best ? t : best, peak = p < peak ? p : peak, spent += t;
      }
      double f = set.lowered[i].flops / best, limit = set.peak_flops * threads / peak;
      printf("  %d: %7.1f GFLOP/s %5.1f%% of %.1f", threads, f * 1e-9, 100 * f / limit, limit * 1e-9);
      fflush(stdout);
    }
    printf("\n");
    for (int j = 0; j < 3; j++) free(x[j]);
    for (int j = 0; j < 2; j++) free(scratch[j]);
  }
  free(peak_buf);
  kernels_free(&set);
  text_free(&text);
  return 0;
}
