/* A check in a child process: a crash or a hang of the compiler, or of what it made, becomes a fault that names the stage.
 *
 * The fault is written straight into memory shared with the child, so that what it was doing is known whatever happened. */
#include "check/check.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Limit {
  const Check *c;
  double seconds;
} Limit;

/* Every stage has the time anew. */
static void enter(void *ctx, const char *stage, const Module *m) {
  const Limit *l = ctx;
  double s = l->seconds;
  struct itimerval limit = {.it_value = {(time_t)s, (suseconds_t)((s - (double)(time_t)s) * 1e6)}};
  setitimer(ITIMER_REAL, &limit, NULL);
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

static void child(const Module *m, const Check *c, double seconds, Fault *f) {
  Limit l = {c, seconds};
  Check limited = *c;
  limited.enter = enter;
  limited.enter_ctx = &l;
  signal(SIGALRM, SIG_DFL);
  limit_memory();
  check_module(m, &limited, f);
}

static void died(Fault *f, int status, double seconds) {
  bool late = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
  f->kind = late ? FAULT_HANG : FAULT_CRASH;
  snprintf(f->where, sizeof f->where, "%s", f->stage);
  if (late)
    snprintf(f->text, sizeof f->text, "%s takes more than %.3g seconds", f->stage, seconds);
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
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  *f = *shared;
  munmap(shared, sizeof *shared);
  if (status) died(f, status, seconds);
  return f->kind == FAULT_NONE;
}
