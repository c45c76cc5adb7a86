/* A register tile: rows x nv vectors of accumulators, advanced by one fma (dpbf16, dpbusd) chain each. The core of contractions and attention. */
#ifndef INK_CODEGEN_LOWER_TILE_H
#define INK_CODEGEN_LOWER_TILE_H
#include "codegen/lower.h"

enum { TILE_ROWS = 16, TILE_VECTORS = 8, TILE_MAX = 64 }; /* most rows, vectors of columns, accumulators */

typedef struct Tile {
  int rows, nv, lanes;
  int a_buf, b_buf;
  KV a[TILE_ROWS]; /* element index of each row's first scalar */
  KV a_step;       /* elements to the next k */
  KV b;            /* element index of the first vector; vectors of one k lie side by side */
  KV b_step;
  KV b_count; /* valid lanes from the first vector on, 0: all */
  DType dt;   /* of the operands: a step is two k of bf16, four of i8, for which b is taken as unsigned b + 128 */
} Tile;

/* acc[row * nv + j] = fma(a[row][k], b[k][j], acc[row * nv + j]) for k in [lo, hi) in order. */
void tile_chain(Kernel *k, const Tile *t, KV lo, KV hi, int unroll, KV *acc);
/* v[i] is row i of a lanes x lanes block: transposed in place. */
void tile_transpose(Kernel *k, KV *v, int lanes);
int tile_rows(const Target *t); /* rows that fit the registers beside two vectors of columns */
#endif
