/* Register tiles. Twelve accumulators on 16 registers (6 x 2 vectors), 28 on 32 (14 x 2): enough independent chains to
 * hide the latency of fma, and two loads of b serve all rows. x86 multiplies by a scalar in memory; NEON, which has 32 registers
 * of 4 lanes, takes some registers for scalars: 24 accumulators (12 x 2). */
#include "codegen/lower_tile.h"
#include <string.h>

int tile_rows(const Target *t) {
  if (t->lanes == 4) return t->registers >= 32 ? 12 : 4;
  return t->registers >= 32 ? 14 : 6;
}

static void steps(Kernel *k, const Tile *t, KV step, KV *acc) {
  KV b[TILE_VECTORS], bo = k_add(k, t->b, k_mul(k, step, t->b_step)), ao = k_mul(k, step, t->a_step);
  for (int j = 0; j < t->nv; j++) {
    KV off = k_ic(k, j * t->lanes), at = k_add(k, bo, off);
    b[j] =
        t->b_count ? k_load_n(k, t->b_buf, at, k_sub(k, t->b_count, off), t->lanes) : k_load(k, t->b_buf, at, t->lanes);
    if (t->dt == DT_i8) b[j] = k_f(k, K_flip, b[j], 0, 0);
  }
  for (int i = 0; i < t->rows; i++) {
    KV a = k_splat(k, k_load(k, t->a_buf, k_add(k, t->a[i], ao), 1), t->lanes);
    for (int j = 0; j < t->nv; j++)
      acc[i * t->nv + j] = t->dt == DT_i8 ? k_f(k, K_dpbusd, b[j], a, acc[i * t->nv + j])
                                          : k_f(k, t->dt == DT_bf16 ? K_dpbf16 : K_fma, a, b[j], acc[i * t->nv + j]);
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

/* Blocks of 4 x 4 within groups of four lanes first (unpacklo/hi, then pairs), then whole groups change places: every shuffle
 * is one instruction of SSE, AVX or AVX-512. */
void tile_transpose(Kernel *k, KV *v, int lanes) {
  uint8_t mask[KIR_LANES];
  KV t[KIR_LANES];
  for (int step = 1; step <= 2; step *= 2) { /* singles of rows i, i + 1; then pairs of rows i, i + 2 */
    for (int i = 0; i < lanes; i++) {
      bool hi = i & step;
      for (int l = 0; l < lanes; l++) {
        int q = l & 3, from = step == 1 ? q / 2 + 2 * hi : (q & 1) + 2 * hi;
        mask[l] = (uint8_t)((l & ~3) + from + ((step == 1 ? q & 1 : q / 2) ? lanes : 0));
      }
      int to =
          step == 1 ? i : (i & ~3) | (i & 1) << 1 | (i >> 1 & 1); /* the halves of step 1 are columns 0, 1 and 2, 3 */
      t[to] = k_shuffle(k, v[i & ~step], v[i | step], mask, lanes);
    }
    memcpy(v, t, sizeof(KV) * (size_t)lanes);
  }
  for (int step = 4; step < lanes; step *= 2) { /* groups of lanes of rows i, i + step */
    for (int i = 0; i < lanes; i++) {
      bool hi = i & step;
      for (int l = 0; l < lanes; l++) mask[l] = (uint8_t)(((l & step) ? lanes : 0) + ((l & ~step) | (hi ? step : 0)));
      t[i] = k_shuffle(k, v[i & ~step], v[i | step], mask, lanes);
    }
    memcpy(v, t, sizeof(KV) * (size_t)lanes);
  }
}
