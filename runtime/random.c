/* Streams, the initialisers and the shuffle. See random.h for what they promise.
 *
 * The normal initialiser is Box-Muller in double. A pair of elements shares one Philox block: the even one takes the
 * cosine, the odd one the sine, by the functions of exact.h: the same seed gives the same weights everywhere. */
#include "runtime/random.h"
#include "runtime/exact.h"
#include <math.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t random_stream(const char *name) {
  return XXH3_64bits(name, strlen(name));
}

static double uniform53(uint32_t low, uint32_t high) {
  return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

double random_uniform(uint64_t seed, uint64_t stream, uint64_t position) {
  Philox r = philox(seed, stream, position);
  return uniform53(r.v[0], r.v[1]);
}

uint64_t random_below(uint64_t seed, uint64_t stream, uint64_t position, uint64_t n) {
  Philox r = philox(seed, stream, position);
  return (uint64_t)(((unsigned __int128)((uint64_t)r.v[1] << 32 | r.v[0]) * n) >> 64);
}

void random_dropout_key(uint64_t seed, int64_t step, int64_t micro_batch, int32_t key[2]) {
  Philox r = philox(seed, random_stream("dropout"), (uint64_t)step);
  r = philox((uint64_t)r.v[1] << 32 | r.v[0], 0, (uint64_t)micro_batch);
  memcpy(key, r.v, 2 * sizeof key[0]);
}

enum { BLOCK = 128 };

/* Pairs first .. first + n - 1 of a stream: elements 2i and 2i + 1 are the cosine and the sine of pair i. In stages over a
 * block, so that the long chains of different pairs overlap in the processor. */
static void normal_block(uint64_t seed, uint64_t stream, uint64_t first, int n, double out[2 * BLOCK]) {
  double u[BLOCK], t[BLOCK];
  for (int i = 0; i < n; i++) {
    Philox r = philox(seed, stream, first + (uint64_t)i);
    u[i] = 1 - uniform53(r.v[0], r.v[1]); /* (0, 1] */
    t[i] = uniform53(r.v[2], r.v[3]);
  }
  for (int i = 0; i < n; i++) u[i] = sqrt(-2 * exact_log(u[i]));
  for (int i = 0; i < n; i++) {
    double s, c;
    exact_turn(t[i], &s, &c);
    out[2 * i] = u[i] * c;
    out[2 * i + 1] = u[i] * s;
  }
}

/* Elements from .. to - 1 of a parameter; pairs are cut at both ends. */
static void fill_normal(float *w, uint64_t seed, uint64_t stream, uint64_t from, uint64_t to, double mean, double std) {
  double z[2 * BLOCK];
  for (uint64_t k = from; k < to;) {
    uint64_t pair = k / 2, left = (to + 1) / 2 - pair;
    int n = left < BLOCK ? (int)left : BLOCK;
    normal_block(seed, stream, pair, n, z);
    for (; k < to && k / 2 < pair + (uint64_t)n; k++) w[k] = (float)(mean + std * z[k - 2 * pair]);
  }
}

typedef struct Fill {
  Engine *e;
  uint64_t seed;
} Fill;

static void fill_thread(void *ctx, int thread, int threads) {
  const Fill *f = ctx;
  const Program *p = engine_program(f->e);
  for (int i = 0; i < p->nparams; i++) {
    const ProgramParam *q = &p->params[i];
    const ProgramBuffer *b = &p->buffers[q->buffer];
    float *w = engine_buffer(f->e, (int)q->buffer);
    uint64_t stream = random_stream(program_string(p, b->name)), n = (uint64_t)buffer_elements(b);
    uint64_t from = n / (uint64_t)threads * (uint64_t)thread;
    uint64_t to = thread == threads - 1 ? n : n / (uint64_t)threads * (uint64_t)(thread + 1);
    if (q->init == INIT_NORMAL) {
      fill_normal(w, f->seed, stream, from, to, q->init_a, q->init_b);
      continue;
    }
    for (uint64_t k = from; k < to; k++) switch ((InitKind)q->init) {
      case INIT_ZEROS: w[k] = 0; break;
      case INIT_ONES: w[k] = 1; break;
      case INIT_CONST: w[k] = (float)q->init_a; break;
      case INIT_UNIFORM:
        w[k] = (float)(q->init_a + (q->init_b - q->init_a) * random_uniform(f->seed, stream, k));
        break;
      case INIT_NORMAL: break; /* above, in pairs */
      }
  }
}

void init_params(Engine *e, uint64_t seed) {
  pool_run(engine_pool(e), fill_thread, &(Fill){e, seed});
}

Shuffle shuffle_new(uint64_t n, uint64_t seed, uint64_t epoch) {
  Shuffle s = {.n = n, .half_bits = 1};
  while (s.half_bits < 31 && UINT64_C(1) << (2 * s.half_bits) < n) s.half_bits++;
  uint64_t stream = random_stream("shuffle");
  for (uint64_t r = 0; r < 8; r++) {
    Philox k = philox(seed, stream, epoch * 8 + r);
    s.key[r] = (uint64_t)k.v[1] << 32 | k.v[0];
  }
  return s;
}

static uint64_t mix(uint64_t x) { /* the finaliser of splitmix64 */
  x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
  return x ^ x >> 31;
}

uint64_t shuffle_at(const Shuffle *s, uint64_t i) {
  uint64_t mask = (UINT64_C(1) << s->half_bits) - 1;
  do {
    uint64_t left = i >> s->half_bits, right = i & mask;
    for (int r = 0; r < 8; r++) {
      uint64_t next = left ^ (mix(right ^ s->key[r]) & mask);
      left = right;
      right = next;
    }
    i = left << s->half_bits | right;
  } while (i >= s->n);
  return i;
}
