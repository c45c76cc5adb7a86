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
  int64_t window;        /* row i sees keys i - window + 1 to i; 0: no window, or one that hides nothing */
  int lanes, rows, wide; /* of a tile: rows, vectors of columns */
  int64_t E;             /* head size, always known at build time */
  KV B, T, H, S, G;      /* batch, queries, query heads, keys, key heads */
  KV b, h, g;            /* of the unit at work */
} Attend;

bool attend_init(Attend *w, Lower *lo);
KV attend_q(Attend *w, KV i);                             /* element index of row i of q, o, do, dq at [b, i, h, 0] */
KV attend_k(Attend *w, KV j);                             /* of row j of k, v, dk, dv at [b, j, g, 0] */
KV attend_first_key(Attend *w, KV i);                     /* that row i sees, not clamped to S */
int64_t attend_packed(const Attend *w, const Type *keys); /* elements of a packed side */
/* The keys of the block from key0 on that row i sees: [from, to), counted from key0, on either side perhaps outside. */
typedef struct Seen {
  KV from, to;
} Seen;
Seen attend_seen(Attend *w, KV i, KV key0);
/* x, keys j and following of the block, with `other` in the lanes of those that are not seen. */
KV attend_keep(Attend *w, KV x, Seen seen, int j, double other);
/* Packs rows of k or v transposed: to[block][e][KEYS]; rows past the end repeat the last. */
void attend_pack(Attend *w, int from, int to);
/* out[r][0..KEYS) = chain over e of a[row r][e] * packed[block][e][.], for `rows` rows; a_at: their element indices. */
void attend_scores(Attend *w, int a_buf, const KV *a_at, int packed, KV block, int out, KV out_at);
/* For every run of columns of a head, wide ones first: body(e0, vectors, valid lanes or 0). */
void attend_columns(Attend *w, void (*body)(Attend *w, KV e0, int nv, KV count, void *ctx), void *ctx);
/* Rows of a tile on their way along the key blocks, in scratch: scores, then probabilities, P[r][64]; C[r] the correction of O and L
 * for the last block's maximum. What stays from block to block lies at row first + r: O the sum of values so far; M, L: maximum, sum. */
typedef struct RowState {
  int P, O, M, L, C;
  KV first; /* 0, where one tile is at work */
} RowState;
RowState attend_state(Attend *w, int64_t rows); /* for so many that stay */
void attend_start(Attend *w, const RowState *f, KV r);
/* Row r, which is query i, after the scores of a key block: probabilities, the running maximum and sum. */
void attend_softmax(Attend *w, const RowState *f, KV r, KV i, KV block);
int attend_rows(const Target *t);            /* of a tile: 64 rows make tiles of equal height */
void attend_zero(Attend *w, int buf, KV at); /* E elements */
/* Where q, k, v and o are bf16: what is read often or added up is a copy in f32. Scratch for so many rows of E elements (and a
 * vector's slack each), or -1; a row to it and back, rounded. */
int attend_copy(Attend *w, const char *name, int64_t rows);
KV attend_copy_row(Attend *w, KV row); /* its element index */
void attend_widen(Attend *w, int from, KV at, int copy, KV row);
void attend_narrow(Attend *w, int copy, KV row, int to, KV at);
#endif
