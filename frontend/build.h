/* From the sections of a spec to the graph @forward: what build.c (statements and calls), builtins.c (built-in
 * functions), params.c and view.c (parameters and their place in checkpoints) share. */
#ifndef INK_FRONTEND_BUILD_H
#define INK_FRONTEND_BUILD_H
#include "frontend/frontend.h"
#include "frontend/lang.h"
#include "frontend/names.h"

enum {
  BUILD_NODE_LIMIT = 200000,  /* operations of an unrolled model */
  BUILD_STEP_LIMIT = 1000000, /* statements executed while it is unrolled */
  BUILD_EXPR_LIMIT = 4000000, /* expressions evaluated on the way: a statement may hold a hundred thousand */
  BUILD_CALL_LIMIT = 32,      /* calls within calls */
  BUILD_INSTANCE_LIMIT = 100000,
  BUILD_PARAM_LIMIT = 50000,   /* parameters, those of all instances together */
  BUILD_PIECE_LIMIT = 1 << 18, /* checkpoint tensors' parts, of all parameters together */
  BUILD_NAME_LIMIT =
      4096, /* names of a section, a block's parameters, a body's variables: they are looked up one by one */
  BUILD_VIEW_LIMIT = 4096, /* bytes of a view or an initialiser; an expression has as many at most */
};

typedef struct ParamSpec { /* a parameter as written; one per instance of its block comes of it */
  const char *name;        /* interned, as the language sees it */
  Span at;
  YNode *shape, *init, *decay, *hf; /* all but shape may be NULL */
} ParamSpec;

typedef struct TableSpec {
  const char *name;
  Span at;
  YNode *shape, *value, *dtype; /* dtype may be NULL: f32 */
  YNode *where;                 /* names of the value for parts of it, or NULL */
  Val val;                      /* 0: not used yet */
} TableSpec;

typedef struct TableInfo { /* what a table's texts say */
  Type type;
  const char *expr; /* over the indices alone */
} TableInfo;

typedef struct InputSpec {
  const char *name, *source;
  Span at;
  Type type;
  Val val;
} InputSpec;

typedef struct Instance { /* a block with its parameters, for one index */
  struct Block *block;
  int64_t index;    /* -1: called without one */
  const char *name; /* interned: "layer.3", which opens the names of its parameters; "layer" without an index */
  Val *param;
} Instance;

typedef struct Block {
  const char *name;
  Span at;
  const char **arg;
  int nargs;
  ParamSpec *param;
  bool *param_used;
  int nparams;
  Code body;
  Instance **inst; /* by 1 + index */
  int cap_inst;
  bool failed; /* an instance had errors: the others are not tried */
  bool called;
} Block;

typedef enum ValueKind { V_BAD, V_NUM, V_TENSOR, V_STR, V_LIST, V_ABSENT } ValueKind;

/* A value of the language while the graph is built. V_BAD: an error was reported; whatever it meets is V_BAD too. */
typedef struct Value {
  ValueKind kind;
  Val val;         /* TENSOR */
  double num;      /* NUM */
  Dim dim;         /* NUM: the extent it stands for, if n is not 0; symbolic ones have no num */
  const char *str; /* STR */
  struct Value *item;
  int n; /* LIST */
} Value;

typedef struct Var {
  const char *name;
  Value value;
} Var;

typedef struct Frame { /* a body that is being executed */
  struct Frame *up;
  const char *fn;   /* function or block; NULL: the model's forward */
  const void *code; /* what runs: finds recursion */
  bool prelude;
  Span call; /* prelude functions: where the model called them */
  Instance *inst;
  const char *in; /* for spans: the instances that run, outermost first: "layer.3/mlp.3"; NULL: none */
  Var *var;
  int nvars, cap_vars;
} Frame;

typedef struct Builder {
  Arena *arena;
  Diags *diags;
  Names *names;
  Graph *g;
  Funcs funcs;
  Block *block;
  int nblocks;
  ParamSpec *param;
  Val *param_val;
  bool *param_used;
  int nparams;
  const char **left_out; /* parameters whose `when` is 0, for the message where one is used */
  int nleft_out, cap_left_out;
  InputSpec *input;
  int ninputs;
  TableSpec *table;
  int ntables;
  int ndropouts;    /* so far: each has a stream of random numbers of its own */
  Instance **order; /* in the order of their first call */
  int norder, cap_order;
  int64_t steps, exprs;
  int calls;
  bool stopped; /* a limit was met */
} Builder;

/* ---- build.c */
/* Executes the forward code and the loss expression; false after errors. Graph inputs for data and top-level parameters
 * are there already; those of blocks too when the instances are known (b->norder), else they are made on the way. */
bool build_forward(Builder *b, const Code *forward, Ast *loss, Val *out_loss, Val *out_logits);
bool instance_declare(Builder *b, Instance *inst);
bool table_info(Names *nm, const TableSpec *t, TableInfo *out);
/* The place that errors and nodes get: the expression's own, or the caller's within the prelude. */
Span build_span(const Frame *f, const Ast *at);
/* Reports and returns V_BAD; within a function its name opens the text. */
Value build_error(Builder *b, const Frame *f, const Ast *at, const char *fmt, ...) PRINTF(4, 5);
Value value_tensor(Builder *b, Val v); /* V_BAD for 0 */
Value value_num(double v);
const char *build_dim_text(Arena *a, Dim d);                  /* "d=768", "768", "B<=4" */
const char *build_shape_text(Arena *a, Type t);               /* "[B=4, T=64, d=768]" */
const char *operand_text(Builder *b, const Ast *call, int i); /* its name, or "operand 1" */
/* Elementwise op on numbers (folded) and tensors (lined up at their last axes). */
Value build_ew(Builder *b, Frame *f, const Ast *at, OpKind op, const Value *arg, int n);
/* A tensor operand for an op: a number becomes a scalar constant; 0 after an error. */
Val build_operand(Builder *b, Frame *f, const Ast *at, Value v, const char *what);

/* ---- builtins.c */
enum { BUILTIN_ARGS = 6 };
typedef struct Builtin {
  const char *name;
  int required;
  const char *arg[BUILTIN_ARGS]; /* NULL-terminated unless full */
  Value (*run)(Builder *b, Frame *f, const Ast *call, Value *arg);
  const char *doc;
} Builtin;
extern const Builtin builtin_table[];
extern const int builtin_count;
const Builtin *builtin_find(const char *name);

/* ---- params.c */
/* The type of a parameter or table from its `shape:` list. */
bool param_type(Names *nm, YNode *shape, DType dt, const Local *locals, int nlocals, Type *out);
/* Only the initialiser; text NULL: the default. */
bool param_init(Names *nm, YNode *text, const Local *locals, int nlocals, ModelParam *p);
/* Initialiser, decay and pieces; p->name and p->span are set already. */
bool param_resolve(Names *nm, const ParamSpec *s, Type t, const Local *locals, int nlocals, ModelParam *p);

/* ---- view.c */
/* The pieces of a parameter of dense row-major type t; *hf_rank is the rank of its checkpoint tensors. */
bool view_resolve(Names *nm, const ParamSpec *s, const char *name, Type t, const Local *locals, int nlocals,
                  Piece **pieces, int *npieces, int *hf_rank);
/* Every element of every checkpoint tensor belongs to exactly one parameter. */
bool view_check(Names *nm, const ModelParam *params, int n);
#endif
