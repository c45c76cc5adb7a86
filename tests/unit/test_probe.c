/* The probes do what they are measured for: every load and store happens, and dot products are those of their instructions. */
#include "codegen/probe.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

typedef struct Loaded {
  Arena *arena;
  Target target;
  ProbeSet set;
} Loaded;

static Loaded load(const char *target) {
  Loaded l = {.arena = arena_new()};
  Diags *d = diags_new(l.arena);
  bool ok = target_resolve(l.arena, d, target, &l.target) && probes_load(d, &l.target, &l.set);
  cr_assert(ok, "%s: %s", target, d->n ? d->list[0].text : "");
  return l;
}

static void unload(Loaded *l) {
  probes_free(&l->set);
  arena_free(l->arena);
}

static void check_memory(const char *target) {
  enum { N = 6 * PROBE_GRAIN };
  Loaded l = load(target);
  float *x = aligned_alloc(64, N * 4), *y = aligned_alloc(64, N * 4);
  double sum = 0;
  for (int i = 0; i < N; i++) sum += x[i] = (float)(i % 97);
  memset(y, 0, N * 4);
  l.set.probe[PROBE_READ].fn((void *[]){x, y}, (int64_t[]){N, 3}, 0, 1, NULL, NULL);
  double got = 0;
  for (int i = 0; i < l.target.lanes; i++) got += y[i];
  cr_assert(got == 3 * sum, "%s: a read left something out", target);
  for (Probe p = PROBE_COPY; p <= PROBE_COPY_NT; p++) {
    memset(y, 0, N * 4);
    l.set.probe[p].fn((void *[]){x, y}, (int64_t[]){N, 1}, 0, 1, NULL, NULL);
    cr_assert(!memcmp(x, y, N * 4), "%s: copy %d", target, p);
    memset(y, 0, N * 4);
    l.set.probe[p].fn((void *[]){x, y}, (int64_t[]){PROBE_GRAIN, 2}, 0, 1, NULL, NULL);
    cr_assert(!memcmp(x, y, PROBE_GRAIN * 4) && y[PROBE_GRAIN] == 0, "%s: copy %d goes too far", target, p);
  }
  free(x), free(y);
  unload(&l);
}

Test(probe, memory) {
  check_memory("cpu:x86-64");
  check_memory("cpu:native");
}

Test(probe, lacks) {
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  Target t;
  cr_assert(target_resolve(a, d, "cpu:x86-64-v3", &t));
  cr_assert(probe_lacks(&t, PROBE_BF16) && probe_lacks(&t, PROBE_INT8) && !probe_lacks(&t, PROBE_FMA));
  t.lanes = 16, t.features = "+avx512f,+avx512bf16x,-avx512vnni";
  cr_assert(probe_lacks(&t, PROBE_BF16) && probe_lacks(&t, PROBE_INT8));
  t.features = "+avx512f,+avx512vnni,+avx512bf16";
  cr_assert(!probe_lacks(&t, PROBE_BF16) && !probe_lacks(&t, PROBE_INT8));
  t.lanes = 8, t.features = "+avx2,+avxvnni";
  cr_assert(probe_lacks(&t, PROBE_BF16) && !probe_lacks(&t, PROBE_INT8));
  arena_free(a);
}

/* Every accumulator starts at 0, so what comes out tells how many dot products were made: the operations that are claimed. */
Test(probe, dots) {
  Loaded l = load("cpu:native");
  unsigned char *x = aligned_alloc(64, PROBE_SCRATCH);
  int ran = 0;
  for (Probe p = PROBE_BF16; p <= PROBE_INT8; p++) {
    const ProbeKernel *k = &l.set.probe[p];
    cr_assert((k->fn == NULL) == (probe_lacks(&l.target, p) != NULL));
    if (!k->fn) continue;
    ran++;
    memset(x, 0, PROBE_SCRATCH);
    for (int i = 0; i < 32 && p == PROBE_BF16; i++) /* 2^-8 and 2^-7 */
      ((uint16_t *)x)[i] = 0x3b80, ((uint16_t *)(x + 64))[i] = 0x3c00;
    if (p == PROBE_INT8) memset(x, 1, 128);
    k->fn((void *[]){x, NULL}, NULL, 0, 1, NULL, NULL);
    unsigned char *y = x + 64 * (2 + (l.target.registers >= 32 ? 24 : 12));
    double made = 0; /* products, each counted as a multiply and an add */
    for (int i = 0; i < l.target.lanes; i++) made += p == PROBE_BF16 ? ((float *)y)[i] * 32768.0 : ((int32_t *)y)[i];
    cr_assert(2 * made == k->ops, "probe %d", p);
  }
  free(x);
  unload(&l);
  if (!ran) cr_skip_test("no dot products on this machine");
}
