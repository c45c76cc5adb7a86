/* Graphs for Graphviz. */
#ifndef INK_CLI_DOT_H
#define INK_CLI_DOT_H
#include "ir/graph.h"

void dot_print(const Module *m, Text *out); /* one cluster a graph, regions apart */
#endif
