/* Checkpoints: RUN/checkpoints/step-N/, a Hugging Face folder plus what training needs to go on. See docs/run-folder.md.
 *
 * A checkpoint appears whole or not at all: written aside, every file synced, state.json with the checksums of the others
 * last, then renamed. What is loaded was checked byte by byte first. */
#ifndef RT_CHECKPOINT_H
#define RT_CHECKPOINT_H
#include "runtime/loader.h"
#include "runtime/settings.h"

enum { CHECKPOINT_FORMAT = 1 };

typedef struct RunState {
  int64_t step;        /* optimizer steps done */
  LoaderState data;    /* position behind them */
  uint64_t data_items; /* tokens or images of the training data */
  LoaderOrder order;
  double best_val, last_val; /* NaN: none yet */
  Settings set;
} RunState;

/* data_dir: where tokenizer files are copied from, or NULL. Older checkpoints than the newest set.ckpt_keep go. */
bool checkpoint_save(Engine *e, const RunState *s, const char *run, const char *data_dir, Report *err);

typedef enum { CHECKPOINT_NONE, CHECKPOINT_LOADED, CHECKPOINT_FAILED } CheckpointResult;
/* Loads the newest whole checkpoint of a run: parameters, state, and *s (settings on top of those in *s). Damaged ones are
 * set aside as step-N.damaged, with a note. FAILED: the newest whole one is another program's or a later format's, or
 * there are only damaged ones. */
CheckpointResult checkpoint_load(Engine *e, RunState *s, const char *run, Report *notes, Report *err);

/* Removes what a killed run left half-made, in the run folder and in checkpoints/. */
void checkpoint_clean(const char *run);
/* Ends what a crash kept the run from ending: `latest` shows the checkpoint of `step`, and those beyond `keep` are gone. */
bool checkpoint_settle(const char *run, int64_t step, int64_t keep, Report *err);
#endif
