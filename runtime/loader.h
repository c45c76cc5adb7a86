/* The loader: finds the data a program wants, deals samples to steps, fills the program's DATA buffers.
 *
 * Its whole state is (epoch, index): sample `index` of an epoch is shuffle_at(index) of that epoch's permutation. */
#ifndef RT_LOADER_H
#define RT_LOADER_H
#include "runtime/dataset.h"

typedef struct Loader Loader;

typedef struct LoaderState {
  uint64_t epoch, index;
} LoaderState;

typedef enum { ORDER_SHUFFLED, ORDER_SEQUENTIAL } LoaderOrder;

/* data: a folder (with meta.json, or train*.bin and val*.bin, or idx files), a file or a glob; val: a file or glob that
 * overrides what the folder holds, or NULL. data may be NULL when only validation is wanted. */
Loader *loader_open(Engine *e, const char *data, const char *val, TokenFormat format, LoaderOrder order, uint64_t seed,
                    Report *err);
void loader_close(Loader *l);

LoaderState loader_state(const Loader *l);
/* False when the state lies outside the data (other data than the run's). */
bool loader_seek(Loader *l, LoaderState s);
uint64_t loader_items(const Loader *l);                      /* tokens or images to train on; 0: none */
void loader_describe(const Loader *l, char *text, size_t n); /* "1003854 tokens in 1 file" */
const char *loader_folder(const Loader *l);                  /* the folder given as --data, or NULL */

/* Draws the samples of the next step's micro-batches and returns how many targets count (at least 0), or -1. */
int64_t loader_draw(Loader *l, int64_t micro_batches, Report *err);
/* Fills the program's buffers for micro-batch `micro` of the samples drawn. */
bool loader_fill(Loader *l, int64_t micro, Report *err);

int64_t loader_val_batches(const Loader *l); /* 0: no validation data */
/* Fills the buffers with batch `batch` of the validation set in order; the last one is padded with targets of -1. Returns
 * the targets that count, or -1. */
int64_t loader_fill_val(Loader *l, int64_t batch, Report *err);
#endif
