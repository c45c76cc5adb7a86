/* What the server counts of itself, and its page for Prometheus. On the loop's thread alone. */
#ifndef SERVE_METRICS_H
#define SERVE_METRICS_H
#include "ink/base.h"
#include "serve/complete.h"

/* METRIC(name, buckets, doc): histograms of seconds. */
#define METRICS_HISTOGRAMS                                                                                             \
  METRIC(time_to_first_token, FIRST, "from the whole request to its first token")                                      \
  METRIC(inter_token_latency, TOKEN, "between tokens of an answer")                                                    \
  METRIC(e2e_request_latency, REQUEST, "from the whole request to the end of its last answer")                         \
  METRIC(request_queue_time, REQUEST, "from the whole request to its first being run by a step")

typedef enum MetricId {
#define METRIC(name, buckets, doc) METRIC_##name,
  METRICS_HISTOGRAMS
#undef METRIC
      METRICS
} MetricId;

enum { METRIC_BUCKETS = 24, METRIC_CODES = 16 };

typedef struct Metrics {
  struct {
    uint64_t bucket[METRIC_BUCKETS], count;
    double sum;
  } of[METRICS];
  uint64_t stop, length, abort, error; /* answers by how they ended */
  struct {
    int status;
    uint64_t count;
  } code[METRIC_CODES]; /* of HTTP's answers */
} Metrics;

void metrics_add(Metrics *m, MetricId id, double seconds, int times);
void metrics_finish(Metrics *m, const char *finish); /* "stop", "length", "cancelled", else an error */
void metrics_code(Metrics *m, int status);
/* Appends the page. waiting: requests that are not with the batcher yet; s: NULL while it is loaded. */
void metrics_page(const Metrics *m, const Served *s, int waiting, int connections, Text *out);
#endif
