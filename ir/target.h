/* Numbers of a target machine: all that passes and schedules may know of it. */
#ifndef INK_IR_TARGET_H
#define INK_IR_TARGET_H
#include "ink/base.h"

typedef struct Target {
  const char *name;                    /* as asked: "cpu:native" */
  const char *arch;                    /* "x86_64", "aarch64" */
  const char *triple, *cpu, *features; /* LLVM's words */
  const char *require;                 /* features to check when a program starts: "avx2,fma" */
  int lanes;                           /* f32 lanes of a vector register */
  int registers;                       /* vector registers */
  bool dpbf16;                         /* has vdpbf16ps, for vectors of that many lanes */
  int dpbusd;                          /* has vpdpbusd for vectors of up to so many lanes; 0: it has none */
  int64_t l1, l2, l3;                  /* bytes a core may count on */
  int64_t chunk;                       /* bytes: larger row-wise values are made in parts of that; 0: none are */
  int64_t memory;                      /* bytes that may be alive at once between calls; 0: any number */
  bool apart;                          /* one kernel for each op: nothing is fused */
  int cores;
  const struct ScheduleSource *schedules; /* of contractions (codegen/schedule.h); NULL: the cost model's */
} Target;
#endif
