/* Shared by attention forward and backward: extents, heads, packed keys, score tiles. */
#ifndef INK_CODEGEN_LOWER_ATTEND_H
#define INK_CODEGEN_LOWER_ATTEND_H
#include "codegen/lower_tile.h"

enum { KEYS = 64 }; /* key blocks lie at multiples of this (docs/numerics.md) */

typedef struct Attend {
  Lower *lo;
  Kernel *k;
  const Node *n;
  bool causal, narrow; /* narrow: bf16 */
  double scale;
  int lanes, rows;
  int64_t E;        /* head size, always known at build time */
  KV B, T, H, S, G; /* batch, queries, query heads, keys, key heads */
  KV b, h, g;       /* of the unit at work */
} Attend;

bool attend_init(Attend *w, Lower *lo);
KV attend_q(Attend *w, KV i);                             /* element index of row i of q, o, do, dq at [b, i, h, 0] */
KV attend_k(Attend *w, KV j);                             /* of row j of k, v, dk, dv at [b, j, g, 0] */
int64_t attend_packed(const Attend *w, const Type *keys); /* elements of a packed side */
/* Packs rows of k or v transposed: to[block][e][KEYS]; rows past the end repeat the last. */
void attend_pack(Attend *w, int from, int to);
/* out[r][0..KEYS) = chain over e of a[row r][e] * packed[block][e][.], for `rows` rows; a_at: their element indices. */
void attend_scores(Attend *w, int a_buf, const KV *a_at, int packed, KV block, int out, KV out_at);
/* For every run of columns of a head, wide ones first: body(e0, vectors, valid lanes or 0). */
void attend_columns(Attend *w, void (*body)(Attend *w, KV e0, int nv, KV count, void *ctx), void *ctx);
/* Row r of a tile after a key block: its scores in P[r][64] become probabilities, with the running maximum M, sum L, and correction
 * C. valid: how many keys of the block the row sees, at least 1 if it is its first. */
typedef struct Softmax {
  int P, M, L, C;
} Softmax;
void attend_softmax(Attend *w, const Softmax *f, KV r, KV valid);
int attend_rows(const Target *t);            /* of a tile: 64 rows make tiles of equal height */
void attend_zero(Attend *w, int buf, KV at); /* E elements */
/* Where q, k, v and o are bf16: what is read often or added up is a copy in f32. Scratch for so many rows of E elements (and a
 * vector's slack each), or -1; a row to it and back, rounded. */
int attend_copy(Attend *w, const char *name, int64_t rows);
KV attend_copy_row(Attend *w, KV row); /* its element index */
void attend_widen(Attend *w, int from, KV at, int copy, KV row);
void attend_narrow(Attend *w, int copy, KV row, int to, KV at);
#endif
