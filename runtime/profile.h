/* The table behind --profile: where the time of a run went. */
#ifndef RT_PROFILE_H
#define RT_PROFILE_H
#include "runtime/inkrt.h"

/* One line a kernel, most time first: YAML line, calls, time, share, GFLOP/s, share of `peak` (0: not known). */
void profile_table(const Engine *e, double peak, Report *out);
#endif
