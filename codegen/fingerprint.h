/* The kind of a machine in one word, for what was measured on one and holds on all of its kind. */
#ifndef INK_CODEGEN_FINGERPRINT_H
#define INK_CODEGEN_FINGERPRINT_H
#include "ir/target.h"

/* "znver4-5d0c8b5ee2f1a937-v16-32K-1024K-32768K": the CPU as LLVM names it, a hash of its features, f32 lanes of a vector, L1,
 * L2, L3. Letters, digits and "-" only (a part of a file name); lives in the arena. */
const char *machine_fingerprint(Arena *a, const Target *t);
#endif
