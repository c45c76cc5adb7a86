/* Code generation: regions to Kernel IR, Kernel IR to machine code, everything to one program.
 *
 *   target.c     names a machine's numbers                      lower*.c   region -> kernel (Kernel IR)
 *   llvm*.c      kernels + program blob -> object file          memory.c   buffers of a graph, arena offsets
 *   program.c    the lists of a module -> the program blob      link.c     object + libinkrt.a -> executable, by cc
 *   jit.c        object file -> this process                    probe.c    loops that show a machine's limits
 *   fingerprint.c  a machine's kind in one word */
#ifndef INK_CODEGEN_H
#define INK_CODEGEN_H
#include "ir/kir.h"
#include "ir/region.h"
#include "ir/target.h"

/* "cpu", "cpu:native", "cpu:x86-64-v3", "cpu:x86-64-v4", "cpu:aarch64". A suffix ",lanes=16" overrides the vector width (wider
 * vectors are split by LLVM: the schedule of a wide machine, run on a narrow one), ",chunk=65536" the size above which row-wise
 * values such as logits are made in parts (0: never), ",memory=1048576" what may be alive at once (0: any number). */
bool target_resolve(Arena *a, Diags *d, const char *name, Target *out);
/* Does the target name this feature ("avx512bf16", LLVM's word)? Levels such as x86-64-v3 name none. */
bool target_has(const Target *t, const char *feature);
bool target_here(const Target *t); /* is its architecture this process's? */

/* What the program needs to know of a kernel beside its code. Arguments in order: bufs = the region's inputs, then its
 * outputs; ints = values of the symbols in `syms`. */
typedef struct Lowered {
  Kernel *kernel; /* in the KModule, named after the region */
  int64_t scratch;
  double flops, bytes; /* of one call at the bounds */
  const char *const *syms;
  int nsyms;
  Span span;
} Lowered;
bool lower_region(const Graph *region, const Target *t, KModule *into, Lowered *out);
/* A kernel "peak": on each thread *flops of independent FMAs in registers. One output buffer (f32[64]) keeps them alive. */
bool lower_peak(const Target *t, KModule *into, Lowered *out, double *flops);

/* ---- llvm.c. Object file (or text for --stage llvm and asm) with all kernels of km, and, when blob is not NULL,
 * ink_program and ink_kernels (kernel i of km is ink_kernels[i]). kernel: only this one (dumps), or NULL. */
typedef enum { LLVM_OBJECT, LLVM_TEXT, LLVM_ASM } LlvmOutput;
bool llvm_compile(const KModule *km, const Target *t, LlvmOutput kind, const char *kernel, const void *blob,
                  size_t nblob, Diags *d, Text *out);
#endif
