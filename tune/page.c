/* What a tuning found as one HTML page that needs nothing else: a table of kernels, and for each what was tried, with bars.
 *
 * Everything that comes from a model or a database goes through escaped(). */
#include "tune/tune.h"
#include <inttypes.h>
#include <string.h>

static void escaped(Text *out, const char *s) {
  for (; *s; s++) {
    const char *as = *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : *s == '&' ? "&amp;" : *s == '"' ? "&quot;" : NULL;
    if (as)
      text_add(out, "%s", as);
    else
      text_write_clean(out, s, 1);
  }
}

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>ink tune</title>\n<style>\n"
    "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 "
    "1em;color:#222;background:#fff}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "th,td{text-align:left;padding:.25em .7em;border-bottom:1px solid #ddd;vertical-align:top}\n"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "code,pre{font:13px/1.4 ui-monospace,monospace}\npre{background:#f6f6f6;padding:.7em;overflow-x:auto}\n"
    ".bar{background:#9bb8d3;height:.8em}.won .bar{background:#3a7d44}.base .bar{background:#888}\n"
    "tr.won td{font-weight:600}details{margin:.6em 0}summary{cursor:pointer}\n"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#222}th,td{border-color:#333}}"
    "\n"
    "</style></head><body>\n";

static double share(const Tune *t, int i) {
  double all = 0;
  for (int j = 0; j < t->n; j++) all += t->kernels[j].calls * t->kernels[j].flops;
  return all > 0 ? 100 * t->kernels[i].calls * t->kernels[i].flops / all : 0;
}

static void row(const TuneTry *x, double most, const char *class, Text *out) {
  text_add(out, "<tr class=\"%s\"><td><code>", class);
  escaped(out, x->schedule);
  text_add(out,
           "</code></td><td class=\"n\">%.4f</td><td style=\"width:30%%\"><div class=\"bar\" "
           "style=\"width:%.1f%%\"></div></td></tr>\n",
           1e3 * x->seconds, most > 0 ? 100 * x->seconds / most : 0);
}

static void kernel(const Tune *t, int i, const TuneEntry *e, const TuneTry *x, int n, Text *out) {
  const TuneKernel *k = &t->kernels[i];
  double most = e->base_seconds;
  for (int j = 0; j < n; j++) most = x[j].seconds > most ? x[j].seconds : most;
  text_add(out, "<details%s><summary>", i < 3 ? " open" : "");
  escaped(out, k->region->name);
  text_add(out, ": %" PRId64 " candidates%s</summary>\n<pre>", e->tried, e->cut ? ", cut short by the budget" : "");
  escaped(out, e->region);
  text_add(out, "</pre>\n<table><tr><th>schedule</th><th class=\"n\">ms</th><th></th></tr>\n");
  row(&(TuneTry){e->base, e->base_seconds}, most, tune_won(e) ? "base" : "base won", out);
  for (int j = 0; j < n; j++) row(&x[j], most, tune_won(e) && !strcmp(x[j].schedule, e->schedule) ? "won" : "", out);
  text_add(out, "</table></details>\n");
}

bool tune_page(TuneDb *db, Arena *a, Diags *d, const Tune *t, Text *out) {
  TuneEntry *entry = NEW_ARRAY(a, TuneEntry, t->n + 1);
  bool *there = NEW_ARRAY(a, bool, t->n + 1);
  for (int i = 0; i < t->n; i++)
    if (!tune_db_get(db, a, d, &t->kernels[i].entry, &entry[i], &there[i])) return false;
  text_add(out, "%s<h1>ink tune: ", head);
  escaped(out, t->model);
  text_add(out, "</h1>\n<p>Target ");
  escaped(out, t->target->name);
  text_add(out, ", %d threads, machine <code>", t->threads);
  escaped(out, t->n ? t->kernels[0].entry.machine : "");
  text_add(
      out,
      "</code>. Times are milliseconds of one call; share is the part of a step's operations. A winner has met the "
      "default in two series of calls by turns; the times of other candidates are those of the race they were in, so "
      "compare "
      "them with care. The order is that of their turn.</p>\n<table><tr><th>kernel</th><th class=\"n\">share</th>"
      "<th class=\"n\">calls</th><th class=\"n\">GFLOP</th><th class=\"n\">default ms</th><th class=\"n\">best ms</th>"
      "<th class=\"n\">gain</th><th class=\"n\">tried</th><th>schedule</th></tr>\n");
  for (int i = 0; i < t->n; i++) {
    const TuneKernel *k = &t->kernels[i];
    const TuneEntry *e = &entry[i];
    text_add(out, "<tr><td>");
    escaped(out, k->region->name);
    text_add(out, "</td><td class=\"n\">%.1f%%</td><td class=\"n\">%.6g</td><td class=\"n\">%.3f</td>", share(t, i),
             k->calls, k->flops * 1e-9);
    if (there[i]) {
      text_add(out,
               "<td class=\"n\">%.4f</td><td class=\"n\">%.4f</td><td class=\"n\">%+.1f%%</td><td class=\"n\">%" PRId64
               "</td><td><code>",
               1e3 * e->base_seconds, 1e3 * e->seconds, tune_won(e) ? 100 * (e->base_seconds / e->seconds - 1) : 0.0,
               e->tried);
      escaped(out, tune_won(e) ? e->schedule : "default");
      text_add(out, "</code></td></tr>\n");
    } else {
      text_add(out, "<td colspan=\"5\">not measured</td></tr>\n");
    }
  }
  text_add(out, "</table>\n<h2>What was tried</h2>\n");
  for (int i = 0; i < t->n; i++) {
    TuneTry *x;
    int n;
    if (!there[i]) continue;
    if (!tune_db_tries(db, a, d, &entry[i], &x, &n)) return false;
    kernel(t, i, &entry[i], x, n, out);
  }
  text_add(out, "</body></html>\n");
  return true;
}
