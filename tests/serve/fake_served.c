/* The functions of serve/complete.h and batch.h that the server calls, over a model that is none: token i of answer k is the
 * prompt's token i + k + seed (without the seed at temperature 0), and a prompt's length ends it. What is linked before
 * the real ones takes their place.
 *
 * One mutex: a step holds it while it calls sinks, complete_free while it takes a completion out. */
#include "tests/serve/fake_served.h"
#include "text/utf8.h"

#include <math.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

typedef struct Answer {
  int made;
  Text text; /* all of it */
  size_t told;
  bool running, over;
} Answer;

struct Completion {
  Completion *next;
  Batcher *b;
  CompleteRequest r;
  int32_t *prompt;
  char **stop;
  Answer *answer; /* [n] */
};

struct Batcher {
  pthread_mutex_t lock;
  pthread_cond_t more;
  FakeOptions o;
  Completion *list;
  bool stop;
  BatchStats stats;
  int unfinished;
};

/* ---- completions */

static SampleLogprob *alternatives(const Completion *c, int32_t id, SampleLogprob top[SAMPLE_TOP]) {
  for (int i = 0; i < c->r.top; i++) top[i] = (SampleLogprob){(id + i) % FAKE_VOCAB, -.5f - .25f * (float)i};
  return top;
}

/* Bytes that are whole characters, in front of what may become a stop string. */
static size_t settled(const Completion *c, const Answer *a, bool last) {
  size_t n = a->told;
  uint32_t cp;
  while (n < a->text.n) {
    int k = utf8_next((unsigned char *)a->text.s + n, a->text.n - n, &cp);
    if (k == UTF8_SHORT && !last) break;
    n += k > 0 ? (size_t)k : 1;
  }
  for (int i = 0; i < c->r.nstop && !last; i++)
    for (size_t k = strlen(c->stop[i]) - 1; k > 0; k--)
      if (a->text.n >= k && !memcmp(a->text.s + a->text.n - k, c->stop[i], k) && a->text.n - k < n) {
        n = a->text.n - k > a->told ? a->text.n - k : a->told;
        break;
      }
  return n;
}

/* One token of an answer, and its end if it is the last. */
static void make(Completion *c, int number) {
  Answer *a = &c->answer[number];
  const CompleteRequest *r = &c->r;
  uint64_t shift = (uint64_t)number + (r->sample.temperature > 0 ? r->sample.seed % 1000 : 0);
  const char *finish = NULL;
  int told = 0, limit = c->b->o.fail_after;
  size_t cut = SIZE_MAX;
  SampleLogprob top[SAMPLE_TOP];
  CompleteToken t = {0};
  if (r->max_tokens == 0) {
    finish = "length";
  } else if (c->b->stats.failed || (limit && a->made == limit)) {
    finish = "error";
  } else if (a->made >= r->nprompt && !r->ignore_eos) {
    finish = "stop";
  } else {
    t.id = c->prompt[((uint64_t)a->made + shift) % (uint64_t)r->nprompt];
    t.text = codec_token(NULL, (uint32_t)t.id, &t.ntext);
    t.logprob = -.5f;
    t.ntop = r->top > 0 ? r->top : 0;
    t.top = alternatives(c, t.id, top);
    if (t.id < 256) text_write(&a->text, t.text, t.ntext);
    a->made++;
    told = 1;
    c->b->stats.generated_tokens++;
    if (a->made == r->max_tokens) finish = "length";
  }
  for (int i = 0; i < r->nstop; i++) {
    const char *at = a->text.n ? memmem(a->text.s, a->text.n, c->stop[i], strlen(c->stop[i])) : NULL;
    if (at && (size_t)(at - a->text.s) < cut) cut = (size_t)(at - a->text.s), finish = "stop";
  }
  size_t end = cut != SIZE_MAX ? cut : settled(c, a, finish != NULL);
  if (end > a->told || told)
    r->sink->text(r->ctx, number, a->text.s ? a->text.s + a->told : "", end - a->told, r->top >= 0 && told ? &t : NULL,
                  told);
  a->told = end;
  if (!finish) return;
  a->over = true;
  c->b->stats.running--;
  r->sink->done(r->ctx, number, finish, a->made, 0);
}

static void first_step(Completion *c, int number) {
  const CompleteRequest *r = &c->r;
  c->b->stats.prompt_tokens += r->nprompt;
  if (r->sink->started) r->sink->started(r->ctx, number);
  if (r->hidden) {
    float row[FAKE_HIDDEN];
    for (int i = 0; i < FAKE_HIDDEN; i++) row[i] = (float)(1 + (c->prompt[r->nprompt - 1] * (i + 3)) % 17);
    r->sink->hidden(r->ctx, row, FAKE_HIDDEN);
  }
  for (int i = 0; i < r->nprompt && r->echo; i++) {
    SampleLogprob top[SAMPLE_TOP];
    CompleteToken t = {.id = c->prompt[i], .logprob = i ? -1.5f : NAN, .prompt = true};
    t.text = codec_token(NULL, (uint32_t)t.id, &t.ntext);
    t.ntop = i && r->top > 0 ? r->top : 0;
    t.top = alternatives(c, t.id, top);
    r->sink->text(r->ctx, number, t.text, t.id < 256 ? t.ntext : 0, r->top >= 0 ? &t : NULL, 1);
  }
}

static bool step(Batcher *b) {
  bool any = false;
  b->stats.failed |= b->o.break_at && b->stats.steps >= b->o.break_at && b->list;
  for (Completion *c = b->list; c; c = c->next) {
    for (int k = 0; k < c->r.n; k++) {
      Answer *a = &c->answer[k];
      if (a->over) continue;
      any = true;
      if (!a->running) {
        if (b->stats.running >= b->o.max_seqs) continue;
        a->running = true;
        b->stats.waiting--;
        b->stats.running++;
        first_step(c, k);
      }
      make(c, k);
    }
  }
  b->stats.steps += any;
  b->stats.cache_use = (double)b->stats.running / b->o.max_seqs;
  return any;
}

void batcher_run(Batcher *b) {
  pthread_mutex_lock(&b->lock);
  while (!b->stop) {
    if (!step(b)) {
      pthread_cond_wait(&b->more, &b->lock);
      continue;
    }
    pthread_mutex_unlock(&b->lock);
    struct timespec t = {b->o.delay_ms / 1000, b->o.delay_ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
    pthread_mutex_lock(&b->lock);
  }
  pthread_mutex_unlock(&b->lock);
}

void batcher_stop(Batcher *b) {
  pthread_mutex_lock(&b->lock);
  b->stop = true;
  pthread_cond_signal(&b->more);
  pthread_mutex_unlock(&b->lock);
}

void batcher_stats(const Batcher *b, BatchStats *out) {
  pthread_mutex_lock((pthread_mutex_t *)&b->lock);
  *out = b->stats;
  pthread_mutex_unlock((pthread_mutex_t *)&b->lock);
}

Completion *complete_start(Served *s, const CompleteRequest *r, bool *full, Report *err) {
  Batcher *b = s->batcher;
  *full = false;
  BatchStats now;
  batcher_stats(b, &now);
  if (now.failed) {
    report_add(err, "the model has failed");
    return NULL;
  }
  if (r->nprompt == 2 && r->prompt[0] == '!' && r->prompt[1] == '!') {
    report_add(err, "this prompt is not liked");
    return NULL;
  }
  pthread_mutex_lock(&b->lock);
  if (b->stats.waiting + r->n > b->o.max_queue) {
    *full = true;
    pthread_mutex_unlock(&b->lock);
    return NULL;
  }
  Completion *c = memory_zeroed(1, sizeof *c), **last = &b->list;
  c->b = b;
  c->r = *r;
  c->prompt = memory_resize(NULL, (size_t)r->nprompt, sizeof *c->prompt);
  memcpy(c->prompt, r->prompt, (size_t)r->nprompt * sizeof *c->prompt);
  c->stop = memory_zeroed((size_t)r->nstop, sizeof *c->stop);
  for (int i = 0; i < r->nstop; i++) c->stop[i] = strdup(r->stop[i]);
  c->answer = memory_zeroed((size_t)r->n, sizeof *c->answer);
  while (*last) last = &(*last)->next;
  *last = c;
  b->stats.waiting += r->n;
  b->unfinished++;
  pthread_cond_signal(&b->more);
  pthread_mutex_unlock(&b->lock);
  return c;
}

void complete_free(Completion *c) {
  Batcher *b = c->b;
  pthread_mutex_lock(&b->lock);
  Completion **at = &b->list;
  while (*at != c) at = &(*at)->next;
  *at = c->next;
  for (int k = 0; k < c->r.n; k++) {
    if (!c->answer[k].over) *(c->answer[k].running ? &b->stats.running : &b->stats.waiting) -= 1;
    text_free(&c->answer[k].text);
  }
  b->unfinished--;
  pthread_mutex_unlock(&b->lock);
  for (int i = 0; i < c->r.nstop; i++) free(c->stop[i]);
  free(c->stop);
  free(c->answer);
  free(c->prompt);
  free(c);
}

/* ---- the whole */

void fake_open(Served *s, const FakeOptions *o) {
  static const char *const alias[] = {"org/fake"};
  static const int32_t eos[] = {FAKE_EOS};
  Batcher *b = memory_zeroed(1, sizeof *b);
  ServeModel *m = memory_zeroed(1, sizeof *m);
  pthread_mutex_init(&b->lock, NULL);
  pthread_cond_init(&b->more, NULL);
  b->o = *o;
  m->limits = (ServeLimits){.vocab = FAKE_VOCAB, .hidden = FAKE_HIDDEN, .ctx = o->ctx};
  *s = (Served){
      .name = "fake",
      .alias = alias,
      .nalias = 1,
      .model = m,
      .batcher = b,
      .codec = codec_share(NULL),
      .chat = o->no_chat ? NULL : (ChatTemplate *)b,
      .eos = eos,
      .neos = 1,
      .defaults = {.temperature = 1, .top_p = 1, .repetition = 1},
      .created = 1700000000,
  };
}

int fake_unfinished(const Served *s) {
  pthread_mutex_lock(&s->batcher->lock);
  int n = s->batcher->unfinished;
  pthread_mutex_unlock(&s->batcher->lock);
  return n;
}

void fake_close(Served *s) {
  codec_free(s->codec);
  free(s->model);
  pthread_mutex_destroy(&s->batcher->lock);
  pthread_cond_destroy(&s->batcher->more);
  free(s->batcher);
}
