/* contract regions: blocked, packed, register-tiled products with elementwise producers and consumers.
 *
 * Letters of the rule fall in four classes: batch (both operands and the result), M (first operand and result), N (second
 * and result), K (summed). Letters that lie side by side everywhere are walked as one. Lanes run along the last run of N; where
 * the result ends in a batch letter or has none, a tile has one column and its consumers take it element by element.
 * A thread owns a range of M or of N; within it, after Goto and van de Geijn (2008):
 *
 *   for columns by NC
 *     for rows by MB
 *       for k by KC                        chains continue through C: a store and a reload are exact
 *         pack B: NC x KC in panels of NR  (elementwise producers of the operand are computed here)
 *         for rows by MC
 *           pack A: MC x KC in panels of MR
 *           for panels of B, panels of A: the tile, MR x NR accumulators, one fma chain each in k order
 *             first run of k: C starts at 0 or at contract_from's third operand
 *             last run: the consumers read the tile from L1, compute, store the region's results
 *
 * C, in scratch, is [panels of N][panels of M][MR][NR]. Canonical order: past 4096 k the chain restarts and partial results
 * are added in order: C is then folded into a second block T after every 4096. Edges: rows past the end are not stored;
 * columns are masked.
 *
 * Operands of bf16 are packed by pairs of k, side by side in the place of one f32: a step of the tile is two k. Those of i8 by
 * quads, sums are i32, which no order changes: a single chain. The instruction wants one operand unsigned: the tile takes B's
 * bytes + 128, and each run of k starts with what that adds to a row taken off, 128 times the sum of the row of A over the run,
 * which is made of the packed A. A's quads are filled up with 0, so that B's may hold anything there.
 *
 * Where B is a packed weight (ir/type.h: panels) its panels are read where they lie, and where M is known at run time only, there
 * is a nest for each of several M, with tiles as high as those rows want: a decode has one row, a prompt hundreds. With few rows
 * the last panels go to whichever thread comes first (deal_nest). */
#include "codegen/lower_contract.h"
#include "codegen/schedule.h"
#include <string.h>

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
  char prev = 0; /* of this class */
  for (int i = 0; i < n; i++) {
    char x = order[i];
    int ia = rule_find(r->a, r->na, x), ib = rule_find(r->b, r->nb, x), io = rule_find(r->out, r->no, x);
    if ((ia >= 0) != in_a || (ib >= 0) != in_b || (io >= 0) != in_out) continue;
    Dim d = in_a ? w->a.s.dim[ia] : w->b.s.dim[ib];
    bool join = prev && order[i - 1] == prev;
    if (join && in_a) join = joined(r->a, r->na, &w->a.s, prev, x);
    if (join && in_b) join = joined(r->b, r->nb, &w->b.s, prev, x);
    if (join && in_out) join = joined(r->out, r->no, &w->out, prev, x);
    if (!join) l->first[l->n++] = x;
    prev = x;
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

KV contract_extent(Kernel *k, const Letters *l, int run) {
  KV n = k_ic(k, 1);
  for (int i = 0; i < l->ndim[run]; i++) n = k_mul(k, n, lower_extent(k, l->dim[run][i]));
  return n;
}

/* Sets the cursor's index of the group that starts with a letter. */
void contract_index(Cursor *c, const char *letters, int n, char first, KV x) {
  int axis = rule_find(letters, n, first);
  if (axis >= 0) c->idx[space_group(c->s, axis)] = x;
}

void contract_flat(Kernel *k, Cursor *c, const char *letters, int n, const Letters *l, KV flat) {
  for (int i = l->n - 1; i >= 0; i--) {
    KV e = i ? contract_extent(k, l, i) : 0;
    contract_index(c, letters, n, l->first[i], i ? k_i2(k, K_imod, flat, e) : flat);
    if (i) flat = k_i2(k, K_idiv, flat, e);
  }
}

void contract_outer(Contract *w, Cursor *c, const char *letters, int n) {
  for (int i = 0; i < w->batch.n; i++) contract_index(c, letters, n, w->batch.first[i], w->outer[i]);
  for (int i = 0; i < w->N.n; i++)
    if (i != w->columns) contract_index(c, letters, n, w->N.first[i], w->outer[w->batch.n + i]);
}

KV contract_panels(Kernel *k, KV n, int r) {
  return k_i2(k, K_idiv, k_add(k, n, k_ic(k, r - 1)), k_ic(k, r));
}

/* Steps from k0 to k. */
KV contract_steps(const Contract *w, KV k0, KV k) {
  return contract_panels(w->k, k_sub(w->k, k, k0), w->group);
}

/* ---- the tile */

typedef struct Block {
  KV m0, m1, n0, n1, mp, np;   /* ranges; panels of M and N */
  KV k0, k1, chain, chain_end; /* the run of k at work, in its chain */
  KV first_k, last_of_chain;   /* does the run begin, end the chain? 1 or 0; constants where one run is all */
  KV sums;                     /* of i8: index in S of the tile's first row */
  KV m, n, cell;               /* the tile: its first row and column; element index in C and T */
} Block;

static void advance_tile(Contract *w, Block *b, KV ap, KV bp) {
  Kernel *k = w->k;
  const Target *target = w->lo->t;
  bool plain = (w->dt == DT_bf16 && !target->dpbf16) || (w->dt == DT_i8 && !target->dpbusd);
  int unroll = plain ? 1 : 4; /* a step without its instruction is long enough */
  KV acc[TILE_MAX];
  for (int i = 0; i < w->mr * w->nv; i++) {
    acc[i] = w->one_run && w->node->op == OP_contract
                 ? k_fc(k, 0, w->lanes)
                 : k_load(k, w->C, k_add(k, b->cell, k_ic(k, i * w->lanes)), w->lanes);
    if (w->dt != DT_i8) continue;
    KV off = k_load(k, w->S, k_add(k, b->sums, k_ic(k, i / w->nv)), 1);
    acc[i] = k_f(k, K_sub32, acc[i], k_splat(k, off, w->lanes), 0);
  }
  Tile t = {w->mr, w->nv, w->lanes, w->A, w->B, {0}, k_ic(k, w->mr), bp, k_ic(k, w->nr), 0};
  if (w->packed)
    t.b = k_add(k, k_mul(k, b->n, contract_steps(w, k_ic(k, 0), w->kk)),
                k_mul(k, contract_steps(w, k_ic(k, 0), b->k0), t.b_step));
  t.dt = w->dt;
  for (int i = 0; i < w->mr; i++) t.a[i] = k_add(k, ap, k_ic(k, i));
  tile_chain(k, &t, k_ic(k, 0), contract_steps(w, b->k0, b->k1), unroll, acc);
  for (int i = 0; i < w->mr * w->nv; i++) k_store(k, w->C, k_add(k, b->cell, k_ic(k, i * w->lanes)), acc[i]);
}

static void fill(Contract *w, int buf, KV at, double value) {
  for (int i = 0; i < w->mr * w->nv; i++)
    k_store(w->k, buf, k_add(w->k, at, k_ic(w->k, i * w->lanes)), k_fc(w->k, value, w->lanes));
}

/* A chain has ended: T = C for the first one, T = T + C for others. */
static void fold_partial(Contract *w, Block *b) {
  Kernel *k = w->k;
  KV later = k_i2(k, K_ilt, k_ic(k, 0), b->chain);
  for (int add = 0; add < 2; add++) {
    k_if(k, add ? later : k_i2(k, K_ieq, later, k_ic(k, 0)));
    KV i = k_for(k, k_ic(k, 0), k_ic(k, w->mr * w->nr), w->lanes), at = k_add(k, b->cell, i);
    KV x = k_load(k, w->C, at, w->lanes);
    k_store(k, w->T, at, add ? k_f(k, K_fadd, k_load(k, w->T, at, w->lanes), x, 0) : x);
    k_end(k);
    k_end(k);
  }
}

/* Walks the tile's valid elements, a vector at a time along its rows: loads contract_from's third operand into C (init), or
 * hands the sums to the consumers and stores the results. */
static void walk_tile(Contract *w, Block *b, bool init) {
  Kernel *k = w->k;
  Cursor *c = &w->oc;
  const Graph *g = w->lo->g;
  int buf = w->T >= 0 && !init ? w->T : w->C;
  int64_t all;
  bool one = w->columns < 0, always = one || (k_const(k, w->n, &all) && all % w->nr == 0);
  int lanes = one ? 1 : w->lanes, step = one ? w->nr : w->lanes;
  KV rows = k_min(k, k_ic(k, w->mr), k_sub(k, b->m1, b->m)), nv = k_ic(k, one ? 1 : w->nv);
  KV whole = k_i2(k, K_ilt, k_add(k, b->n, k_ic(k, w->nr - 1)), b->n1);
  for (int masked = 0; masked < (always ? 1 : 2); masked++) {
    if (!always) k_if(k, masked ? k_i2(k, K_ieq, whole, k_ic(k, 0)) : whole);
    KV v = k_for(k, k_ic(k, 0), k_mul(k, rows, nv), 1), out[MAX_OUTPUTS];
    KV n = k_add(k, b->n, k_mul(k, k_i2(k, K_imod, v, nv), k_ic(k, w->lanes)));
    KV at = k_add(k, b->cell, k_mul(k, v, k_ic(k, step)));
    cursor_rows_reset(c);
    contract_outer(w, c, w->rule.out, w->rule.no);
    contract_flat(k, c, w->rule.out, w->rule.no, &w->M, k_add(k, b->m, k_i2(k, K_idiv, v, nv)));
    if (w->columns >= 0) c->idx[c->vgroup] = n;
    cursor_begin(c, lanes, masked ? k_sub(k, b->n1, n) : 0);
    if (init) {
      KV from = cursor_value(c, w->node->args[2]); /* a chain of pairs takes subnormals for zeros */
      if (w->dt == DT_bf16) from = lower_math(k, "abs(a) < 1.17549435e-38 ? a * 0. : a", &from, lanes);
      k_store(k, buf, at, from);
    } else {
      cursor_rows(c);
      cursor_set(c, w->node->res, k_load(k, buf, at, lanes));
      for (int i = 0; i < g->noutputs; i++) out[i] = cursor_value(c, g->outputs[i].val);
      for (int i = 0; i < g->noutputs; i++) cursor_store(c, i, out[i]);
    }
    k_end(k);
    if (!always) k_end(k);
  }
}

/* What a tile needs before and after its run of k, while it lies in L1. */
static void begin_tile(Contract *w, Block *b) {
  if (w->one_run && w->node->op == OP_contract) return; /* its chains start in registers */
  k_if(w->k, b->first_k);
  if (w->node->op == OP_contract_from)
    walk_tile(w, b, true);
  else
    fill(w, w->C, b->cell, 0);
  k_end(w->k);
}

/* The tile below this one: where its results will go (and, for contract_from, come from) is asked for a tile ahead. */
static void prefetch_next(Contract *w, Block *b) {
  Kernel *k = w->k;
  Cursor *c = &w->oc;
  const Graph *g = w->lo->g;
  if (w->columns < 0) return;
  KV row = k_for(k, k_ic(k, 0), k_ic(k, w->mr), 1);
  cursor_rows_reset(c);
  contract_outer(w, c, w->rule.out, w->rule.no);
  contract_flat(k, c, w->rule.out, w->rule.no, &w->M, k_add(k, b->m, k_add(k, row, k_ic(k, w->mr))));
  for (int j = 0; j < w->nv; j++) {
    c->idx[c->vgroup] = k_add(k, b->n, k_ic(k, j * w->lanes));
    cursor_begin(c, w->lanes, 0);
    for (int i = 0; i < g->noutputs; i++)
      if (cursor_is_full(c, g->outputs[i].val))
        k_prefetch(k, w->lo->out_buf[i], cursor_address(c, g->outputs[i].val), true);
  }
  k_end(k);
}

static void end_tile(Contract *w, Block *b) {
  Kernel *k = w->k;
  if (w->T >= 0) {
    k_if(k, b->last_of_chain);
    fold_partial(w, b);
    k_end(k);
  }
  k_if(k, k_i2(k, K_ieq, b->k1, w->kk));
  walk_tile(w, b, false);
  k_end(k);
}

/* A block of A: rows [m0, m1) of a run of k. */
static void pack_a(Contract *w, KV m0, KV m1, KV k0, KV k1) {
  Pack p = {w, &w->a, w->rule.a, w->rule.na, false, m0, m1, k0, k1, w->A, w->mr};
  contract_pack(&p);
  if (w->dt == DT_i8) contract_sum_rows(w, k_sub(w->k, m1, m0), contract_steps(w, k0, k1));
}

/* One run of k, at most KC: both operands packed, every tile of the block advanced. */
static void advance(Contract *w, Block *b) {
  Kernel *k = w->k;
  KV depth = contract_steps(w, b->k0, b->k1);
  b->first_k = k_i2(k, K_ieq, b->k0, b->chain);
  b->last_of_chain = k_i2(k, K_ieq, b->k1, b->chain_end);
  Pack pb = {w, &w->b, w->rule.b, w->rule.nb, true, b->n0, b->n1, b->k0, b->k1, w->B, w->nr};
  if (!w->packed) contract_pack(&pb);
  KV m = k_for(k, b->m0, b->m1, w->mc), mend = k_min(k, k_add(k, m, k_ic(k, w->mc)), b->m1);
  if (!w->a_ready) pack_a(w, m, mend, b->k0, b->k1);
  KV first = k_i2(k, K_idiv, k_sub(k, m, b->m0), k_ic(k, w->mr));
  KV jb = k_for(k, k_ic(k, 0), b->np, 1);
  KV ia = k_for(k, k_ic(k, 0), contract_panels(k, k_sub(k, mend, m), w->mr), 1);
  b->sums = k_mul(k, ia, k_ic(k, w->mr));
  b->m = k_add(k, m, b->sums);
  b->n = k_add(k, b->n0, k_mul(k, jb, k_ic(k, w->nr)));
  b->cell =
      w->one_run ? k_ic(k, 0) : k_mul(k, k_add(k, k_mul(k, jb, b->mp), k_add(k, first, ia)), k_ic(k, w->mr * w->nr));
  begin_tile(w, b);
  prefetch_next(w, b);
  advance_tile(w, b, k_mul(k, ia, k_mul(k, depth, k_ic(k, w->mr))), k_mul(k, jb, k_mul(k, depth, k_ic(k, w->nr))));
  end_tile(w, b);
  k_end(k);
  k_end(k);
  k_end(k);
}

static void block(Contract *w, Block *b) {
  Kernel *k = w->k;
  bool single = w->T < 0; /* the bound of K is one chain, or the order is free */
  b->chain = single ? k_ic(k, 0) : k_for(k, k_ic(k, 0), w->kk, CHAIN);
  b->chain_end = single ? w->kk : k_min(k, k_add(k, b->chain, k_ic(k, CHAIN)), w->kk);
  b->k0 = w->one_run ? b->chain : k_for(k, b->chain, b->chain_end, w->kc);
  b->k1 = w->one_run ? b->chain_end : k_min(k, k_add(k, b->k0, k_ic(k, w->kc)), b->chain_end);
  advance(w, b);
  if (!w->one_run) k_end(k);
  if (!single) k_end(k);
}

/* ---- sizes */

static int64_t bound(const Letters *l, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; i++)
    for (int j = 0; j < l->ndim[i]; j++) n *= l->dim[i][j].n;
  return n;
}

static int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

static void schedule(Contract *w, const Schedule *s, int64_t bk) {
  w->lanes = w->lo->t->lanes;
  w->nv = s->nv, w->mr = s->mr, w->nr = s->nv * w->lanes;
  w->kc = s->kc * w->group, w->mc = s->mc, w->mb = s->mb, w->nc = s->nc;
  w->one_run = bk <= w->kc && (bk <= CHAIN || w->dt == DT_i8);
}

/* How deal_nest cuts the panels: an `own` for each thread, then as many `few` as there are turns left. Where turn begins. */
static KV dealt_panel(Kernel *k, KV turn, KV threads, KV own, KV few) {
  KV rest = k_i2(k, K_imax, k_sub(k, turn, threads), k_ic(k, 0));
  return k_add(k, k_mul(k, k_min(k, turn, threads), own), k_mul(k, rest, few));
}

/* Few rows, one block of A, packed before all: the weight's panels are read once, as fast as memory gives them, and no thread
 * should wait for another that memory serves worse. So each starts with fifteen sixteenths of its share, in one stream, and the
 * rest is dealt out. */
static void deal_nest(Contract *w) {
  Kernel *k = w->k;
  KV zero = k_ic(k, 0), panels = contract_panels(k, w->n, w->nr), threads = k_op0(k, K_threads);
  KV own = k_i2(k, K_idiv, k_mul(k, panels, k_ic(k, 15)), k_mul(k, threads, k_ic(k, 16)));
  KV few = k_i2(k, K_imax, k_ic(k, 1), k_i2(k, K_idiv, panels, k_mul(k, threads, k_ic(k, 32))));
  KV rest = k_add(k, k_sub(k, panels, k_mul(k, own, threads)), k_sub(k, few, k_ic(k, 1)));
  w->a_ready = true;
  pack_a(w, zero, w->m, zero, w->kk);
  KV turn = k_deal(k, zero, k_add(k, threads, k_i2(k, K_idiv, rest, few)), 1), nr = k_ic(k, w->nr);
  Block b = {.m0 = zero, .m1 = w->m, .n0 = k_mul(k, dealt_panel(k, turn, threads, own, few), nr)};
  b.n1 = k_min(k, w->n, k_mul(k, dealt_panel(k, k_add(k, turn, k_ic(k, 1)), threads, own, few), nr));
  b.mp = contract_panels(k, w->m, w->mr);
  b.np = contract_panels(k, k_sub(k, b.n1, b.n0), w->nr);
  k_if(k, k_i2(k, K_ilt, b.n0, b.n1));
  block(w, &b);
  k_end(k);
  k_end(k);
  w->a_ready = false;
}

/* The loops around the blocks, cut as `s` says. */
static void nest(Contract *w, const Schedule *s, int64_t rows) {
  Kernel *k = w->k;
  if (w->packed && w->one_run && w->batch.n == 0 && rows <= w->mc && !s->by_rows) {
    deal_nest(w);
    return;
  }
  Block b = {.m0 = k_ic(k, 0), .m1 = w->m, .n0 = k_ic(k, 0), .n1 = w->n};
  if (s->by_rows)
    lower_share(k, w->m, w->mr, &b.m0, &b.m1);
  else
    lower_share(k, w->n, w->nr, &b.n0, &b.n1);
  int nouter = 0;
  for (int i = 0; i < w->batch.n; i++) w->outer[nouter++] = k_for(k, k_ic(k, 0), contract_extent(k, &w->batch, i), 1);
  for (int i = 0; i < w->N.n; i++)
    if (i != w->columns) w->outer[nouter++] = k_for(k, k_ic(k, 0), contract_extent(k, &w->N, i), 1);
  KV n0 = k_for(k, b.n0, b.n1, w->nc), m0 = k_for(k, b.m0, b.m1, w->mb);
  Block inner = {.m0 = m0, .n0 = n0};
  inner.m1 = k_min(k, k_add(k, m0, k_ic(k, w->mb)), b.m1);
  inner.n1 = k_min(k, k_add(k, n0, k_ic(k, w->nc)), b.n1);
  inner.mp = contract_panels(k, k_sub(k, inner.m1, inner.m0), w->mr);
  inner.np = contract_panels(k, k_sub(k, inner.n1, inner.n0), w->nr);
  block(w, &inner);
  for (int i = 0; i < nouter + 2; i++) k_end(k);
}

/* Numbers of rows for which there is a nest of its own, where B is packed and M a matter of run time: each takes time to compile, and
 * up to eight rows or so the weights' way from memory takes longest, not the rows. */
static const int few_rows[] = {1, 4, 8, 16, 32};

/* The schedules: for at most m[i] rows the i-th; the last for all. */
static int schedules(Contract *w, const ContractShape *s, Schedule *cut, int64_t *m) {
  int n = 0;
  if (!schedule_find(w->lo->t, w->lo->g, s, &cut[0])) return 0;
  Schedule all = cut[0];
  bool varies = false;
  for (int i = 0; i < w->M.n; i++)
    for (int j = 0; j < w->M.ndim[i]; j++) varies |= w->M.dim[i][j].sym;
  for (int i = 0; i < LEN(few_rows) && w->packed && varies; i++) {
    ContractShape few = *s;
    if (few_rows[i] >= s->m) break;
    few.m = m[n] = few_rows[i];
    cut[n++] = schedule_default(w->lo->t, &few);
  }
  cut[n] = all, m[n] = s->m;
  return n + 1;
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
  /* lanes run along the result's last letter; one that is both operands' is a loop outside like others */
  char last = w.rule.no ? w.rule.out[w.rule.no - 1] : 0;
  w.columns = last && rule_find(w.rule.a, w.rule.na, last) < 0 ? w.N.n - 1 : -1;
  regroup(&w, &w.out, w.rule.out);
  regroup(&w, &w.a.s, w.rule.a);
  regroup(&w, &w.b.s, w.rule.b);
  w.oc = cursor_new(lo, &w.out, w.columns < 0 ? -1 : w.out.ngroups - 1);

  int64_t bm = bound(&w.M, 0, w.M.n), bn = w.columns < 0 ? 1 : bound(&w.N, w.columns, w.columns + 1),
          bk = bound(&w.K, 0, w.K.n);
  Type tb = val_type(lo->g, vb);
  w.dt = tb.dt;
  w.group = tb.dt == DT_bf16 ? 2 : tb.dt == DT_i8 ? 4 : 1;
  w.packed = tb.panel > 0;
  Schedule cut[LEN(few_rows) + 1];
  int64_t rows[LEN(few_rows) + 1], a_most = 0, b_most = 0, c_most = 0, s_most = 0, all;
  int n = schedules(&w, &(ContractShape){bm, bn, (bk + w.group - 1) / w.group, tb.panel / lo->t->lanes}, cut, rows);
  if (!n) return false;
  if (w.packed && w.N.n != 1) return false;
  for (int i = 0; i < n; i++) {
    schedule(&w, &cut[i], bk);
    int64_t a = (int64_t)w.mc * cut[i].kc + w.lanes * (w.mr + 1) + w.lanes, c = w.mr * w.nr;
    int64_t b = (int64_t)w.nc * cut[i].kc + (int64_t)w.lanes * w.nr;
    if (!w.one_run) c = round_up(w.mb, w.mr) * w.nc;
    a_most = a > a_most ? a : a_most, b_most = b > b_most ? b : b_most, c_most = c > c_most ? c : c_most;
    s_most = w.mc > s_most ? w.mc : s_most;
  }
  w.A = k_scratch(k, "A", DT_f32, a_most);
  w.B = w.packed ? lo->in_buf[vb] : k_scratch(k, "B", DT_f32, b_most);
  w.C = k_scratch(k, "C", DT_f32, c_most);
  if (w.dt == DT_i8) w.S = k_scratch(k, "S", DT_f32, s_most + w.lanes);
  if (bk > CHAIN && w.dt != DT_i8) w.T = k_scratch(k, "T", DT_f32, c_most);

  w.m = k_ic(k, 1), w.kk = k_ic(k, 1);
  for (int i = 0; i < w.M.n; i++) w.m = k_mul(k, w.m, contract_extent(k, &w.M, i));
  for (int i = 0; i < w.K.n; i++) w.kk = k_mul(k, w.kk, contract_extent(k, &w.K, i));
  w.odd = !(k_const(k, w.kk, &all) && all % w.group == 0);
  w.n = w.columns < 0 ? k_ic(k, 1) : contract_extent(k, &w.N, w.columns);
  for (int i = 0; i < n; i++) {
    if (n > 1) k_if(k, k_i2(k, K_ilt, k_ic(k, i ? rows[i - 1] : 0), w.m));
    if (i + 1 < n) k_if(k, k_i2(k, K_ilt, w.m, k_ic(k, rows[i] + 1)));
    schedule(&w, &cut[i], bk);
    nest(&w, &cut[i], rows[i]);
    for (int e = 0; e < (n > 1) + (i + 1 < n); e++) k_end(k);
  }
  return true;
}
