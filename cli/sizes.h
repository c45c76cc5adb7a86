/* How much work a model is for the evaluator, and which --set make it less (sizes.c). */
#ifndef INK_CLI_SIZES_H
#define INK_CLI_SIZES_H
#include "driver/compile.h"

double sizes_flops(const Model *m); /* of @forward, once */
/* Operations of all stages of a check, about: each evaluates the graphs, and gradients need some evaluations for each parameter. */
double sizes_work(const Model *m);
/* Options " --set dims.d=96 ..." with which the model of c is at most `most` work, or as
 * near as it gets, and still loads; NULL: no dimension helps. */
const char *sizes_smaller(const Compile *c, double most);
#endif
