/* Reductions and contractions of the evaluator, for one type of number. Included twice by eval_reduce.c, with
 *   REAL    float or double           NAME(x)  x with a suffix
 *   FMA     fmaf or fma               WIDE     numbers a row of the contraction's inner loop
 * The orders are those of docs/numerics.md, for doubles too: one text, so that the two modes differ in rounding alone. */

/* acc[m][j] = fma(a[m][k], b[k][j], acc[m][j]) for 4 rows m, WIDE columns j, k from 0 in order: the chains of 4 * WIDE results. */
static inline ALWAYS_INLINE void NAME(chain_body)(const REAL *a, int64_t lda, const REAL *b, int64_t nk, int rows,
                                                  REAL acc[4][WIDE]) {
  if (rows == 4) {
    for (int64_t k = 0; k < nk; k++) {
      REAL a0 = a[k], a1 = a[lda + k], a2 = a[2 * lda + k], a3 = a[3 * lda + k];
      const REAL *r = b + k * WIDE;
      for (int j = 0; j < WIDE; j++) {
        acc[0][j] = FMA(a0, r[j], acc[0][j]);
        acc[1][j] = FMA(a1, r[j], acc[1][j]);
        acc[2][j] = FMA(a2, r[j], acc[2][j]);
        acc[3][j] = FMA(a3, r[j], acc[3][j]);
      }
    }
    return;
  }
  for (int m = 0; m < rows; m++)
    for (int64_t k = 0; k < nk; k++)
      for (int j = 0; j < WIDE; j++) acc[m][j] = FMA(a[m * lda + k], b[k * WIDE + j], acc[m][j]);
}
WITH_FMA(NAME(chain), NAME(chain_body),
         (const REAL *a, int64_t lda, const REAL *b, int64_t nk, int rows, REAL acc[4][WIDE]),
         (a, lda, b, nk, rows, acc))

typedef void NAME(Chain)(const REAL *a, int64_t lda, const REAL *b, int64_t nk, int rows, REAL acc[4][WIDE]);

/* c[m][n] (dense) of a[m][k] (dense) and b, panels [n / WIDE][k][WIDE]; chains restart every 4096 k unless they start
 * from c (from). */
static void NAME(product)(const REAL *a, const REAL *b, REAL *c, int64_t nm, int64_t nn, int64_t nk, bool from,
                          NAME(Chain) * chain) {
  for (int64_t n = 0; n < nn; n += WIDE) {
    int wide = nn - n < WIDE ? (int)(nn - n) : WIDE;
    for (int64_t m = 0; m < nm; m += 4) {
      int rows = nm - m < 4 ? (int)(nm - m) : 4;
      int64_t k = 0;
      do {
        int64_t now = !from && nk - k > 4096 ? 4096 : nk - k;
        REAL acc[4][WIDE];
        memset(acc, 0, sizeof acc);
        for (int i = 0; from && i < rows; i++) memcpy(acc[i], c + (m + i) * nn + n, sizeof(REAL) * (size_t)wide);
        chain(a + m * nk + k, nk, b + n * nk + k * WIDE, now, rows, acc);
        for (int i = 0; i < rows; i++) {
          REAL *to = c + (m + i) * nn + n;
          for (int j = 0; j < wide; j++) to[j] = k == 0 ? acc[i][j] : to[j] + acc[i][j];
        }
        k += now;
      } while (k < nk);
    }
  }
}

/* Sum over the trailing axes: rows of n numbers, 64 lanes, then the tree. */
static void NAME(sum_rows)(const REAL *x, int64_t rows, int64_t n, REAL *out) {
  for (int64_t r = 0; r < rows; r++, x += n) {
    REAL lane[64] = {0};
    for (int64_t i = 0; i < n; i++) lane[i % 64] = lane[i % 64] + x[i];
    for (int s = 32; s > 0; s /= 2)
      for (int j = 0; j < s; j++) lane[j] = lane[j] + lane[j + s];
    out[r] = lane[0];
  }
}

/* Sum over the leading axis of x[n][cols]: a chain a column, restarted every 4096. */
static void NAME(sum_columns)(const REAL *x, int64_t n, int64_t cols, REAL *out, REAL *acc) {
  int64_t i = 0;
  do {
    memset(acc, 0, sizeof(REAL) * (size_t)cols);
    int64_t first = i, end = n - i < 4096 ? n : i + 4096;
    for (; i < end; i++)
      for (int64_t c = 0; c < cols; c++) acc[c] = acc[c] + x[i * cols + c];
    for (int64_t c = 0; c < cols; c++) out[c] = first == 0 ? acc[c] : out[c] + acc[c];
  } while (i < n);
}

static void NAME(max_rows)(const REAL *x, int64_t rows, int64_t n, REAL *out) {
  for (int64_t r = 0; r < rows; r++, x += n) {
    REAL lane[64];
    for (int j = 0; j < 64; j++) lane[j] = -(REAL)INFINITY;
    for (int64_t i = 0; i < n; i++) lane[i % 64] = x[i] > lane[i % 64] ? x[i] : lane[i % 64];
    for (int s = 32; s > 0; s /= 2)
      for (int j = 0; j < s; j++) lane[j] = lane[j] > lane[j + s] ? lane[j] : lane[j + s];
    out[r] = lane[0];
  }
}

/* b[k][n] (dense) to panels of WIDE columns, zeros past the end. */
static void NAME(panels)(const REAL *b, int64_t nk, int64_t nn, REAL *out) {
  for (int64_t n = 0; n < nn; n += WIDE)
    for (int64_t k = 0; k < nk; k++)
      for (int j = 0; j < WIDE; j++) out[n * nk + k * WIDE + j] = n + j < nn ? b[k * nn + n + j] : 0;
}

/* Rotary embedding of x[b, t, h, e] by c, s[p, e/2]; positions were checked. Each product and sum is rounded. */
static void NAME(rotate)(const REAL *x, const REAL *c, const REAL *s, const int32_t *pos, const int64_t *n, bool pairs,
                         bool inverse, REAL *y) {
  int64_t half = n[3] / 2;
  for (int64_t r = 0; r < n[0] * n[1]; r++) {
    const REAL *cr = c + pos[r % n[1]] * half, *sr = s + pos[r % n[1]] * half;
    for (int64_t h = 0; h < n[2]; h++, x += n[3], y += n[3])
      for (int64_t i = 0; i < half; i++) {
        int64_t i1 = pairs ? 2 * i : i, i2 = pairs ? 2 * i + 1 : half + i;
        REAL sine = inverse ? -sr[i] : sr[i];
        y[i1] = x[i1] * cr[i] - x[i2] * sine;
        y[i2] = x[i2] * cr[i] + x[i1] * sine;
      }
  }
}
