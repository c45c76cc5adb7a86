/* A made-up ServeModel for tests, which remembers (position, token) in each slot of its pages: the logits of a token are a hash of
 * what it reads through the page table, so any wrong page, slot, sharing or copy shows in them. A page whose first slot is written, or that
 * is copied to, loses all else that was in it. What a batch must be is asserted on the way.
 *
 * And what a request gives when it is alone: the same hash of its tokens, no pages, no batch. */
#ifndef SERVE_FAKE_H
#define SERVE_FAKE_H
#include "serve/batch.h"
#include "serve/sample.h"
#include "text/memory.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FAKE_SO(cond)                                                                                                  \
  do {                                                                                                                 \
    if (cond) break;                                                                                                   \
    fprintf(stderr, "%s:%d: the batch is wrong: %s\n", __FILE__, __LINE__, #cond);                                     \
    abort();                                                                                                           \
  } while (0)

enum { FAKE_POISON = -77 };

typedef struct Fake {
  ServeModel m; /* first: it is cast back */
  int32_t (*slot)[2];
  int32_t *user; /* of each page in a step: the sequence, -1: none */
  float *logits, *hidden;
  int runs, fail_at; /* fail_at: run number that fails; 0: none */
  int nan_token;     /* a sequence whose last token this is has logits of NaN; -1: none */
  int64_t tokens;    /* run in all */
  int copies, most_seqs;
  /* simulated time */
  double now, fixed_ms, decode_ms, prompt_ms, noise;
  uint64_t seed;
} Fake;

static uint64_t fake_mix(uint64_t h, uint64_t v) {
  h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
  return h ^ h >> 29;
}

static uint64_t fake_read(uint64_t h, int position, int32_t token) {
  return fake_mix(h, (uint64_t)(uint32_t)token << 32 | (uint32_t)position);
}

/* Logits between -4 and 4, many equal; every fifth history is certain of one token. */
static void fake_logits(uint64_t h, float *out, int vocab) {
  for (int v = 0; v < vocab; v++) out[v] = (float)((int)(fake_mix(h, (uint64_t)v) >> 40 & 63) - 32) * 0.125f;
  if (h % 5 == 0) out[h / 5 % (uint64_t)vocab] = 12;
}

static void fake_hidden(uint64_t h, float *out, int width) {
  for (int i = 0; i < width; i++) out[i] = (float)(fake_mix(h, (uint64_t)i + 1000) >> 48);
}

static bool fake_run(ServeModel *m, Report *err) {
  Fake *f = (Fake *)m;
  const ServeBatch *b = &m->batch;
  const ServeLimits *l = &m->limits;
  int decodes = 0;
  if (++f->runs == f->fail_at) return report_add(err, "the machine is on fire");
  FAKE_SO(b->n > 0 && b->n <= l->tokens && b->s > 0 && b->s <= l->seqs && b->r >= 0 && b->r <= l->rows);
  FAKE_SO(b->starts[0] == 0 && b->starts[b->s] == b->n);
  if (b->s > f->most_seqs) f->most_seqs = b->s;
  f->tokens += b->n;
  for (int i = 0; i < l->pages; i++) f->user[i] = -1;
  for (int s = 0; s < b->s; s++) {
    const int32_t *table = b->table + s * b->table_width;
    FAKE_SO(b->starts[s] < b->starts[s + 1]);
    decodes += b->starts[s + 1] - b->starts[s] == 1;
    for (int i = b->starts[s]; i < b->starts[s + 1]; i++) {
      int p = b->positions[i];
      FAKE_SO(p >= 0 && p < l->ctx && (i == b->starts[s] || p == b->positions[i - 1] + 1));
      int page = table[p / PAGE_TOKENS];
      FAKE_SO(page >= 0 && page < l->pages);
      FAKE_SO(b->slots[i] == page * PAGE_TOKENS + p % PAGE_TOKENS);
      FAKE_SO(b->tokens[i] >= 0 && b->tokens[i] < l->vocab);
      FAKE_SO(f->user[page] < 0 || f->user[page] == s); /* who writes a page has it alone */
      f->user[page] = s;
    }
  }
  for (int s = 0; s < b->s; s++)
    for (int j = 0; j <= b->positions[b->starts[s + 1] - 1] / PAGE_TOKENS; j++) {
      int user = f->user[b->table[s * b->table_width + j]];
      FAKE_SO(user < 0 || user == s);
    }
  for (int i = 0; i < b->n; i++) {
    if (b->slots[i] % PAGE_TOKENS == 0)
      for (int k = 0; k < PAGE_TOKENS; k++) f->slot[b->slots[i] + k][0] = f->slot[b->slots[i] + k][1] = FAKE_POISON;
    f->slot[b->slots[i]][0] = b->positions[i];
    f->slot[b->slots[i]][1] = b->tokens[i];
  }
  for (int r = 0, s = 0; r < b->r; r++) {
    FAKE_SO(b->rows[r] >= 0 && b->rows[r] < b->n && (!r || b->rows[r] > b->rows[r - 1]));
    while (b->rows[r] >= b->starts[s + 1]) s++;
    uint64_t h = 1;
    for (int p = 0; p <= b->positions[b->rows[r]]; p++) {
      const int32_t *slot = f->slot[b->table[s * b->table_width + p / PAGE_TOKENS] * PAGE_TOKENS + p % PAGE_TOKENS];
      h = fake_read(h, slot[0], slot[1]);
    }
    fake_logits(h, f->logits + r * l->vocab, l->vocab);
    if (b->tokens[b->rows[r]] == f->nan_token) f->logits[r * l->vocab + 1] = NAN;
    fake_hidden(h, f->hidden + r * l->hidden, l->hidden);
  }
  f->seed = fake_mix(f->seed, 1);
  double noise = 1 + f->noise * ((double)(f->seed >> 40) / (1 << 24) * 2 - 1);
  f->now += (f->fixed_ms + f->decode_ms * decodes + f->prompt_ms * (b->n - decodes)) * noise;
  return true;
}

static void fake_copy(ServeModel *m, int from, int to, int tokens) {
  Fake *f = (Fake *)m;
  FAKE_SO(from >= 0 && from < m->limits.pages && to >= 0 && to < m->limits.pages && from != to);
  FAKE_SO(tokens > 0 && tokens <= PAGE_TOKENS);
  for (int k = 0; k < PAGE_TOKENS; k++)
    f->slot[to * PAGE_TOKENS + k][0] = f->slot[to * PAGE_TOKENS + k][1] = FAKE_POISON;
  memcpy(f->slot + to * PAGE_TOKENS, f->slot + from * PAGE_TOKENS, sizeof(*f->slot) * (size_t)tokens);
  f->copies++;
}

static inline double fake_clock(void *ctx) {
  return ((Fake *)ctx)->now;
}

static void fake_free(ServeModel *m) {
  Fake *f = (Fake *)m;
  ServeBatch *b = &m->batch;
  free(b->tokens), free(b->positions), free(b->slots), free(b->starts), free(b->table), free(b->rows);
  free(f->slot), free(f->user), free(f->logits), free(f->hidden);
  free(f);
}

static Fake *fake_new(ServeLimits l) {
  Fake *f = memory_zeroed(1, sizeof(*f));
  ServeBatch *b = &f->m.batch;
  f->m.limits = l;
  f->m.run = fake_run;
  f->m.copy_page = fake_copy;
  f->m.free = fake_free;
  f->nan_token = -1;
  b->tokens = memory_zeroed((size_t)l.tokens, 4);
  b->positions = memory_zeroed((size_t)l.tokens, 4);
  b->slots = memory_zeroed((size_t)l.tokens, 4);
  b->starts = memory_zeroed((size_t)l.seqs + 1, 4);
  b->table_width = (l.ctx + PAGE_TOKENS - 1) / PAGE_TOKENS;
  b->table = memory_zeroed((size_t)(l.seqs * b->table_width), 4);
  b->rows = memory_zeroed((size_t)l.rows, 4);
  f->slot = memory_zeroed((size_t)(l.pages * PAGE_TOKENS), sizeof(*f->slot));
  for (int i = 0; i < l.pages * PAGE_TOKENS; i++) f->slot[i][0] = f->slot[i][1] = FAKE_POISON;
  f->user = memory_zeroed((size_t)l.pages, 4);
  b->logits = f->logits = memory_zeroed((size_t)(l.rows * l.vocab), sizeof(float));
  b->hidden = f->hidden = memory_zeroed((size_t)(l.rows * l.hidden), sizeof(float));
  return f;
}

/* ---- what comes out of a request */

typedef struct FakeAnswer {
  uint64_t events;  /* hash of all before DONE: kinds, tokens, logprobs, alternatives, hidden rows */
  uint64_t at[512]; /* the hash behind each event */
  int nevents;
  int32_t token[512]; /* the answer */
  int n, told;        /* told: prompt tokens */
  int done, cached;
  GenFinish finish;
  double first, last, worst; /* times: of the first token, the last, the longest between two */
  const Fake *clock;
} FakeAnswer;

static uint64_t fake_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof(u));
  return x != x ? 1 : u;
}

static void fake_hear(FakeAnswer *a, const GenEvent *e, int hidden) {
  FAKE_SO(!a->done);
  if (e->kind == GEN_DONE) {
    a->done = 1;
    a->finish = e->finish;
    a->cached = e->cached;
    return;
  }
  uint64_t h = fake_mix(a->events, (uint64_t)e->kind);
  h = fake_mix(fake_mix(h, (uint64_t)e->token), fake_bits(e->logprob));
  for (int i = 0; i < e->ntop; i++) h = fake_mix(fake_mix(h, (uint64_t)e->top[i].token), fake_bits(e->top[i].logprob));
  if (e->kind == GEN_HIDDEN)
    for (int i = 0; i < hidden; i++) h = fake_mix(h, fake_bits(e->hidden[i]));
  a->events = h;
  if (a->nevents < 512) a->at[a->nevents] = h;
  a->nevents++;
  if (e->kind == GEN_PROMPT) a->told++;
  if (e->kind != GEN_TOKEN) return;
  if (a->n < 512) a->token[a->n] = e->token;
  if (a->clock) {
    double now = a->clock->now;
    if (!a->n) a->first = now;
    if (a->n && now - a->last > a->worst) a->worst = now - a->last;
    a->last = now;
  }
  a->n++;
}

/* Alone, without a batcher. */
static void fake_alone(const GenRequest *r, const ServeLimits *l, FakeAnswer *a) {
  Sampler *s = sampler_new(l->vocab);
  float *logits = memory_zeroed((size_t)l->vocab, sizeof(float)),
        *hidden = memory_zeroed((size_t)l->hidden, sizeof(float));
  int32_t *tokens = memory_zeroed((size_t)(r->nprompt + r->max_tokens), sizeof(*tokens));
  memcpy(tokens, r->prompt, sizeof(*tokens) * (size_t)r->nprompt);
  memset(a, 0, sizeof(*a));
  GenFinish finish = GEN_LENGTH;
  uint64_t h = 1;
  Sampled one;
  if (r->echo) fake_hear(a, &(GenEvent){.kind = GEN_PROMPT, .token = tokens[0], .logprob = NAN}, l->hidden);
  for (int n = 1; n <= r->nprompt + r->max_tokens; n++) {
    h = fake_read(h, n - 1, tokens[n - 1]);
    fake_logits(h, logits, l->vocab);
    if (n < r->nprompt && r->echo && r->top < 0)
      fake_hear(a, &(GenEvent){.kind = GEN_PROMPT, .token = tokens[n], .logprob = NAN}, l->hidden);
    if (n < r->nprompt && r->echo && r->top >= 0) {
      FAKE_SO(sample_known(s, logits, tokens[n], r->top, &one));
      fake_hear(a, &(GenEvent){GEN_PROMPT, one.token, one.logprob, one.top, one.ntop}, l->hidden);
    }
    if (n == r->nprompt && r->hidden) {
      fake_hidden(h, hidden, l->hidden);
      fake_hear(a, &(GenEvent){.kind = GEN_HIDDEN, .hidden = hidden}, l->hidden);
    }
    if (n < r->nprompt || n == r->nprompt + r->max_tokens) continue;
    FAKE_SO(sample_next(s, logits, &r->sample, tokens, r->nprompt, n, r->top, &one));
    for (int i = 0; i < r->nstop; i++)
      if (r->stop[i] == one.token) finish = GEN_STOP;
    if (finish == GEN_STOP) break;
    tokens[n] = one.token;
    fake_hear(a, &(GenEvent){GEN_TOKEN, one.token, one.logprob, one.top, one.ntop}, l->hidden);
  }
  fake_hear(a, &(GenEvent){.kind = GEN_DONE, .finish = finish}, l->hidden);
  free(logits), free(hidden), free(tokens);
  sampler_free(s);
}

static const SampleParams fake_greedy = {.top_p = 1, .repetition = 1};
#endif
