/* An artifact that is ready to answer: file, program, weights, tokenizer, template, model and batcher. */
#ifndef ARTIFACT_OPEN_H
#define ARTIFACT_OPEN_H
#include "artifact/card.h"
#include "artifact/command.h"
#include "serve/complete.h"

typedef struct OpenOptions {
  int threads; /* 0: one for each core that this process may use */
  double
      cache; /* GiB for keys and values; 0: as much as max_seqs sequences of the whole context need, if there is room */
  int max_seqs;   /* at once; 0: what the artifact was built for */
  int max_queue;  /* behind them */
  double latency; /* milliseconds between tokens of running streams while prompts arrive; 0: unbounded */
  bool no_prefix_cache, no_check;
  const char *alias; /* further names of the model, with commas between them; NULL: none */
} OpenOptions;

/* Rows of a command's table, for a struct T with a member `open`. */
#define OPEN_OPTIONS(T)                                                                                                \
  {"--threads",                                                                                                        \
   "N",                                                                                                                \
   OPT_INT,                                                                                                            \
   offsetof(T, open.threads),                                                                                          \
   1,                                                                                                                  \
   1024,                                                                                                               \
   "threads; default: one for each core this process may use"},                                                        \
      {"--cache",                                                                                                      \
       "GIB",                                                                                                          \
       OPT_NUM,                                                                                                        \
       offsetof(T, open.cache),                                                                                        \
       0.001,                                                                                                          \
       1e6,                                                                                                            \
       "memory for keys and values; default: what max-batch sequences need, if there is room"},                        \
      {"--max-batch",                                                                                                  \
       "N",                                                                                                            \
       OPT_INT,                                                                                                        \
       offsetof(T, open.max_seqs),                                                                                     \
       1,                                                                                                              \
       65536,                                                                                                          \
       "sequences at once; default: what the artifact was built for"},                                                 \
      {"--no-prefix-cache",                                                                                            \
       NULL,                                                                                                           \
       OPT_FLAG,                                                                                                       \
       offsetof(T, open.no_prefix_cache),                                                                              \
       0,                                                                                                              \
       0,                                                                                                              \
       "do not reuse what earlier prompts began with"},                                                                \
  {                                                                                                                    \
    "--no-check", NULL, OPT_FLAG, offsetof(T, open.no_check), 0, 0, "do not check the weights' hash at the start"      \
  }

typedef struct Opened {
  Artifact *file;
  json_t *card;
  Program program;
  SafeFile *weights;
  void **param;
  Codec *codec;
  ChatTemplate *chat;
  json_t *chat_variables;
  ServeModel *model;
  Batcher *batcher;
  int32_t *eos;
  char *alias_text;   /* of the aliases */
  const char **alias; /* into it */
  Served served;      /* of all these */
} Opened;

/* File, card and program alone. Close it after errors, too. */
bool opened_file(Opened *o, const Call *c, Report *err);
/* The rest. notes: what the user should know. */
bool opened_model(Opened *o, const OpenOptions *options, Report *notes, Report *err);
void opened_close(Opened *o);

/* A text as ids, in front of it what the tokenizer puts there. */
bool opened_encode(Opened *o, const char *text, size_t n, unsigned flags, Ids *ids, Report *err);
void report_diags(const Diags *d, const char *before, Report *err);
#endif
