/* serve: the OpenAI API over HTTP. */
#include "artifact/open.h"
#include "serve/server.h"
#include <stdio.h>
#include <unistd.h>

typedef struct Serve {
  OpenOptions open;
  ServerOptions server;
  const Call *call;
  Opened opened;
} Serve;

static int server_option(void *into, const char *name, const char *value, Report *err) {
  if (!server_options_known(name)) return 0;
  if (!value) {
    report_add(err, "--%s wants a value", name);
    return -1;
  }
  return server_options_set(&((Serve *)into)->server, name, value, err) ? 1 : -1;
}

/* On a thread of the server's. */
static bool load(void *ctx, Served *s, Report *err) {
  Serve *v = ctx;
  Report notes = {0};
  v->open.max_queue = v->server.max_queue;
  bool ok = opened_file(&v->opened, v->call, err) && opened_model(&v->opened, &v->open, &notes, err);
  say("note: ", &notes);
  *s = v->opened.served;
  return ok;
}

static void tell(void *ctx, const char *line) {
  (void)ctx;
  fprintf(stderr, "%s\n", line);
}

static int run(const Call *c) {
  static Serve v; /* outlives this call when the server stops while the model is being opened */
  Served served = {0};
  Report err = {0};
  server_options_default(&v.server);
  v.call = c;
  if (!options_read(c, &v, NULL, server_option, &err)) return fail(&err, STATUS_USAGE);
  v.server.load = load;
  v.server.say = tell;
  v.server.ctx = &v;
  int status = server_run(&served, &v.server, &err);
  say("error: ", &err);
  if (!served.model) { /* it may still be opening */
    fflush(NULL);
    _exit(status);
  }
  opened_close(&v.opened);
  return status;
}

static const Opt opts[] = {
    {"--max-latency-ms", "MS", OPT_NUM, offsetof(Serve, open.latency), 0, 1e6,
     "between tokens of running streams while prompts arrive; default: unbounded"},
    {"--alias", "NAME,...", OPT_TEXT, offsetof(Serve, open.alias), 0, 0,
     "further names that requests may call the model by"},
    OPEN_OPTIONS(Serve),
};

const CommandInfo command_serve = {
    .name = "serve",
    .usage = "[--host ADDRESS] [--port N] [options]",
    .summary = "the OpenAI API over HTTP",
    .doc = "Serves /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models and more, see docs/serving.md. It "
           "listens before the\n"
           "model is ready. SIGTERM or Ctrl-C ends it once what runs is done, a second one at once.",
    .opts = opts,
    .nopts = LEN(opts),
    .run = run,
    .help = server_options_help,
};
