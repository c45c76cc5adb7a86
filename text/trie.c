/* Nodes are numbers; one hash table holds all edges, at most half full. */
#include "text/trie.h"

void trie_free(Trie *t) {
  free(t->edge), free(t->to), free(t->value);
  *t = (Trie){0};
}

static size_t edge_slot(const Trie *t, uint64_t key) {
  size_t mask = t->slots - 1, at = number_hash(key) & mask;
  while (t->edge[at] && t->edge[at] != key) at = (at + 1) & mask;
  return at;
}

static void grow(Trie *t) {
  uint64_t *edge = t->edge;
  uint32_t *to = t->to;
  size_t slots = t->slots;
  t->slots = slots ? 2 * slots : 1024;
  t->edge = memory_zeroed(t->slots, sizeof *t->edge);
  t->to = memory_zeroed(t->slots, sizeof *t->to);
  for (size_t i = 0; i < slots; i++) {
    if (!edge[i]) continue;
    size_t at = edge_slot(t, edge[i]);
    t->edge[at] = edge[i], t->to[at] = to[i];
  }
  free(edge), free(to);
}

static uint32_t new_node(Trie *t) {
  RESERVE(t->value, t->cap, t->nodes + 1);
  t->value[t->nodes] = -1;
  return (uint32_t)t->nodes++;
}

bool trie_add(Trie *t, const char *s, size_t n, uint32_t value) {
  if (!t->nodes) new_node(t);
  uint32_t node = TRIE_ROOT;
  t->first[(unsigned char)s[0]] = true;
  for (size_t i = 0; i < n; i++) {
    if (2 * (t->nodes + 1) > t->slots) grow(t);
    uint64_t key = ((uint64_t)node << 8 | (unsigned char)s[i]) + 1;
    size_t at = edge_slot(t, key);
    if (!t->edge[at]) t->edge[at] = key, t->to[at] = new_node(t);
    node = t->to[at];
  }
  if (t->value[node] >= 0) return false;
  t->value[node] = value;
  return true;
}

size_t trie_longest(const Trie *t, const char *s, size_t n, uint32_t *value) {
  size_t longest = 0;
  if (!n || !t->first[(unsigned char)s[0]]) return 0;
  int64_t node = TRIE_ROOT;
  for (size_t i = 0; i < n && (node = trie_next(t, node, (unsigned char)s[i])) != TRIE_NONE; i++)
    if (t->value[node] >= 0) longest = i + 1, *value = (uint32_t)t->value[node];
  return longest;
}
