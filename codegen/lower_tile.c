/* Register tiles. Twelve accumulators on 16 registers (6 x 2 vectors), 28 on 32 (14 x 2): enough independent chains to
 * hide the latency of fma, and two loads of b serve all rows. */
#include "codegen/lower_tile.h"
#include <string.h>

int tile_rows(const Target *t) {
  return t->registers >= 32 ? 14 : t->lanes == 4 ? 4 : 6;
}

static void steps(Kernel *k, const Tile *t, KV step, KV *acc) {
  KV b[8], bo = k_add(k, t->b, k_mul(k, step, t->b_step)), ao = k_mul(k, step, t->a_step);
  for (int j = 0; j < t->nv; j++) {
    KV off = k_ic(k, j * t->lanes), at = k_add(k, bo, off);
    b[j] =
        t->b_count ? k_load_n(k, t->b_buf, at, k_sub(k, t->b_count, off), t->lanes) : k_load(k, t->b_buf, at, t->lanes);
  }
  for (int i = 0; i < t->rows; i++) {
    KV a = k_splat(k, k_load(k, t->a_buf, k_add(k, t->a[i], ao), 1), t->lanes);
    for (int j = 0; j < t->nv; j++) acc[i * t->nv + j] = k_f(k, K_fma, a, b[j], acc[i * t->nv + j]);
  }
}

static void run(Kernel *k, const Tile *t, KV lo, KV hi, int unroll, KV *acc) {
  int n = t->rows * t->nv;
  KV loop = k_for(k, lo, hi, unroll);
  for (int i = 0; i < n; i++) acc[i] = k_iter(k, acc[i]);
  for (int u = 0; u < unroll; u++) steps(k, t, k_add(k, loop, k_ic(k, u)), acc);
  k_yield(k, acc, n);
  k_end(k);
  for (int i = 0; i < n; i++) acc[i] = k_result(k, loop, i);
}

void tile_chain(Kernel *k, const Tile *t, KV lo, KV hi, int unroll, KV *acc) {
  KV depth = k_sub(k, hi, lo), u = k_ic(k, unroll), whole = k_add(k, lo, k_mul(k, k_i2(k, K_idiv, depth, u), u));
  run(k, t, lo, whole, unroll, acc);
  int64_t d;
  if (unroll > 1 && !(k_const(k, depth, &d) && d % unroll == 0)) run(k, t, whole, hi, 1, acc);
}

void tile_transpose(Kernel *k, KV *v, int lanes) {
  uint8_t lo[KIR_LANES], hi[KIR_LANES];
  for (int i = 0; i < lanes; i++) {
    lo[i] = (uint8_t)(i / 2 + (i & 1 ? lanes : 0));
    hi[i] = (uint8_t)(lanes / 2 + i / 2 + (i & 1 ? lanes : 0));
  }
  for (int round = 1; round < lanes; round *= 2) { /* log2(lanes) rounds of interleaving rows i and i + lanes/2 */
    KV t[KIR_LANES];
    for (int i = 0; i < lanes / 2; i++) {
      t[2 * i] = k_shuffle(k, v[i], v[i + lanes / 2], lo, lanes);
      t[2 * i + 1] = k_shuffle(k, v[i], v[i + lanes / 2], hi, lanes);
    }
    memcpy(v, t, sizeof(KV) * (size_t)lanes);
  }
}
