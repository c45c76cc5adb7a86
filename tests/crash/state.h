/* A folder as a value: what a crash leaves, and what stands on the real disk. */
#ifndef CRASH_STATE_H
#define CRASH_STATE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { ENTRY_DIR, ENTRY_FILE, ENTRY_LINK } EntryKind;

typedef struct Entry {
  char *path; /* relative to the folder; parents come before what they hold */
  EntryKind kind;
  unsigned char *bytes; /* of a file; the text of a link */
  size_t n;
} Entry;

typedef struct State {
  Entry *entry;
  int n, cap;
} State;

/* Takes over `bytes`. */
void state_add(State *s, const char *path, EntryKind kind, unsigned char *bytes, size_t n);
void state_sort(State *s);
void state_free(State *s);
uint64_t state_hash(const State *s); /* of a sorted state */
State state_scan(const char *dir);   /* sorted */
void state_write(const State *s, const char *dir);
void state_clear(const char *dir); /* all that is in it */
/* The first difference in words, or NULL. Both sorted. */
const char *state_difference(const State *want, const State *have, char *text, size_t n);
#endif
