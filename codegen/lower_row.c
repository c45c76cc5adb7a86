/* row regions: sums and maxima along the last group of axes, with everything before, between and after them in one
 * kernel. A row is walked once for each level of reductions (those that depend on none, those that depend on these, ...)
 * and once more for the outputs; what is cheap to recompute is recomputed, so a row is read from L1 or L2 after the first walk.
 *
 * Canonical order: 64 lanes, i mod 64, then the tree: 64 / lanes accumulators, whatever the vector width. */
#include "codegen/lower.h"
#include <string.h>

enum { ACC = 64, MAX_RED = 12 };

typedef struct Walk {
  Val red[MAX_RED]; /* reductions of this level */
  bool max[MAX_RED];
  int n;
  KV acc[MAX_RED][ACC];
} Walk;

/* One block of 64 columns starting at `at`: folds each reduction's values into its accumulators. tail: valid columns from `at`, or 0. */
static void fold(Cursor *c, Walk *w, KV at, KV tail) {
  Kernel *k = c->lo->k;
  int lanes = c->lo->t->lanes;
  for (int j = 0; j < 64 / lanes; j++) {
    KV first = k_ic(k, j * lanes), left = tail ? k_sub(k, tail, first) : 0;
    cursor_begin(c, lanes, left);
    c->idx[c->vgroup] = k_add(k, at, first);
    for (int r = 0; r < w->n; r++) {
      KV x = cursor_value(c, val_node(c->lo->g, w->red[r])->args[0]);
      x = k_splat(k, x, lanes);
      if (left) x = k_keep_n(k, x, left, w->max[r] ? -__builtin_inf() : 0);
      w->acc[r][j] = lower_combine(k, w->max[r] ? x : w->acc[r][j], w->max[r] ? w->acc[r][j] : x, w->max[r]);
    }
  }
}

static void reduce_level(Cursor *c, Walk *w, KV cols) {
  Kernel *k = c->lo->k;
  int lanes = c->lo->t->lanes, nv = 64 / lanes;
  KV whole = k_mul(k, k_i2(k, K_idiv, cols, k_ic(k, 64)), k_ic(k, 64)), init[MAX_RED], next[MAX_RED * ACC];
  for (int r = 0; r < w->n; r++) init[r] = k_fc(k, w->max[r] ? -__builtin_inf() : 0, lanes);
  KV loop = k_for(k, k_ic(k, 0), whole, 64);
  for (int r = 0; r < w->n; r++)
    for (int j = 0; j < nv; j++) w->acc[r][j] = k_iter(k, init[r]);
  fold(c, w, loop, 0);
  for (int r = 0; r < w->n; r++)
    for (int j = 0; j < nv; j++) next[r * nv + j] = w->acc[r][j];
  k_yield(k, next, w->n * nv);
  k_end(k);
  for (int r = 0; r < w->n; r++)
    for (int j = 0; j < nv; j++) w->acc[r][j] = k_result(k, loop, r * nv + j);
  int64_t a, b;
  if (!(k_const(k, cols, &a) && k_const(k, whole, &b) && a == b)) fold(c, w, whole, k_sub(k, cols, whole));
  for (int r = 0; r < w->n; r++)
    cursor_set(c, w->red[r], lower_rounded(c->lo, w->red[r], lower_tree(k, w->acc[r], nv, lanes, w->max[r])));
}

static void one_row(Cursor *c, KV cols) {
  const Graph *g = c->lo->g;
  bool any = false;
  cursor_rows(c);
  for (;;) {
    Walk w = {.n = 0};
    for (int i = 0; i < g->nnodes && w.n < MAX_RED; i++) {
      const Node *n = &g->nodes[i];
      if ((n->op == OP_sum || n->op == OP_rowmax) && !c->given[n->res] && cursor_ready(c, n->args[0])) {
        w.red[w.n] = n->res;
        w.max[w.n++] = n->op == OP_rowmax;
      }
    }
    if (!w.n) break;
    reduce_level(c, &w, cols);
    cursor_begin(c, 1, 0);
    cursor_rows(c);
  }
  for (int i = 0; i < g->noutputs; i++) any |= cursor_is_full(c, g->outputs[i].val);
  if (any) lower_lanes(c, k_ic(c->lo->k, 0), cols, cursor_store_lanes, NULL);
  cursor_store_rows(c);
}

bool lower_row(Lower *lo) {
  Kernel *k = lo->k;
  Space s;
  if (!space_solve(lo->g, region_anchor(lo->g), lo->tmp, &s)) return false;
  Cursor c = cursor_new(lo, &s, s.ngroups - 1);
  KV cols = lower_extents(k, &s, s.ngroups - 1);
  if (s.ngroups == 1) {
    k_if(k, k_i2(k, K_ieq, k_op0(k, K_thread), k_ic(k, 0)));
    cursor_rows_reset(&c);
    one_row(&c, cols);
    k_end(k);
    return true;
  }
  KV rows = k_ic(k, 1), from, to;
  for (int i = 0; i + 1 < s.ngroups; i++) rows = k_mul(k, rows, lower_extents(k, &s, i));
  lower_share(k, rows, 1, &from, &to);
  KV r = k_for(k, from, to, 1);
  cursor_rows_reset(&c);
  cursor_unflatten(&c, r, s.ngroups - 1);
  one_row(&c, cols);
  k_end(k);
  return true;
}
