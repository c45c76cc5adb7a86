/* Knuth, Morris and Pratt 1977, once for each string: how much of it the text ends with. */
#include "serve/stop.h"
#include "text/memory.h"
#include <string.h>

typedef struct StopString {
  char *s;
  size_t n, at; /* the text read ends with its first `at` bytes */
  size_t *back; /* [n] of its first i + 1 bytes, the longest end that is a beginning, too, but not all */
} StopString;

struct StopScan {
  int n;
  StopString string[];
};

static size_t step(const StopString *p, size_t at, char c) {
  while (at && p->s[at] != c) at = p->back[at - 1];
  return p->s[at] == c ? at + 1 : 0;
}

StopScan *stop_new(const char *const *stop, int n) {
  StopScan *s = memory_zeroed(1, sizeof(*s) + sizeof(StopString) * (size_t)n);
  s->n = n;
  for (int i = 0; i < n; i++) {
    StopString *p = &s->string[i];
    p->n = strlen(stop[i]);
    p->s = memory_resize(NULL, p->n, 1);
    memcpy(p->s, stop[i], p->n);
    p->back = memory_zeroed(p->n, sizeof(*p->back));
    for (size_t k = 1; k < p->n; k++) p->back[k] = step(p, p->back[k - 1], p->s[k]);
  }
  return s;
}

void stop_free(StopScan *s) {
  if (!s) return;
  for (int i = 0; i < s->n; i++) {
    free(s->string[i].s);
    free(s->string[i].back);
  }
  free(s);
}

bool stop_scan(StopScan *s, const char *bytes, size_t n, size_t *used, size_t *length) {
  for (size_t k = 0; k < n; k++) {
    *length = 0;
    for (int i = 0; i < s->n; i++) {
      StopString *p = &s->string[i];
      p->at = step(p, p->at, bytes[k]);
      if (p->at == p->n && p->n > *length) *length = p->n;
    }
    if (!*length) continue;
    *used = k + 1;
    return true;
  }
  return false;
}

size_t stop_held(const StopScan *s) {
  size_t most = 0;
  for (int i = 0; i < s->n; i++)
    if (s->string[i].at > most) most = s->string[i].at;
  return most;
}
