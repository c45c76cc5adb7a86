/* Text into the pieces that no token crosses: a list of steps, each of which divides the pieces of the one before.
 *
 *     split      by a pattern, a string or a class of characters; what is between the matches, and the matches, are pieces
 *     prepend    a string before every piece, or the text's first, unless it begins with it
 *     swap       a string by another, within the pieces
 *     spell      a printable character for every byte (byte_level.h) */
#ifndef TEXT_PRETOKENIZE_H
#define TEXT_PRETOKENIZE_H
#include "text/memory.h"
#include "text/pattern.h"

typedef enum SplitMode { /* what becomes of a match */
                         SPLIT_REMOVED,
                         SPLIT_ISOLATED,
                         SPLIT_PREVIOUS, /* joins the piece before */
                         SPLIT_NEXT,
                         SPLIT_CONTIGUOUS, /* neighbouring ones are one piece */
} SplitMode;

typedef enum CharClass { CLASS_SPACE = 1, CLASS_PUNCTUATION, CLASS_NUMERIC } CharClass;
typedef enum PretokenizeKind {
  PRETOKENIZE_SPLIT,
  PRETOKENIZE_PREPEND,
  PRETOKENIZE_SWAP,
  PRETOKENIZE_SPELL
} PretokenizeKind;

typedef struct Pretokenize {
  PretokenizeKind kind;
  SplitMode mode;
  bool invert;      /* split: what matches is between the pieces */
  Pattern *pattern; /* split: this, else the class, else the string `what` */
  CharClass class;
  char *what, *with; /* swap: what by with; prepend: with */
  size_t nwhat, nwith;
  bool first; /* prepend: the text's first piece alone */
} Pretokenize;

typedef struct Pretokenizer {
  Pretokenize *step;
  size_t n, cap;
} Pretokenizer;

typedef struct Piece {
  size_t at, n;
  bool first; /* begins where the whole text does */
} Piece;

typedef struct Pieces { /* of one text; reused */
  Piece *v;
  size_t n, cap;
  Piece *other; /* working space: pieces, matches, text */
  size_t cap_other;
  struct Match {
    size_t at, end;
    bool match;
  } * match;
  size_t nmatch, cap_match;
  Text made;
} Pieces;

void pretokenizer_free(Pretokenizer *z);
Pretokenize *pretokenizer_add(Pretokenizer *z, PretokenizeKind kind);
void pieces_free(Pieces *p);

/* The pieces of text, which steps may rewrite. first: the whole text begins here. */
bool pretokenize(const Pretokenizer *z, PatternWork *w, bool first, Text *text, Pieces *out, Diags *err);
#endif
