/* What benchmarks share: sides that take turns, numbers that are no special case, and medians.
 *
 * A machine's speed changes from second to second. So nothing is timed alone: in every turn each side runs for some
 * milliseconds, the probes of what the machine can do among them, and what is reported is the median of the turns' ratios. */
#ifndef INK_BENCH_TURNS_H
#define INK_BENCH_TURNS_H
#include "driver/meter.h"
#include "ink/program.h"

enum { TURNS_MOST = 64 };
typedef struct Samples {
  double v[TURNS_MOST];
  int n;
} Samples;
void samples_add(Samples *s, double v); /* past the most: left out */
double samples_median(const Samples *s);
double samples_least(const Samples *s);
double samples_most(const Samples *s);

/* Seconds of work: the caller's CPU time on one thread, so that what else runs is left out; the wall clock on several. */
double turns_clock(int threads);
double turns_wall(void);
/* Thread counts of "1,2" into out; NULL: one and all cores. How many; 0: not such a list. */
int turns_threads(const char *list, int *out, int room, int most);

/* f32 from -1 to 1, never 0, or the same rounded to bf16, or any i8, in memory that starts at another place of a page each time; huge pages
 * where it is large, as in programs. */
void *numbers_new(DType dt, int64_t n, uint64_t seed);
void numbers_free(void *x, DType dt, int64_t n);

/* A side: runs `calls` calls one after the other. */
typedef struct Side {
  const char *name;
  void (*spell)(void *ctx, int calls);
  void *ctx;
  int calls;       /* of a spell; found at the first turn */
  double now;      /* seconds of a call in this turn */
  Samples seconds; /* of all turns */
} Side;
/* One turn of one side: a call that is not timed, unless calls are long, then a spell that is. */
void side_turn(Side *s, int threads);

/* A kernel on a pool, as a program runs it: every thread calls it, a barrier follows. */
typedef struct KernelCalls {
  KernelFn fn;
  void *(*bufs)[32]; /* arguments by copy; copies are gone through one after the other */
  int copies, next;
  void **scratch; /* by thread */
  Pool *pool;     /* NULL: the caller alone */
  int calls;      /* of the spell under way */
  int64_t dealt;  /* KernelFn's */
} KernelCalls;
void kernel_spell(void *ctx, int calls);
#endif
