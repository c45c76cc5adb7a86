/* Regular expressions of tokenizer files, through PCRE2.
 *
 * Such a pattern was written for another engine: Oniguruma with Ruby's syntax (Hugging Face) or Rust's (tiktoken). It is
 * translated where PCRE2 means something else (\s, \w, $, scripts, X{n,m}+), and refused by name where that is not possible.
 * Patterns and texts are from strangers: steps, depth and memory of a match are bounded. A Pattern does not change; what
 * matching needs besides is a PatternWork, one a thread. */
#ifndef TEXT_PATTERN_H
#define TEXT_PATTERN_H
#include "ink/base.h"

typedef enum PatternDialect { PATTERN_ONIGURUMA, PATTERN_RUST } PatternDialect;
enum { PATTERN_LONGEST = 1 << 16 };

/* GPT-2's own (Radford et al. 2019), by which byte-level tokenizers divide text unless they say otherwise. */
#define PATTERN_BYTE_LEVEL "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef struct Pattern Pattern;
typedef struct PatternWork PatternWork;

Pattern *pattern_new(const char *s, size_t n, PatternDialect dialect, const char *where, Diags *err);
void pattern_free(Pattern *p);
PatternWork *pattern_work_new(void);
void pattern_work_free(PatternWork *w);

/* The first match in text[from..n), which is UTF-8: 1 and its ends; 0: none; -1 with an error when the work is too much. */
int pattern_find(const Pattern *p, PatternWork *w, const char *text, size_t n, size_t from, size_t *start, size_t *end,
                 Diags *err);

/* The translation, for pattern_new and tests. */
bool pattern_translate(const char *s, size_t n, PatternDialect dialect, const char *where, Text *out, Diags *err);
#endif
