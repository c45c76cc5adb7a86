/* Functions in double that are the same bits on every machine: +, -, *, / and nothing else. libm's may differ in the last bit
 * between architectures, and between processors of one, which would show in initial weights, in the learning rate and in the
 * choice of a sampled token. A few units in the last place off the truth. Inline, for loops over them are what fills weights. */
#ifndef RT_EXACT_H
#define RT_EXACT_H
#include <stdint.h>
#include <string.h>

/* ln of x, a normal number in (0, 1]: x = m * 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh((m-1)/(m+1)) by its
 * series. */
static inline double exact_log(double x) {
  static const double inverse[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                   1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,  1.0};
  uint64_t bits;
  memcpy(&bits, &x, 8);
  int e = (int)(bits >> 52) - 1022;
  bits = (bits & UINT64_C(0xFFFFFFFFFFFFF)) | UINT64_C(1022) << 52; /* m in [1/2, 1) */
  double m, sum = 0;
  memcpy(&m, &bits, 8);
  int low = m < 0.70710678118654752440; /* half of all: arithmetic, not a branch */
  m *= 1 + low;
  e -= low;
  double z = (m - 1) / (m + 1), z2 = z * z;
  for (int i = 0; i < 12; i++) sum = sum * z2 + inverse[i];
  return 2 * z * sum + e * 0.69314718055994530942;
}

/* sin and cos of 2 pi t, t in [0, 1): t is brought to [-1/8, 1/8] of a turn, then Taylor series; the quarter turns are
 * undone by exchange and sign. */
static inline void exact_turn(double t, double *s, double *c) {
  static const double fs[] = {-1.0 / 1307674368000.0,
                              1.0 / 6227020800.0,
                              -1.0 / 39916800.0,
                              1.0 / 362880,
                              -1.0 / 5040,
                              1.0 / 120,
                              -1.0 / 6,
                              1.0};
  static const double fc[] = {-1.0 / 87178291200.0, 1.0 / 479001600.0, -1.0 / 3628800.0, 1.0 / 40320.0,
                              -1.0 / 720,           1.0 / 24,          -1.0 / 2,         1.0};
  int quarter = (int)(t * 4 + 0.5);
  double a = (t - quarter * 0.25) * 6.28318530717958647693, a2 = a * a, ps = 0, pc = 0;
  for (int k = 0; k < 8; k++) ps = ps * a2 + fs[k], pc = pc * a2 + fc[k];
  ps *= a;
  double either[] = {ps, pc};
  *s = either[quarter & 1] * (1 - (quarter & 2));
  *c = either[~quarter & 1] * (1 - ((quarter + 1) & 2));
}

/* e^x for x <= 0; 0 below -708, where results would be subnormal: x = k ln 2 + r with |r| <= ln 2 / 2, e^r by its series. */
static inline double exact_exp(double x) {
  static const double inverse[] = {1.0 / 13, 1.0 / 12, 1.0 / 11, 1.0 / 10, 1.0 / 9, 1.0 / 8, 1.0 / 7,
                                   1.0 / 6,  1.0 / 5,  1.0 / 4,  1.0 / 3,  1.0 / 2, 1.0};
  if (!(x >= -708)) return x < 0 ? 0 : x; /* NaN stays */
  int k = (int)(0.5 - x * 1.44269504088896340736);
  double r = x + k * 0.693147180369123816490; /* ln 2 in two parts: the first times k is exact */
  r += k * 1.90821492927058770002e-10;
  double sum = 1, scale;
  for (int i = 0; i < 13; i++) sum = sum * r * inverse[i] + 1;
  uint64_t bits = (uint64_t)(1023 - k) << 52;
  memcpy(&scale, &bits, 8);
  return sum * scale;
}
#endif
