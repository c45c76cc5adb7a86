/* What a graph of calls keeps in memory, call by call: what remat lowers, and what reports of budgets tell.
 *
 * A graph is walked in an order of its nodes in which a node may come more than once: it is made again, and from there on its results
 * are the new ones. The plan of a program (codegen/steps.c, memory.c) gives every byte its place; here is what it
 * starts from, with the same rules for what needs no memory of its own. */
#ifndef INK_PASSES_LIVE_H
#define INK_PASSES_LIVE_H
#include "ir/region.h"

/* What a call may write over: a RegionAlias by [result][operand]. NULL: nothing. */
typedef const unsigned char *Aliases;

/* What holds for a graph whatever the order. */
typedef struct Live {
  const Graph *g;
  Val *root;       /* by value: whose bytes it has, through reshapes */
  bool *elsewhere; /* by root: it needs no memory of its own: tables, what becomes an output in its place */
  bool *output;    /* by root: it is an output, or is carried on into one */
  Aliases *alias;  /* by node */
  int64_t *inside; /* by node: of a loop, what one turn keeps beside operands and results */
} Live;

/* One place of an order: what is read, and which results come of it. */
typedef struct LiveStep {
  const Val *args;
  int nargs, nres;
  Val res;
  Aliases alias;
  int64_t inside;
} LiveStep;

/* What is in memory from one place of the order to another. */
typedef struct Stay {
  Val root;
  int begin, end; /* places, both included */
  int64_t bytes;
} Stay;

typedef struct Profile {
  int64_t *bytes; /* by place: alive there */
  int n;
  Stay *stays; /* in the order in which they begin */
  int nstays, cap_stays;
  int64_t peak;  /* the largest of bytes */
  int at, times; /* its first place, and how many there are */
} Profile;

Live live_new(const Graph *g, Arena *a);
Aliases live_aliases(const Graph *region, Arena *a);
/* Does the node call a graph or region again and again? */
bool live_is_loop(const Graph *g, const Node *n);
/* Is the result written over an operand whatever comes, as sums are that are carried on? */
bool live_carried(const Live *l, int node, int result);
LiveStep live_step(const Live *l, int node);
Profile live_profile(const Live *l, const LiveStep *steps, int n, Arena *a);
/* The graph in its own order. */
Profile live_graph(const Live *l, Arena *a);
#endif
