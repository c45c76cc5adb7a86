/* Private to the lowerings: how a region's values become Kernel IR at a point of its space. */
#ifndef INK_CODEGEN_LOWER_H
#define INK_CODEGEN_LOWER_H
#include "codegen/codegen.h"
#include "ir/region.h"

enum { MAX_OUTPUTS = REGION_OUTPUTS };

typedef struct Lower {
  const Graph *g;
  const Target *t;
  Kernel *k;
  int *in_buf;  /* by value: the buffer of an input, or -1 */
  int *out_buf; /* by output */
  Arena *tmp;
  Diags *d;
} Lower;

/* A place in a space where values are wanted: an index per group of axes, of which at most one is a run of lanes.
 * Values that do not run along the vector group are scalars, kept apart in `rows` so that they can be made once before
 * the inner loop (cursor_rows). A memo holds only values emitted in the scope that is open: cursor_begin empties it. */
typedef struct Cursor {
  Lower *lo;
  const Space *s;
  KV idx[MAX_RANK];
  int vgroup; /* group that runs along lanes; -1: scalar everywhere */
  int lanes;
  KV count;    /* valid lanes, 0: all */
  KV *full;    /* by value: emitted along the lanes at this place */
  KV *rows;    /* by value: emitted as a scalar in an enclosing scope */
  bool *given; /* by value: set from outside (a reduction's result, a contraction's tile): never emitted here */
} Cursor;

Cursor cursor_new(Lower *lo, const Space *s, int vgroup);
void cursor_begin(Cursor *c, int lanes, KV count); /* a new place on the lanes: forgets full values */
void cursor_rows_reset(Cursor *c);                 /* a new row: forgets the scalars too */
KV cursor_value(Cursor *c, Val v);                 /* lanes wide, or scalar if c->lanes is 1 */
void cursor_set(Cursor *c, Val v, KV x);           /* gives a value from outside */
bool cursor_is_full(const Cursor *c, Val v);       /* does v run along the vector group? */
/* Emits the scalars that the lanes will need, as far as they do not depend on values not yet given. */
void cursor_rows(Cursor *c);
bool cursor_ready(const Cursor *c, Val v);      /* can it be emitted: no reduction in front of it that was not given? */
KV cursor_address(Cursor *c, Val v);            /* element index of v at this place */
void cursor_store(Cursor *c, int output, KV x); /* lanes or scalar, as the output is */

/* All outputs that run along the lanes, from lane index `at` on (a LaneBody); all others, as scalars. */
void cursor_store_lanes(Cursor *c, KV at, void *unused);
void cursor_store_rows(Cursor *c);

KV lower_extent(Kernel *k, Dim d);
KV lower_extents(Kernel *k, const Space *s, int group); /* product over a group's axes */
/* This thread's share [lo, hi) of `units`, in whole multiples of `grain`. */
void lower_share(Kernel *k, KV units, int64_t grain, KV *lo, KV *hi);
/* Splits a flat index over the groups [0, n) of s into c->idx. */
void cursor_unflatten(Cursor *c, KV flat, int n);
/* x as the value of v, rounded where v is narrower than the f32 that it is computed in. */
KV lower_rounded(Lower *lo, Val v, KV x);
KV lower_math(Kernel *k, const char *text, const KV *args, int lanes); /* an op row's text on a, b, c */

/* dropout: 1. where an element is dropped, else 0.; the lanes' elements are at, at + stride, ...; key: two indices; far: there may
 * be 2^32 elements or more. */
KV lower_dropped(Kernel *k, const KV *key, KV stream, KV at, KV stride, bool far, uint32_t limit, int lanes);

/* 64-lane reductions (docs/numerics.md): nv = 64 / lanes accumulators to one scalar. */
KV lower_tree(Kernel *k, const KV *acc, int nv, int lanes, bool max);
KV lower_combine(Kernel *k, KV a, KV b, bool max); /* max: a > b ? a : b, else a + b */

/* A loop over [lo, hi) by lanes with a masked tail: body(c, at, lanes, count or 0, ctx). */
typedef void LaneBody(Cursor *c, KV at, void *ctx);
void lower_lanes(Cursor *c, KV lo, KV hi, LaneBody *body, void *ctx);

bool lower_map(Lower *lo);
bool lower_row(Lower *lo);
bool lower_column(Lower *lo);
bool lower_contract(Lower *lo);
bool lower_attend(Lower *lo);
bool lower_attend_grad(Lower *lo);
bool lower_scatter_add(Lower *lo);
bool lower_rope(Lower *lo);
bool lower_page_keys(Lower *lo);
bool lower_page_values(Lower *lo);
bool lower_attend_pages(Lower *lo);
#endif
