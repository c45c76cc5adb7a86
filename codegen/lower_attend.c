/* attend: attention forward without a T x S matrix: online softmax over key blocks (Milakov and Gimelshein 2018; Dao et al. 2022).
 * A unit is one head of one sequence. Its keys are packed transposed once, so that scores run along lanes; then tiles of
 * query rows walk the key blocks up to the diagonal. Rows past the end repeat the last row: the same values are stored
 * again. With a window the walk begins at the block of the tile's first key; a row of the tile whose own keys begin one block
 * later starts anew there. The order of every operation is fixed in docs/numerics.md. */
#include "codegen/lower_attend.h"

int attend_rows(const Target *t) {
  int tiles = (KEYS + tile_rows(t) - 1) / tile_rows(t);
  return (KEYS + tiles - 1) / tiles;
}

bool attend_init(Attend *w, Lower *lo) {
  const Graph *g = lo->g;
  *w = (Attend){.lo = lo, .k = lo->k, .n = &g->nodes[0], .lanes = lo->t->lanes, .wide = 2};
  w->rows = attend_rows(lo->t);
  Type q = val_type(g, w->n->args[0]), k = val_type(g, w->n->args[1]);
  if (q.dim[3].sym) return diag_error(lo->d, w->n->span, "attend: the head size must be known at build time");
  w->narrow = q.dt == DT_bf16;
  w->causal = node_attr(w->n, "causal")->i != 0;
  w->scale = node_attr(w->n, "scale")->num;
  const Attr *window = node_attr(w->n, "window");
  w->window = window && window->i < k.dim[1].n ? window->i : 0;
  w->E = q.dim[3].n;
  w->B = lower_extent(lo->k, q.dim[0]);
  w->T = lower_extent(lo->k, q.dim[1]);
  w->H = lower_extent(lo->k, q.dim[2]);
  w->S = lower_extent(lo->k, k.dim[1]);
  w->G = lower_extent(lo->k, k.dim[2]);
  return true;
}

KV attend_q(Attend *w, KV i) {
  Kernel *k = w->k;
  KV row = k_add(k, k_mul(k, k_add(k, k_mul(k, w->b, w->T), i), w->H), w->h);
  return k_mul(k, row, k_ic(k, w->E));
}

KV attend_k(Attend *w, KV j) {
  Kernel *k = w->k;
  KV row = k_add(k, k_mul(k, k_add(k, k_mul(k, w->b, w->S), j), w->G), w->g);
  return k_mul(k, row, k_ic(k, w->E));
}

KV attend_first_key(Attend *w, KV i) {
  Kernel *k = w->k;
  return w->window ? k_i2(k, K_imax, k_ic(k, 0), k_sub(k, i, k_ic(k, w->window - 1))) : k_ic(k, 0);
}

Seen attend_seen(Attend *w, KV i, KV key0) {
  Kernel *k = w->k;
  KV end = w->causal ? k_min(k, k_add(k, i, k_ic(k, 1)), w->S) : w->S;
  return (Seen){w->window ? k_sub(k, attend_first_key(w, i), key0) : 0, k_sub(k, end, key0)};
}

KV attend_keep(Attend *w, KV x, Seen seen, int j, double other) {
  Kernel *k = w->k;
  x = k_keep_n(k, x, k_sub(k, seen.to, k_ic(k, j)), other);
  if (!w->window) return x;
  KV before = k_keep_n(k, k_fc(k, 1, w->lanes), k_sub(k, seen.from, k_ic(k, j)), 0);
  return k_f(k, K_select, before, k_fc(k, other, w->lanes), x);
}

int64_t attend_packed(const Attend *w, const Type *keys) {
  return (keys->dim[1].n + KEYS - 1) / KEYS * KEYS * (w->E + w->lanes);
}

void attend_pack(Attend *w, int from, int to) {
  Kernel *k = w->k;
  int lanes = w->lanes;
  KV last = k_sub(k, w->S, k_ic(k, 1)), E = k_ic(k, w->E);
  KV j = k_for(k, k_ic(k, 0), w->S, lanes); /* lanes divide KEYS */
  KV block = k_i2(k, K_idiv, j, k_ic(k, KEYS)), in = k_i2(k, K_imod, j, k_ic(k, KEYS));
  KV base = k_add(k, k_mul(k, block, k_ic(k, KEYS * w->E)), in);
  KV e = k_for(k, k_ic(k, 0), E, lanes), v[KIR_LANES];
  bool exact = w->E % lanes == 0;
  for (int i = 0; i < lanes; i++) {
    KV at = k_add(k, attend_k(w, k_min(k, k_add(k, j, k_ic(k, i)), last)), e);
    v[i] = exact ? k_load(k, from, at, lanes) : k_load_n(k, from, at, k_sub(k, E, e), lanes);
  }
  tile_transpose(k, v, lanes);
  for (int i = 0; i < lanes; i++) {
    KV row = k_add(k, e, k_ic(k, i));
    if (!exact) k_if(k, k_i2(k, K_ilt, row, E));
    k_store(k, to, k_add(k, base, k_mul(k, row, k_ic(k, KEYS))), v[i]);
    if (!exact) k_end(k);
  }
  k_end(k);
  k_end(k);
}

int attend_copy(Attend *w, const char *name, int64_t rows) {
  return w->narrow ? k_scratch(w->k, name, DT_f32, rows * (w->E + w->lanes)) : -1;
}

KV attend_copy_row(Attend *w, KV row) {
  return k_mul(w->k, row, k_ic(w->k, w->E + w->lanes));
}

typedef struct Copy {
  int from, to;
  KV from_at, to_at;
  bool round;
} Copy;

static void copy_columns(Attend *w, KV e0, int nv, KV count, void *ctx) {
  Copy *c = ctx;
  Kernel *k = w->k;
  for (int v = 0; v < nv; v++) {
    KV e = k_add(k, e0, k_ic(k, v * w->lanes)), at = k_add(k, c->from_at, e), to = k_add(k, c->to_at, e);
    KV x = count ? k_load_n(k, c->from, at, count, w->lanes) : k_load(k, c->from, at, w->lanes);
    if (c->round) x = k_f(k, K_tobf16, x, 0, 0);
    if (count)
      k_store_n(k, c->to, to, x, count);
    else
      k_store(k, c->to, to, x);
  }
}

void attend_widen(Attend *w, int from, KV at, int copy, KV row) {
  attend_columns(w, copy_columns, &(Copy){from, copy, at, attend_copy_row(w, row), false});
}

void attend_narrow(Attend *w, int copy, KV row, int to, KV at) {
  attend_columns(w, copy_columns, &(Copy){copy, to, attend_copy_row(w, row), at, true});
}

void attend_scores(Attend *w, int a_buf, const KV *a_at, int packed, KV block, int out, KV out_at) {
  Kernel *k = w->k;
  int nv = w->wide, lanes = w->lanes;
  KV j = k_for(k, k_ic(k, 0), k_ic(k, KEYS), nv * lanes), acc[TILE_MAX], zero = k_fc(k, 0, lanes);
  Tile t = {w->rows, nv, lanes, a_buf, packed, {0}, k_ic(k, 1), 0, k_ic(k, KEYS), 0};
  for (int r = 0; r < w->rows; r++) t.a[r] = a_at[r];
  t.b = k_add(k, k_mul(k, block, k_ic(k, KEYS * w->E)), j);
  for (int i = 0; i < w->rows * nv; i++) acc[i] = zero;
  tile_chain(k, &t, k_ic(k, 0), k_ic(k, w->E), w->E % 4 ? 1 : 4, acc);
  for (int r = 0; r < w->rows; r++)
    for (int v = 0; v < nv; v++)
      k_store(k, out, k_add(k, k_add(k, out_at, j), k_ic(k, r * KEYS + v * lanes)), acc[r * nv + v]);
  k_end(k);
}

void attend_columns(Attend *w, void (*body)(Attend *, KV, int, KV, void *), void *ctx) {
  Kernel *k = w->k;
  int64_t wide = w->wide * w->lanes, whole = w->E / wide * wide;
  if (whole) {
    KV e = k_for(k, k_ic(k, 0), k_ic(k, whole), wide);
    body(w, e, w->wide, 0, ctx);
    k_end(k);
  }
  for (int64_t e = whole; e < w->E; e += w->lanes)
    body(w, k_ic(k, e), 1, e + w->lanes > w->E ? k_ic(k, w->E - e) : 0, ctx);
}

static void zero_columns(Attend *w, KV e0, int nv, KV count, void *ctx) {
  Kernel *k = w->k;
  const KV *at = ctx; /* buffer number, element index */
  for (int v = 0; v < nv; v++) {
    KV p = k_add(k, k_add(k, at[1], e0), k_ic(k, v * w->lanes)), zero = k_fc(k, 0, w->lanes);
    if (count)
      k_store_n(k, (int)at[0], p, zero, count);
    else
      k_store(k, (int)at[0], p, zero);
  }
}

void attend_zero(Attend *w, int buf, KV at) {
  KV ctx[2] = {(KV)buf, at};
  attend_columns(w, zero_columns, ctx);
}

typedef struct Forward {
  int q, kbuf, v, o, lse; /* buffers */
  int KT;                 /* scratch: packed keys */
  RowState at;            /* of the tile */
  int Q;                  /* scratch: the tile's queries where they are bf16, else -1 */
  KV block, i0, last;     /* key block; first query row of the tile; last row of its run */
  KV row[TILE_ROWS];      /* row numbers, clamped */
} Forward;

RowState attend_state(Attend *w, int64_t rows) {
  Kernel *k = w->k;
  return (RowState){.P = k_scratch(k, "P", DT_f32, TILE_ROWS * KEYS),
                    .O = k_scratch(k, "O", DT_f32, rows * (w->E + 2 * w->lanes)),
                    .M = k_scratch(k, "M", DT_f32, rows),
                    .L = k_scratch(k, "L", DT_f32, rows),
                    .C = k_scratch(k, "C", DT_f32, TILE_ROWS),
                    .first = k_ic(k, 0)};
}

void attend_start(Attend *w, const RowState *f, KV r) {
  Kernel *k = w->k;
  r = k_add(k, f->first, r);
  k_store(k, f->M, r, k_fc(k, -__builtin_inf(), 1));
  k_store(k, f->L, r, k_fc(k, 0, 1));
  attend_zero(w, f->O, k_mul(k, r, k_ic(k, w->E + w->lanes)));
}

void attend_softmax(Attend *w, const RowState *f, KV r, KV i, KV block) {
  Kernel *k = w->k;
  int lanes = w->lanes, nv = KEYS / lanes;
  KV s[KEYS], p[KEYS], base = k_mul(k, r, k_ic(k, KEYS)), key0 = k_mul(k, block, k_ic(k, KEYS));
  KV scale = k_fc(k, w->scale, lanes);
  Seen seen = attend_seen(w, i, key0);
  if (w->window) { /* what the row took from blocks before its own first, all masked, is dropped */
    KV mine = k_i2(k, K_idiv, attend_first_key(w, i), k_ic(k, KEYS));
    k_if(k, k_i2(k, K_ilt, block, k_add(k, mine, k_ic(k, 1))));
    attend_start(w, f, r);
    k_end(k);
  }
  for (int j = 0; j < nv; j++) {
    s[j] = k_f(k, K_fmul, k_load(k, f->P, k_add(k, base, k_ic(k, j * lanes)), lanes), scale, 0);
    s[j] = attend_keep(w, s[j], seen, j * lanes, -__builtin_inf());
  }
  KV stays = k_add(k, f->first, r);
  KV m = k_load(k, f->M, stays, 1), m2 = lower_combine(k, lower_tree(k, s, nv, lanes, true), m, true);
  KV c = lower_math(k, "exp(a)", (KV[]){k_f(k, K_fsub, m, m2, 0)}, 1), wide = k_splat(k, m2, lanes);
  for (int j = 0; j < nv; j++) {
    p[j] = lower_math(k, "exp(a)", (KV[]){k_f(k, K_fsub, s[j], wide, 0)}, lanes);
    p[j] = attend_keep(w, p[j], seen, j * lanes, 0); /* exp(-inf) unless m is -inf or NaN */
    k_store(k, f->P, k_add(k, base, k_ic(k, j * lanes)), p[j]);
  }
  KV l = k_f(k, K_fmul, k_load(k, f->L, stays, 1), c, 0);
  k_store(k, f->L, stays, k_f(k, K_fadd, l, lower_tree(k, p, nv, lanes, false), 0));
  k_store(k, f->M, stays, m2);
  k_store(k, f->C, r, c);
}

/* o = o * c, then the chain over the block's keys. */
static void weigh_values(Attend *w, KV e0, int nv, KV count, void *ctx) {
  Forward *f = ctx;
  Kernel *k = w->k;
  KV acc[TILE_MAX], key0 = k_mul(k, f->block, k_ic(k, KEYS));
  Tile t = {w->rows, nv, w->lanes, f->at.P, f->v, {0}, k_ic(k, 1), 0, k_mul(k, w->G, k_ic(k, w->E)), count};
  t.b = k_add(k, attend_k(w, key0), e0);
  for (int r = 0; r < w->rows; r++) {
    t.a[r] = k_ic(k, r * KEYS);
    KV c = k_splat(k, k_load(k, f->at.C, k_ic(k, r), 1), w->lanes);
    for (int v = 0; v < nv; v++) {
      KV at = k_add(k, e0, k_ic(k, r * (w->E + w->lanes) + v * w->lanes));
      acc[r * nv + v] = k_f(k, K_fmul, k_load(k, f->at.O, at, w->lanes), c, 0);
    }
  }
  tile_chain(k, &t, k_ic(k, 0), k_min(k, k_ic(k, KEYS), k_sub(k, w->S, key0)), 4, acc);
  for (int r = 0; r < w->rows; r++)
    for (int v = 0; v < nv; v++)
      k_store(k, f->at.O, k_add(k, e0, k_ic(k, r * (w->E + w->lanes) + v * w->lanes)), acc[r * nv + v]);
}

static void finish_columns(Attend *w, KV e0, int nv, KV count, void *ctx) {
  Forward *f = ctx;
  Kernel *k = w->k;
  for (int r = 0; r < w->rows; r++) {
    KV l = k_splat(k, k_load(k, f->at.L, k_ic(k, r), 1), w->lanes);
    for (int v = 0; v < nv; v++) {
      KV x = k_load(k, f->at.O, k_add(k, e0, k_ic(k, r * (w->E + w->lanes) + v * w->lanes)), w->lanes);
      KV at = k_add(k, k_add(k, attend_q(w, f->row[r]), e0), k_ic(k, v * w->lanes));
      x = lower_rounded(w->lo, w->n->res, k_f(k, K_fdiv, x, l, 0));
      if (count)
        k_store_n(k, f->o, at, x, count);
      else
        k_store(k, f->o, at, x);
    }
  }
}

bool lower_attend(Lower *lo) {
  Attend w;
  if (!attend_init(&w, lo)) return false;
  Kernel *k = lo->k;
  Type keys = val_type(lo->g, w.n->args[1]);
  Forward f = {.q = lo->in_buf[w.n->args[0]],
               .kbuf = lo->in_buf[w.n->args[1]],
               .v = lo->in_buf[w.n->args[2]],
               .o = -1,
               .lse = -1};
  for (int i = 0; i < lo->g->noutputs; i++) *(lo->g->outputs[i].val == w.n->res ? &f.o : &f.lse) = lo->out_buf[i];
  f.KT = k_scratch(k, "KT", DT_f32, attend_packed(&w, &keys));
  f.at = attend_state(&w, TILE_ROWS);
  f.Q = attend_copy(&w, "Q", TILE_ROWS);
  KV from, to, one = k_ic(k, 1);
  lower_share(k, k_mul(k, w.B, w.H), 1, &from, &to);
  KV u = k_for(k, from, to, 1);
  w.b = k_i2(k, K_idiv, u, w.H), w.h = k_i2(k, K_imod, u, w.H);
  w.g = k_i2(k, K_idiv, w.h, k_i2(k, K_idiv, w.H, w.G));
  attend_pack(&w, f.kbuf, f.KT);
  /* under a causal mask the rows of a tile need the same key blocks: tiles do not straddle multiples of 64 */
  KV run = w.causal ? k_for(k, k_ic(k, 0), w.T, KEYS) : k_ic(k, 0);
  KV run_end = w.causal ? k_min(k, k_add(k, run, k_ic(k, KEYS)), w.T) : w.T;
  f.last = k_sub(k, run_end, one);
  f.i0 = k_for(k, run, run_end, w.rows);
  KV a_at[TILE_ROWS];
  for (int r = 0; r < w.rows; r++) {
    f.row[r] = k_min(k, k_add(k, f.i0, k_ic(k, r)), f.last);
    a_at[r] = attend_q(&w, f.row[r]);
    if (w.narrow) {
      attend_widen(&w, f.q, a_at[r], f.Q, k_ic(k, r));
      a_at[r] = attend_copy_row(&w, k_ic(k, r));
    }
    attend_start(&w, &f.at, k_ic(k, r));
  }
  KV end = w.causal ? k_min(k, k_add(k, f.row[w.rows - 1], one), w.S) : w.S;
  KV begin = k_i2(k, K_idiv, attend_first_key(&w, f.row[0]), k_ic(k, KEYS));
  f.block = k_for(k, begin, k_i2(k, K_idiv, k_add(k, end, k_ic(k, KEYS - 1)), k_ic(k, KEYS)), 1);
  attend_scores(&w, w.narrow ? f.Q : f.q, a_at, f.KT, f.block, f.at.P, k_ic(k, 0));
  KV r = k_for(k, k_ic(k, 0), k_ic(k, w.rows), 1);
  attend_softmax(&w, &f.at, r, k_min(k, k_add(k, f.i0, r), f.last), f.block);
  k_end(k);
  attend_columns(&w, weigh_values, &f);
  k_end(k);
  if (f.o >= 0) attend_columns(&w, finish_columns, &f);
  for (int i = 0; i < w.rows && f.lse >= 0; i++) {
    KV l = lower_math(k, "log(a)", (KV[]){k_load(k, f.at.L, k_ic(k, i), 1)}, 1);
    KV at = k_add(k, k_mul(k, k_add(k, k_mul(k, w.b, w.H), w.h), w.T), f.row[i]);
    k_store(k, f.lse, at, k_f(k, K_fadd, k_load(k, f.at.M, k_ic(k, i), 1), l, 0));
  }
  k_end(k);
  if (w.causal) k_end(k);
  k_end(k);
  return true;
}
