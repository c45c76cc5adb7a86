/* attend_grad: gradients of q, k, v with the probabilities recomputed from the row log-sum-exp (Dao et al. 2022, algorithm 4).
 * A unit is one key head of one sequence, with all query heads of its group: its dk and dv are one thread's. Blocks of
 * 64 queries by 64 keys; per pair P and dS go to scratch, then three tiled products advance dv, dk and dq, whose chains
 * continue through memory. With a window a block of queries begins at the key block of its first one's first key. Order:
 * docs/numerics.md. */
#include "codegen/lower_attend.h"

typedef struct Backward {
  int q, kbuf, v, o, lse, dout, dq, dk, dv;
  int KT, VT, P, S, D;       /* packed keys and values; P and dS of a block pair, row-major; D of 64 rows */
  KV q0, key0, qend, kend;   /* first row and key of the pair; their ends, clamped to T and S */
  KV i0;                     /* of a tile */
  int Q, DO, dQ, dK, dV;     /* copies in f32 where all is bf16: of the block's queries, of all keys */
  int acc_buf, b_buf, a_buf; /* a product's sides: out += A * B */
  bool by_keys;
} Backward;

/* Rows as the products see them: of q, do and dq, of dk and dv. */
static KV row_q(Attend *w, const Backward *f, KV i) {
  return w->narrow ? attend_copy_row(w, k_sub(w->k, i, f->q0)) : attend_q(w, i);
}
static KV row_k(Attend *w, KV j) {
  return w->narrow ? attend_copy_row(w, j) : attend_k(w, j);
}

static void row_dot(Attend *w, Backward *f, KV i) { /* D[i - q0] = sum over e of do * o, 64 lanes */
  Kernel *k = w->k;
  int lanes = w->lanes, nv = KEYS / lanes;
  KV acc[KEYS], at = attend_q(w, i), E = k_ic(k, w->E);
  for (int j = 0; j < nv; j++) acc[j] = k_fc(k, 0, lanes);
  for (int64_t e = 0; e < w->E; e += lanes) {
    int j = (int)(e / lanes) % nv;
    KV p = k_add(k, at, k_ic(k, e)), n = k_sub(k, E, k_ic(k, e));
    KV x = k_f(k, K_fmul, k_load_n(k, f->dout, p, n, lanes), k_load_n(k, f->o, p, n, lanes), 0);
    acc[j] = k_f(k, K_fadd, acc[j], x, 0);
  }
  k_store(k, f->D, k_sub(k, i, f->q0), lower_tree(k, acc, nv, lanes, false));
}

/* P = exp(s * scale - lse), dS = (P * (dP - D)) * scale for row r of the pair (raw s in P, dP in S on entry). */
static void probabilities(Attend *w, Backward *f, KV r) {
  Kernel *k = w->k;
  int lanes = w->lanes;
  KV i = k_add(k, f->q0, r), base = k_mul(k, r, k_ic(k, KEYS)), scale = k_fc(k, w->scale, lanes);
  Seen seen = attend_seen(w, i, f->key0);
  KV at = k_add(k, k_mul(k, k_add(k, k_mul(k, w->b, w->H), w->h), w->T), i);
  KV lse = k_splat(k, k_load(k, f->lse, at, 1), lanes), D = k_splat(k, k_load(k, f->D, r, 1), lanes);
  for (int j = 0; j < KEYS / lanes; j++) {
    KV p = k_add(k, base, k_ic(k, j * lanes));
    KV s = k_f(k, K_fmul, k_load(k, f->P, p, lanes), scale, 0);
    s = attend_keep(w, s, seen, j * lanes, -__builtin_inf());
    KV pr = lower_math(k, "exp(a)", (KV[]){k_f(k, K_fsub, s, lse, 0)}, lanes);
    pr = attend_keep(w, pr, seen, j * lanes, 0);
    KV ds = k_f(k, K_fmul, pr, k_f(k, K_fsub, k_load(k, f->S, p, lanes), D, 0), 0);
    k_store(k, f->P, p, pr);
    k_store(k, f->S, p, attend_keep(w, k_f(k, K_fmul, ds, scale, 0), seen, j * lanes, 0));
  }
}

/* One run of columns of a tile of out rows i0..: by keys (dk, dv: out row j, chain over i, A column-wise) or by queries (dq). */
static void product(Attend *w, KV e0, int nv, KV count, void *ctx) {
  Backward *f = ctx;
  Kernel *k = w->k;
  KV acc[TILE_MAX], at[TILE_ROWS], heads = f->by_keys ? w->H : w->G;
  KV end = f->by_keys ? f->kend : f->qend, base = f->by_keys ? f->key0 : f->q0;
  KV step = f->by_keys && w->narrow ? attend_copy_row(w, k_ic(k, 1)) : k_mul(k, heads, k_ic(k, w->E));
  Tile t = {w->rows, nv, w->lanes, f->a_buf, f->b_buf, {0}, k_ic(k, f->by_keys ? KEYS : 1), 0, step, count};
  t.b = k_add(k, f->by_keys ? row_q(w, f, f->q0) : attend_k(w, f->key0), e0);
  for (int r = 0; r < w->rows; r++) {
    KV i = k_min(k, k_add(k, f->i0, k_ic(k, r)), k_sub(k, end, k_ic(k, 1))), in = k_sub(k, i, base);
    t.a[r] = f->by_keys ? in : k_mul(k, in, k_ic(k, KEYS));
    at[r] = k_add(k, f->by_keys ? row_k(w, i) : row_q(w, f, i), e0);
  }
  for (int r = 0; r < w->rows; r++)
    for (int v = 0; v < nv; v++) {
      KV p = k_add(k, at[r], k_ic(k, v * w->lanes));
      acc[r * nv + v] = count ? k_load_n(k, f->acc_buf, p, count, w->lanes) : k_load(k, f->acc_buf, p, w->lanes);
    }
  KV depth = f->by_keys ? k_sub(k, f->qend, f->q0) : k_sub(k, f->kend, f->key0);
  tile_chain(k, &t, k_ic(k, 0), depth, 4, acc);
  for (int r = 0; r < w->rows; r++)
    for (int v = 0; v < nv; v++) {
      KV p = k_add(k, at[r], k_ic(k, v * w->lanes));
      if (count)
        k_store_n(k, f->acc_buf, p, acc[r * nv + v], count);
      else
        k_store(k, f->acc_buf, p, acc[r * nv + v]);
    }
}

static void advance(Attend *w, Backward *f, bool by_keys, int out, int a_buf, int b_buf) {
  Kernel *k = w->k;
  f->by_keys = by_keys, f->acc_buf = out, f->a_buf = a_buf, f->b_buf = b_buf;
  f->i0 = k_for(k, by_keys ? f->key0 : f->q0, by_keys ? f->kend : f->qend, w->rows);
  attend_columns(w, product, f);
  k_end(k);
}

static void zero_rows(Attend *w, const Backward *f, int buf, KV lo, KV hi, bool keys) {
  Kernel *k = w->k;
  KV i = k_for(k, lo, hi, 1);
  attend_zero(w, buf, keys ? row_k(w, i) : row_q(w, f, i));
  k_end(k);
}

static void copy_queries(Attend *w, const Backward *f) {
  Kernel *k = w->k;
  KV i = k_for(k, f->q0, f->qend, 1), row = k_sub(k, i, f->q0);
  attend_widen(w, f->q, attend_q(w, i), f->Q, row);
  attend_widen(w, f->dout, attend_q(w, i), f->DO, row);
  k_end(k);
}

static void round_queries(Attend *w, const Backward *f) {
  Kernel *k = w->k;
  KV i = k_for(k, f->q0, f->qend, 1);
  attend_narrow(w, f->dQ, k_sub(k, i, f->q0), f->dq, attend_q(w, i));
  k_end(k);
}

static void round_keys(Attend *w, const Backward *f) {
  Kernel *k = w->k;
  KV j = k_for(k, k_ic(k, 0), w->S, 1);
  attend_narrow(w, f->dK, j, f->dk, attend_k(w, j));
  attend_narrow(w, f->dV, j, f->dv, attend_k(w, j));
  k_end(k);
}

static void block_pair(Attend *w, Backward *f, KV block) {
  Kernel *k = w->k;
  f->key0 = k_mul(k, block, k_ic(k, KEYS));
  f->kend = k_min(k, k_add(k, f->key0, k_ic(k, KEYS)), w->S);
  KV at[TILE_ROWS], i0 = k_for(k, f->q0, f->qend, w->rows), last = k_sub(k, w->narrow ? f->qend : w->T, k_ic(k, 1));
  int q = w->narrow ? f->Q : f->q, dout = w->narrow ? f->DO : f->dout;
  KV out = k_mul(k, k_sub(k, i0, f->q0), k_ic(k, KEYS));
  for (int r = 0; r < w->rows; r++) at[r] = row_q(w, f, k_min(k, k_add(k, i0, k_ic(k, r)), last));
  attend_scores(w, q, at, f->KT, block, f->P, out);
  attend_scores(w, dout, at, f->VT, block, f->S, out);
  k_end(k);
  KV r = k_for(k, k_ic(k, 0), k_sub(k, f->qend, f->q0), 1);
  probabilities(w, f, r);
  k_end(k);
  advance(w, f, true, w->narrow ? f->dV : f->dv, f->P, dout);
  advance(w, f, true, w->narrow ? f->dK : f->dk, f->S, q);
  advance(w, f, false, w->narrow ? f->dQ : f->dq, f->S, f->kbuf);
}

bool lower_attend_grad(Lower *lo) {
  Attend w;
  if (!attend_init(&w, lo)) return false;
  Kernel *k = lo->k;
  const Graph *g = lo->g;
  const Val *a = w.n->args;
  Type keys = val_type(g, a[1]);
  Backward f = {.q = lo->in_buf[a[0]],
                .kbuf = lo->in_buf[a[1]],
                .v = lo->in_buf[a[2]],
                .o = lo->in_buf[a[3]],
                .lse = lo->in_buf[a[4]],
                .dout = lo->in_buf[a[5]],
                .dq = -1,
                .dk = -1,
                .dv = -1};
  for (int i = 0; i < g->noutputs; i++)
    *(g->outputs[i].val == w.n->res ? &f.dq : g->outputs[i].val == w.n->res + 1 ? &f.dk : &f.dv) = lo->out_buf[i];
  f.KT = k_scratch(k, "KT", DT_f32, attend_packed(&w, &keys));
  f.VT = k_scratch(k, "VT", DT_f32, attend_packed(&w, &keys));
  f.P = k_scratch(k, "P", DT_f32, (KEYS + TILE_ROWS) * KEYS);
  f.S = k_scratch(k, "dS", DT_f32, (KEYS + TILE_ROWS) * KEYS);
  f.D = k_scratch(k, "D", DT_f32, KEYS);
  f.Q = attend_copy(&w, "Q", KEYS), f.DO = attend_copy(&w, "dO", KEYS), f.dQ = attend_copy(&w, "dQ", KEYS);
  f.dK = attend_copy(&w, "dK", keys.dim[1].n), f.dV = attend_copy(&w, "dV", keys.dim[1].n);
  KV from, to, group = k_i2(k, K_idiv, w.H, w.G);
  lower_share(k, k_mul(k, w.B, w.G), 1, &from, &to);
  KV u = k_for(k, from, to, 1);
  w.b = k_i2(k, K_idiv, u, w.G), w.g = k_i2(k, K_imod, u, w.G);
  attend_pack(&w, f.kbuf, f.KT);
  attend_pack(&w, f.v, f.VT);
  zero_rows(&w, &f, w.narrow ? f.dK : f.dk, k_ic(k, 0), w.S, true);
  zero_rows(&w, &f, w.narrow ? f.dV : f.dv, k_ic(k, 0), w.S, true);
  KV hr = k_for(k, k_ic(k, 0), group, 1);
  w.h = k_add(k, k_mul(k, w.g, group), hr);
  f.q0 = k_for(k, k_ic(k, 0), w.T, KEYS);
  f.qend = k_min(k, k_add(k, f.q0, k_ic(k, KEYS)), w.T);
  zero_rows(&w, &f, w.narrow ? f.dQ : f.dq, f.q0, f.qend, false);
  if (w.narrow) copy_queries(&w, &f);
  KV i = k_for(k, f.q0, f.qend, 1);
  row_dot(&w, &f, i);
  k_end(k);
  KV end = w.causal ? k_min(k, f.qend, w.S) : w.S;
  KV begin = k_i2(k, K_idiv, attend_first_key(&w, f.q0), k_ic(k, KEYS));
  KV block = k_for(k, begin, k_i2(k, K_idiv, k_add(k, end, k_ic(k, KEYS - 1)), k_ic(k, KEYS)), 1);
  block_pair(&w, &f, block);
  k_end(k);
  if (w.narrow) round_queries(&w, &f);
  k_end(k);
  k_end(k);
  if (w.narrow) round_keys(&w, &f);
  k_end(k);
  return true;
}
