/* Completions over a made-up model and a made-up tokenizer: random texts with random stop strings, against the whole text cut by a
 * plain search; whole characters; tokens beside their text; cancelling at any time from any thread. */
#include "serve/complete.h"
#include "serve/stop.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/serve_fake.h"
#include "text/utf8.h"
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static uint64_t seed = 1;

static int rnd(int below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int)((seed >> 33) % (uint64_t)below);
}

/* ---- the tokenizer: what serve/complete.c calls of text/codec.h */

static const char *const spelling[50] = {
    "a",    "b",    "c",    "ab",   "bc",   "ca",   "abc",  "aab",  " a",   " ",    "b a",          "cc",   "aa",
    "ba",   "cb",   "a ",   "\n",   "a\nb", "c",    "b",    "\xe2", "\x82", "\xac", "\xc3",         "\xbc", "\xf0",
    "\x9f", "\x98", "\x80", "\xa9", "\xff", "\xed", "\xa0", "\xc0", "\xa9", "\xf4", "\xe2\x82\xac", "a",    "b",
    "c",    "ab",   "bc",   "ca",   "aa",   "bb",   "a",    "b",    "c",    "<s>",  "</s>"};

const char *codec_token(const Codec *c, uint32_t id, size_t *n) {
  if (id >= 50) return NULL;
  *n = strlen(spelling[id]);
  return spelling[id];
}

/* All of the ids' text; with `whole`, an unfinished character at the end is left out. */
static void text_of(const uint32_t *ids, size_t n, bool skip, bool whole, Text *out) {
  Text raw = {0};
  for (size_t i = 0; i < n; i++)
    if (!skip || ids[i] < 48) text_write(&raw, spelling[ids[i]], strlen(spelling[ids[i]]));
  for (size_t i = 0; i < raw.n;) {
    uint32_t cp;
    int k = utf8_next((unsigned char *)raw.s + i, raw.n - i, &cp);
    if (k == UTF8_SHORT && whole) break;
    if (k > 0)
      text_write(out, raw.s + i, (size_t)k);
    else
      text_write(out, "\xef\xbf\xbd", 3);
    i += k > 0 ? (size_t)k : 1;
  }
  text_free(&raw);
}

static void stream(CodecStream *s, bool whole, Text *out) {
  Text all = {0};
  text_of(s->ids.v, s->ids.n, s->skip, whole, &all);
  if (all.n > s->told) text_write(out, all.s + s->told, all.n - s->told);
  s->told = all.n;
  text_free(&all);
}

void codec_stream(const Codec *c, CodecStream *s, uint32_t id, Text *out) {
  ids_add(&s->ids, id);
  stream(s, true, out);
}

void codec_stream_end(const Codec *c, CodecStream *s, Text *out) {
  stream(s, false, out);
  free(s->ids.v);
  *s = (CodecStream){0};
}

/* ---- stop strings alone */

typedef struct Stop {
  size_t used, length;
} Stop;

static bool plain_search(const char *text, size_t n, const char *const *stop, int nstop, Stop *at) {
  for (size_t e = 1; e <= n; e++) {
    at->length = 0;
    for (int i = 0; i < nstop; i++) {
      size_t k = strlen(stop[i]);
      if (k <= e && !memcmp(text + e - k, stop[i], k) && k > at->length) at->length = k;
    }
    at->used = e;
    if (at->length) return true;
  }
  return false;
}

/* The longest end of the text that begins a stop string. */
static size_t plain_held(const char *text, size_t n, const char *const *stop, int nstop) {
  size_t most = 0;
  for (int i = 0; i < nstop; i++)
    for (size_t k = 1; k < strlen(stop[i]) && k <= n; k++)
      if (!memcmp(text + n - k, stop[i], k) && k > most) most = k;
  return most;
}

static void random_string(char *s, int most, int letters) {
  int n = 1 + rnd(most);
  for (int i = 0; i < n; i++) s[i] = (char)('a' + rnd(letters));
  s[n] = 0;
}

Test(stop, is_a_plain_search) {
  for (int round = 0; round < 20000; round++) {
    char text[32], s[3][8];
    const char *stop[3] = {s[0], s[1], s[2]};
    int n = rnd(4);
    random_string(text, 30, 2);
    for (int i = 0; i < n; i++) random_string(s[i], 6, 2);
    StopScan *scan = stop_new(stop, n);
    size_t all = strlen(text), at = 0;
    Stop want = {0}, got = {0};
    bool found = plain_search(text, all, stop, n, &want), hit = false;
    while (at < all && !hit) {
      size_t k = 1 + (size_t)rnd((int)(all - at));
      hit = stop_scan(scan, text + at, k, &got.used, &got.length);
      if (hit)
        got.used += at;
      else
        cr_assert(eq(sz, stop_held(scan), plain_held(text, at + k, stop, n)));
      at += k;
    }
    cr_assert(eq(int, hit, found));
    if (hit) cr_assert(got.used == want.used && got.length == want.length, "%s", text);
    stop_free(scan);
  }
}

/* ---- whole completions */

enum { MOST = 8 };

typedef struct Heard {
  Text text;
  int token[512], ntokens, nprompt;
  struct {
    size_t text;
    int tokens;
  } call[600]; /* what was told after each call */
  int ncalls;
  char finish[16];
  int done, generated, cached, hidden, started;
} Heard;

typedef struct Asked {
  CompleteRequest r;
  int32_t prompt[256];
  Heard heard[MOST];
  bool logprobs;
  Completion *c;
  int free_at; /* calls of the sink until it frees the completion; 0: never */
  atomic_bool dead;
} Asked;

static void call(Asked *a) {
  FAKE_SO(!atomic_load(&a->dead));
  if (!a->free_at || --a->free_at) return;
  complete_free(a->c);
  atomic_store(&a->dead, true);
}

static void on_text(void *ctx, int choice, const char *text, size_t n, const CompleteToken *tokens, int ntokens) {
  Asked *a = ctx;
  Heard *h = &a->heard[choice];
  FAKE_SO(h->started && !h->done && (n || ntokens));
  for (size_t i = 0; i < n;) { /* whole characters */
    uint32_t cp;
    int k = utf8_next((const unsigned char *)text + i, n - i, &cp);
    FAKE_SO(k > 0);
    i += (size_t)k;
  }
  text_write(&h->text, text, n);
  FAKE_SO(a->logprobs == (tokens != NULL));
  for (int i = 0; i < ntokens; i++) {
    if (tokens) {
      size_t k = strlen(spelling[tokens[i].id]);
      FAKE_SO(tokens[i].ntext == k && !memcmp(tokens[i].text, spelling[tokens[i].id], k));
      FAKE_SO(tokens[i].ntop == (isnan(tokens[i].logprob) ? 0 : a->r.top));
      FAKE_SO(!a->r.top || isnan(tokens[i].logprob) || tokens[i].logprob <= tokens[i].top[0].logprob);
      h->nprompt += tokens[i].prompt;
    }
    h->token[h->ntokens++] = tokens ? tokens[i].id : -1;
  }
  h->call[h->ncalls].text = h->text.n;
  h->call[h->ncalls++].tokens = h->ntokens;
  call(a);
}

static void on_hidden(void *ctx, const float *row, int n) {
  Asked *a = ctx;
  FAKE_SO(n == 3);
  a->heard[0].hidden++;
  call(a);
}

static void on_done(void *ctx, int choice, const char *finish, int generated, int cached) {
  Asked *a = ctx;
  Heard *h = &a->heard[choice];
  FAKE_SO(!h->done++);
  snprintf(h->finish, sizeof(h->finish), "%s", finish);
  h->generated = generated;
  h->cached = cached;
  call(a);
}

static void on_started(void *ctx, int choice) {
  Asked *a = ctx;
  Heard *h = &a->heard[choice];
  FAKE_SO(!h->started++ && !h->done);
  call(a);
}

static const CompleteSink sink = {on_text, on_hidden, on_done, on_started};
static const ServeLimits limits = {
    .vocab = 50, .hidden = 3, .ctx = 256, .pages = 64, .tokens = 128, .seqs = 8, .rows = 32};
static const int32_t eos[1] = {49};

static Fake *fake;
static Served served;

static void open_with(ServeLimits l, BatchOptions o) {
  Report err = {0};
  fake = fake_new(l);
  served = (Served){.model = &fake->m, .eos = eos, .neos = 1};
  served.batcher = batcher_new(&fake->m, &o, &err);
  cr_assert(served.batcher != NULL);
}

static void setup(void) {
  open_with(limits, (BatchOptions){.max_queue = 1000});
}

static void teardown(void) {
  batcher_free(served.batcher);
  fake->m.free(&fake->m);
}

TestSuite(complete, .init = setup, .fini = teardown);

static Asked *asked_new(int nprompt, int max_tokens, int n) {
  Asked *a = memory_zeroed(1, sizeof(*a));
  for (int i = 0; i < nprompt; i++) a->prompt[i] = rnd(48);
  a->r = (CompleteRequest){.prompt = a->prompt,
                           .nprompt = nprompt,
                           .max_tokens = max_tokens,
                           .n = n,
                           .sample = {.temperature = 1, .top_p = 1, .repetition = 1, .seed = (uint64_t)rnd(1000)},
                           .top = -1,
                           .sink = &sink,
                           .ctx = a};
  return a;
}

static void asked_free(Asked *a) {
  for (int i = 0; i < MOST; i++) text_free(&a->heard[i].text);
  free(a);
}

static void start(Asked *a) {
  bool full;
  Report err = {0};
  a->logprobs = a->r.top >= 0;
  a->c = complete_start(&served, &a->r, &full, &err);
  cr_assert(a->c != NULL, "%s", err.text ? err.text : "full");
}

static void run_out(void) {
  int steps = 0;
  while (batcher_step(served.batcher)) cr_assert(lt(int, steps++, 100000), "it does not end");
}

static void no_event(void *ctx, const GenEvent *e) {}

/* What choice k must have told, from the tokens it gets alone. */
static void expect(const Asked *a, int k) {
  const CompleteRequest *r = &a->r;
  const Heard *h = &a->heard[k];
  GenRequest g = {.prompt = r->prompt,
                  .nprompt = r->nprompt,
                  .max_tokens = r->max_tokens,
                  .sample = r->sample,
                  .top = -1,
                  .stop = eos,
                  .nstop = r->ignore_eos ? 0 : 1,
                  .sink = no_event};
  g.sample.seed += (uint64_t)k;
  FakeAnswer alone;
  fake_alone(&g, &limits, &alone);
  /* The prompt's text (read on from its last ids), then the answer's, token by token. */
  CodecStream s = {.skip = true};
  Text text = {0}, skipped = {0};
  size_t begin[512], end[512], prompt_end = 0;
  int id[512], n = 0, from = r->nprompt > 8 ? r->nprompt - 8 : 0;
  if (!r->echo)
    for (int i = from; i < r->nprompt; i++) codec_stream(NULL, &s, (uint32_t)r->prompt[i], &skipped);
  int told = r->echo ? r->nprompt : 0, cut_tokens;
  for (int i = 0; i < told + alone.n; i++) {
    id[n] = i < told ? r->prompt[i] : alone.token[i - told];
    begin[n] = text.n;
    codec_stream(NULL, &s, (uint32_t)id[n], &text);
    end[n++] = text.n;
    if (i < told) prompt_end = text.n;
  }
  codec_stream_end(NULL, &s, &text);
  Stop at;
  bool hit = plain_search(text.s ? text.s + prompt_end : "", text.n - prompt_end, r->stop, r->nstop, &at);
  size_t cut = hit ? prompt_end + at.used - at.length : text.n;
  for (cut_tokens = 0; cut_tokens < n && (!hit || begin[cut_tokens] < cut); cut_tokens++) continue;
  int generated = alone.n; /* all up to the one that the stop string ends in */
  if (hit)
    for (int i = told; i < n; i++)
      if (end[i] >= prompt_end + at.used) {
        generated = i - told + 1;
        break;
      }
  for (int i = 0; i < h->ncalls; i++) { /* a token is told with the text that it, or the next with text, ends in */
    int least = 0, most = 0, ended = 0;
    for (int j = 0; j < cut_tokens; j++) {
      if (end[j] > begin[j]) ended = end[j] <= h->call[i].text ? j + 1 : ended;
      most += begin[j] <= h->call[i].text;
    }
    least = ended;
    cr_assert(le(int, least, h->call[i].tokens));
    cr_assert(ge(int, most, h->call[i].tokens));
  }
  cr_assert(eq(int, h->done, 1));
  cr_assert(eq(sz, h->text.n, cut), "choice %d: '%.*s' is not the beginning of '%s'", k, (int)h->text.n, h->text.s,
            text.s);
  if (cut) cr_assert(zero(int, memcmp(h->text.s, text.s, cut)));
  cr_assert(eq(str, (char *)h->finish, (char *)(hit || alone.finish == GEN_STOP ? "stop" : "length")));
  cr_assert(eq(int, h->generated, generated));
  cr_assert(eq(int, h->ntokens, cut_tokens));
  for (int i = 0; a->logprobs && i < cut_tokens; i++) cr_assert(eq(int, h->token[i], id[i]));
  if (a->logprobs) cr_assert(eq(int, h->nprompt, told));
  cr_assert(eq(int, a->heard[0].hidden, r->hidden));
  text_free(&text);
  text_free(&skipped);
}

Test(complete, random_texts_and_stops, .timeout = 120) {
  int hits = 0;
  for (int round = 0; round < 400; round++) {
    enum { N = 4 };
    Asked *a[N];
    char s[N][3][8];
    const char *stop[N][3];
    for (int i = 0; i < N; i++) {
      a[i] = asked_new(1 + rnd(100), rnd(4) ? rnd(60) : 0, 1 + rnd(3));
      CompleteRequest *r = &a[i]->r;
      r->nstop = rnd(4);
      r->stop = stop[i];
      for (int k = 0; k < r->nstop; k++) random_string(s[i][k], 5, 3), stop[i][k] = s[i][k];
      if (rnd(2)) r->top = rnd(4);
      r->echo = !rnd(3);
      r->hidden = !rnd(3);
      r->ignore_eos = rnd(2);
      start(a[i]);
      for (int k = rnd(10); k; k--) batcher_step(served.batcher);
    }
    run_out();
    for (int i = 0; i < N; i++) {
      for (int k = 0; k < a[i]->r.n; k++) {
        expect(a[i], k);
        hits += !strcmp(a[i]->heard[k].finish, "stop");
      }
      complete_free(a[i]->c);
      asked_free(a[i]);
    }
  }
  cr_assert(gt(int, hits, 300));
}

/* The answers to one prompt compute it once. */
Test(complete, answers_share_the_prompt) {
  Asked *a = asked_new(140, 5, 4);
  a->r.ignore_eos = true;
  start(a);
  run_out();
  for (int k = 0; k < 4; k++) expect(a, k);
  int cached = 0;
  for (int k = 0; k < 4; k++) cached += a->heard[k].cached;
  cr_assert(eq(int, cached, 3 * 139));
  cr_assert(eq(i64, fake->tokens, 140 + 3 + 4 * 4));
  complete_free(a->c);
  asked_free(a);
}

Test(complete, all_answers_or_none) {
  teardown();
  open_with(limits, (BatchOptions){.max_seqs = 1, .max_queue = 1});
  bool full;
  Report err = {0};
  Asked *a = asked_new(10, 5, 3);
  cr_assert(complete_start(&served, &a->r, &full, &err) == NULL && full && !err.n);
  run_out();
  for (int k = 0; k < 3; k++) cr_assert(a->heard[k].done == 0 && a->heard[k].text.n == 0);
  a->r.n = 2;
  start(a);
  run_out();
  for (int k = 0; k < 2; k++) expect(a, k);
  complete_free(a->c);
  asked_free(a);
}

Test(complete, what_is_wrong_is_said) {
  bool full;
  Report err = {0};
  const char *none[1] = {""};
  Asked *a = asked_new(10, 5, 1);
  a->r.stop = none, a->r.nstop = 1;
  cr_assert(complete_start(&served, &a->r, &full, &err) == NULL && !full && err.lines == 1);
  a->r.nstop = 0, a->r.n = 0;
  cr_assert(complete_start(&served, &a->r, &full, &err) == NULL && !full && err.lines == 2);
  a->r.n = 1, a->r.max_tokens = 1000;
  cr_assert(complete_start(&served, &a->r, &full, &err) == NULL && !full && err.lines == 3);
  report_free(&err);
  asked_free(a);
}

Test(complete, cancel_from_within_and_without) {
  for (int at = 1; at < 40; at++) {
    Asked *a = asked_new(20, 40, 2);
    a->r.ignore_eos = true;
    a->free_at = at;
    start(a);
    run_out();
    cr_assert(atomic_load(&a->dead));
    asked_free(a);
    Asked *b = asked_new(20, 40, 2);
    start(b);
    for (int k = 0; k < at; k++) batcher_step(served.batcher);
    complete_free(b->c);
    atomic_store(&b->dead, true);
    run_out();
    asked_free(b);
  }
  BatchStats s;
  batcher_stats(served.batcher, &s);
  cr_assert(s.running == 0 && s.waiting == 0 && s.cache_use == 0);
}

/* What is left when the batcher goes is told as cancelled. */
Test(complete, the_batcher_goes_first) {
  Asked *a = asked_new(20, 200, 2);
  a->r.ignore_eos = true;
  start(a);
  for (int k = 0; k < 10; k++) batcher_step(served.batcher);
  batcher_free(served.batcher);
  served.batcher = NULL;
  for (int k = 0; k < 2; k++) cr_assert(eq(str, (char *)a->heard[k].finish, "cancelled"));
  complete_free(a->c);
  asked_free(a);
}

/* Nothing is computed behind a stop string. */
Test(complete, a_stop_ends_the_work) {
  static const char *const stop[] = {"a", "b", "c", " "};
  Asked *a = asked_new(10, 200, 1);
  a->r.stop = stop, a->r.nstop = 4, a->r.ignore_eos = true;
  start(a);
  run_out();
  expect(a, 0);
  cr_assert(eq(str, a->heard[0].finish, "stop"));
  cr_assert(eq(int, fake->runs, a->heard[0].generated));
  complete_free(a->c);
  asked_free(a);
}

/* ---- threads */

static void *steps(void *ctx) {
  batcher_run(served.batcher);
  return NULL;
}

static atomic_int completed;

static void *client(void *ctx) {
  uint64_t x = (uint64_t)(uintptr_t)ctx * 977 + 5;
  for (int i = 0; i < 60; i++) {
    x = fake_mix(x, (uint64_t)i);
    Asked *a = memory_zeroed(1, sizeof(*a));
    int n = 1 + (int)(x % 100);
    for (int k = 0; k < n; k++) a->prompt[k] = (int32_t)(fake_mix(x, (uint64_t)k) >> 40) % 48;
    a->r = (CompleteRequest){.prompt = a->prompt,
                             .nprompt = n,
                             .max_tokens = (int)(x >> 20 & 31),
                             .n = 1 + (int)(x >> 30 & 1),
                             .sample = {.temperature = 1, .top_p = 1, .repetition = 1, .seed = x},
                             .top = 2,
                             .sink = &sink,
                             .ctx = a};
    a->logprobs = true;
    bool full;
    Report err = {0};
    Completion *c = complete_start(&served, &a->r, &full, &err);
    FAKE_SO(c || full);
    if (x >> 50 & 1) usleep((unsigned)(x >> 40 & 1023));
    complete_free(c);
    atomic_store(&a->dead, true);
    atomic_fetch_add(&completed, 1);
    asked_free(a); /* the sink is called no more, or this is seen */
  }
  return NULL;
}

Test(complete, threads, .timeout = 120) {
  enum { CLIENTS = 6 };
  pthread_t runner, t[CLIENTS];
  pthread_create(&runner, NULL, steps, NULL);
  for (int i = 0; i < CLIENTS; i++) pthread_create(&t[i], NULL, client, (void *)(uintptr_t)i);
  for (int i = 0; i < CLIENTS; i++) pthread_join(t[i], NULL);
  batcher_stop(served.batcher);
  pthread_join(runner, NULL);
  cr_assert(eq(int, atomic_load(&completed), CLIENTS * 60));
}

static atomic_int inside;

static void slow_text(void *ctx, int choice, const char *text, size_t n, const CompleteToken *tokens, int ntokens) {
  atomic_store(&inside, 1);
  usleep(30000);
  atomic_store(&inside, 2);
}

static void no_done(void *ctx, int choice, const char *finish, int generated, int cached) {}

/* complete_free waits for a sink that runs; after it none does. A start that fails tells nothing, though steps go on beside it. */
Test(complete, free_waits_and_a_failed_start_is_silent, .timeout = 60) {
  static const CompleteSink slow = {slow_text, NULL, no_done};
  pthread_t runner;
  teardown();
  open_with(limits, (BatchOptions){.max_seqs = 1, .max_queue = 1});
  pthread_create(&runner, NULL, steps, NULL);
  for (int i = 0; i < 5; i++) {
    Asked *a = asked_new(10, 100, 1);
    a->r.sink = &slow, a->r.ignore_eos = true;
    atomic_store(&inside, 0);
    start(a);
    while (atomic_load(&inside) != 1) usleep(100);
    complete_free(a->c);
    cr_assert(eq(int, atomic_load(&inside), 2));
    BatchStats s;
    do batcher_stats(served.batcher, &s);
    while (s.running || s.waiting);
    cr_assert(eq(int, atomic_load(&inside), 2));
    asked_free(a);
  }
  for (int i = 0; i < 200; i++) {
    bool full;
    Report err = {0};
    BatchStats s;
    Asked *a = asked_new(1 + rnd(5), 5, 3);
    a->r.ignore_eos = true;       /* or the first could end before the third comes */
    atomic_store(&a->dead, true); /* so a call of the sink ends the test */
    cr_assert(complete_start(&served, &a->r, &full, &err) == NULL && full);
    do batcher_stats(served.batcher, &s);
    while (s.running || s.waiting);
    asked_free(a);
  }
  batcher_stop(served.batcher);
  pthread_join(runner, NULL);
}
