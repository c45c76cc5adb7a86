/* A check in a child process: a crash or a hang of the compiler, or of what it made, becomes a fault that names the stage.
 *
 * The fault is written straight into memory shared with the child, so that what it was doing is known whatever happened. */
#include "check/check.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const double FIRST = 600; /* seconds that one evaluation may take: the evaluator is slow, but it ends */

/* How long a stage may take: the seconds that were given, and some hundred evaluations of the module, whose time is known once
 * the first has been made; that many for each input where gradients are measured. Seconds of the processor, so that a
 * busy machine is no hang; for threads that wait for each other, several times as much on the wall. */
typedef struct Limit {
  const Check *c;
  double seconds, since, evaluation;
  bool first; /* the first evaluation is being made */
} Limit;

static double processor(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void alarm_after(int which, double s) {
  struct itimerval limit = {.it_value = {(time_t)s, (suseconds_t)((s - (double)(time_t)s) * 1e6)}};
  setitimer(which, &limit, NULL);
}

static void enter(void *ctx, const char *stage, const Module *m) {
  Limit *l = ctx;
  double now = processor(), evaluations = 100;
  if (l->first) l->evaluation = now - l->since;
  l->first = !strcmp(stage, "input");
  l->since = now;
  for (int i = 0; i < m->ngraphs && !strcmp(stage, "gradients"); i++) evaluations += 100 * m->graphs[i]->ninputs;
  double s = l->seconds + evaluations * l->evaluation;
  if (l->first || !strcmp(stage, "evaluation")) s += FIRST;
  alarm_after(ITIMER_PROF, s);
  alarm_after(ITIMER_REAL, 4 * s + 20);
  if (l->c->enter) l->c->enter(l->c->enter_ctx, stage, m);
}

/* A compiler that takes memory without end ends itself, not the machine. (Sanitizers reserve too much to be told apart.) */
static void limit_memory(void) {
#ifndef __SANITIZE_ADDRESS__
  rlim_t room = (rlim_t)sysconf(_SC_PHYS_PAGES) * (rlim_t)sysconf(_SC_PAGESIZE) / 2;
  setrlimit(RLIMIT_DATA, &(struct rlimit){room, room});
#endif
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

/* What a dying process says (of its heap, of LLVM's) is not for the terminal a hundred times. */
static void silence(void) {
  int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (null < 0) return;
  dup2(null, 2);
  close(null);
}

static void child(const Module *m, const Check *c, double seconds, Fault *f) {
  Limit l = {.c = c, .seconds = seconds};
  Check limited = *c;
  limited.enter = enter;
  limited.enter_ctx = &l;
  signal(SIGALRM, SIG_DFL);
  signal(SIGPROF, SIG_DFL);
  limit_memory();
  if (!c->enter) silence(); /* one of many questions */
  check_module(m, &limited, f);
}

static void died(Fault *f, int status) {
  bool late = WIFSIGNALED(status) && (WTERMSIG(status) == SIGALRM || WTERMSIG(status) == SIGPROF);
  f->kind = late ? FAULT_HANG : FAULT_CRASH;
  snprintf(f->where, sizeof f->where, "%s", f->stage);
  if (late)
    snprintf(f->text, sizeof f->text, "%s does not end", f->stage);
  else if (WIFSIGNALED(status))
    snprintf(f->text, sizeof f->text, "%s ends with signal %d (%s)", f->stage, WTERMSIG(status),
             strsignal(WTERMSIG(status)));
  else
    snprintf(f->text, sizeof f->text, "%s exits with status %d", f->stage, WEXITSTATUS(status));
}

bool check_apart(const Module *m, const Check *c, double seconds, Fault *f) {
  Fault *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int status = 0;
  memset(f, 0, sizeof *f);
  fflush(NULL);
  pid_t pid = shared == MAP_FAILED ? -1 : fork();
  if (pid < 0) {
    f->kind = FAULT_CRASH;
    snprintf(f->text, sizeof f->text, "cannot start a process: %s", strerror(errno));
    return false;
  }
  if (!pid) {
    child(m, c, seconds, shared);
    _exit(0);
  }
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  *f = *shared;
  munmap(shared, sizeof *shared);
  if (status) died(f, status);
  return f->kind == FAULT_NONE;
}
