/* The report of a machine as a table for people and as JSON for scripts. */
#include "driver/machine.h"
#include "runtime/machine.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIGURE = 23 }; /* characters of a median and a best */

/* What kernels could make use of, in the order that CPUs got it. */
static const char *const telling[] = {"sse4.2",     "avx",      "f16c",     "avx2",     "fma",        "bmi2",
                                      "avx512f",    "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16",
                                      "avx512fp16", "avxvnni",  "amx-tile", "amx-int8", "amx-bf16"};

/* A value as it is shown: in units of 1e9, or nanoseconds. */
static double shown(const MachineFigure *f, double v) {
  return v * (!strcmp(f->unit, "s") ? 1e9 : 1e-9);
}

static const char *shown_unit(const MachineFigure *f) {
  if (!strcmp(f->unit, "s")) return "ns";
  return !strcmp(f->unit, "B/s") ? "GB/s" : !strcmp(f->unit, "OP/s") ? "GOP/s" : "GFLOP/s";
}

static void print_figure(const MachineFigure *f, Text *out) {
  if (f->lacks)
    text_add(out, "  %-*s", FIGURE - 2, f->lacks);
  else
    text_add(out, "  %10.1f %10.1f", shown(f, f->median), shown(f, f->best));
}

void machine_print(const MachineReport *r, Text *out) {
  char size[4][32];
  text_write_clean(out, r->name, strlen(r->name));
  text_add(out, " (%s), %d core%s, %s of memory to be had\n", r->target.cpu, r->cores, r->cores == 1 ? "" : "s",
           machine_size((uint64_t)r->memory, size[0]));
  text_add(out, "features  ");
  for (int i = 0; i < LEN(telling); i++)
    if (target_has(&r->target, telling[i])) text_add(out, " %s", telling[i]);
  text_add(out, "\ncaches     L1 %s, L2 %s, L3 %s\n", machine_size((uint64_t)r->target.l1, size[1]),
           machine_size((uint64_t)r->target.l2, size[2]), machine_size((uint64_t)r->target.l3, size[3]));
  text_add(out, "kind       %s\n\n", r->fingerprint);
  text_add(out, "%-36s  %-*s", "", FIGURE - 2, "1 thread");
  if (r->cores > 1) text_add(out, "  %d threads", r->cores);
  text_add(out, "\n%-36s", "");
  for (int i = 0; i < (r->cores > 1 ? 2 : 1); i++) text_add(out, "  %10s %10s", "median", "best");
  int i = 0;
  for (; i < r->nfigures && strcmp(r->figures[i].id, "barrier"); i++) {
    const MachineFigure *f = &r->figures[i];
    if (f->threads == 1) text_add(out, "\n%-28s %7s", f->what, shown_unit(f));
    print_figure(f, out);
  }
  text_add(out, "\n");
  for (; i < r->nfigures; i++) {
    const MachineFigure *f = &r->figures[i];
    char label[32];
    snprintf(label, sizeof label, "barrier, %d threads", f->threads);
    text_add(out, "%-28s %7s%*s", label, shown_unit(f), f->threads == r->cores ? FIGURE : 0, "");
    print_figure(f, out);
    text_add(out, "\n");
  }
  const MachineQuiet *q = &r->quiet;
  text_add(out, "\n%d readings of each in %.1f s. ", r->figures[0].n, r->seconds);
  if (r->cores > 1) text_add(out, "%d threads reach %.2f times one; ", r->cores, q->scaling * r->cores);
  text_add(out, "median %.1f%% below best; core held %.1f%%; others %.2f cores, withheld %.2f\n", 100 * q->spread,
           100 * q->share, q->others, q->steal);
  text_add(out, "quiet: %s", q->nwhy ? "no (" : "yes\n");
  for (int k = 0; k < q->nwhy; k++) text_add(out, "%s%s", q->why[k], k + 1 < q->nwhy ? "; " : ")\n");
}

static json_t *features_json(const char *features) {
  json_t *list = json_array();
  for (const char *s = features; *s;) {
    size_t n = strcspn(s, ",");
    if (*s == '+') json_array_append_new(list, json_stringn(s + 1, n - 1));
    s += n + (s[n] != 0);
  }
  return list;
}

static json_t *figures_json(const MachineReport *r) {
  json_t *list = json_array();
  for (int i = 0; i < r->nfigures; i++) {
    const MachineFigure *f = &r->figures[i];
    json_array_append_new(list, f->lacks ? json_pack("{s:s, s:s, s:i, s:s}", "id", f->id, "unit", f->unit, "threads",
                                                     f->threads, "lacks", f->lacks)
                                         : json_pack("{s:s, s:s, s:i, s:f, s:f, s:i}", "id", f->id, "unit", f->unit,
                                                     "threads", f->threads, "median", f->median, "best", f->best,
                                                     "readings", f->n));
  }
  return list;
}

static json_t *quiet_json(const MachineQuiet *q) {
  json_t *why = json_array();
  for (int i = 0; i < q->nwhy; i++) json_array_append_new(why, json_string(q->why[i]));
  return json_pack("{s:b, s:o, s:f, s:f, s:f, s:f, s:f}", "quiet", !q->nwhy, "why", why, "scaling", q->scaling,
                   "spread", q->spread, "share", q->share, "others", q->others, "steal", q->steal);
}

bool machine_json(const MachineReport *r, Text *out) {
  Text name = {0};
  text_write_clean(&name, r->name, strlen(r->name)); /* JSON is UTF-8, whatever the system says */
  json_t *j =
      json_pack("{s:s, s:s, s:o, s:s, s:i, s:I, s:{s:I, s:I, s:I}, s:i, s:o, s:o, s:f}", "name", name.s ? name.s : "",
                "cpu", r->target.cpu, "features", features_json(r->target.features), "kind", r->fingerprint, "cores",
                r->cores, "memory", (json_int_t)r->memory, "caches", "l1", (json_int_t)r->target.l1, "l2",
                (json_int_t)r->target.l2, "l3", (json_int_t)r->target.l3, "lanes", r->target.lanes, "figures",
                figures_json(r), "quiet", quiet_json(&r->quiet), "seconds", r->seconds);
  text_free(&name);
  char *s = j ? json_dumps(j, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
  json_decref(j);
  if (!s) return false;
  text_add(out, "%s\n", s);
  free(s);
  return true;
}
