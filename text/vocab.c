/* Tokens lie one behind the other in one block; a hash table of ids, at most half full, finds them. */
#include "text/vocab.h"

#include <string.h>

void vocab_free(Vocab *v) {
  free(v->start), free(v->bytes), free(v->slot);
  *v = (Vocab){0};
}

const char *vocab_bytes(const Vocab *v, uint32_t id, size_t *n) {
  *n = v->start[id + 1] - v->start[id];
  return v->bytes + v->start[id];
}

/* The slot that holds a token of these bytes, or the free one where it belongs. */
static size_t slot_of(const Vocab *v, const char *bytes, size_t n) {
  size_t mask = v->slots - 1, at = bytes_hash(bytes, n) & mask;
  for (; v->slot[at]; at = (at + 1) & mask) {
    size_t m;
    const char *have = vocab_bytes(v, v->slot[at] - 1, &m);
    if (m == n && !memcmp(have, bytes, n)) break;
  }
  return at;
}

bool vocab_find(const Vocab *v, const char *bytes, size_t n, uint32_t *id) {
  if (!n || !v->slots) return false;
  size_t at = slot_of(v, bytes, n);
  if (v->slot[at]) *id = v->slot[at] - 1;
  return v->slot[at] != 0;
}

static void enter(Vocab *v, uint32_t id) {
  size_t n;
  const char *bytes = vocab_bytes(v, id, &n);
  size_t at = n ? slot_of(v, bytes, n) : 0;
  if (n && !v->slot[at]) v->slot[at] = id + 1;
}

uint32_t vocab_add(Vocab *v, const char *bytes, size_t n) {
  if (2 * ((size_t)v->count + 1) > v->slots) {
    free(v->slot);
    v->slots = v->slots ? 2 * v->slots : 1024;
    v->slot = memory_zeroed(v->slots, sizeof *v->slot);
    for (uint32_t id = 0; id < v->count; id++) enter(v, id);
  }
  RESERVE(v->bytes, v->cap_bytes, v->nbytes + n + 1);
  RESERVE(v->start, v->cap_start, (size_t)v->count + 2);
  if (!v->count) v->start[0] = 0;
  if (n) memcpy(v->bytes + v->nbytes, bytes, n);
  v->nbytes += n;
  uint32_t id = v->count++;
  v->start[v->count] = v->nbytes;
  enter(v, id);
  return id;
}
