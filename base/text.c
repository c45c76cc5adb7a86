/* Growable text for printers: a zeroed Text is empty and ready; text_free gives the memory back.
 * Must hold: s[n] is NUL once something was added, and n < cap. */
#include "ink/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reserve(Text *t, size_t more) {
  if (more > SIZE_MAX / 4 || t->n > SIZE_MAX / 4) abort();
  if (t->n + more + 1 <= t->cap) return;
  size_t cap = t->cap ? t->cap * 2 : 256;
  if (cap < t->n + more + 1) cap = t->n + more + 1;
  char *s = realloc(t->s, cap);
  if (!s) abort();
  t->s = s;
  t->cap = cap;
}

void text_write(Text *t, const void *bytes, size_t n) {
  reserve(t, n);
  if (n) memcpy(t->s + t->n, bytes, n);
  t->n += n;
  t->s[t->n] = 0;
}

void text_add(Text *t, const char *fmt, ...) {
  reserve(t, 120);
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  int n = vsnprintf(t->s + t->n, t->cap - t->n, fmt, ap);
  va_end(ap);
  if (n > 0 && (size_t)n >= t->cap - t->n) {
    reserve(t, (size_t)n);
    vsnprintf(t->s + t->n, t->cap - t->n, fmt, again);
  }
  va_end(again);
  if (n > 0) t->n += (size_t)n;
  t->s[t->n] = 0;
}

void text_free(Text *t) {
  free(t->s);
  *t = (Text){0};
}
