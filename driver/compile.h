/* The pipeline, from a model's YAML to a program: what the command line, the C API and the tests share.
 *
 * compile_run() is the whole compiler from top to bottom. Nothing here prints or exits; what is made lives in the arena of
 * the Compile, but for the two texts, which compile_free() frees. */
#ifndef INK_DRIVER_COMPILE_H
#define INK_DRIVER_COMPILE_H
#include "codegen/program.h"
#include "frontend/frontend.h"
#include "passes/passes.h"
#include "tune/tune.h"

/* How far to go. */
typedef enum Stage { STAGE_SOURCE, STAGE_GRAPH, STAGE_FUSED, STAGE_KERNELS, STAGE_PROGRAM, STAGE_OBJECT } Stage;

typedef struct Phase {
  const char *name;
  double seconds;
} Phase;

/* What the memory budget changed. */
typedef struct Traded {
  int64_t memory;     /* bytes that the program takes less */
  double flops, more; /* of a step without the budget; that come on top */
  int calls;          /* of kernels that run again, a micro-batch */
} Traded;

/* A program that serves: what a batch holds at most (serve/model.h). 0: the default. */
typedef struct InferSpec {
  int64_t seqs;   /* sequences; 32 */
  int64_t tokens; /* of all of them; 512 */
  int64_t rows;   /* of logits; 64, no fewer than seqs */
  int64_t ctx;    /* positions of a sequence; the model's */
  int64_t pages;  /* of the cache, a bound: how many there are is chosen when it runs; 1 << 20 */
  DType dtype;    /* f32, or bf16: contractions, attention and the cache */
} InferSpec;

typedef struct Compile {
  /* asked */
  Arena *arena;
  Diags *diags;
  const char *model_path, *train_path, *target_name; /* train_path NULL: the defaults */
  /* Model and training specification in memory, the paths only their names; NULL: in files. folder: where the `base:` of
   * a model in memory may lie beside the shipped models, or NULL. */
  const char *model_text, *train_text, *folder;
  const char *models; /* folder of shipped models, or NULL */
  const char **sets;  /* "dims.layers=2", "lr=1e-3" */
  int nsets, cap_sets;
  int64_t batch, time;    /* 0: as the specs say */
  bool infer;             /* a program that serves, of the model alone; else one that trains */
  InferSpec serve;        /* its bounds */
  const char *stop_after; /* a pass: the pipeline ends there */
  const char *tune_db;    /* schedules that `ink tune` found; NULL, or a file that is not there: the cost model's */
  bool tune_db_must;      /* an error if it is not there */
  /* NULL, or called after each pass with what it was given and what it made; false ends the pipeline. */
  bool (*observe)(void *ctx, const PassInfo *pass, const Module *before, const Module *after);
  void *observe_ctx;
  /* made */
  Target target;
  TrainSpec train;
  Model *model;
  Module *module; /* after the passes */
  KModule *kernels;
  Text blob, object;
  ProgramReport report;
  Traded traded;
  TuneUse tuned; /* what came from tune_db */
  Phase phases[32];
  int nphases;
} Compile;

/* Runs the pipeline as far as the stage. false: diagnostics are in c->diags, or the observer ended it. */
bool compile_run(Compile *c, Stage until);
void compile_phase(Compile *c, const char *name, double *since); /* notes the time since *since, which becomes now */
void compile_free(Compile *c);

/* ---- budget.c: the pass `remat` on c->module, with the limit that follows from the training specification's budget. */
Module *budget_run(Compile *c, const PassInfo *remat);

/* ---- dump.c: the model at a stage of the pipeline as text, appended to out. kernel: for kernels, llvm and asm only this
 * one, or NULL. */
typedef enum { DUMP_SOURCE, DUMP_GRAPH, DUMP_FUSED, DUMP_KERNELS, DUMP_PROGRAM, DUMP_LLVM, DUMP_ASM, DUMP_COUNT } Dump;
extern const char *const dump_names[DUMP_COUNT]; /* "source", "graph", ... */
bool compile_dump(Compile *c, Dump what, const char *kernel, Text *out);

/* ---- places.c: the parts of an installation, found from where this code itself lies (the program, or libinkstone.so), so
 * that an installation can be moved. NULL: not there. */
const char *place_models(Arena *a); /* the folder of shipped models */
/* libinkrt.a for the target. NULL: d says what is missing. */
const char *place_inkrt(Arena *a, Diags *d, const Target *t);
/* Likewise libinkserve.a, with what an artifact that serves is made of. */
const char *place_inkserve(Arena *a, Diags *d, const Target *t);
#endif
