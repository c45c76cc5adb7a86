/* The machine's limits, and the time that no kernel can be faster than (Williams, Waterman and Patterson 2009): the larger of
 * its FLOPs at the peak and its bytes at the memory's rate.
 *
 * Memory has a rate for each size of what is walked, for smaller sets lie in nearer caches. A kernel gets the rate of the
 * largest measured set that is not larger than what it touches: as if all of it had been touched just before. So the limit
 * is one for warm and cold caches alike. */
#ifndef RT_ROOFLINE_H
#define RT_ROOFLINE_H
#include "ink/base.h"
#include "runtime/pool.h"

enum { ROOFLINE_SIZES = 10 };

typedef struct Roofline {
  int threads;
  double flops; /* FLOP/s of all threads together on multiply-adds; 0: not known */
  int n;
  struct {
    double bytes, rate; /* size of the set, B/s of all threads together; sizes grow, rates never do */
  } memory[ROOFLINE_SIZES];
} Roofline;

/* Measures the memory with the pool's threads for about `seconds`, and keeps what is better than before; a set is as large as
 * the memory to be had allows. false: there was none. */
bool roofline_memory(Roofline *r, Pool *p, double seconds, Report *err);
double roofline_rate(const Roofline *r, double bytes); /* B/s for a call that touches so much; 0: not known */
/* Seconds of one call at the limit; 0: not known. */
double roofline_seconds(const Roofline *r, double flops, double bytes);
/* Seconds in which all threads together read n blocks of memory once, plainly: what a kernel that reads them is held to, beside it. */
double roofline_read(Pool *p, const void *const *at, const size_t *bytes, int n);
void roofline_text(const Roofline *r, Text *out); /* one line */
#endif
