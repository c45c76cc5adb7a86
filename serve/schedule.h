/* Which sequences run, and what of each a step computes. The rules:
 *
 * Admission, oldest first. A sequence may run when the pages of all its tokens so far are there and one more for each that
 * runs already. What whole pages the cache has of it are shared; of the page behind them the beginning is copied. One that
 * does not fit lets 16 later ones that do by, then nothing passes it any more. One whose prompt begins like a prompt
 * that is being computed waits, once, until that one has got as far as both go, and then shares its pages.
 *
 * Preemption. A stream that needs a page when none is left takes those of the youngest, which waits again, keeps what was
 * chosen, and is computed anew. So the oldest always gets on, and as no sequence is taken that does not fit alone,
 * everything ends.
 *
 * A step. Each stream gets its token first. Of the room that is left the oldest prompt gets half; the rest goes to the prompts
 * with the least left, the shortest first, so that short ones are not stuck behind a huge one, nor that behind them. */
#ifndef SERVE_SCHEDULE_H
#define SERVE_SCHEDULE_H
#include "serve/pace.h"
#include "serve/sequence.h"

typedef struct Schedule {
  ServeModel *m;
  Pages *pages;
  int most; /* running at once */
  bool share;
  double bound; /* of a step's ms where streams wait; 0: none */
  Pace pace;
  Sequence **running; /* oldest first */
  int nrunning;
  Sequence **order;                     /* of those with prompts, while a step is chosen: the least left first */
  Sequence *waiting;                    /* oldest first */
  int decodes, prompt;                  /* tokens of the step at hand */
  int64_t prompt_tokens, cached_tokens; /* of all that ever ran: of their prompts, of these in the cache */
} Schedule;

void schedule_open(Schedule *s, ServeModel *m, int most, bool share, double bound);
void schedule_close(Schedule *s); /* no sequence is left */
void schedule_wait(Schedule *s, Sequence *q);
void schedule_admit(Schedule *s);
/* Chooses the chunks of a step and fills the model's batch, running sequences in their order. */
void schedule_plan(Schedule *s);
/* After the step: q's chunk is computed. */
void schedule_computed(Schedule *s, Sequence *q);
/* Takes one out of the running or the waiting ones. */
void schedule_remove(Schedule *s, Sequence *q);
#endif
