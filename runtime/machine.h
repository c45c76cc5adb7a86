/* What this machine has, checked before anything runs: CPU features, cores, memory. */
#ifndef RT_MACHINE_H
#define RT_MACHINE_H
#include "runtime/report.h"
#include <stdint.h>

int machine_cores(void);                             /* that this process may use: affinity and cgroup quota */
uint64_t machine_memory(void);                       /* bytes that can be had now without swapping; 0: unknown */
bool machine_has(const char *features, Report *err); /* "avx2,fma": names every missing one */
bool machine_fits(uint64_t bytes, const char *what, Report *err); /* `bytes` against machine_memory() */
const char *machine_size(uint64_t bytes, char text[32]);          /* "1.2 GiB" */
double machine_seconds(void);                                     /* monotonic clock */
#endif
