/* Inside of ir/: shape inference, one function per op (infer_NAME), and checks shared with the parser and the verifier. */
#ifndef INK_IR_INFER_H
#define INK_IR_INFER_H
#include "ir/graph.h"
#include "ir/rule.h"

enum { MAX_ATTRS = 4, MAX_RESULTS = 8 };

typedef struct AttrSpec {
  const char *name; /* interned */
  int kind;         /* ATTR_... */
  bool optional;
} AttrSpec;
int op_attrs(OpKind op, AttrSpec out[MAX_ATTRS]); /* how many */

/* One question to an infer function: operands and attributes in, result types out. */
typedef struct Infer {
  Graph *g;
  OpKind op;
  const Val *args;
  int nargs;
  const Attr *attrs;
  int nattrs;
  const Type *want;
  Span at;
  const Type *t; /* types of the operands */
  Type *out;
  int nout;
} Infer;

#define OP(name, ...) bool infer_##name(Infer *f);
#include "ir/ops.def"

bool infer_fail(Infer *f, const char *fmt, ...) PRINTF(2, 3); /* "op: text" at f->at; false */
const Attr *infer_attr(const Infer *f, const char *name);     /* NULL if absent */

/* Texts for messages, in the module's arena: "d=768", "B<=32", "768"; "[B=4, T=64]"; "f32[B=4]". */
const char *dim_text(const Graph *g, Dim d);
const char *shape_text(const Graph *g, Type t);
const char *type_text(const Graph *g, Type t);

/* Is t well formed in g: rank, extents and their product, segments, placement. `what` heads the message. Values below
 * `before` may serve as offsets. */
bool type_check(const Graph *g, Type t, Val before, Span at, const char *what);
#endif
