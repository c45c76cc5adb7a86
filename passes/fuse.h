/* Inside of fuse: groups of nodes and how they become regions.
 *
 *   fuse.c          who joins whom: groups, copies, what is made again          fuse_region.c   groups to regions, the graph of calls */
#ifndef INK_PASSES_FUSE_H
#define INK_PASSES_FUSE_H
#include "ir/region.h"
#include "passes/rewrite.h"

typedef enum Kind { G_NONE, G_SCALARS, G_MAP, G_ROW, G_COLUMN, G_CONTRACT, G_ALONE, G_OUTSIDE } Kind;

typedef struct Group {
  Kind kind;
  int *node; /* members in order */
  int n, cap;
  int into;        /* merged into this group; -1: alive */
  uint64_t *reach; /* groups it depends on */
  bool done;
  Val *outs; /* of the final region */
  int nouts, cap_outs;
  Span *places; /* of its call */
  int nplaces, cap_places;
} Group;

/* Regions by their text, over all graphs of the module. */
typedef struct Known {
  Graph **region;
  const char **text;
  int n, cap_region, cap_text, n_text;
} Known;

typedef struct Fuse {
  const Graph *g;
  Known *known;
  Module *to;
  Graph *out;
  Arena *tmp;
  Group *group;
  int ngroups, words;
  int *of;      /* by node: its group, -1: none */
  bool *lazy;   /* by node: copied into consumers */
  int *uses;    /* by value */
  int *within;  /* by value: uses by the members being tried; 0 between trials */
  bool *leaves; /* by value: an output of the graph, or read by a node outside of all groups */
  bool *to_row; /* by value: ends, through elementwise nodes, in a reduction along its last axes */
  Val *map;     /* by value: the new graph's */
  /* by value: the region's under construction, valid where stamp is that construction's number; so trials clear nothing */
  Val *built;
  int *stamp, *turn;
  bool apart; /* the target's fuse=0: a region holds one node and the free copies it reads */
} Fuse;

/* Nodes that have no kernel but a place in the order; nodes that cost nothing where they are used. */
static inline bool fuse_outside(OpKind op) {
  return op == OP_table || op == OP_reshape || op == OP_call;
}
static inline bool fuse_free(OpKind op) {
  return op == OP_const || op == OP_broadcast || op == OP_onehot || op == OP_valid || op == OP_stop;
}
/* Free, or a cast from bf16 to f32, which loads do by the way: what goes from region to region is bf16. */
static inline bool fuse_copied(const Graph *g, const Node *n) {
  bool cast = n->op == OP_cast && val_type(g, n->args[0]).dt == DT_bf16 && val_type(g, n->res).dt == DT_f32;
  return cast || fuse_free(n->op);
}
const char *fuse_kind_name(const Fuse *f, const Group *gr); /* of its region */
int fuse_alive(const Fuse *f, int gr);                      /* the group that gr was merged into */

/* ---- fuse_region.c */
/* Would these members make a region of this kind? */
bool fuse_fits(const Fuse *f, const int *node, int n, const char *kind);
/* The new graph: what every group gives to others, then its calls in order, each region made or found. */
bool fuse_emit(Fuse *f);
#endif
