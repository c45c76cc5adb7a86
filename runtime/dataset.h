/* Data sets: what a training program's DATA buffers can be fed from.
 *
 * A data set is a number of samples; sample i fills row r of the program's data buffers. Two kinds stand behind this
 * header: windows of token shards (tokens.c) and labelled images in idx files (idx.c). Every value that a program uses
 * as an index (token ids, labels) is checked here before it gets there. */
#ifndef RT_DATASET_H
#define RT_DATASET_H
#include "runtime/fs.h"
#include "runtime/inkrt.h"

typedef enum { FORMAT_LLMC, FORMAT_NANOGPT } TokenFormat;

typedef struct Dataset Dataset;

/* Token shards: 256 int32 of header (magic 20240520, version 1, count; then uint16 ids; or magic 20240801, version 7;
 * then uint32), or headerless uint16. Sidecars FILE.mask (a byte a token: 1 counts in the loss) and FILE.docs (u64
 * starts of documents) are read when there. time: window length; vocab: ids must be below it. */
Dataset *tokens_open(const FsList *files, TokenFormat format, int64_t time, int64_t vocab, Report *err);

/* An idx3 file of bytes (images) and an idx1 file (labels, below `classes`). pixels: values an image must have. */
Dataset *idx_open(const char *images, const char *labels, int64_t pixels, int64_t classes, Report *err);

typedef struct Row { /* where a sample goes; NULL: the program has no such buffer */
  int32_t *tokens, *targets, *labels;
  float *images;
} Row;

struct Dataset {
  /* Samples of an epoch. The division of shards into windows is shifted by a random offset each epoch; epoch -1 means
   * no shift (validation, and training in fixed order). Sets the epoch that fill and valid speak of. */
  uint64_t (*begin)(Dataset *d, uint64_t seed, int64_t epoch);
  /* Fills row `r` from sample i and returns the number of targets that count, or -1 with an error. */
  int64_t (*fill)(Dataset *d, uint64_t i, const Row *r, Report *err);
  int64_t (*valid)(Dataset *d, uint64_t i); /* targets of sample i that count, without filling */
  void (*close)(Dataset *d);
  uint64_t items;     /* tokens or images altogether */
  uint64_t documents; /* 0: not known */
  int nfiles;
};
#endif
