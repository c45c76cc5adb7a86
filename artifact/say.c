/* What commands tell people, and Ctrl-C. */
#include "artifact/command.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void say(const char *before, Report *r) {
  for (char *line = r->text, *end; line && (end = strchr(line, '\n')); line = end + 1)
    fprintf(stderr, "%s%.*s\n", before, (int)(end - line), line);
  report_free(r);
}

int fail(Report *err, int status) {
  say("error: ", err);
  return status;
}

static volatile sig_atomic_t stop;

static void on_interrupt(int signal) {
  (void)signal;
  if (stop) _exit(STATUS_STOPPED);
  stop = 1;
}

/* Without SA_RESTART, so that a read from a terminal ends, too. */
void interrupts_catch(void) {
  sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
}

bool interrupted(void) {
  return stop;
}

void interrupts_clear(void) {
  stop = 0;
}
