/* Growable blocks for text tools, whose tables are too large and too long-lived for an arena's doubling.
 *
 * As in base/arena.c, running out of memory aborts: there is nothing a tokenizer could do about it. */
#ifndef TEXT_MEMORY_H
#define TEXT_MEMORY_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* `old` resized to n items. Aborts when the product overflows or the machine has no more. */
static inline void *memory_resize(void *old, size_t n, size_t item) {
  if (n > SIZE_MAX / 2 / item) abort();
  void *p = realloc(old, n ? n * item : 1);
  if (!p) abort();
  return p;
}

static inline void *memory_zeroed(size_t n, size_t item) {
  void *p = calloc(n ? n : 1, item);
  if (!p) abort();
  return p;
}

/* Makes room for `need` items in v; capacities double. */
#define RESERVE(v, cap, need)                                                                                          \
  do {                                                                                                                 \
    if ((size_t)(need) > (cap)) {                                                                                      \
      size_t reserve_cap_ = (cap) ? (cap) : 64;                                                                        \
      while (reserve_cap_ < (size_t)(need)) reserve_cap_ *= 2;                                                         \
      (v) = memory_resize((v), reserve_cap_, sizeof(*(v)));                                                            \
      (cap) = reserve_cap_;                                                                                            \
    }                                                                                                                  \
  } while (0)

typedef struct Ids {
  uint32_t *v;
  size_t n, cap;
} Ids;

static inline void ids_add(Ids *ids, uint32_t id) {
  RESERVE(ids->v, ids->cap, ids->n + 1);
  ids->v[ids->n++] = id;
}
#endif
