/* What holds of every module that verifies: its text form, the passes, the evaluator. For targets that make modules. */
#ifndef INK_TESTS_FUZZ_MODULE_H
#define INK_TESTS_FUZZ_MODULE_H
#include "ir/graph.h"

/* What is printed parses, verifies, and prints the same again. Modules of many nodes are left alone, here and below. */
void fuzz_module_text(const Module *m);
/* The pipeline of passes.def from `first` on, the verifier after each pass; the module's own diagnostics hold errors. Passes
 * that only move, unite or drop nodes (cse, dce, schedule) leave what the graphs compute as it was, bit for bit. Then a
 * kernel for each region, verified. */
void fuzz_module_passes(Module *m, const char *first);
/* Runs every graph that is small enough, in both modes. */
void fuzz_module_eval(const Module *m);
#endif
