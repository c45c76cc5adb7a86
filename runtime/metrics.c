/* metrics.jsonl and the progress line.
 *
 * Each line of metrics.jsonl is written by one write(), so a killed run leaves whole lines but perhaps the last. Losses
 * carry nine digits: two runs are alike to the last bit of f32 when these texts are alike. */
#include "runtime/metrics.h"
#include "runtime/machine.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct Metrics {
  int fd;
  char path[FS_PATH];
};

/* Rewrites the file without the lines that are past `keep_to` or torn. Aside and renamed: a kill here loses nothing. */
static bool cut(const char *run, const char *path, int64_t keep_to, Report *err) {
  char aside[FS_PATH];
  if (!fs_join(aside, run, ".metrics.tmp", err)) return false;
  FILE *in = fopen(path, "r");
  if (!in) return errno == ENOENT || report_add(err, "cannot read %s: %s", path, strerror(errno));
  FILE *out = fopen(aside, "w");
  if (!out) {
    fclose(in);
    return report_add(err, "cannot write %s: %s", aside, strerror(errno));
  }
  char *line = NULL;
  size_t cap = 0;
  for (ssize_t n; (n = getline(&line, &cap, in)) > 0;) {
    int64_t step;
    if (n > 2 && line[n - 1] == '\n' && line[n - 2] == '}' && sscanf(line, "{\"step\": %" SCNd64, &step) == 1 &&
        step <= keep_to)
      fwrite(line, 1, (size_t)n, out);
  }
  free(line);
  fclose(in);
  bool ok = !fflush(out) && !fsync(fileno(out));
  ok = !fclose(out) && ok && !rename(aside, path);
  return ok || report_add(err, "cannot rewrite %s: %s", path, strerror(errno));
}

Metrics *metrics_open(const char *run, int64_t keep_to, Report *err) {
  Metrics *m = calloc(1, sizeof(Metrics));
  if (!m) {
    report_add(err, "out of memory");
    return NULL;
  }
  bool ok = fs_join(m->path, run, "metrics.jsonl", err) && cut(run, m->path, keep_to, err);
  m->fd = ok ? open(m->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
  if (m->fd >= 0) return m;
  if (ok) report_add(err, "cannot write %s: %s", m->path, strerror(errno));
  free(m);
  return NULL;
}

void metrics_close(Metrics *m) {
  if (!m) return;
  close(m->fd);
  free(m);
}

bool metrics_sync(Metrics *m, Report *err) {
  return !fsync(m->fd) || report_add(err, "cannot sync %s: %s", m->path, strerror(errno));
}

static bool put(Metrics *m, const char *line, int n, Report *err) {
  return write(m->fd, line, (size_t)n) == n || report_add(err, "cannot write %s: %s", m->path, strerror(errno));
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
  char line[128];
  int n = snprintf(line, sizeof(line), "{\"step\": %" PRId64 ", \"val_loss\": %.9g}\n", step, loss);
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
