/* From fused graphs to a program: buffers, step lists, the memory plan, the blob, the linked binary.
 *
 *   steps.c    main graphs of calls -> lists of steps over buffers; what is updated in place, what is copied
 *   memory.c   lifetimes -> offsets in one arena
 *   program.c  all of it -> the blob of include/ink/program.h
 *   listing.c  a blob as text (ink dump --stage program)
 *   link.c     object file + libinkrt.a -> executable
 *
 * Everything here lives in the arena of the module that is compiled. */
#ifndef INK_CODEGEN_PROGRAM_H
#define INK_CODEGEN_PROGRAM_H
#include "codegen/codegen.h"
#include "ink/program.h"

/* How a target turns regions into kernels; functions of codegen.h for the CPU, others in tests. */
typedef struct Lowering {
  bool (*region)(const Graph *region, const Target *t, KModule *into, Lowered *out);
  bool (*peak)(const Target *t, KModule *into, Lowered *out, double *flops); /* NULL: no list `peak` */
  RegionAlias (*alias)(const Graph *region, int output, int input);
} Lowering;

/* ---- what the program holds beside graphs, filled in by the command line from the frontend's Model and TrainSpec */
typedef struct PieceSpec {
  const char *tensor;
  int hf_rank, rank;
  int64_t hf_dim[MAX_RANK], start, base, dim[MAX_RANK], pstride[MAX_RANK], stride[MAX_RANK];
} PieceSpec;

typedef struct ParamSpec {
  const char *name; /* of the graph input; its moments are m.NAME and v.NAME, its gradient grad.NAME */
  InitKind init;
  double init_a, init_b;
  bool decay;
  const PieceSpec *pieces;
  int npieces;
} ParamSpec;

typedef struct NamedText { /* input and its source; setting and its value; file and its text */
  const char *name, *text;
} NamedText;

typedef struct ProgramSpec {
  const char *model, *text; /* the effective model and training text */
  const char *skip;         /* ProgramHeader.skip; NULL or "": none */
  const ParamSpec *params;
  const NamedText *sources, *settings, *files;
  int nparams, nsources, nsettings, nfiles;
  int64_t batch, time;
  double model_flops, model_params;
  bool serves; /* parameters have no states, and they and the states lie in memory of whoever runs it */
} ProgramSpec;

/* ---- the plan: buffers and steps before they become bytes */
enum { NO_LIST = -1 };
typedef struct PlanBuffer {
  const char *name;
  const char *source; /* DATA */
  BufferKind kind;
  Type type;
  int64_t bytes, offset;
  int64_t bound;      /* DATA of i32: its values are below it; 0: not known */
  int64_t begin, end; /* TEMP: first and last position (of the running count of steps) at which it is alive */
  const char *table;  /* CONST: expression over i, j, k, l */
} PlanBuffer;

typedef struct PlanArg {
  int buffer;
  int64_t offset, stride;
} PlanArg;

typedef struct PlanStep {
  StepKind kind;
  int kernel; /* LIST: the list */
  PlanArg *args;
  int nargs;
  const int *syms; /* 1-based symbols of its integers */
  int nsyms;
  int64_t count; /* LIST */
  Span span;
  const Span *places; /* CALL: as in Node; NULL: span is all that is known */
  int nplaces;
} PlanStep;

typedef struct PlanList {
  const char *name;
  PlanStep *steps;
  int nsteps, cap_steps;
} PlanList;

typedef struct PlanKernel {
  const char *region;
  Lowered low;
  int outputs; /* its last arguments */
  const int *syms;
} PlanKernel;

/* A region's answers to alias questions, asked once. */
typedef struct PlanAlias {
  const Graph *region;
  unsigned char *alias; /* [output][input] */
} PlanAlias;

typedef struct Plan {
  Arena *arena;
  Diags *diags;
  Module *mod;
  const Target *target;
  const Lowering *lower;
  KModule *km;
  PlanBuffer *buffers;
  int nbuffers, cap_buffers;
  PlanKernel *kernels; /* kernel i is kernel i of km */
  int nkernels, cap_kernels;
  PlanAlias *aliases;
  int naliases, cap_aliases;
  PlanList *lists;
  int nlists, cap_lists;
  ProgramSymbol *symbols; /* name: index into symbol_names until the blob is written */
  const char **symbol_names;
  int nsymbols, cap_symbols, cap_symbol_names;
  int64_t position; /* running count of steps, for lifetimes */
  int64_t sum_temp; /* bytes of all temporaries, each in memory of its own */
  int copies;       /* steps that only copy */
} Plan;

/* Adds list `name` for a graph of calls (steps.c). Inputs become buffers shared by name with the other lists. An output
 * named as an input is its next value; another one becomes a DATA buffer of its name that the runtime reads. */
bool plan_graph(Plan *p, const Graph *g, const char *list);
bool plan_peak(Plan *p, double *flops);
/* The kernel of a region, lowered the first time it is asked for; -1 after errors. */
int plan_kernel(Plan *p, const Graph *region);
int plan_find_buffer(const Plan *p, const char *name); /* -1: none */

/* ---- memory.c */
enum { MEMORY_ALIGN = 64 };
typedef struct MemoryReport {
  int64_t arena; /* bytes of the arena */
  int64_t peak;  /* the largest sum of bytes alive at one position: no plan can be smaller */
  int buffers;
} MemoryReport;
typedef struct MemoryItem {
  int64_t bytes, begin, end; /* alive at positions begin..end, both included */
  int64_t offset;            /* result */
} MemoryItem;
/* Offsets such that items alive at the same position do not overlap, multiples of MEMORY_ALIGN. stagger: large items
 * end a few cache lines further on, so that equal-sized neighbours do not fall on the same sets of a cache. */
MemoryReport memory_plan(Arena *a, MemoryItem *items, int n, bool stagger);

/* ---- program.c */
typedef struct ProgramReport {
  int kernels, steps, buffers, copies, lists;
  int64_t persistent, arena, peak, sum_temp, scratch, consts, blob;
} ProgramReport;
/* What a run needs with that many threads. */
int64_t program_memory(const ProgramReport *r, int threads);
/* All main graphs of the module (regions apart) to kernels in km and one blob. */
bool program_build(Module *m, const ProgramSpec *spec, const Target *t, const Lowering *lower, KModule *km, Diags *d,
                   Text *blob, ProgramReport *report);

/* ---- listing.c */
void program_list_text(const void *blob, Text *out);

/* ---- link.c. The executable `path` from an object file's bytes and the library `inkrt`, both for the target, with the C
 * compiler `cc` (NULL: the one of the target's architecture), run by argv. Written beside `path` and renamed over it. */
bool link_program(Arena *a, Diags *d, const Text *object, const Target *t, const char *cc, const char *inkrt,
                  const char *path);
#endif
