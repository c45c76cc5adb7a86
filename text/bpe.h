/* A byte-pair model: tokens are byte strings; ranked merges of two tokens into a third make them.
 *
 * Encoding a piece (see split.h) starts from its bytes, or from the symbols that bpe_begin() says, and applies the merge
 * of lowest rank, leftmost first, until none is left (Sennrich et al. 2016, section 3.2; on bytes: Radford et al. 2019).
 * A Bpe is used by one thread at a time: encoding remembers the pieces it has seen. bpe_share() makes another one of
 * the same tables. */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H
#include "ink/base.h"
#include "text/memory.h"
#include "text/vocab.h"

enum { BPE_MOST_TOKENS = 1 << 20, BPE_LONGEST_TOKEN = 1 << 16 };

typedef struct Bpe Bpe;

Bpe *bpe_new(void);
void bpe_free(Bpe *b);

/* Adds a token and returns its id, the count of those before it. The bytes are copied. A token of n = 0 holds a place:
 * nothing finds it and it decodes to nothing. */
uint32_t bpe_add(Bpe *b, const char *bytes, size_t n);
uint32_t bpe_count(const Bpe *b);
const char *bpe_bytes(const Bpe *b, uint32_t id, size_t *n); /* id < bpe_count; valid until the next bpe_add */
bool bpe_find(const Bpe *b, const char *bytes, size_t n, uint32_t *id);

/* The merge of a pair by a rank of the caller's; equal ranks are applied leftmost first. false when the pair has one. */
bool bpe_rank(Bpe *b, uint32_t left, uint32_t right, uint32_t merged, uint32_t rank);
/* The tokens' own order as merges: a pair that makes a token has that token's rank (by id; NULL: the id itself;
 * BPE_NEVER: it is neither made nor a part). false when the tokens are so long that it would take too much work. */
#define BPE_NEVER UINT32_MAX
bool bpe_rank_all(Bpe *b, const uint32_t *rank);

/* Gives the pair the next rank; false when it has one, or when merged is not the bytes of left and right. */
bool bpe_merge(Bpe *b, uint32_t left, uint32_t right, uint32_t merged);
uint32_t bpe_merges(const Bpe *b);
void bpe_pair(const Bpe *b, uint32_t rank, uint32_t *left, uint32_t *right);

/* Call when all 256 single bytes are tokens; false names in *byte one that is not. Encoding needs it. */
bool bpe_ready(Bpe *b, int *byte);

/* Symbols to begin with in place of the bytes: appends those of a piece to out, none for text that has none (false). ctx
 * must outlive the Bpe, and is read by every thread. */
typedef bool (*BpeBegin)(const void *ctx, const char *piece, size_t n, Ids *out);
void bpe_begin(Bpe *b, BpeBegin begin, const void *ctx);
void bpe_whole(Bpe *b); /* a piece that is a token is that token, whatever the merges say */

/* Appends the ids of one piece; false when it has no symbols to begin with. */
bool bpe_encode(Bpe *b, const char *piece, size_t n, Ids *out);

/* The same tables with a memory of its own. Lives no longer than b does. */
Bpe *bpe_share(const Bpe *b);

#endif
