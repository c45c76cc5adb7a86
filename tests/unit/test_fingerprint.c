/* Two machines are of one kind when their instructions, vectors and caches are the same, and only then. */
#include "codegen/codegen.h"
#include "codegen/fingerprint.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static const Target base = {.cpu = "znver4",
                            .features = "+avx2,+fma,-avx512f",
                            .lanes = 8,
                            .l1 = 32 << 10,
                            .l2 = 1280 << 10,
                            .l3 = 36608 << 10,
                            .cores = 4};

Test(fingerprint, text) {
  Arena *a = arena_new();
  const char *s = machine_fingerprint(a, &base);
  cr_assert(strstr(s, "znver4-") == s && strstr(s, "-v8-32K-1280K-36608K"), "%s", s);
  cr_assert(eq(sz, strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"), strlen(s)));
  Target t;
  Diags *d = diags_new(a);
  cr_assert(target_resolve(a, d, "cpu:x86-64-v3", &t));
  cr_assert(strstr(machine_fingerprint(a, &t), "x86-64-v3-") != NULL);
  arena_free(a);
}

Test(fingerprint, kinds) {
  Arena *a = arena_new();
  char *is = arena_strdup(a, machine_fingerprint(a, &base));
  Target same[3] = {base, base, base};
  same[0].features = "-avx512f,+fma,+avx2";
  same[1].features = "+fma,-something-new,+avx2,-avx512f";
  same[2].cores = 64;
  for (int i = 0; i < LEN(same); i++) cr_assert(eq(str, (char *)machine_fingerprint(a, &same[i]), is), "%d", i);
  Target other[7] = {base, base, base, base, base, base, base};
  other[0].features = "+avx2,+fma,+avx512f";
  other[1].features = "+avx2";
  other[2].lanes = 16;
  other[3].l1 = 48 << 10;
  other[4].l2 = 1024 << 10;
  other[5].l3 = 8192 << 10;
  other[6].cpu = "znver3";
  for (int i = 0; i < LEN(other); i++) cr_assert(ne(str, (char *)machine_fingerprint(a, &other[i]), is), "%d", i);
  arena_free(a);
}
