/* Completions: text in, text out, over a Batcher. What the API, `generate`, `chat`, `batch` and `eval` share.
 *
 * Here are what a batcher of token ids does not know: the codec, stop strings (never told, not even in part; a text that could
 * become one is held back until it is settled), whole UTF-8 characters, several answers to a prompt. */
#ifndef SERVE_COMPLETE_H
#define SERVE_COMPLETE_H
#include "serve/batch.h"
#include "text/chat.h"
#include "text/codec.h"

/* A model that is ready to answer: what an artifact opens. */
typedef struct Served {
  const char *name; /* as the API has it; more names: aliases */
  const char *const *alias;
  int nalias;
  ServeModel *model;
  Batcher *batcher;
  Codec *codec;
  ChatTemplate *chat; /* NULL: the model has none */
  const int32_t *eos; /* ends of a sequence */
  int neos;
  SampleParams defaults; /* of generation_config.json */
  int64_t created;       /* seconds since 1970 */
} Served;

typedef struct CompleteToken {
  int32_t id;
  const char *text; /* its own bytes, which need not be whole characters */
  size_t ntext;
  float logprob;
  const SampleLogprob *top;
  int ntop;
  bool prompt; /* echoed */
} CompleteToken;

/* Called on the batcher's thread; must not block. */
typedef struct CompleteSink {
  /* Text that is settled, and tokens since the last call (without logprobs asked for: ntokens only). */
  void (*text)(void *ctx, int choice, const char *text, size_t n, const CompleteToken *tokens, int ntokens);
  void (*hidden)(void *ctx, const float *row, int n);
  void (*done)(void *ctx, int choice, const char *finish, int generated,
               int cached);               /* "stop", "length", "cancelled", "error" */
  void (*started)(void *ctx, int choice); /* a step takes its prompt up for the first time; NULL: not of interest */
} CompleteSink;

typedef struct CompleteRequest {
  const int32_t *prompt;
  int nprompt, max_tokens, n; /* n answers; each from seed + its number */
  SampleParams sample;
  int top; /* as in GenRequest */
  bool echo, hidden, ignore_eos;
  const char *const *stop;
  int nstop;
  const CompleteSink *sink;
  void *ctx;
} CompleteRequest;

typedef struct Completion Completion;
/* NULL: `full`, or err says why. The Completion must be freed after done was told for every choice, or to cancel what is left:
 * once complete_free returns, the sink is not called again. */
Completion *complete_start(Served *s, const CompleteRequest *r, bool *full, Report *err);
void complete_free(Completion *c);
#endif
