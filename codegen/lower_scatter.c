/* scatter_add: updates added to rows of a table in index order, in place (region_alias: REGION_MUST). Threads divide the
 * columns of a row, so that rows named twice are still added to in order, by one thread. */
#include "codegen/lower.h"

static void add_columns(Lower *lo, KV row, KV update, KV from, KV to, int upd, int out) {
  Kernel *k = lo->k;
  int lanes = lo->t->lanes;
  KV whole = k_add(k, from, k_mul(k, k_i2(k, K_idiv, k_sub(k, to, from), k_ic(k, lanes)), k_ic(k, lanes)));
  KV i = k_for(k, from, whole, lanes), at = k_add(k, row, i);
  KV sum = k_f(k, K_fadd, k_load(k, out, at, lanes), k_load(k, upd, k_add(k, update, i), lanes), 0);
  k_store(k, out, at, lower_rounded(lo, lo->g->nodes[0].res, sum));
  k_end(k);
  KV tail = k_sub(k, to, whole), end = k_add(k, row, whole);
  k_if(k, k_i2(k, K_ilt, k_ic(k, 0), tail));
  KV x = k_load_n(k, upd, k_add(k, update, whole), tail, lanes);
  x = k_f(k, K_fadd, k_load_n(k, out, end, tail, lanes), x, 0);
  k_store_n(k, out, end, lower_rounded(lo, lo->g->nodes[0].res, x), tail);
  k_end(k);
}

bool lower_scatter_add(Lower *lo) {
  Kernel *k = lo->k;
  const Node *n = &lo->g->nodes[0];
  Type base = val_type(lo->g, n->args[0]), idx = val_type(lo->g, n->args[1]);
  KV width = k_ic(k, 1), count = k_ic(k, 1), from, to;
  for (int i = 1; i < base.rank; i++) width = k_mul(k, width, lower_extent(k, base.dim[i]));
  for (int i = 0; i < idx.rank; i++) count = k_mul(k, count, lower_extent(k, idx.dim[i]));
  lower_share(k, width, 16, &from, &to);
  KV i = k_for(k, k_ic(k, 0), count, 1), row = k_load_i(k, lo->in_buf[n->args[1]], i);
  k_if(k, k_i2(k, K_ilt, k_ic(k, -1), row));
  add_columns(lo, k_mul(k, row, width), k_mul(k, i, width), from, to, lo->in_buf[n->args[2]], lo->out_buf[0]);
  k_end(k);
  k_end(k);
  return true;
}
