/* Philox over vectors: one block a lane, of which the first word decides about the lane's element. Each element has a counter of
 * its own, so any lanes at any place give the bits of the evaluator (ir/eval_dropout.c). */
#include "codegen/lower.h"
#include "ink/philox.h"

static KV bits(Kernel *k, uint32_t x, int lanes) {
  return k_word(k, k_ic(k, x), k_ic(k, 0), 0, lanes);
}

static KV xor3(Kernel *k, KV a, KV b, KV c) {
  return k_f(k, K_xor, k_f(k, K_xor, a, b, 0), c, 0);
}

KV lower_dropped(Kernel *k, const KV *key, KV stream, KV at, KV stride, bool far, uint32_t limit, int lanes) {
  KV none = k_ic(k, 0), m0 = bits(k, PHILOX_M0, lanes), m1 = bits(k, PHILOX_M1, lanes);
  KV c0 = k_word(k, at, stride, 0, lanes), c1 = far ? k_word(k, at, stride, 1, lanes) : bits(k, 0, lanes);
  KV c2 = k_word(k, stream, none, 0, lanes), c3 = bits(k, 0, lanes);
  for (int round = 0; round < PHILOX_ROUNDS; round++) {
    KV k0 = k_word(k, k_add(k, key[0], k_ic(k, round * (int64_t)PHILOX_W0)), none, 0, lanes);
    KV k1 = k_word(k, k_add(k, key[1], k_ic(k, round * (int64_t)PHILOX_W1)), none, 0, lanes);
    KV n0 = xor3(k, k_f(k, K_umulh, m1, c2, 0), c1, k0), n2 = xor3(k, k_f(k, K_umulh, m0, c0, 0), c3, k1);
    c1 = k_f(k, K_umul, m1, c2, 0);
    c3 = k_f(k, K_umul, m0, c0, 0);
    c0 = n0;
    c2 = n2;
  }
  return k_f(k, K_ult, c0, bits(k, limit, lanes), 0);
}
