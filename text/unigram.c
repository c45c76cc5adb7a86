/* From every character on, all tokens that begin there; the best way to each place is kept. Of equal sums the first found stays.
 * A character that is no token itself is unknown, at PENALTY below the least score. SentencePiece sums in float, Hugging Face in
 * double; which of two divisions wins may hang on it, so both are done as they are done there. */
#include "text/unigram.h"
#include "text/chars.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static const double PENALTY = 10;

bool unigram_ready(Subword *m, const char *where, Diags *err) {
  bool any = false;
  m->least = 0;
  m->most = FLT_MIN; /* as SentencePiece has it, which asks no other */
  for (uint32_t id = 0; id < m->vocab.count; id++) {
    size_t n;
    const char *s = vocab_bytes(&m->vocab, id, &n);
    if (n > UNIGRAM_LONGEST)
      return diag_error(err, (Span){0}, "%s: a token of %zu bytes; at most %d are supported", where, n,
                        UNIGRAM_LONGEST);
    if (!isfinite(m->score[id])) {
      m->score[id] = 0; /* none of the model's: no score to count, not to be found */
      continue;
    }
    if (!m->user || !m->user[id]) {
      if (!any || m->score[id] < m->least) m->least = m->score[id];
      if (m->score[id] > m->most) m->most = m->score[id];
      any = true;
    }
    if (n) trie_add(&m->trie, s, n, id);
  }
  return true;
}

/* The score of a way, as it is kept. */
static double kept(const Subword *m, double score) {
  return m->sentence ? (double)(float)score : score;
}

static void reach(const Subword *m, struct SubwordBest *to, double score, uint32_t id, size_t from) {
  score = kept(m, score);
  if (to->from >= 0 && !(score > to->score)) return;
  *to = (struct SubwordBest){score, id, (int64_t)from};
}

static bool search(const Subword *m, struct SubwordBest *best, const char *s, size_t n, Diags *err) {
  double unknown = kept(m, m->least - PENALTY);
  for (size_t i = 0; i <= n; i++) best[i] = (struct SubwordBest){.from = -1};
  size_t k;
  for (size_t at = 0; at < n; at += k) {
    uint32_t c;
    double before = best[at].score;
    bool single = false;
    k = char_at(s + at, n - at, &c);
    int64_t node = TRIE_ROOT;
    for (size_t i = at; i < n; i++) {
      node = trie_next(&m->trie, node, (unsigned char)s[i]);
      if (node == TRIE_NONE) break;
      int64_t id = m->trie.value[node];
      if (id < 0) continue;
      size_t length = i + 1 - at;
      bool user = m->user && m->user[id];
      double score = user ? kept(m, (double)((float)length * (float)m->most) - 0.1) : m->score[id];
      reach(m, &best[i + 1], score + before, (uint32_t)id, at);
      single = single || length == k;
    }
    if (single) continue;
    if (m->unk < 0) return diag_error(err, (Span){0}, "no token stands for the character U+%04" PRIX32, c);
    reach(m, &best[at + k], unknown + before, (uint32_t)m->unk, at);
  }
  return true;
}

/* A run of unknown characters: a token after all, bytes, or the unknown one. */
static void put_unknown(const Subword *m, const char *s, size_t n, Ids *out) {
  uint32_t id;
  if (!m->sentence && vocab_find(&m->vocab, s, n, &id)) {
    ids_add(out, id);
    return;
  }
  bool bytes = m->fallback;
  for (size_t i = 0; bytes && i < n; i++) bytes = m->byte[(unsigned char)s[i]] >= 0;
  for (size_t i = 0; bytes && i < n; i++) ids_add(out, (uint32_t)m->byte[(unsigned char)s[i]]);
  if (!bytes) ids_add(out, (uint32_t)m->unk);
}

bool unigram_encode(const Subword *m, SubwordWork *w, const char *s, size_t n, Ids *out, Diags *err) {
  if (n >= UINT32_MAX) return diag_error(err, (Span){0}, "a piece of text of more than 4 GiB");
  RESERVE(w->best, w->cap, n + 1);
  if (!search(m, w->best, s, n, err)) return false;
  w->ends.n = 0;
  for (size_t end = n; end > 0; end = (size_t)w->best[end].from) ids_add(&w->ends, (uint32_t)end);
  size_t at = 0, unknown = 0; /* bytes of the run of unknown characters before `at` */
  for (size_t i = w->ends.n; i-- > 0;) {
    size_t end = w->ends.v[i];
    bool is_unknown = (int64_t)w->best[end].id == m->unk;
    if (!is_unknown && unknown) put_unknown(m, s + at - unknown, unknown, out), unknown = 0;
    if (!is_unknown)
      ids_add(out, w->best[end].id);
    else
      unknown += end - at;
    at = end;
  }
  if (unknown) put_unknown(m, s + n - unknown, unknown, out);
  return true;
}
