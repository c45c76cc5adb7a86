/* Jobs: from the reading thread to the batcher, and what the batcher tells into answers and streams.
 *
 * Prompts of one request are started as room is there: the first must find room at once (else 429), the others follow as
 * those before them end. Must hold: after complete_free no sink of it runs, so the mail that frees a job is the last one. */
#include "runtime/machine.h"
#include "serve/api.h"

#include <math.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { AT_ONCE = 32 /* prompts of a job under way */ };

typedef enum { TOLD_STARTED, TOLD_TEXT, TOLD_HIDDEN, TOLD_DONE } Told;

/* What a sink was told; tokens, alternatives and bytes lie behind it. */
typedef struct Event {
  Mail mail;
  Prompt *prompt;
  Told what;
  int choice, ntokens, nlisted, cached;
  double at;
  const char *finish, *text;
  size_t n;
  CompleteToken *tokens; /* [nlisted] */
  float *row;
} Event;

static void run_prompts(Job *j);

/* ---- the batcher's thread */

static void on_event(Mail *m);

static Event *told_new(Prompt *p, Told what, size_t bytes) {
  Event *e = calloc(1, sizeof *e + bytes);
  if (!e) abort();
  e->mail.open = on_event;
  e->prompt = p;
  e->what = what;
  e->at = machine_seconds();
  return e;
}

static void sink_text(void *ctx, int choice, const char *text, size_t n, const CompleteToken *tokens, int ntokens) {
  Prompt *p = ctx;
  int listed = tokens ? ntokens : 0;
  size_t bytes = n, tops = 0;
  for (int i = 0; i < listed; i++) {
    bytes += tokens[i].ntext;
    tops += (size_t)tokens[i].ntop;
  }
  size_t table = (size_t)listed * sizeof(CompleteToken);
  Event *e = told_new(p, TOLD_TEXT, table + tops * sizeof(SampleLogprob) + bytes);
  e->tokens = (CompleteToken *)(e + 1);
  SampleLogprob *top = (SampleLogprob *)((char *)(e + 1) + table);
  char *at = (char *)(top + tops);
  e->choice = choice;
  e->ntokens = ntokens;
  e->nlisted = listed;
  e->text = at;
  e->n = n;
  if (n) memcpy(at, text, n);
  at += n;
  for (int i = 0; i < listed; i++) {
    CompleteToken *t = &e->tokens[i];
    *t = tokens[i];
    t->text = at;
    if (t->ntext) memcpy(at, tokens[i].text, t->ntext);
    at += t->ntext;
    t->top = top;
    if (t->ntop) memcpy(top, tokens[i].top, (size_t)t->ntop * sizeof *top);
    top += t->ntop;
  }
  mailbox_post(&p->job->api->loop, &e->mail);
}

static void sink_hidden(void *ctx, const float *row, int n) {
  Prompt *p = ctx;
  Event *e = told_new(p, TOLD_HIDDEN, (size_t)n * sizeof *row);
  e->row = (float *)(e + 1);
  e->n = (size_t)n;
  memcpy(e->row, row, e->n * sizeof *row);
  mailbox_post(&p->job->api->loop, &e->mail);
}

static void sink_done(void *ctx, int choice, const char *finish, int generated, int cached) {
  Prompt *p = ctx;
  Event *e = told_new(p, TOLD_DONE, 0);
  e->choice = choice;
  e->finish = !strcmp(finish, "stop")        ? "stop"
              : !strcmp(finish, "length")    ? "length"
              : !strcmp(finish, "cancelled") ? "cancelled"
                                             : "error";
  e->ntokens = generated;
  e->cached = cached;
  mailbox_post(&p->job->api->loop, &e->mail);
}

static void sink_started(void *ctx, int choice) {
  Prompt *p = ctx;
  if (choice == 0) mailbox_post(&p->job->api->loop, &told_new(p, TOLD_STARTED, 0)->mail);
}

static const CompleteSink sink = {sink_text, sink_hidden, sink_done, sink_started};

/* ---- the end of a job */

static void on_free(Mail *m) {
  Job *j = (Job *)m;
  for (int i = 0; i < j->nprompts * j->request.n; i++) {
    text_free(&j->choices[i].text);
    for (int k = 0; k < LEN(j->choices[i].logprob); k++) text_free(&j->choices[i].logprob[k]);
  }
  text_free(&j->answer);
  text_free(&j->out);
  arena_free(j->arena);
  free(j->body);
  free(j);
}

/* Out of the list; freed when every mail about it has been opened. */
static void job_free(Job *j) {
  Api *a = j->api;
  j->dead = true;
  for (int i = 0; i < j->started; i++) {
    Prompt *p = &j->prompts[i];
    if (!p->run) continue;
    complete_free(p->run);
    p->run = NULL;
  }
  if (j->running) /* what was cut off counts as aborted */
    for (int i = 0; i < j->started * j->request.n; i++)
      if (!j->choices[i].finish) metrics_finish(&a->metrics, "cancelled");
  a->bodies -= j->nbody;
  if (j->next) j->next->prev = j->prev;
  if (j->prev) j->prev->next = j->next;
  if (a->jobs == j) a->jobs = j->next;
  j->mail.open = on_free;
  mailbox_post(&a->loop, &j->mail);
}

void job_gone(Job *j) {
  j->http = NULL;
  if (!j->with_reader) job_free(j); /* else when it comes back */
}

static void answer(Job *j, int status, const char *s, size_t n) {
  Http *r = j->http;
  if (j->answered) {
    j->answered(j->ctx, status, s, n);
    j->answered = NULL;
    return;
  }
  *http_user(r) = NULL;
  j->http = NULL;
  metrics_code(&j->api->metrics, status);
  if (status == 429 || status == 503) http_add(r, "Retry-After", "1");
  http_answer(r, status, JSON_TYPE, s, n);
}

void job_send(Job *j) {
  static const char before[] = "data: ", behind[] = "\n\n";
  if (!j->http || !j->out.n) return;
  Text line = {0};
  text_write(&line, before, sizeof before - 1);
  text_write(&line, j->out.s, j->out.n);
  text_write(&line, behind, sizeof behind - 1);
  http_write(j->http, line.s, line.n);
  text_free(&line);
  j->out.n = 0;
}

static void end_stream(Job *j) {
  static const char done[] = "data: [DONE]\n\n";
  Http *r = j->http;
  http_write(r, done, sizeof done - 1);
  *http_user(r) = NULL;
  j->http = NULL;
  http_end(r);
}

/* Ends a job with an error, which a stream tells as an event of its own. */
static void fail(Job *j) {
  Text text = {0};
  const ApiError *e = &j->error;
  api_error_text(&text, e->status, e->param, e->code, e->text);
  if (j->http && j->stream && j->running) {
    j->out.n = 0;
    text_write(&j->out, text.s, text.n);
    job_send(j);
    end_stream(j);
  } else if (j->http || j->answered) {
    answer(j, e->status, text.s, text.n);
  }
  text_free(&text);
  job_free(j);
}

void job_cancel(Job *j, int status, const char *text) {
  if (j->with_reader) return; /* when it comes back, nothing is begun any more */
  api_refuse(j, status, NULL, NULL, "%s", text);
  fail(j);
}

/* ---- the loop: from prepared to over */

static void finish(Job *j) {
  metrics_add(&j->api->metrics, METRIC_e2e_request_latency, machine_seconds() - j->arrived, 1);
  j->out.n = 0;
  j->call->end(j, &j->out);
  if (!j->stream) {
    answer(j, 200, j->out.s, j->out.n);
  } else {
    job_send(j);
    end_stream(j);
  }
  job_free(j);
}

static bool model_failed(const Api *a) {
  BatchStats b;
  batcher_stats(a->served->batcher, &b);
  return b.failed;
}

static bool start(Job *j, bool *full) {
  Report why = {0};
  Prompt *p = &j->prompts[j->started];
  CompleteRequest r = j->request;
  r.prompt = p->ids;
  r.nprompt = p->n;
  r.max_tokens = p->max_tokens;
  r.ctx = p;
  p->left = r.n;
  for (int i = 0; i < r.n; i++) j->choices[p->index * r.n + i].echo = r.echo ? p->n : 0;
  p->run = complete_start(j->api->served, &r, full, &why);
  if (p->run) {
    j->started++;
  } else if (!*full) {
    if (why.n) why.text[why.n - 1] = 0; /* the line's end */
    api_refuse(j, model_failed(j->api) ? 500 : 400, NULL, NULL, "%s",
               why.text ? why.text : "the request cannot be run");
  }
  report_free(&why);
  return p->run != NULL;
}

/* Starts what has room. Ends the job when it cannot go on. */
static void run_prompts(Job *j) {
  bool full = false;
  while (j->started < j->nprompts && j->started - j->over < AT_ONCE && start(j, &full)) {
  }
  if (full && j->started == j->over) api_refuse(j, 429, NULL, NULL, "too many requests are waiting; please try again");
  if (j->error.status) fail(j);
}

/* Back from the reading thread. */
static void on_prepared(Mail *m) {
  Job *j = (Job *)m;
  Api *a = j->api;
  j->with_reader = false;
  a->reading--;
  if (!j->http && !j->answered) {
    job_free(j);
  } else if (j->error.status) {
    fail(j);
  } else if (a->draining) {
    job_cancel(j, 503, "the server is stopping");
  } else if (!j->nprompts) {
    answer(j, 200, j->answer.s, j->answer.n);
    job_free(j);
  } else {
    bool full = false;
    if (!start(j, &full)) {
      if (full) api_refuse(j, 429, NULL, NULL, "too many requests are waiting; please try again");
      fail(j);
      return;
    }
    j->running = true;
    if (j->stream) {
      metrics_code(&a->metrics, 200);
      http_add(j->http, "Cache-Control", "no-cache");
      http_add(j->http, "X-Accel-Buffering", "no"); /* proxies that hold back answers: not this one */
      http_stream(j->http, "text/event-stream; charset=utf-8");
      if (j->call->begin) j->call->begin(j);
    }
    run_prompts(j);
  }
}

/* An answer that is kept has grown. False: it is too long, the job has ended. */
static bool hold(Job *j, size_t bytes) {
  j->held += j->stream ? 0 : bytes;
  if (j->held <= (size_t)j->api->o->answer_bytes) return true;
  api_refuse(j, 400, NULL, "answer_too_long",
             "the answer is longer than %d bytes: ask for less at once, or for a stream", j->api->o->answer_bytes);
  fail(j);
  return false;
}

static size_t size_of(const Choice *c) {
  size_t n = c->text.n;
  for (int k = 0; k < LEN(c->logprob); k++) n += c->logprob[k].n;
  return n;
}

static void told_text(Job *j, Prompt *p, const Event *e) {
  Api *a = j->api;
  int number = p->index * j->request.n + e->choice;
  Choice *c = &j->choices[number];
  int told = e->ntokens;
  if (c->echo) { /* the prompt's tokens are not the answer's */
    int echoed = c->echo < told ? c->echo : told;
    c->echo -= echoed;
    told -= echoed;
  }
  if (told > 0) {
    if (!j->first_told) metrics_add(&a->metrics, METRIC_time_to_first_token, e->at - j->arrived, 1);
    j->first_told = true;
    if (c->last > 0) metrics_add(&a->metrics, METRIC_inter_token_latency, (e->at - c->last) / told, told);
    c->last = e->at;
  }
  size_t before = size_of(c);
  if (e->n) text_write(&c->text, e->text, e->n);
  for (int i = 0; i < e->nlisted && j->call->logprobs && j->request.top >= 0; i++)
    j->call->logprobs(j, number, &e->tokens[i]);
  if (!hold(j, size_of(c) - before)) return;
  if (j->stream && (c->text.n || c->logprob[0].n)) j->call->told(j, number);
}

static void told_hidden(Job *j, Prompt *p, const Event *e) {
  if (!hold(j, e->n * (j->base64 ? 10 : 16))) return; /* itself and what it becomes */
  p->hidden = NEW_ARRAY(j->arena, float, e->n);
  p->nhidden = (int)e->n;
  memcpy(p->hidden, e->row, e->n * sizeof *e->row);
}

static void told_done(Job *j, Prompt *p, const Event *e) {
  Choice *c = &j->choices[p->index * j->request.n + e->choice];
  c->finish = e->finish;
  metrics_finish(&j->api->metrics, e->finish);
  j->generated += e->ntokens;
  if (e->choice == 0) p->cached = e->cached;
  if (!strcmp(e->finish, "cancelled") || !strcmp(e->finish, "error")) {
    api_refuse(j, *e->finish == 'c' ? 503 : 500, NULL, NULL,
               *e->finish == 'c' ? "the answer was cancelled" : "the model failed");
    Api *a = j->api;
    fail(j);
    if (a->broken && model_failed(a)) a->broken(a->ctx);
    return;
  }
  if (j->stream) j->call->done(j, p->index * j->request.n + e->choice);
  if (--p->left) return;
  complete_free(p->run);
  p->run = NULL;
  if (++j->over == j->nprompts)
    finish(j);
  else
    run_prompts(j);
}

static void on_event(Mail *m) {
  Event *e = (Event *)m;
  Prompt *p = e->prompt;
  Job *j = p->job;
  if (!j->dead) {
    if (e->what == TOLD_STARTED && !p->index)
      metrics_add(&j->api->metrics, METRIC_request_queue_time, e->at - j->arrived, 1);
    if (e->what == TOLD_TEXT) told_text(j, p, e);
    if (e->what == TOLD_DONE) told_done(j, p, e);
    if (e->what == TOLD_HIDDEN) told_hidden(j, p, e);
  }
  free(e);
}

/* ---- the reading thread */

static void on_read(Mail *m) {
  Job *j = (Job *)m;
  char wrong[300];
  json_t *body = json_read(j->body, j->nbody, j->api->o->json_depth, wrong, sizeof wrong);
  if (!body) {
    api_refuse(j, 400, NULL, NULL, "%s", wrong);
  } else if (api_fields(j, body) && j->call->prepare(j, body) && j->nprompts) {
    j->request.sink = &sink;
    j->choices = NEW_ARRAY(j->arena, Choice, (size_t)j->nprompts * (size_t)j->request.n);
    if (j->stream && j->answered)
      api_refuse(j, 400, "stream", "unsupported_value", "'stream' goes with a connection alone");
  } else {
    j->nprompts = 0;
  }
  json_decref(body);
  free(j->body);
  j->body = NULL;
  j->mail.open = on_prepared;
  mailbox_post(&j->api->loop, &j->mail);
}

/* To the reading thread with a body of its own. */
static void read_body(Job *j, char *body, size_t n) {
  Api *a = j->api;
  j->body = body;
  j->nbody = n;
  a->bodies += n;
  if (a->reading >= a->o->max_queue || a->bodies > (size_t)a->o->bodies_bytes) {
    api_refuse(j, 429, NULL, NULL, "too many requests are waiting; please try again");
    fail(j);
    return;
  }
  j->with_reader = true;
  a->reading++;
  j->mail.open = on_read;
  mailbox_post(&a->reader, &j->mail);
}

static Job *job_make(Api *a, const ApiCall *call, double now) {
  Job *j = calloc(1, sizeof *j);
  if (!j) abort();
  j->api = a;
  j->call = call;
  j->arrived = now;
  j->created = (int64_t)time(NULL);
  j->arena = arena_new();
  j->request.n = 1;
  j->request.top = -1;
  unsigned char id[12] = {0};
  if (getrandom(id, sizeof id, 0) < 0) id[0] = 1;
  for (int i = 0; i < LEN(id); i++) snprintf(j->id + 2 * i, 3, "%02x", id[i]);
  j->next = a->jobs;
  if (j->next) j->next->prev = j;
  a->jobs = j;
  return j;
}

void job_new(Api *a, const ApiCall *call, Http *r, double now) {
  size_t n;
  char *body = http_take_body(r, &n);
  Job *j = job_make(a, call, now);
  *http_user(r) = j;
  j->http = r;
  read_body(j, body, n);
}

void job_offline(Api *a, const ApiCall *call, const char *body, size_t n, double now,
                 void (*answered)(void *ctx, int status, const char *s, size_t n), void *ctx) {
  Job *j = job_make(a, call, now);
  j->answered = answered;
  j->ctx = ctx;
  char *own = malloc(n + 1);
  if (!own) abort();
  memcpy(own, body, n);
  read_body(j, own, n);
}
