/* Counter-based randomness: every number is a function of a seed, a stream and a position, of no call before it (Philox). So
 * initial weights do not depend on threads, and a resumed run needs no saved generator. */
#ifndef RT_RANDOM_H
#define RT_RANDOM_H
#include "ink/philox.h"
#include "runtime/inkrt.h"

uint64_t random_stream(const char *name);                                             /* a stream number from a name */
double random_uniform(uint64_t seed, uint64_t stream, uint64_t position);             /* [0, 1), 53 bits */
uint64_t random_below(uint64_t seed, uint64_t stream, uint64_t position, uint64_t n); /* [0, n), n > 0 */

/* The key of a micro-batch's dropout masks, as the program's two scalars take it. */
void random_dropout_key(uint64_t seed, int64_t step, int64_t micro_batch, int32_t key[2]);

/* Fills every parameter as its row says, from the seed and its name, on all threads. */
void init_params(Engine *e, uint64_t seed);

/* A permutation of 0 .. n-1 as a function of (seed, epoch): eight rounds of a Feistel network over the next power
 * of four, walked until the value falls below n (Black and Rogaway 2002). No table, so the position in an epoch is all
 * the state a loader has. */
typedef struct Shuffle {
  uint64_t n, key[8];
  int half_bits;
} Shuffle;
Shuffle shuffle_new(uint64_t n, uint64_t seed, uint64_t epoch);
uint64_t shuffle_at(const Shuffle *s, uint64_t i);
#endif
