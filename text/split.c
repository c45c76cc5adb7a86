/* The splitter: GPT-2's pattern (pattern.h) over a window of the text.
 *
 * The window holds what is not yet cut into pieces. Of a match that ends near the window's end one cannot know whether
 * it would go on (or, for white space, give back a character), so unless the text ends there it waits for more. A
 * match looks at most MARGIN bytes behind its end: one character given back by `\s+(?!\S)`, one looked ahead at.
 *
 * Must hold: the concatenated pieces are the text. */
#include "text/split.h"
#include "text/memory.h"
#include "text/pattern.h"
#include "text/utf8.h"

#include <string.h>

enum { MARGIN = 8, PORTION = 256 * 1024 };

struct Splitter {
  Pattern *pattern;
  PatternWork *work;
  unsigned char *text; /* the window */
  size_t n, cap;
  size_t valid; /* its first `valid` bytes are whole characters */
};

Splitter *splitter_new(Diags *err) {
  static const char re[] = PATTERN_BYTE_LEVEL;
  Splitter *s = memory_zeroed(1, sizeof *s);
  s->work = pattern_work_new();
  s->pattern = pattern_new(re, sizeof re - 1, PATTERN_ONIGURUMA, "the pre-tokenizer", err);
  if (s->pattern) return s;
  splitter_free(s);
  return NULL;
}

void splitter_free(Splitter *s) {
  if (!s) return;
  pattern_free(s->pattern);
  pattern_work_free(s->work);
  free(s->text);
  free(s);
}

/* Length of the match at s->text + from within the valid text, or 0 with an error. */
static size_t match_at(Splitter *s, size_t from, Diags *err) {
  size_t start, end;
  int k = pattern_find(s->pattern, s->work, (char *)s->text + from, s->valid - from, 0, &start, &end, err);
  if (k > 0 && !start && end) return end;
  if (k >= 0) diag_error(err, (Span){0}, "the pre-tokenizer's pattern fails on the text: it matched nothing");
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
