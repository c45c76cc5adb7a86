/* The leftmost of all tokens in the text, of those at one place the longest; then what it asks of its surroundings. One that
 * is not taken (part of a word, or special where that is not wanted) is passed over as a whole, as Hugging Face does it. */
#include "text/added.h"
#include "text/chars.h"

#include <string.h>

void added_free(Added *a) {
  for (size_t i = 0; i < a->n; i++) free(a->v[i].content);
  free(a->v);
  vocab_free(&a->contents), trie_free(&a->plain), trie_free(&a->normalized);
  *a = (Added){0};
}

bool added_put(Added *a, const AddedToken *token, const char *where, Diags *err) {
  if (!token->n || token->n > ADDED_LONGEST)
    return diag_error(err, (Span){0}, "%s: an added token of %zu bytes; 1 to %d are supported", where, token->n,
                      ADDED_LONGEST);
  uint32_t have;
  if (vocab_find(&a->contents, token->content, token->n, &have)) return true;
  vocab_add(&a->contents, token->content, token->n);
  RESERVE(a->v, a->cap, a->n + 1);
  AddedToken t = *token;
  t.content = memory_resize(NULL, t.n + 1, 1);
  memcpy(t.content, token->content, t.n);
  t.content[t.n] = 0;
  a->v[a->n++] = t;
  return true;
}

static bool starts_with_word(const char *s, size_t n) {
  uint32_t c;
  return n && (char_at(s, n, &c), char_word(c));
}

static bool ends_with_word(const char *s, size_t n) {
  uint32_t c;
  return n && (char_before(s, n, &c), char_word(c));
}

static void add(Segments *out, size_t at, size_t end, int64_t id) {
  RESERVE(out->v, out->cap, out->n + 1);
  out->v[out->n++] = (Segment){at, end - at, id};
}

void added_split(const Added *a, const Trie *which, bool special, const char *s, size_t n, Segments *out) {
  size_t told = 0, k;
  uint32_t index, c;
  for (size_t i = 0; i < n; i += k) {
    while (i < n && !which->first[(unsigned char)s[i]]) i++;
    if (i == n) break;
    k = trie_longest(which, s + i, n - i, &index);
    if (!k) {
      k = 1;
      continue;
    }
    const AddedToken *t = &a->v[index];
    size_t start = i, stop = i + k;
    if (t->special && !special) continue;
    if (t->word && (ends_with_word(s, start) || starts_with_word(s + stop, n - stop))) continue;
    if (t->left) {
      size_t back;
      while (start > told && (back = char_before(s, start, &c), char_space(c))) start -= back;
      if (start < told) start = told;
    }
    if (t->right) {
      size_t more;
      while (stop < n && (more = char_at(s + stop, n - stop, &c), char_space(c))) stop += more;
    }
    if (told < start) add(out, told, start, -1);
    add(out, start, stop, t->id);
    told = stop;
    k = stop - i;
  }
  if (told < n) add(out, told, n, -1);
}
