/* What a tokenizer does to text before it splits it: a list of steps, in order.
 *
 *     nfc nfd nfkc nfkd lowercase strip_accents    Unicode's
 *     replace     a string or a pattern by a string            prepend, strip
 *     clean       controls, spaces, Chinese characters, accents, case, as Hugging Face's BertNormalizer has it
 *     nmt         spaces and controls, as Hugging Face's Nmt has it
 *     charsmap    SentencePiece's compiled rules, a grapheme at a time, as Hugging Face has them
 *     sentence    SentencePiece's whole normalizer
 *     spell       a printable character for every byte (byte_level.h) */
#ifndef TEXT_NORMALIZE_H
#define TEXT_NORMALIZE_H
#include "text/charsmap.h"
#include "text/pattern.h"
#include "text/trie.h"

enum { NORMALIZE_LONGEST = 64, NORMALIZE_STEPS = 64 }; /* bytes of what replace and prepend write; steps */

typedef enum NormalizeKind {
  NORMALIZE_NFC,
  NORMALIZE_NFD,
  NORMALIZE_NFKC,
  NORMALIZE_NFKD,
  NORMALIZE_LOWERCASE,
  NORMALIZE_STRIP_ACCENTS,
  NORMALIZE_REPLACE,
  NORMALIZE_PREPEND,
  NORMALIZE_STRIP,
  NORMALIZE_CLEAN,
  NORMALIZE_NMT,
  NORMALIZE_CHARSMAP,
  NORMALIZE_SENTENCE,
  NORMALIZE_SPELL,
} NormalizeKind;

typedef struct Normalize {
  NormalizeKind kind;
  char *what, *with; /* replace: a string by another; prepend: with */
  size_t nwhat, nwith;
  Pattern *pattern;                        /* replace: in place of `what` */
  bool left, right;                        /* strip */
  bool clean, chinese, accents, lowercase; /* clean: what of it */
  Charsmap *map;                           /* charsmap; sentence: NULL when it has none */
  bool dummy, each, squeeze,
      escape; /* sentence: a space before the text; before each of its parts; runs of spaces are one;
                                      * U+2581 for a space */
  Trie keep;  /* sentence: user's symbols, taken as they are */
} Normalize;

typedef struct Normalizer {
  Normalize *step;
  size_t n, cap;
} Normalizer;

void normalizer_free(Normalizer *z);
Normalize *normalizer_add(Normalizer *z, NormalizeKind kind);

/* Text that is UTF-8, in place; other is working space. *first: the whole text begins here; false when it does not any more,
 * what it began with being gone. Fails where a pattern takes too much, or the text grows too much. */
bool normalize(const Normalizer *z, PatternWork *w, bool *first, Text *text, Text *other, Diags *err);
#endif
