/* How a contract region is cut up: data, which the cost model guesses and a tuner may replace. By the numerical law no schedule
 * changes a result; it changes the time. */
#ifndef INK_CODEGEN_SCHEDULE_H
#define INK_CODEGEN_SCHEDULE_H
#include "ir/target.h"

/* Extents as the schedule sees them: all of M, the run of N along the lanes, all of K, at their bounds. */
typedef struct ContractShape {
  int64_t m, n, k;
} ContractShape;

typedef struct Schedule {
  int mr, nv;   /* register tile: rows x vectors of columns */
  int kc;       /* depth of a packed run; multiples of 8 unless it is all of K */
  int mc, nc;   /* packed block of A: mc rows, a multiple of mr; of B: nc columns, a multiple of nv vectors */
  int mb;       /* rows over which one packed block of B is used, a multiple of mc */
  bool by_rows; /* threads divide M; else N */
} Schedule;

Schedule schedule_default(const Target *t, const ContractShape *s);
/* NULL, or what is wrong with it for this target and shape: what comes from a file is not trusted. */
const char *schedule_wrong(const Schedule *c, const Target *t, const ContractShape *s);
#endif
