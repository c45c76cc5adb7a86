/* Probe kernels: the few loops that show what a machine can do at most, made for its own vectors by the code generator that
 * makes all kernels. What they reach is the roof that a kernel's speed is held against. */
#ifndef INK_CODEGEN_PROBE_H
#define INK_CODEGEN_PROBE_H
#include "codegen/codegen.h"
#include "codegen/jit.h"
#include "ink/program.h"

typedef enum Probe {
  PROBE_FMA,     /* f32 multiply-adds in registers: lower_peak()'s kernel, as training programs carry it */
  PROBE_BF16,    /* dot products of bf16 pairs into f32 (vdpbf16ps), in registers */
  PROBE_INT8,    /* dot products of four int8 into i32 (vpdpbusd), in registers */
  PROBE_READ,    /* reads a buffer, a quarter beside the other: the most that comes from memory */
  PROBE_COPY,    /* copies one buffer to another */
  PROBE_COPY_NT, /* the same with stores that go around the caches */
  PROBE_COUNT
} Probe;

/* How to call fn: in registers (the first three), buf[0] is PROBE_SCRATCH bytes of numbers, aligned to 64, and a call is `ops`
 * operations, an add and a multiply counted apart. Others: buf[0] is read, buf[1] written (copies) or has room for one
 * vector (reads); ints[0] is the number of floats, a multiple of PROBE_GRAIN, ints[1] how often they are gone over; `bytes`
 * for each float, read and written. Every thread calls with buffers of its own. */
enum { PROBE_SCRATCH = 4096, PROBE_GRAIN = 128 };
typedef struct ProbeKernel {
  KernelFn fn; /* NULL: the target has no such instruction */
  double ops, bytes;
} ProbeKernel;

typedef struct ProbeSet {
  ProbeKernel probe[PROBE_COUNT];
  Jit *jit[2];
} ProbeSet;

/* NULL, or what the target lacks for it: "no avx512bf16". */
const char *probe_lacks(const Target *t, Probe p);
/* Compiled and loaded; the target must be one that this machine can run. false: diagnostics; nothing to free. */
bool probes_load(Diags *d, const Target *t, ProbeSet *out);
void probes_free(ProbeSet *s);
#endif
