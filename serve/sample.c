/* The choice of a token. See sample.h for what holds.
 *
 * Weights are w = exp((l - max) / temperature) in f32, 1 for the likeliest; sums of weights are in double. Who stays is
 * decided in the order (larger logit, smaller id): top_k counts along it, top_p adds weights along it.
 *
 * Which blocks may hold one that stays:
 *   top_k   the k-th largest of the blocks' own largest is a bound: at least k logits reach it.
 *   top_p   all below w = (1 - top_p) S / V weigh less than (1 - top_p) S together, so the nucleus ends before them.
 *   min_p   w = min_p itself.
 * Among the candidates that such a bound leaves, the last one that stays is found by radix, 11 bits of the logit at a time. */
#include "serve/sample.h"
#include "runtime/exact.h"
#include "runtime/random.h"
#include "text/memory.h"
#include <math.h>
#include <string.h>

enum {
  LANES = 16,   /* of a pass over a row */
  BLOCK = 64,   /* logits whose largest is kept */
  GROUP = 1024, /* logits whose sum of weights is kept */
  DIGIT = 11,   /* bits of a radix' digit: three of them for 32 */
  BINS = 1 << DIGIT
};
#define NEVER (-INFINITY)
#define COLDEST 1e-6f /* temperatures below choose the largest logit */

typedef struct RowPasses {
  bool (*largest)(const float *x, int blocks, float *largest);
  void (*weigh)(const float *x, int n, float max, float scale, float *w);
  void (*sums)(const float *x, int groups, float max, float scale, double *sum);
} RowPasses;

#define ROWS_WIDTH 4
#define ROWS_TARGET
#include "serve/sample_rows.h"
#if defined(__x86_64__)
#define ROWS_WIDTH 8
#define ROWS_TARGET __attribute__((target("avx2")))
#include "serve/sample_rows.h"
#define ROWS_WIDTH 16
#define ROWS_TARGET __attribute__((target("avx512f,avx512dq")))
#include "serve/sample_rows.h"
#endif

static const RowPasses *row_passes(void) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return &passes_16;
  if (__builtin_cpu_supports("avx2")) return &passes_8;
#endif
  return &passes_4;
}

typedef struct Candidate {
  uint32_t key; /* the logit's bits, turned so that they rise with it */
  int32_t id;
  float weight;
} Candidate;

struct Sampler {
  int vocab, blocks, groups;
  const RowPasses *pass;
  uint64_t stream;
  float *row;          /* logits with bias and penalties, [vocab] */
  int32_t *count;      /* of tokens in a history, [vocab]; zero between calls */
  float tail[GROUP];   /* what is behind the last whole group of a row, filled up with NEVER */
  float *largest;      /* [blocks] */
  double *sum;         /* [groups] */
  Candidate *c, *part; /* [vocab] */
};

/* A row as the passes read it: whole groups in place, the rest in the tail. */
typedef struct Row {
  const float *x, *tail;
  int whole; /* logits in whole groups */
  float max;
} Row;

Sampler *sampler_new(int vocab) {
  Sampler *s = memory_zeroed(1, sizeof(*s));
  s->vocab = vocab;
  s->groups = (vocab + GROUP - 1) / GROUP;
  s->blocks = s->groups * (GROUP / BLOCK);
  s->pass = row_passes();
  s->stream = random_stream("answer");
  s->row = memory_zeroed((size_t)vocab, sizeof(*s->row));
  s->count = memory_zeroed((size_t)vocab, sizeof(*s->count));
  s->largest = memory_zeroed((size_t)s->blocks, sizeof(*s->largest));
  s->sum = memory_zeroed((size_t)s->groups, sizeof(*s->sum));
  s->c = memory_zeroed((size_t)vocab, sizeof(*s->c));
  s->part = memory_zeroed((size_t)(vocab > s->blocks ? vocab : s->blocks), sizeof(*s->part));
  return s;
}

void sampler_free(Sampler *s) {
  if (!s) return;
  free(s->row);
  free(s->count);
  free(s->largest);
  free(s->sum);
  free(s->c);
  free(s->part);
  free(s);
}

bool sample_check(const SampleParams *p, int vocab, Report *err) {
  if (!(p->temperature >= 0 && p->temperature <= 1e6f)) return report_add(err, "temperature is below 0 or no number");
  if (p->top_k < 0) return report_add(err, "top_k is below 0");
  if (!(p->top_p >= 0 && p->top_p <= 1)) return report_add(err, "top_p is not between 0 and 1");
  if (!(p->min_p >= 0 && p->min_p <= 1)) return report_add(err, "min_p is not between 0 and 1");
  if (!(p->repetition > 0 && p->repetition <= 1e6f)) return report_add(err, "the repetition penalty is not above 0");
  if (!(fabsf(p->presence) <= 1e6f)) return report_add(err, "the presence penalty is no number");
  if (!(fabsf(p->frequency) <= 1e6f)) return report_add(err, "the frequency penalty is no number");
  for (int i = 0; i < p->nbias; i++) {
    if (p->bias[i].token < 0 || p->bias[i].token >= vocab)
      return report_add(err, "logit bias: there is no token %d", (int)p->bias[i].token);
    if (!(fabsf(p->bias[i].bias) <= 1e6f))
      return report_add(err, "logit bias: that of token %d is no number", (int)p->bias[i].token);
  }
  return true;
}

/* ---- rows */

static bool row_open(Sampler *s, const float *x, Row *r) {
  *r = (Row){.x = x, .tail = s->tail, .whole = s->vocab / GROUP * GROUP, .max = NEVER};
  int rest = s->vocab - r->whole, blocks = r->whole / BLOCK;
  memcpy(s->tail, x + r->whole, sizeof(float) * (size_t)rest);
  for (int i = rest; i < GROUP; i++) s->tail[i] = NEVER;
  if (!s->pass->largest(x, blocks, s->largest)) return false;
  if (rest && !s->pass->largest(s->tail, GROUP / BLOCK, s->largest + blocks)) return false;
  for (int b = 0; b < s->blocks; b++)
    if (s->largest[b] > r->max) r->max = s->largest[b];
  return r->max > NEVER && r->max < INFINITY;
}

static const float *row_block(const Row *r, int b) {
  int at = b * BLOCK;
  return at < r->whole ? r->x + at : r->tail + (at - r->whole);
}

/* Fills s->sum and returns the sum of it. */
static double row_weight(Sampler *s, const Row *r, float scale) {
  int whole = r->whole / GROUP;
  s->pass->sums(r->x, whole, r->max, scale, s->sum);
  if (whole < s->groups) s->pass->sums(r->tail, 1, r->max, scale, s->sum + whole);
  double all = 0;
  for (int g = 0; g < s->groups; g++) all += s->sum[g];
  return all;
}

static int32_t row_first_largest(const Sampler *s, const Row *r) {
  int b = 0, i = 0;
  while (s->largest[b] < r->max) b++;
  const float *x = row_block(r, b);
  while (x[i] < r->max) i++;
  return b * BLOCK + i;
}

/* ---- candidates */

static uint32_t key_of(float logit) {
  uint32_t bits;
  logit += 0.f; /* -0 and 0 are equal */
  memcpy(&bits, &logit, sizeof(bits));
  return bits >> 31 ? ~bits : bits | UINT32_C(1) << 31;
}

static float logit_of(uint32_t key) {
  uint32_t bits = key >> 31 ? key & ~(UINT32_C(1) << 31) : ~key;
  float logit;
  memcpy(&logit, &bits, sizeof(logit));
  return logit;
}

/* All tokens of logits from `least` on, by id, in s->c. */
static int gather(Sampler *s, const Row *r, float least, float scale) {
  int n = 0;
  float w[BLOCK];
  for (int b = 0; b < s->blocks; b++) {
    if (!(s->largest[b] >= least)) continue;
    const float *x = row_block(r, b);
    s->pass->weigh(x, BLOCK, r->max, scale, w);
    for (int i = 0; i < BLOCK; i++)
      if (x[i] >= least && x[i] > NEVER) s->c[n++] = (Candidate){key_of(x[i]), b * BLOCK + i, w[i]};
  }
  return n;
}

typedef struct Last {
  uint32_t key;
  int32_t id;
} Last;

/* In the order (larger logit, smaller id), the last of the first candidates whose weights (or, without `weighted`, whose number)
 * reach target. c is by id. */
static Last find_last(const Candidate *c, int n, Candidate *part, bool weighted, double target) {
  double before = 0; /* of those before the ones that are left */
  for (int shift = 2 * DIGIT; shift >= 0; shift -= DIGIT) {
    double bin[BINS] = {0};
    int in[BINS] = {0}, found = -1;
    for (int i = 0; i < n; i++) {
      int b = c[i].key >> shift & (BINS - 1);
      bin[b] += weighted ? (double)c[i].weight : 1;
      in[b]++;
    }
    for (int b = BINS - 1; b >= 0; b--) {
      if (!in[b]) continue;
      if (found >= 0) before += bin[found];
      found = b;
      if (before + bin[b] >= target) break;
    }
    int m = 0;
    for (int i = 0; i < n; i++)
      if ((int)(c[i].key >> shift & (BINS - 1)) == found) part[m++] = c[i];
    c = part;
    n = m;
  }
  int i = 0; /* all that are left are alike */
  while (i < n - 1 && (before += weighted ? (double)c[i].weight : 1) < target) i++;
  return (Last){c[i].key, c[i].id};
}

static int keep_to(Candidate *c, int n, Last last) {
  int m = 0;
  for (int i = 0; i < n; i++) { /* copied in any case: a branch that goes either way would cost more */
    c[m] = c[i];
    m += (c[i].key > last.key) | ((c[i].key == last.key) & (c[i].id <= last.id));
  }
  return m;
}

/* The k likeliest, by id, in s->c. */
static int gather_best(Sampler *s, const Row *r, int k, float scale) {
  float least = NEVER;
  if (k <= s->blocks && s->blocks <= s->vocab) {
    for (int b = 0; b < s->blocks; b++) s->c[b] = (Candidate){key_of(s->largest[b]), b, 0};
    least = logit_of(find_last(s->c, s->blocks, s->part, false, k).key);
  }
  int n = gather(s, r, least, scale);
  return n > k ? keep_to(s->c, n, find_last(s->c, n, s->part, false, k)) : n;
}

/* ---- log probabilities */

/* The likeliest, and log(sum of exp) of the row. */
static double describe(Sampler *s, const Row *r, int top, Sampled *out) {
  double log_sum = (double)r->max - exact_log(1 / row_weight(s, r, 1));
  out->ntop = 0;
  if (!top) return log_sum;
  int n = gather_best(s, r, top < SAMPLE_TOP ? top : SAMPLE_TOP, 1);
  for (int i = 0; i < n; i++) { /* by id they come; so an equal one goes behind */
    float logit = logit_of(s->c[i].key);
    int at = out->ntop++;
    for (; at && out->top[at - 1].logprob < logit; at--) out->top[at] = out->top[at - 1];
    out->top[at] = (SampleLogprob){s->c[i].id, logit};
  }
  for (int i = 0; i < n; i++) out->top[i].logprob = (float)((double)out->top[i].logprob - log_sum);
  return log_sum;
}

bool sample_known(Sampler *s, const float *logits, int32_t token, int top, Sampled *out) {
  Row r;
  out->token = token;
  out->logprob = NAN;
  out->ntop = 0;
  if (!row_open(s, logits, &r)) return false;
  if (top >= 0) out->logprob = (float)((double)logits[token] - describe(s, &r, top, out));
  return true;
}

/* ---- choices */

static bool changes(const SampleParams *p) {
  return p->nbias || p->repetition != 1 || p->presence != 0 || p->frequency != 0;
}

/* Logits with bias and penalties. */
static const float *change(Sampler *s, const float *logits, const SampleParams *p, const int32_t *history, int nprompt,
                           int n) {
  float *x = s->row;
  memcpy(x, logits, sizeof(float) * (size_t)s->vocab);
  for (int i = 0; i < p->nbias; i++) {
    if (p->bias[i].bias <= -100)
      x[p->bias[i].token] = NEVER;
    else
      x[p->bias[i].token] += p->bias[i].bias;
  }
  if (p->repetition != 1)
    for (int i = 0; i < n; i++) {
      int32_t t = history[i];
      if (s->count[t]++) continue;
      x[t] = x[t] > 0 ? x[t] / p->repetition : x[t] * p->repetition;
    }
  for (int i = 0; i < n; i++) s->count[history[i]] = 0;
  if (p->presence != 0 || p->frequency != 0) {
    for (int i = nprompt; i < n; i++) s->count[history[i]]++;
    for (int i = nprompt; i < n; i++) {
      int32_t t = history[i];
      if (s->count[t]) x[t] -= p->presence + p->frequency * (float)s->count[t];
      s->count[t] = 0;
    }
  }
  return x;
}

/* A draw from all tokens, whose weights are summed up in s->sum. */
static int32_t draw_any(Sampler *s, const Row *r, float scale, double left) {
  int g = 0;
  for (int k = 0; k < s->groups; k++) {
    if (!(s->sum[k] > 0)) continue;
    g = k; /* rounding may lead past the end: then the last one with weight */
    if (left < s->sum[k]) break;
    left -= s->sum[k];
  }
  int32_t last = -1;
  float w[BLOCK];
  for (int b = g * (GROUP / BLOCK); b < (g + 1) * (GROUP / BLOCK); b++) {
    s->pass->weigh(row_block(r, b), BLOCK, r->max, scale, w);
    for (int i = 0; i < BLOCK; i++) {
      if (!(w[i] > 0)) continue;
      last = b * BLOCK + i;
      if ((left -= (double)w[i]) < 0) return last;
    }
  }
  return last;
}

/* The weight of up to BLOCK candidates, in four chains, for one would be as slow as additions are. */
static double weight_of(const Candidate *c, int n) {
  double chain[4] = {0};
  int i = 0;
  for (; i + 4 <= n; i += 4)
    for (int k = 0; k < 4; k++) chain[k] += (double)c[i + k].weight;
  for (; i < n; i++) chain[0] += (double)c[i].weight;
  return chain[0] + chain[1] + (chain[2] + chain[3]);
}

static int block_end(int i, int n) {
  return i + BLOCK < n ? i + BLOCK : n;
}

static double weight_of_all(const Candidate *c, int n) {
  double all = 0;
  for (int i = 0; i < n; i += BLOCK) all += weight_of(c + i, block_end(i, n) - i);
  return all;
}

static int32_t draw(const Candidate *c, int n, double u) {
  double left = u * weight_of_all(c, n);
  int at =
      0; /* the first of the block that it falls into; rounding may lead past the end: then the last one with weight */
  for (int i = 0; i < n; i += BLOCK) {
    double block = weight_of(c + i, block_end(i, n) - i);
    if (!(block > 0)) continue;
    at = i;
    if (left < block) break;
    left -= block;
  }
  int32_t last = c[at].id;
  for (int i = at; i < block_end(at, n); i++) {
    if (!(c[i].weight > 0)) continue;
    last = c[i].id;
    if ((left -= (double)c[i].weight) < 0) break;
  }
  return last;
}

/* *kept: how many tokens the draw was between, in s->c; 0: it was between all, or none was made. */
static int32_t choose(Sampler *s, const Row *r, const SampleParams *p, int position, int *kept) {
  *kept = 0;
  if (p->temperature < COLDEST) return row_first_largest(s, r);
  float scale = 1 / p->temperature;
  double u = random_uniform(p->seed, s->stream, (uint64_t)position), all = 0;
  int n;
  if (p->top_k > 0 && p->top_k < s->vocab) {
    n = gather_best(s, r, p->top_k, scale);
    all = weight_of_all(s->c, n);
  } else if (p->top_p < 1 || p->min_p > 0) {
    double least = 0;
    if (p->top_p < 1) {
      all = row_weight(s, r, scale);
      least = (1 - (double)p->top_p) * all / s->vocab * 0.999; /* a little less, for `all` is rounded */
    }
    if (p->min_p > least) least = (double)p->min_p * 0.999;
    if (least > 1) least = 1; /* the likeliest stays */
    float bound = least < 1e-37 ? NEVER : (float)(r->max + exact_log(least) / scale);
    n = gather(s, r, bound - fabsf(bound) * 1e-6f, scale);
  } else {
    all = row_weight(s, r, scale);
    return draw_any(s, r, scale, u * all);
  }
  if (p->top_p < 1) n = keep_to(s->c, n, find_last(s->c, n, s->part, true, (double)p->top_p * all));
  if (p->min_p > 0) {
    int m = 0;
    for (int i = 0; i < n; i++)
      if (s->c[i].weight >= p->min_p) s->c[m++] = s->c[i];
    n = m;
  }
  *kept = n;
  return draw(s->c, n, u);
}

bool sample_next(Sampler *s, const float *logits, const SampleParams *p, const int32_t *history, int nprompt, int n,
                 int top, Sampled *out) {
  Row r;
  bool changed = changes(p);
  double log_sum = 0;
  out->token = -1;
  out->logprob = NAN;
  out->ntop = 0;
  if ((top >= 0 || !changed) && !row_open(s, logits, &r)) return false;
  if (top >= 0) log_sum = describe(s, &r, top, out);
  if (changed && !row_open(s, change(s, logits, p, history, nprompt, n), &r)) return false;
  int kept;
  out->token = choose(s, &r, p, n, &kept);
  if (top >= 0) out->logprob = (float)((double)logits[out->token] - log_sum);
  return true;
}
