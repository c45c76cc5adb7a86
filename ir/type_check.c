/* Is a type well formed in its graph. Invariants:
 *   1. the rank is 0 .. MAX_RANK; every extent (bound of a symbolic one) is 1 .. MAX_EXTENT; their product is at most
 *      MAX_ELEMENTS
 *   2. a symbolic extent has a name
 *   3. offsets of a segmented extent are a value of the graph, i32 of rank 1, defined before
 *   4. packed are f32, bf16 and i8 of constant extents, with dims on both sides of the split
 *   5. a dim is split over, and a sum is due over, axes of the module's mesh; an axis occurs at most once in a type */
#include "ir/infer.h"

bool type_check(const Graph *g, Type t, Val before, Span at, const char *what) {
  Diags *d = g->mod->diags;
  uint32_t axes = t.partial;
  if ((unsigned)t.dt >= DT_COUNT) return diag_error(d, at, "%s: there is no dtype %d", what, (int)t.dt);
  if (t.rank < 0 || t.rank > MAX_RANK)
    return diag_error(d, at, "%s: %d dims; the limit is %d", what, t.rank, (int)MAX_RANK);
  if (t.partial >> g->mod->naxes)
    return diag_error(d, at, "%s: partial over an axis that the mesh does not have", what);
  for (int i = 0; i < t.rank; i++) {
    Dim k = t.dim[i];
    if (k.n < 1 || k.n > MAX_EXTENT)
      return diag_error(d, at, "%s: extent %lld of dim %d; extents are 1 to 2^40", what, (long long)k.n, i);
    if (k.sym && (!k.name || !k.name[0])) return diag_error(d, at, "%s: a symbolic extent without a name", what);
    if (k.axis > g->mod->naxes)
      return diag_error(d, at, "%s: dim %d is split over an axis that the mesh does not have", what, i);
    if (k.axis && axes >> (k.axis - 1) & 1)
      return diag_error(d, at, "%s: mesh axis %s occurs twice in one type", what, g->mod->mesh[k.axis - 1].name);
    if (k.axis) axes |= 1u << (k.axis - 1);
    if (!k.seg) continue;
    if (k.seg >= before) return diag_error(d, at, "%s: the offsets of dim %d are not defined before", what, i);
    Type o = g->types[k.seg];
    if (o.dt != DT_i32 || o.rank != 1)
      return diag_error(d, at, "%s: the offsets of dim %d are %s; expected i32 with one dim", what, i, type_text(g, o));
  }
  if (t.panel) {
    bool fixed = t.panel > 0 && t.panel <= 256 && t.split > 0 && t.split < t.rank;
    for (int i = 0; i < t.rank; i++) fixed = fixed && !t.dim[i].sym && !t.dim[i].seg && !t.dim[i].axis;
    if (!fixed || (t.dt != DT_f32 && t.dt != DT_bf16 && t.dt != DT_i8))
      return diag_error(d, at, "%s: panels(%d, %d) of %s", what, t.split, t.panel, shape_text(g, t));
  } else if (t.split) {
    return diag_error(d, at, "%s: a split without panels", what);
  }
  if (type_elements(t) > MAX_ELEMENTS)
    return diag_error(d, at, "%s: %s has more than 2^46 elements", what, shape_text(g, t));
  return true;
}
