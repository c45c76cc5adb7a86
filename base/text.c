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

int text_printable(const char *s, size_t n) {
  const unsigned char *u = (const unsigned char *)s;
  if (u[0] < 0x80) return u[0] >= 0x20 && u[0] != 0x7f ? 1 : 0;
  int len = u[0] >= 0xf0 && u[0] <= 0xf4 ? 4 : u[0] >= 0xe0 ? 3 : u[0] >= 0xc2 ? 2 : 0;
  if (u[0] > 0xf4 || len == 0 || (size_t)len > n) return 0;
  uint32_t c = u[0] & (0xffu >> (len + 1));
  for (int i = 1; i < len; i++) {
    if ((u[i] & 0xc0) != 0x80) return 0;
    c = c << 6 | (u[i] & 0x3f);
  }
  if (c < (len == 4 ? 0x10000u : len == 3 ? 0x800u : 0x80u) || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff) return 0;
  if (c < 0xa0 || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069)) return 0; /* controls, bidi */
  return len;
}

void text_write_clean(Text *t, const char *s, size_t n) {
  while (n) {
    int k = *s == '\n' || *s == '\t' ? 1 : text_printable(s, n);
    text_write(t, k ? s : "?", k ? (size_t)k : 1);
    s += k ? k : 1;
    n -= k ? (size_t)k : 1;
  }
}
