/* Other libraries' matrix products, behind one face. A library that is not there is no error: it says so and is left out. */
#ifndef INK_BENCH_PEER_H
#define INK_BENCH_PEER_H
#include <stdbool.h>

/* c[m, n] = sum over k of a * b, all f32 and dense; a is [m, k], or [k, m] if a_turned; b is [k, n], or [n, k] if b_turned. */
typedef struct Product {
  int m, n, k;
  bool a_turned, b_turned;
  bool b_weights; /* b changes seldom: a library may lay it out as it likes beforehand */
} Product;

typedef struct Peer {
  const char *name;
  /* NULL, or why it is left out. *version: what it calls itself. */
  const char *(*open)(const char **version);
  /* For products on so many threads with the b's that follow, one for each copy; NULL: it failed. */
  void *(*prepare)(const Product *p, int threads, float *const *b, int copies);
  void (*run)(void *prepared, const float *a, int copy, float *c); /* a, c: of this copy, as the caller has them */
  void (*release)(void *prepared);
} Peer;

extern const Peer peer_openblas, peer_blis, peer_onednn;
#endif
