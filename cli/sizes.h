/* How much arithmetic a model is, and which --set make it less: for what runs in the evaluator (sizes.c). */
#ifndef INK_CLI_SIZES_H
#define INK_CLI_SIZES_H
#include "driver/compile.h"

double sizes_flops(const Model *m); /* of @forward, once */
/* Options " --set dims.d=96 ..." with which the model of c is at most `most` operations and still loads; NULL: none found. */
const char *sizes_smaller(const Compile *c, double most);
#endif
