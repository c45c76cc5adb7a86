/* A training run's steps: data in, lists of the program run, settings turned into its scalars. */
#ifndef RT_TRAIN_H
#define RT_TRAIN_H
#include "runtime/loader.h"
#include "runtime/metrics.h"
#include "runtime/settings.h"

typedef struct Trainer {
  Engine *e;
  Loader *data;
  Settings set;
  int64_t step;            /* optimizer steps done */
  double peak;             /* FLOP/s of this machine; 0: not measured */
  struct Profile *profile; /* of trainer_step; NULL: none; the caller's */
  int micro, update, eval;
} Trainer;

/* Finds the lists; the engine and the loader stay the caller's. */
bool trainer_init(Trainer *t, Engine *e, Loader *data, const Settings *set, Report *err);
/* Forward and backward of the next global batch: gradients stand in the grad.* buffers afterwards. */
bool trainer_gradients(Trainer *t, double *loss, Report *err);
/* What trainer_gradients does before a micro-batch of its step, counted from 0: masks of dropout are those of (seed, step,
 * micro-batch), the same in a run that was resumed. Programs without dropout have nothing to set. */
void trainer_dropout(Trainer *t, int64_t micro_batch);
/* The optimizer step on these gradients. */
bool trainer_update(Trainer *t, Report *err);
/* Both, with the figures of the step; an error when the loss is not a number. */
bool trainer_step(Trainer *t, StepMetrics *m, Report *err);
/* Mean loss of the validation set (its first eval.batches, when set). */
bool trainer_evaluate(Trainer *t, double *loss, Report *err);
/* Gradients of every parameter under its checkpoint names; `loss` goes into the file's metadata. */
bool trainer_save_gradients(Trainer *t, double loss, const char *path, Report *err);
/* Logits of every position of the next window, [time, vocab], without moving the data position. */
bool trainer_save_logits(Trainer *t, const char *path, Report *err);
#endif
