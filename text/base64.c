/* Base64 (RFC 4648) with its padding, as tiktoken's ranks and compiled normalization rules are written. */
#include "text/codec_parts.h"

static int digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(const char *s, size_t n, Text *out) {
  while (n && s[n - 1] == '=') n--;
  if (n % 4 == 1) return false;
  uint32_t bits = 0;
  int have = 0;
  for (size_t i = 0; i < n; i++) {
    int d = digit(s[i]);
    if (d < 0) return false;
    bits = bits << 6 | (uint32_t)d;
    have += 6;
    if (have < 8) continue;
    have -= 8;
    char c = (char)(bits >> have);
    text_write(out, &c, 1);
  }
  return true;
}
