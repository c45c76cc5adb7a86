/* Byte-pair encoding.
 *
 * Three tables, all open addressing with linear probing: bytes -> token (for loading and training), pair -> rank and
 * merged token, piece -> ids (the cache; text repeats its words, so most pieces end there). A short piece is merged by
 * scanning for the lowest rank again and again, a long one with a heap of candidate pairs over a linked list, so that
 * the time for n bytes is O(n log n). Both apply the same merges in the same order: lowest rank first, leftmost first.
 * The cache is emptied when full, so memory is bounded whatever the text is. */
#include "data/bpe.h"

#include <string.h>

enum {
  NONE = UINT32_MAX,
  SCANNED = 48,                  /* pieces up to this many bytes are merged by scanning */
  CACHED = 64,                   /* and up to this many are remembered */
  CACHE_SLOTS = 1 << 19,         /* 12 MB of slots, and at most: */
  CACHE_BYTES = 8 * 1024 * 1024, /* of pieces */
  CACHE_IDS = CACHE_BYTES        /* each id stands for a byte at least */
};

typedef struct Merge {
  uint64_t pair; /* left << 32 | right */
  uint32_t rank, merged;
} Merge;

typedef struct Cached {
  uint64_t hash;
  uint32_t text, ids; /* starts in the cache's arrays */
  uint16_t n, count;  /* bytes and ids; n == 0: free */
} Cached;

typedef struct Candidate {
  uint32_t rank, left; /* left: index of the symbol; orders equal ranks */
  uint64_t pair;       /* to see whether the symbols have changed since */
} Candidate;

typedef struct Symbol {
  uint32_t id, prev, next; /* NONE at the ends; id NONE: merged away */
} Symbol;

struct Bpe {
  size_t *start; /* count + 1 offsets into bytes */
  size_t cap_start;
  char *bytes;
  size_t nbytes, cap_bytes;
  uint32_t count;
  uint32_t *token; /* id + 1 by hash of its bytes; 0: free */
  size_t token_slots;
  uint64_t *ranked; /* pair by rank */
  size_t cap_ranked;
  uint32_t merges;
  Merge *merge; /* rank NONE: free */
  size_t merge_slots;
  uint32_t byte[256];
  Cached *cache;
  char *cache_text;
  uint32_t *cache_ids;
  size_t cached, cached_bytes, cached_ids;
  Symbol *symbol; /* work space for long pieces */
  size_t cap_symbol;
  Candidate *heap;
  size_t nheap, cap_heap;
};

Bpe *bpe_new(void) {
  Bpe *b = memory_zeroed(1, sizeof *b);
  RESERVE(b->start, b->cap_start, 1);
  b->start[0] = 0;
  RESERVE(b->bytes, b->cap_bytes, 1);
  return b;
}

void bpe_free(Bpe *b) {
  if (!b) return;
  free(b->start), free(b->bytes), free(b->token), free(b->ranked), free(b->merge);
  free(b->cache), free(b->cache_text), free(b->cache_ids), free(b->symbol), free(b->heap);
  free(b);
}

/* ---- tokens */

uint32_t bpe_count(const Bpe *b) {
  return b->count;
}

const char *bpe_bytes(const Bpe *b, uint32_t id, size_t *n) {
  *n = b->start[id + 1] - b->start[id];
  return b->bytes + b->start[id];
}

/* The slot that holds a token of these bytes, or the free one where it belongs. */
static size_t token_slot(const Bpe *b, const char *bytes, size_t n) {
  size_t mask = b->token_slots - 1, at = bpe_hash(bytes, n) & mask;
  for (; b->token[at]; at = (at + 1) & mask) {
    size_t m;
    const char *have = bpe_bytes(b, b->token[at] - 1, &m);
    if (m == n && !memcmp(have, bytes, n)) break;
  }
  return at;
}

bool bpe_find(const Bpe *b, const char *bytes, size_t n, uint32_t *id) {
  if (!n || !b->token_slots) return false;
  size_t at = token_slot(b, bytes, n);
  if (b->token[at]) *id = b->token[at] - 1;
  return b->token[at] != 0;
}

static void grow_tokens(Bpe *b) {
  free(b->token);
  b->token_slots = b->token_slots ? 2 * b->token_slots : 1024;
  b->token = memory_zeroed(b->token_slots, sizeof *b->token);
  for (uint32_t id = 0; id < b->count; id++) {
    size_t n;
    const char *bytes = bpe_bytes(b, id, &n);
    size_t at = n ? token_slot(b, bytes, n) : 0;
    if (n && !b->token[at]) b->token[at] = id + 1;
  }
}

uint32_t bpe_add(Bpe *b, const char *bytes, size_t n) {
  if (2 * ((size_t)b->count + 1) > b->token_slots) grow_tokens(b);
  RESERVE(b->bytes, b->cap_bytes, b->nbytes + n);
  RESERVE(b->start, b->cap_start, (size_t)b->count + 2);
  if (n) memcpy(b->bytes + b->nbytes, bytes, n);
  b->nbytes += n;
  uint32_t id = b->count++;
  b->start[b->count] = b->nbytes;
  size_t at = n ? token_slot(b, b->bytes + b->start[id], n) : 0;
  if (n && !b->token[at]) b->token[at] = id + 1;
  return id;
}

bool bpe_ready(Bpe *b, int *byte) {
  for (int i = 0; i < 256; i++) {
    char c = (char)i;
    *byte = i;
    if (!bpe_find(b, &c, 1, &b->byte[i])) return false;
  }
  return true;
}

/* ---- merges */

static Merge *merge_slot(const Bpe *b, uint64_t pair) {
  size_t mask = b->merge_slots - 1, at = bpe_mix(pair) & mask;
  while (b->merge[at].rank != NONE && b->merge[at].pair != pair) at = (at + 1) & mask;
  return &b->merge[at];
}

static void grow_merges(Bpe *b) {
  Merge *old = b->merge;
  size_t slots = b->merge_slots;
  b->merge_slots = slots ? 2 * slots : 1024;
  b->merge = memory_resize(NULL, b->merge_slots, sizeof *b->merge);
  for (size_t i = 0; i < b->merge_slots; i++) b->merge[i].rank = NONE;
  for (size_t i = 0; i < slots; i++)
    if (old[i].rank != NONE) *merge_slot(b, old[i].pair) = old[i];
  free(old);
}

bool bpe_merge(Bpe *b, uint32_t left, uint32_t right, uint32_t merged) {
  size_t n, m, k;
  const char *l = bpe_bytes(b, left, &n), *r = bpe_bytes(b, right, &m), *t = bpe_bytes(b, merged, &k);
  if (k != n + m || memcmp(t, l, n) || memcmp(t + n, r, m)) return false;
  if (2 * ((size_t)b->merges + 1) > b->merge_slots) grow_merges(b);
  uint64_t pair = (uint64_t)left << 32 | right;
  Merge *slot = merge_slot(b, pair);
  if (slot->rank != NONE) return false;
  *slot = (Merge){pair, b->merges, merged};
  RESERVE(b->ranked, b->cap_ranked, (size_t)b->merges + 1);
  b->ranked[b->merges++] = pair;
  return true;
}

uint32_t bpe_merges(const Bpe *b) {
  return b->merges;
}

void bpe_pair(const Bpe *b, uint32_t rank, uint32_t *left, uint32_t *right) {
  *left = (uint32_t)(b->ranked[rank] >> 32);
  *right = (uint32_t)b->ranked[rank];
}

static inline Merge pair_merge(const Bpe *b, uint32_t left, uint32_t right) {
  if (!b->merges) return (Merge){.rank = NONE};
  return *merge_slot(b, (uint64_t)left << 32 | right);
}

/* ---- one piece */

static void encode_short(const Bpe *b, const char *piece, size_t n, Ids *out) {
  uint32_t id[SCANNED];
  Merge m[SCANNED]; /* of symbols i and i + 1 */
  for (size_t i = 0; i < n; i++) id[i] = b->byte[(unsigned char)piece[i]];
  for (size_t i = 0; i + 1 < n; i++) m[i] = pair_merge(b, id[i], id[i + 1]);
  for (;;) {
    size_t best = 0;
    uint32_t rank = NONE;
    for (size_t i = 0; i + 1 < n; i++)
      if (m[i].rank < rank) rank = m[i].rank, best = i;
    if (rank == NONE) break;
    id[best] = m[best].merged;
    n--;
    for (size_t i = best + 1; i < n; i++) id[i] = id[i + 1];
    for (size_t i = best; i + 1 < n; i++) m[i] = m[i + 1];
    if (best + 1 < n) m[best] = pair_merge(b, id[best], id[best + 1]);
    if (best > 0) m[best - 1] = pair_merge(b, id[best - 1], id[best]);
  }
  for (size_t i = 0; i < n; i++) ids_add(out, id[i]);
}

static bool before(const Candidate *a, const Candidate *b) {
  return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(Bpe *b, uint32_t left) {
  const Symbol *s = &b->symbol[left];
  if (s->next == NONE) return;
  uint32_t right = b->symbol[s->next].id;
  Merge m = pair_merge(b, s->id, right);
  if (m.rank == NONE) return;
  Candidate c = {m.rank, left, (uint64_t)s->id << 32 | right};
  RESERVE(b->heap, b->cap_heap, b->nheap + 1);
  size_t i = b->nheap++;
  for (; i && before(&c, &b->heap[(i - 1) / 2]); i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
  b->heap[i] = c;
}

static Candidate heap_pop(Bpe *b) {
  Candidate top = b->heap[0], c = b->heap[--b->nheap];
  size_t i = 0;
  for (size_t k; (k = 2 * i + 1) < b->nheap; i = k) {
    if (k + 1 < b->nheap && before(&b->heap[k + 1], &b->heap[k])) k++;
    if (!before(&b->heap[k], &c)) break;
    b->heap[i] = b->heap[k];
  }
  b->heap[i] = c;
  return top;
}

static void encode_long(Bpe *b, const char *piece, size_t n, Ids *out) {
  RESERVE(b->symbol, b->cap_symbol, n);
  Symbol *s = b->symbol;
  for (size_t i = 0; i < n; i++)
    s[i] = (Symbol){b->byte[(unsigned char)piece[i]], i ? (uint32_t)i - 1 : NONE, i + 1 < n ? (uint32_t)i + 1 : NONE};
  b->nheap = 0;
  for (size_t i = 0; i < n; i++) heap_push(b, (uint32_t)i);
  while (b->nheap) {
    Candidate c = heap_pop(b);
    Symbol *l = &s[c.left];
    if (l->id == NONE || l->next == NONE || ((uint64_t)l->id << 32 | s[l->next].id) != c.pair) continue;
    Symbol *r = &s[l->next];
    l->id = pair_merge(b, l->id, r->id).merged;
    r->id = NONE;
    l->next = r->next;
    if (r->next != NONE) s[r->next].prev = c.left;
    heap_push(b, c.left);
    if (l->prev != NONE) heap_push(b, l->prev);
  }
  for (uint32_t i = 0; i != NONE; i = s[i].next) ids_add(out, s[i].id);
}

/* ---- the cache */

static Cached *cache_slot(Bpe *b, uint64_t hash, const char *piece, size_t n) {
  if (!b->cache || b->cached >= CACHE_SLOTS / 2 || b->cached_bytes + n > CACHE_BYTES) {
    if (!b->cache) {
      b->cache = memory_resize(NULL, CACHE_SLOTS, sizeof *b->cache);
      b->cache_text = memory_resize(NULL, CACHE_BYTES, 1);
      b->cache_ids = memory_resize(NULL, CACHE_IDS, sizeof *b->cache_ids);
    }
    memset(b->cache, 0, CACHE_SLOTS * sizeof *b->cache);
    b->cached = b->cached_bytes = b->cached_ids = 0;
  }
  size_t at = hash & (CACHE_SLOTS - 1);
  for (; b->cache[at].n; at = (at + 1) & (CACHE_SLOTS - 1)) {
    const Cached *c = &b->cache[at];
    if (c->hash == hash && c->n == n && !memcmp(b->cache_text + c->text, piece, n)) break;
  }
  return &b->cache[at];
}

void bpe_encode(Bpe *b, const char *piece, size_t n, Ids *out) {
  if (n < 2 || n > CACHED) {
    if (n <= SCANNED)
      encode_short(b, piece, n, out);
    else
      encode_long(b, piece, n, out);
    return;
  }
  uint64_t hash = bpe_hash(piece, n);
  Cached *c = cache_slot(b, hash, piece, n);
  if (c->n) {
    RESERVE(out->v, out->cap, out->n + c->count);
    memcpy(out->v + out->n, b->cache_ids + c->ids, c->count * sizeof *out->v);
    out->n += c->count;
    return;
  }
  size_t from = out->n;
  if (n <= SCANNED)
    encode_short(b, piece, n, out);
  else
    encode_long(b, piece, n, out);
  size_t count = out->n - from;
  *c = (Cached){hash, (uint32_t)b->cached_bytes, (uint32_t)b->cached_ids, (uint16_t)n, (uint16_t)count};
  memcpy(b->cache_text + b->cached_bytes, piece, n);
  memcpy(b->cache_ids + b->cached_ids, out->v + from, count * sizeof *out->v);
  b->cached++;
  b->cached_bytes += n;
  b->cached_ids += count;
}
