/* A training binary as a function: what main() runs, and what a test can run in a child process. */
#ifndef RT_APP_H
#define RT_APP_H
#include "ink/program.h"

/* Exit status: 0 done, 1 failed, 2 bad usage, 130 stopped by Ctrl-C with a checkpoint saved. Messages go to standard
 * error, results (--help, samples, --eval-only) to standard output. */
int app_train(const unsigned char *blob, const KernelFn *kernels, int argc, char **argv);
#endif
