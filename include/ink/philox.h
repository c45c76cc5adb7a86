/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): random bits as a function of a key
 * and a counter, of no call before. Initial weights, the order of data and dropout are made of it, in the runtime, in the
 * evaluator and, written out over vectors, in kernels (codegen/lower_dropout.c). */
#ifndef INK_PHILOX_H
#define INK_PHILOX_H
#include <stdint.h>

typedef struct Philox {
  uint32_t v[4];
} Philox;

#define PHILOX_M0 UINT32_C(0xD2511F53) /* factors of a round; what is added to the key between rounds */
#define PHILOX_M1 UINT32_C(0xCD9E8D57)
#define PHILOX_W0 UINT32_C(0x9E3779B9)
#define PHILOX_W1 UINT32_C(0xBB67AE85)
enum { PHILOX_ROUNDS = 10 };

/* key = seed, counter = (position, stream). */
static inline Philox philox(uint64_t seed, uint64_t stream, uint64_t position) {
  uint32_t c0 = (uint32_t)position, c1 = (uint32_t)(position >> 32), c2 = (uint32_t)stream,
           c3 = (uint32_t)(stream >> 32);
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < PHILOX_ROUNDS; round++) {
    uint64_t p0 = (uint64_t)PHILOX_M0 * c0, p1 = (uint64_t)PHILOX_M1 * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    c0 = n0;
    c2 = n2;
    k0 += PHILOX_W0;
    k1 += PHILOX_W1;
  }
  return (Philox){{c0, c1, c2, c3}};
}
#endif
