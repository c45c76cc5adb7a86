/* Messages as values, and the near-miss suggestion for a mistyped option or setting.
 *
 * Text that comes from files or the command line only ever enters as an argument of a fixed format; what is not printable
 * in it is shown as '?', so a hostile tensor name cannot write escape sequences to a terminal. */
#include "runtime/report.h"
#include "ink/base.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPORT_LIMIT = 64 << 10 };

static void append(Report *r, const char *s, size_t n) {
  if (r->n + n + 1 > r->cap) {
    size_t cap = (r->n + n + 1) * 2;
    char *grown = realloc(r->text, cap);
    if (!grown) return; /* out of memory: the message is lost, the failure is not */
    r->text = grown;
    r->cap = cap;
  }
  memcpy(r->text + r->n, s, n);
  r->n += n;
  r->text[r->n] = 0;
}

bool report_add(Report *r, const char *fmt, ...) {
  if (!r || r->cut) return false;
  if (r->n > REPORT_LIMIT) {
    static const char more[] = "... and more\n";
    append(r, more, sizeof(more) - 1);
    r->cut = true;
    return false;
  }
  char line[4096];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(line, sizeof(line), fmt, ap);
  va_end(ap);
  if (n < 0) return false;
  if ((size_t)n >= sizeof(line)) n = (int)sizeof(line) - 1;
  for (int i = 0, k; i < n; i += k) { /* in place: a '?' for each byte that is not fit to be shown */
    k = line[i] == '\n' ? 1 : text_printable(line + i, (size_t)(n - i));
    if (!k) line[i] = '?', k = 1;
  }
  append(r, line, (size_t)n);
  append(r, "\n", 1);
  r->lines++;
  return false;
}

void report_free(Report *r) {
  free(r->text);
  *r = (Report){0};
}

/* Levenshtein distance with a bounded table; words longer than the table are not worth a suggestion. */
static int distance(const char *a, const char *b) {
  enum { MAX = 64 };
  int na = (int)strlen(a), nb = (int)strlen(b);
  if (na >= MAX || nb >= MAX) return MAX;
  int row[MAX + 1];
  for (int j = 0; j <= nb; j++) row[j] = j;
  for (int i = 1; i <= na; i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= nb; j++) {
      int keep = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      int edit = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
      row[j] = keep < edit ? keep : edit;
    }
  }
  return row[nb];
}

const char *report_suggest(const char *word, const char *const *candidates, int n) {
  const char *best = NULL;
  int limit = (int)strlen(word) / 3;
  int best_d = (limit < 2 ? 2 : limit) + 1;
  for (int i = 0; i < n; i++) {
    int d = distance(word, candidates[i]);
    if (d < best_d) best_d = d, best = candidates[i];
  }
  return best;
}
