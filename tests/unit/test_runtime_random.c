/* Randomness: Philox against its published vectors, initial weights, the shuffle. */
#include "runtime/exact.h"
#include "runtime/random.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_fixture.h"

/* Known answers of philox4x32 with 10 rounds from the authors' Random123 package (kat_vectors). */
Test(philox, known_answers) {
  static const struct {
    uint64_t seed, stream, position;
    uint32_t want[4];
  } kat[] = {
      {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (int i = 0; i < 3; i++) {
    Philox r = philox(kat[i].seed, kat[i].stream, kat[i].position);
    for (int k = 0; k < 4; k++) cr_assert(eq(u32, r.v[k], kat[i].want[k]), "vector %d word %d", i, k);
  }
}

Test(philox, dropout_keys_differ) {
  int32_t key[4][2], again[2];
  random_dropout_key(1, 5, 0, key[0]);
  random_dropout_key(1, 5, 1, key[1]);
  random_dropout_key(1, 6, 0, key[2]);
  random_dropout_key(2, 5, 0, key[3]);
  random_dropout_key(1, 5, 0, again);
  cr_assert(zero(int, memcmp(key[0], again, sizeof(again))));
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < i; k++) cr_assert(key[i][0] != key[k][0] && key[i][1] != key[k][1], "keys %d and %d", i, k);
}

static void params_of(int threads, uint64_t seed, float *out) {
  Fixture *f = fixture_new();
  Program p;
  Report err = {0};
  cr_assert(program_open(&p, f->blob, fix_kernels, &err));
  Engine *e = engine_new(&p, threads, &err);
  init_params(e, seed);
  memcpy(out, engine_named(e, "w"), FIX_VOCAB * FIX_VOCAB * sizeof(float));
  engine_free(e);
  fixture_free(f);
}

Test(init, does_not_depend_on_threads) {
  float a[FIX_VOCAB * FIX_VOCAB], b[FIX_VOCAB * FIX_VOCAB];
  params_of(1, 7, a);
  for (int threads = 2; threads < 6; threads++) {
    params_of(threads, 7, b);
    cr_assert(zero(int, memcmp(a, b, sizeof(a))));
  }
  params_of(1, 8, b);
  int same = 0;
  for (int i = 0; i < FIX_VOCAB * FIX_VOCAB; i++) same += a[i] == b[i];
  cr_assert(lt(int, same, 3));
}

/* The same construction with libm's functions: the own ones must agree to rounding. */
Test(init, is_box_muller) {
  float w[FIX_VOCAB * FIX_VOCAB];
  params_of(2, 42, w);
  uint64_t stream = random_stream("w");
  double sum = 0, square = 0;
  for (uint64_t i = 0; i < FIX_VOCAB * FIX_VOCAB; i++) {
    Philox r = philox(42, stream, i / 2);
    double u = 1 - (double)(((uint64_t)r.v[1] << 32 | r.v[0]) >> 11) * 0x1p-53;
    double t = (double)(((uint64_t)r.v[3] << 32 | r.v[2]) >> 11) * 0x1p-53;
    double z = sqrt(-2 * log(u)) * (i % 2 ? sin(2 * M_PI * t) : cos(2 * M_PI * t));
    cr_assert(lt(dbl, fabs(0.1 * z - w[i]), 1e-8 + 1e-7 * fabs(z)), "element %d: %g, want %g", (int)i, w[i], 0.1 * z);
    sum += w[i];
    square += w[i] * w[i];
  }
  cr_assert(lt(dbl, fabs(sum / 256), 0.03));
  cr_assert(lt(dbl, fabs(sqrt(square / 256) - 0.1), 0.015));
}

Test(shuffle, is_a_permutation) {
  static const uint64_t sizes[] = {1, 2, 3, 4, 5, 16, 17, 64, 1000, 4096, 4097};
  for (int k = 0; k < 11; k++) {
    uint64_t n = sizes[k];
    unsigned char *hit = calloc(n, 1);
    Shuffle s = shuffle_new(n, 1, 0);
    for (uint64_t i = 0; i < n; i++) {
      uint64_t v = shuffle_at(&s, i);
      cr_assert(lt(u64, v, n));
      cr_assert(zero(int, hit[v]), "%d twice of %d", (int)v, (int)n);
      hit[v] = 1;
    }
    free(hit);
  }
}

Test(shuffle, depends_on_seed_and_epoch) {
  Shuffle a = shuffle_new(1000, 1, 0), b = shuffle_new(1000, 2, 0), c = shuffle_new(1000, 1, 1);
  int ab = 0, ac = 0, fixed = 0;
  for (uint64_t i = 0; i < 1000; i++) {
    ab += shuffle_at(&a, i) == shuffle_at(&b, i);
    ac += shuffle_at(&a, i) == shuffle_at(&c, i);
    fixed += shuffle_at(&a, i) == i;
  }
  cr_assert(lt(int, ab, 10)); /* one on average */
  cr_assert(lt(int, ac, 10));
  cr_assert(lt(int, fixed, 10));
}

Test(shuffle, spreads_neighbours) {
  /* positions of a shuffled order are uniform: halves of the epoch hold halves of the data, within 5 sigma */
  Shuffle s = shuffle_new(10000, 3, 5);
  int low = 0;
  for (uint64_t i = 0; i < 5000; i++) low += shuffle_at(&s, i) < 5000;
  cr_assert(lt(int, abs(low - 2500), 125));
}

Test(random, below_is_below) {
  int hit[7] = {0};
  for (uint64_t i = 0; i < 7000; i++) hit[random_below(1, 2, i, 7)]++;
  for (int i = 0; i < 7; i++) cr_assert(lt(int, abs(hit[i] - 1000), 200));
}

/* What libm says, which is right to the last bit or nearly so, is never far away. */
Test(random, exact_functions_are_near_libm) {
  double worst = 0;
  for (int i = 1; i <= 20000; i++) {
    double x = i / 20000.0, s, c;
    exact_turn(x - 1 / 20000.0, &s, &c);
    double a = 6.28318530717958647693 * (x - 1 / 20000.0);
    worst = fmax(worst, fmax(fabs(s - sin(a)), fabs(c - cos(a))));
    worst = fmax(worst, fabs(exact_log(x) - log(x)) / fmax(1, -log(x)));
    double e = -708 * x * x;
    worst = fmax(worst, fabs(exact_exp(e) / exp(e) - 1));
  }
  cr_assert(lt(dbl, worst, 2e-15)); /* the angle itself is rounded at 2 pi */
  cr_assert(eq(dbl, exact_exp(0), 1));
  cr_assert(zero(dbl, exact_exp(-709)));
  cr_assert(zero(dbl, exact_exp(-INFINITY)));
  cr_assert(isnan(exact_exp(NAN)));
}
