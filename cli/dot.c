/* Graphs for Graphviz: a box for each node, an ellipse for each input, an edge for each use. Names come from the user's
 * file, so they are escaped. */
#include "cli/dot.h"

#include <inttypes.h>

static void quoted(Text *out, const char *s) {
  for (; *s; s++) text_add(out, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
}

static void type_add(Text *out, Type t) {
  text_add(out, "%s[", dtype_name[t.dt]);
  for (int i = 0; i < t.rank; i++) {
    text_add(out, "%s", i ? ", " : "");
    if (t.dim[i].name) {
      quoted(out, t.dim[i].name);
      text_add(out, "=");
    }
    text_add(out, "%" PRId64, t.dim[i].n);
  }
  text_add(out, "]");
}

static void node_name(Text *out, const Graph *g, int graph, Val v) {
  if (g->def[v] < 0)
    text_add(out, "g%di%d", graph, -1 - g->def[v]);
  else
    text_add(out, "g%dn%d", graph, g->def[v]);
}

static void graph_dot(const Graph *g, int number, Text *out) {
  text_add(out, "subgraph cluster_%d {\n  label=\"", number);
  quoted(out, g->name);
  text_add(out, "\";\n");
  for (int i = 0; i < g->ninputs; i++) {
    text_add(out, "  g%di%d [label=\"", number, i);
    quoted(out, g->inputs[i].name);
    text_add(out, "\\n");
    type_add(out, val_type(g, g->inputs[i].val));
    text_add(out, "\"];\n");
  }
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    const Attr *fn = n->op == OP_call ? node_attr(n, "fn") : NULL;
    text_add(out, "  g%dn%d [shape=box,label=\"", number, i);
    quoted(out, fn ? fn->str : op_info[n->op].name);
    text_add(out, "\\n");
    if (n->nres) type_add(out, val_type(g, n->res));
    text_add(out, "\"];\n");
    for (int k = 0; k < n->nargs; k++) {
      text_add(out, "  ");
      node_name(out, g, number, n->args[k]);
      text_add(out, " -> g%dn%d;\n", number, i);
    }
  }
  for (int o = 0; o < g->noutputs; o++) {
    text_add(out, "  g%do%d [shape=plaintext,label=\"", number, o);
    quoted(out, g->outputs[o].name);
    text_add(out, "\"];\n  ");
    node_name(out, g, number, g->outputs[o].val);
    text_add(out, " -> g%do%d;\n", number, o);
  }
  text_add(out, "}\n");
}

void dot_print(const Module *m, Text *out) {
  text_add(out, "digraph \"");
  quoted(out, m->name);
  text_add(out, "\" {\n");
  for (int i = 0; i < m->ngraphs; i++)
    if (!m->graphs[i]->region) graph_dot(m->graphs[i], i, out);
  text_add(out, "}\n");
}
