/* A byte-pair model: tokens are byte strings; ranked merges of two tokens into a third make them.
 *
 * Encoding a piece (see split.h) starts from its bytes and applies the merge of lowest rank, leftmost first, until none
 * is left (Sennrich et al. 2016, section 3.2; on bytes: Radford et al. 2019). A Bpe is used by one thread at a time:
 * encoding remembers the pieces it has seen. */
#ifndef DATA_BPE_H
#define DATA_BPE_H
#include "ink/base.h"
#include "text/memory.h"

enum { BPE_MOST_TOKENS = 1 << 20, BPE_LONGEST_TOKEN = 1 << 16 };

typedef struct Bpe Bpe;

Bpe *bpe_new(void);
void bpe_free(Bpe *b);

/* Adds a token and returns its id, the count of those before it. The bytes are copied. A token of n = 0 holds a place:
 * nothing finds it and it decodes to nothing. */
uint32_t bpe_add(Bpe *b, const char *bytes, size_t n);
uint32_t bpe_count(const Bpe *b);
const char *bpe_bytes(const Bpe *b, uint32_t id, size_t *n); /* id < bpe_count; valid until the next bpe_add */
bool bpe_find(const Bpe *b, const char *bytes, size_t n, uint32_t *id);

/* Gives the pair the next rank; false when it has one, or when merged is not the bytes of left and right. */
bool bpe_merge(Bpe *b, uint32_t left, uint32_t right, uint32_t merged);
uint32_t bpe_merges(const Bpe *b);
void bpe_pair(const Bpe *b, uint32_t rank, uint32_t *left, uint32_t *right);

/* Call when all 256 single bytes are tokens; false names in *byte one that is not. Encoding needs it. */
bool bpe_ready(Bpe *b, int *byte);

/* Appends the ids of one piece. */
void bpe_encode(Bpe *b, const char *piece, size_t n, Ids *out);

/* FNV-1a with a final mix, for the tables of this folder: short keys, spread over the low bits. */
static inline uint64_t bpe_hash(const char *s, size_t n) {
  uint64_t h = 14695981039346656037u;
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
  h ^= h >> 32;
  h *= 0x9e3779b97f4a7c15u;
  return h ^ h >> 29;
}

/* splitmix64's finalizer, for keys that are numbers. */
static inline uint64_t bpe_mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}
#endif
