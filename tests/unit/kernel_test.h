/* A module of kernel_harness.h as a Criterion test: what the kernel tests share. */
#ifndef INK_TESTS_KERNEL_TEST_H
#define INK_TESTS_KERNEL_TEST_H
#include "kernel_harness.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static void test_on(const char *target, const char *text, void (*also)(KernelSet *s)) {
  Text why = {0};
  KernelSet s;
  if (!kernels_build(&s, target, text, &why)) {
    cr_expect(false, "%s: does not build\n%s", target, why.s);
  } else {
    if (!kernels_runnable(&s))
      fprintf(stderr, "%s: compiled; skipped running: this machine can not\n", target);
    else if (kernels_check(&s, 1, &why))
      cr_expect(false, "%s:\n%s", target, why.s);
    if (also) also(&s);
    kernels_free(&s);
  }
  text_free(&why);
}

/* For each target whose bit is in `on`: built, run where this machine can, failures told; `also` (NULL: nothing) then looks at the
 * set. Frees t. KERNEL_TARGET=cpu:... takes that one target, KERNEL_TEXT=1 prints the module. */
static void kernels_test(const char *const *targets, int n, Text *t, int on, void (*also)(KernelSet *s)) {
  const char *only = getenv("KERNEL_TARGET");
  if (getenv("KERNEL_TEXT")) fprintf(stderr, "%s", t->s);
  if (only) test_on(only, t->s, also);
  for (int i = 0; i < n && !only; i++)
    if (on >> i & 1) test_on(targets[i], t->s, also);
  text_free(t);
}

/* A module's head, to add regions to. */
static Text begin(const char *name) {
  Text t = {0};
  text_add(&t, "module \"%s\"\n", name);
  return t;
}
#endif
