/* The real server over the made-up model: for tests from outside and by hand.
 *
 * usage: fake_server [--delay-ms N] [--seqs N] [--queue N] [--ctx N] [--load-ms N] [--fail-after N] [--no-chat] [--SERVER-OPTION VALUE]...
 *        fake_server --help | --table */
#include "serve/server.h"
#include "tests/serve/fake_served.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct Fake {
  FakeOptions o;
  int load_ms;
} Fake;

static bool load(void *ctx, Served *s, Report *err) {
  const Fake *f = ctx;
  struct timespec t = {f->load_ms / 1000, f->load_ms % 1000 * 1000000L};
  nanosleep(&t, NULL);
  if (f->o.ctx < 1) return report_add(err, "a model without a context");
  fake_open(s, &f->o);
  return true;
}

static void say(void *ctx, const char *line) {
  printf("%s\n", line);
  fflush(stdout);
}

int main(int argc, char **argv) {
  Fake f = {.o = {.max_seqs = 64, .max_queue = 256, .ctx = 4096}};
  const struct {
    const char *name;
    int *at;
  } own[] = {{"--delay-ms", &f.o.delay_ms}, {"--seqs", &f.o.max_seqs},         {"--queue", &f.o.max_queue},
             {"--ctx", &f.o.ctx},           {"--fail-after", &f.o.fail_after}, {"--load-ms", &f.load_ms}};
  ServerOptions o;
  Served s = {0};
  Report err = {0};
  server_options_default(&o);
  o.load = load;
  o.say = say;
  o.ctx = &f;
  for (int i = 1; i < argc; i++) {
    Text text = {0};
    if (!strcmp(argv[i], "--help")) server_options_help(&text);
    if (!strcmp(argv[i], "--table")) server_options_table(&text);
    if (text.n) {
      fputs(text.s, stdout);
      text_free(&text);
      return 0;
    }
    if (!strcmp(argv[i], "--no-chat")) {
      f.o.no_chat = true;
      continue;
    }
    int k = 0;
    while (k < LEN(own) && strcmp(own[k].name, argv[i])) k++;
    if (i + 1 == argc || (k == LEN(own) && strncmp(argv[i], "--", 2))) return 2;
    if (k < LEN(own)) {
      *own[k].at = atoi(argv[++i]);
    } else if (!server_options_set(&o, argv[i] + 2, argv[i + 1], &err)) {
      fputs(err.text, stderr);
      return 2;
    } else {
      i++;
    }
  }
  int status = server_run(&s, &o, &err);
  if (err.n) fputs(err.text, stderr);
  report_free(&err);
  if (s.batcher) {
    if (status == 0 && fake_unfinished(&s)) return fprintf(stderr, "completions were left unfreed\n"), 3;
    fake_close(&s);
  }
  return status;
}
