/* The choice of a token: sets against a plain sort, draws against their distribution, logprobs against double, and the same bits
 * at every vector width. The source is included, for the sets and the passes over rows are its own. */
#include "ink/base.h"
#include "serve/sample.c"
#include "tests/unit/runtime_criterion.h"

static uint64_t seed = 1;

static int rnd(int below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int)((seed >> 33) % (uint64_t)below);
}

static double uniform(void) {
  return rnd(1 << 30) / (double)(1 << 30);
}

enum { NORMAL, PEAKED, TIES, HOLES, FLAT, KINDS };

static void fill(float *x, int n, int kind) {
  for (int i = 0; i < n; i++) {
    double z = sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
    x[i] = (float)(kind == PEAKED ? 3 * z - 20 : z);
    if (kind == TIES) x[i] = rnd(2) ? (float)rnd(9) - 4 : -0.f; /* 0 and -0 are a tie, too */
    if (kind == HOLES && i && rnd(2)) x[i] = NEVER;
    if (kind == FLAT) x[i] = -0.25f;
  }
}

static const int sizes[] = {1, 2, 3, 50, 63, 64, 65, 1000, 1024, 1025, 3000, 20000};
static const SampleParams plain = {.top_p = 1, .repetition = 1, .temperature = 1};

Test(sample, passes_have_the_same_bits) {
  enum { N = 5 * GROUP };
  const RowPasses *others[] = {
    &passes_4,
    row_passes(),
#if defined(__x86_64__)
    __builtin_cpu_supports("avx2") ? &passes_8 : &passes_4
#endif
  };
  static float x[N], w[2][N], largest[2][N / BLOCK];
  static double sum[2][N / GROUP];
  for (int kind = 0; kind < KINDS; kind++) {
    fill(x, N, kind);
    for (int k = 1; k < LEN(others); k++) {
      float max = 4;
      for (int j = 0; j < 2; j++) {
        const RowPasses *p = others[j ? k : 0];
        cr_assert(p->largest(x, N / BLOCK, largest[j]));
        p->weigh(x, N, max, 3.7f, w[j]);
        p->sums(x, N / GROUP, max, 3.7f, sum[j]);
      }
      cr_assert(zero(int, memcmp(largest[0], largest[1], sizeof(largest[0]))));
      cr_assert(zero(int, memcmp(w[0], w[1], sizeof(w[0]))));
      cr_assert(zero(int, memcmp(sum[0], sum[1], sizeof(sum[0]))));
    }
    for (int i = 0; i < N; i++) {
      double t = (double)((x[i] - 4.f) * 3.7f), want = t > -87 ? exp(t) : 0;
      cr_assert(le(dbl, fabs((double)w[0][i] - want), 3e-7 * want), "exp(%g) = %g", t, (double)w[0][i]);
      cr_assert(le(flt, x[i], largest[0][i / BLOCK]));
    }
  }
}

/* ---- a plain sort */

typedef struct Ranked {
  double logit;
  int id;
} Ranked;

static int by_rank(const void *a, const void *b) {
  const Ranked *x = a, *y = b;
  return x->logit > y->logit ? -1 : x->logit < y->logit ? 1 : x->id - y->id;
}

static int ranked(const float *x, int n, Ranked *r) {
  int m = 0;
  for (int i = 0; i < n; i++)
    if (x[i] > NEVER) r[m++] = (Ranked){(double)x[i], i};
  qsort(r, (size_t)m, sizeof(*r), by_rank);
  return m;
}

Test(sample, logprobs) {
  Sampled got;
  for (int size = 0; size < LEN(sizes); size++)
    for (int kind = 0; kind < KINDS; kind++) {
      int n = sizes[size], top = rnd(SAMPLE_TOP + 1);
      float *x = memory_zeroed((size_t)n, sizeof(*x));
      Ranked *r = memory_zeroed((size_t)n, sizeof(*r));
      Sampler *s = sampler_new(n);
      fill(x, n, kind);
      int m = ranked(x, n, r);
      double sum = 0;
      for (int i = 0; i < m; i++) sum += exp(r[i].logit - r[0].logit);
      double log_sum = r[0].logit + log(sum);
      int32_t token = rnd(n);
      cr_assert(sample_known(s, x, token, top, &got));
      if (x[token] > NEVER)
        cr_assert(le(dbl, fabs((double)got.logprob - ((double)x[token] - log_sum)), 1e-5));
      else
        cr_assert(eq(flt, got.logprob, NEVER));
      cr_assert(eq(int, got.ntop, top < m ? top : m));
      for (int i = 0; i < got.ntop; i++) {
        cr_assert(eq(int, got.top[i].token, r[i].id));
        cr_assert(le(dbl, fabs((double)got.top[i].logprob - (r[i].logit - log_sum)), 1e-5));
      }
      SampleParams p = plain;
      cr_assert(sample_next(s, x, &p, &token, 1, 1, top, &got));
      cr_assert(le(dbl, fabs((double)got.logprob - ((double)x[got.token] - log_sum)), 1e-5));
      p.temperature = 0; /* the same logprobs: they are the model's */
      cr_assert(sample_next(s, x, &p, &token, 1, 1, top, &got));
      cr_assert(eq(int, got.token, r[0].id));
      cr_assert(le(dbl, fabs((double)got.logprob - (r[0].logit - log_sum)), 1e-5));
      sampler_free(s);
      free(x);
      free(r);
    }
}

/* Which tokens a draw is between: choose() leaves them, by id, in s->c. They are the first of the sorted ones; how many is
 * exact but where the sum of a nucleus comes within rounding of its bound. */
static void check_set(int n, int kind, const SampleParams *p) {
  float *x = memory_zeroed((size_t)n, sizeof(*x));
  double *w = memory_zeroed((size_t)n, sizeof(*w));
  Ranked *r = memory_zeroed((size_t)n, sizeof(*r));
  char *in = memory_zeroed((size_t)n, 1);
  Sampler *s = sampler_new(n);
  fill(x, n, kind);
  int m = ranked(x, n, r), least, most;
  double all = 0, sum = 0;
  if (p->top_k && m > p->top_k) m = p->top_k;
  for (int i = 0; i < m; i++) all += w[i] = exp((r[i].logit - r[0].logit) / (double)p->temperature);
  least = most = m;
  if (p->top_p < 1) {
    for (least = 0; least < m && sum < (double)p->top_p * all - 1e-6 * all;) sum += w[least++];
    for (most = least; most < m && sum < (double)p->top_p * all + 1e-6 * all;) sum += w[most++];
    if (!least) least = 1;
    if (!most) most = 1;
  }
  if (p->min_p > 0) {
    while (least && w[least - 1] < (double)p->min_p * (1 + 1e-5)) least--;
    while (most && w[most - 1] < (double)p->min_p * (1 - 1e-5)) most--;
    if (!least) least = 1;
  }
  Row row;
  cr_assert(row_open(s, x, &row));
  int kept = 0, which = choose(s, &row, p, 1, &kept);
  cr_assert(which >= 0 && which < n);
  cr_assert(le(int, least, kept), "%d of %d kept, want %d to %d", kept, n, least, most);
  cr_assert(le(int, kept, most), "%d of %d kept, want %d to %d", kept, n, least, most);
  for (int i = 0; i < kept; i++) in[r[i].id] = 1;
  for (int i = 0; i < kept; i++) {
    cr_assert(in[s->c[i].id], "token %d of logit %g is kept, the last one is %g", (int)s->c[i].id,
              (double)x[s->c[i].id], r[kept - 1].logit);
    if (i) cr_assert(lt(int, s->c[i - 1].id, s->c[i].id));
  }
  cr_assert(in[which]);
  sampler_free(s);
  free(x);
  free(w);
  free(r);
  free(in);
}

Test(sample, sets) {
  for (int round = 0; round < 15; round++)
    for (int size = 0; size < LEN(sizes); size++)
      for (int kind = 0; kind < KINDS; kind++) {
        int filters = 1 + rnd(7);
        SampleParams p = plain;
        p.temperature = (float[]){0.3f, 0.7f, 1, 2, 5}[rnd(5)];
        p.seed = (uint64_t)round;
        if (filters & 1) p.top_k = (int[]){1, 2, 5, 20, 100, 1000}[rnd(6)];
        if (filters & 2) p.top_p = (float[]){0, 0.01f, 0.5f, 0.9f, 0.95f, 0.999f}[rnd(6)];
        if (filters & 4) p.min_p = (float[]){1e-6f, 0.01f, 0.1f, 0.5f, 1}[rnd(5)];
        if ((!p.top_k || p.top_k >= sizes[size]) && p.top_p == 1 && p.min_p == 0) continue; /* all tokens */
        check_set(sizes[size], kind, &p);
      }
}

/* Chi-square of many draws, each at a position of its own; tokens expected less than eight times count as one. */
static void check_draws(int n, int kind, const SampleParams *p) {
  const int draws = n < 200 ? 20000 : 4000;
  float *x = memory_zeroed((size_t)n, sizeof(*x));
  double *want = memory_zeroed((size_t)n, sizeof(*want));
  int *got = memory_zeroed((size_t)n, sizeof(*got));
  Ranked *r = memory_zeroed((size_t)n, sizeof(*r));
  int32_t history[1] = {0};
  Sampled one;
  Sampler *s = sampler_new(n);
  fill(x, n, kind);
  int m = ranked(x, n, r);
  double all = 0, sum = 0, nucleus = 0;
  if (p->top_k && m > p->top_k) m = p->top_k;
  for (int i = 0; i < m; i++) all += exp((r[i].logit - r[0].logit) / (double)p->temperature);
  for (int i = 0; i < m && (!i || nucleus < (double)p->top_p * all); i++) {
    double w = exp((r[i].logit - r[0].logit) / (double)p->temperature);
    nucleus += w;
    if (w >= (double)p->min_p) sum += want[r[i].id] = w;
  }
  Row row;
  cr_assert(row_open(s, x, &row));
  for (int k = 0; k < draws; k++) {
    int kept;
    int32_t t = choose(s, &row, p, k, &kept);
    cr_assert(want[t] > 0);
    got[t]++;
    if (k % 100) continue;
    cr_assert(sample_next(s, x, p, history, 1, 1, -1, &one)); /* keyed by the position alone */
    if (!k) history[0] = one.token;
    cr_assert(eq(int, one.token, history[0]));
  }
  double chi = 0, rest = 0;
  int cells = 0, others = 0;
  for (int i = 0; i < n; i++) {
    double e = want[i] / sum * draws;
    if (e < 8) {
      rest += e;
      others += got[i];
      continue;
    }
    chi += (got[i] - e) * (got[i] - e) / e;
    cells++;
  }
  if (rest >= 8) chi += (others - rest) * (others - rest) / rest, cells++;
  double limit = cells - 1 + 4 * sqrt(2.0 * (cells > 1 ? cells - 1 : 1)) + 8; /* one in ten thousand is above */
  cr_assert(lt(dbl, chi, limit), "%d tokens, kind %d: chi-square %g of %d cells", n, kind, chi, cells);
  sampler_free(s);
  free(x);
  free(want);
  free(got);
  free(r);
}

Test(sample, draws) {
  static const int of[] = {2, 7, 100, 1500};
  for (int size = 0; size < LEN(of); size++)
    for (int kind = 0; kind < KINDS; kind++)
      for (int filters = 0; filters < 4; filters++) {
        SampleParams p = plain;
        p.seed = (uint64_t)(size * 100 + kind);
        p.temperature = kind == NORMAL ? 0.8f : 1.3f;
        if (filters == 1) p.top_k = 40;
        if (filters == 2) p.top_p = 0.85f;
        if (filters == 3) p.min_p = 0.05f;
        check_draws(of[size], kind, &p);
      }
}

Test(sample, seeds_and_positions) {
  enum { N = 1000 };
  float x[N];
  Sampled one;
  int32_t history[300] = {0};
  fill(x, N, NORMAL);
  Sampler *s = sampler_new(N), *other = sampler_new(N);
  int same_seed = 0, same_position = 0;
  for (int n = 1; n < 300; n++) {
    SampleParams p = plain;
    p.seed = 5;
    cr_assert(sample_next(s, x, &p, history, 1, n, -1, &one));
    int32_t t = one.token;
    cr_assert(sample_next(other, x, &p, history, 1, n, 3, &one));
    cr_assert(eq(int, one.token, t));
    p.seed = 6;
    cr_assert(sample_next(s, x, &p, history, 1, n, -1, &one));
    same_seed += one.token == t;
    p.seed = 5;
    cr_assert(sample_next(s, x, &p, history, 1, n + 1, -1, &one));
    same_position += one.token == t;
  }
  cr_assert(lt(int, same_seed, 20));
  cr_assert(lt(int, same_position, 20));
  sampler_free(s);
  sampler_free(other);
}

/* Tokens and logprobs of a fixed row with fixed seeds, on whatever machine. */
Test(sample, the_same_everywhere) {
  enum { N = 3000 };
  static float x[N];
  uint64_t h = 0;
  for (int i = 0; i < N; i++) x[i] = (float)((uint64_t)i * 2654435761u % 4096) * 0x1p-8f - 8;
  Sampler *s = sampler_new(N);
  for (int n = 1; n < 200; n++) {
    int32_t history[200] = {0};
    Sampled one;
    uint32_t bits;
    SampleParams p = {
        .temperature = 0.25f + (float)n * 0x1p-6f, .top_p = n % 3 ? 1 : 0.75f, .repetition = 1.25f, .seed = 9};
    if (n % 5 == 1) p.top_k = n;
    if (n % 7 == 1) p.min_p = 0.125f;
    cr_assert(sample_next(s, x, &p, history, 1, n, 2, &one));
    memcpy(&bits, &one.logprob, sizeof(bits));
    h = (h ^ (uint64_t)one.token << 32 ^ bits) * UINT64_C(0x9E3779B97F4A7C15);
  }
  cr_assert(eq(u64, h, UINT64_C(0x3400c9d5e17a4890)), "%llx", (unsigned long long)h);
  sampler_free(s);
}

Test(sample, bias_and_penalties) {
  enum { N = 100 };
  float x[N], want[N];
  int32_t history[60];
  Sampler *s = sampler_new(N);
  for (int round = 0; round < 500; round++) {
    SampleBias bias[3] = {{rnd(50), 2.5f}, {50 + rnd(25), -100}, {75 + rnd(25), -3}};
    SampleParams p = {.top_p = 1, .repetition = 1, .bias = bias, .nbias = rnd(4)};
    int nprompt = 1 + rnd(30), n = nprompt + rnd(30);
    if (rnd(2)) p.repetition = rnd(2) ? 1.5f : 0.5f;
    if (rnd(2)) p.presence = 0.75f;
    if (rnd(2)) p.frequency = rnd(2) ? 0.5f : -0.5f;
    for (int i = 0; i < n; i++) history[i] = rnd(20);
    fill(x, N, rnd(2) ? NORMAL : HOLES);
    memcpy(want, x, sizeof(x));
    for (int i = 0; i < p.nbias; i++)
      want[bias[i].token] = bias[i].bias <= -100 ? NEVER : want[bias[i].token] + bias[i].bias;
    for (int t = 0; t < N; t++) {
      int all = 0, answer = 0;
      for (int i = 0; i < n; i++) all += history[i] == t, answer += i >= nprompt && history[i] == t;
      if (all && p.repetition != 1) want[t] = want[t] > 0 ? want[t] / p.repetition : want[t] * p.repetition;
      if (answer) want[t] -= p.presence + p.frequency * (float)answer;
    }
    cr_assert(zero(int, memcmp(change(s, x, &p, history, nprompt, n), want, sizeof(want))));
    Ranked r[N];
    Sampled one;
    ranked(want, N, r);
    cr_assert(sample_next(s, x, &p, history, nprompt, n, -1, &one));
    cr_assert(eq(int, one.token, r[0].id));
  }
  for (int t = 0; t < N; t++) cr_assert(zero(int, s->count[t]));
  sampler_free(s);
}

Test(sample, what_cannot_be_chosen_from) {
  enum { N = 1100 };
  static float x[N];
  int32_t history[1] = {0};
  Sampled one;
  Sampler *s = sampler_new(N);
  for (int kind = 0; kind < 3; kind++)
    for (int at = 0; at < N; at += 57) {
      for (int i = 0; i < N; i++) x[i] = kind ? -1 : NEVER;
      x[at] = kind == 1 ? NAN : kind == 2 ? INFINITY : NEVER;
      SampleParams p = plain;
      cr_assert(not(sample_next(s, x, &p, history, 1, 1, -1, &one)));
      p.temperature = 0;
      cr_assert(not(sample_next(s, x, &p, history, 1, 1, 2, &one)));
      cr_assert(not(sample_known(s, x, 0, -1, &one)));
      if (kind) continue;
      x[at] = -3; /* a single one */
      for (int i = 0; i < 8; i++) {
        p.temperature = i & 1 ? 1 : 0;
        p.top_p = i & 2 ? 0.5f : 1;
        p.min_p = i & 4 ? 0.5f : 0;
        cr_assert(sample_next(s, x, &p, history, 1, 1, 2, &one));
        cr_assert(one.token == at && one.logprob == 0 && one.ntop == 1);
      }
    }
  sampler_free(s);
}

Test(sample, params_are_checked) {
  Report err = {0};
  SampleBias far = {100, 0}, odd = {1, NAN};
  const SampleParams bad[] = {{.temperature = -1, .top_p = 1, .repetition = 1},
                              {.temperature = NAN, .top_p = 1, .repetition = 1},
                              {.top_k = -1, .top_p = 1, .repetition = 1},
                              {.top_p = 1.5f, .repetition = 1},
                              {.top_p = -0.5f, .repetition = 1},
                              {.top_p = 1, .min_p = 2, .repetition = 1},
                              {.top_p = 1, .repetition = 0},
                              {.top_p = 1, .repetition = 1, .presence = INFINITY},
                              {.top_p = 1, .repetition = 1, .frequency = NAN},
                              {.top_p = 1, .repetition = 1, .bias = &far, .nbias = 1},
                              {.top_p = 1, .repetition = 1, .bias = &odd, .nbias = 1}};
  for (int i = 0; i < LEN(bad); i++) {
    cr_assert(not(sample_check(&bad[i], 100, &err)));
    cr_assert(eq(int, err.lines, i + 1));
  }
  cr_assert(sample_check(&plain, 100, &err));
  report_free(&err);
}
