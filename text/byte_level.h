/* The byte-level spelling of GPT-2's files and Hugging Face's: a printable character a byte.
 *
 * Printable Latin-1 without space and soft hyphen spells itself; the other 68 bytes are U+0100 and on, in order: 0x00 to 0x20,
 * 0x7f to 0xa0, 0xad. */
#ifndef TEXT_BYTE_LEVEL_H
#define TEXT_BYTE_LEVEL_H
#include "ink/base.h"
#include "text/utf8.h"

static inline uint32_t byte_level_code(unsigned char byte) {
  if (byte <= 0x20) return 0x100u + byte;
  if (byte >= 0x7f && byte <= 0xa0) return 0x100u + 33 + byte - 0x7f;
  return byte == 0xad ? 0x100 + 67 : byte;
}

/* The inverse; -1: the character spells no byte. */
static inline int byte_level_byte(uint32_t code) {
  if (code < 0x100) return byte_level_code((unsigned char)code) == code ? (int)code : -1;
  uint32_t k = code - 0x100;
  return k <= 0x20 ? (int)k : k < 67 ? (int)(k - 33 + 0x7f) : k == 67 ? 0xad : -1;
}

/* Appends the spelling of bytes. */
static inline void byte_level_spell(const char *s, size_t n, Text *out) {
  for (size_t i = 0; i < n; i++) {
    char utf8[4];
    text_write(out, utf8, (size_t)utf8_put(byte_level_code((unsigned char)s[i]), utf8));
  }
}

/* Appends the bytes that a spelling stands for; false when it is none (out then holds some of them). */
static inline bool byte_level_despell(const char *s, size_t n, Text *out) {
  for (size_t i = 0; i < n;) {
    uint32_t cp;
    int k = utf8_next((const unsigned char *)s + i, n - i, &cp);
    int byte = k > 0 ? byte_level_byte(cp) : -1;
    if (byte < 0) return false;
    char c = (char)byte;
    text_write(out, &c, 1);
    i += (size_t)k;
  }
  return true;
}
#endif
