/* The continuous batcher: sequences come and go, and every step runs one batch of whatever is due: a token of each running stream and,
 * in what room is left, chunks of waiting prompts.
 *
 * Threads: any thread may submit and cancel. The steps are made by one thread, batcher_run (a server gives it one) or
 * batcher_step; sinks are called on it and must not block. Law: a sequence's tokens are those it would have alone. */
#ifndef SERVE_BATCH_H
#define SERVE_BATCH_H
#include "serve/model.h"

#include <stdbool.h>

enum { SAMPLE_TOP = 20 }; /* alternatives told a token, at most */

typedef struct SampleBias {
  int32_t token;
  float bias; /* added to the logit; -100 and below: never */
} SampleBias;

/* How a token is chosen. Order: bias, penalties, temperature, top_k, top_p, min_p; then one draw of a counter-based
 * generator keyed by the seed, its counter the position: so a seed gives the same text whatever runs beside it. */
typedef struct SampleParams {
  float temperature;         /* 0: the largest logit, ties to the smaller id */
  int top_k;                 /* 0: all */
  float top_p, min_p;        /* 1 and 0: all */
  float repetition;          /* Keskar et al. 2019, over prompt and answer; 1: none */
  float presence, frequency; /* OpenAI's, over the answer; 0: none */
  uint64_t seed;
  const SampleBias *bias;
  int nbias;
} SampleParams;

typedef struct SampleLogprob {
  int32_t token;
  float logprob; /* log softmax of the logits as the model gave them */
} SampleLogprob;

typedef enum { GEN_PROMPT, GEN_TOKEN, GEN_HIDDEN, GEN_DONE, GEN_STARTED } GenKind;
typedef enum { GEN_LENGTH, GEN_STOP, GEN_CANCELLED, GEN_FAILED } GenFinish;

typedef struct GenEvent {
  GenKind kind;
  int32_t token;            /* PROMPT (with echo), TOKEN */
  float logprob;            /* of it; NAN: not asked for, or the first of a prompt */
  const SampleLogprob *top; /* the likeliest, best first */
  int ntop;
  const float *hidden; /* HIDDEN: of the prompt's last token, [limits.hidden] */
  GenFinish finish;    /* DONE, the last event */
  int cached;          /* DONE: tokens of the prompt that were found in the cache */
} GenEvent;

typedef void GenSink(void *ctx, const GenEvent *e);

typedef struct GenRequest {
  const int32_t *prompt;
  int nprompt; /* at least 1; nprompt + max_tokens at most ctx */
  int max_tokens;
  SampleParams sample;
  int top;             /* alternatives to tell, with the token's own logprob; -1: no logprobs at all */
  bool echo;           /* tell the prompt's tokens too, each with its logprob if top >= 0 */
  bool hidden;         /* tell the hidden row of the last prompt token; max_tokens may be 0 */
  bool started;        /* tell, before all else, that a step takes the prompt up for the first time */
  const int32_t *stop; /* tokens that end the answer: the end-of-sequence ids; they are not told */
  int nstop;
  GenSink *sink;
  void *ctx;
} GenRequest;

typedef struct Batcher Batcher;

typedef struct BatchOptions {
  int max_seqs;          /* running at once; 0: what the model takes */
  int max_queue;         /* waiting behind them */
  double max_latency_ms; /* between tokens of running streams while prompts arrive; 0: unbounded */
  bool no_prefix_cache;
  double (*clock)(void *ctx); /* milliseconds, of the steps' thread; NULL: the machine's */
  void *clock_ctx;
} BatchOptions;

typedef struct BatchStats {
  int running, waiting;
  double cache_use; /* share of pages held by running sequences */
  /* prompt_tokens: of all that ever ran; cached_tokens: those of them that were not computed */
  int64_t steps, prompt_tokens, cached_tokens, generated_tokens;
  bool failed; /* the model cannot go on: all that there was got GEN_FAILED, nothing is taken any more */
} BatchStats;

Batcher *batcher_new(ServeModel *m, const BatchOptions *o, Report *err);
void batcher_free(
    Batcher *b); /* what is unfinished is cancelled; not while a step runs: stop and join its thread first */

/* Everything in the request is copied. Returns its number, 0 with `full` set when the queue is full, else 0 with what is wrong in err. */
uint64_t batcher_submit(Batcher *b, const GenRequest *r, bool *full, Report *err);
void batcher_cancel(Batcher *b, uint64_t id); /* its sink gets DONE with GEN_CANCELLED from the steps' thread */

bool batcher_step(Batcher *b); /* one step; false: there was nothing to do */
void batcher_run(Batcher *b);  /* steps until batcher_stop and sleeps when there is nothing to do */
void batcher_stop(Batcher *b); /* from any thread; also before batcher_run */
void batcher_stats(const Batcher *b, BatchStats *out); /* any thread */
#endif
