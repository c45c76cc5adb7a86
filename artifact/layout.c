/* Packed parameters. Either side of a piece is separable: element (i, j) lies at row[i] + column[j] of the parameter's memory, and
 * at row[i] + column[j] of the tensor. So a move is two lists of such pairs, in the order of the parameter's memory. */
#include "artifact/layout.h"
#include <inttypes.h>
#include <stdlib.h>

enum { TILE_ROWS = 64, TILE_COLUMNS = 64, PANEL_LIMIT = TILE_ROWS };

typedef enum { PARAM, TENSOR } Side;

/* A row's or a column's part of the element's index on each side. */
typedef struct Place {
  int64_t at[2];
} Place;

struct LayoutMove {
  Layout l;
  Place *row, *column;
  int64_t rows, columns;
};

/* ---- shapes */

bool layout_of(const Program *p, const ProgramParam *q, Layout *out, Report *err) {
  const ProgramBuffer *b = &p->buffers[q->buffer];
  const char *name = program_string(p, b->name);
  int64_t size = dtype_size(b->dtype);
  *out = (Layout){.dtype = b->dtype, .n = 1, .k = 1, .panel = b->panel};
  if (b->dtype != DTYPE_F32 && b->dtype != DTYPE_BF16)
    return report_add(err, "parameter '%s' is %s; f32 and bf16 are packed", name, dtype_text(b->dtype));
  if (b->panel > PANEL_LIMIT || b->split > b->rank)
    return report_add(err, "broken program: the layout of parameter '%s'", name);
  int split = b->panel ? (int)b->split : b->rank - 1;
  for (int i = 0; i < b->rank; i++) *(i < split ? &out->n : &out->k) *= b->dim[i];
  if (!b->panel) {
    out->rank = b->rank;
    memcpy(out->dim, b->dim, (size_t)b->rank * sizeof(int64_t));
  } else {
    int64_t pair = b->dtype == DTYPE_BF16 ? 2 : 1,
            dim[4] = {(out->n + b->panel - 1) / b->panel, (out->k + pair - 1) / pair, b->panel, pair};
    out->rank = pair == 2 ? 4 : 3;
    memcpy(out->dim, dim, sizeof(dim));
  }
  int64_t bytes = size;
  for (int i = 0; i < out->rank; i++)
    if (__builtin_mul_overflow(bytes, out->dim[i], &bytes))
      return report_add(err, "broken program: the shape of parameter '%s'", name);
  if ((uint64_t)bytes != b->bytes)
    return report_add(err, "broken program: parameter '%s' has %" PRIu64 " bytes; its layout makes %" PRId64, name,
                      b->bytes, bytes);
  out->bytes = b->bytes;
  return true;
}

static int64_t row_at(const Layout *l, int64_t row) {
  if (!l->panel) return row * l->k;
  int64_t panel = row / l->panel, in = row % l->panel;
  return l->dtype == DTYPE_F32 ? panel * l->panel * l->k + in : (panel * l->panel * ((l->k + 1) / 2) + in) * 2;
}

static int64_t column_at(const Layout *l, int64_t column) {
  if (!l->panel) return column;
  return l->dtype == DTYPE_F32 ? column * l->panel : column / 2 * l->panel * 2 + column % 2;
}

/* ---- pieces */

typedef struct Axis {
  int64_t dim, at, tensor;
} Axis;

typedef struct Axes {
  Axis axis[2 * PROGRAM_RANK];
  int n;
} Axes;

/* Every combination of the axes, the last fastest. */
static Place *places(const Axes *a, const Layout *l, int64_t (*where)(const Layout *, int64_t), int64_t at,
                     int64_t tensor, int64_t *n) {
  *n = 1;
  for (int i = 0; i < a->n; i++) *n *= a->axis[i].dim;
  Place *out = malloc((size_t)*n * sizeof(Place));
  int64_t index[2 * PROGRAM_RANK] = {0};
  for (int64_t i = 0; out && i < *n; i++) {
    int64_t x = at, y = tensor;
    for (int k = 0; k < a->n; k++) x += index[k] * a->axis[k].at, y += index[k] * a->axis[k].tensor;
    out[i] = (Place){{where(l, x), y}};
    for (int k = a->n - 1; k >= 0 && ++index[k] == a->axis[k].dim; k--) index[k] = 0;
  }
  return out;
}

static int by_place(const void *a, const void *b) {
  const Place *x = a, *y = b;
  return x->at[PARAM] < y->at[PARAM] ? -1 : x->at[PARAM] > y->at[PARAM];
}

/* Axes of a piece as rows and columns of a matrix of k columns. One that runs over both was two neighbours that the compiler
 * joined: it is cut where a row ends. */
static bool divide(const ProgramPiece *c, int64_t k, Axes *rows, Axes *columns) {
  int64_t end = c->start % k;
  for (uint32_t i = 0; i < c->rank; i++) {
    int64_t dim = c->dim[i], step = c->pstride[i], tensor = c->stride[i];
    if (dim == 1) continue;
    if (step && step % k == 0) {
      rows->axis[rows->n++] = (Axis){dim, step / k, tensor};
      continue;
    }
    if (step < 1 || step >= k) return false;
    int64_t fit = k / step;
    if (dim > fit) {
      if (k % step || dim % fit) return false;
      rows->axis[rows->n++] = (Axis){dim / fit, 1, tensor * fit};
      dim = fit;
    }
    columns->axis[columns->n++] = (Axis){dim, step, tensor};
    end += (dim - 1) * step;
  }
  return end < k;
}

LayoutMove *layout_move_new(const Layout *l, const ProgramPiece *c, const char *name, Report *err) {
  Axes rows = {0}, columns = {0};
  if (!l->k || !divide(c, l->k, &rows, &columns)) {
    report_add(err, "broken program: a piece of parameter '%s' is no block of its rows and columns", name);
    return NULL;
  }
  LayoutMove *m = calloc(1, sizeof(LayoutMove));
  if (m) {
    m->l = *l;
    m->row = places(&rows, l, row_at, c->start / l->k, c->base, &m->rows);
    m->column = places(&columns, l, column_at, c->start % l->k, 0, &m->columns);
  }
  if (!m || !m->row || !m->column) {
    layout_move_free(m);
    report_add(err, "out of memory for parameter '%s'", name);
    return NULL;
  }
  qsort(m->row, (size_t)m->rows, sizeof(Place), by_place);
  qsort(m->column, (size_t)m->columns, sizeof(Place), by_place);
  return m;
}

void layout_move_free(LayoutMove *m) {
  if (!m) return;
  free(m->row);
  free(m->column);
  free(m);
}

/* ---- numbers */

typedef enum { AS_F32, AS_BF16, AS_F16 } Format;

static Format format_of(const char *dtype) {
  return !strcmp(dtype, "BF16") ? AS_BF16 : !strcmp(dtype, "F16") ? AS_F16 : AS_F32;
}

static inline float from_bits(uint32_t bits) {
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

static inline uint32_t to_bits(float v) {
  uint32_t bits;
  memcpy(&bits, &v, 4);
  return bits;
}

static inline uint16_t to_brain(float v) {
  uint32_t bits = to_bits(v), high = bits >> 16;
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return (uint16_t)(high & 0x7f ? high : high | 0x40); /* NaN: its payload's top */
  return (uint16_t)((bits + 0x7fff + (high & 1)) >> 16);
}

static inline float load(const void *at, int64_t i, Format f) {
  if (f == AS_F32) return ((const float *)at)[i];
  uint16_t h = ((const uint16_t *)at)[i];
  return f == AS_BF16 ? from_bits((uint32_t)h << 16) : safe_float(h);
}

/* True: what is stored there now reads back as the same bits. */
static inline bool store(void *at, int64_t i, Format f, float v) {
  if (f == AS_F32) {
    ((float *)at)[i] = v;
    return true;
  }
  uint16_t h = f == AS_BF16 ? to_brain(v) : safe_half(v);
  ((uint16_t *)at)[i] = h;
  return to_bits(f == AS_BF16 ? from_bits((uint32_t)h << 16) : safe_float(h)) == to_bits(v);
}

/* ---- tiles: rows [i, i + rows) and columns [j, j + columns) of the piece */

typedef struct Tile {
  int64_t i, j, rows, columns;
  float v[TILE_ROWS][TILE_COLUMNS];
} Tile;

/* Between the tile and one side's memory, the inner loop along that memory. */
static inline __attribute__((always_inline)) int64_t tile_as(const LayoutMove *m, Tile *t, Side side, void *bytes,
                                                             Format f, bool out) {
  const Place *row = m->row + t->i, *column = m->column + t->j;
  bool along_rows =
      t->columns < 2 || (t->rows > 1 && row[1].at[side] - row[0].at[side] == 1) || (side == PARAM && m->l.panel);
  int64_t changed = 0;
  if (along_rows)
    for (int64_t c = 0; c < t->columns; c++)
      for (int64_t r = 0; r < t->rows; r++) {
        int64_t at = row[r].at[side] + column[c].at[side];
        if (out)
          changed += !store(bytes, at, f, t->v[r][c]);
        else
          t->v[r][c] = load(bytes, at, f);
      }
  else
    for (int64_t r = 0; r < t->rows; r++)
      for (int64_t c = 0; c < t->columns; c++) {
        int64_t at = row[r].at[side] + column[c].at[side];
        if (out)
          changed += !store(bytes, at, f, t->v[r][c]);
        else
          t->v[r][c] = load(bytes, at, f);
      }
  return changed;
}

static int64_t tile_move(const LayoutMove *m, Tile *t, Side side, void *bytes, Format f, bool out) {
  switch (f) {
  case AS_F32: return out ? tile_as(m, t, side, bytes, AS_F32, true) : tile_as(m, t, side, bytes, AS_F32, false);
  case AS_BF16: return out ? tile_as(m, t, side, bytes, AS_BF16, true) : tile_as(m, t, side, bytes, AS_BF16, false);
  case AS_F16: break;
  }
  return out ? tile_as(m, t, side, bytes, AS_F16, true) : tile_as(m, t, side, bytes, AS_F16, false);
}

/* The columns of either side lie one behind the other: rows are moved as they are. */
static bool dense(const LayoutMove *m) {
  for (int64_t c = 1; c < m->columns; c++)
    for (int s = PARAM; s <= TENSOR; s++)
      if (m->column[c].at[s] != m->column[c - 1].at[s] + 1) return false;
  return true;
}

/* A thread's rows: whole panels, or groups of 16 rows. */
static void share(const LayoutMove *m, int thread, int threads, int64_t *from, int64_t *to) {
  int64_t group = m->l.panel ? m->l.panel : 16, groups = (m->rows + group - 1) / group;
  *from = groups * thread / threads * group;
  *to = groups * (thread + 1) / threads * group;
  if (*to > m->rows) *to = m->rows;
}

int64_t layout_move(const LayoutMove *m, void *param, void *tensor, const char *dtype, bool pack, int thread,
                    int threads) {
  void *const bytes[] = {param, tensor};
  Format format[] = {m->l.dtype == DTYPE_F32 ? AS_F32 : AS_BF16, format_of(dtype)};
  Side into = pack ? PARAM : TENSOR, other = pack ? TENSOR : PARAM;
  int64_t from, to, changed = 0, step = m->l.panel ? TILE_ROWS / m->l.panel * m->l.panel : TILE_ROWS;
  size_t size = format[PARAM] == AS_F32 ? 4 : 2;
  Tile t;
  share(m, thread, threads, &from, &to);
  if (format[PARAM] == format[TENSOR] && dense(m)) {
    for (int64_t r = from; r < to; r++)
      memcpy((char *)bytes[into] + (size_t)(m->row[r].at[into] + m->column[0].at[into]) * size,
             (const char *)bytes[other] + (size_t)(m->row[r].at[other] + m->column[0].at[other]) * size,
             (size_t)m->columns * size);
    return 0;
  }
  for (t.i = from; t.i < to; t.i += step) {
    t.rows = to - t.i < step ? to - t.i : step;
    for (t.j = 0; t.j < m->columns; t.j += TILE_COLUMNS) {
      t.columns = m->columns - t.j < TILE_COLUMNS ? m->columns - t.j : TILE_COLUMNS;
      tile_move(m, &t, other, bytes[other], format[other], false);
      changed += tile_move(m, &t, into, bytes[into], format[into], true);
    }
  }
  return changed;
}
