/* Ground floor: arenas, strings, spans, diagnostics, interning. Knows nothing of graphs or kernels.
 *
 * Ownership: everything that an arena hands out lives until the arena is freed; there are no single frees.
 * Errors: a function that can fail returns false (or NULL) after adding a Diag to the Diags it was given. It never
 * prints and never exits; the command line shows the list and decides. */
#ifndef INK_BASE_H
#define INK_BASE_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INK_VERSION "0.1.0"

#define LEN(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* ---- arena: bump allocation, zeroed, 64-byte aligned for large blocks; aborts only when the machine is out of memory. */
typedef struct Arena Arena;
Arena *arena_new(void);
void arena_free(Arena *a);
void *arena_alloc(Arena *a, size_t bytes); /* zeroed; 16-byte aligned */
char *arena_strdup(Arena *a, const char *s);
char *arena_strndup(Arena *a, const char *s, size_t n);
char *arena_printf(Arena *a, const char *fmt, ...) PRINTF(2, 3);
char *arena_vprintf(Arena *a, const char *fmt, va_list ap) PRINTF(2, 0);
#define NEW(arena, T) ((T *)arena_alloc((arena), sizeof(T)))
#define NEW_ARRAY(arena, T, n) ((T *)arena_alloc((arena), sizeof(T) * (size_t)(n)))

/* Grows a plain C array that lives in an arena (the old block is left to the arena): for `T *v; int n, cap;`. */
#define PUSH(arena, v, n, cap, item)                                                                                   \
  do {                                                                                                                 \
    if ((n) == (cap)) (v) = arena_grow((arena), (v), sizeof(*(v)), (n), &(cap));                                       \
    (v)[(n)++] = (item);                                                                                               \
  } while (0)
void *arena_grow(Arena *a, void *old, size_t item, int n, int *cap);

/* Equal texts give the same pointer for the life of the process, so interned names compare by pointer. Thread-safe. */
const char *intern(const char *s);
const char *internn(const char *s, size_t n);

/* ---- growable text, for printers */
typedef struct Text {
  char *s; /* always NUL-terminated once something was added */
  size_t n, cap;
} Text;
void text_add(Text *t, const char *fmt, ...) PRINTF(2, 3);
void text_write(Text *t, const void *bytes, size_t n);
void text_free(Text *t);
/* Text from outside as a terminal may see it: what is not printable UTF-8 (control characters, escape sequences, marks that
 * turn the direction of writing, broken bytes) becomes '?'; line ends and tabs stay. */
void text_write_clean(Text *t, const char *s, size_t n);
/* Length of the printable character at s, of at most n bytes; 0 when there is none. */
int text_printable(const char *s, size_t n);

/* ---- spans and diagnostics */
typedef struct Span {
  uint32_t file;      /* 1 + index in Diags.sources; 0: no position */
  uint32_t line, col; /* 1-based; col counts bytes */
  const char *in;     /* interned: the block instance that it stands in, "layer.3"; NULL: none */
} Span;

typedef struct Source {
  const char *path; /* as the user wrote it */
  const char *text; /* whole file, NUL-terminated */
  size_t n;
} Source;

typedef struct Diag {
  Span at;
  const char *text; /* "unknown dimension 'head'" */
  const char *hint; /* "did you mean 'heads'?" or NULL */
} Diag;

typedef struct Diags {
  Arena *arena;
  Source *sources;
  int nsources, cap_sources;
  Diag *list;
  int n, cap;
  int dropped; /* errors after the first 100, counted but not kept */
} Diags;

Diags *diags_new(Arena *a);
uint32_t diags_source(Diags *d, const char *path, const char *text, size_t n); /* returns the file number for spans */
bool diags_read(Diags *d, const char *path, size_t limit,
                uint32_t *file); /* reads a file as a source; error if over limit */
/* Both return false, so that `return diag_error(...)` reads well. A hint may be NULL. At most 100 are kept. */
bool diag_error(Diags *d, Span at, const char *fmt, ...) PRINTF(3, 4);
bool diag_hint(Diags *d, Span at, const char *hint, const char *fmt, ...) PRINTF(4, 5);
/* path:line:col: error: text; the line; a caret; the hint. Sorted by position, appended to out. */
void diags_render(const Diags *d, Text *out);

/* The candidate nearest to `word` (Damerau-Levenshtein, at most a third of its length away), or NULL. */
const char *near_miss(const char *word, const char *const *candidates, int n);

/* ---- files */
bool file_write_atomic(const char *path, const void *bytes,
                       size_t n);             /* temp file beside it, fsync, rename; errno on failure */
uint64_t hash64(const void *bytes, size_t n); /* XXH3 */
#endif
