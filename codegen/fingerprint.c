/* Which machines are of one kind: the same instructions, the same vectors, the same caches. What a schedule's speed depends
 * on is in it; the number of cores, clock rates and names on the lid are not.
 *
 * Must hold: the order of the features does not matter, nor do features that the machine lacks (a newer LLVM lists more of
 * them), so that the word of a machine stays what it was. */
#include "codegen/fingerprint.h"
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

/* Of "+avx2,-sse4a,+fma": the features that are there, in any order. */
static uint64_t features_hash(const char *features) {
  uint64_t sum = 0;
  while (*features) {
    size_t n = strcspn(features, ",");
    if (*features == '+') sum += hash64(features, n);
    features += n + (features[n] != 0);
  }
  return sum;
}

const char *machine_fingerprint(Arena *a, const Target *t) {
  char *s = arena_printf(a, "%s-%016" PRIx64 "-v%d-%" PRId64 "K-%" PRId64 "K-%" PRId64 "K", t->cpu,
                         features_hash(t->features), t->lanes, t->l1 >> 10, t->l2 >> 10, t->l3 >> 10);
  for (char *c = s; *c; c++)
    if (!isalnum((unsigned char)*c)) *c = '-';
  return s;
}
