/* Classes of characters that tokenizers split and clean by. By utf8proc's tables (Unicode 15). */
#ifndef TEXT_CHARS_H
#define TEXT_CHARS_H
#include "text/chars_old.h"
#include "text/utf8.h"

#include <stdbool.h>
#include <utf8proc.h>

static inline utf8proc_category_t char_category(uint32_t c) {
  return utf8proc_category((utf8proc_int32_t)c);
}

/* Unicode's White_Space. */
static inline bool char_space(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  if (c == 0x85) return true;
  utf8proc_category_t k = char_category(c);
  return k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

static inline bool char_numeric(uint32_t c) {
  utf8proc_category_t k = char_category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

/* Marks, as StripAccents takes them away. */
static inline bool char_mark(uint32_t c) {
  if (c < 0x300) return false;
  utf8proc_category_t k = char_category(c);
  bool mark = k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
  return mark != CHARS_OLD(chars_old_mark, c);
}

static inline bool char_nonspacing(uint32_t c) { /* as BertNormalizer takes them away */
  return c >= 0x300 && (char_category(c) == UTF8PROC_CATEGORY_MN) != CHARS_OLD(chars_old_nonspacing, c);
}

/* All of ASCII's punctuation, its symbols too, and the punctuation of other scripts. */
static inline bool char_punctuation(uint32_t c) {
  if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  utf8proc_category_t k = char_category(c);
  return (k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO) != CHARS_OLD(chars_old_punctuation, c);
}

static inline bool char_other(uint32_t c) { /* controls, formats, private use */
  utf8proc_category_t k = char_category(c);
  bool other = k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO;
  return c < 0x80 ? other : other != CHARS_OLD(chars_old_other, c);
}

/* What is part of a word: letters and other alphabetic characters, marks, decimal digits, connectors. */
static inline bool char_word(uint32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  switch (char_category(c)) {
  case UTF8PROC_CATEGORY_LU:
  case UTF8PROC_CATEGORY_LL:
  case UTF8PROC_CATEGORY_LT:
  case UTF8PROC_CATEGORY_LM:
  case UTF8PROC_CATEGORY_LO:
  case UTF8PROC_CATEGORY_MN:
  case UTF8PROC_CATEGORY_MC:
  case UTF8PROC_CATEGORY_ME:
  case UTF8PROC_CATEGORY_ND:
  case UTF8PROC_CATEGORY_NL:
  case UTF8PROC_CATEGORY_PC: return true;
  default: break;
  }
  return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
         (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189); /* circled letters and the like */
}

/* The character that begins at s, in text that is UTF-8. */
static inline size_t char_at(const char *s, size_t n, uint32_t *c) {
  int k = utf8_next((const unsigned char *)s, n, c);
  return k > 0 ? (size_t)k : 1;
}

/* The one that ends at s + n, n > 0. */
static inline size_t char_before(const char *s, size_t n, uint32_t *c) {
  size_t k = 1;
  while (k < 4 && k < n && ((unsigned char)s[n - k] & 0xc0) == 0x80) k++;
  char_at(s + n - k, k, c);
  return k;
}
#endif
