/* Every step reads one text and writes another; the two change places. */
#include "text/normalize.h"
#include "text/byte_level.h"
#include "text/chars.h"
#include "text/memory.h"

#include <string.h>

enum { TIMES = 32, MORE = 1 << 20 }; /* how much longer a text may become: TIMES its bytes, and MORE */

void normalizer_free(Normalizer *z) {
  for (size_t i = 0; i < z->n; i++) {
    Normalize *s = &z->step[i];
    free(s->what), free(s->with);
    pattern_free(s->pattern);
    charsmap_free(s->map);
    trie_free(&s->keep);
  }
  free(z->step);
  *z = (Normalizer){0};
}

Normalize *normalizer_add(Normalizer *z, NormalizeKind kind) {
  RESERVE(z->step, z->cap, z->n + 1);
  z->step[z->n] = (Normalize){.kind = kind};
  return &z->step[z->n++];
}

static void put(Text *out, uint32_t c) {
  char utf8[4];
  text_write(out, utf8, (size_t)utf8_put(c, utf8));
}

/* ---- Unicode's forms */

static void form_part(int options, const char *s, size_t n, Text *out) {
  utf8proc_uint8_t *made = NULL;
  utf8proc_ssize_t k = n ? utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &made, options) : 0;
  if (k < 0) abort(); /* the text is UTF-8: no memory */
  text_write(out, made, (size_t)k);
  free(made);
}

static void form_run(NormalizeKind kind, const char *s, size_t n, Text *out) {
  bool compatible = kind == NORMALIZE_NFKC || kind == NORMALIZE_NFKD;
  int options = UTF8PROC_STABLE;
  options |= kind == NORMALIZE_NFC || kind == NORMALIZE_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (compatible) options |= UTF8PROC_COMPAT;
  size_t from = 0, k;
  for (size_t i = 0; kind != NORMALIZE_NFC && i < n; i += k) {
    uint32_t c;
    k = char_at(s + i, n - i, &c);
    if (!CHARS_OLD(chars_old_compatible, c)) continue;
    form_part(options, s + from, i - from, out);
    text_write(out, s + i, k);
    from = i + k;
  }
  form_part(options, s + from, n - from, out);
}

/* ASCII, and for NFC all below U+0300, stays as it is and joins nothing before it: such runs are copied but for their last
 * character, which what follows may join. */
static void form(NormalizeKind kind, const Text *in, Text *out) {
  unsigned char inert = kind == NORMALIZE_NFC ? 0xcc : 0x80; /* first bytes below this */
  const unsigned char *s = (const unsigned char *)in->s;
  for (size_t at = 0, end; at < in->n; at = end) {
    end = at;
    while (end < in->n && s[end] < inert) end++;
    size_t copy = end;
    if (end < in->n && copy > at) do
        copy--;
      while (copy > at && (s[copy] & 0xc0) == 0x80);
    text_write(out, s + at, copy - at);
    while (end < in->n && (s[end] >= inert || (s[end] & 0xc0) == 0x80)) end++;
    if (copy < end) form_run(kind, in->s + copy, end - copy, out);
  }
}

static void lower(uint32_t c, Text *out) {
  if (c == 0x130)
    text_write(out, "i\xcc\x87", 3); /* the one character whose small letter is two */
  else
    put(out, c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c) : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

/* ---- replacing */

static bool replace(const Normalize *z, PatternWork *w, const Text *in, Text *out, Diags *err) {
  size_t at = 0;
  if (!z->pattern) {
    while (z->nwhat && in->n - at >= z->nwhat) {
      const char *hit = memmem(in->s + at, in->n - at, z->what, z->nwhat);
      if (!hit) break;
      text_write(out, in->s + at, (size_t)(hit - in->s) - at);
      text_write(out, z->with, z->nwith);
      at = (size_t)(hit - in->s) + z->nwhat;
    }
    text_write(out, in->s + at, in->n - at);
    return true;
  }
  size_t from = 0, start, end, last = SIZE_MAX;
  int k;
  while (from <= in->n && (k = pattern_find(z->pattern, w, in->s, in->n, from, &start, &end, err)) != 0) {
    if (k < 0) return false;
    uint32_t c;
    if (start == end && start == last) { /* an empty match behind a match is none */
      from = end + (end < in->n ? char_at(in->s + end, in->n - end, &c) : 1);
      continue;
    }
    text_write(out, in->s + at, start - at);
    text_write(out, z->with, z->nwith);
    from = at = last = end;
  }
  text_write(out, in->s + at, in->n - at);
  return true;
}

static void strip(const Normalize *z, const Text *in, Text *out) {
  size_t from = 0, to = in->n, k;
  uint32_t c;
  while (z->left && from < to && (k = char_at(in->s + from, to - from, &c), char_space(c))) from += k;
  while (z->right && to > from && (k = char_before(in->s + from, to - from, &c), char_space(c))) to -= k;
  text_write(out, in->s + from, to - from);
}

/* ---- BertNormalizer */

static bool chinese(uint32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
         (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool control(uint32_t c) {
  return c != '\t' && c != '\n' && c != '\r' && char_other(c);
}

/* Each of the four passes takes out's text, with the other one to write to. */
static void clean(const Normalize *z, Text *in, Text *out) {
  uint32_t c;
  size_t k;
  for (size_t i = 0; i < in->n; i += k) {
    k = char_at(in->s + i, in->n - i, &c);
    if (z->clean && (!c || c == 0xfffd || control(c))) continue;
    if (z->clean && char_space(c)) c = ' ';
    bool alone = z->chinese && chinese(c);
    if (alone) put(out, ' ');
    put(out, c);
    if (alone) put(out, ' ');
  }
  if (z->accents) {
    in->n = 0;
    form(NORMALIZE_NFD, out, in);
    out->n = 0;
    for (size_t i = 0; i < in->n; i += k) {
      k = char_at(in->s + i, in->n - i, &c);
      if (!char_nonspacing(c)) put(out, c);
    }
  }
  if (z->lowercase) {
    in->n = 0;
    for (size_t i = 0; i < out->n; i += k) k = char_at(out->s + i, out->n - i, &c), lower(c, in);
    out->n = 0;
    text_write(out, in->s, in->n);
  }
}

static void nmt(uint32_t c, Text *out) {
  if ((c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f) return;
  bool space = c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
               c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
  put(out, space ? ' ' : c);
}

/* ---- SentencePiece's rules */

/* Hugging Face asks for a grapheme of up to 5 bytes as a whole first, and takes the shortest rule for all of it. */
static void charsmap(const Charsmap *m, const Text *in, Text *out) {
  const char *to;
  size_t nto, k, end;
  uint32_t c, d;
  for (size_t i = 0; i < in->n; i = end) {
    utf8proc_int32_t state = 0;
    end = i + char_at(in->s + i, in->n - i, &c);
    while (end < in->n) {
      k = char_at(in->s + end, in->n - end, &d);
      if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)c, (utf8proc_int32_t)d, &state)) break;
      end += k;
      c = d;
    }
    if (end - i < 6 && charsmap_find(m, in->s + i, end - i, false, &to, &nto)) {
      text_write(out, to, nto);
      continue;
    }
    for (size_t at = i; at < end; at += k) {
      k = char_at(in->s + at, end - at, &d);
      if (charsmap_find(m, in->s + at, k, false, &to, &nto))
        text_write(out, to, nto);
      else
        text_write(out, in->s + at, k);
    }
  }
}

/* The next prefix of s and what stands for it: a user's symbol, the longest rule, or a character. */
static size_t sentence_prefix(const Normalize *z, const char *s, size_t n, const char **to, size_t *nto) {
  uint32_t value, c;
  *to = s;
  size_t k = trie_longest(&z->keep, s, n, &value);
  if (!k && z->map && (k = charsmap_find(z->map, s, n, true, to, nto)) != 0) return k;
  if (!k) k = char_at(s, n, &c);
  *nto = k;
  return k;
}

static void sentence(const Normalize *z, bool first, const Text *in, Text *out) {
  const char *space = z->escape ? "\xe2\x96\x81" : " ", *to;
  size_t at = 0, nto, k, nspace = strlen(space), begin = out->n;
  while (z->squeeze && at < in->n) {
    k = sentence_prefix(z, in->s + at, in->n - at, &to, &nto);
    if (nto != 1 || *to != ' ') break;
    at += k;
  }
  if (at == in->n) return;
  if (z->dummy && (first || z->each)) text_write(out, space, nspace);
  bool spaced = z->squeeze;
  for (; at < in->n; at += k) {
    k = sentence_prefix(z, in->s + at, in->n - at, &to, &nto);
    while (spaced && nto && *to == ' ') to++, nto--;
    for (size_t i = 0; i < nto; i++) text_write(out, to[i] == ' ' ? space : to + i, to[i] == ' ' ? nspace : 1);
    if (nto) spaced = to[nto - 1] == ' ';
    if (!z->squeeze) spaced = false;
  }
  while (z->squeeze && out->n - begin >= nspace && !memcmp(out->s + out->n - nspace, space, nspace)) out->n -= nspace;
}

static bool step(const Normalize *z, PatternWork *w, bool first, Text *in, Text *out, Diags *err) {
  uint32_t c;
  size_t k;
  switch (z->kind) {
  case NORMALIZE_NFC:
  case NORMALIZE_NFD:
  case NORMALIZE_NFKC:
  case NORMALIZE_NFKD: form(z->kind, in, out); return true;
  case NORMALIZE_REPLACE: return replace(z, w, in, out, err);
  case NORMALIZE_STRIP: strip(z, in, out); return true;
  case NORMALIZE_CLEAN: clean(z, in, out); return true;
  case NORMALIZE_CHARSMAP: charsmap(z->map, in, out); return true;
  case NORMALIZE_SENTENCE: sentence(z, first, in, out); return true;
  case NORMALIZE_SPELL: byte_level_spell(in->s, in->n, out); return true;
  case NORMALIZE_PREPEND:
    if (in->n) text_write(out, z->with, z->nwith);
    text_write(out, in->s, in->n);
    return true;
  case NORMALIZE_LOWERCASE:
  case NORMALIZE_STRIP_ACCENTS:
  case NORMALIZE_NMT: break;
  }
  for (size_t i = 0; i < in->n; i += k) {
    k = char_at(in->s + i, in->n - i, &c);
    if (z->kind == NORMALIZE_LOWERCASE)
      lower(c, out);
    else if (z->kind == NORMALIZE_NMT)
      nmt(c, out);
    else if (!char_mark(c))
      text_write(out, in->s + i, k);
  }
  return true;
}

/* Whether the step takes away what the text begins with, by which Hugging Face tells whether a piece is the text's first. */
static bool beheads(const Normalize *z, PatternWork *w, const Text *in, Diags *err) {
  size_t start = 1, end = 0;
  uint32_t c;
  Text one = {0};
  if (!in->n) return false;
  char_at(in->s, in->n, &c);
  switch (z->kind) {
  case NORMALIZE_STRIP: return z->left && char_space(c);
  case NORMALIZE_STRIP_ACCENTS: return char_mark(c);
  case NORMALIZE_CLEAN: return z->clean && (!c || c == 0xfffd || control(c));
  case NORMALIZE_NMT: {
    nmt(c, &one);
    bool gone = !one.n;
    text_free(&one);
    return gone;
  }
  case NORMALIZE_REPLACE:
    if (z->nwith) return false;
    if (!z->pattern) return in->n >= z->nwhat && !memcmp(in->s, z->what, z->nwhat);
    return pattern_find(z->pattern, w, in->s, in->n, 0, &start, &end, err) > 0 && !start && end;
  default: return false;
  }
}

bool normalize(const Normalizer *z, PatternWork *w, bool *first, Text *text, Text *other, Diags *err) {
  size_t most = MORE + TIMES * text->n;
  bool begins = *first;
  for (size_t i = 0; i < z->n; i++) {
    other->n = 0;
    text_write(other, "", 0);
    if (*first && beheads(&z->step[i], w, text, err)) *first = false;
    if (!step(&z->step[i], w, begins, text, other, err)) return false;
    Text t = *text;
    *text = *other;
    *other = t;
    if (text->n > most)
      return diag_error(err, (Span){0}, "normalization makes the text more than %d times as long", TIMES);
  }
  return true;
}
