/* A pool of threads that run one function together, and the barrier they meet at.
 *
 * pool_run() is SPMD: every thread runs the same function with its number; they keep step by pool_barrier(). That costs
 * one barrier a kernel, half of a fork and join. The caller is thread 0. Nothing here may change a result: work is
 * divided by the kernels, and any division gives the same bits. */
#ifndef RT_POOL_H
#define RT_POOL_H
#include "runtime/report.h"

typedef struct Pool Pool;
typedef void (*PoolFn)(void *ctx, int thread, int threads);

Pool *pool_new(int threads, Report *err); /* 1 .. 1024 */
void pool_free(Pool *p);
int pool_threads(const Pool *p);
void pool_run(Pool *p, PoolFn fn, void *ctx); /* returns when every thread has returned */
void pool_barrier(Pool *p);                   /* inside fn only, by all threads */
#endif
