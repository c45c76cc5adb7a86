/* Byte strings by id and ids by byte string: the tokens of a vocabulary.
 *
 * Ids are given in order. A string of n = 0 holds a place: nothing finds it. Of equal strings the first one is found. */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H
#include "text/memory.h"

#include <stdbool.h>

typedef struct Vocab {
  size_t *start; /* count + 1 offsets into bytes */
  size_t cap_start;
  char *bytes;
  size_t nbytes, cap_bytes;
  uint32_t *slot; /* id + 1 by hash of its bytes, open addressing; 0: free */
  size_t slots;
  uint32_t count;
} Vocab; /* zeroed: empty */

void vocab_free(Vocab *v);
uint32_t vocab_add(Vocab *v, const char *bytes, size_t n);       /* the bytes are copied; returns the id */
const char *vocab_bytes(const Vocab *v, uint32_t id, size_t *n); /* id < count; valid until the next vocab_add */
bool vocab_find(const Vocab *v, const char *bytes, size_t n, uint32_t *id);

/* FNV-1a with a final mix, for the tables of this folder: short keys, spread over the low bits. */
static inline uint64_t bytes_hash(const char *s, size_t n) {
  uint64_t h = 14695981039346656037u;
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
  h ^= h >> 32;
  h *= 0x9e3779b97f4a7c15u;
  return h ^ h >> 29;
}

/* splitmix64's finalizer, for keys that are numbers. */
static inline uint64_t number_hash(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}
#endif
