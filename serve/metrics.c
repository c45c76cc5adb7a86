/* Counters, gauges and histograms in Prometheus' text form (0.0.4). Names and buckets as vLLM's, with `inkstone_` before them, so that
 * boards and alerts carry over. */
#include "serve/metrics.h"
#include "serve/json.h"

#include <string.h>

static const double FIRST[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                               1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
static const double TOKEN[] = {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
static const double REQUEST[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};

static const struct {
  const char *name, *doc;
  const double *bound;
  int n;
} histograms[] = {
#define METRIC(name, buckets, doc) {#name, doc, buckets, LEN(buckets)},
    METRICS_HISTOGRAMS
#undef METRIC
};

void metrics_add(Metrics *m, MetricId id, double seconds, int times) {
  int i = 0;
  while (i < histograms[id].n && seconds > histograms[id].bound[i]) i++;
  m->of[id].bucket[i] += (uint64_t)times;
  m->of[id].count += (uint64_t)times;
  m->of[id].sum += seconds * times;
}

void metrics_finish(Metrics *m, const char *finish) {
  uint64_t *at = !strcmp(finish, "stop")        ? &m->stop
                 : !strcmp(finish, "length")    ? &m->length
                 : !strcmp(finish, "cancelled") ? &m->abort
                                                : &m->error;
  ++*at;
}

void metrics_code(Metrics *m, int status) {
  for (int i = 0; i < METRIC_CODES; i++) {
    if (m->code[i].status && m->code[i].status != status) continue;
    m->code[i].status = status;
    m->code[i].count++;
    return;
  }
}

static void head(Text *out, const char *name, const char *kind, const char *doc) {
  text_add(out, "# HELP inkstone_%s %s\n# TYPE inkstone_%s %s\n", name, doc, name, kind);
}

static void put(Text *out, const char *name, const char *kind, const char *doc, const char *label, double value) {
  head(out, name, kind, doc);
  text_add(out, "inkstone_%s{%s} %.15g\n", name, label, value);
}

static void put_model(const Metrics *m, const Served *s, int waiting, Text *out) {
  Text label = {0};
  BatchStats b = {0};
  text_add(&label, "model_name=");
  json_puts(&label, s->name); /* Prometheus escapes alike, but for control characters */
  batcher_stats(s->batcher, &b);
  put(out, "num_requests_running", "gauge", "answers that are being written", label.s, b.running);
  put(out, "num_requests_waiting", "gauge", "requests that wait", label.s, b.waiting + waiting);
  put(out, "kv_cache_usage_perc", "gauge", "share of the cache that running answers hold; 1 is all", label.s,
      b.cache_use);
  put(out, "prompt_tokens_total", "counter", "tokens of prompts", label.s, (double)b.prompt_tokens);
  put(out, "cached_tokens_total", "counter", "tokens of prompts that were found in the cache", label.s,
      (double)b.cached_tokens);
  put(out, "generation_tokens_total", "counter", "tokens of answers", label.s, (double)b.generated_tokens);
  put(out, "steps_total", "counter", "steps of the batcher", label.s, (double)b.steps);
  head(out, "request_success_total", "counter", "answers by how they ended");
  const struct {
    const char *reason;
    uint64_t count;
  } ends[] = {{"stop", m->stop}, {"length", m->length}, {"abort", m->abort}, {"error", m->error}};
  for (int i = 0; i < LEN(ends); i++)
    text_add(out, "inkstone_request_success_total{%s,finished_reason=\"%s\"} %llu\n", label.s, ends[i].reason,
             (unsigned long long)ends[i].count);
  for (int id = 0; id < METRICS; id++) {
    char name[64];
    unsigned long long sum = 0;
    snprintf(name, sizeof name, "%s_seconds", histograms[id].name);
    head(out, name, "histogram", histograms[id].doc);
    for (int i = 0; i < histograms[id].n; i++) {
      sum += m->of[id].bucket[i];
      text_add(out, "inkstone_%s_bucket{%s,le=\"%.10g\"} %llu\n", name, label.s, histograms[id].bound[i], sum);
    }
    text_add(out, "inkstone_%s_bucket{%s,le=\"+Inf\"} %llu\n", name, label.s, (unsigned long long)m->of[id].count);
    text_add(out, "inkstone_%s_sum{%s} %.15g\n", name, label.s, m->of[id].sum);
    text_add(out, "inkstone_%s_count{%s} %llu\n", name, label.s, (unsigned long long)m->of[id].count);
  }
  text_free(&label);
}

void metrics_page(const Metrics *m, const Served *s, int waiting, int connections, Text *out) {
  if (s) put_model(m, s, waiting, out);
  head(out, "http_requests_total", "counter", "answers of HTTP by their status");
  for (int i = 0; i < METRIC_CODES && m->code[i].status; i++)
    text_add(out, "inkstone_http_requests_total{code=\"%d\"} %llu\n", m->code[i].status,
             (unsigned long long)m->code[i].count);
  head(out, "http_connections", "gauge", "open connections");
  text_add(out, "inkstone_http_connections %d\n", connections);
}
