/* Holds a trace of --trace to what docs/profiling.md says of it.
 *
 * usage: trace-check FILE.json THREADS STEPS
 * The file is JSON without a key given twice; there are STEPS steps, in order; on each of the THREADS events nest; all threads
 * have the same kernels in the same order, within a step of the main thread; in the step that was disturbed least, kernels,
 * waits and data are all of it but 3 %. */
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Event {
  const char *name, *cat;
  long long start, end, wait; /* ns */
} Event;

static Event *event[64]; /* by thread */
static int n[64];

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vprintf(fmt, ap);
  va_end(ap);
  printf("\n");
  exit(1);
}

static long long ns(json_t *v, const char *key) {
  json_t *x = json_object_get(v, key);
  if (!json_is_number(x)) die("an event without %s", key);
  return (long long)(json_number_value(x) * 1000 + 0.5);
}

static void load(json_t *v, int threads) {
  const char *ph = json_string_value(json_object_get(v, "ph"));
  if (!ph) die("an event without ph");
  if (!strcmp(ph, "M")) return;
  int tid = -1, pid = -1;
  Event e = {0};
  if (strcmp(ph, "X") ||
      json_unpack(v, "{s:i, s:i, s:s, s:s}", "tid", &tid, "pid", &pid, "name", &e.name, "cat", &e.cat))
    die("an event that is not whole");
  if (tid < 0 || tid >= threads || pid) die("tid %d, pid %d", tid, pid);
  e.start = ns(v, "ts");
  e.end = e.start + ns(v, "dur");
  if (!strcmp(e.cat, "kernel")) {
    json_t *args = json_object_get(v, "args");
    e.wait = ns(args, "wait_us");
    if (json_number_value(json_object_get(args, "GB/s")) < 0 || json_number_value(json_object_get(args, "GFLOP/s")) < 0)
      die("a kernel without rates");
  }
  event[tid] = realloc(event[tid], sizeof(Event) * (size_t)(n[tid] + 1));
  event[tid][n[tid]++] = e;
}

static int outer_first(const void *a, const void *b) {
  const Event *x = a, *y = b;
  if (x->start != y->start) return x->start < y->start ? -1 : 1;
  return x->end > y->end ? -1 : x->end < y->end;
}

static void check_nesting(int t) {
  Event *open[16];
  int depth = 0;
  qsort(event[t], (size_t)n[t], sizeof(Event), outer_first);
  for (int i = 0; i < n[t]; i++) {
    Event *e = &event[t][i];
    while (depth && open[depth - 1]->end <= e->start) depth--;
    if (depth && e->end > open[depth - 1]->end) die("thread %d: %s overlaps %s", t, e->name, open[depth - 1]->name);
    if (depth == 16) die("thread %d: events nest too deeply", t);
    open[depth++] = e;
  }
}

static bool is(const Event *e, const char *cat, const char *begins) {
  return !strcmp(e->cat, cat) && !strncmp(e->name, begins, strlen(begins));
}

int main(int argc, char **argv) {
  int threads = argc == 4 ? atoi(argv[2]) : 0, steps = argc == 4 ? atoi(argv[3]) : 0, found = 0, last = 0;
  json_error_t why;
  if (threads < 1 || threads > 64) die("usage: trace-check FILE.json THREADS STEPS");
  json_t *root = json_load_file(argv[1], JSON_REJECT_DUPLICATES, &why), *v;
  if (!root) die("%s:%d:%d: %s", argv[1], why.line, why.column, why.text);
  size_t at;
  json_array_foreach(json_object_get(root, "traceEvents"), at, v) load(v, threads);
  for (int t = 0; t < threads; t++) check_nesting(t);

  double best = 0;
  int kernels = 0;
  for (int i = 0; i < n[0]; i++) {
    const Event *step = &event[0][i];
    long long told = 0;
    if (!is(step, "run", "step ")) continue;
    int number = atoi(step->name + 5), inside = 0;
    if (found++ && number != last + 1) die("step %d follows step %d", number, last);
    last = number;
    for (int k = i + 1; k < n[0] && event[0][k].start < step->end; k++) {
      const Event *e = &event[0][k];
      inside += is(e, "kernel", "");
      if (is(e, "kernel", "") || is(e, "run", "data")) told += e->end - e->start + e->wait;
    }
    if (!inside) die("step %d has no kernels", number);
    kernels += inside;
    double share = (double)told / (double)(step->end - step->start);
    printf("step %d: %d kernels, %.2f%% of it told\n", number, inside, 100 * share);
    if (share > 1.0001) die("more is told than there is");
    if (share > best) best = share;
  }
  if (found != steps) die("%d steps, not %d", found, steps);
  if (best < 0.97) die("no step of which 97 %% is told");
  for (int t = 0; t < threads; t++) {
    int k = 0, i0 = 0;
    for (int i = 0; i < n[t]; i++) {
      if (!is(&event[t][i], "kernel", "")) continue;
      while (i0 < n[0] && !is(&event[0][i0], "kernel", "")) i0++;
      if (i0 == n[0] || strcmp(event[0][i0++].name, event[t][i].name)) die("thread %d: call %d is another", t, k);
      k++;
    }
    if (k != kernels) die("thread %d has %d kernels, the steps %d", t, k, kernels);
    free(event[t]);
  }
  json_decref(root);
  return 0;
}
