/* attend_pages: attention of sequences side by side over pages of keys and values, a page one key block of lower_attend.c, and in
 * its order: so a token's result is the one it has in training, alone, or in any mix (docs/numerics.md).
 *
 * The rows of a tile are the queries of all heads that share a group of keys, token by token: a decode reads each page once for
 * all of them. There is one nest for each of a few tile heights, chosen by how many rows a sequence has: one to a group's heads
 * in decoding, as many as fit the registers in a prompt. Units of work, tiles or some groups' rows, go to the threads in turn. */
#include "codegen/lower_attend.h"

enum { FEW = 8 }; /* rows of a group that go page by page beside other groups' (few_rows) */

typedef struct Pages {
  Attend w; /* rows, lanes, E, narrow, scale; H, G; g: the group at work */
  int q, keys, values, positions, starts, table, out;
  RowState at;   /* of the tile */
  int Q;         /* scratch: queries in f32 where they are bf16 */
  KV heads;      /* per group */
  KV first, n;   /* of the sequence: its first token; rows = tokens * heads */
  KV page, key0; /* element of the page's head / (64 E); its first position */
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
  return k_mul(p->w.k, k_add(p->w.k, p->at.first, r), k_ic(p->w.k, p->w.E + p->w.lanes));
}

static void weigh(Attend *w, KV e0, int nv, KV count, void *ctx) {
  Pages *p = ctx;
  Kernel *k = w->k;
  KV acc[TILE_MAX];
  Tile t = {w->rows, nv, w->lanes, p->at.P, p->values, {0}, k_ic(k, 1), 0, k_ic(k, w->E), count};
  t.b = k_add(k, k_mul(k, p->page, k_ic(k, KEYS * w->E)), e0);
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
  KV l = k_splat(k, k_load(k, p->at.L, k_add(k, p->at.first, r), 1), w->lanes);
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

/* The tile's rows before the first page; at's first is set. */
static void begin(Pages *p) {
  Attend *w = &p->w;
  Kernel *k = w->k;
  for (int i = 0; i < w->rows; i++) {
    KV r = k_ic(k, i);
    if (w->narrow) attend_widen(w, p->q, query_at(p, r), p->Q, k_add(k, p->at.first, r));
    attend_start(w, &p->at, r);
  }
}

/* All rows of the tile take their page in. */
static void take_page(Pages *p, KV block) {
  Attend *w = &p->w;
  Kernel *k = w->k;
  KV a_at[TILE_ROWS];
  for (int i = 0; i < w->rows; i++) {
    KV r = k_ic(k, i);
    a_at[i] = w->narrow ? attend_copy_row(w, k_add(k, p->at.first, r)) : query_at(p, r);
  }
  attend_scores(w, w->narrow ? p->Q : p->q, a_at, p->keys, p->page, p->at.P, k_ic(k, 0));
  KV r = k_for(k, k_ic(k, 0), k_ic(k, w->rows), 1);
  attend_softmax(w, &p->at, r, position_of(p, r), block);
  k_end(k);
  attend_columns(w, weigh, p);
}

/* The loop over the blocks of keys that the tile's rows see. */
static KV blocks(Pages *p) {
  Attend *w = &p->w;
  Kernel *k = w->k;
  p->end = k_add(k, position_of(p, k_ic(k, w->rows - 1)), k_ic(k, 1));
  KV first = k_i2(k, K_idiv, attend_first_key(w, position_of(p, k_ic(k, 0))), k_ic(k, KEYS));
  KV block = k_for(k, first, k_i2(k, K_idiv, k_add(k, p->end, k_ic(k, KEYS - 1)), k_ic(k, KEYS)), 1);
  p->key0 = k_mul(k, block, k_ic(k, KEYS));
  return block;
}

/* Is unit `number` this thread's? Opens an if. */
static void mine(Pages *p, KV number) {
  Kernel *k = p->w.k;
  k_if(k, k_i2(k, K_ieq, k_i2(k, K_imod, number, k_op0(k, K_threads)), k_op0(k, K_thread)));
}

/* Many rows: a unit is a tile of one group's rows. table_at: the first entry of the sequence's row. */
static void tiles(Pages *p, KV s, KV table_at) {
  Attend *w = &p->w;
  Kernel *k = w->k;
  w->g = k_for(k, k_ic(k, 0), w->G, 1);
  p->row0 = k_for(k, k_ic(k, 0), p->n, w->rows);
  mine(p, k_add(k, k_add(k, k_mul(k, s, w->G), w->g), k_i2(k, K_idiv, p->row0, k_ic(k, w->rows))));
  begin(p);
  KV block = blocks(p);
  p->page = head_of(p, k_add(k, table_at, block));
  take_page(p, block);
  k_end(k);
  attend_columns(w, finish, p);
  for (int i = 0; i < 3; i++) k_end(k);
}

/* The loop over the groups of a unit; where a group's rows stay is set for each. */
static void open_groups(Pages *p, KV from, KV to) {
  Attend *w = &p->w;
  Kernel *k = w->k;
  w->g = k_for(k, from, to, 1);
  p->at.first = k_mul(k, k_sub(k, w->g, from), k_ic(k, w->rows));
}

/* So few rows that one tile holds a group's: a unit is some groups side by side, and page by page all of them take it in: memory
 * is read in long runs, and while a group thinks the next one's keys and values are on their way. */
static void few_rows(Pages *p, KV s, KV table_at) {
  Attend *w = &p->w;
  Kernel *k = w->k;
  KV parts = k_min(k, w->G, k_op0(k, K_threads)), zero = k_ic(k, 0);
  KV part = k_for(k, zero, parts, 1);
  mine(p, k_add(k, k_mul(k, s, parts), part));
  KV from = k_i2(k, K_idiv, k_mul(k, part, w->G), parts);
  KV to = k_i2(k, K_idiv, k_mul(k, k_add(k, part, k_ic(k, 1)), w->G), parts);
  p->row0 = zero;
  open_groups(p, from, to);
  begin(p);
  k_end(k);
  KV block = blocks(p);
  open_groups(p, from, to);
  p->page = head_of(p, k_add(k, table_at, block));
  take_page(p, block);
  k_end(k);
  k_end(k);
  open_groups(p, from, to);
  attend_columns(w, finish, p);
  k_end(k);
  p->at.first = zero;
  k_end(k);
  k_end(k);
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
  int64_t stay = FEW * keys.dim[1].n;
  w->rows = height[nheights - 1];
  if (stay < TILE_ROWS) stay = TILE_ROWS;
  p.at = attend_state(w, stay);
  p.Q = attend_copy(w, "Q", stay);
  KV S = lower_extent(k, table.dim[0]), W = lower_extent(k, table.dim[1]);
  KV s = k_for(k, k_ic(k, 0), S, 1);
  p.first = k_load_i(k, p.starts, s);
  p.n = k_mul(k, k_sub(k, k_load_i(k, p.starts, k_add(k, s, k_ic(k, 1))), p.first), p.heads);
  for (int i = 0; i < nheights; i++) {
    k_if(k, k_i2(k, K_ilt, k_ic(k, i ? height[i - 1] : 0), p.n));
    if (i + 1 < nheights) k_if(k, k_i2(k, K_ilt, p.n, k_ic(k, height[i] + 1)));
    w->rows = height[i]; /* few rows take 64 columns at once */
    w->wide = w->rows * 4 + 5 <= lo->t->registers && KEYS % (4 * w->lanes) == 0 ? 4 : 2;
    (i + 1 < nheights && w->rows <= FEW ? few_rows : tiles)(&p, s, k_mul(k, s, W));
    k_end(k);
    if (i + 1 < nheights) k_end(k);
  }
  k_end(k);
  return true;
}
