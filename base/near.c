/* Near misses: "did you mean 'heads'?".
 *
 * Optimal string alignment distance (Damerau-Levenshtein without overlapping edits): insertion, deletion, substitution
 * and a swap of neighbours cost one each. A candidate counts when it is at most a third of the longer word away. */
#include "ink/base.h"

#include <string.h>

enum { LONGEST = 64 }; /* longer words are no typing errors */

static int min(int a, int b) {
  return a < b ? a : b;
}

static int distance(const char *a, int n, const char *b, int m) {
  int rows[3][LONGEST + 1];
  int *two = rows[0], *one = rows[1], *now = rows[2]; /* the rows for i - 2, i - 1, i */
  for (int j = 0; j <= m; j++) now[j] = j;
  for (int i = 1; i <= n; i++) {
    int *t = two;
    two = one, one = now, now = t;
    now[0] = i;
    for (int j = 1; j <= m; j++) {
      int d = one[j - 1] + (a[i - 1] != b[j - 1]);
      d = min(d, min(one[j], now[j - 1]) + 1);
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d = min(d, two[j - 2] + 1);
      now[j] = d;
    }
  }
  return now[m];
}

const char *near_miss(const char *word, const char *const *candidates, int n) {
  const char *best = NULL;
  int least = LONGEST;
  size_t len = strlen(word);
  if (len == 0 || len > LONGEST) return NULL;
  for (int i = 0; i < n; i++) {
    size_t m = candidates[i] ? strlen(candidates[i]) : 0;
    if (m == 0 || m > LONGEST) continue;
    int longer = (int)(len > m ? len : m);
    int d = distance(word, (int)len, candidates[i], (int)m);
    if (d * 3 <= longer && d < least) {
      least = d;
      best = candidates[i];
    }
  }
  return best;
}
