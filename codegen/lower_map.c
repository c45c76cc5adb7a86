/* map regions: one pass over a space, nothing summed. The last group of axes runs along the lanes; the groups before it
 * are rows, divided among the threads. A space of one group is divided in runs of 1024 elements; a rank-0 region is
 * done by the first thread. */
#include "codegen/lower.h"

bool lower_map(Lower *lo) {
  Kernel *k = lo->k;
  Space s;
  if (!space_solve(lo->g, region_anchor(lo->g), lo->tmp, &s)) return false;
  Cursor c = cursor_new(lo, &s, s.ngroups - 1);
  KV from, to;
  if (s.ngroups == 0) {
    k_if(k, k_i2(k, K_ieq, k_op0(k, K_thread), k_ic(k, 0)));
    cursor_rows(&c);
    cursor_store_rows(&c);
    k_end(k);
  } else if (s.ngroups == 1) {
    lower_share(k, lower_extents(k, &s, 0), 1024, &from, &to);
    cursor_rows(&c);
    lower_lanes(&c, from, to, cursor_store_lanes, NULL);
    k_if(k, k_i2(k, K_ieq, k_op0(k, K_thread), k_ic(k, 0)));
    cursor_store_rows(&c);
    k_end(k);
  } else {
    KV rows = k_ic(k, 1);
    for (int i = 0; i + 1 < s.ngroups; i++) rows = k_mul(k, rows, lower_extents(k, &s, i));
    lower_share(k, rows, 1, &from, &to);
    KV r = k_for(k, from, to, 1);
    cursor_rows_reset(&c);
    cursor_unflatten(&c, r, s.ngroups - 1);
    cursor_rows(&c);
    lower_lanes(&c, k_ic(k, 0), lower_extents(k, &s, s.ngroups - 1), cursor_store_lanes, NULL);
    cursor_store_rows(&c);
    k_end(k);
  }
  return true;
}
