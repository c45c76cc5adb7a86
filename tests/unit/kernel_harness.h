/* Compiles the regions of a module and runs their kernels beside the exact evaluator: used by the kernel tests and by
 * the benchmarks.
 *
 * A kernel is run with several numbers of "threads", one after the other and in reverse order, each with scratch full of
 * NaN, every buffer between two pages that can not be touched, inputs read-only, outputs full of NaN before, and once for
 * every output that may share an input's buffer. Its bits must be the evaluator's; two NaNs are equal. */
#ifndef INK_TESTS_KERNEL_HARNESS_H
#define INK_TESTS_KERNEL_HARNESS_H
#include "codegen/codegen.h"
#include "codegen/jit.h"
#include "ink/program.h"
#include "ir/eval.h"

typedef struct KernelSet {
  Arena *arena;
  Diags *diags;
  Module *module;
  KModule *km;
  Target target;
  Lowered *lowered; /* by graph of the module */
  KernelFn *fn;     /* likewise */
  KernelFn peak;    /* lower_peak's: independent FMAs in registers */
  double peak_flops;
  Jit *jit;
} KernelSet;

/* Parses, verifies, lowers every region, compiles and loads them. False: *why tells (rendered diagnostics or a system error). */
bool kernels_build(KernelSet *s, const char *target, const char *text, Text *why);
/* Can this machine run the set's kernels? */
bool kernels_runnable(const KernelSet *s);
/* Runs every region; returns how many runs failed, each with a line in *why. seed: of the inputs' values. */
int kernels_check(KernelSet *s, uint64_t seed, Text *why);
void kernels_free(KernelSet *s);

/* A region's inputs with values of every kind. Names: @special.* gets infinities, NaNs and
 * subnormals, @rare.* a few of them, @wide.* large magnitudes, @small.* products about
 * the smallest normal and f32 sums as small. */
void kernels_fill(const Graph *g, int input, Tensor *t, uint64_t *seed);
#endif
