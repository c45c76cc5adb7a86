/* What a step of a server costs beside its model: the choice of 32 tokens from 32 rows of 128,256 logits, and the batcher for 32 streams.
 *
 *   bench_serve [--quick]
 *
 * Microseconds of the thread's own time: the best and the median of the turns. Rows are of two kinds: `sharp`, as models that
 * know something give them, normal with a deviation of 2.5 and twenty tokens far above; `flat`, normal with a deviation of 1, the worst for
 * top_p. The first line is a plain read of the same rows. The model behind the batcher does nothing. */
#include "serve/batch.h"
#include "serve/sample.h"
#include "text/memory.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { VOCAB = 128256, ROWS = 32, STREAMS = 32, CONTEXT = 2048, TURNS = 200 };

static double thread_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void show(const char *name, double *us, int n) {
  qsort(us, (size_t)n, sizeof(*us), by_value);
  printf("%-44s %9.0f %9.0f\n", name, us[0], us[n / 2]);
}

static void fill(float *x, int sharp) {
  uint64_t seed = 1;
  for (int i = 0; i < ROWS * VOCAB; i++) {
    double u[2];
    for (int k = 0; k < 2; k++) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      u[k] = (double)(seed >> 11) * 0x1p-53;
    }
    double z = sqrt(-2 * log(1 - u[0])) * cos(6.283185307179586 * u[1]);
    x[i] = (float)(sharp ? 2.5 * z : z);
    if (sharp && i % VOCAB % 6007 == i / VOCAB) x[i] = (float)(14 + 2 * z);
  }
}

static void sampler(int turns) {
  static const struct {
    const char *name;
    SampleParams p;
    int top;
  } ways[] = {{"greedy", {.top_p = 1, .repetition = 1}, -1},
              {"greedy, 5 logprobs", {.top_p = 1, .repetition = 1}, 5},
              {"temperature 0.8", {.temperature = 0.8f, .top_p = 1, .repetition = 1}, -1},
              {"temperature 0.8, top_p 0.9", {.temperature = 0.8f, .top_p = 0.9f, .repetition = 1}, -1},
              {"temperature 0.8, top_k 50", {.temperature = 0.8f, .top_k = 50, .top_p = 1, .repetition = 1}, -1},
              {"temperature 0.8, min_p 0.05", {.temperature = 0.8f, .top_p = 1, .min_p = 0.05f, .repetition = 1}, -1},
              {"the same, repetition 1.1 over 1,000 tokens",
               {.temperature = 0.8f, .top_p = 1, .min_p = 0.05f, .repetition = 1.1f},
               -1}};
  float *x = memory_zeroed((size_t)ROWS * VOCAB, sizeof(*x));
  double *us = memory_zeroed((size_t)turns, sizeof(*us));
  int32_t history[1000];
  Sampler *s = sampler_new(VOCAB);
  Sampled one;
  for (int i = 0; i < 1000; i++) history[i] = i * 97 % VOCAB;
  for (int sharp = 1; sharp >= 0; sharp--) {
    printf("%d rows of %d logits, %s%*s best    median us\n", ROWS, VOCAB, sharp ? "sharp" : "flat ", 12, "");
    fill(x, sharp);
    volatile float sink = 0;
    for (int t = 0; t < turns; t++) {
      double start = thread_us();
      float lane[64] = {0};
      for (int i = 0; i < ROWS * VOCAB; i += 64)
        for (int k = 0; k < 64; k++) lane[k] += x[i + k];
      sink = lane[t % 64];
      us[t] = thread_us() - start;
    }
    (void)sink;
    show("a plain read", us, turns);
    for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
      SampleParams p = ways[w].p;
      for (int t = 0; t < turns; t++) {
        double start = thread_us();
        for (int r = 0; r < ROWS; r++) {
          p.seed = (uint64_t)(t * ROWS + r);
          if (!sample_next(s, x + r * VOCAB, &p, history, 500, 1000, ways[w].top, &one)) abort();
        }
        us[t] = thread_us() - start;
      }
      show(ways[w].name, us, turns);
    }
  }
  sampler_free(s);
  free(x);
  free(us);
}

/* ---- the batcher */

static bool run_nothing(ServeModel *m, Report *err) {
  return true;
}
static void copy_nothing(ServeModel *m, int from, int to, int tokens) {}
static void hear_nothing(void *ctx, const GenEvent *e) {}

static void batcher(int turns) {
  enum { V = 64, PROMPT = 200 };
  const int pages = STREAMS * CONTEXT / PAGE_TOKENS;
  ServeModel m = {
      .limits = {.vocab = V, .ctx = CONTEXT, .pages = pages, .tokens = 512, .seqs = STREAMS, .rows = STREAMS},
      .run = run_nothing,
      .copy_page = copy_nothing};
  ServeBatch *b = &m.batch;
  b->table_width = CONTEXT / PAGE_TOKENS;
  b->tokens = memory_zeroed(512, 4), b->positions = memory_zeroed(512, 4), b->slots = memory_zeroed(512, 4);
  b->starts = memory_zeroed(STREAMS + 1, 4), b->rows = memory_zeroed(STREAMS, 4);
  b->table = memory_zeroed((size_t)(STREAMS * b->table_width), 4);
  float *logits = memory_zeroed(STREAMS * V, sizeof(*logits));
  b->logits = logits;
  Report err = {0};
  Batcher *batcher = batcher_new(&m, &(BatchOptions){.max_queue = 100, .max_latency_ms = 50}, &err);
  int32_t prompt[PROMPT];
  for (int i = 0; i < STREAMS; i++) {
    for (int k = 0; k < PROMPT; k++) prompt[k] = (i * 31 + k * 7) % V;
    GenRequest r = {.prompt = prompt,
                    .nprompt = PROMPT,
                    .max_tokens = CONTEXT - PROMPT,
                    .top = -1,
                    .sample = {.top_p = 1, .repetition = 1},
                    .sink = hear_nothing};
    bool full;
    if (!batcher_submit(batcher, &r, &full, &err)) abort();
  }
  BatchStats stats;
  do {
    batcher_step(batcher);
    batcher_stats(batcher, &stats);
  } while (stats.generated_tokens < STREAMS * 10);
  double *us = memory_zeroed((size_t)turns, sizeof(*us));
  for (int t = 0; t < turns; t++) {
    double start = thread_us();
    batcher_step(batcher);
    us[t] = thread_us() - start;
  }
  printf("the batcher\n");
  show("a step of 32 streams, 64 logits each", us, turns);
  batcher_free(batcher);
  free(b->tokens), free(b->positions), free(b->slots), free(b->starts), free(b->rows), free(b->table);
  free(logits), free(us);
}

int main(int argc, char **argv) {
  int turns = argc > 1 && !strcmp(argv[1], "--quick") ? 5 : TURNS;
  batcher(turns * 5);
  sampler(turns);
}
