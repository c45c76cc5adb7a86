/* Byte-pair encoding.
 *
 * Three tables, all open addressing with linear probing: bytes -> token (vocab.h), pair -> rank and merged token,
 * piece -> ids (the cache; text repeats its words, so most pieces end there). A short piece is merged by
 * scanning for the lowest rank again and again, a long one with a heap of candidate pairs over a linked list, so that
 * the time for n bytes is O(n log n). Both apply the same merges in the same order: lowest rank first, leftmost first.
 * The cache is emptied when full, so memory is bounded whatever the text is. */
#include "text/bpe.h"

#include <string.h>

enum {
  NONE = UINT32_MAX,
  SCANNED = 48,                  /* pieces up to this many bytes are merged by scanning */
  CACHED = 64,                   /* and up to this many are remembered */
  CACHE_SLOTS = 1 << 19,         /* at most: 12 MB of slots */
  CACHE_BYTES = 8 * 1024 * 1024, /* and so many of pieces, which have no more ids than bytes */
  SPLIT_ALL_LONGEST = 1 << 14,   /* bpe_rank_all: bytes of a token, */
  SPLIT_ALL_WORK = INT32_MAX     /* and of all tokens the squares of these */
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
  Vocab tokens;
  uint64_t *ranked; /* pair by rank */
  size_t cap_ranked;
  uint32_t merges;
  Merge *merge; /* rank NONE: free */
  size_t merge_slots;
  uint32_t byte[256];
  BpeBegin begin; /* NULL: from the bytes */
  const void *ctx;
  bool whole, shared; /* shared: the tables above are another's */
  Cached *cache;
  char *cache_text;
  uint32_t *cache_ids;
  size_t cache_slots, cap_text, cap_ids, cached, cached_bytes, cached_ids;
  Symbol *symbol; /* work space for long pieces */
  size_t cap_symbol;
  Ids first; /* symbols that a piece begins with */
  Candidate *heap;
  size_t nheap, cap_heap;
};

Bpe *bpe_new(void) {
  return memory_zeroed(1, sizeof(Bpe));
}

Bpe *bpe_share(const Bpe *b) {
  Bpe *s = bpe_new();
  *s = *b;
  s->shared = true;
  s->cache = NULL, s->cache_text = NULL, s->cache_ids = NULL, s->symbol = NULL, s->heap = NULL;
  s->cache_slots = s->cap_text = s->cap_ids = s->cached = s->cached_bytes = s->cached_ids = s->cap_symbol = s->nheap =
      s->cap_heap = 0;
  s->first = (Ids){0};
  return s;
}

void bpe_free(Bpe *b) {
  if (!b) return;
  if (!b->shared) vocab_free(&b->tokens), free(b->ranked), free(b->merge);
  free(b->cache), free(b->cache_text), free(b->cache_ids), free(b->symbol), free(b->heap), free(b->first.v);
  free(b);
}

void bpe_begin(Bpe *b, BpeBegin begin, const void *ctx) {
  b->begin = begin;
  b->ctx = ctx;
}

void bpe_whole(Bpe *b) {
  b->whole = true;
}

/* ---- tokens */

uint32_t bpe_count(const Bpe *b) {
  return b->tokens.count;
}

const char *bpe_bytes(const Bpe *b, uint32_t id, size_t *n) {
  return vocab_bytes(&b->tokens, id, n);
}

bool bpe_find(const Bpe *b, const char *bytes, size_t n, uint32_t *id) {
  return vocab_find(&b->tokens, bytes, n, id);
}

uint32_t bpe_add(Bpe *b, const char *bytes, size_t n) {
  return vocab_add(&b->tokens, bytes, n);
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
  size_t mask = b->merge_slots - 1, at = number_hash(pair) & mask;
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

bool bpe_rank(Bpe *b, uint32_t left, uint32_t right, uint32_t merged, uint32_t rank) {
  if (2 * ((size_t)b->merges + 1) > b->merge_slots) grow_merges(b);
  uint64_t pair = (uint64_t)left << 32 | right;
  Merge *slot = merge_slot(b, pair);
  if (slot->rank != NONE) return false;
  *slot = (Merge){pair, rank, merged};
  b->merges++;
  return true;
}

bool bpe_merge(Bpe *b, uint32_t left, uint32_t right, uint32_t merged) {
  size_t n, m, k;
  const char *l = bpe_bytes(b, left, &n), *r = bpe_bytes(b, right, &m), *t = bpe_bytes(b, merged, &k);
  if (k != n + m || memcmp(t, l, n) || memcmp(t + n, r, m)) return false;
  if (!bpe_rank(b, left, right, merged, b->merges)) return false;
  RESERVE(b->ranked, b->cap_ranked, b->merges);
  b->ranked[b->merges - 1] = (uint64_t)left << 32 | right;
  return true;
}

bool bpe_rank_all(Bpe *b, const uint32_t *rank) {
  uint64_t work = 0;
  for (uint32_t id = 0; id < bpe_count(b); id++) {
    size_t n;
    const char *s = bpe_bytes(b, id, &n);
    if (n < 2 || (rank && rank[id] == BPE_NEVER)) continue;
    if (n > SPLIT_ALL_LONGEST || (work += n * n) > SPLIT_ALL_WORK) return false;
    for (size_t k = 1; k < n; k++) {
      uint32_t left, right;
      if (!bpe_find(b, s, k, &left) || (rank && rank[left] == BPE_NEVER)) continue;
      if (!bpe_find(b, s + k, n - k, &right) || (rank && rank[right] == BPE_NEVER)) continue;
      bpe_rank(b, left, right, id, rank ? rank[id] : id);
    }
  }
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

static void merge_short(const Bpe *b, const uint32_t *first, size_t n, Ids *out) {
  uint32_t id[SCANNED];
  Merge m[SCANNED]; /* of symbols i and i + 1 */
  for (size_t i = 0; i < n; i++) id[i] = first[i];
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

static void merge_long(Bpe *b, const uint32_t *first, size_t n, Ids *out) {
  RESERVE(b->symbol, b->cap_symbol, n);
  Symbol *s = b->symbol;
  for (size_t i = 0; i < n; i++)
    s[i] = (Symbol){first[i], i ? (uint32_t)i - 1 : NONE, i + 1 < n ? (uint32_t)i + 1 : NONE};
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

static bool encode(Bpe *b, const char *piece, size_t n, Ids *out) {
  uint32_t token;
  if (b->whole && bpe_find(b, piece, n, &token)) {
    ids_add(out, token);
    return true;
  }
  b->first.n = 0;
  if (b->begin) {
    if (!b->begin(b->ctx, piece, n, &b->first)) return false;
  } else {
    RESERVE(b->first.v, b->first.cap, n);
    for (size_t i = 0; i < n; i++) b->first.v[i] = b->byte[(unsigned char)piece[i]];
    b->first.n = n;
  }
  if (b->first.n <= SCANNED)
    merge_short(b, b->first.v, b->first.n, out);
  else
    merge_long(b, b->first.v, b->first.n, out);
  return true;
}

/* ---- the cache */

static Cached *cache_at(const Bpe *b, uint64_t hash, const char *piece, size_t n) {
  size_t mask = b->cache_slots - 1, at = hash & mask;
  for (; b->cache[at].n; at = (at + 1) & mask) {
    const Cached *c = &b->cache[at];
    if (c->hash == hash && c->n == n && !memcmp(b->cache_text + c->text, piece, n)) break;
  }
  return &b->cache[at];
}

/* Twice the slots, or, where there are as many as there may be, none taken. */
static void make_room(Bpe *b) {
  Cached *old = b->cache;
  size_t slots = b->cache_slots;
  bool full = slots >= CACHE_SLOTS || b->cached_bytes + CACHED > CACHE_BYTES;
  if (full) {
    memset(b->cache, 0, slots * sizeof *b->cache);
    b->cached = b->cached_bytes = b->cached_ids = 0;
    return;
  }
  b->cache_slots = slots ? 2 * slots : 1 << 10;
  b->cache = memory_zeroed(b->cache_slots, sizeof *b->cache);
  for (size_t i = 0; i < slots; i++)
    if (old[i].n) *cache_at(b, old[i].hash, b->cache_text + old[i].text, old[i].n) = old[i];
  free(old);
}

static Cached *cache_slot(Bpe *b, uint64_t hash, const char *piece, size_t n) {
  if (2 * b->cached >= b->cache_slots || b->cached_bytes + n > CACHE_BYTES) make_room(b);
  return cache_at(b, hash, piece, n);
}

bool bpe_encode(Bpe *b, const char *piece, size_t n, Ids *out) {
  if (n < 2 || n > CACHED) return encode(b, piece, n, out);
  uint64_t hash = bytes_hash(piece, n);
  Cached *c = cache_slot(b, hash, piece, n);
  if (c->n) {
    RESERVE(out->v, out->cap, out->n + c->count);
    memcpy(out->v + out->n, b->cache_ids + c->ids, c->count * sizeof *out->v);
    out->n += c->count;
    return true;
  }
  size_t from = out->n;
  if (!encode(b, piece, n, out)) return false;
  size_t count = out->n - from;
  if (count > n) return true;
  *c = (Cached){hash, (uint32_t)b->cached_bytes, (uint32_t)b->cached_ids, (uint16_t)n, (uint16_t)count};
  RESERVE(b->cache_text, b->cap_text, b->cached_bytes + n);
  RESERVE(b->cache_ids, b->cap_ids, b->cached_ids + count);
  memcpy(b->cache_text + b->cached_bytes, piece, n);
  memcpy(b->cache_ids + b->cached_ids, out->v + from, count * sizeof *out->v);
  b->cached++;
  b->cached_bytes += n;
  b->cached_ids += count;
  return true;
}
