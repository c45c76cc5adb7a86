/* Scores by echoed prompts: nothing is generated. */
#include "artifact/score.h"

static void on_event(void *ctx, const GenEvent *e) {
  Score *s = ctx;
  if (e->kind == GEN_PROMPT) {
    int i = s->at++;
    if (i < s->from || i == 0 || i >= s->n || (s->skip && s->skip[i])) return;
    s->sum += (double)e->logprob;
    s->count++;
  }
  if (e->kind == GEN_DONE) {
    s->over = true;
    s->failed = e->finish == GEN_FAILED || e->finish == GEN_CANCELLED || s->at != s->n;
  }
}

bool score_all(Opened *o, Score *v, int64_t n, void (*told)(void *ctx, int64_t done), void *ctx, Report *err) {
  int64_t begun = 0, done = 0;
  while (done < n) {
    bool full = false;
    while (begun < n && !full) {
      Score *s = &v[begun];
      s->sum = s->count = s->at = 0;
      s->over = s->failed = false;
      GenRequest r = {.prompt = s->ids, .nprompt = s->n, .echo = true, .top = 0, .sink = on_event, .ctx = s};
      r.sample = (SampleParams){.top_p = 1, .repetition = 1};
      if (!batcher_submit(o->batcher, &r, &full, err) && !full) return false;
      begun += !full;
    }
    if (interrupted()) return report_add(err, "stopped");
    if (!batcher_step(o->batcher) && !v[done].over) return report_add(err, "the model stands still");
    for (; done < begun && v[done].over; done++) {
      if (v[done].failed) return report_add(err, "the model failed");
      if (told) told(ctx, done + 1);
    }
  }
  return true;
}
