/* The reference evaluator: runs a graph value by value, slowly and plainly.
 *
 * EVAL_DOUBLE  the mathematical truth: every value in double, functions from libm.
 * EVAL_EXACT   the arithmetic of the kernels: values in their dtypes, elementwise steps by expr_exact, reductions and
 *              contractions in the canonical order (docs/numerics.md). Compiled CPU kernels equal it bit for bit. */
#ifndef INK_IR_EVAL_H
#define INK_IR_EVAL_H
#include "ir/graph.h"

typedef enum EvalMode { EVAL_DOUBLE, EVAL_EXACT } EvalMode;

/* A tensor's data: double for floating dtypes in EVAL_DOUBLE; else float (f32), int32_t (i32). bf16 is held as the float it stands for. */
typedef struct Tensor {
  Type type; /* symbolic extents replaced by their values */
  void *data;
} Tensor;

typedef struct Binding { /* value of a symbolic extent */
  const char *name;
  int64_t n;
} Binding;

/* in[i] belongs to g->inputs[i] (data in the mode's representation), out[i] to g->outputs[i], allocated in `a`. */
bool graph_eval(const Graph *g, EvalMode mode, const Tensor *in, const Binding *bind, int nbind, Arena *a, Tensor *out,
                Diags *d);
/* The same with a look at every node after it ran, in callees too: `see` may write over the results. */
typedef struct EvalWatch {
  bool (*see)(void *ctx, const Graph *g, const Node *n, const Tensor *arg, Tensor *res); /* false ends the evaluation */
  void *ctx;
} EvalWatch;
bool graph_eval_watched(const Graph *g, EvalMode mode, const Tensor *in, const Binding *bind, int nbind,
                        const EvalWatch *watch, Arena *a, Tensor *out, Diags *d);
Tensor tensor_new(Arena *a, Type t, EvalMode mode); /* zeroed */
double tensor_get(const Tensor *t, EvalMode mode, int64_t i);
void tensor_set(Tensor *t, EvalMode mode, int64_t i, double v);
/* Between an EVAL_EXACT tensor and its elements as kernels have them in memory, type_bytes(t->type) of them. */
void tensor_write(const Tensor *t, void *memory);
void tensor_read(Tensor *t, const void *memory);
#endif
