/* Types of graph values: a dtype, a shape of constant, symbolic or segmented extents, and a placement per mesh axis.
 *
 * Text:  f32[B<=32, T=256, d=768]           symbolic B with its bound; T and d are constants that carry a name
 *        f32[N<=4096 by %off, 64]           segmented: N rows divided by the offsets in %off (i32[S+1])
 *        bf16[1024, 4096 @tp] partial(dp)   sharded over mesh axis tp on the second dim; a pending sum over dp
 *        f32[12, 64, 768] panels(2, 32)     a weight as contractions read it: a matrix of N = 12 * 64 rows by K = 768, in memory
 *                                           [ceil(N / 32)][K][32] (of bf16 [ceil(N / 32)][ceil(K / 2)][32][2], of i8 [ceil(N / 32)][ceil(K / 4)][32][4]), 0 past N
 *                                           and K
 *
 * A name on a constant extent is for people and for sharding; it takes no part in type equality. */
#ifndef INK_IR_TYPE_H
#define INK_IR_TYPE_H
#include "ink/base.h"

typedef enum DType {
#define DT(name, bytes, doc) DT_##name,
#include "ir/dtypes.def"
  DT_COUNT
} DType;
extern const char *const dtype_name[DT_COUNT]; /* "f32", ... */
extern const int dtype_bytes[DT_COUNT];
bool dtype_parse(const char *s, DType *out);

enum { MAX_RANK = 6, MAX_AXES = 4 };
#define MAX_EXTENT ((int64_t)1 << 40) /* largest extent; products are checked against MAX_ELEMENTS */
#define MAX_ELEMENTS ((int64_t)1 << 46)

typedef uint32_t Val; /* a value of a graph; 0 is none */

typedef struct Dim {
  int64_t n;        /* extent; for a symbolic one its upper bound */
  const char *name; /* interned; NULL: anonymous. Required when sym */
  bool sym;         /* n is known only at run time: equal names within a graph are equal extents */
  uint8_t axis;     /* 1 + mesh axis this dim is split over; 0: replicated */
  Val seg;          /* value that holds the segment offsets; 0: not segmented */
} Dim;

typedef struct Type {
  DType dt;
  int rank;
  Dim dim[MAX_RANK];
  uint32_t partial; /* bit a: a sum over mesh axis a is still due */
  int split, panel; /* panels(split, panel): N is the first `split` dims; panel 0: row-major. Values are the same */
} Type;

Dim dim_const(int64_t n);
bool dim_eq(Dim a, Dim b); /* extents, segments and placement; names of constants ignored */
bool type_eq(Type a, Type b);
bool shape_eq(Type a, Type b);                        /* without dtype and partial */
Type type_make(DType dt, int rank, const int64_t *n); /* constant anonymous extents */
Type type_scalar(DType dt);
int64_t type_elements(Type t); /* product of extents (bounds for symbolic ones) */
int64_t type_bytes(Type t);
/* Of a packed type: the matrix's sizes; the element of memory that holds (n, k). */
int64_t type_rows(Type t);
int64_t type_panel_at(Type t, int64_t n, int64_t k);
#endif
