/* Named numbers of a model: `dims:`, `consts:` and the built-in extents B (batch) and T (sequence length).
 *
 * A value is an expression (ir/expr.h) over other names, in any order; it is computed when first asked for, so a cycle is
 * seen as a name that is asked for while it is being computed. Dims are integers in 1 .. MAX_EXTENT, consts are doubles. */
#ifndef INK_FRONTEND_NAMES_H
#define INK_FRONTEND_NAMES_H
#include "frontend/yaml.h"
#include "ir/expr.h"
#include "ir/type.h"

typedef struct Number {
  const char *name; /* interned */
  YNode *text;      /* NULL: built in */
  Span at;
  bool dim, sym; /* sym: a built-in extent known only at run time; value is its bound */
  enum { NUM_WAITING, NUM_BUSY, NUM_DONE, NUM_FAILED } state;
  double value;
} Number;

typedef struct Names {
  Arena *arena;
  Diags *diags;
  Number *list;
  int n, cap;
  int busy;    /* names that are being computed */
  bool broken; /* some could not be read: an unknown name is no news then */
} Names;

/* A name that stands for a number in one place only: `i` in a block. */
typedef struct Local {
  const char *name;
  double value;
} Local;

/* A part of a scalar's text: bytes off .. off + len. */
typedef struct Slice {
  YNode *node;
  size_t off, len;
} Slice;

Slice slice_all(YNode *scalar);
Slice slice_trim(Slice s); /* without blanks at its ends */
Span slice_span(const Names *nm, Slice s, size_t at);
const char *slice_text(const Names *nm, Slice s);
/* Divides at the commas that stand outside of brackets; an empty slice has no parts. */
int slice_split(Arena *a, Slice s, Slice **parts);

bool names_add(Names *nm, const char *name, YNode *text, Span at, bool dim);
void names_builtin(Names *nm, const char *name, int64_t n, bool sym);
Number *names_find(const Names *nm, const char *name);
bool names_resolve(Names *nm, Number *num);
bool names_resolve_all(Names *nm);

/* The value of an expression; errors are at the exact place. locals may be NULL. */
bool names_number(Names *nm, Slice s, const Local *locals, int nlocals, double *out);
/* An integer in lo .. hi; `what` opens the error: "shape". */
bool names_integer(Names *nm, Slice s, const char *what, const Local *locals, int nlocals, int64_t lo, int64_t hi,
                   int64_t *out);
/* An extent; a plain name gives its name to the dim, and may be symbolic. */
bool names_dim(Names *nm, Slice s, const Local *locals, int nlocals, Dim *out);
/* A name that stands for a part of a text. */
typedef struct TextPart {
  const char *name, *text;
} TextPart;

/* The expression's text with every name replaced by its number, except the names in keep: for `table` nodes. Those of the
 * parts are replaced by their texts. */
bool names_substitute(Names *nm, Slice s, const char *const *keep, int nkeep, const TextPart *part, int nparts,
                      const char **out);
/* Is the condition of a `when:` met? On an error it is, so that what it guards is not missed. */
bool names_when(Names *nm, YNode *when, bool *ok);
#endif
