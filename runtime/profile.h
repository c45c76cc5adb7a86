/* Where the time of a run goes: --profile and --trace.
 *
 * While an engine has a Profile, every thread notes for each step of the program how long the kernel took and how long it then
 * waited at the barrier, in memory of its own: two readings of the clock a call. The trainer and the loop around it note what
 * the main thread does besides. The first training step, which fetches memory from the system, is left out when others follow.
 *
 * Law: results do not depend on it. */
#ifndef RT_PROFILE_H
#define RT_PROFILE_H
#include "ink/base.h"
#include "runtime/program.h"
#include "runtime/roofline.h"
#include "runtime/trace.h"

/* What the main thread does. PROFILE_STEP holds the three behind it; the others come between steps. */
typedef enum {
  PROFILE_STEP,
  PROFILE_DATA,
  PROFILE_MICRO,
  PROFILE_UPDATE,
  PROFILE_EVAL,
  PROFILE_SAVE,
  PROFILE_LOG,
  PROFILE_PHASES
} ProfilePhase;

/* One step of the program on one thread. */
typedef struct StepTime {
  int64_t calls, busy, wait; /* ns: in the kernel; at the barrier behind it */
} StepTime;

typedef struct ProfileLane {
  _Alignas(64) int64_t now; /* until when this thread's time is told */
  StepTime *step;           /* by step of the program */
  StepTime *called;         /* the list's last call so far; NULL: none */
  TraceEvent *event, *end;  /* where the next call is traced to; equal: nowhere */
} ProfileLane;

typedef struct Profile {
  const Program *p;
  int threads;
  ProfileLane *lane; /* by thread */
  struct {
    int64_t ns, n;
  } phase[PROFILE_PHASES];
  int64_t first, last;  /* training steps that are counted, by number */
  int64_t seen;         /* training steps begun, those left out too */
  int64_t begun, ended; /* of all that is counted: profile_now() */
  int64_t taken
      [2]; /* how often the system had taken a core away, for others to run: at the begin, at the last step's end */
  Roofline limit;
  Trace *trace; /* NULL: none; owned */
} Profile;

Profile *profile_new(const Program *p, int threads, Report *err); /* NULL after errors */
void profile_free(Profile *p);

int64_t profile_now(void); /* ns of a monotonic clock */

/* A training step begins; its number. Here and below a NULL Profile is one that notes nothing. */
void profile_step(Profile *p, int64_t number);
int64_t profile_from(const Profile *p); /* the time, for profile_to */
void profile_to(Profile *p, ProfilePhase what, int64_t number, int64_t from);

/* Of the engine, on each thread: a list begins; the time until here is no kernel's; a kernel has ended (from `end` on the
 * thread stood at the barrier). On the main thread: all threads have met at the end of the list; until then each waited
 * behind its last kernel. */
void profile_enter(Profile *p, int thread);
void profile_skip(Profile *p, int thread);
void profile_call(Profile *p, int thread, int step, int64_t turn, int64_t end);
void profile_leave(Profile *p);

/* Calls of a kernel and their time as the main thread saw it, waiting included. */
int64_t profile_kernel(const Profile *p, int kernel, double *seconds);

/* The table (profile_table.c): kernels, most time first, and all else, so that the rows of a step add up to it. */
void profile_table(const Profile *p, Text *out);
#endif
