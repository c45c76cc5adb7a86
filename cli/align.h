/* Two forms of one graph, line by line: which lines are the same, which changed (align.c). */
#ifndef INK_CLI_ALIGN_H
#define INK_CLI_ALIGN_H
#include "ir/graph.h"

typedef struct AlignLine {
  const char *text;       /* as graph_print has it, without the indent */
  uint64_t deep, shallow; /* what it computes, three steps back; what it does, whatever its operands */
  const Node *node;       /* NULL: an input or an output */
  Val val;                /* of the input, of the node's first result, of the output */
  int pair;               /* line of the other side, or -1 */
  bool same;              /* paired, and its operands are paired, too */
} AlignLine;

typedef struct AlignSide {
  const Graph *g;
  AlignLine *line;
  int n;
  int *line_of;   /* by value: the line that defines it */
  uint64_t *full; /* by value: all that it computes, from the inputs on */
} AlignSide;

/* The lines of g; spans: with their places in the model. */
AlignSide align_lines(Arena *a, const Graph *g, bool spans);
/* Pairs lines in order. */
void align(Arena *a, AlignSide *before, AlignSide *after);
#endif
