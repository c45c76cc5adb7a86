/* page_keys, page_values: rows of new keys and values to their slots in a paged cache, in place (region_alias: REGION_MUST).
 * Keys lie transposed in their page, [e][64], so that the scores of a query run along lanes; values as they are, [64][e].
 * Rows (token, head) are divided among the threads; no two have one slot. */
#include "codegen/lower.h"

static bool lower_page(Lower *lo, bool keys) {
  Kernel *k = lo->k;
  const Node *n = &lo->g->nodes[0];
  Type x = val_type(lo->g, n->args[2]);
  int64_t width = x.dim[3].n, lanes = lo->t->lanes;
  KV T = lower_extent(k, x.dim[1]), G = lower_extent(k, x.dim[2]), from, to, stride = k_ic(k, keys ? PAGE_KEYS : 1);
  lower_share(k, k_mul(k, T, G), 1, &from, &to);
  KV row = k_for(k, from, to, 1), slot = k_load_i(k, lo->in_buf[n->args[1]], k_i2(k, K_idiv, row, G));
  k_if(k, k_i2(k, K_ilt, k_ic(k, -1), slot));
  KV head = k_add(k, k_mul(k, k_i2(k, K_idiv, slot, k_ic(k, PAGE_KEYS)), G), k_i2(k, K_imod, row, G));
  KV in = k_mul(k, k_i2(k, K_imod, slot, k_ic(k, PAGE_KEYS)), k_ic(k, keys ? 1 : width));
  KV base = k_add(k, k_mul(k, head, k_ic(k, width * PAGE_KEYS)), in), first = k_mul(k, row, k_ic(k, width));
  for (int tail = 0; tail < 2; tail++) {
    int64_t begin = tail ? width / lanes * lanes : 0, end = tail ? width : width / lanes * lanes;
    if (begin == end) continue;
    KV e = k_for(k, k_ic(k, begin), k_ic(k, end), tail ? 1 : lanes);
    KV v = k_load(k, lo->in_buf[n->args[2]], k_add(k, first, e), tail ? 1 : (int)lanes);
    k_store_s(k, lo->out_buf[0], k_add(k, base, k_mul(k, e, stride)), lower_rounded(lo, n->res, v), stride);
    k_end(k);
  }
  k_end(k);
  k_end(k);
  return true;
}

bool lower_page_keys(Lower *lo) {
  return lower_page(lo, true);
}

bool lower_page_values(Lower *lo) {
  return lower_page(lo, false);
}
