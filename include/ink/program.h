/* The compiled program: what a binary holds, and all that the runtime knows of a model.
 *
 * The object file that codegen writes defines
 *     const unsigned char ink_program[];      one blob, laid out as below, 64-byte aligned
 *     const KernelFn ink_kernels[];           indexed by Step.kernel
 * The blob is position-independent: every reference is a u32 byte offset from its start (0: absent), strings are
 * NUL-terminated. Little endian, native struct layout of the target.
 *
 * Buffers live in four places: DATA, PARAM and STATE buffers one beside the other in memory that persists; TEMP buffers
 * at planned offsets in one arena (they overlap in time); CONST buffers inside the blob. Of a program that serves, PARAM and STATE
 * buffers lie with whoever runs it: weights in a file that is mapped, pages of the cache, as many as it has room for.
 *
 * Packed parameters: the first `split` axes are N, the others K, and memory is [ceil(N / panel)][K][panel] of f32, or
 * [ceil(N / panel)][ceil(K / 2)][panel][2] of bf16, or [ceil(N / panel)][ceil(K / 4)][panel][4] of i8: the panels that contractions read. What lies past N or K is 0; `bytes` counts it.
 *
 * A list is a straight run of steps. The lists of a training program:
 *     micro    forward and backward of one micro-batch; adds to the grad.* states and to loss_sum
 *     update   clip, AdamW; clears grad.*; leaves grad_norm
 *     eval     forward only; adds to loss_sum
 *     sample   logits of one position (only for programs with a `tokens` source and logits)
 * and of one that serves:
 *     serve    N tokens of any mix of sequences (serve/model.h); parameters have neither moments nor gradients
 *     peak     pure FMA work, peak_flops on each thread: the machine's limit, measured by the runtime */
#ifndef INK_PROGRAM_H
#define INK_PROGRAM_H
#include <stdint.h>

#define PROGRAM_MAGIC "INKPROG"
enum { PROGRAM_VERSION = 5, PROGRAM_RANK = 6 };
#define PROGRAM_NONE UINT32_MAX

/* A kernel divides its own work: every one of `threads` threads calls it with its number, and any division gives the same
 * bits. scratch: private to the thread, header.scratch_bytes, 64-byte aligned. dealt: the call's, by which threads divide work as they go;
 * 0 before a call and, when all threads have left it, after. */
typedef void (*KernelFn)(void *const *buf, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                         int64_t *dealt);

typedef enum { BUF_DATA, BUF_PARAM, BUF_STATE, BUF_TEMP, BUF_CONST } BufferKind;

/* Dtype codes are those of ir/dtypes.def in order: f32 0, bf16 1, f64 2, i32 3, i8 4, f8e4m3 5. */
typedef struct ProgramBuffer {
  uint32_t name;
  uint8_t dtype, kind, rank, pad;
  uint64_t offset; /* TEMP: in the arena. CONST: in the blob. Others: in their persistent block, 64-byte aligned */
  uint64_t bytes;
  int64_t dim[PROGRAM_RANK]; /* bounds where symbolic */
  uint32_t source; /* DATA only: what feeds it: "tokens", "targets", "images", "labels", "positions"; 0 for scalars */
  uint32_t bound;  /* DATA of i32: every value is below it (rows of the gathered table, classes); 0: not said */
  uint32_t panel, split; /* PARAM of a program that serves: packed, see above; panel 0: row-major */
} ProgramBuffer;

typedef enum { INIT_ZEROS, INIT_ONES, INIT_CONST, INIT_NORMAL, INIT_UNIFORM } InitKind;

/* One checkpoint tensor's part of a parameter: the block of the parameter that starts at element `start` with extents
 * `dim`, dense with the parameter's strides `pstride`; element (i0, i1, ...) of the block is element
 * base + sum i_k * stride[k] of the checkpoint tensor. A tensor may be shared by several parameters' pieces. */
typedef struct ProgramPiece {
  uint32_t tensor;  /* name in the checkpoint */
  uint32_t hf_rank; /* shape of the whole checkpoint tensor */
  int64_t hf_dim[PROGRAM_RANK];
  int64_t start, base;
  int64_t dim[PROGRAM_RANK], pstride[PROGRAM_RANK], stride[PROGRAM_RANK];
  uint32_t rank, pad;
} ProgramPiece;

typedef struct ProgramParam {
  uint32_t buffer;       /* index of its buffer */
  uint32_t init;         /* InitKind */
  double init_a, init_b; /* NORMAL: mean, std. UNIFORM: low, high. CONST: value */
  uint32_t piece, npieces;
  uint32_t moment1, moment2; /* buffers of its optimizer state; PROGRAM_NONE in a program that serves */
  uint32_t grad;             /* likewise */
  uint32_t decay;            /* 1: weight decay applies */
} ProgramParam;

typedef struct ProgramKernel {
  uint32_t name, file; /* strings: "contract.3"; the YAML file */
  uint32_t line;
  uint32_t outputs; /* its last arguments: what it writes; one that it updates in place stands among the others, too */
  double flops, bytes; /* of one call: arithmetic that the result needs; operands and results, each once */
} ProgramKernel;

/* Where in the model something comes from. */
typedef struct ProgramPlace {
  uint32_t file, line;
  uint32_t in;   /* the block instance, "layer.3"; 0: none */
  uint32_t text; /* the line itself, without its indentation; 0: not known */
} ProgramPlace;

typedef enum { STEP_CALL, STEP_COLL, STEP_LIST } StepKind;

/* CALL: kernel(args, ints) on all threads. LIST: run list `kernel` for index 0 .. count-1 (count: a ProgramInt index). Within a lane steps run in order; a step starts when those in wait[] (1 + step index, 0 none) of the other lane are done.
 * Places: the first is the step's own; a CALL goes on with one for each output, then all others that its kernel computes. */
typedef struct ProgramStep {
  uint8_t kind, lane;
  uint16_t kernel;
  uint32_t args, nargs; /* in the args table */
  uint32_t ints, nints; /* in the ints table */
  uint32_t count;       /* LIST: index in the ints table */
  uint32_t wait[2];
  uint32_t place, nplaces; /* in the places table; 0 of them: not known */
} ProgramStep;

/* Address: base of the buffer + offset + stride * index of the innermost running LIST. Bytes. */
typedef struct ProgramArg {
  uint32_t buffer, pad;
  int64_t offset, stride;
} ProgramArg;

/* Value: c + step * index of the innermost LIST + mul * value of symbol sym (1-based; 0: none), then clamped to at most `max` when max > 0. */
typedef struct ProgramInt {
  int64_t c, step, mul, max;
  uint32_t sym, pad;
} ProgramInt;

typedef struct ProgramList {
  uint32_t name, step, nsteps, pad;
} ProgramList;

typedef struct ProgramSymbol {
  uint32_t name, pad;
  int64_t bound;
} ProgramSymbol;

/* A default of TRAIN.yaml, by the key names of include/ink/train.def; the value in text. */
typedef struct ProgramSetting {
  uint32_t key, value;
} ProgramSetting;

/* Text files that every checkpoint folder gets: config.json, generation_config.json, model.yaml. */
typedef struct ProgramFile {
  uint32_t name, text;
} ProgramFile;

typedef struct ProgramTable {
  uint32_t at, n; /* offset of the first element, count */
} ProgramTable;

typedef struct ProgramHeader {
  char magic[8];
  uint32_t version, header_bytes;
  uint64_t bytes; /* of the whole blob */
  uint64_t spec_hash;
  uint32_t model, target;      /* strings: "gpt2"; "x86-64-v3" */
  uint32_t cpu_features, spec; /* strings: "avx2,fma" to check at start; the effective model and training text */
  uint32_t skip, pad;          /* string: patterns of names, a line each; such tensors of a checkpoint are not read */
  uint64_t persistent_bytes, arena_bytes;
  uint64_t scratch_bytes;  /* per thread */
  uint64_t sum_temp_bytes; /* what the temporaries would take without sharing */
  double model_flops;      /* of one micro-batch, forward and backward: 3 x (contractions + full attention) */
  double model_params;     /* parameters */
  double peak_flops;       /* of the `peak` list, per thread */
  int64_t batch, time;     /* rows and length of a micro-batch; time 0 without a tokens source */
  ProgramTable buffers, params, pieces, kernels, steps, args, ints, lists, symbols, settings, files, places;
} ProgramHeader;

extern const unsigned char ink_program[];
extern const KernelFn ink_kernels[];
#endif
