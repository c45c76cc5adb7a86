/* The unigram model: of all divisions of a piece into tokens the one whose scores (logarithms of probabilities) have the
 * largest sum. Kudo 2018, "Subword Regularization", section 3.2; found by Viterbi's algorithm. */
#ifndef TEXT_UNIGRAM_H
#define TEXT_UNIGRAM_H
#include "text/subword.h"

enum { UNIGRAM_LONGEST = 4096 }; /* bytes of a token */

bool unigram_ready(Subword *m, const char *where, Diags *err);
bool unigram_encode(const Subword *m, SubwordWork *w, const char *s, size_t n, Ids *out, Diags *err);
#endif
