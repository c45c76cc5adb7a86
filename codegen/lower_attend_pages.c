/* attend_pages: attention of sequences side by side over pages of keys and values, a page one key block of lower_attend.c, and in
 * its order: so a token's result is the one it has in training, alone, or in any mix (docs/numerics.md).
 *
 * The rows of a tile are the queries of all heads that share a group of keys, token by token: a decode reads each page once for
 * all of them. Tiles are dealt out to the threads in turn. There is one nest for each of a few tile heights, chosen by how
 * many rows a sequence has: one to a group's heads in decoding, as many as fit the registers in a prompt. */
#include "codegen/lower_attend.h"

typedef struct Pages {
  Attend w; /* rows, lanes, E, narrow, scale; H, G; g: the group at work */
  int q, keys, values, positions, starts, table, out;
  RowState at;   /* of the tile */
  int Q;         /* scratch: queries in f32 where they are bf16 */
  KV heads;      /* per group */
  KV first, n;   /* of the sequence: its first token; rows = tokens * heads */
  KV page, key0; /* element of the page's head / (64 E); its first position */
  KV next;       /* the same of the next block; 0: not asked for */
  KV row0;       /* the tile's first row */
  KV end;        /* positions that the tile's last row sees */
} Pages;

/* Token and query head of row r of the tile; rows past the end repeat the last. */
static KV row_of(Pages *p, KV r) {
  Kernel *k = p->w.k;
  return k_min(k, k_add(k, p->row0, r), k_sub(k, p->n, k_ic(k, 1)));
}

static KV token_of(Pages *p, KV r) {
  return k_add(p->w.k, p->first, k_i2(p->w.k, K_idiv, row_of(p, r), p->heads));
}

static KV position_of(Pages *p, KV r) {
  return k_load_i(p->w.k, p->positions, token_of(p, r));
}

static KV query_at(Pages *p, KV r) {
  Kernel *k = p->w.k;
  KV head = k_add(k, k_mul(k, p->w.g, p->heads), k_i2(k, K_imod, row_of(p, r), p->heads));
  return k_mul(k, k_add(k, k_mul(k, token_of(p, r), p->w.H), head), k_ic(k, p->w.E));
}

static KV wide_row(Pages *p, KV r) {
  return k_mul(p->w.k, r, k_ic(p->w.k, p->w.E + p->w.lanes));
}

static void weigh(Attend *w, KV e0, int nv, KV count, void *ctx) {
  Pages *p = ctx;
  Kernel *k = w->k;
  KV acc[TILE_MAX];
  Tile t = {w->rows, nv, w->lanes, p->at.P, p->values, {0}, k_ic(k, 1), 0, k_ic(k, w->E), count};
  t.b = k_add(k, k_mul(k, p->page, k_ic(k, KEYS * w->E)), e0);
  if (p->next) t.next = p->keys, t.next_at = k_add(k, k_mul(k, p->next, k_ic(k, KEYS * w->E)), e0);
  for (int r = 0; r < w->rows; r++) {
    t.a[r] = k_ic(k, r * KEYS);
    KV c = k_splat(k, k_load(k, p->at.C, k_ic(k, r), 1), w->lanes);
    for (int v = 0; v < nv; v++) {
      KV at = k_add(k, k_add(k, wide_row(p, k_ic(k, r)), e0), k_ic(k, v * w->lanes));
      acc[r * nv + v] = k_f(k, K_fmul, k_load(k, p->at.O, at, w->lanes), c, 0);
    }
  }
  tile_chain(k, &t, k_ic(k, 0), k_min(k, k_ic(k, KEYS), k_sub(k, p->end, p->key0)), 4, acc);
  for (int r = 0; r < w->rows; r++)
    for (int v = 0; v < nv; v++)
      k_store(k, p->at.O, k_add(k, k_add(k, wide_row(p, k_ic(k, r)), e0), k_ic(k, v * w->lanes)), acc[r * nv + v]);
}

static void finish(Attend *w, KV e0, int nv, KV count, void *ctx) {
  Pages *p = ctx;
  Kernel *k = w->k;
  KV r = k_for(k, k_ic(k, 0), k_min(k, k_ic(k, w->rows), k_sub(k, p->n, p->row0)), 1);
  KV l = k_splat(k, k_load(k, p->at.L, r, 1), w->lanes);
  for (int v = 0; v < nv; v++) {
    KV e = k_add(k, e0, k_ic(k, v * w->lanes)), x = k_load(k, p->at.O, k_add(k, wide_row(p, r), e), w->lanes);
    x = lower_rounded(w->lo, w->n->res, k_f(k, K_fdiv, x, l, 0));
    if (count)
      k_store_n(k, p->out, k_add(k, query_at(p, r), e), x, count);
    else
      k_store(k, p->out, k_add(k, query_at(p, r), e), x);
  }
  k_end(k);
}

/* The head at work in the page that an entry of the table names. */
static KV head_of(Pages *p, KV entry) {
  Kernel *k = p->w.k;
  return k_add(k, k_mul(k, k_load_i(k, p->table, entry), p->w.G), p->w.g);
}

/* One tile of rows over the pages of its sequence, table_at the first entry of the sequence's row. */
static void tile(Pages *p, KV table_at) {
  Attend *w = &p->w;
  Kernel *k = w->k;
  KV a_at[TILE_ROWS], one = k_ic(k, 1);
  for (int i = 0; i < w->rows; i++) {
    KV r = k_ic(k, i);
    a_at[i] = query_at(p, r);
    if (w->narrow) {
      attend_widen(w, p->q, a_at[i], p->Q, r);
      a_at[i] = attend_copy_row(w, r);
    }
    attend_start(w, &p->at, r);
  }
  p->end = k_add(k, position_of(p, k_ic(k, w->rows - 1)), one);
  KV first = k_i2(k, K_idiv, attend_first_key(w, position_of(p, k_ic(k, 0))), k_ic(k, KEYS));
  KV block = k_for(k, first, k_i2(k, K_idiv, k_add(k, p->end, k_ic(k, KEYS - 1)), k_ic(k, KEYS)), 1);
  p->key0 = k_mul(k, block, k_ic(k, KEYS));
  p->page = head_of(p, k_add(k, table_at, block));
  /* few rows wait for memory: values come by the way while scores are made, the next keys while values are added */
  bool few = w->rows <= 4;
  KV last = k_i2(k, K_idiv, k_sub(k, p->end, one), k_ic(k, KEYS));
  p->next = few ? head_of(p, k_add(k, table_at, k_min(k, k_add(k, block, one), last))) : 0;
  w->next = p->values;
  w->next_at = few ? k_mul(k, p->page, k_ic(k, KEYS * w->E)) : 0;
  attend_scores(w, w->narrow ? p->Q : p->q, a_at, p->keys, p->page, p->at.P, k_ic(k, 0));
  KV r = k_for(k, k_ic(k, 0), k_ic(k, w->rows), 1);
  attend_softmax(w, &p->at, r, position_of(p, r), block);
  k_end(k);
  attend_columns(w, weigh, p);
  k_end(k);
  attend_columns(w, finish, p);
}

/* Tile heights: the first that holds all rows of a sequence, or the last. */
static int heights(int most, int *out) {
  static const int some[] = {1, 2, 4, 8};
  int n = 0;
  for (int i = 0; i < LEN(some); i++)
    if (some[i] < most) out[n++] = some[i];
  out[n++] = most;
  return n;
}

bool lower_attend_pages(Lower *lo) {
  const Graph *g = lo->g;
  const Node *n = &g->nodes[0];
  Kernel *k = lo->k;
  Type q = val_type(g, n->args[0]), keys = val_type(g, n->args[1]), table = val_type(g, n->args[5]);
  Pages p = {.q = lo->in_buf[n->args[0]],
             .keys = lo->in_buf[n->args[1]],
             .values = lo->in_buf[n->args[2]],
             .positions = lo->in_buf[n->args[3]],
             .starts = lo->in_buf[n->args[4]],
             .table = lo->in_buf[n->args[5]],
             .out = lo->out_buf[0]};
  Attend *w = &p.w;
  *w = (Attend){.lo = lo, .k = k, .n = n, .lanes = lo->t->lanes, .wide = 2, .E = q.dim[3].n, .causal = true};
  w->narrow = q.dt == DT_bf16;
  w->scale = node_attr(n, "scale")->num;
  w->H = lower_extent(k, q.dim[2]);
  w->G = lower_extent(k, keys.dim[1]);
  const Attr *window = node_attr(n, "window");
  w->window = window ? window->i : 0;
  w->S = k_ic(k, MAX_EXTENT); /* what a row sees ends with itself */
  p.heads = k_i2(k, K_idiv, w->H, w->G);
  int height[5], nheights = heights(attend_rows(lo->t), height);
  w->rows = height[nheights - 1];
  p.at = attend_state(w);
  p.Q = attend_copy(w, "Q", TILE_ROWS);
  KV S = lower_extent(k, table.dim[0]), W = lower_extent(k, table.dim[1]), threads = k_op0(k, K_threads);
  KV s = k_for(k, k_ic(k, 0), S, 1);
  p.first = k_load_i(k, p.starts, s);
  p.n = k_mul(k, k_sub(k, k_load_i(k, p.starts, k_add(k, s, k_ic(k, 1))), p.first), p.heads);
  w->g = k_for(k, k_ic(k, 0), w->G, 1);
  for (int i = 0; i < nheights; i++) {
    KV least = k_ic(k, i ? height[i - 1] : 0);
    k_if(k, k_i2(k, K_ilt, least, p.n));
    if (i + 1 < nheights) k_if(k, k_i2(k, K_ilt, p.n, k_ic(k, height[i] + 1)));
    w->rows = height[i]; /* few rows take pages as one stream, 64 columns at once */
    w->wide = w->rows * 4 + 5 <= lo->t->registers && KEYS % (4 * w->lanes) == 0 ? 4 : 2;
    p.row0 = k_for(k, k_ic(k, 0), p.n, w->rows);
    KV number = k_add(k, k_add(k, k_mul(k, s, w->G), w->g), k_i2(k, K_idiv, p.row0, k_ic(k, w->rows)));
    k_if(k, k_i2(k, K_ieq, k_i2(k, K_imod, number, threads), k_op0(k, K_thread)));
    tile(&p, k_mul(k, s, W));
    k_end(k);
    k_end(k);
    k_end(k);
    if (i + 1 < nheights) k_end(k);
  }
  k_end(k);
  k_end(k);
  return true;
}
