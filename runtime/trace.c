/* The recorder's memory, and the file: JSON in the form that Chrome's trace viewer defined ("Trace Event Format").
 *
 * Threads run the same calls in the same order, so call i of one thread is call i of all: the rate of a call is its FLOPs and
 * bytes over the time from the first thread's start to the last one's end.
 * What must hold: every event has "ts" and "dur" with three decimals, exact in nanoseconds, so that events which nest in
 * time nest in the file. */
#include "runtime/trace.h"
#include "ink/base.h"
#include "runtime/fs.h"
#include "runtime/sites.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct TraceSpan {
  const char *name;
  int64_t number, start, end;
} TraceSpan;

typedef struct Slot {
  TraceEvent **event; /* by thread */
  int64_t *n;         /* by thread */
  TraceSpan *span;
  int64_t nspans;
} Slot;

struct Trace {
  const Program *p;
  int threads, slots;
  int64_t calls, spans, begun; /* room of a step; steps begun */
  TraceEvent *memory;
  Slot *slot;
};

static bool take(Trace *t) {
  size_t page = 4096 / sizeof(TraceEvent),
         room = ((size_t)t->calls + page - 1) / page * page; /* threads share no page */
  size_t bytes = room * sizeof(TraceEvent) * (size_t)t->threads * (size_t)t->slots;
  t->memory = bytes ? aligned_alloc(4096, bytes) : NULL;
  if (bytes && !t->memory) return false;
  if (bytes) memset(t->memory, 0, bytes); /* touched now, so that recording takes no page faults */
  for (int i = 0; i < t->slots; i++) {
    Slot *s = &t->slot[i];
    s->event = calloc((size_t)t->threads, sizeof(TraceEvent *));
    s->n = calloc((size_t)t->threads, sizeof(int64_t));
    s->span = calloc((size_t)t->spans + 1, sizeof(TraceSpan));
    if (!s->event || !s->n || !s->span) return false;
    for (int k = 0; k < t->threads; k++) s->event[k] = t->memory + room * (size_t)(i * t->threads + k);
  }
  return true;
}

Trace *trace_new(const Program *p, int threads, int steps, int64_t calls, int64_t spans, Report *err) {
  int64_t most = calls > 0 ? TRACE_EVENTS / ((int64_t)threads * calls) : steps;
  if (steps > most) {
    report_add(err,
               "--trace-steps %d: a step calls %" PRId64
               " kernels on %d thread%s, and a trace holds %d calls; %s%" PRId64 " would fit",
               steps, calls, threads, threads == 1 ? "" : "s", TRACE_EVENTS, most ? "--trace-steps " : "", most);
    return NULL;
  }
  Trace *t = calloc(1, sizeof *t);
  if (t) *t = (Trace){.p = p, .threads = threads, .slots = steps, .calls = calls, .spans = spans};
  if (t) t->slot = calloc((size_t)steps, sizeof(Slot));
  if (t && t->slot && take(t)) return t;
  report_add(err, "out of memory");
  trace_free(t);
  return NULL;
}

void trace_free(Trace *t) {
  if (!t) return;
  for (int i = 0; t->slot && i < t->slots; i++) free(t->slot[i].event), free(t->slot[i].n), free(t->slot[i].span);
  free(t->slot), free(t->memory), free(t);
}

/* ---- recording */

static Slot *now(const Trace *t) {
  return t->begun ? &t->slot[(t->begun - 1) % t->slots] : NULL;
}

void trace_begin(Trace *t) {
  t->begun++;
  Slot *s = now(t);
  s->nspans = 0;
  for (int k = 0; k < t->threads; k++) s->n[k] = 0;
}

TraceEvent *trace_room(Trace *t, int thread, TraceEvent **end) {
  Slot *s = now(t);
  *end = s ? s->event[thread] + t->calls : NULL;
  return s ? s->event[thread] + s->n[thread] : NULL;
}

void trace_taken(Trace *t, int thread, const TraceEvent *next) {
  Slot *s = now(t);
  if (s) s->n[thread] = next - s->event[thread];
}

void trace_span(Trace *t, const char *name, int64_t number, int64_t start, int64_t end) {
  Slot *s = now(t);
  if (s && s->nspans < t->spans) s->span[s->nspans++] = (TraceSpan){name, number, start, end};
}

/* ---- the file */

bool trace_possible(const char *path, Report *err) {
  char dir[FS_PATH];
  const char *name = fs_split(path, dir, err);
  if (!name) return false;
  if (!*name || fs_is_dir(path)) return report_add(err, "--trace %s: that is a folder, not a file", path);
  return !access(dir, W_OK | X_OK) || fs_failed(err, "write", path, errno);
}

/* A JSON string: what is not printable becomes '?'. */
static void add_string(Text *out, const char *s) {
  size_t n = strlen(s);
  text_write(out, "\"", 1);
  for (size_t i = 0; i < n;) {
    int k = text_printable(s + i, n - i);
    if (s[i] == '"' || s[i] == '\\') text_write(out, "\\", 1);
    text_write(out, k ? s + i : "?", k ? (size_t)k : 1);
    i += k ? (size_t)k : 1;
  }
  text_write(out, "\"", 1);
}

static void add_time(Text *out, const char *key, int64_t ns) {
  text_add(out, ",\"%s\":%" PRId64 ".%03d", key, ns / 1000, (int)(ns % 1000));
}

static void begin_event(Text *out, int thread, int64_t zero, int64_t start, int64_t end) {
  text_add(out, ",\n{\"ph\":\"X\",\"pid\":0,\"tid\":%d", thread);
  add_time(out, "ts", start > zero ? start - zero : 0);
  add_time(out, "dur", end > start ? end - start : 0);
}

static void add_call(Text *out, const Trace *t, const Slot *s, int thread, int64_t i, int64_t zero) {
  const TraceEvent *v = &s->event[thread][i];
  const ProgramStep *step = &t->p->steps[v->step];
  const ProgramKernel *k = &t->p->kernel_info[step->kernel];
  const ProgramPlace *place = step->nplaces ? &t->p->places[step->place] : NULL;
  int64_t start = v->start, end = v->end;
  for (int o = 0; o < t->threads; o++) {
    const TraceEvent *w = &s->event[o][i];
    if (w->start < start) start = w->start;
    if (w->end > end) end = w->end;
  }
  begin_event(out, thread, zero, v->start, v->end);
  text_add(out, ",\"cat\":\"kernel\",\"name\":");
  add_string(out, program_string(t->p, k->name));
  text_add(out, ",\"args\":{");
  if (place && place->line) {
    Text line = {0};
    text_add(&line, "%s:%u", program_string(t->p, place->file), place->line);
    text_add(out, "\"line\":");
    add_string(out, line.s);
    text_add(out, ",");
    text_free(&line);
  }
  if (place && place->in) {
    text_add(out, "\"layer\":");
    add_string(out, program_string(t->p, place->in));
    text_add(out, ",");
  }
  double ns = end > start ? (double)(end - start) : 1;
  text_add(out, "\"GFLOP/s\":%.4g,\"GB/s\":%.4g,\"wait_us\":%.3f}}", k->flops / ns, k->bytes / ns,
           1e-3 * (double)(v->left - v->end));
}

static void drain(Text *out, FsWriter *w) {
  fs_writer_add(w, out->s, out->n);
  out->n = 0;
}

static void write_slot(Text *out, const Trace *t, const Slot *s, int64_t zero, FsWriter *w) {
  int64_t n = s->n[0];
  for (int k = 1; k < t->threads; k++) n = s->n[k] < n ? s->n[k] : n;
  for (int64_t i = 0; i < s->nspans; i++) {
    const TraceSpan *v = &s->span[i];
    begin_event(out, 0, zero, v->start, v->end);
    text_add(out, ",\"cat\":\"run\",\"name\":\"%s", v->name);
    if (v->number >= 0) text_add(out, " %" PRId64, v->number);
    text_add(out, "\"}");
  }
  for (int k = 0; k < t->threads; k++)
    for (int64_t i = 0; i < n; i++) {
      add_call(out, t, s, k, i, zero);
      if (out->n >= 1 << 16) drain(out, w);
    }
}

static void add_head(Text *out, const Trace *t) {
  Text name = {0};
  text_add(&name, "%s for %s", program_string(t->p, t->p->h->model), program_string(t->p, t->p->h->target));
  text_add(out,
           "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{\"ph\":\"M\",\"pid\":0,\"name\":\"process_name\",\"args\":"
           "{\"name\":");
  add_string(out, name.s);
  text_add(out, "}}");
  for (int k = 0; k < t->threads; k++)
    text_add(out, ",\n{\"ph\":\"M\",\"pid\":0,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s %d\"}}", k,
             k ? "thread" : "main thread", k);
  text_free(&name);
}

static int64_t first_time(const Slot *s) {
  int64_t first = INT64_MAX;
  for (int64_t i = 0; i < s->nspans; i++)
    if (s->span[i].start < first) first = s->span[i].start;
  return first;
}

bool trace_write(const Trace *t, const char *path, Report *err) {
  char dir[FS_PATH], aside[FS_PATH], at[FS_PATH];
  const char *name = fs_split(path, dir, err);
  if (!name || snprintf(aside, sizeof aside, ".tmp-%s", name) >= (int)sizeof aside || !fs_join(at, dir, aside, err))
    return false;
  FsWriter *w = fs_writer_replace(dir, aside, err);
  if (!w) return false;
  Text text = {0};
  add_head(&text, t);
  int64_t kept = t->begun < t->slots ? t->begun : t->slots, zero = INT64_MAX;
  for (int64_t i = 0; i < kept; i++) {
    int64_t first = first_time(&t->slot[i]);
    zero = first < zero ? first : zero;
  }
  for (int64_t i = t->begun - kept; i < t->begun; i++) write_slot(&text, t, &t->slot[i % t->slots], zero, w);
  text_add(&text, "\n]}\n");
  drain(&text, w);
  text_free(&text);
  bool ok = fs_writer_close(w, NULL, err) && fs_rename(dir, aside, name, err);
  if (!ok) unlink(at); /* a full disk should not stay full */
  return ok;
}
