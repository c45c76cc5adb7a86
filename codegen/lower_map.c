/* map regions: one pass over a space, nothing summed. The last group of axes runs along the lanes; the groups before it
 * are rows, divided among the threads. A space of one group is divided in runs of 1024 elements; a rank-0 region is
 * done by the first thread. */
#include "codegen/lower.h"

static void store_all(Cursor *c, KV at, void *unused) {
  const Graph *g = c->lo->g;
  KV out[MAX_OUTPUTS];
  (void)unused;
  c->idx[c->vgroup] = at;
  for (int i = 0; i < g->noutputs; i++) /* all loads before any store: outputs may share inputs' buffers */
    if (cursor_is_full(c, g->outputs[i].val)) out[i] = cursor_value(c, g->outputs[i].val);
  for (int i = 0; i < g->noutputs; i++)
    if (cursor_is_full(c, g->outputs[i].val)) cursor_store(c, i, out[i]);
}

static void store_rows(Cursor *c) {
  const Graph *g = c->lo->g;
  cursor_begin(c, 1, 0);
  for (int i = 0; i < g->noutputs; i++)
    if (!cursor_is_full(c, g->outputs[i].val)) cursor_store(c, i, cursor_value(c, g->outputs[i].val));
}

bool lower_map(Lower *lo) {
  Kernel *k = lo->k;
  Space s;
  if (!space_solve(lo->g, region_anchor(lo->g), lo->tmp, &s)) return false;
  Cursor c = cursor_new(lo, &s, s.ngroups - 1);
  KV from, to;
  if (s.ngroups == 0) {
    k_if(k, k_i2(k, K_ieq, k_op0(k, K_thread), k_ic(k, 0)));
    cursor_rows(&c);
    store_rows(&c);
    k_end(k);
  } else if (s.ngroups == 1) {
    lower_share(k, lower_extents(k, &s, 0), 1024, &from, &to);
    cursor_rows(&c);
    lower_lanes(&c, from, to, store_all, NULL);
    k_if(k, k_i2(k, K_ieq, k_op0(k, K_thread), k_ic(k, 0)));
    store_rows(&c);
    k_end(k);
  } else {
    KV rows = k_ic(k, 1);
    for (int i = 0; i + 1 < s.ngroups; i++) rows = k_mul(k, rows, lower_extents(k, &s, i));
    lower_share(k, rows, 1, &from, &to);
    KV r = k_for(k, from, to, 1);
    cursor_rows_reset(&c);
    cursor_unflatten(&c, r, s.ngroups - 1);
    cursor_rows(&c);
    lower_lanes(&c, k_ic(k, 0), lower_extents(k, &s, s.ngroups - 1), store_all, NULL);
    store_rows(&c);
    k_end(k);
  }
  return true;
}
