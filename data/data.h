/* Data preparation: text in, token shards with their tokenizer out. docs/data.md is its user's page.
 *
 * data_main is the command `ink data`, the one function here that prints; data_prepare does the work. */
#ifndef DATA_DATA_H
#define DATA_DATA_H
#include "data/shards.h"
#include "data/tokenizer.h"
#include "ink/base.h"

/* argv[0] is "data". Returns the exit status: 0 done, 1 the input is wrong or the work failed, 2 the command line is. */
int data_main(int argc, char **argv);

typedef enum { PREPARE_CHAR, PREPARE_BYTES, PREPARE_GPT2, PREPARE_TRAIN_BPE, PREPARE_MODEL } PrepareTokenizer;

typedef struct PrepareOptions {
  const char *const *inputs; /* .txt and .jsonl files, folders */
  int ninputs;
  const char *out;
  PrepareTokenizer tokenizer;
  const char *gpt2;  /* PREPARE_GPT2: folder of its files */
  const char *model; /* PREPARE_MODEL: folder of its files, or one of them */
  uint32_t vocab;    /* PREPARE_TRAIN_BPE: ids to train to */
  double val;        /* share for validation: [0, 1); 0: none */
  ShardFormat format;
  uint64_t shard_tokens; /* llm.c's format: tokens a shard at most, 1 to 2^31 - 1 */
  bool shuffle;          /* documents into an order drawn from the seed, before the split */
  uint64_t seed;
  bool force;                                                     /* replace an earlier preparation in `out` */
  const volatile int *stop;                                       /* set: give up, leave nothing; may be NULL */
  void (*progress)(const char *what, uint64_t done, uint64_t of); /* bytes of text; may be NULL */
} PrepareOptions;

typedef struct PrepareResult {
  uint32_t vocab;
  int64_t eot;           /* -1: none */
  uint64_t text;         /* bytes */
  uint64_t tokens[2];    /* train, validation */
  uint64_t documents[2]; /* that begin in each */
  int files[2];
  uint64_t empty; /* documents without text, left out */
  char note[512]; /* what was mended in the tokenizer's files; "" for nothing */
} PrepareResult;

/* Writes the folder `out`, whole or not at all. */
bool data_prepare(const PrepareOptions *o, PrepareResult *r, Diags *err);
#endif
