/* A piece of text into the ids of its tokens, by one of five models.
 *
 *     bytes      byte pairs over bytes (bpe.h)
 *     chars      byte pairs over characters; what is no token falls back to byte tokens or the unknown one
 *     unigram    the most probable division (Kudo 2018)
 *     wordpiece  the longest token again and again
 *     word       the piece as a whole */
#ifndef TEXT_SUBWORD_H
#define TEXT_SUBWORD_H
#include "text/bpe.h"
#include "text/trie.h"

typedef enum SubwordKind { SUBWORD_BYTES, SUBWORD_CHARS, SUBWORD_UNIGRAM, SUBWORD_WORDPIECE, SUBWORD_WORD } SubwordKind;

typedef struct Subword {
  SubwordKind kind;
  Bpe *bpe;      /* bytes, chars */
  Vocab vocab;   /* the others: tokens by id */
  int64_t unk;   /* -1: none */
  bool fuse_unk; /* neighbouring unknown characters are one unknown token */
  bool whole;    /* bytes, chars: a piece that is a token is that token */
  bool fallback; /* unknown characters are byte tokens */
  int64_t byte[256];
  char *prefix,
      *suffix;    /* chars: of characters but the first, of the last; wordpiece: of tokens but the first; NULL: none */
  Trie keep;      /* chars: user's symbols, never merged */
  uint32_t parts; /* chars: ids from here on are characters of tokens, but none themselves; 0: none are */
  bool cut;       /* chars: no token has U+2581 behind another character, so that text may be cut before it */
  Trie trie;      /* unigram, wordpiece: ids of tokens */
  size_t longest; /* wordpiece: a piece of more characters is unknown */
  double *score;  /* unigram, by id */
  bool *user;     /* unigram: user's symbols, by id; NULL: none */
  double least, most; /* of the scores */
  bool sentence;      /* unigram: sums are floats, an unknown token is known by its id: as SentencePiece has it */
} Subword;

typedef struct SubwordWork {
  Bpe *bpe;
  struct SubwordBest {
    double score;
    uint32_t id;
    int64_t from; /* -1: not reached */
  } * best;
  size_t cap;
  Ids ends; /* unigram: of the tokens, from the last on; chars: ids */
} SubwordWork;

void subword_free(Subword *m);
bool subword_ready(Subword *m, const char *where, Diags *err); /* once the tokens are there */
SubwordWork subword_work(const Subword *m);
void subword_work_free(SubwordWork *w);

/* Appends the ids of a piece (n > 0). Fails where no token stands for a character. */
bool subword_encode(const Subword *m, SubwordWork *w, const char *piece, size_t n, Ids *out, Diags *err);

/* "<0x41>": the spelling of a byte token; -1: it is none. */
int subword_byte(const char *token, size_t n);
#endif
