/* A Chrome trace of a run's last steps: every kernel call on every thread, and what the main thread did around them.
 *
 * What is recorded goes into memory that was taken and touched before the run: a ring of steps, in each a list of calls for
 * each thread. The file is made at the end, aside and renamed, so that there is a whole one or none. It opens in Perfetto
 * and chrome://tracing: pid is the rank (0), tid the thread, times are microseconds since the first step in it. */
#ifndef RT_TRACE_H
#define RT_TRACE_H
#include "runtime/program.h"

enum { TRACE_EVENTS = 1 << 20 }; /* calls that a trace holds at most, all threads and steps together */

/* A call of a kernel on one thread. Times are of profile_now(). */
typedef struct TraceEvent {
  int64_t start, end, left; /* ns: the kernel's, and when the thread left the barrier behind it */
  int32_t step, turn;       /* of the program; of the innermost LIST */
} TraceEvent;

typedef struct Trace Trace;

/* Room for `steps` training steps of as many calls and spans as were said. NULL after errors: they would be too many. */
Trace *trace_new(const Program *p, int threads, int steps, int64_t calls, int64_t spans, Report *err);
void trace_free(Trace *t);

void trace_begin(Trace *t); /* the next step: its room is the oldest one's */
/* Where the thread's next calls of this step go, up to *end; calls beyond that are not kept. */
TraceEvent *trace_room(Trace *t, int thread, TraceEvent **end);
void trace_taken(Trace *t, int thread, const TraceEvent *next); /* up to there they are used */
/* What the main thread did from start to end. name: a constant text; number: of a step or micro-batch, -1: none. */
void trace_span(Trace *t, const char *name, int64_t number, int64_t start, int64_t end);

bool trace_possible(const char *path, Report *err); /* asked before the run: can the file be written? */
bool trace_write(const Trace *t, const char *path, Report *err);
#endif
