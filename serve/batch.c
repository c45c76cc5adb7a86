/* The batcher's threads. All that lasts belongs to the steps' thread alone; other threads put what they want into a mailbox (new
 * sequences, numbers to cancel, stop), which each step empties first. One lock guards the mailbox and the figures; it is
 * never held while a sink or the model runs, so a sink may submit and cancel. What runs, and how much of it: schedule.h.
 *
 * batcher_free must not overlap with a step: who gave batcher_run a thread stops and joins it first. */
#include "serve/batch.h"
#include "serve/schedule.h"
#include "text/memory.h"
#include <pthread.h>
#include <string.h>
#include <time.h>

struct Batcher {
  ServeModel *m;
  BatchOptions o;
  Schedule s;
  Sampler *sampler;

  pthread_mutex_t lock; /* of all below */
  pthread_cond_t mail;
  Sequence *arrived, **last_arrived;
  uint64_t *cancelled; /* their numbers */
  size_t ncancelled, cap_cancelled;
  bool stop;
  bool failed; /* the model cannot go on: `why` */
  Report why;
  uint64_t ids;
  int alive; /* sequences from their submission to their DONE */
  BatchStats stats;
};

static double machine_clock(void *ctx) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int least_of(int a, int b) {
  return a < b ? a : b;
}

Batcher *batcher_new(ServeModel *m, const BatchOptions *o, Report *err) {
  const ServeLimits *l = &m->limits;
  /* Each running sequence may need one token, one row and one page of a step. */
  int most = least_of(least_of(l->seqs, l->tokens), least_of(l->rows, l->pages));
  if (most < 1) {
    report_add(err, "the model has no room for a sequence: %d sequences, %d tokens, %d rows, %d pages", l->seqs,
               l->tokens, l->rows, l->pages);
    return NULL;
  }
  if (o->max_seqs < 0 || o->max_queue < 0 || !(o->max_latency_ms >= 0)) {
    report_add(err, "limits of sequences, queue and latency must not be negative");
    return NULL;
  }
  Batcher *b = memory_zeroed(1, sizeof(*b));
  b->m = m;
  b->o = *o;
  if (!b->o.clock) b->o.clock = machine_clock;
  if (!b->o.max_seqs || b->o.max_seqs > most) b->o.max_seqs = most;
  schedule_open(&b->s, m, b->o.max_seqs, !o->no_prefix_cache, o->max_latency_ms);
  b->sampler = sampler_new(l->vocab);
  b->last_arrived = &b->arrived;
  pthread_mutex_init(&b->lock, NULL);
  pthread_cond_init(&b->mail, NULL);
  return b;
}

/* ---- other threads */

static bool request_check(const GenRequest *r, const ServeLimits *l, Report *err) {
  if (r->nprompt < 1) return report_add(err, "the prompt is empty");
  if (r->max_tokens < 0) return report_add(err, "max_tokens is negative");
  if ((int64_t)r->nprompt + r->max_tokens > l->ctx)
    return report_add(err, "%d tokens of prompt and %d to generate are more than the %d that the model takes",
                      r->nprompt, r->max_tokens, l->ctx);
  int64_t pages = ((int64_t)r->nprompt + r->max_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
  if (pages > l->pages)
    return report_add(err, "%d tokens of prompt and %d to generate are more than the cache holds: %d", r->nprompt,
                      r->max_tokens, l->pages * PAGE_TOKENS);
  for (int i = 0; i < r->nprompt; i++)
    if (r->prompt[i] < 0 || r->prompt[i] >= l->vocab)
      return report_add(err, "the prompt's token %d is %d: ids are from 0 to %d", i, (int)r->prompt[i], l->vocab - 1);
  if (r->top < -1 || r->top > SAMPLE_TOP)
    return report_add(err, "%d alternatives to a token: at most %d can be told", r->top, SAMPLE_TOP);
  if (r->hidden && !l->hidden) return report_add(err, "the model has no hidden rows to show");
  return sample_check(&r->sample, l->vocab, err);
}

uint64_t batcher_submit(Batcher *b, const GenRequest *r, bool *full, Report *err) {
  *full = false;
  if (!request_check(r, &b->m->limits, err)) return 0;
  Sequence *q = sequence_new(r);
  pthread_mutex_lock(&b->lock);
  uint64_t id = 0;
  if (b->failed) {
    report_add(err, "the model has failed: %.*s", (int)(b->why.n ? b->why.n - 1 : 0), b->why.n ? b->why.text : "");
  } else if (b->alive >= b->o.max_seqs + b->o.max_queue) {
    *full = true;
  } else {
    q->id = id = ++b->ids;
    *b->last_arrived = q;
    b->last_arrived = &q->next;
    b->alive++;
    pthread_cond_signal(&b->mail);
  }
  pthread_mutex_unlock(&b->lock);
  if (!id) sequence_free(q);
  return id;
}

void batcher_cancel(Batcher *b, uint64_t id) {
  pthread_mutex_lock(&b->lock);
  RESERVE(b->cancelled, b->cap_cancelled, b->ncancelled + 1);
  b->cancelled[b->ncancelled++] = id;
  pthread_cond_signal(&b->mail);
  pthread_mutex_unlock(&b->lock);
}

void batcher_stop(Batcher *b) {
  pthread_mutex_lock(&b->lock);
  b->stop = true;
  pthread_cond_signal(&b->mail);
  pthread_mutex_unlock(&b->lock);
}

void batcher_stats(const Batcher *b, BatchStats *out) {
  Batcher *open = (Batcher *)b; /* its lock */
  pthread_mutex_lock(&open->lock);
  *out = b->stats;
  out->waiting = b->alive - b->stats.running;
  pthread_mutex_unlock(&open->lock);
}

/* ---- the steps' thread */

/* Under the lock. */
static void note_use(Batcher *b) {
  b->stats.running = b->s.nrunning;
  b->stats.cache_use = (double)pages_held(b->s.pages) / b->m->limits.pages;
}

static void end(Batcher *b, Sequence *q, GenFinish finish) {
  schedule_remove(&b->s, q);
  pthread_mutex_lock(&b->lock);
  b->alive--; /* before the sink hears of it: whoever it tells may submit */
  note_use(b);
  pthread_mutex_unlock(&b->lock);
  sequence_done(q, finish);
  sequence_free(q);
}

static void end_all(Batcher *b, GenFinish finish) {
  while (b->s.nrunning) end(b, b->s.running[0], finish);
  while (b->s.waiting) end(b, b->s.waiting, finish);
}

static Sequence *find(const Schedule *s, uint64_t id) {
  for (int i = 0; i < s->nrunning; i++)
    if (s->running[i]->id == id) return s->running[i];
  for (Sequence *q = s->waiting; q; q = q->next)
    if (q->id == id) return q;
  return NULL;
}

static void empty_mailbox(Batcher *b) {
  pthread_mutex_lock(&b->lock);
  Sequence *arrived = b->arrived;
  uint64_t *cancelled = b->cancelled;
  size_t n = b->ncancelled;
  b->arrived = NULL;
  b->last_arrived = &b->arrived;
  b->cancelled = NULL;
  b->ncancelled = b->cap_cancelled = 0;
  pthread_mutex_unlock(&b->lock);
  while (arrived) {
    Sequence *q = arrived;
    arrived = q->next;
    schedule_wait(&b->s, q);
  }
  for (size_t i = 0; i < n; i++) {
    Sequence *q = find(&b->s, cancelled[i]);
    if (q) end(b, q, GEN_CANCELLED);
  }
  free(cancelled);
}

/* What the step computed, sequence by sequence. Returns how many tokens were chosen. */
static int tell_all(Batcher *b) {
  Schedule *s = &b->s;
  const ServeBatch *batch = &b->m->batch;
  size_t vocab = (size_t)b->m->limits.vocab, width = (size_t)b->m->limits.hidden;
  int row = 0, generated = 0;
  for (int i = 0; i < s->nrunning;) {
    Sequence *q = s->running[i];
    bool ends = false;
    GenFinish finish = GEN_LENGTH;
    int at = sequence_first_row(q), before = q->n;
    if (q->chunk) schedule_computed(s, q);
    for (; q->chunk && at < q->computed; at++, row++)
      if (!ends)
        ends = sequence_row(q, at, batch->logits + (size_t)row * vocab,
                            batch->hidden ? batch->hidden + (size_t)row * width : NULL, b->sampler, &finish);
    generated += q->n - before;
    if (ends)
      end(b, q, finish);
    else
      i++;
  }
  return generated;
}

static void fail(Batcher *b, Report *why) {
  pthread_mutex_lock(&b->lock);
  b->failed = b->stats.failed = true;
  b->why = *why;
  pthread_mutex_unlock(&b->lock);
  empty_mailbox(b);
  end_all(b, GEN_FAILED);
}

bool batcher_step(Batcher *b) {
  Schedule *s = &b->s;
  double start = b->o.clock(b->o.clock_ctx);
  pthread_mutex_lock(&b->lock);
  bool work = b->alive || b->ncancelled;
  pthread_mutex_unlock(&b->lock);
  if (!work) return false;
  empty_mailbox(b);
  schedule_admit(s);
  schedule_plan(s);
  if (!b->m->batch.n) return true; /* all were cancelled */
  Report why = {0};
  if (!b->m->run(b->m, &why)) {
    fail(b, &why);
    return true;
  }
  int generated = tell_all(b);
  pace_note(&s->pace, s->decodes, s->prompt, b->o.clock(b->o.clock_ctx) - start);
  pthread_mutex_lock(&b->lock);
  note_use(b);
  b->stats.steps++;
  b->stats.prompt_tokens = s->prompt_tokens;
  b->stats.cached_tokens = s->cached_tokens;
  b->stats.generated_tokens += generated;
  pthread_mutex_unlock(&b->lock);
  return true;
}

void batcher_run(Batcher *b) {
  pthread_mutex_lock(&b->lock);
  while (!b->stop) {
    if (b->alive || b->ncancelled) {
      pthread_mutex_unlock(&b->lock);
      batcher_step(b);
      pthread_mutex_lock(&b->lock);
    } else {
      pthread_cond_wait(&b->mail, &b->lock);
    }
  }
  pthread_mutex_unlock(&b->lock);
}

void batcher_free(Batcher *b) {
  if (!b) return;
  empty_mailbox(b);
  end_all(b, GEN_CANCELLED);
  schedule_close(&b->s);
  sampler_free(b->sampler);
  report_free(&b->why);
  pthread_mutex_destroy(&b->lock);
  pthread_cond_destroy(&b->mail);
  free(b);
}
