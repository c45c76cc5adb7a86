/* How likely the model finds texts: what eval is made of. */
#ifndef ARTIFACT_SCORE_H
#define ARTIFACT_SCORE_H
#include "artifact/open.h"

/* Tokens [from, n) given those before them; the first of all has no probability. */
typedef struct Score {
  const int32_t *ids;
  int n, from;
  const unsigned char *skip; /* NULL, or 1 for tokens that do not count */
  double sum;                /* of natural logarithms of probabilities */
  int count;                 /* tokens summed */
  /* score.c's own */
  int at;
  bool over, failed;
} Score;

/* As many at once as the batcher takes. told: after each, for progress; may be NULL. false: err says why, or Ctrl-C. */
bool score_all(Opened *o, Score *v, int64_t n, void (*told)(void *ctx, int64_t done), void *ctx, Report *err);
#endif
