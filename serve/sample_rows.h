/* The passes over a row of logits, in vectors of ROWS_WIDTH f32 for the instructions ROWS_TARGET names; sample.c includes this
 * once for each it can have. Whatever the width, a row runs through the same 16 lanes in the same order: the same bits.
 *
 * Rows come in blocks of 64, groups in 16 blocks. */
#define ROWS_JOIN_(a, b) a##b
#define ROWS_JOIN(a, b) ROWS_JOIN_(a, b)
#define ROWS(name) ROWS_JOIN(name##_, ROWS_WIDTH)
#define F ROWS(F)
#define I ROWS(I)

typedef float F __attribute__((vector_size(ROWS_WIDTH * 4)));
typedef int32_t I __attribute__((vector_size(ROWS_WIDTH * 4)));
enum { ROWS(PARTS) = LANES / ROWS_WIDTH };

ROWS_TARGET static inline F ROWS(load)(const float *x) {
  F v;
  memcpy(&v, x, sizeof(v));
  return v;
}

ROWS_TARGET static inline F ROWS(larger)(F a, F b) {
  I which = a > b;
  return (F)(((I)a & which) | ((I)b & ~which));
}

/* exp of x <= 0, 0 below -87; an ulp off. As in kernels (n = round(x / ln 2), exp = 2^n (1 + r + r^2 q(r))), but with products
 * and sums apart instead of fma, which not every machine has. */
ROWS_TARGET static inline F ROWS(weight)(F x) {
  const float big = 12582912.f; /* 1.5 * 2^23, of bits 4B400000: what is added to it is rounded to an integer */
  I warm = x > -87.f;
  F y = (F)((I)x & warm), t = y * 1.44269504f + big, n = t - big;
  F r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
  F q = (((1.37450593e-3f * r + 8.36895313e-3f) * r + 0.0416696519f) * r + 0.166665182f) * r + 0.499999881f;
  F power = (F)(((I)t - (0x4B400000 - 127)) << 23);
  return (F)((I)((r * r * q + r + 1.f) * power) & warm);
}

/* The largest of each block. False: there is a NaN. */
ROWS_TARGET static bool ROWS(largest)(const float *x, int blocks, float *largest) {
  I bad = {0};
  for (int b = 0; b < blocks; b++, x += BLOCK) {
    F m[ROWS(PARTS)];
    for (int i = 0; i < ROWS(PARTS); i++) m[i] = ROWS(load)(x + i * ROWS_WIDTH), bad |= m[i] != m[i];
    for (int k = LANES; k < BLOCK; k += LANES)
      for (int i = 0; i < ROWS(PARTS); i++) {
        F v = ROWS(load)(x + k + i * ROWS_WIDTH);
        bad |= v != v;
        m[i] = ROWS(larger)(v, m[i]);
      }
    for (int i = 1; i < ROWS(PARTS); i++) m[0] = ROWS(larger)(m[i], m[0]);
    float most = m[0][0];
    for (int i = 1; i < ROWS_WIDTH; i++) most = m[0][i] > most ? m[0][i] : most;
    largest[b] = most;
  }
  int32_t any = 0;
  for (int i = 0; i < ROWS_WIDTH; i++) any |= bad[i];
  return !any;
}

/* w = exp((x - max) * scale) of n logits, a multiple of LANES. */
ROWS_TARGET static void ROWS(weigh)(const float *x, int n, float max, float scale, float *w) {
  for (int k = 0; k < n; k += ROWS_WIDTH) {
    F v = ROWS(weight)((ROWS(load)(x + k) - max) * scale);
    memcpy(w + k, &v, sizeof(v));
  }
}

/* The sum of the weights of each group: each lane in f32, then the lanes in double. */
ROWS_TARGET static void ROWS(sums)(const float *x, int groups, float max, float scale, double *sum) {
  for (int g = 0; g < groups; g++, x += GROUP) {
    F lane[ROWS(PARTS)] = {0};
    for (int k = 0; k < GROUP; k += LANES)
      for (int i = 0; i < ROWS(PARTS); i++) lane[i] += ROWS(weight)((ROWS(load)(x + k + i * ROWS_WIDTH) - max) * scale);
    double all = 0;
    for (int i = 0; i < LANES; i++) all += (double)lane[i / ROWS_WIDTH][i % ROWS_WIDTH];
    sum[g] = all;
  }
}

static const RowPasses ROWS(passes) = {ROWS(largest), ROWS(weigh), ROWS(sums)};
#undef F
#undef I
#undef ROWS
#undef ROWS_JOIN
#undef ROWS_JOIN_
#undef ROWS_WIDTH
#undef ROWS_TARGET
