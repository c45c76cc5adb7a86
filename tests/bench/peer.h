/* Other libraries' matrix products, behind one face. A library that is not there is no error: it says so and is left out. */
#ifndef INK_BENCH_PEER_H
#define INK_BENCH_PEER_H
#include "ir/type.h"

/* c[m, n] = sum over k of a * b, all dense, a and b of dtype, c f32, or i32 of i8; a is [m, k], or [k, m] if a_turned; b is [k, n], or [n, k] if b_turned. */
typedef struct Product {
  int m, n, k;
  bool a_turned, b_turned;
  bool b_weights; /* b changes seldom: a library may lay it out as it likes beforehand */
  DType dtype;    /* f32, bf16, i8 */
} Product;

typedef struct Peer {
  const char *name;
  /* For operands of dtype: NULL, or why it is left out. *version: what it calls itself. */
  const char *(*open)(DType dtype, const char **version);
  /* For products on so many threads with the b's that follow, one for each copy; NULL: it failed. */
  void *(*prepare)(const Product *p, int threads, void *const *b, int copies);
  void (*run)(void *prepared, const void *a, int copy, void *c); /* a, c: of this copy, as the caller has them */
  void (*release)(void *prepared);
} Peer;

extern const Peer peer_openblas, peer_blis, peer_onednn;
#endif
