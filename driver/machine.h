/* What this machine is and can do: its parts, the roofs of its speed, and whether figures taken now are worth anything. */
#ifndef INK_DRIVER_MACHINE_H
#define INK_DRIVER_MACHINE_H
#include "driver/meter.h"

typedef struct MachineFigure {
  const char *id, *what; /* "read_l2", "L2 read" */
  const char *unit;      /* of the values: "FLOP/s", "OP/s", "B/s", "s" */
  int threads;
  double median, best;
  int n;             /* readings; 0: could not be taken */
  const char *lacks; /* why not */
} MachineFigure;

/* How alone a measurement is. Quiet: all within the limits of machine.c. */
typedef struct MachineQuiet {
  double scaling;     /* f32 multiply-adds: rate of all threads over threads times that of one; median of turns */
  double spread;      /* of one thread's multiply-adds: how far the median is below the best, as a share of it */
  double share;       /* CPU time over wall time of the thread served worst, all threads; median */
  double others;      /* cores that other programs used meanwhile */
  double steal;       /* cores that the host withheld */
  const char *why[5]; /* what speaks against it */
  int nwhy;
} MachineQuiet;

typedef struct MachineReport {
  const char *name;        /* as the CPU calls itself */
  const char *fingerprint; /* codegen/fingerprint.h */
  Target target;
  int cores;      /* that this process may use */
  int64_t memory; /* bytes that can be had */
  MachineFigure *figures;
  int nfigures, cap_figures;
  MachineQuiet quiet;
  double seconds; /* that it took */
} MachineReport;

/* Measures for about this many seconds, and at least five readings of each figure. Lives in the arena. */
bool machine_measure(Arena *a, Diags *d, double seconds, MachineReport *out);
void machine_print(const MachineReport *r, Text *out); /* for people */
bool machine_json(const MachineReport *r, Text *out);  /* for scripts; false: out of memory */
#endif
