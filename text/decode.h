/* Tokens back to text: a list of steps over the spellings of the tokens, in order.
 *
 *     byte_level   spelled bytes (byte_level.h) of all tokens, as one text
 *     fallback     runs of byte tokens "<0xE4>" are characters, or U+FFFD each
 *     fuse         all tokens become one
 *     metaspace    U+2581 is a space, and nothing in the first token
 *     replace, strip, wordpiece, suffix    within each token
 *     join         spaces between the tokens
 *     sentence     SentencePiece's whole decoder
 *
 * Which bytes may still change when more tokens follow is told, too: that is what decoding in portions stands on. */
#ifndef TEXT_DECODE_H
#define TEXT_DECODE_H
#include "text/memory.h"
#include "text/pattern.h"
#include "text/vocab.h"

typedef enum DecodeKind {
  DECODE_BYTE_LEVEL,
  DECODE_FALLBACK,
  DECODE_FUSE,
  DECODE_METASPACE,
  DECODE_REPLACE,
  DECODE_STRIP,
  DECODE_WORDPIECE,
  DECODE_SUFFIX,
  DECODE_JOIN,
  DECODE_SENTENCE,
} DecodeKind;

typedef struct Decode {
  DecodeKind kind;
  char *what,
      *with; /* metaspace, strip: the character; replace: what by with; wordpiece: prefix; suffix; sentence: the unknown */
  size_t nwhat, nwith;
  Pattern *pattern;         /* replace: in place of `what` */
  bool first;               /* metaspace, sentence: the first token loses its space */
  bool squeeze;             /* sentence: and the tokens after it that begin with one, as long as there is no text */
  bool cleanup;             /* wordpiece: no space before punctuation */
  uint32_t start, stop;     /* strip: at most so many characters */
  const signed char *kinds; /* sentence: DECODE_IS_... by id */
} Decode;

enum { DECODE_IS_TEXT, DECODE_IS_CONTROL, DECODE_IS_UNKNOWN, DECODE_IS_BYTE };

typedef struct Decoder {
  Decode *step;
  size_t n, cap;
} Decoder;

void decoder_free(Decoder *z);
Decode *decoder_add(Decoder *z, DecodeKind kind);

/* Appends the text of ids, all below spelled->count. first: nothing comes before them. raw: bytes as they are, be they UTF-8 or not
 * (one token's share). Returns how many of the bytes stay, whatever follows; they are all that comes of the first *whole ids, where
 * that can be told (else 0). */
size_t decode(const Decoder *z, const Vocab *spelled, const uint32_t *ids, size_t n, bool first, bool raw, Text *out,
              size_t *whole);
bool decoder_late(const Decoder *z); /* steps see the text as a whole, so that nothing stays before its end */
#endif
