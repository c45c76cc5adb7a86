/* The memory's rates. Each thread walks a part of its own, again and again: once reading it, once adding to it, which reads and
 * writes. The better of the two counts, the best of many repetitions too, so that neighbours on the machine disturb little.
 * Parts are 16 KiB a thread at first, four times as much each time, up to 256 MiB together: caches belong to cores, memory
 * to all. Plain 16-byte vectors saturate everything beyond the first-level cache. */
#include "runtime/roofline.h"
#include "runtime/machine.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

typedef uint64_t Words __attribute__((vector_size(16)));

enum { STRIDE = 8 };                  /* vectors of a turn: two cache lines */
static const double LEAST = 16 << 10; /* bytes of a thread */
static const double MOST = 256 << 20; /* bytes of all */
static const double TURN = 32 << 20;  /* bytes that a run walks at least: far longer than it takes to start */

typedef struct Walk {
  Words *at;
  size_t part;   /* vectors of a thread */
  int64_t turns; /* of the part in one run */
  bool update;
} Walk;

static Words read_part(const Words *x, size_t n) {
  Words a = {0}, b = a, c = a, d = a;
  for (const Words *end = x + n; x < end; x += STRIDE) {
    a ^= x[0], b ^= x[1], c ^= x[2], d ^= x[3];
    a ^= x[4], b ^= x[5], c ^= x[6], d ^= x[7];
  }
  return a ^ b ^ c ^ d;
}

static void update_part(Words *x, size_t n) {
  const Words one = {1, 1};
  for (const Words *end = x + n; x < end; x += STRIDE) {
    x[0] += one, x[1] += one, x[2] += one, x[3] += one;
    x[4] += one, x[5] += one, x[6] += one, x[7] += one;
  }
}

static void walk_thread(void *ctx, int thread, int threads) {
  const Walk *w = ctx;
  Words *x = w->at + (size_t)thread * w->part, sum = {0};
  for (int64_t t = 0; t < w->turns; t++) {
    if (w->update)
      update_part(x, w->part);
    else
      sum ^= read_part(x, w->part);
    __asm__ volatile("" ::"x"(sum) : "memory"); /* the walks are not to be merged or left out */
  }
  (void)threads;
}

typedef struct Blocks {
  const void *const *at;
  const size_t *bytes;
  int n;
} Blocks;

static void read_blocks(void *ctx, int thread, int threads) {
  const Blocks *b = ctx;
  Words sum = {0};
  for (int i = 0; i < b->n;
       i++) { /* from the first whole vector to the last whole stride: some lines at the ends are left out */
    size_t skip = -(uintptr_t)b->at[i] % sizeof(Words);
    size_t part = (b->bytes[i] - skip) / sizeof(Words) / (size_t)threads / STRIDE * STRIDE;
    const Words *x = (const Words *)(const void *)((const char *)b->at[i] + skip);
    if (b->bytes[i] > skip) sum ^= read_part(x + (size_t)thread * part, part);
  }
  __asm__ volatile("" ::"x"(sum) : "memory");
}

double roofline_read(Pool *p, const void *const *at, const size_t *bytes, int n) {
  double start = machine_seconds();
  pool_run(p, read_blocks, &(Blocks){at, bytes, n});
  return machine_seconds() - start;
}

static double walk_rate(Pool *p, Walk *w, double seconds) {
  double bytes = (double)w->part * sizeof(Words) * pool_threads(p) * (w->update ? 2 : 1), best = 0;
  w->turns = 1 + (int64_t)(TURN / bytes);
  double end = machine_seconds() + seconds;
  pool_run(p, walk_thread, w); /* fills the caches */
  do {
    double start = machine_seconds();
    pool_run(p, walk_thread, w);
    double took = machine_seconds() - start, rate = took > 0 ? bytes * (double)w->turns / took : 0;
    if (rate > best) best = rate;
  } while (machine_seconds() < end);
  return best;
}

bool roofline_memory(Roofline *r, Pool *p, double seconds, Report *err) {
  int threads = pool_threads(p), n = 0;
  double have = (double)machine_memory() / 4, most = have > 0 && have < MOST ? have : MOST, size[ROOFLINE_SIZES];
  for (double part = LEAST; n < ROOFLINE_SIZES && (!n || part * threads <= most); part *= 4) size[n++] = part * threads;
  size_t bytes = (size_t)size[n - 1];
  void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) {
    char text[32];
    return report_add(err, "cannot get %s to measure the memory's speed: %s", machine_size(bytes, text),
                      strerror(errno));
  }
  madvise(m, bytes, MADV_HUGEPAGE); /* a hint */
  memset(m, 1, bytes);
  for (int i = 0; i < n; i++) {
    double rate = i < r->n ? r->memory[i].rate : 0;
    for (int update = 0; update < 2; update++) {
      Walk w = {m, (size_t)(size[i] / threads) / sizeof(Words), 0, update};
      double now = walk_rate(p, &w, seconds / (2 * n));
      if (now > rate) rate = now;
    }
    r->memory[i].bytes = size[i];
    r->memory[i].rate = rate;
  }
  munmap(m, bytes);
  if (n > r->n) r->n = n;
  r->threads = threads;
  for (int i = r->n - 2; i >= 0; i--) /* what a larger set can do, a smaller one can: the measurement was disturbed */
    if (r->memory[i].rate < r->memory[i + 1].rate) r->memory[i].rate = r->memory[i + 1].rate;
  return true;
}

double roofline_rate(const Roofline *r, double bytes) {
  double rate = r->n ? r->memory[0].rate : 0;
  for (int i = 1; i < r->n && r->memory[i].bytes <= bytes; i++) rate = r->memory[i].rate;
  return rate;
}

double roofline_seconds(const Roofline *r, double flops, double bytes) {
  double rate = roofline_rate(r, bytes);
  if ((flops > 0 && r->flops <= 0) || (bytes > 0 && rate <= 0)) return 0;
  double compute = flops > 0 ? flops / r->flops : 0, memory = bytes > 0 ? bytes / rate : 0;
  return compute > memory ? compute : memory;
}

void roofline_text(const Roofline *r, Text *out) {
  char size[32];
  text_add(out, "limit with %d thread%s: ", r->threads, r->threads == 1 ? "" : "s");
  if (r->flops > 0)
    text_add(out, "%.1f GFLOP/s", 1e-9 * r->flops);
  else
    text_add(out, "peak not known");
  for (int i = 0, last = 0; i < r->n; i++) {
    if (i && r->memory[i].rate > 0.9 * r->memory[last].rate) continue; /* the same cache */
    text_add(out, "%s%.0f GB/s", i ? ", " : "; memory ", 1e-9 * r->memory[i].rate);
    if (i) text_add(out, " from %s on", machine_size((uint64_t)r->memory[i].bytes, size));
    last = i;
  }
  text_add(out, "\n");
}
