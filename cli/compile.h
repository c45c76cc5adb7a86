/* The pipeline, from a model's YAML to a program: what build, train and dump share. */
#ifndef INK_CLI_COMPILE_H
#define INK_CLI_COMPILE_H
#include "cli/cli.h"
#include "codegen/program.h"
#include "frontend/frontend.h"
#include "passes/passes.h"

/* How far to go. */
typedef enum Stage { STAGE_SOURCE, STAGE_GRAPH, STAGE_FUSED, STAGE_KERNELS, STAGE_PROGRAM, STAGE_OBJECT } Stage;

typedef struct Phase {
  const char *name;
  double seconds;
} Phase;

typedef struct Compile {
  /* asked */
  const char *model_path, *train_path, *target_name;
  const char **sets; /* "dims.layers=2", "lr=1e-3" */
  int nsets, cap_sets;
  int64_t batch, time;    /* 0: as the specs say */
  const char *stop_after; /* a pass: the pipeline ends there */
  const char *dump_after; /* a pass: the module is printed to stdout there */
  /* made */
  Arena *arena;
  Diags *diags;
  Target target;
  TrainSpec train;
  Model *model;
  Module *module; /* after the passes */
  KModule *kernels;
  Text blob, object;
  ProgramReport report;
  Phase phases[32];
  int nphases;
} Compile;

/* The options that every use of the pipeline takes, as rows of an option table. */
#define COMPILE_OPTIONS                                                                                                \
  {"--for", "train", false, "what the program is to do; only train is there yet"},                                     \
      {"--train", "TRAIN.yaml", false,                                                                                 \
       "training specification: optimizer, schedule, batches (default: built-in values)"},                             \
      {"--set", "KEY=VALUE", true, "change the model (dims.layers=2) or a training default (lr=1e-3)"},                \
      {"--target", "TARGET", false, "cpu:native (default), cpu:x86-64-v3 (AVX2), cpu:x86-64-v4 (AVX-512), cpu"},       \
      {"--batch", "N", false, "sequences computed at once (default: micro_batch of the training specification)"}, {    \
    "--seq", "N", false, "sequence length (default: the training specification's, else the model's)"                   \
  }

/* Reads those options. false: an error was printed. */
bool compile_options(Compile *c, const Args *a, const char *model_path);
/* Runs the pipeline as far as the stage. false: diagnostics are in c->diags. */
bool compile_run(Compile *c, Stage until);
/* What was built, for people: kernels, memory, and with `times` how long each phase took. */
/* build.c: the pipeline, then the link; prints the report unless quiet. false: diagnostics are in c->diags. */
bool build_program(Compile *c, const char *path, bool quiet, bool times);
void compile_report(const Compile *c, int64_t threads, bool times, Text *out);
#endif
