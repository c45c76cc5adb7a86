/* SentencePiece's compiled normalization rules ("precompiled_charsmap"): a double-array trie of byte strings, each with what
 * takes its place.
 *
 * The blob is a u32 of the trie's bytes, the trie's units (u32, little-endian), then the replacements, NUL-terminated. Every
 * step of a walk is bounded by the arrays. */
#ifndef TEXT_CHARSMAP_H
#define TEXT_CHARSMAP_H
#include "ink/base.h"

typedef struct Charsmap Charsmap;

Charsmap *charsmap_new(const void *blob, size_t n, const char *where, Diags *err);
void charsmap_free(Charsmap *m);

/* The length of the longest (else the shortest) rule that s begins with, what takes its place in *to and *nto; 0: none. */
size_t charsmap_find(const Charsmap *m, const char *s, size_t n, bool longest, const char **to, size_t *nto);
#endif
