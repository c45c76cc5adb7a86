/* Readings of what this machine does right now: one probe, some milliseconds long, on one thread or on all.
 *
 * `ink machine` takes many and reports them; a benchmark takes one between two of its own turns, so that a kernel is held
 * against what could be had in the same moment.
 * Ownership: the meter holds a pool of threads and two buffers past the last cache until meter_free(). */
#ifndef INK_DRIVER_METER_H
#define INK_DRIVER_METER_H
#include "codegen/probe.h"
#include "runtime/pool.h"

typedef enum Level { LEVEL_L1, LEVEL_L2, LEVEL_L3, LEVEL_DRAM, LEVEL_COUNT } Level;

typedef struct Reading {
  double rate;     /* operations or bytes (read and written) a second, all threads together, by the wall clock */
  double cpu_rate; /* the same by the threads' CPU time, summed: what else ran on their cores is left out */
  double share;    /* CPU time over wall time of the thread that was served worst: 1 when it had its core to itself */
} Reading;

typedef struct Meter Meter;
/* threads: of the pool, at least 1. The target must be this machine's ("cpu:native"). NULL after errors. */
Meter *meter_new(Diags *d, const Target *t, int threads);
void meter_free(Meter *m);
Pool *meter_pool(Meter *m);
/* level: where the data of reads and copies lies. all: on the pool's threads, else on the caller alone. false: the target
 * lacks the instruction, or the level has no room for all threads. */
bool meter_read(Meter *m, Probe p, Level level, bool all, Reading *out);
/* Seconds that a barrier of this many threads takes, in a pool of its own. */
bool meter_barrier(Diags *d, int threads, double *seconds);
#endif
