/* A sequence of the batcher: a request's own copy, its tokens, how far they are computed, and which pages hold that.
 *
 * tokens[0 .. n) are known, the prompt and what was chosen since; of these the first `computed` are in its pages. All that is not
 * computed is due; a token due alone is a decode, more are a prompt (or what preemption took). Only the steps' thread touches
 * one, but for batcher_submit, which makes it. */
#ifndef SERVE_SEQUENCE_H
#define SERVE_SEQUENCE_H
#include "serve/batch.h"
#include "serve/pages.h"
#include "serve/sample.h"

typedef struct Sequence {
  uint64_t id;  /* rises with every submission: the smaller, the older */
  GenRequest r; /* its arrays are copies, prompt is `tokens` */
  int32_t *tokens;
  size_t cap;
  int n, computed;
  int chunk;             /* tokens it has in the step at hand */
  int32_t *pages;        /* [npages] */
  int npages, known;     /* of the pages, whole ones that are told to the cache */
  int told;              /* prompt tokens told, with echo */
  int cached;            /* prompt tokens found in the cache when it first ran; -1 before */
  int passed;            /* later ones that were let by while it waited for pages */
  uint64_t leader;       /* whose prompt it waited for, to share pages; 0: none yet */
  struct Sequence *next; /* in a list of waiting ones */
} Sequence;

Sequence *sequence_new(const GenRequest *r);
void sequence_free(Sequence *q); /* its pages were given back before */

static inline int sequence_due(const Sequence *q) {
  return q->n - q->computed;
}
static inline int sequence_generated(const Sequence *q) {
  return q->n - q->r.nprompt;
}
/* From this token on all due ones need their logits (or hidden rows): the last one, or with logprobs of an echo all that are not
 * told. So what is before may come from the cache. */
int sequence_first_row(const Sequence *q);

/* Tells the prompt as far as that takes no logits. */
void sequence_open(Sequence *q);
/* What the row of tokens[at] brings: a prompt token's logprob, the hidden row, the next token. True: the sequence ends, *finish. */
bool sequence_row(Sequence *q, int at, const float *logits, const float *hidden, Sampler *s, GenFinish *finish);
void sequence_done(Sequence *q, GenFinish finish);
#endif
