/* The frontend: model YAML and TRAIN.yaml to a module with one graph and the facts that no graph holds. */
#ifndef INK_FRONTEND_H
#define INK_FRONTEND_H
#include "ink/program.h"
#include "ir/graph.h"

typedef struct ModelOptions {
  const char *const *sets; /* "dims.layers=2" */
  int nsets;
  int64_t batch, time; /* 0: from the training spec or the model */
  bool serving;        /* for pass serve: B is 1, T a run-time extent of at most `time`, which may be more than ctx */
  bool symbolic;       /* B and T are extents of run time with batch and time as bounds; else constants named B and T */
  const char *models;  /* folder searched for `base:` and bare names after the file's own; may be NULL */
  /* The model itself in memory, and the path only its name in diagnostics; NULL: in the file. `base:` then means a shipped
   * model, or a file of `folder` where that is not NULL; a variant is chosen by the set variant=NAME. */
  const char *text, *folder;
} ModelOptions;

/* One part of a parameter in a checkpoint: an affine view of a tensor. Meaning of the fields: ProgramPiece. */
typedef struct Piece {
  const char *tensor;
  int hf_rank;
  int64_t hf_dim[MAX_RANK];
  int64_t start, base;
  int rank;
  int64_t dim[MAX_RANK], pstride[MAX_RANK], stride[MAX_RANK];
} Piece;

typedef struct ModelParam {
  const char *name; /* name of the graph input: "layer.0.wq" */
  InitKind init;
  double init_a, init_b;
  bool decay;
  Piece *pieces;
  int npieces;
  Span span;
} ModelParam;

typedef struct ModelInput {  /* a data input and what feeds it */
  const char *name, *source; /* "tokens", "targets", "images", "labels", "positions" */
} ModelInput;

typedef struct Model {
  const char *name;
  Module *
      mod; /* graph "forward": data and params in; outputs "loss" (a row loss f32[B, T] or [B]) and "logits" if the model names it */
  ModelParam *params; /* in the order of the graph's param inputs */
  int nparams;
  ModelInput *inputs;
  int ninputs;
  int64_t batch, time;                              /* of a micro-batch; time 0 without tokens */
  int64_t ctx;                                      /* positions there are, dims.ctx; 0: the model has no such dim */
  const char *config_json, *generation_config_json; /* NULL when the model has no hf mapping */
  const char
      *weights; /* a checkpoint's folder or file, as the model's own file names it; NULL: none. Not in `effective` */
  const char *
      skip; /* patterns of names, a line each: tensors that checkpoints may hold and that the model does not read; "": none */
  const char
      *effective; /* the spec after base, variants and overrides, as YAML text: --stage source, the card, the hash */
} Model;

/* NULL after errors, all of which are in d. */
Model *model_load(Arena *a, Diags *d, const char *path, const ModelOptions *opt);

typedef struct TrainSpec {
  const char *value[32]; /* by the order of include/ink/train.def, defaults filled in */
  int64_t micro_batch, seq;
  const char *effective;
} TrainSpec;
/* path NULL: the defaults. Unknown keys, wrong types and values out of range are errors with a suggestion. */
TrainSpec *train_load(Arena *a, Diags *d, const char *path);
TrainSpec *train_text(Arena *a, Diags *d, const char *name, const char *text); /* of text in memory */
/* Applies one "key=value" of the command line to a loaded spec and brings its other fields up to date. */
bool train_set(Arena *a, Diags *d, TrainSpec *s, const char *set);
int train_key(const char *key); /* index in train.def or -1 */
/* An amount of memory as the key `memory` takes it; none: 0. false: it is no such text. */
bool train_bytes(const char *text, int64_t *bytes);
/* The key or section that was probably meant by a word that is none, or NULL. */
const char *train_nearest(const char *word);
/* Checks one "key=value" as --set gives it; used for TRAIN.yaml too. Returns NULL or what is wrong (with a suggestion). */
const char *train_check(Arena *a, const char *key, const char *value, bool at_run);
#endif
