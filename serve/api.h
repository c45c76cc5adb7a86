/* A request of the API from its body to its answer.
 *
 * A Job belongs to one thread at a time: the loop makes it, the reading thread prepares it (JSON, template, tokens), the loop
 * runs it. Sinks, on the batcher's thread, only post what they are told. A Job is freed on the loop by a mail behind all others. */
#ifndef SERVE_API_H
#define SERVE_API_H
#include "serve/http.h"
#include "serve/json.h"
#include "serve/mailbox.h"
#include "serve/metrics.h"

#define JSON_TYPE "application/json"

typedef struct Job Job;

/* What jobs share. */
typedef struct Api {
  const ServerOptions *o;
  Served *served; /* NULL: not ready */
  Codec *codec;   /* the reading thread's */
  Mailbox loop, reader;
  Metrics metrics;           /* the loop's */
  Job *jobs;                 /* the loop's: all there are */
  size_t bodies;             /* the loop's: bytes of their bodies */
  int reading;               /* of these are with the reading thread */
  bool draining;             /* the loop's */
  void (*broken)(void *ctx); /* the model cannot go on; NULL: nobody asks */
  void *ctx;
} Api;

typedef struct ApiError {
  int status; /* 0: none */
  const char *param, *code;
  char text[600];
} ApiError;

/* What an endpoint does with a job; NULL: nothing. */
typedef struct ApiCall {
  unsigned fields; /* FOR_ bit: the fields it knows */
  bool (*prepare)(Job *j, json_t *body);
  void (*begin)(Job *j);            /* the stream's first chunks */
  void (*told)(Job *j, int choice); /* text or logprobs were added to a choice: a chunk of a stream */
  void (*done)(Job *j, int choice); /* a choice is over */
  void (*end)(Job *j, Text *out);   /* all is over: the answer, or the stream's last chunks */
  void (*logprobs)(Job *j, int choice, const CompleteToken *t);
} ApiCall;

extern const ApiCall api_completions, api_chat, api_embeddings, api_tokenize, api_detokenize;

/* Values of a body's fields, serve/fields.def; what is not said has its default. */
typedef double field_num;
typedef int64_t field_int;
typedef bool field_flag;
typedef struct Fields {
#define FIELD(kind, name, where, low, high) field_##kind name;
#define REFUSED(name, where, neutral)
#define OWN(name, where)
#define IGNORED(name, where)
#include "serve/fields.def"
#undef FIELD
#undef REFUSED
#undef OWN
#undef IGNORED
} Fields;
enum { FOR_COMPLETION = 1, FOR_CHAT = 2, FOR_EMBEDDING = 4, FOR_TOKENIZE = 8, FOR_DETOKENIZE = 16 };

typedef struct Choice {
  Text text;       /* not told yet */
  Text logprob[4]; /* likewise, lists of JSON; what they hold is the endpoint's business */
  size_t offset;   /* in characters, of the next token's text */
  const char *finish;
  double last; /* when its last token came */
  int echo;    /* tokens of the prompt still to be told */
} Choice;

typedef struct Prompt {
  Job *job;
  int index;
  const int32_t *ids;
  int n, max_tokens;
  Completion *run;
  int left, cached;
  float *hidden;
  int nhidden;
} Prompt;

struct Job {
  Mail mail;
  Job *next, *prev;
  Api *api;
  const ApiCall *call;
  Http *http; /* NULL: the client is gone, or there never was one: */
  void (*answered)(void *ctx, int status, const char *s, size_t n); /* gets the answer instead; NULL once it did */
  void *ctx;
  Arena *arena;
  char *body;
  size_t nbody;
  ApiError error;
  Text answer; /* of endpoints that ask no model */
  Text out;    /* scratch for chunks */
  const char *model;
  char id[48];
  int64_t created;
  double arrived;
  Fields fields;
  CompleteRequest request; /* what prompts share */
  Prompt *prompts;
  int nprompts, started, over;
  Choice *choices; /* [nprompts][request.n] */
  int64_t generated;
  size_t held; /* bytes of its answer so far, when it is no stream */
  bool stream, usage, base64, first_told, with_reader, running, dead;
};

/* ---- job.c */
void job_new(Api *a, const ApiCall *call, Http *r, double now);
/* The same without a connection: `answered` is told on the loop's thread, once. An answer that streams is refused. */
void job_offline(Api *a, const ApiCall *call, const char *body, size_t n, double now,
                 void (*answered)(void *ctx, int status, const char *s, size_t n), void *ctx);
void job_gone(Job *j);                                 /* its client left */
void job_cancel(Job *j, int status, const char *text); /* the server ends it */
void job_send(Job *j);                                 /* a stream: `out` as an event, and empties it */

/* ---- api.c: what endpoints share */
bool api_refuse(Job *j, int status, const char *param, const char *code, const char *fmt, ...) PRINTF(5, 6);
void api_error_text(Text *out, int status, const char *param, const char *code, const char *text);
/* The fields of the body by the table, and the model's name. */
bool api_fields(Job *j, json_t *body);
bool api_model(Job *j, const json_t *body, bool needed);
/* Sampling, stop, logit_bias, n, stream and stream_options: all but the prompts and the lengths. */
bool api_sampling(Job *j, json_t *body);
/* max_tokens of each prompt: `asked`, -1: by default (`fallback`, 0: what fits). */
bool api_lengths(Job *j, int64_t asked, const char *param, int fallback);
bool api_prompt_text(Job *j, Prompt *p, const char *s, size_t n, unsigned flags);
bool api_prompt_ids(Job *j, Prompt *p, const json_t *ids, const char *param);
/* A text, a list of texts, a list of ids, or a list of lists of ids. */
bool api_prompts(Job *j, const json_t *v, const char *param, int most, unsigned flags);
void api_usage(const Job *j, Text *out); /* ,"usage":{...} */
void api_usage_null(Text *out);
/* The prompt of messages, rendered; into one prompt (api_chat.c). */
bool api_messages(Job *j, const json_t *body);
/* Text and bytes of a token. */
const char *api_token(const Job *j, int32_t id, size_t *n);

/* ---- api_models.c */
const char *api_find_model(const Served *s, const char *name); /* as the API has it; NULL: unknown */
void api_models(const Served *s, Text *out);
bool api_model_named(const Served *s, const char *name, Text *out);
#endif
