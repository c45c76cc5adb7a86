/* batch: a file of requests in OpenAI's batch format, answered as fast as the model can.
 *
 * A line of the input is {"custom_id", "method": "POST", "url", "body"}; a line of the output {"id", "custom_id", "response",
 * "error"}, in the order in which answers come. Bodies are read and answered by the code that serves them over HTTP (serve/api.h):
 * this thread is its loop and its reader, the batcher has one of its own.
 *
 * A run that was stopped goes on: a line is written whole, at once; what the output has already is not asked again, and half a line
 * at its end, which a crash can leave, is cut off. */
#include "artifact/open.h"
#include "runtime/machine.h"
#include "serve/api.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct BatchCommand {
  OpenOptions open;
  int inflight;
} BatchCommand;

typedef struct Line {
  const char *at; /* in the input */
  size_t n;
  int number;
  char *id;
  bool done;
  struct Run *run;
} Line;

typedef struct Run {
  FsMap input;
  Line *line; /* in the input's order */
  int n, cap;
  int out, waiting, answered, failed,
      old;   /* file descriptor; requests under way; lines written, of them with errors; found there */
  int again; /* refused for want of room: the first line to ask again, -1: none */
  Api api;
  Report *err;
} Run;

/* ---- input */

static int by_id(const void *a, const void *b) {
  const Line *x = *(Line *const *)a, *y = *(Line *const *)b;
  int c = strcmp(x->id, y->id);
  return c ? c : x->number - y->number;
}

/* The custom ids of all lines: each once. */
static bool read_input(Run *r, const char *path, Report *err) {
  if (!fs_map(&r->input, path, err)) return false;
  const char *at = (const char *)r->input.at, *end = at + r->input.n;
  for (int number = 1; at < end; number++) {
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    size_t n = (size_t)((stop ? stop : end) - at), blank = 0;
    while (blank < n && strchr(" \t\r", at[blank])) blank++;
    if (blank < n) {
      json_error_t why;
      json_t *v = json_loadb(at, n, JSON_REJECT_DUPLICATES, &why);
      const char *id = json_string_value(json_object_get(v, "custom_id"));
      if (!v || !id || !*id) {
        bool told = v ? report_add(err, "%s:%d: it has no custom_id", path, number)
                      : report_add(err, "%s:%d: %s", path, number, why.text);
        json_decref(v);
        return told;
      }
      if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 1024;
        r->line = memory_resize(r->line, (size_t)r->cap, sizeof(Line));
      }
      r->line[r->n++] = (Line){.at = at, .n = n, .number = number, .id = strdup(id), .run = r};
      json_decref(v);
      if (!r->line[r->n - 1].id) return report_add(err, "out of memory");
    }
    at = stop ? stop + 1 : end;
  }
  return true;
}

static Line **sorted(const Run *r) {
  Line **all = memory_zeroed((size_t)r->n + 1, sizeof(Line *));
  for (int i = 0; i < r->n; i++) all[i] = &r->line[i];
  qsort(all, (size_t)r->n, sizeof(Line *), by_id);
  return all;
}

static bool once(Line *const *all, int n, const char *path, Report *err) {
  for (int i = 1; i < n; i++)
    if (!strcmp(all[i - 1]->id, all[i]->id))
      return report_add(err, "%s:%d: the custom_id '%s' was in line %d already", path, all[i]->number, all[i]->id,
                        all[i - 1]->number);
  return true;
}

/* ---- output */

/* What an earlier run wrote: its whole lines stay, and their requests are done. */
static bool read_output(Run *r, Line **all, const char *path, Report *err) {
  FsMap old = {0};
  if (!fs_map(&old, path, err)) return false;
  size_t whole = 0;
  bool ok = true;
  for (size_t at = 0; ok && at < old.n; at = whole) {
    const unsigned char *stop = memchr(old.at + at, '\n', old.n - at);
    if (!stop) break;
    whole = (size_t)(stop - old.at) + 1;
    json_t *v = json_loadb((const char *)old.at + at, whole - at, 0, NULL);
    const char *id = json_string_value(json_object_get(v, "custom_id"));
    Line key = {.id = (char *)(uintptr_t)id}, *k = &key;
    if (!id) ok = report_add(err, "%s is there, and is no output of a batch: it is not written to", path);
    for (int low = 0, high = r->n; ok && low < high;) {
      int mid = (low + high) / 2, c = strcmp(k->id, all[mid]->id);
      if (!c) {
        r->old += !all[mid]->done;
        all[mid]->done = true;
        break;
      }
      *(c < 0 ? &high : &low) = c < 0 ? mid : mid + 1;
    }
    json_decref(v);
  }
  if (ok && whole < old.n && truncate(path, (off_t)whole)) ok = fs_failed(err, "shorten", path, errno);
  fs_unmap(&old);
  return ok;
}

/* A line of the output, whole: response and error are JSON, NULL for null. */
static void write_line(Run *r, Line *l, const Text *response, const Text *error) {
  Text t = {0};
  text_add(&t, "{\"id\":\"batch_req_%08x\",\"custom_id\":", (unsigned)l->number);
  json_puts(&t, l->id);
  text_add(&t, ",\"response\":%s,\"error\":%s}", response ? response->s : "null", error ? error->s : "null");
  for (char *end = t.s; (end = strchr(end, '\n'));) *end = ' ';
  text_add(&t, "\n");
  if (write(r->out, t.s, t.n) != (ssize_t)t.n) report_add(r->err, "cannot write the output: %s", strerror(errno));
  text_free(&t);
  l->done = true;
  r->answered++;
}

static void refuse(Run *r, Line *l, const char *code, const char *why) {
  Text error = {0};
  text_add(&error, "{\"code\":\"%s\",\"message\":\"%s\"}", code, why);
  r->failed++;
  write_line(r, l, NULL, &error);
  text_free(&error);
}

static void on_answer(void *ctx, int status, const char *s, size_t n) {
  Line *l = ctx;
  Run *r = l->run;
  int at = (int)(l - r->line);
  Text response = {0};
  r->waiting--;
  if (status == 429 && r->waiting) { /* when others have ended there is room */
    if (r->again < 0 || at < r->again) r->again = at;
    return;
  }
  r->failed += status != 200;
  text_add(&response, "{\"status_code\":%d,\"request_id\":", status);
  json_puts(&response, l->id);
  text_add(&response, ",\"body\":%.*s}", (int)n, s);
  write_line(r, l, &response, NULL);
  text_free(&response);
}

/* ---- requests */

static const ApiCall *call_of(const char *url) {
  static const struct {
    const char *url;
    const ApiCall *call;
  } table[] = {
      {"/v1/chat/completions", &api_chat}, {"/v1/completions", &api_completions}, {"/v1/embeddings", &api_embeddings}};
  for (int i = 0; url && i < LEN(table); i++)
    if (!strcmp(url, table[i].url)) return table[i].call;
  return NULL;
}

static void ask(Run *r, Line *l) {
  json_t *v = json_loadb(l->at, l->n, 0, NULL), *body = json_object_get(v, "body");
  const char *method = json_string_value(json_object_get(v, "method"));
  const ApiCall *call = call_of(json_string_value(json_object_get(v, "url")));
  char *text = json_is_object(body) ? json_dumps(body, JSON_COMPACT) : NULL;
  if (!method || strcmp(method, "POST")) {
    refuse(r, l, "invalid_method", "method must be POST");
  } else if (!call) {
    refuse(r, l, "invalid_url", "url must be /v1/chat/completions, /v1/completions or /v1/embeddings");
  } else if (!text) {
    refuse(r, l, "invalid_request", "body must be an object");
  } else {
    r->waiting++;
    job_offline(&r->api, call, text, strlen(text), machine_seconds(), on_answer, l);
    mailbox_open_all(&r->api.reader);
  }
  free(text);
  json_decref(v);
}

static void *steps(void *ctx) {
  batcher_run(ctx);
  return NULL;
}

static void progress(const Run *r) {
  if (isatty(2)) fprintf(stderr, "\r%d of %d", r->old + r->answered, r->n);
}

static bool run_all(Run *r, Opened *o, int inflight) {
  ServerOptions server;
  pthread_t thread;
  server_options_default(&server);
  server.max_queue = inflight + 1;
  r->api = (Api){.o = &server, .served = &o->served, .codec = codec_share(o->codec)};
  if (!mailbox_init(&r->api.loop, true) || !mailbox_init(&r->api.reader, true))
    return report_add(r->err, "cannot start: %s", strerror(errno));
  if (pthread_create(&thread, NULL, steps, o->batcher)) return report_add(r->err, "cannot start a thread");
  for (int at = 0; !r->err->lines && !interrupted();) {
    while (at < r->n && r->again < 0 && r->waiting < inflight && !r->err->lines) {
      if (!r->line[at].done) ask(r, &r->line[at]);
      at++;
    }
    if (!r->waiting && !r->api.loop.first && r->again < 0 && at == r->n) break;
    mailbox_open_all(&r->api.loop);
    if (r->again >= 0 && !r->waiting) at = r->again, r->again = -1;
    progress(r);
  }
  for (Job *j = r->api.jobs, *next; j; j = next) { /* what an error or Ctrl-C left */
    next = j->next;
    j->answered = NULL;
    job_gone(j);
  }
  batcher_stop(o->batcher);
  pthread_join(thread, NULL);
  while (r->api.loop.first) mailbox_open_all(&r->api.loop);
  if (isatty(2)) fputc('\n', stderr);
  codec_free(r->api.codec);
  mailbox_free(&r->api.loop);
  mailbox_free(&r->api.reader);
  return !r->err->lines;
}

static bool batch(Run *r, Opened *o, const BatchCommand *b, const char *in, const char *out) {
  if (!read_input(r, in, r->err)) return false;
  Line **all = sorted(r);
  bool ok = once(all, r->n, in, r->err);
  if (ok && fs_exists(out)) ok = read_output(r, all, out, r->err);
  free(all);
  if (!ok) return false;
  r->out = open(out, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (r->out < 0) return fs_failed(r->err, "write", out, errno);
  if (r->old) fprintf(stderr, "note: %d of %d requests were answered before\n", r->old, r->n);
  ok = r->old == r->n || run_all(r, o, b->inflight);
  if (fsync(r->out) && errno != EINVAL) ok = fs_failed(r->err, "write", out, errno);
  fprintf(stderr, "%d of %d requests answered%s", r->old + r->answered, r->n, r->failed ? ", " : "\n");
  if (r->failed) fprintf(stderr, "%d of them with an error\n", r->failed);
  return ok;
}

static int run(const Call *c) {
  BatchCommand b = {0};
  Opened o = {0};
  Report err = {0}, notes = {0};
  const char *file[2] = {0};
  Run r = {.out = -1, .again = -1, .err = &err};
  if (!options_read(c, &b, file, NULL, &err)) return fail(&err, STATUS_USAGE);
  if (!strcmp(file[0], file[1])) {
    report_add(&err, "input and output are the same file");
    return fail(&err, STATUS_USAGE);
  }
  interrupts_catch();
  b.open.max_queue = 65536;
  bool ok = opened_file(&o, c, &err) && opened_model(&o, &b.open, &notes, &err);
  say("note: ", &notes);
  if (ok && !b.inflight) b.inflight = 2 * o.model->limits.seqs;
  ok = ok && batch(&r, &o, &b, file[0], file[1]);
  int status = !ok ? fail(&err, STATUS_FAILED) : interrupted() ? STATUS_STOPPED : STATUS_DONE;
  if (r.out >= 0) close(r.out);
  for (int i = 0; i < r.n; i++) free(r.line[i].id);
  free(r.line);
  fs_unmap(&r.input);
  opened_close(&o);
  return status;
}

static const Opt opts[] = {
    {"--in-flight", "N", OPT_INT, offsetof(BatchCommand, inflight), 1, 65535,
     "requests under way at once; default: twice the sequences that the model takes"},
    OPEN_OPTIONS(BatchCommand),
};

const CommandInfo command_batch = {
    .name = "batch",
    .usage = "IN.jsonl OUT.jsonl [options]",
    .summary = "a file of requests in OpenAI's batch format",
    .doc = "Answers each line of IN.jsonl, {\"custom_id\", \"method\": \"POST\", \"url\", \"body\"}, by a line of "
           "OUT.jsonl, in the order in\n"
           "which answers come. Started again after it was stopped, it goes on with what OUT.jsonl does not have yet.",
    .opts = opts,
    .nopts = LEN(opts),
    .operands = 2,
    .run = run,
};
