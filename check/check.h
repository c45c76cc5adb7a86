/* What holds compiled programs to the evaluator: `ink bisect` and the tests of random programs ask the same questions here.
 *
 *   values.c    made-up inputs                         native.c   compiled kernels and programs, run in this process
 *   gradient.c  autodiff against differences           stages.c   a module through the whole pipeline, every stage compared
 *   sandbox.c   a question asked in a child process    shrink.c   the smallest module that still shows a fault
 *
 * Ownership: everything made lives in the arena that is passed. */
#ifndef INK_CHECK_H
#define INK_CHECK_H
#include "codegen/codegen.h"
#include "codegen/jit.h"
#include "ir/eval.h"
#include "passes/passes.h"
#include "runtime/inkrt.h"

enum { CHECK_BINDINGS = 16 };

/* ---- values.c: inputs that are the same on every machine.
 * A float is a function of the seed, the input's name and the element's index alone, so a module before and after a pass sees the
 * same values; with a seed, states (moments, sums) are not negative. Integers keep to what they index. */
typedef struct Values {
  uint64_t seed;   /* 0: multiples of 1/256 in [-1, 1), the same as ink opt --run */
  bool special;    /* some elements are infinities, NaNs, zeros of both signs, subnormals */
  const char *dir; /* NULL, or a folder whose *.safetensors hold inputs by name */
} Values;
/* Values of the symbolic extents of g and of what it calls: their bounds (seed 0), else at random. Returns how many. */
int values_bind(const Graph *g, uint64_t seed, Binding out[CHECK_BINDINGS]);
Type values_type(Type t, const Binding *bind, int nbind); /* with the extents bound */
/* false: the folder holds the input with another shape, or cannot be read; a diagnostic says so. */
bool values_input(const Graph *g, int input, const Values *v, const Binding *bind, int nbind, EvalMode mode, Arena *a,
                  Diags *d, Tensor *out);
/* Bits that differ (two NaNs are equal); *first: index of the first. */
int64_t values_differ(const Tensor *got, const Tensor *want, int64_t *first);

/* ---- native.c: the module after all passes, compiled for a target that this machine can run. */
typedef struct Native {
  const Module *mod;
  KModule *km;
  Jit *jit;
  const KernelFn *kernels; /* as in km */
  Program program;
} Native;
bool native_open(Native *n, Module *m, const Target *t, Arena *a, Diags *d);
void native_close(Native *n);
bool native_runs(const Target *t); /* has this machine what the target needs? */
/* One region's kernel: all `threads` in turn, in reverse order, outputs full of NaN before. */
void native_kernel(const Native *n, const Graph *region, const Tensor *in, const Binding *bind, int nbind, int threads,
                   Tensor *out);
/* A main graph's list on an engine with that many threads. */
bool native_list(const Native *n, const Graph *g, const Tensor *in, const Binding *bind, int nbind, int threads,
                 Tensor *out, Diags *d);

/* ---- stages.c */
typedef enum FaultKind {
  FAULT_NONE,
  FAULT_TEXT,     /* what is printed does not parse to the same text; where: the stage */
  FAULT_PASS,     /* a pass reports errors, leaves a module that does not verify, or changes a result; where: the pass */
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
  char where[64];
  char stage[64];  /* what was being done last: "pass fuse", "kernel contract.0" */
  char text[1600]; /* for people, lines */
} Fault;

typedef struct Check {
  Values values;
  const char *const *targets; /* those that this machine cannot run are only compiled */
  int ntargets;
  bool gradients; /* of graph @forward, by differences */
  bool round;     /* printing and parsing after every stage */
} Check;
/* All stages in order, up to the first fault. true: there is none. m is left as it was. */
bool check_module(const Module *m, const Check *c, Fault *f);

/* ---- gradient.c: d loss / d params of @forward along random directions, in double. stop, rowmax and comparisons are held, as
 * autodiff holds them. */
bool check_gradients(const Graph *forward, const Check *c, Fault *f);

/* ---- sandbox.c: check_module in a child process, so that a crash or a hang is a fault like others. */
bool check_apart(const Module *m, const Check *c, double seconds, Fault *f);

/* ---- shrink.c: smaller and smaller modules for which `still` holds, until no step makes one. */
typedef bool (*StillFn)(void *ctx, const Module *m);
Module *shrink_module(const Module *m, Arena *a, StillFn still, void *ctx);
#endif
