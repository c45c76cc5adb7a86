/* The time that a program could take at best: `ink dump --stage kernels --roofline`. */
#ifndef INK_DRIVER_ROOFLINE_H
#define INK_DRIVER_ROOFLINE_H
#include "driver/compile.h"
#include "runtime/roofline.h"

/* What this machine can do with so many threads; code as for the target. false: diagnostics say why. */
bool roofline_machine(const Target *t, int threads, Roofline *out, Diags *d);
/* A table of the kernels that one training step calls, and their time at those limits; the pipeline must have run as far as
 * STAGE_KERNELS. */
bool roofline_table(const Compile *c, const Roofline *limit, Text *out);
#endif
