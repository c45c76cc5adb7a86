/* Interned strings: equal texts are one pointer for the life of the process.
 *
 * Why: names of dims, inputs and attributes are compared everywhere; by pointer that is one instruction.
 * How: one open-addressed table under a lock; texts live in an arena that is never freed (it stays reachable).
 * Must hold: the table is at most half full, so a probe ends. */
#include "ink/base.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct Entry {
  uint64_t hash;
  const char *s;
  size_t n;
} Entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Arena *texts;
static Entry *table;
static size_t used, size; /* size: a power of two */

static Entry *find(Entry *t, size_t slots, uint64_t hash, const char *s, size_t n) {
  for (size_t i = (size_t)hash & (slots - 1);; i = (i + 1) & (slots - 1)) {
    Entry *e = &t[i];
    if (!e->s || (e->hash == hash && e->n == n && memcmp(e->s, s, n) == 0)) return e;
  }
}

static void widen(void) {
  size_t more = size ? size * 2 : 1024;
  Entry *t = calloc(more, sizeof *t);
  if (!t) abort();
  for (size_t i = 0; i < size; i++)
    if (table[i].s) *find(t, more, table[i].hash, table[i].s, table[i].n) = table[i];
  free(table);
  table = t;
  size = more;
}

const char *internn(const char *s, size_t n) {
  uint64_t hash = hash64(s, n);
  pthread_mutex_lock(&lock);
  if (!texts) texts = arena_new();
  if (used * 2 >= size) widen();
  Entry *e = find(table, size, hash, s, n);
  if (!e->s) {
    *e = (Entry){hash, arena_strndup(texts, s, n), n};
    used++;
  }
  const char *r = e->s;
  pthread_mutex_unlock(&lock);
  return r;
}

const char *intern(const char *s) {
  return internn(s, strlen(s));
}
