/* The batcher: whatever runs beside a sequence, however its chunks and pages fall, it gets what it gets alone; and what the rules of
 * serve/schedule.h promise of pages, fairness and time. */
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/serve_fake.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static uint64_t seed = 1;

static int rnd(int below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int)((seed >> 33) % (uint64_t)below);
}

static const ServeLimits small = {
    .vocab = 50, .hidden = 3, .ctx = 256, .pages = 64, .tokens = 128, .seqs = 8, .rows = 32};

typedef struct Ask {
  GenRequest r;
  int32_t prompt[4096];
  FakeAnswer got;
  int hidden;
  uint64_t id;
  bool cancelled;
} Ask;

static void on_event(void *ctx, const GenEvent *e) {
  Ask *a = ctx;
  fake_hear(&a->got, e, a->hidden);
}

static Ask *ask_new(int nprompt, int max_tokens) {
  Ask *a = memory_zeroed(1, sizeof(*a));
  a->hidden = small.hidden;
  for (int i = 0; i < nprompt; i++) a->prompt[i] = rnd(50);
  a->r = (GenRequest){.prompt = a->prompt,
                      .nprompt = nprompt,
                      .max_tokens = max_tokens,
                      .sample = fake_greedy,
                      .top = -1,
                      .sink = on_event,
                      .ctx = a};
  return a;
}

static void submit(Batcher *b, Ask *a) {
  bool full;
  Report err = {0};
  a->id = batcher_submit(b, &a->r, &full, &err);
  cr_assert(a->id != 0, "%s", err.text ? err.text : "full");
}

static void run_out(Batcher *b) {
  int steps = 0;
  while (batcher_step(b)) cr_assert(lt(int, steps++, 200000), "it does not end");
}

static void as_alone(const Ask *a, const ServeLimits *l) {
  FakeAnswer alone;
  fake_alone(&a->r, l, &alone);
  cr_assert(a->got.done);
  if (a->got.finish == GEN_CANCELLED) {
    cr_assert(a->cancelled);
    cr_assert(le(int, a->got.nevents, alone.nevents));
    if (a->got.nevents) cr_assert(eq(u64, a->got.events, alone.at[a->got.nevents - 1]));
    return;
  }
  cr_assert(eq(int, a->got.finish, alone.finish));
  cr_assert(eq(int, a->got.nevents, alone.nevents));
  cr_assert(eq(u64, a->got.events, alone.events), "sequence %d differs", (int)a->id);
}

static Batcher *batcher(Fake *f, BatchOptions o) {
  Report err = {0};
  if (!o.max_queue) o.max_queue = 10000;
  o.clock = fake_clock;
  o.clock_ctx = f;
  Batcher *b = batcher_new(&f->m, &o, &err);
  cr_assert(b != NULL);
  return b;
}

/* Nothing runs, nothing waits, no page is held. */
static void empty(const Batcher *b) {
  BatchStats s;
  batcher_stats(b, &s);
  cr_assert(s.running == 0 && s.waiting == 0);
  cr_assert(s.cache_use == 0);
}

Test(batch, one) {
  Fake *f = fake_new(small);
  Batcher *b = batcher(f, (BatchOptions){0});
  Ask *a = ask_new(150, 80);
  a->r.top = 3;
  a->r.echo = a->r.hidden = true;
  submit(b, a);
  cr_assert(eq(int, a->got.nevents, 0));
  run_out(b);
  as_alone(a, &small);
  cr_assert(eq(int, a->got.n, 80));
  cr_assert(eq(int, a->got.told, 150));
  cr_assert(eq(int, a->got.cached, 0));
  empty(b);
  cr_assert(not(batcher_step(b)));
  batcher_free(b);
  f->m.free(&f->m);
  free(a);
}

/* ---- anything beside anything */

static void random_request(Ask *a, const int32_t *base, int max_ctx) {
  static const int32_t stops[2] = {7, 33};
  static const SampleBias bias[2] = {{5, 3}, {9, -100}};
  GenRequest *r = &a->r;
  int same = rnd(3) ? rnd(200) : 0, n = 1 + same + rnd(rnd(4) ? 20 : 100);
  if (n > max_ctx - 1) n = max_ctx - 1;
  for (int i = 0; i < n; i++) a->prompt[i] = i < same ? base[i] : rnd(50);
  r->nprompt = n;
  r->max_tokens = rnd(max_ctx - n + 1);
  if (rnd(3)) r->max_tokens = r->max_tokens % 20;
  if (rnd(2)) r->sample.temperature = 1, r->sample.seed = (uint64_t)rnd(1000);
  if (!rnd(3)) r->sample.top_k = 1 + rnd(10);
  if (!rnd(3)) r->sample.top_p = 0.8f;
  if (!rnd(5)) r->sample.min_p = 0.1f;
  if (!rnd(4)) r->sample.repetition = 1.3f, r->sample.presence = 0.5f, r->sample.frequency = 0.25f;
  if (!rnd(5)) r->sample.bias = bias, r->sample.nbias = 2;
  if (!rnd(2)) r->top = rnd(4);
  r->echo = !rnd(4);
  r->hidden = !rnd(4);
  if (rnd(2)) r->stop = stops, r->nstop = 2;
}

static void random_workload(int number) {
  seed = (uint64_t)number * 7919 + 1;
  ServeLimits l = small;
  l.pages = 4 + rnd(rnd(2) ? 8 : 40);
  l.tokens = 1 + rnd(rnd(2) ? 16 : 200);
  l.seqs = 1 + rnd(10);
  l.rows = 1 + rnd(20);
  Fake *f = fake_new(l);
  f->fixed_ms = 1, f->decode_ms = 0.1, f->prompt_ms = 0.05;
  Batcher *b = batcher(f, (BatchOptions){.max_seqs = rnd(3) ? 0 : 1 + rnd(6),
                                         .max_latency_ms = rnd(2) ? 0 : 1 + rnd(5),
                                         .no_prefix_cache = !rnd(3)});
  enum { N = 100 };
  Ask *ask[N];
  int32_t base[3][256];
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 256; k++) base[i][k] = rnd(50);
  for (int i = 0, sent = 0; sent < N || i < 20; i++) {
    for (int k = rnd(5); k && sent < N; k--) {
      Ask *a = ask[sent] = ask_new(1, 1);
      random_request(a, base[rnd(3)], l.ctx < l.pages * 64 ? l.ctx : l.pages * 64);
      submit(b, a);
      sent++;
    }
    for (int k = rnd(40); k; k--) batcher_step(b);
    if (sent && !rnd(3)) {
      Ask *a = ask[rnd(sent)];
      a->cancelled = true;
      batcher_cancel(b, a->id);
    }
  }
  run_out(b);
  empty(b);
  for (int i = 0; i < N; i++) {
    as_alone(ask[i], &l);
    free(ask[i]);
  }
  batcher_free(b);
  f->m.free(&f->m);
}

Test(batch, anything, .timeout = 300) {
  const char *count = getenv("INK_BATCHES");
  for (int i = 0, n = count ? atoi(count) : 40; i < n; i++) random_workload(i);
}

/* Four streams that need three pages each, of six: the youngest give way, and come back. */
Test(batch, preemption) {
  for (int cache = 0; cache < 2; cache++) {
    ServeLimits l = small;
    l.pages = 6;
    Fake *f = fake_new(l);
    Batcher *b = batcher(f, (BatchOptions){.no_prefix_cache = !cache});
    Ask *a[4];
    int64_t least = 0;
    for (int i = 0; i < 4; i++) {
      submit(b, a[i] = ask_new(50, 120));
      least += 50 + 120 - 1;
    }
    run_out(b);
    for (int i = 0; i < 4; i++) as_alone(a[i], &l), free(a[i]);
    cr_assert(gt(int, f->most_seqs, 1));
    cr_assert(gt(i64, f->tokens, least), "nothing was computed twice: nothing was preempted");
    empty(b);
    batcher_free(b);
    f->m.free(&f->m);
  }
}

/* ---- the prefix cache */

Test(batch, shares_prompts) {
  Fake *f = fake_new(small);
  Batcher *b = batcher(f, (BatchOptions){0});
  Ask *first = ask_new(230, 4), *again = ask_new(230, 4), *longer = ask_new(250, 4), *other = ask_new(200, 4);
  memcpy(again->prompt, first->prompt, sizeof(int32_t) * 230);
  memcpy(longer->prompt, first->prompt, sizeof(int32_t) * 230);
  submit(b, first);
  run_out(b);
  cr_assert(eq(int, first->got.cached, 0));
  submit(b, again);
  run_out(b);
  cr_assert(eq(int, again->got.cached, 229)); /* three pages, and 37 tokens copied: the last is always computed */
  cr_assert(eq(int, f->copies, 1));
  submit(b, longer);
  submit(b, other);
  run_out(b);
  cr_assert(ge(int, longer->got.cached, 230));
  cr_assert(eq(int, other->got.cached, 0));
  Ask *all[] = {first, again, longer, other};
  for (int i = 0; i < 4; i++) as_alone(all[i], &small), free(all[i]);
  BatchStats s;
  batcher_stats(b, &s);
  cr_assert(eq(i64, s.prompt_tokens, 910));
  cr_assert(eq(i64, s.cached_tokens, 229 + longer->got.cached));
  cr_assert(eq(i64, s.generated_tokens, 16));
  batcher_free(b);
  f->m.free(&f->m);
}
