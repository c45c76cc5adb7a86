/* The entry point of every output binary. It is apart from the rest so that programs with a main of their own (tests, tools)
 * can link the runtime: the linker takes this file only when nobody else has a main. */
#include "runtime/app.h"

int main(int argc, char **argv) {
  return app_train(ink_program, ink_kernels, argc, argv);
}
