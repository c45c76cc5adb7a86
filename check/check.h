/* What holds compiled programs to the evaluator: `ink bisect` and the tests of random programs ask the same questions here.
 *
 *   values.c    made-up inputs                         native.c   compiled kernels and programs, run in this process
 *   gradient.c  autodiff against differences           stages.c   a module through the whole pipeline, every stage compared
 *   sandbox.c   a question asked in a child process    shrink.c   the smallest module that still shows a fault
 *   given.c     inputs from safetensors files          case.c     a module and its question as one file
 *   bisect.c    from a fault of a whole model to the smallest module and the narrowest question that show it
 *
 * Ownership: everything made lives in the arena that is passed. */
#ifndef INK_CHECK_H
#define INK_CHECK_H
#include "codegen/jit.h"
#include "codegen/program.h"
#include "ir/eval.h"
#include "passes/passes.h"
#include "runtime/inkrt.h"

enum { CHECK_BINDINGS = 16 };

/* ---- values.c: inputs that are the same on every machine.
 * A float is a function of the seed, the input's name and the element's index alone, so a module before and after a pass sees the
 * same values; with a seed, states (moments, sums) are not negative. Integers keep to what they index. */
typedef struct Values {
  uint64_t seed;             /* 0: multiples of 1/256 in [-1, 1), the same as ink opt --run */
  bool special;              /* some elements are infinities, NaNs, zeros of both signs, subnormals */
  const struct Given *given; /* NULL, or inputs by name that are not made up (given.c) */
  const Module *bounds;      /* NULL, or the module by whose graph of the same name integers are bounded */
} Values;
/* Values of the symbolic extents of g and of what it calls: their bounds (seed 0), else at random. Returns how many. */
int values_bind(const Graph *g, uint64_t seed, Binding out[CHECK_BINDINGS]);
Type values_type(Type t, const Binding *bind, int nbind); /* with the extents bound */
/* false: the input is given with a shape that does not hold it, or with another kind of numbers; a diagnostic says so. */
bool values_input(const Graph *g, int input, const Values *v, const Binding *bind, int nbind, EvalMode mode, Arena *a,
                  Diags *d, Tensor *out);
/* Bits that differ (two NaNs are equal); *first: index of the first. */
int64_t values_differ(const Tensor *got, const Tensor *want, int64_t *first);

/* ---- given.c: tensors of safetensors files as values of the inputs of their names: layer.0.wq, tokens, m.layer.0.wq. An
 * input smaller than its tensor (modules shrink) gets the corner at the origin. */
typedef struct Given Given;
struct Model;
/* A file, or all *.safetensors of a folder; with a model (or NULL) its params also by the names and views of checkpoints. */
Given *given_open(Arena *a, Diags *d, const char *path, const struct Model *m);
void given_close(Given *g);
/* Every tensor that has the name of one of g's inputs has its shape, too. *named: how many inputs of g are given. */
bool given_fits(const Given *g, const Graph *graph, Diags *d, int *named);
/* false and no diagnostic: not given. */
bool given_read(const Given *g, const Input *in, EvalMode mode, Diags *d, Tensor *t);
/* The given inputs of the module's graphs, cut to their size, as a file. *n: how many. */
bool given_write(const Given *g, const Module *m, const char *path, Diags *d, int *n);

/* ---- native.c: the module after all passes, compiled for a target that this machine can run. */
typedef struct Native {
  const Module *mod;
  KModule *km;
  Jit *jit;
  const KernelFn *kernels; /* as in km */
  Program program;
} Native;
/* lower NULL: the CPU's. code false: kernels are made and verified, but no machine code of them. */
bool native_open(Native *n, Module *m, const Target *t, const Lowering *lower, bool code, Arena *a, Diags *d);
void native_close(Native *n);
bool native_runs(const Target *t); /* has this machine what the target needs? */
/* One region's kernel: all `threads` in turn, in reverse order, outputs full of NaN before. Returns NULL, or what it wrote to that is
 * not its own. */
const char *native_kernel(const Native *n, const Graph *region, const Tensor *in, const Binding *bind, int nbind,
                          int threads, Tensor *out);
/* A main graph's list on an engine with that many threads. */
bool native_list(const Native *n, const Graph *g, const Tensor *in, const Binding *bind, int nbind, int threads,
                 Tensor *out, Diags *d);

/* ---- stages.c */
typedef enum FaultKind {
  FAULT_NONE,
  FAULT_INPUT, /* no fault of the compiler: the module as given cannot be evaluated; where: "input" */
  FAULT_TEXT,  /* what is printed does not parse to the same text; where: the stage */
  FAULT_PASS,  /* a pass reports errors, leaves a module that does not verify, or changes a result; where: the pass */
  FAULT_GRADIENT, /* autodiff against differences; where: the param */
  FAULT_COMPILE,  /* lowering, planning or LLVM refuse; where: the target */
  FAULT_KERNEL,   /* a kernel's bits are not the evaluator's; where: the region */
  FAULT_PROGRAM,  /* all kernels agree, the program of them does not; where: the list */
  FAULT_CRASH,    /* the process died; where: the stage it was in */
  FAULT_HANG,     /* it took too long; where: the stage it was in */
  FAULT_KINDS
} FaultKind;
extern const char *const fault_name[FAULT_KINDS];

/* Of fixed size, so that a child process can leave one in shared memory. */
typedef struct Fault {
  FaultKind kind;
  bool said; /* text is what the compiler itself reported; else values that were compared */
  char where[64];
  char stage[64];  /* what was being done last: "pass fuse", "kernel contract.0" */
  char place[160]; /* line of the model that the kernel comes from, or nothing */
  char text[1600]; /* for people, lines */
  struct {         /* compared so far, the fault included */
    int64_t passes, kernels, lists, elements;
  } seen;
} Fault;

/* What a check runs; tests give wrong ones. */
typedef struct Compiler {
  const PassInfo *passes;
  int npasses;
  const Lowering *lower;
} Compiler;

typedef struct Check {
  Values values;
  const char *const *targets; /* those that this machine cannot run are only compiled */
  int ntargets;
  bool gradients; /* of graph @forward, by differences */
  bool round;     /* printing and parsing after every stage */
  bool quick;     /* no machine code, so nothing that runs: a fifth of the time */
  const char
      *only; /* NULL: all stages. "text", "gradients", "pass NAME", "program": that one, on the module before it */
  const Compiler *compiler; /* NULL: passes.def and the CPU's lowering */
  /* NULL, or called as each stage begins, in the process that does it: what it is, and the module that it starts from;
   * "evaluation": the evaluator works for it. */
  void (*enter)(void *ctx, const char *stage, const Module *m);
  void *enter_ctx;
} Check;
/* All stages in order, up to the first fault. true: there is none. m is left as it was. A module of regions alone is checked as if
 * a graph called each. */
bool check_module(const Module *m, const Check *c, Fault *f);

/* From text that module_print wrote with places in the model; what has none gets none. */
Module *module_reread(Arena *a, Diags *d, const char *text);

/* ---- gradient.c: d loss / d params of @forward along random directions, in double. stop, rowmax and comparisons are held, as
 * autodiff holds them. */
bool check_gradients(const Graph *forward, const PassInfo *training, const Check *c, Fault *f);

/* ---- sandbox.c: check_module in a child process, so that a crash or a hang is a fault like others. seconds: for one stage,
 * beside what the evaluator takes. */
bool check_apart(const Module *m, const Check *c, double seconds, Fault *f);

/* ---- shrink.c: smaller and smaller modules for which `still` holds, until no step makes one or the time
 * is up. Lives in `a`. */
typedef bool (*StillFn)(void *ctx, const Module *m);
Module *shrink_module(const Module *m, Arena *a, double seconds, StillFn still, void *ctx);

/* ---- bisect.c */
typedef struct Bisect {
  double patience, budget; /* seconds: for a stage; for shrinking, 0: the module stays as it is */
  Fault first;             /* of the module as given */
  Module *least;           /* the smallest that shows it */
  Check question;          /* what to ask of it */
  Fault fault;             /* and its answer */
  int nodes[2];            /* of the module that the stage began with, and of the least */
} Bisect;
/* true: no fault. What is made lives in `a`. */
bool bisect_module(const Module *m, const Check *c, Arena *a, Bisect *b);
int module_nodes(const Module *m);

/* ---- case.c: a module as text below comment lines that ask the question again: target, seed, only, input. */
typedef struct Case {
  Module *mod;
  Check check;  /* gradients and round are on */
  bool asks;    /* some line was there */
  Given *given; /* of an "input" line, beside the file; to be closed */
} Case;
bool case_read(Arena *a, Diags *d, const char *path, Case *out);
/* input: name of the file beside it that holds the given values, or NULL. */
void case_print(const Module *m, const Check *c, const Fault *f, const char *input, Text *out);
#endif
