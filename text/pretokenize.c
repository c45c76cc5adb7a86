/* A split lists matches and what lies between them, in order, then joins or drops them as its mode says. Steps that change the
 * text write all pieces anew. */
#include "text/pretokenize.h"
#include "text/byte_level.h"
#include "text/chars.h"

#include <string.h>

enum { TIMES = 32, MORE = 1 << 20 }; /* how much longer a text may become: TIMES its bytes, and MORE */

void pretokenizer_free(Pretokenizer *z) {
  for (size_t i = 0; i < z->n; i++) {
    free(z->step[i].what), free(z->step[i].with);
    pattern_free(z->step[i].pattern);
  }
  free(z->step);
  *z = (Pretokenizer){0};
}

Pretokenize *pretokenizer_add(Pretokenizer *z, PretokenizeKind kind) {
  RESERVE(z->step, z->cap, z->n + 1);
  z->step[z->n] = (Pretokenize){.kind = kind};
  return &z->step[z->n++];
}

void pieces_free(Pieces *p) {
  free(p->v), free(p->other), free(p->match);
  text_free(&p->made);
  *p = (Pieces){0};
}

/* ---- split */

static void add_match(Pieces *p, size_t at, size_t end, bool match) {
  RESERVE(p->match, p->cap_match, p->nmatch + 1);
  p->match[p->nmatch++] = (struct Match){at, end, match};
}

static bool in_class(CharClass class, uint32_t c) {
  return class == CLASS_SPACE ? char_space(c) : class == CLASS_PUNCTUATION ? char_punctuation(c) : char_numeric(c);
}

/* Matches of s[0..n) and what is between them. */
static bool find_matches(const Pretokenize *z, PatternWork *w, const char *s, size_t n, Pieces *p, Diags *err) {
  size_t last = 0, from = 0, start, end, matched = SIZE_MAX;
  uint32_t c;
  p->nmatch = 0;
  while (from <= n) {
    if (z->pattern) {
      int k = pattern_find(z->pattern, w, s, n, from, &start, &end, err);
      if (k < 0) return false;
      if (!k) break;
      bool again = start == end && start == matched; /* an empty match behind a match is none */
      if (again) {
        from = end + (end < n ? char_at(s + end, n - end, &c) : 1);
        continue;
      }
      from = matched = end;
    } else if (z->class) {
      for (start = from; start < n; start += end) {
        end = char_at(s + start, n - start, &c);
        if (in_class(z->class, c)) break;
      }
      if (start >= n) break;
      from = end += start;
    } else {
      const char *hit = z->nwhat ? memmem(s + from, n - from, z->what, z->nwhat) : NULL;
      if (!hit) break;
      start = (size_t)(hit - s);
      from = end = start + z->nwhat;
    }
    if (start > last) add_match(p, last, start, z->invert);
    add_match(p, start, end, !z->invert);
    last = end;
  }
  if (last < n) add_match(p, last, n, z->invert);
  return true;
}

/* Joins matches to their neighbours, in place. */
static void join(SplitMode mode, Pieces *p) {
  struct Match *m = p->match;
  size_t n = 0;
  bool previous = false;
  if (mode == SPLIT_NEXT) { /* from the end on */
    size_t to = p->nmatch;
    for (size_t i = p->nmatch; i-- > 0;) {
      struct Match x = m[i];
      if (x.match && !previous && to < p->nmatch)
        m[to].at = x.at;
      else
        m[--to] = x;
      previous = x.match;
    }
    n = p->nmatch - to;
    memmove(m, m + to, n * sizeof *m);
  } else {
    for (size_t i = 0; i < p->nmatch; i++) {
      struct Match x = m[i];
      bool joins = mode == SPLIT_CONTIGUOUS ? x.match == previous : x.match && !previous;
      if (joins && n)
        m[n - 1].end = x.end;
      else
        m[n++] = x;
      previous = x.match;
    }
  }
  p->nmatch = n;
}

static bool split(const Pretokenize *z, PatternWork *w, const Text *text, Pieces *p, Diags *err) {
  size_t n = 0;
  for (size_t i = 0; i < p->n; i++) {
    Piece x = p->v[i];
    if (!find_matches(z, w, text->s + x.at, x.n, p, err)) return false;
    if (z->mode != SPLIT_REMOVED && z->mode != SPLIT_ISOLATED) join(z->mode, p);
    RESERVE(p->other, p->cap_other, n + p->nmatch);
    for (size_t k = 0; k < p->nmatch; k++) {
      struct Match m = p->match[k];
      if (m.end == m.at || (z->mode == SPLIT_REMOVED && m.match)) continue;
      p->other[n++] = (Piece){x.at + m.at, m.end - m.at, x.first && !m.at};
    }
  }
  Piece *v = p->v;
  size_t cap = p->cap;
  p->v = p->other, p->cap = p->cap_other, p->n = n;
  p->other = v, p->cap_other = cap;
  return true;
}

/* ---- what changes the text */

static void rewrite(const Pretokenize *z, Text *text, Pieces *p) {
  Text *out = &p->made;
  out->n = 0;
  text_write(out, "", 0);
  for (size_t i = 0; i < p->n; i++) {
    Piece *x = &p->v[i];
    const char *s = text->s + x->at, *hit;
    size_t n = x->n, at = 0, begin = out->n;
    if (z->kind == PRETOKENIZE_SPELL) {
      byte_level_spell(s, n, out);
    } else {
      bool there = n >= z->nwith && !memcmp(s, z->with, z->nwith);
      if (z->kind == PRETOKENIZE_PREPEND && !there && (!z->first || x->first)) text_write(out, z->with, z->nwith);
      while (z->kind == PRETOKENIZE_SWAP && n - at >= z->nwhat && (hit = memmem(s + at, n - at, z->what, z->nwhat))) {
        text_write(out, s + at, (size_t)(hit - s) - at);
        text_write(out, z->with, z->nwith);
        at = (size_t)(hit - s) + z->nwhat;
      }
      text_write(out, s + at, n - at);
    }
    x->at = begin;
    x->n = out->n - begin;
  }
  Text t = *text;
  *text = *out;
  *out = t;
}

bool pretokenize(const Pretokenizer *z, PatternWork *w, bool first, Text *text, Pieces *out, Diags *err) {
  RESERVE(out->v, out->cap, 1);
  out->n = text->n ? 1 : 0;
  out->v[0] = (Piece){0, text->n, first};
  size_t most = MORE + TIMES * text->n;
  for (size_t i = 0; i < z->n; i++) {
    const Pretokenize *s = &z->step[i];
    if (s->kind != PRETOKENIZE_SPLIT)
      rewrite(s, text, out);
    else if (!split(s, w, text, out, err))
      return false;
    if (text->n > most)
      return diag_error(err, (Span){0}, "pre-tokenizers make the text more than %d times as long", TIMES);
  }
  return true;
}
