/* The splitter: GPT-2's pattern through PCRE2's compiler, over a window of the text.
 *
 * The window holds what is not yet cut into pieces. Of a match that ends near the window's end one cannot know whether
 * it would go on (or, for white space, give back a character), so unless the text ends there it waits for more. A
 * match looks at most MARGIN bytes behind its end: one character given back by `\s+(?!\S)`, one looked ahead at.
 *
 * The pattern is published with GPT-2 (Radford et al. 2019). Its \s is spelled out here as Unicode's White_Space,
 * because PCRE2 counts U+180E too. Must hold: the concatenated pieces are the text. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/split.h"
#include "text/memory.h"
#include "text/utf8.h"

#include <pcre2.h>
#include <string.h>

enum { MARGIN = 8, PORTION = 256 * 1024 };

#define SPACE "\\p{Z}\\t-\\r\\x{85}"
static const char pattern[] = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|"
                              "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

struct Splitter {
  pcre2_code *code;
  pcre2_match_data *match;
  bool jit;
  unsigned char *text; /* the window */
  size_t n, cap;
  size_t valid; /* its first `valid` bytes are whole characters */
};

Splitter *splitter_new(Diags *err) {
  Splitter *s = memory_zeroed(1, sizeof *s);
  int code = 0;
  PCRE2_SIZE at = 0;
  s->code = pcre2_compile((PCRE2_SPTR)pattern, sizeof pattern - 1, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
  if (s->code) s->match = pcre2_match_data_create(1, NULL);
  if (!s->code || !s->match) {
    PCRE2_UCHAR why[128] = "out of memory";
    if (!s->code) pcre2_get_error_message(code, why, sizeof why);
    diag_error(err, (Span){0}, "PCRE2 cannot compile the pre-tokenizer's pattern: %s at %zu", (char *)why, (size_t)at);
    splitter_free(s);
    return NULL;
  }
  s->jit = pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE) == 0; /* without it: the same pieces, slower */
  return s;
}

void splitter_free(Splitter *s) {
  if (!s) return;
  pcre2_match_data_free(s->match);
  pcre2_code_free(s->code);
  free(s->text);
  free(s);
}

/* Length of the match at s->text + from within the valid text, or 0 with an error. */
static size_t match_at(Splitter *s, size_t from, Diags *err) {
  PCRE2_SPTR at = s->text + from;
  size_t n = s->valid - from;
  int k = s->jit ? pcre2_jit_match(s->code, at, n, 0, PCRE2_NO_UTF_CHECK, s->match, NULL)
                 : pcre2_match(s->code, at, n, 0, PCRE2_NO_UTF_CHECK, s->match, NULL);
  PCRE2_SIZE *o = pcre2_get_ovector_pointer(s->match);
  if (k > 0 && o[0] == 0 && o[1] > 0) return o[1];
  PCRE2_UCHAR why[128] = "it matched nothing";
  if (k < 0) pcre2_get_error_message(k, why, sizeof why);
  diag_error(err, (Span){0}, "the pre-tokenizer's pattern fails on the text: %s", (char *)why);
  return 0;
}

/* Longest cut of at most SPLIT_LONGEST bytes that ends between characters. */
static size_t cut(const unsigned char *piece) {
  size_t n = SPLIT_LONGEST;
  while ((piece[n] & 0xc0) == 0x80) n--;
  return n;
}

/* Pieces of the valid text from *from on. closed: a broken byte or the text's end follows it. */
static bool split_run(Splitter *s, size_t *from, bool closed, PieceFn piece, void *ctx, Diags *err) {
  while (*from < s->valid) {
    size_t n = match_at(s, *from, err);
    if (!n) return false;
    bool open = !closed && *from + n + MARGIN > s->valid;
    if (open && n <= SPLIT_LONGEST + MARGIN) break;
    if (n > SPLIT_LONGEST) n = cut(s->text + *from);
    piece(ctx, (char *)s->text + *from, n);
    *from += n;
  }
  return true;
}

static bool split_portion(Splitter *s, const char *text, size_t n, bool last, PieceFn piece, void *ctx, Diags *err) {
  RESERVE(s->text, s->cap, s->n + n + 1);
  if (n) memcpy(s->text + s->n, text, n);
  s->n += n;
  size_t from = 0;
  bool ok = true, more = true;
  while (ok && more) {
    int k = 1;
    uint32_t cp;
    while (s->valid < s->n && (k = utf8_next(s->text + s->valid, s->n - s->valid, &cp)) > 0) s->valid += (size_t)k;
    bool end = s->valid == s->n, broken = !end && (k == UTF8_BROKEN || last);
    ok = split_run(s, &from, broken || (end && last), piece, ctx, err);
    if (ok && broken) {
      piece(ctx, (char *)s->text + s->valid, 1);
      from = ++s->valid;
    }
    more = broken;
  }
  if (last || !ok) from = s->n, s->valid = s->n;
  memmove(s->text, s->text + from, s->n - from);
  s->n -= from;
  s->valid -= from;
  return ok;
}

bool splitter_feed(Splitter *s, const char *text, size_t n, bool last, PieceFn piece, void *ctx, Diags *err) {
  for (; n > PORTION; text += PORTION, n -= PORTION)
    if (!split_portion(s, text, PORTION, false, piece, ctx, err)) return false;
  return split_portion(s, text, n, last, piece, ctx, err);
}
