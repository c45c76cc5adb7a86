/* What the writer and the reader of checkpoints agree on. */
#ifndef RT_CHECKPOINT_FILES_H
#define RT_CHECKPOINT_FILES_H
#include "runtime/program.h"
#include <stdint.h>

/* In state.json: between the text that the checksum covers and the checksum. */
#define STATE_MARK ",\n  \"checksum\": \""

/* Buffers in optimizer.safetensors: every STATE buffer that one step leaves to the next, under its own name (m.NAME, v.NAME).
 * Gradients and the accumulators loss_sum and grad_norm are not: a step starts and ends with them empty. */
bool state_is_kept(const Program *p, int buffer);
int64_t checkpoint_step(const char *name); /* 120 for "step-120"; -1 for any other name */
/* Steps of the checkpoints in a folder, newest first, malloc'ed; returns their number. */
int checkpoint_steps(const char *folder, int64_t **steps, Report *err);
#endif
