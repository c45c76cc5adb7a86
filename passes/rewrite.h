/* How passes build the next graph: copy node by node through a map from old values to new ones. */
#ifndef INK_PASSES_REWRITE_H
#define INK_PASSES_REWRITE_H
#include "ir/graph.h"

typedef struct Rewrite {
  const Graph *from;
  Graph *to;
  Val *map; /* by old value; 0: not there (yet) */
} Rewrite;

/* `to` gets from's name and all of its inputs. */
Rewrite rewrite_begin(Module *into, const Graph *from);
/* The same with another name and no inputs yet: rewrite_input adds them one by one, in any order. */
Rewrite rewrite_empty(Module *into, const Graph *from, const char *name);
Val rewrite_input(Rewrite *r, const Input *in);
Type rewrite_type(const Rewrite *r, Type t); /* a type of `from` in the words of `to` */
/* Copies one node with mapped operands, maps its results, returns the first. */
Val rewrite_copy(Rewrite *r, const Node *n);
/* Copies the outputs through the map. */
void rewrite_outputs(Rewrite *r);
/* By value: does an output need it? All results of a node that has a needed one count as needed. */
bool *rewrite_live(const Graph *g, Arena *a);
/* Runs `one` on every graph of `from`, which makes the graph of the same name in `into`; callees before their callers, whatever
 * their order in the text, which is kept. False as soon as one is false. */
bool rewrite_graphs(const Module *from, Module *into, bool (*one)(Module *into, const Graph *g));
/* A module with m's name, mesh, arena, and what is asked of passes; no graphs. */
Module *rewrite_module(const Module *m);

/* Appends to g the gradient nodes of `loss` (f32 scalar, with gradient `seed`) for each value of wrt; grad[i] is 0 where
 * none flows. Reads only the op table's derivative texts and grad_NAME functions (autodiff.c). */
bool autodiff(Graph *g, Val loss, Val seed, const Val *wrt, int nwrt, Val *grad);
#endif
