/* Machine code in this process: an object file of llvm_compile(), loaded and linked in memory.
 *
 * The target that the object was compiled for must be one that this machine can run (machine_has()).
 * Ownership: the code and constants live until jit_free(). Different Jits may be used by different threads. */
#ifndef INK_CODEGEN_JIT_H
#define INK_CODEGEN_JIT_H
#include "ink/base.h"

typedef struct Jit Jit;
Jit *jit_load(Diags *d, const Text *object);          /* NULL after errors */
void *jit_symbol(Jit *j, Diags *d, const char *name); /* a kernel, ink_program, ink_kernels; NULL after errors */
void jit_free(Jit *j);
#endif
