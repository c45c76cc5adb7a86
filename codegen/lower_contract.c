/* contract regions: blocked, packed, register-tiled products with elementwise producers and consumers.
 *
 * Letters of the rule fall in four classes: batch (both operands and the result), M (first operand and result), N (second
 * and result), K (summed). Letters that lie side by side everywhere are walked as one. A thread owns a range of M or of
 * N; within it, after Goto and van de Geijn (2008):
 *
 *   for columns by NC                        result block in scratch C, [panels of N][panels of M][MR][NR]
 *     for rows by MB                         start C at 0 (or at contract_from's third operand)
 *       for k by KC                          chains continue through C: a store and a reload are exact
 *         pack B: NC x KC in panels of NR    (elementwise producers of the operand are computed here)
 *         for rows by MC
 *           pack A: MC x KC in panels of MR
 *           for panels of B, panels of A: the tile, MR x NR accumulators, one fma chain each in k order
 *       consumers, row by row, read C, compute, store the region's results
 *
 * Canonical order: past 4096 k the chain restarts and partial results are added in order: C is then folded into a second
 * block T after every 4096. Edges: rows past the end repeat the last row and are not stored; columns are masked. */
#include "codegen/lower_tile.h"
#include "ir/rule.h"
#include <string.h>

enum { CHAIN = 4096 };

typedef struct Operand {
  Val v;
  Space s;
  Cursor c;
} Operand;

typedef struct Letters { /* merged runs of letters of one class, outermost first */
  int n;
  char first[MAX_RANK];
  Dim dim[MAX_RANK][MAX_RANK];
  int ndim[MAX_RANK];
} Letters;

typedef struct Contract {
  Lower *lo;
  Kernel *k;
  const Node *node;
  Rule rule; /* after a possible swap: a has M, b has N */
  Operand a, b;
  Space out;
  Cursor oc;
  Letters M, N, K, batch;
  KV m, n, kk;            /* extents: all of M, last run of N, all of K */
  KV outer[2 * MAX_RANK]; /* indices of batch runs, then of N runs before the last */
  int mr, nv, lanes, nr, mc, nc, mb, kc;
  int64_t kmax;   /* bound of K */
  int A, B, C, T; /* scratch */
} Contract;

static Operand operand(Lower *lo, Val v) {
  Operand o = {.v = v};
  space_solve(lo->g, v, lo->tmp, &o.s);
  return o;
}

/* Are letters x, y neighbours in `letters` and walked together in the space whose axes they are? */
static bool joined(const char *letters, int n, const Space *s, char x, char y) {
  int i = rule_find(letters, n, x);
  if (i < 0 || i + 1 >= n || letters[i + 1] != y) return false;
  return space_group(s, i) == space_group(s, i + 1);
}

static void collect(Contract *w, Letters *l, const char *order, int n, bool in_a, bool in_b, bool in_out) {
  const Rule *r = &w->rule;
  for (int i = 0; i < n; i++) {
    char x = order[i];
    int ia = rule_find(r->a, r->na, x), ib = rule_find(r->b, r->nb, x), io = rule_find(r->out, r->no, x);
    if ((ia >= 0) != in_a || (ib >= 0) != in_b || (io >= 0) != in_out) continue;
    Dim d = in_a ? w->a.s.dim[ia] : w->b.s.dim[ib];
    bool join = l->n > 0 && i > 0;
    char prev = i > 0 ? order[i - 1] : 0;
    if (join && in_a) join = joined(r->a, r->na, &w->a.s, prev, x);
    if (join && in_b) join = joined(r->b, r->nb, &w->b.s, prev, x);
    if (join && in_out) join = joined(r->out, r->no, &w->out, prev, x);
    if (!join) l->first[l->n++] = x;
    l->dim[l->n - 1][l->ndim[l->n - 1]++] = d;
  }
}

/* Splits a space's groups so that each is one run of letters. */
static void regroup(Contract *w, Space *s, const char *letters) {
  const Letters *all[] = {&w->M, &w->N, &w->K, &w->batch};
  s->ngroups = 0;
  for (int i = 0; i < s->rank; i++) {
    bool starts = false;
    for (int c = 0; c < LEN(all); c++)
      for (int j = 0; j < all[c]->n; j++) starts |= all[c]->first[j] == letters[i];
    if (starts) s->start[s->ngroups++] = i;
  }
  s->start[s->ngroups] = s->rank;
}

static KV run_extent(Kernel *k, const Letters *l, int run) {
  KV n = k_ic(k, 1);
  for (int i = 0; i < l->ndim[run]; i++) n = k_mul(k, n, lower_extent(k, l->dim[run][i]));
  return n;
}

/* Sets the cursor's index of the group that starts with a letter. */
static void set_index(Cursor *c, const char *letters, int n, char first, KV x) {
  int axis = rule_find(letters, n, first);
  if (axis >= 0) c->idx[space_group(c->s, axis)] = x;
}

static void set_flat(Kernel *k, Cursor *c, const char *letters, int n, const Letters *l, KV flat) {
  for (int i = l->n - 1; i >= 0; i--) {
    KV e = i ? run_extent(k, l, i) : 0;
    set_index(c, letters, n, l->first[i], i ? k_i2(k, K_imod, flat, e) : flat);
    if (i) flat = k_i2(k, K_idiv, flat, e);
  }
}

static void set_outer(Contract *w, Cursor *c, const char *letters, int n) {
  for (int i = 0; i < w->batch.n; i++) set_index(c, letters, n, w->batch.first[i], w->outer[i]);
  for (int i = 0; i + 1 < w->N.n; i++) set_index(c, letters, n, w->N.first[i], w->outer[w->batch.n + i]);
}

/* ---- packing */

typedef struct Pack {
  Contract *w;
  Operand *o;
  const char *letters;
  int nletters;
  bool is_b;
  KV x0, x1; /* rows (of A) or columns (of B) of the block */
  KV k0, k1;
  int buf, r; /* panel width */
} Pack;

static void pack_at(Pack *p, KV x, KV kk) {
  Contract *w = p->w;
  Cursor *c = &p->o->c;
  if (p->is_b)
    set_index(c, p->letters, p->nletters, w->N.first[w->N.n - 1], x);
  else
    set_flat(w->k, c, p->letters, p->nletters, &w->M, x);
  set_flat(w->k, c, p->letters, p->nletters, &w->K, kk);
}

static int group_of(const Operand *o, const char *letters, int n, char first) {
  return space_group(&o->s, rule_find(letters, n, first));
}

/* Vectors along x (M or N): loaded as they lie. */
static void pack_along_x(Pack *p, KV panel, KV x) {
  Kernel *k = p->w->k;
  int lanes = p->w->lanes;
  Cursor *c = &p->o->c;
  KV loop = k_for(k, p->k0, p->k1, 1);
  KV at = k_add(k, panel, k_mul(k, k_sub(k, loop, p->k0), k_ic(k, p->r)));
  for (int j = 0; j < p->r; j += lanes) {
    KV xj = k_add(k, x, k_ic(k, j));
    cursor_rows_reset(c);
    cursor_begin(c, lanes, k_sub(k, p->x1, xj));
    pack_at(p, xj, loop);
    k_store(k, p->buf, k_add(k, at, k_ic(k, j)), cursor_value(c, p->o->v));
  }
  k_end(k);
}

/* Vectors along k: lanes rows at a time, transposed. The last, short block stores whole vectors too; they spill into
 * the panel that is packed next, or into the slack behind the last. */
static void pack_along_k(Pack *p, KV panel, KV x) {
  Kernel *k = p->w->k;
  int lanes = p->w->lanes;
  Cursor *c = &p->o->c;
  KV whole = k_add(k, p->k0, k_mul(k, k_i2(k, K_idiv, k_sub(k, p->k1, p->k0), k_ic(k, lanes)), k_ic(k, lanes)));
  KV end = k_sub(k, p->x1, k_ic(k, 1));
  int64_t a, b;
  bool exact = k_const(k, k_sub(k, p->k1, p->k0), &a) && a % lanes == 0;
  (void)b;
  for (int tail = 0; tail < (exact ? 1 : 2); tail++) {
    KV kk, count = 0;
    if (tail) {
      count = k_sub(k, p->k1, whole);
      k_if(k, k_i2(k, K_ilt, k_ic(k, 0), count));
      kk = whole;
    } else {
      kk = k_for(k, p->k0, whole, lanes);
    }
    KV at = k_add(k, panel, k_mul(k, k_sub(k, kk, p->k0), k_ic(k, p->r)));
    for (int j = 0; j < p->r; j += lanes) {
      KV v[KIR_LANES];
      for (int i = 0; i < lanes; i++) {
        if (j + i >= p->r) {
          v[i] = v[0];
          continue;
        }
        cursor_rows_reset(c);
        cursor_begin(c, lanes, count);
        pack_at(p, k_min(k, k_add(k, x, k_ic(k, j + i)), end), kk);
        v[i] = cursor_value(c, p->o->v);
      }
      tile_transpose(k, v, lanes);
      for (int i = 0; i < lanes; i++) k_store(k, p->buf, k_add(k, at, k_ic(k, i * p->r + j)), v[i]);
    }
    k_end(k);
  }
}

/* Any layout: element by element. */
static void pack_scalar(Pack *p, KV panel, KV x) {
  Kernel *k = p->w->k;
  Cursor *c = &p->o->c;
  KV loop = k_for(k, p->k0, p->k1, 1), end = k_sub(k, p->x1, k_ic(k, 1));
  KV at = k_add(k, panel, k_mul(k, k_sub(k, loop, p->k0), k_ic(k, p->r)));
  KV j = k_for(k, k_ic(k, 0), k_ic(k, p->r), 1);
  cursor_rows_reset(c);
  pack_at(p, k_min(k, k_add(k, x, j), end), loop);
  k_store(k, p->buf, k_add(k, at, j), cursor_value(c, p->o->v));
  k_end(k);
  k_end(k);
}

static void pack(Pack *p) {
  Contract *w = p->w;
  Kernel *k = w->k;
  Operand *o = p->o;
  const Letters *X = p->is_b ? &w->N : &w->M;
  char last = p->letters[p->nletters - 1];
  bool x_inner = X->n && (p->is_b || X->n == 1) && rule_find(w->rule.out, w->rule.no, last) >= 0 &&
                 rule_find(p->is_b ? w->rule.a : w->rule.b, p->is_b ? w->rule.na : w->rule.nb, last) < 0 &&
                 group_of(o, p->letters, p->nletters, X->first[X->n - 1]) == o->s.ngroups - 1;
  bool k_inner = !x_inner && w->K.n == 1 && group_of(o, p->letters, p->nletters, w->K.first[0]) == o->s.ngroups - 1;
  o->c = cursor_new(w->lo, &o->s, x_inner || k_inner ? o->s.ngroups - 1 : -1);
  set_outer(w, &o->c, p->letters, p->nletters);
  KV size = k_mul(k, k_sub(k, p->k1, p->k0), k_ic(k, p->r));
  KV x = k_for(k, p->x0, p->x1, p->r);
  KV panel = k_mul(k, k_i2(k, K_idiv, k_sub(k, x, p->x0), k_ic(k, p->r)), size);
  if (x_inner)
    pack_along_x(p, panel, x);
  else if (k_inner)
    pack_along_k(p, panel, x);
  else
    pack_scalar(p, panel, x);
  k_end(k);
}

/* ---- the tile */

static void tile(Contract *w, KV ap, KV bp, KV cp, KV depth) {
  Kernel *k = w->k;
  enum { UNROLL = 4 };
  KV acc[TILE_MAX];
  for (int i = 0; i < w->mr; i++)
    for (int j = 0; j < w->nv; j++)
      acc[i * w->nv + j] = k_load(k, w->C, k_add(k, cp, k_ic(k, i * w->nr + j * w->lanes)), w->lanes);
  Tile t = {w->mr, w->nv, w->lanes, w->A, w->B, {0}, k_ic(k, w->mr), bp, k_ic(k, w->nr), 0};
  for (int i = 0; i < w->mr; i++) t.a[i] = k_add(k, ap, k_ic(k, i));
  tile_chain(k, &t, k_ic(k, 0), depth, UNROLL, acc);
  for (int i = 0; i < w->mr; i++)
    for (int j = 0; j < w->nv; j++)
      k_store(k, w->C, k_add(k, cp, k_ic(k, i * w->nr + j * w->lanes)), acc[i * w->nv + j]);
}

/* ---- the result block: [panels of N][panels of M][MR][NR] */

static KV panels(Kernel *k, KV n, int r) {
  return k_i2(k, K_idiv, k_add(k, n, k_ic(k, r - 1)), k_ic(k, r));
}

typedef struct Block {
  KV m0, m1, n0, n1, mp, np; /* ranges; panels of M and N */
} Block;

static void fill(Contract *w, Block *b, int buf, double value) {
  Kernel *k = w->k;
  KV n = k_mul(k, k_mul(k, b->mp, b->np), k_ic(k, w->mr * w->nr));
  KV i = k_for(k, k_ic(k, 0), n, w->lanes);
  k_store(k, buf, i, k_fc(k, value, w->lanes));
  k_end(k);
}

/* T = C, or T = T + C once `k0` is past the first chain; C = 0. */
static void fold_partial(Contract *w, Block *b, KV k0) {
  Kernel *k = w->k;
  KV n = k_mul(k, k_mul(k, b->mp, b->np), k_ic(k, w->mr * w->nr)), later = k_i2(k, K_ilt, k_ic(k, 0), k0);
  for (int add = 0; add < 2; add++) {
    k_if(k, add ? later : k_i2(k, K_ieq, later, k_ic(k, 0)));
    KV i = k_for(k, k_ic(k, 0), n, w->lanes), x = k_load(k, w->C, i, w->lanes);
    k_store(k, w->T, i, add ? k_f(k, K_fadd, k_load(k, w->T, i, w->lanes), x, 0) : x);
    k_store(k, w->C, i, k_fc(k, 0, w->lanes));
    k_end(k);
    k_end(k);
  }
}

/* Walks the block's valid elements in rows; loads them from contract_from's third operand into C (init), or hands C to the
 * consumers and stores the results. */
static void columns_of_row(Contract *w, Block *b, KV row, KV n, KV panel, bool masked, bool init) {
  Kernel *k = w->k;
  Cursor *c = &w->oc;
  const Graph *g = w->lo->g;
  int buf = w->T >= 0 && !init ? w->T : w->C;
  KV at = k_add(k, k_mul(k, k_mul(k, panel, b->mp), k_ic(k, w->mr * w->nr)), k_mul(k, row, k_ic(k, w->nr)));
  for (int j = 0; j < w->nv; j++) {
    KV nj = k_add(k, n, k_ic(k, j * w->lanes)), out[MAX_OUTPUTS];
    KV cell = k_add(k, at, k_ic(k, j * w->lanes));
    cursor_begin(c, w->lanes, masked ? k_sub(k, b->n1, nj) : 0);
    c->idx[c->vgroup] = nj;
    if (init) {
      k_store(k, buf, cell, cursor_value(c, w->node->args[2]));
      continue;
    }
    cursor_set(c, w->node->res, k_load(k, buf, cell, w->lanes));
    for (int i = 0; i < g->noutputs; i++) out[i] = cursor_value(c, g->outputs[i].val);
    for (int i = 0; i < g->noutputs; i++) cursor_store(c, i, out[i]);
  }
}

static void walk(Contract *w, Block *b, bool init) {
  Kernel *k = w->k;
  Cursor *c = &w->oc;
  KV rows = k_sub(k, b->m1, b->m0), cols = k_sub(k, b->n1, b->n0);
  KV row = k_for(k, k_ic(k, 0), rows, 1);
  cursor_rows_reset(c);
  set_outer(w, c, w->rule.out, w->rule.no);
  set_flat(k, c, w->rule.out, w->rule.no, &w->M, k_add(k, b->m0, row));
  cursor_rows(c);
  /* row of the block -> panel row / MR, row in it: [panel][mr] rows of NR are contiguous, so the row number itself addresses */
  KV whole = k_i2(k, K_idiv, cols, k_ic(k, w->nr));
  KV panel = k_for(k, k_ic(k, 0), whole, 1);
  columns_of_row(w, b, row, k_add(k, b->n0, k_mul(k, panel, k_ic(k, w->nr))), panel, false, init);
  k_end(k);
  k_if(k, k_i2(k, K_ilt, k_mul(k, whole, k_ic(k, w->nr)), cols));
  columns_of_row(w, b, row, k_add(k, b->n0, k_mul(k, whole, k_ic(k, w->nr))), whole, true, init);
  k_end(k);
  k_end(k);
}

/* k in [k0, k1), at most KC: both operands packed, every tile of the block advanced. */
static void advance(Contract *w, Block *b, KV k0, KV k1) {
  Kernel *k = w->k;
  KV depth = k_sub(k, k1, k0);
  Pack pb = {w, &w->b, w->rule.b, w->rule.nb, true, b->n0, b->n1, k0, k1, w->B, w->nr};
  pack(&pb);
  KV m = k_for(k, b->m0, b->m1, w->mc), mend = k_min(k, k_add(k, m, k_ic(k, w->mc)), b->m1);
  Pack pa = {w, &w->a, w->rule.a, w->rule.na, false, m, mend, k0, k1, w->A, w->mr};
  pack(&pa);
  KV first = k_i2(k, K_idiv, k_sub(k, m, b->m0), k_ic(k, w->mr));
  KV jb = k_for(k, k_ic(k, 0), b->np, 1);
  KV ia = k_for(k, k_ic(k, 0), panels(k, k_sub(k, mend, m), w->mr), 1);
  KV cp = k_mul(k, k_add(k, k_mul(k, jb, b->mp), k_add(k, first, ia)), k_ic(k, w->mr * w->nr));
  tile(w, k_mul(k, ia, k_mul(k, depth, k_ic(k, w->mr))), k_mul(k, jb, k_mul(k, depth, k_ic(k, w->nr))), cp, depth);
  k_end(k);
  k_end(k);
  k_end(k);
}

static void block(Contract *w, Block *b) {
  Kernel *k = w->k;
  if (w->node->op == OP_contract_from)
    walk(w, b, true);
  else
    fill(w, b, w->C, 0);
  bool single = w->T < 0; /* the bound of K is one chain */
  KV chain = single ? k_ic(k, 0) : k_for(k, k_ic(k, 0), w->kk, CHAIN);
  KV chain_end = single ? w->kk : k_min(k, k_add(k, chain, k_ic(k, CHAIN)), w->kk);
  if (single && w->kmax <= w->kc) {
    advance(w, b, chain, chain_end);
  } else {
    KV k0 = k_for(k, chain, chain_end, w->kc);
    advance(w, b, k0, k_min(k, k_add(k, k0, k_ic(k, w->kc)), chain_end));
    k_end(k);
  }
  if (!single) {
    fold_partial(w, b, chain);
    k_end(k);
  }
  walk(w, b, false);
}

/* ---- schedule: sizes from the caches, a guess that the tuner will replace. */

static int64_t bound(const Letters *l, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; i++)
    for (int j = 0; j < l->ndim[i]; j++) n *= l->dim[i][j].n;
  return n;
}

static int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}
static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}
/* n in equal parts of at most `most`, each a multiple of `grain`. */
static int64_t even(int64_t n, int64_t most, int64_t grain) {
  int64_t parts = (n + most - 1) / most;
  return round_up((n + parts - 1) / parts, grain);
}

static void schedule(Contract *w, int64_t m, int64_t n, int64_t kk) {
  const Target *t = w->lo->t;
  w->lanes = t->lanes;
  w->nv = 2;
  w->mr = tile_rows(t);
  w->nr = w->nv * w->lanes;
  int64_t chain = least(kk, CHAIN);
  w->kc = (int)even(chain, least(384, t->l1 * 3 / 4 / (4 * w->nr)), 8); /* a panel of B stays in L1 */
  w->mc = (int)round_up(least(m, t->l2 / 2 / (4 * w->kc)), w->mr);      /* a block of A in half of L2 */
  w->mb = (int)round_up(even(m, 1024, w->mr), w->mc);
  w->nc = (int)even(n, 512, w->nr);
}

bool lower_contract(Lower *lo) {
  Contract w = {.lo = lo, .k = lo->k, .node = region_contract(lo->g), .T = -1};
  Kernel *k = lo->k;
  const char *err;
  if (!w.node || !rule_parse(node_attr(w.node, "rule")->str, &w.rule, &err)) return false;
  /* K runs in the order of the operand that was written first, swap or not */
  char k_order[MAX_RANK];
  int nk = w.rule.na;
  memcpy(k_order, w.rule.a, sizeof k_order);
  Val va = w.node->args[0], vb = w.node->args[1];
  if (w.rule.no && rule_find(w.rule.b, w.rule.nb, w.rule.out[w.rule.no - 1]) < 0) {
    Rule r = w.rule;
    memcpy(w.rule.a, r.b, sizeof r.a), memcpy(w.rule.b, r.a, sizeof r.b);
    w.rule.na = r.nb, w.rule.nb = r.na;
    va = w.node->args[1], vb = w.node->args[0];
  }
  w.a = operand(lo, va), w.b = operand(lo, vb);
  if (!space_solve(lo->g, w.node->res, lo->tmp, &w.out)) return false;
  if (w.node->op == OP_contract_from) {
    w.out.known[w.node->args[2]] = true;
    memcpy(w.out.map[w.node->args[2]], w.out.map[w.node->res], MAX_RANK);
  }
  collect(&w, &w.M, w.rule.out, w.rule.no, true, false, true);
  collect(&w, &w.N, w.rule.out, w.rule.no, false, true, true);
  collect(&w, &w.batch, w.rule.out, w.rule.no, true, true, true);
  collect(&w, &w.K, k_order, nk, true, true, false);
  if (!w.N.n)
    return diag_error(lo->d, w.node->span, "contract '%s': the result's last letter must come from one operand only",
                      node_attr(w.node, "rule")->str);
  regroup(&w, &w.out, w.rule.out);
  regroup(&w, &w.a.s, w.rule.a);
  regroup(&w, &w.b.s, w.rule.b);
  w.oc = cursor_new(lo, &w.out, w.out.ngroups - 1);

  int64_t bm = bound(&w.M, 0, w.M.n), bn = bound(&w.N, w.N.n - 1, w.N.n), bk = bound(&w.K, 0, w.K.n);
  w.kmax = bk;
  schedule(&w, bm, bn, bk);
  w.A = k_scratch(k, "A", DT_f32, (int64_t)w.mc * w.kc + w.lanes * (w.mr + 1) + w.lanes);
  w.B = k_scratch(k, "B", DT_f32, (int64_t)w.nc * w.kc + (int64_t)w.lanes * w.nr);
  w.C = k_scratch(k, "C", DT_f32, round_up(w.mb, w.mr) * w.nc);
  if (bk > CHAIN) w.T = k_scratch(k, "T", DT_f32, round_up(w.mb, w.mr) * w.nc);

  w.m = k_ic(k, 1), w.kk = k_ic(k, 1);
  for (int i = 0; i < w.M.n; i++) w.m = k_mul(k, w.m, run_extent(k, &w.M, i));
  for (int i = 0; i < w.K.n; i++) w.kk = k_mul(k, w.kk, run_extent(k, &w.K, i));
  w.n = run_extent(k, &w.N, w.N.n - 1);
  Block b = {.m0 = k_ic(k, 0), .m1 = w.m, .n0 = k_ic(k, 0), .n1 = w.n};
  bool by_rows = bm > bn && bm >= 4 * w.mr; /* divide the longer side: the other operand is packed by every thread */
  if (by_rows)
    lower_share(k, w.m, w.mr, &b.m0, &b.m1);
  else
    lower_share(k, w.n, w.nr, &b.n0, &b.n1);
  int nouter = 0;
  for (int i = 0; i < w.batch.n; i++) w.outer[nouter++] = k_for(k, k_ic(k, 0), run_extent(k, &w.batch, i), 1);
  for (int i = 0; i + 1 < w.N.n; i++) w.outer[nouter++] = k_for(k, k_ic(k, 0), run_extent(k, &w.N, i), 1);
  KV n0 = k_for(k, b.n0, b.n1, w.nc), m0 = k_for(k, b.m0, b.m1, w.mb);
  Block inner = {m0, k_min(k, k_add(k, m0, k_ic(k, w.mb)), b.m1), n0, k_min(k, k_add(k, n0, k_ic(k, w.nc)), b.n1), 0,
                 0};
  inner.mp = panels(k, k_sub(k, inner.m1, inner.m0), w.mr);
  inner.np = panels(k, k_sub(k, inner.n1, inner.n0), w.nr);
  block(&w, &inner);
  for (int i = 0; i < nouter + 2; i++) k_end(k);
  return true;
}
