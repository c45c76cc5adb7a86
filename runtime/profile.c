/* The notes behind --profile and --trace (profile.h).
 *
 * A thread's time inside of a list is told without gaps: what a kernel is said to take begins where the wait before it ended, so
 * the walk between two kernels counts as the second one's. The clock is read through the vDSO, some tens of nanoseconds.
 * What must hold: a lane is written by its own thread only, while a list runs; others read it between lists. */
#include "runtime/profile.h"
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

int64_t profile_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* How often this process had to leave a core. */
static int64_t cores_taken(void) {
  struct rusage u;
  return getrusage(RUSAGE_SELF, &u) ? 0 : u.ru_nivcsw;
}

Profile *profile_new(const Program *p, int threads, Report *err) {
  size_t bytes = ((size_t)p->nsteps * sizeof(StepTime) + 127) / 64 * 64; /* never two threads on one cache line */
  Profile *f = calloc(1, sizeof *f);
  if (f) *f = (Profile){.p = p, .threads = threads, .lane = aligned_alloc(64, sizeof(ProfileLane) * (size_t)threads)};
  if (f && f->lane) memset(f->lane, 0, sizeof(ProfileLane) * (size_t)threads);
  bool ok = f && f->lane;
  for (int i = 0; ok && i < threads; i++) {
    f->lane[i].step = aligned_alloc(64, bytes);
    ok = f->lane[i].step != NULL;
    if (ok) memset(f->lane[i].step, 0, bytes);
  }
  if (ok) return f;
  report_add(err, "out of memory");
  profile_free(f);
  return NULL;
}

void profile_free(Profile *p) {
  if (!p) return;
  for (int i = 0; p->lane && i < p->threads; i++) free(p->lane[i].step);
  trace_free(p->trace);
  free(p->lane);
  free(p);
}

void profile_step(Profile *p, int64_t number) {
  if (!p) return;
  if (p->trace) trace_begin(p->trace);
  if (p->seen < 2) { /* begins anew: what was noted was before the steps, or of the first one */
    for (int i = 0; i < p->threads; i++) memset(p->lane[i].step, 0, sizeof(StepTime) * (size_t)p->p->nsteps);
    memset(p->phase, 0, sizeof p->phase);
    p->first = number;
    p->taken[0] = cores_taken();
    p->begun = profile_now();
  }
  p->seen++;
  p->last = number;
}

int64_t profile_from(const Profile *p) {
  return p ? profile_now() : 0;
}

void profile_to(Profile *p, ProfilePhase what, int64_t number, int64_t from) {
  static const char *const name[PROFILE_PHASES] = {"step",       "data",       "micro-batch", "update",
                                                   "evaluation", "checkpoint", "log"};
  if (!p) return;
  p->ended = profile_now();
  p->phase[what].ns += p->ended - from;
  p->phase[what].n++;
  if (what == PROFILE_STEP) p->taken[1] = cores_taken();
  if (p->trace) trace_span(p->trace, name[what], number, from, p->ended);
}

void profile_enter(Profile *p, int thread) {
  ProfileLane *l = &p->lane[thread];
  if (p->trace) l->event = trace_room(p->trace, thread, &l->end);
  l->called = NULL;
  l->now = profile_now();
}

void profile_skip(Profile *p, int thread) {
  p->lane[thread].now = profile_now();
}

void profile_call(Profile *p, int thread, int step, int64_t turn, int64_t end) {
  ProfileLane *l = &p->lane[thread];
  StepTime *t = l->called = &l->step[step];
  int64_t left = profile_now();
  t->calls++;
  t->busy += end - l->now;
  t->wait += left - end;
  if (l->event != l->end) *l->event++ = (TraceEvent){l->now, end, left, step, (int32_t)turn};
  l->now = left;
}

void profile_leave(Profile *p) {
  int64_t now = profile_now();
  for (int i = 0; i < p->threads; i++) {
    ProfileLane *l = &p->lane[i];
    if (!l->called) continue;
    l->called->wait += now - l->now;
    if (!p->trace) continue;
    if (l->event && l->event[-1].left == l->now) l->event[-1].left = now;
    trace_taken(p->trace, i, l->event);
  }
}

int64_t profile_kernel(const Profile *p, int kernel, double *seconds) {
  int64_t calls = 0, ns = 0;
  for (int i = 0; i < p->p->nsteps; i++) {
    const ProgramStep *s = &p->p->steps[i];
    if (s->kind != STEP_CALL || s->kernel != kernel) continue;
    calls += p->lane[0].step[i].calls;
    ns += p->lane[0].step[i].busy + p->lane[0].step[i].wait;
  }
  *seconds = 1e-9 * (double)ns;
  return calls;
}
