/* Events of one sequence: started, then in the order GenKind has them. See sequence.h. */
#include "serve/sequence.h"
#include "text/memory.h"
#include <math.h>
#include <string.h>

static void *copy_of(const void *from, int n, size_t item) {
  void *to = memory_zeroed((size_t)n, item);
  if (n) memcpy(to, from, (size_t)n * item);
  return to;
}

Sequence *sequence_new(const GenRequest *r) {
  Sequence *q = memory_zeroed(1, sizeof(*q));
  q->r = *r;
  RESERVE(q->tokens, q->cap, r->nprompt);
  memcpy(q->tokens, r->prompt, sizeof(*q->tokens) * (size_t)r->nprompt);
  q->n = r->nprompt;
  q->r.prompt = NULL;
  q->r.sample.bias = copy_of(r->sample.bias, r->sample.nbias, sizeof(*r->sample.bias));
  q->r.stop = copy_of(r->stop, r->nstop, sizeof(*r->stop));
  q->cached = -1;
  return q;
}

void sequence_free(Sequence *q) {
  free(q->tokens);
  free(q->pages);
  free((void *)q->r.sample.bias);
  free((void *)q->r.stop);
  free(q);
}

static bool echoes_logprobs(const Sequence *q) {
  return q->r.echo && q->r.top >= 0;
}

int sequence_first_row(const Sequence *q) {
  if (!echoes_logprobs(q) || q->told >= q->r.nprompt) return q->n - 1;
  return q->told ? q->told - 1 : 0;
}

static void tell(Sequence *q, const GenEvent *e) {
  q->r.sink(q->r.ctx, e);
}

void sequence_open(Sequence *q) {
  if (q->r.started) tell(q, &(GenEvent){.kind = GEN_STARTED, .logprob = NAN});
  q->r.started = false; /* once, though it may be taken up again */
  int n = !q->r.echo ? 0 : q->r.top >= 0 ? 1 : q->r.nprompt;
  while (q->told < n) tell(q, &(GenEvent){.kind = GEN_PROMPT, .token = q->tokens[q->told++], .logprob = NAN});
}

bool sequence_row(Sequence *q, int at, const float *logits, const float *hidden, Sampler *s, GenFinish *finish) {
  Sampled one;
  *finish = GEN_FAILED;
  if (at < q->r.nprompt - 1) {
    if (!echoes_logprobs(q) || at + 1 != q->told) return false;
    if (!sample_known(s, logits, q->tokens[at + 1], q->r.top, &one)) return true;
    q->told++;
    tell(q, &(GenEvent){GEN_PROMPT, .token = one.token, .logprob = one.logprob, .top = one.top, .ntop = one.ntop});
    return false;
  }
  if (at == q->r.nprompt - 1 && q->r.hidden) { /* once: a token follows, or the end */
    if (!hidden) return true;
    tell(q, &(GenEvent){GEN_HIDDEN, .hidden = hidden});
  }
  if (sequence_generated(q) < q->r.max_tokens) {
    if (!sample_next(s, logits, &q->r.sample, q->tokens, q->r.nprompt, q->n, q->r.top, &one)) return true;
    *finish = GEN_STOP;
    for (int i = 0; i < q->r.nstop; i++)
      if (one.token == q->r.stop[i]) return true;
    RESERVE(q->tokens, q->cap, q->n + 1);
    q->tokens[q->n++] = one.token;
    tell(q, &(GenEvent){GEN_TOKEN, .token = one.token, .logprob = one.logprob, .top = one.top, .ntop = one.ntop});
  }
  *finish = GEN_LENGTH;
  return sequence_generated(q) == q->r.max_tokens;
}

void sequence_done(Sequence *q, GenFinish finish) {
  tell(q, &(GenEvent){GEN_DONE, .finish = finish, .cached = q->cached > 0 ? q->cached : 0});
}
