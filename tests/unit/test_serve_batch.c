/* The batcher: whatever runs beside a sequence, however its chunks and pages fall, it gets what it gets alone; and what the rules of
 * serve/schedule.h promise of pages, fairness and time. */
#include "serve/pace.h"
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
  for (int i = 0; i < 4; i++) as_alone(all[i], &small);
  BatchStats s;
  batcher_stats(b, &s);
  cr_assert(eq(i64, s.prompt_tokens, 910));
  cr_assert(eq(i64, s.cached_tokens, 229 + longer->got.cached));
  cr_assert(eq(i64, s.generated_tokens, 16));
  for (int i = 0; i < 4; i++) free(all[i]);
  batcher_free(b);
  f->m.free(&f->m);
}

/* Five that come at once: the first computes the prompt, the others wait for it and share. */
Test(batch, shares_what_is_being_computed) {
  Fake *f = fake_new(small);
  Batcher *b = batcher(f, (BatchOptions){0});
  Ask *a[5];
  for (int i = 0; i < 5; i++) {
    a[i] = ask_new(130 + i, 3);
    if (i) memcpy(a[i]->prompt, a[0]->prompt, sizeof(int32_t) * 130);
    submit(b, a[i]);
  }
  run_out(b);
  for (int i = 0; i < 5; i++) {
    as_alone(a[i], &small);
    cr_assert(eq(int, a[i]->got.cached, i ? 128 : 0)); /* two tokens are not worth a copy */
  }
  cr_assert(eq(i64, f->tokens, 130 + 5 * 2 + 3 + 4 + 5 + 6));
  for (int i = 0; i < 5; i++) free(a[i]);
  batcher_free(b);
  f->m.free(&f->m);
}

/* With logprobs of the echo every row is needed, so the cache saves nothing; without logprobs it does. */
Test(batch, echo_and_the_cache) {
  Fake *f = fake_new(small);
  Batcher *b = batcher(f, (BatchOptions){0});
  Ask *a[3];
  for (int i = 0; i < 3; i++) {
    a[i] = ask_new(150, 3);
    if (i) memcpy(a[i]->prompt, a[0]->prompt, sizeof(int32_t) * 150);
    a[i]->r.echo = true;
    a[i]->r.top = i == 2 ? 2 : -1;
    submit(b, a[i]);
    run_out(b);
    as_alone(a[i], &small);
  }
  cr_assert(eq(int, a[1]->got.cached, 149));
  cr_assert(eq(int, a[2]->got.cached, 0));
  cr_assert(eq(int, a[2]->got.told, 150));
  for (int i = 0; i < 3; i++) free(a[i]);
  batcher_free(b);
  f->m.free(&f->m);
}

/* ---- fairness and time, simulated */

static const ServeLimits large = {
    .vocab = 50, .hidden = 3, .ctx = 4096, .pages = 400, .tokens = 256, .seqs = 16, .rows = 32};

static Fake *timed(ServeLimits l) {
  Fake *f = fake_new(l);
  f->fixed_ms = 5, f->decode_ms = 0.3, f->prompt_ms = 0.2;
  return f;
}

static Ask *ask_timed(Batcher *b, const Fake *f, int nprompt, int max_tokens) {
  Ask *a = ask_new(nprompt, max_tokens);
  a->got.clock = f;
  submit(b, a);
  return a;
}

/* Behind a prompt of 3,000 tokens short ones come all the time: they are answered at once, and it is not stopped by them. */
Test(batch, short_prompts_and_a_huge_one, .timeout = 120) {
  Fake *f = timed(large);
  Batcher *b = batcher(f, (BatchOptions){.no_prefix_cache = true});
  Ask *huge = ask_timed(b, f, 3000, 1), *brief[60];
  batcher_step(b);
  int n = 0;
  for (; n < 60 && !huge->got.done; n++) {
    double sent = f->now;
    brief[n] = ask_timed(b, f, 100, 1);
    for (int k = 0; k < 2 && !brief[n]->got.done; k++) batcher_step(b);
    cr_assert(brief[n]->got.done, "a short prompt waits");
    cr_assert(le(dbl, f->now - sent, 2 * 60.0));
  }
  cr_assert(huge->got.done, "the huge one waits");
  cr_assert(le(int, n, 3000 / 128 + 2)); /* half of a step's tokens are its own */
  for (int i = 0; i < n; i++) free(brief[i]);
  free(huge);
  batcher_free(b);
  f->m.free(&f->m);
}

/* More short prompts than there is room for in any step: half of it is still the huge one's. */
Test(batch, a_huge_prompt_gets_half, .timeout = 120) {
  Fake *f = timed(large);
  Batcher *b = batcher(f, (BatchOptions){.no_prefix_cache = true});
  enum { EACH = 3, STEPS = 30 };
  Ask *huge = ask_timed(b, f, 3000, 1), *brief[STEPS * EACH];
  int n = 0, k = 0;
  for (; k < STEPS && !huge->got.done; k++) {
    for (int i = 0; i < EACH; i++) brief[n++] = ask_timed(b, f, 100, 1);
    batcher_step(b);
  }
  cr_assert(huge->got.done, "the huge one waits");
  cr_assert(ge(int, k, 3000 / 128));
  batcher_free(b);
  for (int i = 0; i < n; i++) free(brief[i]);
  free(huge);
  f->m.free(&f->m);
}

/* One that needs most of the pages is let in at last, though smaller ones never cease to come. */
Test(batch, many_small_ones_do_not_keep_a_large_one_out, .timeout = 120) {
  ServeLimits l = large;
  l.pages = 40;
  Fake *f = timed(l);
  Batcher *b = batcher(f, (BatchOptions){0});
  enum { N = 200 };
  Ask *one[N], *big = NULL;
  int n = 0, steps = 0, after = 0;
  for (; n < 8; n++) one[n] = ask_timed(b, f, 100, 20 + n);
  batcher_step(b);
  big = ask_timed(b, f, 35 * 64 - 10, 4);
  while (!big->got.done) {
    cr_assert(lt(int, steps++, 400), "it never runs");
    BatchStats s;
    batcher_stats(b, &s);
    while (n < N && s.waiting < 4) one[n] = ask_timed(b, f, 100, 20 + n % 8), n++, s.waiting++, after++;
    batcher_step(b);
  }
  cr_assert(ge(int, after, 16));         /* that many were let by, */
  cr_assert(le(int, after, 16 + 4 + 4)); /* and no more: what else came waits behind it */
  as_alone(big, &l);
  run_out(b);
  for (int i = 0; i < n; i++) as_alone(one[i], &l), free(one[i]);
  free(big);
  empty(b);
  batcher_free(b);
  f->m.free(&f->m);
}

/* Streams run, prompts arrive: the time between tokens stays below the bound, and prompts get what is left of it. */
Test(batch, latency, .timeout = 120) {
  static const double bound[] = {0, 12, 20, 40};
  double worst[4], took[4];
  for (int k = 0; k < 4; k++) {
    seed = 5;
    Fake *f = timed(large);
    f->noise = 0.04;
    Batcher *b = batcher(f, (BatchOptions){.max_latency_ms = bound[k], .no_prefix_cache = true});
    enum { STREAMS = 6, PROMPTS = 12 };
    Ask *stream[STREAMS], *prompt[PROMPTS];
    for (int i = 0; i < STREAMS; i++) stream[i] = ask_timed(b, f, 40, 2000);
    for (int i = 0; i < 5; i++) batcher_step(b);
    Ask *first = ask_timed(b, f, 900, 1); /* to learn from */
    while (!first->got.done) batcher_step(b);
    for (int i = 0; i < STREAMS; i++) stream[i]->got.worst = 0;
    double start = f->now;
    for (int i = 0; i < PROMPTS; i++) prompt[i] = ask_timed(b, f, 1500, 1);
    for (int i = 0; i < PROMPTS; i++)
      while (!prompt[i]->got.done) batcher_step(b);
    took[k] = f->now - start;
    worst[k] = 0;
    for (int i = 0; i < STREAMS; i++)
      if (stream[i]->got.worst > worst[k]) worst[k] = stream[i]->got.worst;
    for (int i = 0; i < STREAMS; i++) batcher_cancel(b, stream[i]->id);
    run_out(b);
    for (int i = 0; i < STREAMS; i++) free(stream[i]);
    for (int i = 0; i < PROMPTS; i++) free(prompt[i]);
    free(first);
    empty(b);
    batcher_free(b);
    f->m.free(&f->m);
    if (bound[k] > 0) {
      cr_assert(le(dbl, worst[k], bound[k] * 1.03), "%g ms between tokens, the bound is %g", worst[k], bound[k]);
      cr_assert(ge(dbl, worst[k], bound[k] * 0.75), "%g ms between tokens, %g were allowed", worst[k], bound[k]);
    }
    if (k > 1) cr_assert(lt(dbl, took[k], took[k - 1]), "a higher bound is no faster: %g, %g", took[k], took[k - 1]);
  }
  cr_assert(gt(dbl, worst[0], 50)); /* without a bound a step takes all it can */
}

/* Nobody can keep a bound below what the streams take alone: prompts still get on, and cost a quarter. */
Test(batch, a_bound_that_cannot_be_kept) {
  Fake *f = timed(large);
  Batcher *b = batcher(f, (BatchOptions){.max_latency_ms = 1});
  Ask *stream = ask_timed(b, f, 40, 3000), *prompt;
  for (int i = 0; i < 40; i++) batcher_step(b);
  stream->got.worst = 0;
  prompt = ask_timed(b, f, 600, 1);
  int steps = 0;
  while (!prompt->got.done) {
    cr_assert(lt(int, steps++, 200));
    batcher_step(b);
  }
  cr_assert(lt(dbl, stream->got.worst, 5.3 + 0.2 * 16 + 0.1)); /* at first 16 tokens, for nothing is known */
  batcher_free(b);
  cr_assert(eq(int, stream->got.finish, GEN_CANCELLED));
  free(stream);
  free(prompt);
  f->m.free(&f->m);
}

/* A step now and then takes twenty times as long, for reasons of its own: the bound is kept on the others. */
Test(batch, pace_bears_outliers) {
  Pace p = {0};
  seed = 3;
  for (int i = 0; i < 300; i++) {
    int decodes = 1 + rnd(8), room = pace_room(&p, decodes, 30, 512);
    if (i > 30) {
      double ms = 4 + 0.5 * decodes + 0.1 * room;
      cr_assert(ms < 31 && ms > 20, "step %d: %d prompt tokens would take %g ms", i, room, ms);
    }
    pace_note(&p, decodes, i % 3 ? room : 0, (4 + 0.5 * decodes + (i % 3 ? 0.1 * room : 0)) * (i % 40 == 7 ? 20 : 1));
  }
}

/* It goes up by twice what it knows, and learns from steps without prompts what streams take. */
Test(batch, pace_is_careful) {
  Pace p = {0};
  cr_assert(eq(int, pace_room(&p, 4, 1000, 5000), 16));
  cr_assert(eq(int, pace_room(&p, 4, 1000, 7), 7));
  for (int i = 0; i < 10; i++) pace_note(&p, 1, 16, 10 + 1 + 1.6);
  cr_assert(eq(int, pace_room(&p, 1, 1e6, 5000), 32));
  pace_note(&p, 1, 500, 10 + 1 + 50);
  for (int i = 0; i < 10; i++) pace_note(&p, 1 + i, 0, 10 + 1 + i);
  for (int d = 1; d < 10; d++) { /* (55 - 10 - d) / 0.1: a twelfth of the bound is left */
    int room = pace_room(&p, d, 60, 5000);
    cr_assert(room > (45 - d) * 9 && room <= (45 - d) * 10, "%d beside %d", room, d);
  }
}

/* ---- limits and failures */

Test(batch, a_full_queue) {
  Fake *f = fake_new(small);
  Report err = {0};
  BatchStats s;
  Batcher *b = batcher_new(&f->m, &(BatchOptions){.max_seqs = 2, .max_queue = 3}, &err);
  Ask *a[6];
  for (int i = 0; i < 6; i++) a[i] = ask_new(20, 5);
  for (int i = 0; i < 5; i++) submit(b, a[i]);
  bool full = false;
  cr_assert(eq(u64, batcher_submit(b, &a[5]->r, &full, &err), 0));
  cr_assert(full && !err.n);
  batcher_step(b);
  batcher_stats(b, &s);
  cr_assert(s.running == 2 && s.waiting == 3);
  cr_assert(gt(dbl, s.cache_use, 0));
  while (!a[0]->got.done) batcher_step(b);
  submit(b, a[5]);
  run_out(b);
  for (int i = 0; i < 6; i++) as_alone(a[i], &small), free(a[i]);
  empty(b);
  batcher_free(b);
  f->m.free(&f->m);
}

Test(batch, requests_are_checked) {
  Fake *f = fake_new(small);
  Batcher *b = batcher(f, (BatchOptions){0});
  Ask *a = ask_new(20, 5);
  Report err = {0};
  bool full;
  int wrong = 0;
  const GenRequest good = a->r;
  for (int k = 0;; k++) {
    GenRequest r = good;
    a->prompt[3] = 1;
    if (k == 0) r.nprompt = 0;
    if (k == 1) r.max_tokens = -1;
    if (k == 2) r.max_tokens = 256 - 19;
    if (k == 3) a->prompt[3] = 50;
    if (k == 4) a->prompt[3] = -1;
    if (k == 5) r.top = SAMPLE_TOP + 1;
    if (k == 6) r.sample.temperature = NAN;
    if (k == 7) break;
    cr_assert(eq(u64, batcher_submit(b, &r, &full, &err), 0), "case %d", k);
    cr_assert(not(full));
    cr_assert(eq(int, err.lines, ++wrong));
  }
  f->m.limits.hidden = 0;
  a->r.hidden = true;
  cr_assert(eq(u64, batcher_submit(b, &a->r, &full, &err), 0));
  f->m.limits.pages = 1;
  a->r.hidden = false, a->r.max_tokens = 45;
  cr_assert(eq(u64, batcher_submit(b, &a->r, &full, &err), 0));
  cr_assert(eq(int, err.lines, wrong + 2));
  cr_assert(eq(int, a->got.nevents, 0));
  f->m.limits = small;
  report_free(&err);
  free(a);
  batcher_free(b);
  ServeLimits none = small;
  none.rows = 0;
  f->m.limits = none;
  cr_assert(batcher_new(&f->m, &(BatchOptions){0}, &err) == NULL && err.lines == 1);
  report_free(&err);
  f->m.limits = small;
  f->m.free(&f->m);
}

Test(batch, a_model_that_fails) {
  Fake *f = fake_new(small);
  Batcher *b = batcher(f, (BatchOptions){.max_seqs = 2});
  Ask *a[4];
  for (int i = 0; i < 4; i++) submit(b, a[i] = ask_new(20, 50));
  f->fail_at = 10;
  run_out(b);
  for (int i = 0; i < 4; i++) cr_assert(a[i]->got.done && a[i]->got.finish == GEN_FAILED);
  empty(b);
  Report err = {0};
  bool full;
  cr_assert(eq(u64, batcher_submit(b, &a[0]->r, &full, &err), 0));
  cr_assert(not(full));
  cr_assert(strstr(err.text, "on fire") != NULL);
  BatchStats stats;
  batcher_stats(b, &stats);
  cr_assert(stats.failed);
  report_free(&err);
  for (int i = 0; i < 4; i++) free(a[i]);
  batcher_free(b);
  f->m.free(&f->m);
}

/* Logits with a NaN end the sequence whose they are, and no other. */
Test(batch, logits_that_are_none) {
  Fake *f = fake_new(small);
  Batcher *b = batcher(f, (BatchOptions){0});
  Ask *bad = ask_new(20, 5), *good = ask_new(20, 5);
  for (int i = 0; i < 20; i++) good->prompt[i] %= 5, bad->prompt[i] %= 5;
  SampleBias never = {49, -100};
  good->r.sample.bias = &never, good->r.sample.nbias = 1;
  bad->prompt[19] = f->nan_token = 49;
  submit(b, bad);
  submit(b, good);
  run_out(b);
  cr_assert(eq(int, bad->got.finish, GEN_FAILED));
  cr_assert(eq(int, bad->got.n, 0));
  as_alone(good, &small);
  empty(b);
  free(bad);
  free(good);
  batcher_free(b);
  f->m.free(&f->m);
}

/* ---- threads */

static void *steps(void *b) {
  batcher_run(b);
  return NULL;
}

typedef struct Client {
  Batcher *b;
  int number;
  atomic_int done, cancelled;
} Client;

typedef struct Sent {
  Client *c;
  FakeAnswer got;
  atomic_bool done;
} Sent;

static void hear_sent(void *ctx, const GenEvent *e) {
  Sent *s = ctx;
  fake_hear(&s->got, e, 3);
  if (e->kind != GEN_DONE) return;
  if (e->finish == GEN_CANCELLED) atomic_fetch_add(&s->c->cancelled, 1);
  atomic_fetch_add(&s->c->done, 1);
  atomic_store(&s->done, true);
}

enum { SENT = 60 };

static void *client(void *ctx) {
  Client *c = ctx;
  uint64_t x = (uint64_t)c->number + 1;
  for (int i = 0; i < SENT; i++) {
    x = fake_mix(x, (uint64_t)i);
    int32_t prompt[100];
    int n = 1 + (int)(x % 100);
    for (int k = 0; k < n; k++) prompt[k] = (int32_t)((x >> 60 ? (uint64_t)k : fake_mix(x, (uint64_t)k)) % 50);
    Sent *s = memory_zeroed(1, sizeof(*s));
    s->c = c;
    GenRequest r = {.prompt = prompt,
                    .nprompt = n,
                    .max_tokens = (int)(x >> 20 & 31),
                    .sample = fake_greedy,
                    .top = 1,
                    .sink = hear_sent,
                    .ctx = s};
    r.sample.temperature = 1, r.sample.seed = x;
    bool full, cancel = (x >> 40 & 3) == 0;
    Report err = {0};
    uint64_t id;
    while (!(id = batcher_submit(c->b, &r, &full, &err))) {
      FAKE_SO(full);
      usleep(100);
    }
    if (cancel) batcher_cancel(c->b, id);
    BatchStats stats;
    batcher_stats(c->b, &stats);
    FAKE_SO(stats.running >= 0 && stats.waiting >= 0);
    while (!atomic_load(&s->done)) usleep(100);
    FakeAnswer alone;
    fake_alone(&r, &small, &alone);
    if (s->got.finish != GEN_CANCELLED) FAKE_SO(s->got.events == alone.events && s->got.finish == alone.finish);
    FAKE_SO(cancel || s->got.finish != GEN_CANCELLED);
    free(s);
  }
  return NULL;
}

Test(batch, threads, .timeout = 120) {
  enum { CLIENTS = 8 };
  ServeLimits l = small;
  l.pages = 8;
  Fake *f = fake_new(l);
  Report err = {0};
  Batcher *b = batcher_new(&f->m, &(BatchOptions){.max_seqs = 4, .max_queue = 2}, &err);
  pthread_t runner, t[CLIENTS];
  Client c[CLIENTS];
  pthread_create(&runner, NULL, steps, b);
  for (int i = 0; i < CLIENTS; i++) {
    c[i] = (Client){.b = b, .number = i};
    pthread_create(&t[i], NULL, client, &c[i]);
  }
  int done = 0;
  for (int i = 0; i < CLIENTS; i++) pthread_join(t[i], NULL), done += atomic_load(&c[i].done);
  cr_assert(eq(int, done, CLIENTS *SENT));
  batcher_stop(b);
  pthread_join(runner, NULL);
  empty(b);
  batcher_free(b);
  f->m.free(&f->m);
}

/* Without work its thread takes no time; stopped before it runs, it does not begin. */
Test(batch, sleeps) {
  Fake *f = fake_new(small);
  Report err = {0};
  Batcher *b = batcher_new(&f->m, &(BatchOptions){.max_queue = 9}, &err);
  pthread_t runner;
  clockid_t clock;
  struct timespec before, after;
  pthread_create(&runner, NULL, steps, b);
  pthread_getcpuclockid(runner, &clock);
  usleep(20000);
  clock_gettime(clock, &before);
  usleep(200000);
  clock_gettime(clock, &after);
  double ms = (double)(after.tv_sec - before.tv_sec) * 1e3 + (double)(after.tv_nsec - before.tv_nsec) * 1e-6;
  cr_assert(lt(dbl, ms, 20.0), "%g of 200 ms", ms);
  cr_assert(eq(int, f->runs, 0));
  batcher_stop(b);
  pthread_join(runner, NULL);
  batcher_run(b);
  batcher_free(b);
  f->m.free(&f->m);
}
