/* Inside of remat: which values a call gives can be made again without the whole call.
 *
 *   live.c          what is in memory when               remat_part.c   parts of regions that make one value again
 *   remat.c         what is made again, and where */
#ifndef INK_PASSES_REMAT_H
#define INK_PASSES_REMAT_H
#include "passes/live.h"

/* A region that makes one output of another one again, from that one's inputs and other outputs. */
typedef struct Part {
  const Graph *of;
  int output;
  Graph *trial; /* in an arena of the pass: for its cost; NULL: there is none */
  Aliases alias;
  Graph *made; /* in the new module, once it is used */
  int *from;   /* by its input: k: input k of `of`; -1 - o: output o */
  int nfrom;
} Part;

typedef struct Parts {
  const Module *from; /* whose names are taken */
  Part *list;
  int n, cap;
  int made;
  Arena *tmp;
} Parts;

/* The part for this output: its place in the list, or -1. */
int part_find(Parts *p, const Graph *of, int output);
/* Its region in the module, made when it is first asked for. */
const Graph *part_region(Parts *p, int part, Module *to);
double part_flops(const Part *part);
#endif
