/* Graph IR: SSA values over tensors, and modules of graphs.
 *
 * A module holds graphs; a graph after fusion calls other graphs of its module, the regions (one kernel each). Nodes
 * stand in execution order: an operand is defined before it is used. Graphs are not edited in place: a pass reads one
 * and builds the next (graph_begin, graph_add..., see passes/rewrite.h), so a pass is a function from module to module.
 *
 *   module "gpt2"
 *   graph @micro(%tokens: i32[B=4, T=64] data, %wte: f32[vocab=512, d=64] param) {
 *     %1 = gather %wte, %tokens : f32[B=4, T=64, d=64]   # gpt2.yaml:24
 *     %2 = sum %1 {axes=[2]} : f32[B=4, T=64]
 *     return loss=%2
 *   }
 *
 * Text comes from graph_print, and graph_parse(print(m)) == m. */
#ifndef INK_IR_GRAPH_H
#define INK_IR_GRAPH_H
#include "ir/type.h"

typedef enum OpKind {
  OP_NONE,
#define EW1(name, ...) OP_##name,
#define EW2(name, ...) OP_##name,
#define EW3(name, ...) OP_##name,
#define OP(name, ...) OP_##name,
#include "ir/ops.def"
  OP_COUNT
} OpKind;

enum { PAGE_KEYS = 64 }; /* positions in a page of keys or values: page_keys, page_values, attend_pages */

#define PACKED ".packed" /* behind a parameter's name: the same as contractions read it, in panels (passes/layout.c) */

typedef struct OpInfo {
  const char *name;
  int nargs, nres;          /* -1: any number */
  const char *attrs;        /* as in the table */
  bool ew;                  /* elementwise */
  const char *value, *d[3]; /* elementwise texts */
  const char *doc;
} OpInfo;
extern const OpInfo op_info[OP_COUNT];
OpKind op_find(const char *name); /* OP_NONE if there is none */
void ops_doc(Text *out);          /* the page docs/ops.md */

typedef struct Attr {
  const char *name; /* interned */
  enum { ATTR_INT, ATTR_NUM, ATTR_STR, ATTR_INTS } kind;
  int64_t i;
  double num;
  const char *str; /* interned */
  int n;           /* ints */
  int64_t ints[MAX_RANK];
} Attr;

typedef struct Node {
  OpKind op;
  int nargs, nres, nattrs;
  Val *args;
  Val res; /* first result; the others follow: res, res+1, ... */
  Attr *attrs;
  Span span;
  /* A call of a region: where each of its results comes from, then the other places that the region computes, each once.
   * NULL elsewhere. Not part of the text. */
  const Span *places;
  int nplaces;
} Node;

/* What an input is to the world outside; the runtime binds by it. */
typedef enum InputKind {
  IN_DATA,  /* given anew for every run: tokens, targets, scalars such as the learning rate */
  IN_PARAM, /* trained, in checkpoints under its hf names */
  IN_STATE, /* persistent, not a parameter: gradients, moments, accumulators */
} InputKind;
extern const char *const input_kind_name[]; /* "data", "param", "state" */

typedef struct Input {
  const char *name; /* interned: "layer.0.wq"; also the value's name in text */
  InputKind kind;
  bool decay; /* params: weight decay applies; graph_input sets it, text says "param nodecay" where not */
  Val val;
  Span span;
} Input;

/* A result of a graph. One whose name is that of a param or state input is its next value, written in place by the memory pass. */
typedef struct Output {
  const char *name;
  Val val;
} Output;

typedef struct Graph {
  const char *name;
  /* Regions only: the lowering that makes its kernel ("map", "row", "column", "contract", ...); NULL for other graphs. */
  const char *region;
  struct Module *mod;
  Input *inputs;
  int ninputs, cap_inputs;
  Node *nodes;
  int nnodes, cap_nodes;
  Type *types;         /* of values; types[0] unused */
  int32_t *def;        /* node that defines a value; -1 - i for input i */
  int nvals, cap_vals; /* nvals counts value 0 */
  Output *outputs;
  int noutputs, cap_outputs;
} Graph;

typedef struct MeshAxis {
  const char *name;
  int n;
} MeshAxis;

/* Bounds of a program that serves (serve/model.h); seqs 0: the module is to be trained. */
typedef struct ServeShape {
  int64_t seqs, rows, pages; /* sequences in a batch, rows of logits, pages of the cache */
  int64_t width;             /* pages a sequence may have */
} ServeShape;

typedef struct Module {
  Arena *arena;
  Diags *diags;
  const char *name;
  DType compute;    /* bf16: asked of pass precision; f32: the graphs are computed as they stand */
  ServeShape serve; /* asked of pass serve */
  MeshAxis mesh[MAX_AXES];
  int naxes;
  Graph **graphs;
  int ngraphs, cap_graphs;
} Module;

Module *module_new(Arena *a, Diags *d, const char *name);
Graph *module_find(const Module *m, const char *name); /* NULL if there is none */
Graph *graph_new(Module *m, const char *name);         /* appended to the module */

Val graph_input(Graph *g, const char *name, InputKind kind, Type t, Span at);
void graph_output(Graph *g, const char *name, Val v);

/* Appends a node whose result types are inferred; on an error adds a diagnostic at the span and returns 0. Ops whose
 * result type is not a function of operands and attributes (broadcast, reshape, table, cast, onehot) take it from `want`,
 * which others ignore (may be NULL). A call with a count takes the types of stacked outputs from want[] (one per result);
 * with want NULL their first extent is multiplied. Returns the first result. */
Val graph_add(Graph *g, OpKind op, const Val *args, int nargs, const Attr *attrs, int nattrs, const Type *want,
              Span at);
/* Shorthands for the common ones. */
Val graph_ew(Graph *g, OpKind op, Val a, Val b, Val c, Span at); /* unused operands 0 */
Val graph_const(Graph *g, double value, Span at);                /* f32 scalar */
Val graph_contract(Graph *g, const char *rule, Val a, Val b, Span at);
Val graph_sum(Graph *g, Val x, int naxes, const int64_t *axes, Span at);
Val graph_broadcast(Graph *g, Val x, Type to, const int64_t *axes, Span at); /* axes: one per dim of x */

Attr attr_int(const char *name, int64_t v);
Attr attr_num(const char *name, double v);
Attr attr_str(const char *name, const char *v);
Attr attr_ints(const char *name, int n, const int64_t *v);
const Attr *node_attr(const Node *n, const char *name); /* NULL if it has none */

static inline Type val_type(const Graph *g, Val v) {
  return g->types[v];
}
static inline Node *val_node(const Graph *g, Val v) {
  return g->def[v] >= 0 ? &g->nodes[g->def[v]] : NULL;
}
static inline Input *val_input(const Graph *g, Val v) {
  return g->def[v] < 0 ? &g->inputs[-1 - g->def[v]] : NULL;
}
const Input *graph_find_input(const Graph *g, const char *name);
const Output *graph_find_output(const Graph *g, const char *name);
/* What the integer value v indexes (index.c). */
typedef struct IndexUse {
  int64_t bound; /* every element must stay below it; 0: it indexes nothing */
  bool negative; /* elements may be negative: no place is meant then */
} IndexUse;
IndexUse graph_index_use(const Graph *g, Val v);

/* ---- text (print.c, parse.c). `spans`: append "# file:line:column instance" comments. */
void type_print(const Graph *g, Type t, Text *out);  /* g names segment offsets and mesh axes */
void shape_print(const Graph *g, Type t, Text *out); /* "[B=4, T=64]"; nothing for rank 0 */
void val_print(const Graph *g, Val v, Text *out);    /* "%wte", "%12": as graph_print names it */
void graph_print(const Graph *g, bool spans, Text *out);
void module_print(const Module *m, bool spans, Text *out);
Module *module_parse(Arena *a, Diags *d, uint32_t file); /* NULL after errors */

/* May this be the instance of a span? Letters, digits, '_', '.' and '/', a letter or '_' first: what text can hold. */
bool span_in_ok(const char *in);

/* ---- verify.c: its head lists the invariants. Errors go to m->diags. */
bool module_verify(const Module *m);
bool infer_types(Graph *g, OpKind op, const Val *args, int nargs, const Attr *attrs, int nattrs, const Type *want,
                 Span at, Type *out,
                 int *nout); /* out: room for 8; for call, for the callee's outputs if those are more */

/* ---- cost (cost.c): model arithmetic, not machine time. */
double node_flops(const Graph *g, const Node *n);
double node_bytes(const Graph *g, const Node *n);
/* dropout: an element whose 32 random bits are a smaller number is dropped. */
uint32_t dropout_limit(double rate);
/* Of one run of a region's kernel: what is needed. Of a causal attention the pairs under the mask; operands once, results once
 * (what is updated in place is both), of a table the rows that are named. */
double region_flops(const Graph *g);
double region_bytes(const Graph *g);
#endif
