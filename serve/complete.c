/* Completions. See complete.h, and for where a text stops stop.h.
 *
 * An answer's text is what codec_stream makes of its ids, read on from the last ids of the prompt, so that a first word keeps the
 * space before it. Of this, `held` is what was not told yet: the end that may become a stop string. A token is told with the
 * text that it ends in; one that gives no text of its own (the first bytes of a character) with the next that does. When
 * a stop string is found, tokens that begin in it are not told.
 *
 * Threads: all events of a Completion come from the batcher's steps, one at a time. Its lock guards `telling`, `gone` and `owners`, and
 * is not held while the sink runs. complete_free waits until no sink runs, but for one that calls it itself; so a caller must
 * not hold, when it calls complete_free, a lock that its sink takes. The memory goes with the last owner: the caller, and
 * each answer until its DONE. A batcher must be freed before the codec of its completions. */
#include "serve/complete.h"
#include "serve/stop.h"
#include "text/memory.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { CONTEXT = 8 }; /* ids of the prompt that an answer's text is read on from */

typedef struct Pending {
  CompleteToken token; /* its top: below */
  SampleLogprob top[SAMPLE_TOP];
  size_t begin, end; /* bytes of the text that came out with it; end 0: none did yet */
} Pending;

typedef struct Choice {
  Completion *c;
  int number;
  uint64_t id; /* of its sequence */
  CodecStream stream;
  StopScan *stop;
  Text held;
  size_t told; /* bytes of the text before held */
  Pending *pending;
  size_t npending, cap_pending;
  int generated;
  bool stopped, done, ended; /* ended: the stream is */
} Choice;

struct Completion {
  Batcher *batcher;
  const Codec *codec;
  CompleteSink sink;
  void *ctx;
  int hidden; /* width of a row */
  bool logprobs;
  CompleteToken *tokens; /* what one call tells */
  size_t cap_tokens;
  pthread_mutex_t lock;
  pthread_cond_t quiet;
  bool telling;
  pthread_t teller;
  atomic_bool gone; /* the sink is called no more */
  int owners;
  int n;
  Choice choice[];
};

/* What the stream still has goes to held. */
static void end_stream(Choice *x) {
  if (!x->ended) codec_stream_end(x->c->codec, &x->stream, &x->held);
  x->ended = true;
}

static void release(Completion *c) {
  for (int i = 0; i < c->n && c->choice[i].c; i++) {
    Choice *x = &c->choice[i];
    end_stream(x);
    text_free(&x->held);
    free(x->pending);
    stop_free(x->stop);
  }
  pthread_mutex_destroy(&c->lock);
  pthread_cond_destroy(&c->quiet);
  free(c->tokens);
  free(c);
}

/* ---- what an answer tells */

/* The first n bytes that are held, and their tokens: those that end by there and, with `all`, those that begin before `all`. */
static void tell(Choice *x, size_t n, size_t all) {
  Completion *c = x->c;
  size_t to = x->told + n, k = 0;
  while (k < x->npending) {
    const Pending *p = &x->pending[k];
    if (!(p->end && p->end <= to) && !(p->begin < all)) break;
    k++;
  }
  if ((n || k) && !atomic_load(&c->gone)) {
    RESERVE(c->tokens, c->cap_tokens, k + 1);
    for (size_t i = 0; i < k; i++) {
      c->tokens[i] = x->pending[i].token;
      c->tokens[i].top = x->pending[i].top;
    }
    c->sink.text(c->ctx, x->number, n ? x->held.s : "", n, c->logprobs ? c->tokens : NULL, (int)k);
  }
  if (!n && !k) return;
  x->npending -= k;
  if (k) memmove(x->pending, x->pending + k, sizeof(*x->pending) * x->npending);
  x->held.n -= n;
  if (n) memmove(x->held.s, x->held.s + n, x->held.n + 1);
  x->told = to;
}

/* The last `fresh` bytes held are new text of the answer. */
static void settle(Choice *x, size_t fresh) {
  size_t used, length, before = x->held.n - fresh;
  if (!fresh) return;
  if (!stop_scan(x->stop, x->held.s + before, fresh, &used, &length)) {
    tell(x, x->held.n - stop_held(x->stop), 0);
    return;
  }
  size_t n = before + used - length;
  x->stopped = true;
  tell(x, n, x->told + n);
  x->npending = 0;
}

static void add(Choice *x, const GenEvent *e) {
  Completion *c = x->c;
  size_t begin = x->told + x->held.n;
  codec_stream(c->codec, &x->stream, (uint32_t)e->token, &x->held);
  size_t end = x->told + x->held.n;
  RESERVE(x->pending, x->cap_pending, x->npending + 1);
  Pending *p = &x->pending[x->npending++];
  p->token = (CompleteToken){.id = e->token, .logprob = e->logprob, .ntop = e->ntop, .prompt = e->kind == GEN_PROMPT};
  p->token.text = codec_token(c->codec, (uint32_t)e->token, &p->token.ntext);
  if (!p->token.text) p->token.text = "", p->token.ntext = 0;
  if (e->ntop) memcpy(p->top, e->top, sizeof(*p->top) * (size_t)e->ntop);
  p->begin = begin;
  p->end = 0;
  if (end > begin)
    for (size_t i = 0; i < x->npending; i++)
      if (!x->pending[i].end) x->pending[i].end = end;
  if (e->kind == GEN_PROMPT)
    tell(x, x->held.n, 0);
  else
    settle(x, end - begin);
}

static void finish(Choice *x, const GenEvent *e) {
  static const char *const names[] = {
      [GEN_LENGTH] = "length", [GEN_STOP] = "stop", [GEN_CANCELLED] = "cancelled", [GEN_FAILED] = "error"};
  Completion *c = x->c;
  if (!x->stopped) {
    size_t before = x->held.n;
    end_stream(x);
    settle(x, x->held.n - before);
  }
  if (!x->stopped) tell(x, x->held.n, SIZE_MAX);
  if (!atomic_load(&c->gone))
    c->sink.done(c->ctx, x->number, x->stopped ? "stop" : names[e->finish], x->generated, e->cached);
}

static void hear(Choice *x, const GenEvent *e) {
  Completion *c = x->c;
  switch (e->kind) {
  case GEN_TOKEN:
    if (x->stopped) return;
    x->generated++;
    add(x, e);
    if (x->stopped) batcher_cancel(c->batcher, x->id);
    return;
  case GEN_STARTED:
    if (c->sink.started) c->sink.started(c->ctx, x->number);
    return;
  case GEN_PROMPT: add(x, e); return;
  case GEN_HIDDEN:
    if (c->sink.hidden) c->sink.hidden(c->ctx, e->hidden, c->hidden);
    return;
  case GEN_DONE: finish(x, e); return;
  }
}

static void on_event(void *ctx, const GenEvent *e) {
  Choice *x = ctx;
  Completion *c = x->c;
  bool done = e->kind == GEN_DONE;
  pthread_mutex_lock(&c->lock);
  bool tells = !atomic_load(&c->gone);
  c->telling = tells;
  c->teller = pthread_self();
  pthread_mutex_unlock(&c->lock);
  if (tells) hear(x, e);
  pthread_mutex_lock(&c->lock);
  c->telling = false;
  x->done |= done;
  bool last = done && !--c->owners;
  pthread_cond_broadcast(&c->quiet);
  pthread_mutex_unlock(&c->lock);
  if (last) release(c);
}

/* ---- beginning and end */

static bool request_check(const CompleteRequest *r, Report *err) {
  if (r->n < 1) return report_add(err, "%d answers: at least 1", r->n);
  for (int i = 0; i < r->nstop; i++)
    if (!r->stop[i][0]) return report_add(err, "a stop string is empty");
  return true;
}

static void read_context(Choice *x, const int32_t *prompt, int n) {
  Text before = {0};
  for (int i = n > CONTEXT ? n - CONTEXT : 0; i < n; i++)
    codec_stream(x->c->codec, &x->stream, (uint32_t)prompt[i], &before);
  text_free(&before);
}

Completion *complete_start(Served *s, const CompleteRequest *r, bool *full, Report *err) {
  *full = false;
  if (!request_check(r, err)) return NULL;
  Completion *c = memory_zeroed(1, sizeof(*c) + sizeof(Choice) * (size_t)r->n);
  c->batcher = s->batcher;
  c->codec = s->codec;
  c->sink = *r->sink;
  c->ctx = r->ctx;
  c->hidden = s->model->limits.hidden;
  c->logprobs = r->top >= 0;
  c->n = r->n;
  c->owners = 1;
  pthread_mutex_init(&c->lock, NULL);
  pthread_cond_init(&c->quiet, NULL);
  GenRequest g = {.prompt = r->prompt,
                  .nprompt = r->nprompt,
                  .max_tokens = r->max_tokens,
                  .sample = r->sample,
                  .top = r->top,
                  .echo = r->echo,
                  .started = r->sink->started != NULL,
                  .stop = r->ignore_eos ? NULL : s->eos,
                  .nstop = r->ignore_eos ? 0 : s->neos,
                  .sink = on_event};
  /* Events wait at the lock until all answers are submitted, or none is told. */
  pthread_mutex_lock(&c->lock);
  bool ok = true;
  for (int i = 0; i < r->n && ok; i++) {
    Choice *x = &c->choice[i];
    x->c = c;
    x->number = i;
    x->stream.skip = true;
    x->stop = stop_new(r->stop, r->nstop);
    if (!r->echo) read_context(x, r->prompt, r->nprompt);
    g.sample.seed = r->sample.seed + (uint64_t)i;
    g.hidden = r->hidden && !i; /* the same row for all */
    g.ctx = x;
    x->id = batcher_submit(s->batcher, &g, full, err);
    ok = x->id != 0;
    c->owners += ok;
  }
  atomic_store(&c->gone, !ok);
  pthread_mutex_unlock(&c->lock);
  if (ok) return c;
  complete_free(c);
  return NULL;
}

void complete_free(Completion *c) {
  if (!c) return;
  pthread_mutex_lock(&c->lock);
  atomic_store(&c->gone, true);
  while (c->telling && !pthread_equal(c->teller, pthread_self())) pthread_cond_wait(&c->quiet, &c->lock);
  for (int i = 0; i < c->n; i++)
    if (c->choice[i].id && !c->choice[i].done) batcher_cancel(c->batcher, c->choice[i].id);
  bool last = !--c->owners;
  pthread_mutex_unlock(&c->lock);
  if (last) release(c);
}
