/* Where the elements of a packed parameter lie, and the way between a parameter and its checkpoint tensors.
 *
 * A parameter is a matrix of n rows and k columns: row-major (its last axis is k), or in panels as ink/program.h says. A piece
 * of it is moved tile by tile through f32: a few rows of the matrix, so that either side is walked along its own memory.
 *
 * Law: what is moved into bf16 or F16 is rounded to the nearest, ties to even; every value that the narrower format holds, NaNs
 * and infinities among them, comes through unchanged. */
#ifndef ARTIFACT_LAYOUT_H
#define ARTIFACT_LAYOUT_H
#include "runtime/program.h"
#include "runtime/safetensors.h"

typedef struct Layout {
  int dtype;     /* DTYPE_F32 or DTYPE_BF16 */
  int64_t n, k;  /* rows and columns */
  int64_t panel; /* rows of a panel; 0: row-major */
  int rank;      /* of the memory as it lies, for the file: the parameter's shape, or that of the panels */
  int64_t dim[SAFE_RANK];
  uint64_t bytes;
} Layout;

/* false: the program says something that no layout has. */
bool layout_of(const Program *p, const ProgramParam *q, Layout *out, Report *err);

/* A piece on its way: made once, then moved by any number of threads, each with its share. */
typedef struct LayoutMove LayoutMove;
LayoutMove *layout_move_new(const Layout *l, const ProgramPiece *c, const char *name, Report *err);
void layout_move_free(LayoutMove *m);
/* Between the parameter's memory and the bytes of its checkpoint tensor (dtype F32, BF16 or F16): into the parameter with `pack`,
 * else back. Returns how many elements became others. */
int64_t layout_move(const LayoutMove *m, void *param, void *tensor, const char *dtype, bool pack, int thread,
                    int threads);
#endif
