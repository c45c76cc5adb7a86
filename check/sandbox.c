/* A check in a child process: a crash or a hang of the compiler, or of what it made, becomes a fault that names the stage.
 *
 * The fault is written straight into memory shared with the child, so that what it was doing is known whatever happened. */
#include "check/check.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void child(const Module *m, const Check *c, double seconds, Fault *f) {
  struct itimerval limit = {.it_value = {(time_t)seconds, (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)}};
  signal(SIGALRM, SIG_DFL);
  setitimer(ITIMER_REAL, &limit, NULL);
  check_module(m, c, f);
}

static void died(Fault *f, int status) {
  bool late = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
  f->kind = late ? FAULT_HANG : FAULT_CRASH;
  snprintf(f->where, sizeof f->where, "%s", f->stage);
  if (late)
    snprintf(f->text, sizeof f->text, "%s takes too long", f->stage);
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
  if (status) died(f, status);
  return f->kind == FAULT_NONE;
}
