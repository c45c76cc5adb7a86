/* Byte strings with a number each, found as prefixes of a text: added tokens, user's symbols, the pieces of a unigram model. */
#ifndef TEXT_TRIE_H
#define TEXT_TRIE_H
#include "text/vocab.h"

enum { TRIE_ROOT = 0, TRIE_NONE = -1 };

typedef struct Trie {
  uint64_t *edge; /* (node << 8 | byte) + 1 by its hash, open addressing; 0: free */
  uint32_t *to;
  size_t slots;
  int64_t *value; /* by node; -1: no string ends here */
  size_t nodes, cap;
  bool first[256]; /* whether a string begins with this byte */
} Trie;            /* zeroed: empty */

void trie_free(Trie *t);
bool trie_add(Trie *t, const char *s, size_t n, uint32_t value); /* n > 0; false: the string is there already */

/* The node behind `node` (TRIE_ROOT to begin with) by a byte, or TRIE_NONE. */
static inline int64_t trie_next(const Trie *t, int64_t node, unsigned char byte) {
  if (!t->slots) return TRIE_NONE;
  uint64_t key = ((uint64_t)node << 8 | byte) + 1;
  size_t mask = t->slots - 1, at = number_hash(key) & mask;
  while (t->edge[at] && t->edge[at] != key) at = (at + 1) & mask;
  return t->edge[at] ? (int64_t)t->to[at] : TRIE_NONE;
}

/* Length of the longest string that s[0..n) begins with, its number in *value; 0: none. */
size_t trie_longest(const Trie *t, const char *s, size_t n, uint32_t *value);
#endif
