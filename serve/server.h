/* The server of an artifact: the OpenAI API over HTTP/1.1 (docs/serving.md).
 *
 * Threads: the caller's runs the event loop, which owns connections, requests and metrics; one of its own runs the batcher, one
 * opens the model, one reads requests (JSON, templates, tokenizing), so that a long prompt holds up nobody's stream. They
 * hand work over through mailboxes; none waits for another. */
#ifndef SERVE_SERVER_H
#define SERVE_SERVER_H
#include "serve/complete.h"

typedef const char *option_text;
typedef int option_int;
typedef double option_num;

typedef struct ServerOptions {
#define GROUP(title)
#define OPTION(kind, name, def, low, high, doc) option_##kind name;
#include "serve/server.def"
#undef OPTION
#undef GROUP
  /* Opens the model, on a thread of its own, while the server listens already and says that it is loading. NULL: it is open. */
  bool (*load)(void *ctx, Served *s, Report *err);
  /* What the operator should see, a line: the address, warnings. On the loop's thread. NULL: nobody is told. */
  void (*say)(void *ctx, const char *line);
  void *ctx;
} ServerOptions;

void server_options_default(ServerOptions *o);
/* `name` as on a command line, without --; false with what is wrong. Texts are kept, not copied. */
bool server_options_set(ServerOptions *o, const char *name, const char *value, Report *err);
bool server_options_known(const char *name);
void server_options_help(Text *out);  /* lines of a help text */
void server_options_table(Text *out); /* the same as a table of Markdown */

/* Serves until it is told to stop: by SIGTERM or SIGINT, or by server_stop. The first asks for a drain: no new connections or
 * requests, what runs may finish for drain_timeout; the second ends at once. Takes both signals and SIGPIPE while it runs.
 *
 * The exit status: 0 after a drain, 1 with why in err. If it is stopped while the model is being opened, it returns while that
 * goes on: the process should end then. Else *s is the caller's again, idle: the batcher's thread has ended. One at a time. */
int server_run(Served *s, const ServerOptions *o, Report *err);
void server_stop(void); /* any thread, or a signal's handler */
#endif
