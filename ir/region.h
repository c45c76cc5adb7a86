/* Regions: graphs that become one kernel each. Here is what fusion and lowering both need to know of one.
 *
 * Kinds (Graph.region), each with its lowering in codegen/lower_KIND.c:
 *   map        every value is a point of one iteration space: elementwise, broadcast, gather, onehot
 *   row        the same, and sums, rowmax, pick along the last axes of the space
 *   column     sums along other axes of values in the space, then elementwise work on the result
 *   contract   one contract (or contract_from) of inputs or elementwise producers, then elementwise consumers
 *   attend, attend_grad, scatter_add, rope, page_keys, page_values, attend_pages   that op alone
 *   loop       calls and reshapes: no kernel but a list of steps (see `call`, count)
 *
 * The space is the shape of the widest value. A value's map says which axis of the space each of its axes runs
 * along: the whole index arithmetic of a kernel follows from the maps. */
#ifndef INK_IR_REGION_H
#define INK_IR_REGION_H
#include "ir/graph.h"

enum { REGION_OUTPUTS = 64 }; /* a kernel has at most that many */
enum { MAP_INDIRECT = -1 };   /* the axis is addressed through an index: the rows of a gather's table */

typedef struct Space {
  int rank;
  Dim dim[MAX_RANK];
  int8_t (*map)[MAX_RANK]; /* by value */
  bool *known;             /* the value is a point of this space */
  /* Neighbouring axes that every access takes together are walked as one: group g is axes [start[g], start[g+1]). */
  int ngroups, start[MAX_RANK + 1];
  uint32_t reduced; /* bit per axis: summed over by some reduction of the region */
} Space;

/* Solves the maps outward from `anchor`, whose axes are the space. Stops at contract nodes. false if a value would need two maps. */
bool space_solve(const Graph *g, Val anchor, Arena *a, Space *out);
/* The anchor of a map, row or column region: the widest value (first operand of a reduction before others). */
Val region_anchor(const Graph *g);
const Node *region_contract(const Graph *g); /* the contract of a region, or NULL */
bool op_is_contract(OpKind op);
/* Operands that a kernel reads at places of its own, so that they are inputs of its region: a gather's table, indices, keys. */
bool op_reads_memory(OpKind op, int operand);
/* Does the value's map contain any axis of the group? */
bool space_has(const Space *s, const Graph *g, Val v, int group);
int space_group(const Space *s, int axis);
/* Every output and inner value is reachable and the groups suit the kind: what lowering will demand. */
bool region_fits(const Graph *g, const char *kind);

/* ---- region_alias.c: the input whose buffer output `o` of a region shares. REGION_MUST: the kernel updates it in place
 * (scatter_add, contract_from); REGION_MAY: every element is read before the same element is written, by the same thread.
 * REGION_NONE: keep them apart. */
typedef enum { REGION_NONE, REGION_MAY, REGION_MUST } RegionAlias;
RegionAlias region_alias(const Graph *region, int output, int input);
#endif
