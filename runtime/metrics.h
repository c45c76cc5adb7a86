/* What a run tells: metrics.jsonl in the run folder, and the progress line on standard error. */
#ifndef RT_METRICS_H
#define RT_METRICS_H
#include "runtime/fs.h"

typedef struct Metrics Metrics;

typedef struct StepMetrics {
  int64_t step; /* optimizer steps done, this one included */
  double loss, grad_norm, lr, per_second, mfu, ms;
} StepMetrics;

/* Opens RUN/metrics.jsonl; lines of steps after `keep_to` are cut off (a run that goes on from a checkpoint writes them
 * again), torn lines too. */
Metrics *metrics_open(const char *run, int64_t keep_to, Report *err);
void metrics_close(Metrics *m);
bool metrics_sync(Metrics *m, Report *err); /* before a checkpoint, so that its lines are on disk, too */
bool metrics_step(Metrics *m, const StepMetrics *s, Report *err);
bool metrics_val(Metrics *m, int64_t step, double loss, Report *err);

typedef struct Progress {
  bool tty;
  double start, shown; /* seconds */
  int64_t from, to;    /* steps of this process */
  double last_val;     /* NaN: none yet */
  const char *unit;    /* "tok" or "img" */
  int width;           /* of the line on a terminal */
} Progress;
Progress progress_new(int64_t from, int64_t to, const char *unit);
/* One line, rewritten in place on a terminal; else a line every ten seconds. force: now. */
void progress_show(Progress *p, const StepMetrics *s, bool force);
/* Ends a line that is being rewritten, before other text. */
void progress_break(Progress *p);
#endif
