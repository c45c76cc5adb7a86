/* metrics.jsonl and the progress line.
 *
 * Each line of metrics.jsonl is written by one write(), so a killed run leaves whole lines but perhaps the last. A loss of
 * power may leave anything behind the lines that were synced, which are those up to the newest checkpoint. Losses carry nine
 * digits: two runs are alike to the last bit of f32 when these texts are alike. */
#include "runtime/metrics.h"
#include "runtime/machine.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct Metrics {
  int fd;
  char path[FS_PATH];
};

/* The history as read so far: a line is part of it when it is a whole JSON object of a step that comes next. */
typedef struct History {
  int64_t step, val; /* of the last line of a step, of an evaluation */
} History;

static bool history_takes(History *h, const char *line, size_t n, int64_t keep_to) {
  json_t *v = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL), *step = json_object_get(v, "step");
  int64_t at = json_is_integer(step) ? json_integer_value(step) : -1;
  int64_t *last = json_object_get(v, "loss") ? &h->step : &h->val;
  bool ok = at > *last && at <= keep_to && line[n - 1] == '\n';
  if (ok) *last = at;
  json_decref(v);
  return ok;
}

/* Rewrites the file without the lines that are past `keep_to`, torn or twice; makes it when it is not there. Aside and
 * renamed: a crash here loses nothing. */
static bool cut(const char *run, const char *path, int64_t keep_to, Report *err) {
  static const char aside[] = ".tmp-metrics.jsonl";
  FILE *in = fopen(path, "r");
  if (!in && errno != ENOENT) return report_add(err, "cannot read %s: %s", path, strerror(errno));
  FsWriter *out = fs_writer_replace(run, aside, err);
  History h = {-1, -1};
  char *line = NULL;
  size_t cap = 0;
  for (ssize_t n; in && out && (n = getline(&line, &cap, in)) > 0;)
    if (history_takes(&h, line, (size_t)n, keep_to)) fs_writer_add(out, line, (size_t)n);
  bool ok = !in || !ferror(in) || report_add(err, "cannot read %s: %s", path, strerror(errno));
  free(line);
  if (in) fclose(in);
  ok = out && fs_writer_close(out, NULL, err) && ok && fs_rename(run, aside, "metrics.jsonl", err);
  char left[FS_PATH];
  if (!ok && fs_join(left, run, aside, err)) unlink(left); /* a full disk should not stay full */
  return ok;
}

Metrics *metrics_open(const char *run, int64_t keep_to, Report *err) {
  Metrics *m = calloc(1, sizeof(Metrics));
  if (!m) {
    report_add(err, "out of memory");
    return NULL;
  }
  bool ok = fs_join(m->path, run, "metrics.jsonl", err) && cut(run, m->path, keep_to, err);
  m->fd = ok ? open(m->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666) : -1;
  if (m->fd >= 0) return m;
  if (ok) fs_failed(err, "write", m->path, errno);
  free(m);
  return NULL;
}

void metrics_close(Metrics *m) {
  if (!m) return;
  close(m->fd);
  free(m);
}

bool metrics_sync(Metrics *m, Report *err) {
  return !fsync(m->fd) || fs_failed(err, "sync", m->path, errno);
}

static bool put(Metrics *m, const char *line, int n, Report *err) {
  while (n > 0) { /* once around, but on a disk that is full */
    ssize_t r = write(m->fd, line, (size_t)n);
    if (r < 0 && errno != EINTR) return fs_failed(err, "write", m->path, errno);
    if (r > 0) line += r, n -= (int)r;
  }
  return true;
}

bool metrics_step(Metrics *m, const StepMetrics *s, Report *err) {
  char line[512];
  int n = snprintf(line, sizeof(line),
                   "{\"step\": %" PRId64 ", \"loss\": %.9g, \"grad_norm\": %.9g, \"lr\": %.9g, \"tokens_per_s\": %.6g, "
                   "\"mfu\": %.4g, \"step_ms\": %.5g}\n",
                   s->step, s->loss, s->grad_norm, s->lr, s->per_second, s->mfu, s->ms);
  return put(m, line, n, err);
}

bool metrics_val(Metrics *m, int64_t step, double loss, Report *err) {
  char line[128], value[32] = "null"; /* JSON has no NaN and no infinity */
  if (isfinite(loss)) snprintf(value, sizeof(value), "%.9g", loss);
  int n = snprintf(line, sizeof(line), "{\"step\": %" PRId64 ", \"val_loss\": %s}\n", step, value);
  return put(m, line, n, err);
}

/* ---- progress */

Progress progress_new(int64_t from, int64_t to, const char *unit) {
  return (Progress){isatty(2), machine_seconds(), -1e9, from, to, NAN, unit, 0};
}

static const char *duration(double s, char text[32]) {
  if (s < 60)
    snprintf(text, 32, "%.0f s", s);
  else if (s < 3600)
    snprintf(text, 32, "%d min %02d s", (int)s / 60, (int)s % 60);
  else if (s < 360000)
    snprintf(text, 32, "%d h %02d min", (int)s / 3600, (int)s / 60 % 60);
  else
    snprintf(text, 32, "%.1f days", s / 86400);
  return text;
}

void progress_show(Progress *p, const StepMetrics *s, bool force) {
  double now = machine_seconds();
  if (!force && now - p->shown < (p->tty ? 0.1 : 10)) return;
  p->shown = now;
  char val[32] = "-", rate[32], peak[48] = "", left[32], line[256];
  if (!isnan(p->last_val)) snprintf(val, sizeof(val), "%.4f", p->last_val);
  if (s->per_second >= 1e4)
    snprintf(rate, sizeof(rate), "%.1fk", s->per_second / 1e3);
  else
    snprintf(rate, sizeof(rate), "%.0f", s->per_second);
  if (s->mfu > 0) snprintf(peak, sizeof(peak), "  %.1f%% of peak", 100 * s->mfu);
  double per_step = (now - p->start) / (double)(s->step > p->from ? s->step - p->from : 1);
  int n = snprintf(line, sizeof(line), "step %" PRId64 "/%" PRId64 "  loss %.4f  val %s  %s %s/s%s  %s left", s->step,
                   p->to, s->loss, val, rate, p->unit, peak, duration(per_step * (double)(p->to - s->step), left));
  if (!p->tty) {
    fprintf(stderr, "%s\n", line);
    return;
  }
  fprintf(stderr, "\r%s%*s", line, p->width > n ? p->width - n : 0, "");
  p->width = n;
  fflush(stderr);
}

void progress_break(Progress *p) {
  if (p->tty && p->width) fputc('\n', stderr);
  p->width = 0;
}
