/* Packing for contractions: a block of an operand, with its elementwise producers, into panels that tiles read in one stream.
 *
 * Vectors run along the rows (or columns) of the operand where memory does, along k with a transposition in registers where memory
 * does that, else it goes element by element. Narrow operands go by steps: pairs of bf16, quads of i8 (lower_contract.c). */
#include "codegen/lower_contract.h"
#include <string.h>

static void pack_at(Pack *p, KV x, KV kk) {
  Contract *w = p->w;
  Cursor *c = &p->o->c;
  if (p->is_b && w->columns >= 0)
    contract_index(c, p->letters, p->nletters, w->N.first[w->columns], x);
  else if (!p->is_b)
    contract_flat(w->k, c, p->letters, p->nletters, &w->M, x);
  contract_flat(w->k, c, p->letters, p->nletters, &w->K, kk);
}

static KV value_at(Pack *p, KV x, KV kk, int lanes, KV count) {
  Cursor *c = &p->o->c;
  cursor_rows_reset(c);
  cursor_begin(c, lanes, count);
  pack_at(p, x, kk);
  return cursor_value(c, p->o->v);
}

/* v[i] of the k of a step, one behind the other, in the place of one f32. */
static KV joined_step(const Contract *w, const KV *v) {
  Kernel *k = w->k;
  if (w->group == 1) return v[0];
  if (w->group == 2) return k_f(k, K_pair, v[0], v[1], 0);
  return k_join(k, k_join(k, v[0], v[1], 8), k_join(k, v[2], v[3], 8), 16);
}

/* What a step takes from lanes along x: the operand at kk, with those at the next k where they go together. */
static KV step_at(Pack *p, KV x, KV kk, int lanes, KV count) {
  Kernel *k = p->w->k;
  KV v[4], last = k_sub(k, p->k1, k_ic(k, 1));
  for (int i = 0; i < p->w->group; i++) {
    bool fill = p->w->odd && i;
    KV at = k_add(k, kk, k_ic(k, i));
    v[i] = value_at(p, x, fill ? k_min(k, at, last) : at, lanes, count);
    if (fill) v[i] = k_keep_n(k, v[i], k_mul(k, k_sub(k, k_add(k, last, k_ic(k, 1)), at), k_ic(k, lanes)), 0);
  }
  return joined_step(p->w, v);
}

static int group_of(const Operand *o, const char *letters, int n, char first) {
  return space_group(&o->s, rule_find(letters, n, first));
}

/* The first n lanes, in pieces of 2^i: whole stores are faster than masked ones. */
static void store_first(Kernel *k, int buf, KV at, KV v, int n) {
  int lanes = k_lanes(k, v);
  for (int from = 0; from < n;) {
    int piece = lanes;
    while (piece > n - from) piece /= 2;
    uint8_t mask[KIR_LANES];
    for (int i = 0; i < piece; i++) mask[i] = (uint8_t)(from + i);
    KV x = piece == lanes ? v : piece == 1 ? k_extract(k, v, from) : k_shuffle(k, v, v, mask, piece);
    k_store(k, buf, k_add(k, at, k_ic(k, from)), x);
    from += piece;
  }
}

/* Vectors along x (M or N), copied as they lie: a few rows of k at a time for all panels, so that memory is read along its rows. */
static void pack_along_x(Pack *p) {
  enum { ROWS = 8 };
  Kernel *k = p->w->k;
  int lanes = p->w->lanes, r = p->r, over = (r + lanes - 1) / lanes * lanes - r; /* lanes loaded beyond a panel */
  KV n = k_sub(k, p->x1, p->x0), zero = k_ic(k, 0), size = k_mul(k, contract_steps(p->w, p->k0, p->k1), k_ic(k, r));
  KV whole = k_i2(k, K_idiv, over ? k_i2(k, K_imax, k_sub(k, n, k_ic(k, over)), zero) : n, k_ic(k, r));
  KV kb = k_for(k, p->k0, p->k1, ROWS), ke = k_min(k, k_add(k, kb, k_ic(k, ROWS)), p->k1);
  for (int masked = 0; masked < 2; masked++) {
    KV panel = k_for(k, masked ? whole : zero, masked ? contract_panels(k, n, r) : whole, 1);
    KV x = k_add(k, p->x0, k_mul(k, panel, k_ic(k, r))), base = k_mul(k, panel, size),
       kk = k_for(k, kb, ke, p->w->group);
    KV at = k_add(k, base, k_mul(k, contract_steps(p->w, p->k0, kk), k_ic(k, r)));
    for (int j = 0; j < r; j += lanes) {
      KV xj = k_add(k, x, k_ic(k, j));
      KV v = step_at(p, xj, kk, lanes, masked ? k_sub(k, p->x1, xj) : 0);
      store_first(k, p->buf, k_add(k, at, k_ic(k, j)), v, r - j < lanes ? r - j : lanes);
    }
    k_end(k);
    k_end(k);
  }
  k_end(k);
}

/* The vector along k of a row: values, or, of i8 that lie in memory as they are, quads. count: of them, 0: all. */
static KV row_at(Pack *p, KV x, KV kk, KV count, bool quads) {
  Kernel *k = p->w->k;
  int lanes = p->w->lanes;
  if (quads) {
    pack_at(p, x, kk);
    return k_load_q(k, p->w->lo->in_buf[p->o->v], cursor_address(&p->o->c, p->o->v), count, lanes);
  }
  KV v = value_at(p, x, kk, lanes, count);
  return count && p->w->odd && p->w->group > 1 ? k_keep_n(k, v, count, 0) : v;
}

/* The whole of one row is packed as it lies: steps side by side, of pairs as many as two vectors give. False: not for this row. */
static bool pack_one_row(Pack *p, KV panel, KV x, bool quads) {
  Kernel *k = p->w->k;
  int lanes = p->w->lanes, group = p->w->group, n = quads ? 1 : group;
  int64_t all;
  if (p->r > 1 || n > 2 || !k_const(k, k_sub(k, p->k1, p->k0), &all) || all % (lanes * group)) return false;
  KV kk = k_for(k, p->k0, p->k1, lanes * group), v[2] = {0};
  for (int i = 0; i < n; i++) v[i] = row_at(p, x, k_add(k, kk, k_ic(k, i * lanes)), 0, quads);
  KV step[2] = {v[0]};
  for (int i = 0; n == 2 && i < 2; i++) { /* the even k, the odd */
    uint8_t mask[KIR_LANES];
    for (int l = 0; l < lanes; l++) mask[l] = (uint8_t)(2 * l + i);
    step[i] = k_shuffle(k, v[0], v[1], mask, lanes);
  }
  k_store(k, p->buf, k_add(k, panel, contract_steps(p->w, p->k0, kk)), quads ? v[0] : joined_step(p->w, step));
  k_end(k);
  return true;
}

/* The last step of a panel, element by element. */
static void pack_last(Pack *p, KV panel, KV x) {
  Kernel *k = p->w->k;
  KV kk =
      k_add(k, p->k0, k_mul(k, k_i2(k, K_idiv, k_sub(k, p->k1, p->k0), k_ic(k, p->w->group)), k_ic(k, p->w->group)));
  k_if(k, k_i2(k, K_ilt, kk, p->k1));
  KV at = k_add(k, panel, k_mul(k, contract_steps(p->w, p->k0, kk), k_ic(k, p->r)));
  KV j = k_for(k, k_ic(k, 0), k_ic(k, p->r), 1);
  k_store(k, p->buf, k_add(k, at, j), step_at(p, k_min(k, k_add(k, x, j), k_sub(k, p->x1, k_ic(k, 1))), kk, 1, 0));
  k_end(k);
  k_end(k);
}

/* Vectors along k: lanes rows at a time, transposed. Whole vectors are stored even where a panel is narrower; they spill into
 * what is stored next: the next k, the panel that is packed next, or the slack behind the last. */
static void pack_along_k(Pack *p, KV panel, KV x) {
  Kernel *k = p->w->k;
  bool quads = p->w->dt == DT_i8 && !val_node(p->w->lo->g, p->o->v);
  if (pack_one_row(p, panel, x, quads)) return;
  int lanes = p->w->lanes, unit = quads ? p->w->group : 1, group = quads ? 1 : p->w->group, depth = lanes * unit;
  KV whole = k_add(k, p->k0, k_mul(k, k_i2(k, K_idiv, k_sub(k, p->k1, p->k0), k_ic(k, depth)), k_ic(k, depth)));
  KV end = k_sub(k, p->x1, k_ic(k, 1));
  int64_t a;
  bool exact = k_const(k, k_sub(k, p->k1, p->k0), &a) && a % depth == 0;
  for (int tail = 0; tail < (exact ? 1 : 2); tail++) {
    KV kk, count = 0;
    if (tail) {
      count = k_i2(k, K_idiv, k_sub(k, p->k1, whole), k_ic(k, unit));
      k_if(k, k_i2(k, K_ilt, k_ic(k, 0), count));
      kk = whole;
    } else {
      kk = k_for(k, p->k0, whole, depth);
    }
    KV at = k_add(k, panel, k_mul(k, contract_steps(p->w, p->k0, kk), k_ic(k, p->r)));
    KV v[TILE_VECTORS][KIR_LANES];
    int groups = (p->r + lanes - 1) / lanes, done = 0;
    for (int q = 0; q < groups; q++) {
      for (int i = 0; i < lanes; i++)
        v[q][i] = q * lanes + i >= p->r
                      ? v[q][0]
                      : row_at(p, k_min(k, k_add(k, x, k_ic(k, q * lanes + i)), end), kk, count, quads);
      tile_transpose(k, v[q], lanes);
      if (q + 1 < groups && p->r % lanes) continue; /* stores that spill come in order of their places */
      for (int i = 0; i < lanes; i += group)
        for (int s = done; s <= q; s++)
          k_store(k, p->buf, k_add(k, at, k_ic(k, i / group * p->r + s * lanes)),
                  quads ? v[s][i] : joined_step(p->w, &v[s][i]));
      done = q + 1;
    }
    k_end(k);
  }
  if (quads && p->w->odd) pack_last(p, panel, x);
}

/* Any layout: element by element. */
static void pack_scalar(Pack *p, KV panel, KV x) {
  Kernel *k = p->w->k;
  KV loop = k_for(k, p->k0, p->k1, p->w->group), end = k_sub(k, p->x1, k_ic(k, 1));
  KV at = k_add(k, panel, k_mul(k, contract_steps(p->w, p->k0, loop), k_ic(k, p->r)));
  KV j = k_for(k, k_ic(k, 0), k_ic(k, p->r), 1);
  k_store(k, p->buf, k_add(k, at, j), step_at(p, k_min(k, k_add(k, x, j), end), loop, 1, 0));
  k_end(k);
  k_end(k);
}

void contract_pack(Pack *p) {
  Contract *w = p->w;
  Kernel *k = w->k;
  Operand *o = p->o;
  const Letters *X = p->is_b ? &w->N : &w->M;
  char last = p->nletters ? p->letters[p->nletters - 1] : 0;
  bool x_inner = last && X->n && !(p->is_b && w->columns < 0) && (p->is_b || X->n == 1) &&
                 rule_find(w->rule.out, w->rule.no, last) >= 0 &&
                 rule_find(p->is_b ? w->rule.a : w->rule.b, p->is_b ? w->rule.na : w->rule.nb, last) < 0 &&
                 group_of(o, p->letters, p->nletters, X->first[X->n - 1]) == o->s.ngroups - 1;
  bool k_inner = !x_inner && w->K.n == 1 && group_of(o, p->letters, p->nletters, w->K.first[0]) == o->s.ngroups - 1;
  o->c = cursor_new(w->lo, &o->s, x_inner || k_inner ? o->s.ngroups - 1 : -1);
  contract_outer(w, &o->c, p->letters, p->nletters);
  if (x_inner) {
    pack_along_x(p);
    return;
  }
  KV size = k_mul(k, contract_steps(w, p->k0, p->k1), k_ic(k, p->r));
  KV x = k_for(k, p->x0, p->x1, p->r);
  KV panel = k_mul(k, k_i2(k, K_idiv, k_sub(k, x, p->x0), k_ic(k, p->r)), size);
  if (k_inner)
    pack_along_k(p, panel, x);
  else
    pack_scalar(p, panel, x);
  k_end(k);
}

/* By row of the block of A, panel by panel: 128 times its sum over the run of k. */
void contract_sum_rows(Contract *w, KV rows, KV depth) {
  Kernel *k = w->k;
  KV panel = k_for(k, k_ic(k, 0), contract_panels(k, rows, w->mr), 1), mr = k_ic(k, w->mr);
  KV offset = k_f(k, K_flip, k_fc(k, 0, w->lanes), 0, 0);
  for (int i = 0; i < w->mr; i += w->lanes) { /* what a vector has beyond the panel is written over by the next */
    KV a = k_add(k, k_mul(k, panel, k_mul(k, depth, mr)), k_ic(k, i)), zero = k_fc(k, 0, w->lanes);
    KV step = k_for(k, k_ic(k, 0), depth, 1), sum = k_iter(k, zero);
    KV at = k_add(k, a, k_mul(k, step, mr));
    sum = k_f(k, K_dpbusd, offset, k_load(k, w->A, at, w->lanes), sum);
    k_yield(k, &sum, 1);
    k_end(k);
    k_store(k, w->S, k_add(k, k_mul(k, panel, mr), k_ic(k, i)), k_result(k, step, 0));
  }
  k_end(k);
}
