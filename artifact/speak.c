/* One answer, step by step on the caller's thread. */
#include "artifact/speak.h"
#include <math.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

SampleParams sample_params(const SampleOptions *o, const SampleParams *defaults) {
  SampleParams s = *defaults;
  if (!isnan(o->temperature)) s.temperature = (float)o->temperature;
  if (!isnan(o->top_p)) s.top_p = (float)o->top_p;
  if (!isnan(o->min_p)) s.min_p = (float)o->min_p;
  if (!isnan(o->repetition)) s.repetition = (float)o->repetition;
  if (o->top_k >= 0) s.top_k = o->top_k;
  if (o->seed >= 0)
    s.seed = (uint64_t)o->seed;
  else if (getrandom(&s.seed, sizeof(s.seed), GRND_NONBLOCK) < 0)
    s.seed = (uint64_t)getpid();
  s.seed &= 0x7fffffff; /* what --seed takes, so that a text can be had again */
  return s;
}

static void on_text(void *ctx, int choice, const char *text, size_t n, const CompleteToken *tokens, int ntokens) {
  Speech *s = ctx;
  (void)choice, (void)tokens, (void)ntokens;
  if (!n) return;
  text_write(&s->text, text, n);
  if (!s->out) return;
  Text clean = {0};
  if (isatty(fileno(s->out))) text_write_clean(&clean, text, n);
  fwrite(clean.s ? clean.s : text, 1, clean.s ? clean.n : n, s->out);
  fflush(s->out);
  text_free(&clean);
}

static void on_done(void *ctx, int choice, const char *finish, int generated, int cached) {
  Speech *s = ctx;
  (void)choice;
  s->finish = !strcmp(finish, "stop")        ? "stop"
              : !strcmp(finish, "length")    ? "length"
              : !strcmp(finish, "cancelled") ? "cancelled"
                                             : "error";
  s->generated = generated;
  s->cached = cached;
}

bool speak(Opened *o, CompleteRequest *r, Speech *s, Report *err) {
  static const CompleteSink sink = {.text = on_text, .done = on_done};
  bool full = false;
  r->sink = &sink;
  r->ctx = s;
  s->finish = NULL;
  Completion *c = complete_start(&o->served, r, &full, err);
  if (!c) return full ? report_add(err, "the batcher is full") : false;
  while (!s->finish && !interrupted() && batcher_step(o->batcher)) {
  }
  complete_free(c);
  while (batcher_step(o->batcher)) { /* what was cut off leaves */
  }
  if (!s->finish) s->finish = interrupted() ? "cancelled" : "error";
  return strcmp(s->finish, "error") || report_add(err, "the model failed");
}
