/* The models but for the merges themselves (bpe.c) and unigram's search (unigram.c). */
#include "text/subword.h"
#include "text/chars.h"
#include "text/unigram.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SPACE "\xe2\x96\x81" /* U+2581 */

void subword_free(Subword *m) {
  bpe_free(m->bpe);
  vocab_free(&m->vocab);
  trie_free(&m->keep), trie_free(&m->trie);
  free(m->prefix), free(m->suffix), free(m->score), free(m->user);
  *m = (Subword){0};
}

SubwordWork subword_work(const Subword *m) {
  return (SubwordWork){.bpe = m->bpe ? bpe_share(m->bpe) : NULL};
}

void subword_work_free(SubwordWork *w) {
  bpe_free(w->bpe);
  free(w->best), free(w->ends.v);
  *w = (SubwordWork){0};
}

int subword_byte(const char *s, size_t n) {
  int v = 0;
  if (n != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return -1;
  for (int i = 3; i < 5; i++) {
    const char *digits = "0123456789ABCDEF", *d = s[i] ? strchr(digits, s[i]) : NULL;
    if (!d) return -1;
    v = v * 16 + (int)(d - digits);
  }
  return v;
}

static bool find(const Subword *m, const char *s, size_t n, uint32_t *id) {
  return m->bpe ? bpe_find(m->bpe, s, n, id) : vocab_find(&m->vocab, s, n, id);
}

/* ---- byte pairs over characters */

static bool find_char(const Subword *m, const char *s, size_t n, bool first, bool last, uint32_t *id) {
  if ((first || !m->prefix) && (!last || !m->suffix)) return find(m, s, n, id);
  Text t = {0};
  if (!first && m->prefix) text_add(&t, "%s", m->prefix);
  text_write(&t, s, n);
  if (last && m->suffix) text_add(&t, "%s", m->suffix);
  bool found = find(m, t.s, t.n, id);
  text_free(&t);
  return found;
}

static bool begin_chars(const void *ctx, const char *s, size_t n, Ids *out) {
  const Subword *m = ctx;
  bool unknown = false; /* an unknown token is due */
  size_t k;
  for (size_t i = 0; i < n; i += k) {
    uint32_t id, c;
    k = trie_longest(&m->keep, s + i, n - i, &id);
    bool known = k > 0;
    if (!known) {
      k = char_at(s + i, n - i, &c);
      known = find_char(m, s + i, k, !i, i + k == n, &id);
    }
    if (known) {
      if (unknown) ids_add(out, (uint32_t)m->unk);
      unknown = false;
      ids_add(out, id);
      continue;
    }
    bool bytes = m->fallback;
    for (size_t b = 0; bytes && b < k; b++) bytes = m->byte[(unsigned char)s[i + b]] >= 0;
    for (size_t b = 0; bytes && b < k; b++) ids_add(out, (uint32_t)m->byte[(unsigned char)s[i + b]]);
    if (bytes) continue;
    if (m->unk < 0) return false;
    if (unknown && !m->fuse_unk) ids_add(out, (uint32_t)m->unk);
    unknown = true;
  }
  if (unknown) ids_add(out, (uint32_t)m->unk);
  return true;
}

/* Whether no token has U+2581 behind another character, but is one itself: then no merge crosses from a character to it. */
static bool may_cut(const Subword *m) {
  uint32_t id;
  if (m->whole || m->prefix || m->suffix || !bpe_find(m->bpe, SPACE, 3, &id)) return false;
  for (id = 0; id < bpe_count(m->bpe); id++) {
    size_t n;
    const char *s = bpe_bytes(m->bpe, id, &n), *hit = s;
    size_t lead = 0;
    while (n - lead >= 3 && !memcmp(s + lead, SPACE, 3)) lead += 3;
    hit = n > lead ? memmem(s + lead, n - lead, SPACE, 3) : NULL;
    if (hit) return false;
  }
  return true;
}

static bool no_token(const char *s, size_t n, Diags *err) {
  uint32_t c;
  char_at(s, n, &c);
  return diag_error(err, (Span){0}, "no token stands for the character U+%04" PRIX32, c);
}

/* Characters that were not merged, and are no tokens, are bytes or unknown after all. */
static bool settle_parts(const Subword *m, SubwordWork *w, Ids *out, size_t from) {
  w->ends.n = 0;
  for (size_t i = from; i < out->n; i++) {
    uint32_t id = out->v[i];
    size_t n = 0;
    const char *s = id < m->parts ? NULL : bpe_bytes(m->bpe, id, &n);
    bool bytes = s && m->fallback;
    for (size_t b = 0; bytes && b < n; b++) bytes = m->byte[(unsigned char)s[b]] >= 0;
    for (size_t b = 0; bytes && b < n; b++) ids_add(&w->ends, (uint32_t)m->byte[(unsigned char)s[b]]);
    if (bytes) continue;
    if (s && m->unk < 0) return false;
    if (s) id = (uint32_t)m->unk;
    if (s || (int64_t)id == m->unk) {
      bool run = w->ends.n && (int64_t)w->ends.v[w->ends.n - 1] == m->unk;
      if (run && m->fuse_unk) continue;
    }
    ids_add(&w->ends, id);
  }
  out->n = from;
  for (size_t i = 0; i < w->ends.n; i++) ids_add(out, w->ends.v[i]);
  return true;
}

static bool encode_chars(const Subword *m, SubwordWork *w, const char *s, size_t n, Ids *out, Diags *err) {
  for (size_t at = 0, end; at < n; at = end) {
    end = n;
    if (m->cut) {
      end = at;
      while (n - end >= 3 && !memcmp(s + end, SPACE, 3)) end += 3;
      const char *hit = end < n ? memmem(s + end, n - end, SPACE, 3) : NULL;
      end = hit ? (size_t)(hit - s) : n;
    }
    size_t from = out->n;
    if (bpe_encode(w->bpe, s + at, end - at, out)) {
      if (m->parts && !settle_parts(m, w, out, from)) return no_token(s + at, end - at, err);
      continue;
    }
    size_t k;
    for (size_t i = at; i < end; i += k) { /* which one? */
      uint32_t id, c;
      if ((k = trie_longest(&m->keep, s + i, end - i, &id)) != 0) continue;
      k = char_at(s + i, end - i, &c);
      bool bytes = m->fallback;
      for (size_t b = 0; bytes && b < k; b++) bytes = m->byte[(unsigned char)s[i + b]] >= 0;
      if (!bytes && !find_char(m, s + i, k, i == at, i + k == end, &id)) return no_token(s + i, k, err);
    }
    return no_token(s + at, end - at, err);
  }
  return true;
}

/* ---- whole pieces and longest tokens */

static bool encode_word(const Subword *m, const char *s, size_t n, Ids *out, Diags *err) {
  uint32_t id;
  if (!find(m, s, n, &id)) {
    if (m->unk < 0) return no_token(s, n, err);
    id = (uint32_t)m->unk;
  }
  ids_add(out, id);
  return true;
}

static bool encode_wordpiece(const Subword *m, const char *s, size_t n, Ids *out, Diags *err) {
  size_t from = out->n, chars = 0;
  for (size_t i = 0; i < n; i++) chars += ((unsigned char)s[i] & 0xc0) != 0x80;
  bool known = chars <= m->longest;
  int64_t inner = TRIE_ROOT; /* where tokens but the first begin */
  for (const char *p = m->prefix; p && *p && inner != TRIE_NONE; p++)
    inner = trie_next(&m->trie, inner, (unsigned char)*p);
  for (size_t at = 0, end; known && at < n; at = end) {
    int64_t node = at ? inner : TRIE_ROOT, id = -1;
    end = at;
    for (size_t i = at; i < n && node != TRIE_NONE; i++) {
      node = trie_next(&m->trie, node, (unsigned char)s[i]);
      if (node != TRIE_NONE && m->trie.value[node] >= 0) end = i + 1, id = m->trie.value[node];
    }
    known = id >= 0;
    if (known) ids_add(out, (uint32_t)id);
  }
  if (known) return true;
  out->n = from;
  if (m->unk < 0) return no_token(s, n, err);
  ids_add(out, (uint32_t)m->unk);
  return true;
}

/* ---- all of them */

bool subword_ready(Subword *m, const char *where, Diags *err) {
  int byte;
  for (int i = 0; i < 256; i++) {
    char name[8];
    uint32_t id;
    snprintf(name, sizeof name, "<0x%02X>", i);
    m->byte[i] = find(m, name, 6, &id) ? (int64_t)id : -1;
  }
  if (m->whole) bpe_whole(m->bpe);
  switch (m->kind) {
  case SUBWORD_BYTES:
    return bpe_ready(m->bpe, &byte) ||
           diag_error(err, (Span){0}, "%s: no token stands for the byte 0x%02x alone", where, byte);
  case SUBWORD_CHARS:
    bpe_begin(m->bpe, begin_chars, m);
    m->cut = may_cut(m);
    return true;
  case SUBWORD_UNIGRAM: return unigram_ready(m, where, err);
  case SUBWORD_WORDPIECE:
    for (uint32_t id = 0; id < m->vocab.count; id++) {
      size_t n;
      const char *s = vocab_bytes(&m->vocab, id, &n);
      if (n > UNIGRAM_LONGEST) return diag_error(err, (Span){0}, "%s: a token of %zu bytes", where, n);
      if (n) trie_add(&m->trie, s, n, id);
    }
    return true;
  case SUBWORD_WORD: return true;
  }
  return true;
}

bool subword_encode(const Subword *m, SubwordWork *w, const char *piece, size_t n, Ids *out, Diags *err) {
  switch (m->kind) {
  case SUBWORD_BYTES: bpe_encode(w->bpe, piece, n, out); return true;
  case SUBWORD_CHARS: return encode_chars(m, w, piece, n, out, err);
  case SUBWORD_UNIGRAM: return unigram_encode(m, w, piece, n, out, err);
  case SUBWORD_WORDPIECE: return encode_wordpiece(m, piece, n, out, err);
  case SUBWORD_WORD: return encode_word(m, piece, n, out, err);
  }
  return false;
}
