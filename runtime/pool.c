/* Threads and a low-latency barrier.
 *
 * The barrier counts arrivals; the last one starts the next phase. Who waits spins about 50 microseconds (kernels of a
 * small model take less than a sleep and a wake) and then sleeps on a futex, so an idle pool costs nothing. With more
 * threads than cores nobody spins: the spinner would hold the core that the others need.
 *
 * What must hold: `phase` is stored before `sleepers` is read, and a sleeper raises `sleepers` before the kernel compares
 * `phase`; both orders are sequentially consistent, so a wake is never missed. Writes before a barrier are visible
 * after it on every thread. */
#include "runtime/pool.h"
#include "runtime/machine.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 1024, SPIN_NS = 50000, CACHE_LINE = 64 };

typedef struct Barrier {
  _Alignas(CACHE_LINE) _Atomic uint32_t arrived;
  _Alignas(CACHE_LINE) _Atomic uint32_t phase;
  _Atomic uint32_t sleepers;
  _Atomic uint32_t n;
  bool spin;
} Barrier;

typedef struct Worker {
  Pool *pool;
  int number;
  pthread_t thread;
} Worker;

struct Pool {
  Barrier barrier;
  PoolFn fn;
  void *ctx;
  bool stop;
  int threads, started;
  Worker *workers;
};

static void pause_core(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void barrier_sleep(Barrier *b, uint32_t phase) {
  atomic_fetch_add(&b->sleepers, 1);
  while (atomic_load(&b->phase) == phase) syscall(SYS_futex, &b->phase, FUTEX_WAIT_PRIVATE, phase, NULL, NULL, 0);
  atomic_fetch_sub(&b->sleepers, 1);
}

static void barrier_wait(Barrier *b) {
  uint32_t phase = atomic_load(&b->phase);
  if (atomic_fetch_add(&b->arrived, 1) + 1 == b->n) {
    atomic_store(&b->arrived, 0); /* nobody arrives again before the phase moves */
    atomic_store(&b->phase, phase + 1);
    if (atomic_load(&b->sleepers)) syscall(SYS_futex, &b->phase, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    return;
  }
  if (b->spin) {
    int64_t end = now_ns() + SPIN_NS;
    do
      for (int i = 0; i < 64; i++) {
        if (atomic_load_explicit(&b->phase, memory_order_acquire) != phase) return;
        pause_core();
      }
    while (now_ns() < end);
  }
  barrier_sleep(b, phase);
}

static void *worker_main(void *arg) {
  Worker *w = arg;
  Pool *p = w->pool;
  for (;;) {
    barrier_wait(&p->barrier);
    if (p->stop) return NULL;
    p->fn(p->ctx, w->number, p->threads);
    barrier_wait(&p->barrier);
  }
}

Pool *pool_new(int threads, Report *err) {
  if (threads < 1 || threads > MAX_THREADS) {
    report_add(err, "%d threads: between 1 and %d are possible", threads, MAX_THREADS);
    return NULL;
  }
  Pool *p = aligned_alloc(CACHE_LINE, sizeof(Pool));
  Worker *workers = calloc((size_t)threads, sizeof(Worker));
  if (!p || !workers) {
    free(p), free(workers);
    report_add(err, "out of memory");
    return NULL;
  }
  memset(p, 0, sizeof(*p));
  p->threads = threads;
  p->workers = workers;
  atomic_store(&p->barrier.n, (uint32_t)threads);
  p->barrier.spin = threads <= machine_cores();
  /* Signals are for the main thread: a worker must not be the one to take Ctrl-C. */
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &old);
  int failed = 0;
  for (p->started = 1; p->started < threads; p->started++) {
    Worker *w = &workers[p->started];
    *w = (Worker){.pool = p, .number = p->started};
    failed = pthread_create(&w->thread, NULL, worker_main, w);
    if (failed) break;
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (failed) {
    report_add(err, "cannot start thread %d of %d: %s", p->started + 1, threads, strerror(failed));
    atomic_store(&p->barrier.n, (uint32_t)p->started); /* nobody has left the barrier: fewer than n have arrived */
    pool_free(p);
    return NULL;
  }
  return p;
}

void pool_free(Pool *p) {
  if (!p) return;
  p->stop = true;
  barrier_wait(&p->barrier);
  for (int i = 1; i < p->started; i++) pthread_join(p->workers[i].thread, NULL);
  free(p->workers);
  free(p);
}

int pool_threads(const Pool *p) {
  return p->threads;
}

void pool_barrier(Pool *p) {
  if (p->threads > 1) barrier_wait(&p->barrier);
}

void pool_run(Pool *p, PoolFn fn, void *ctx) {
  if (p->threads == 1) {
    fn(ctx, 0, 1);
    return;
  }
  p->fn = fn;
  p->ctx = ctx;
  barrier_wait(&p->barrier);
  fn(ctx, 0, p->threads);
  barrier_wait(&p->barrier);
}
