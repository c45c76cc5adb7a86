/* One UTF-8 character at a time, strictly: no overlong forms, no surrogates, nothing over U+10FFFF. */
#ifndef TEXT_UTF8_H
#define TEXT_UTF8_H
#include <stddef.h>
#include <stdint.h>

enum { UTF8_BROKEN = 0, UTF8_SHORT = -1, UTF8_MAX = 0x110000 };

/* Length in bytes of the character at s (n > 0 bytes are there), its code point in *cp; UTF8_BROKEN: this byte begins
 * no character; UTF8_SHORT: a character may begin here, but its end is not in the n bytes. */
static inline int utf8_next(const unsigned char *s, size_t n, uint32_t *cp) {
  unsigned c = s[0];
  *cp = c;
  if (c < 0x80) return 1;
  int len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
  if (c < 0xc2 || c > 0xf4) return UTF8_BROKEN;
  uint32_t v = c & (0x7fu >> len);
  for (int i = 1; i < len; i++) {
    if ((size_t)i >= n) return UTF8_SHORT;
    /* The second byte's range is narrower behind e0 (overlong), ed (surrogates), f0 (overlong) and f4 (too large). */
    unsigned low = i > 1 ? 0x80 : c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned high = i > 1 ? 0xbf : c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (s[i] < low || s[i] > high) return UTF8_BROKEN;
    v = v << 6 | (s[i] & 0x3fu);
  }
  *cp = v;
  return len;
}

/* Writes cp (below UTF8_MAX) to out and returns its length. */
static inline int utf8_put(uint32_t cp, char out[4]) {
  if (cp < 0x80) return out[0] = (char)cp, 1;
  if (cp < 0x800) return out[0] = (char)(0xc0 | cp >> 6), out[1] = (char)(0x80 | (cp & 0x3f)), 2;
  if (cp < 0x10000) {
    out[0] = (char)(0xe0 | cp >> 12), out[1] = (char)(0x80 | (cp >> 6 & 0x3f)), out[2] = (char)(0x80 | (cp & 0x3f));
    return 3;
  }
  out[0] = (char)(0xf0 | cp >> 18), out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
  out[2] = (char)(0x80 | (cp >> 6 & 0x3f)), out[3] = (char)(0x80 | (cp & 0x3f));
  return 4;
}
#endif
