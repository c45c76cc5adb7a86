/* --check-nan: finds the first step of a program that stores a NaN or an infinity, and tells what went into it.
 *
 * The rule: what a step stores as f32, bf16 or f64 is finite. A NaN is always told. An infinity is told unless the step
 * read one: such come from a table of the model (a mask of minus infinities), for parameters, state and data are held to be
 * finite before a step reads them. Scores that a kernel masks within itself are never stored.
 *
 * What is found does not depend on the number of threads: the step's first output that has one, and there the first
 * element. Results are not touched, so a run with the check has the bits of one without. */
#ifndef RT_CHECK_NAN_H
#define RT_CHECK_NAN_H
#include "runtime/pool.h"
#include "runtime/program.h"

struct Engine;

/* A step as the engine runs it. */
typedef struct NanStep {
  int run, list, step; /* the list that engine_run was given; the one the step stands in; index in the steps table */
  int64_t turn;        /* of the innermost LIST */
  void *const *buf;    /* by argument: where it starts */
} NanStep;

typedef struct NanSpot {
  int output; /* -1: none */
  int64_t element;
} NanSpot;

typedef struct NanCheck {
  const Program *p;
  NanSpot *spot;       /* by thread */
  unsigned char *kept; /* arguments as they were before the step overwrote them, one behind the other */
  uint64_t kept_bytes;
  bool found;
  NanStep at;   /* the step that was found; at.step -1: a DATA buffer, before list `run` */
  NanSpot what; /* in that step; of a DATA buffer: `output` is the buffer */
  void **buf;   /* at.buf */
  Report text;  /* what nan_tell has to say below its headline */
} NanCheck;

/* Takes memory for the arguments that the largest step overwrites. NULL after errors. */
NanCheck *nan_new(const Program *p, int threads, Report *err);
void nan_free(NanCheck *n);

/* Around a step, by all threads. False, to all of them: found. */
void nan_before(NanCheck *n, const NanStep *s, Pool *pool, int thread, int threads);
bool nan_after(NanCheck *n, const NanStep *s, Pool *pool, int thread, int threads);
/* Before list `run`, by one thread: the DATA buffers. False: found. */
bool nan_data(NanCheck *n, struct Engine *e, int run);

/* Parameters and state as they are now. False, with a line for each that is not finite; origin: "the checkpoint x". */
bool nan_loaded(struct Engine *e, const char *origin, Report *err);
/* After a find: one line to err, the rest to n->text. where: "step 3, micro-batch 1 of 8". Always false. */
bool nan_tell(NanCheck *n, struct Engine *e, const char *where, Report *err);

/* ---- shared by check_nan.c and nan_report.c */
bool nan_is_float(int dtype);
int64_t nan_elements(const Program *p, const ProgramArg *a, int64_t turn); /* that a step sees behind an argument */
int64_t nan_first(const void *at, int dtype, int64_t from, int64_t to, bool infinities); /* -1: all are well */
uint32_t nan_outputs(const Program *p, const ProgramStep *s); /* number of the first argument that is an output */
/* Where argument k of the step stands as it was before the step. */
const void *nan_before_step(const NanCheck *n, const NanStep *s, uint32_t k);
#endif
