/* Tokens beside the vocabulary's own, found in the text before anything else: "<|im_start|>", "[MASK]". */
#ifndef TEXT_ADDED_H
#define TEXT_ADDED_H
#include "ink/base.h"
#include "text/trie.h"

enum { ADDED_LONGEST = 1024 }; /* bytes of one */

typedef struct AddedToken {
  char *content;
  size_t n;
  uint32_t id;
  bool left, right; /* takes the spaces before, behind it */
  bool word;        /* only where it is no part of a word */
  bool normalized;  /* looked for in the normalized text, normalized itself */
  bool special;
} AddedToken;

typedef struct Added {
  AddedToken *v;
  size_t n, cap;
  Vocab contents;         /* of v, by index */
  Trie plain, normalized; /* indices into v */
} Added;

typedef struct Segment {
  size_t at, n;
  int64_t id; /* of a token; -1: text */
} Segment;

typedef struct Segments {
  Segment *v;
  size_t n, cap;
} Segments;

void added_free(Added *a);
bool added_put(Added *a, const AddedToken *token, const char *where,
               Diags *err); /* content is copied; a second one of a content is left out */

/* Divides a text, appending to out. special: spellings of special tokens are tokens, too. */
void added_split(const Added *a, const Trie *which, bool special, const char *s, size_t n, Segments *out);
#endif
