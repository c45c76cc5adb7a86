/* rope: rotary position embedding (Su et al. 2021). Element pairs (x1, x2) of a head turn by the angle of (position, pair):
 * style half pairs e with e + E/2, style pairs pairs 2e with 2e + 1. Rows (b, t) are divided among the threads.
 *     y1 = x1 * c - x2 * s,  y2 = x2 * c + x1 * s;  inverse: s -> -s */
#include "codegen/lower.h"
#include <string.h>

typedef struct Rope {
  Lower *lo;
  KV x, table; /* element index of the head's first element and of the position's row of cos and sin */
  int in, cos, sin, out;
  bool half, inverse;
  int64_t pairs;
} Rope;

static KV get(Kernel *k, int buf, KV at, KV stride, int lanes, bool scalar) {
  return scalar ? k_load(k, buf, at, 1) : k_load_s(k, buf, at, stride, lanes);
}

/* `lanes` pairs from pair e on; single elements when scalar. */
static void turn(Rope *w, KV e, int lanes) {
  Kernel *k = w->lo->k;
  bool one = lanes == 1;
  KV step = k_ic(k, w->half ? 1 : 2);
  KV p1 = k_add(k, w->x, k_mul(k, e, step)), p2 = k_add(k, p1, k_ic(k, w->half ? w->pairs : 1)),
     at = k_add(k, w->table, e);
  KV x1 = get(k, w->in, p1, step, lanes, one), x2 = get(k, w->in, p2, step, lanes, one);
  KV c = k_load(k, w->cos, at, lanes), s = k_load(k, w->sin, at, lanes);
  if (w->inverse) s = k_f(k, K_fneg, s, 0, 0);
  KV y1 = k_f(k, K_fsub, k_f(k, K_fmul, x1, c, 0), k_f(k, K_fmul, x2, s, 0), 0);
  KV y2 = k_f(k, K_fadd, k_f(k, K_fmul, x2, c, 0), k_f(k, K_fmul, x1, s, 0), 0);
  Val y = w->lo->g->nodes[0].res;
  k_store_s(k, w->out, p1, lower_rounded(w->lo, y, y1), step);
  k_store_s(k, w->out, p2, lower_rounded(w->lo, y, y2), step);
}

bool lower_rope(Lower *lo) {
  Kernel *k = lo->k;
  const Node *n = &lo->g->nodes[0];
  Type x = val_type(lo->g, n->args[0]);
  const Attr *inverse = node_attr(n, "inverse");
  if (x.dim[3].sym) return diag_error(lo->d, n->span, "rope: the head size must be known at build time");
  Rope w = {.lo = lo,
            .in = lo->in_buf[n->args[0]],
            .cos = lo->in_buf[n->args[1]],
            .sin = lo->in_buf[n->args[2]],
            .out = lo->out_buf[0],
            .half = !strcmp(node_attr(n, "style")->str, "half"),
            .inverse = inverse && inverse->i,
            .pairs = x.dim[3].n / 2};
  KV T = lower_extent(k, x.dim[1]), H = lower_extent(k, x.dim[2]), from, to;
  lower_share(k, k_mul(k, lower_extent(k, x.dim[0]), T), 1, &from, &to);
  KV row = k_for(k, from, to, 1);
  KV position = k_load_i(k, lo->in_buf[n->args[3]], k_i2(k, K_imod, row, T));
  w.table = k_mul(k, position, k_ic(k, w.pairs));
  KV h = k_for(k, k_ic(k, 0), H, 1);
  w.x = k_mul(k, k_add(k, k_mul(k, row, H), h), k_ic(k, 2 * w.pairs));
  int64_t whole = w.pairs / lo->t->lanes * lo->t->lanes;
  if (whole) {
    KV e = k_for(k, k_ic(k, 0), k_ic(k, whole), lo->t->lanes);
    turn(&w, e, lo->t->lanes);
    k_end(k);
  }
  if (whole < w.pairs) {
    KV e = k_for(k, k_ic(k, whole), k_ic(k, w.pairs), 1);
    turn(&w, e, 1);
    k_end(k);
  }
  k_end(k);
  k_end(k);
  return true;
}
