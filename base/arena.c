/* Arenas: bump allocation in chunks, freed all at once.
 *
 * Why: a compilation makes a million small things that all die together; ownership is then a phase, not a pointer.
 * How: a list of zeroed chunks; a request that does not fit gets a new chunk, a large one a chunk of its own, so that
 * the rest of the current chunk stays in use. Must hold: a block is never moved or returned before arena_free.
 *
 * Under ASan all of a chunk that was not handed out is poisoned, with a gap behind each block, so that an access beyond a
 * block is seen as it would be with malloc. */
#include "ink/base.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* gcc's word for it */
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define CLOSE(p, n) __asan_poison_memory_region((p), (n))
#define OPEN(p, n) __asan_unpoison_memory_region((p), (n))
enum { CHUNK = 8 * 1024, LARGE = 2 * 1024, GAP = 16 };
#else
#define CLOSE(p, n) ((void)0)
#define OPEN(p, n) ((void)0)
enum { CHUNK = 64 * 1024, LARGE = 16 * 1024, GAP = 0 };
#endif
enum { ALIGN = 16, LARGE_ALIGN = 64 };

typedef struct Chunk {
  struct Chunk *next;
} Chunk;

struct Arena {
  Chunk *chunks;
  char *at, *end; /* free part of the current chunk */
};

/* Room for `bytes` after the link, aligned to 64. calloc gives zeroed pages without touching them. */
static char *chunk_new(Arena *a, size_t bytes) {
  if (bytes > SIZE_MAX / 2) abort();
  Chunk *c = calloc(1, sizeof(Chunk) + LARGE_ALIGN + bytes);
  if (!c) abort();
  c->next = a->chunks;
  a->chunks = c;
  uintptr_t p = (uintptr_t)(c + 1);
  CLOSE(c + 1, LARGE_ALIGN + bytes);
  return (char *)((p + LARGE_ALIGN - 1) & ~(uintptr_t)(LARGE_ALIGN - 1));
}

Arena *arena_new(void) {
  Arena *a = calloc(1, sizeof *a);
  if (!a) abort();
  return a;
}

void arena_free(Arena *a) {
  if (!a) return;
  for (Chunk *c = a->chunks, *next; c; c = next) {
    next = c->next;
    free(c);
  }
  free(a);
}

void *arena_alloc(Arena *a, size_t bytes) {
  if (bytes > SIZE_MAX / 4) abort();
  size_t room = (bytes + GAP + ALIGN - 1) & ~(size_t)(ALIGN - 1);
  if (room == 0) room = ALIGN;
  char *p = a->at;
  if (room >= LARGE) {
    p = chunk_new(a, room);
  } else {
    if ((size_t)(a->end - a->at) < room) {
      p = a->at = chunk_new(a, CHUNK);
      a->end = a->at + CHUNK;
    }
    a->at += room;
  }
  OPEN(p, bytes);
  return p;
}

char *arena_strndup(Arena *a, const char *s, size_t n) {
  char *p = arena_alloc(a, n + 1);
  memcpy(p, s, n);
  return p;
}

char *arena_strdup(Arena *a, const char *s) {
  return arena_strndup(a, s, strlen(s));
}

char *arena_vprintf(Arena *a, const char *fmt, va_list ap) {
  char *s = NULL;
  int n = vasprintf(&s, fmt, ap);
  if (n < 0) abort();
  char *p = arena_strndup(a, s, (size_t)n);
  free(s);
  return p;
}

char *arena_printf(Arena *a, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char *p = arena_vprintf(a, fmt, ap);
  va_end(ap);
  return p;
}

void *arena_grow(Arena *a, void *old, size_t item, int n, int *cap) {
  if (*cap > INT_MAX / 2) abort();
  int more = *cap < 4 ? 8 : *cap * 2;
  if (item && (size_t)more > SIZE_MAX / 2 / item) abort();
  void *p = arena_alloc(a, item * (size_t)more);
  if (n > 0) memcpy(p, old, item * (size_t)n);
  *cap = more;
  return p;
}
