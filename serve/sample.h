/* From a row of logits to a token, as SampleParams say.
 *
 * Everything is +, -, *, / and comparisons in a fixed order: the same bits on every machine. A vocabulary is never sorted: one
 * pass for the largest (of each block of 64 as well), one for the sum of exponentials where one is needed, and then only
 * blocks that may hold a chosen token are looked at again. */
#ifndef SERVE_SAMPLE_H
#define SERVE_SAMPLE_H
#include "runtime/report.h"
#include "serve/batch.h"

typedef struct Sampler Sampler; /* working memory, for one thread at a time */
Sampler *sampler_new(int vocab);
void sampler_free(Sampler *s);

/* False: a value is out of range, err says which. */
bool sample_check(const SampleParams *p, int vocab, Report *err);

typedef struct Sampled {
  int32_t token;
  float logprob;                 /* NAN with top < 0 */
  SampleLogprob top[SAMPLE_TOP]; /* the likeliest, best first, ties to the smaller id */
  int ntop;
} Sampled;

/* The token behind history[0 .. n), of which the first nprompt are the prompt's. False: the logits hold a NaN or +inf, or nothing
 * is left to choose from. */
bool sample_next(Sampler *s, const float *logits, const SampleParams *p, const int32_t *history, int nprompt, int n,
                 int top, Sampled *out);
/* The same for a token that is known already. */
bool sample_known(Sampler *s, const float *logits, int32_t token, int top, Sampled *out);
#endif
