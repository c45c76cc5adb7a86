/* column regions: sums along axes other than the last (bias and norm gradients, broadcasts undone), then elementwise work
 * on the sums. Threads divide the blocks of output columns, so every output's chain is one thread's and runs in index order.
 *
 * Canonical order: acc = acc + x over the flattened reduced axes, restarted every 4096, partial results added in order. */
#include "codegen/lower.h"
#include "ir/rule.h"
#include <string.h>

enum { MAX_SUMS = 8, NV = 4 };

typedef struct Column {
  Cursor c;
  Val sum[MAX_SUMS];
  int n;
  int reduced[MAX_RANK], nreduced; /* groups, in order */
  int kept[MAX_RANK], nkept;       /* groups before the last that are not reduced */
  KV cols, from;                   /* extent of the last group; first column of the block */
  bool masked;
} Column;

/* Splits a flat index over some groups. */
static void unflatten(Column *w, KV flat, const int *group, int n) {
  Kernel *k = w->c.lo->k;
  for (int i = n - 1; i >= 0; i--) {
    KV e = lower_extents(k, w->c.s, group[i]);
    w->c.idx[group[i]] = i ? k_i2(k, K_imod, flat, e) : flat;
    if (i) flat = k_i2(k, K_idiv, flat, e);
  }
}

static KV left(Column *w, int j) { /* valid columns of vector j, or 0 when all are */
  Kernel *k = w->c.lo->k;
  return w->masked ? k_sub(k, w->cols, k_add(k, w->from, k_ic(k, j * w->c.lo->t->lanes))) : 0;
}

/* One chain over reduced indices [lo, hi): the partial sums, NV vectors for each reduction. */
static void chain(Column *w, KV lo, KV hi, KV *acc) {
  Cursor *c = &w->c;
  Kernel *k = c->lo->k;
  int lanes = c->lo->t->lanes;
  KV zero = k_fc(k, 0, lanes), loop = k_for(k, lo, hi, 1);
  for (int i = 0; i < w->n * NV; i++) acc[i] = k_iter(k, zero);
  cursor_rows_reset(c);
  unflatten(w, loop, w->reduced, w->nreduced);
  cursor_rows(c);
  for (int j = 0; j < NV; j++) {
    cursor_begin(c, lanes, left(w, j));
    c->idx[c->vgroup] = k_add(k, w->from, k_ic(k, j * lanes));
    for (int s = 0; s < w->n; s++) {
      KV x = cursor_value(c, val_node(c->lo->g, w->sum[s])->args[0]);
      acc[s * NV + j] = k_f(k, K_fadd, acc[s * NV + j], k_splat(k, x, lanes), 0);
    }
  }
  k_yield(k, acc, w->n * NV);
  k_end(k);
  for (int i = 0; i < w->n * NV; i++) acc[i] = k_result(k, loop, i);
}

static void block(Column *w) {
  Cursor *c = &w->c;
  Kernel *k = c->lo->k;
  const Graph *g = c->lo->g;
  int lanes = c->lo->t->lanes, n = w->n * NV;
  KV total[MAX_SUMS * NV], part[MAX_SUMS * NV], rows = k_ic(k, 1);
  for (int i = 0; i < w->nreduced; i++) rows = k_mul(k, rows, lower_extents(k, c->s, w->reduced[i]));
  KV first = k_min(k, rows, k_ic(k, CHAIN));
  chain(w, k_ic(k, 0), first, total);
  int64_t fixed;
  if (!k_const(k, rows, &fixed) || fixed > CHAIN) {
    KV loop = k_for(k, k_ic(k, CHAIN), rows, CHAIN), sum[MAX_SUMS * NV];
    for (int i = 0; i < n; i++) sum[i] = k_iter(k, total[i]);
    chain(w, loop, k_min(k, k_add(k, loop, k_ic(k, CHAIN)), rows), part);
    for (int i = 0; i < n; i++) part[i] = k_f(k, K_fadd, sum[i], part[i], 0);
    k_yield(k, part, n);
    k_end(k);
    for (int i = 0; i < n; i++) total[i] = k_result(k, loop, i);
  }
  cursor_rows_reset(c);
  for (int j = 0; j < NV; j++) {
    KV out[MAX_OUTPUTS], count = left(w, j);
    cursor_begin(c, lanes, count);
    c->idx[c->vgroup] = k_add(k, w->from, k_ic(k, j * lanes));
    for (int s = 0; s < w->n; s++) cursor_set(c, w->sum[s], lower_rounded(c->lo, w->sum[s], total[s * NV + j]));
    for (int i = 0; i < g->noutputs; i++) out[i] = cursor_value(c, g->outputs[i].val);
    for (int i = 0; i < g->noutputs; i++) cursor_store(c, i, out[i]);
  }
}

bool lower_column(Lower *lo) {
  Kernel *k = lo->k;
  Space s;
  if (!space_solve(lo->g, region_anchor(lo->g), lo->tmp, &s)) return false;
  Column w = {.c = cursor_new(lo, &s, s.ngroups - 1)};
  for (int i = 0; i < lo->g->nnodes; i++)
    if (lo->g->nodes[i].op == OP_sum) {
      if (w.n == MAX_SUMS) return false;
      w.sum[w.n++] = lo->g->nodes[i].res;
    }
  KV outer = k_ic(k, 1);
  for (int i = 0; i + 1 < s.ngroups; i++)
    if (s.reduced >> s.start[i] & 1) {
      w.reduced[w.nreduced++] = i;
    } else {
      w.kept[w.nkept++] = i;
      outer = k_mul(k, outer, lower_extents(k, &s, i));
    }
  w.cols = lower_extents(k, &s, s.ngroups - 1);
  int width = NV * lo->t->lanes;
  KV nblocks = k_i2(k, K_idiv, k_add(k, w.cols, k_ic(k, width - 1)), k_ic(k, width)), from, to;
  lower_share(k, k_mul(k, outer, nblocks), 1, &from, &to);
  KV unit = k_for(k, from, to, 1);
  unflatten(&w, k_i2(k, K_idiv, unit, nblocks), w.kept, w.nkept);
  w.from = k_mul(k, k_i2(k, K_imod, unit, nblocks), k_ic(k, width));
  int64_t cols;
  if (k_const(k, w.cols, &cols) && cols % width == 0) {
    block(&w);
  } else {
    KV whole = k_i2(k, K_ilt, k_add(k, w.from, k_ic(k, width - 1)), w.cols);
    k_if(k, whole);
    block(&w);
    k_end(k);
    k_if(k, k_i2(k, K_ieq, whole, k_ic(k, 0)));
    w.masked = true;
    block(&w);
    k_end(k);
  }
  k_end(k);
  return true;
}
