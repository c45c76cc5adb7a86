/* A compiled program (list `serve`, passes/serve.c) as a ServeModel, and the memory of its cache. */
#ifndef SERVE_PROGRAM_MODEL_H
#define SERVE_PROGRAM_MODEL_H
#include "runtime/inkrt.h"
#include "serve/model.h"

typedef struct ProgramModelOptions {
  int threads;          /* 0: as many as cores */
  uint64_t cache_bytes; /* of keys and values at most; 0: what all sequences can fill, or half of the free memory */
} ProgramModelOptions;

/* Is this a program that serves? */
bool program_model_possible(const Program *p);
/* params[buffer]: where each PARAM buffer lies, as the program has it packed; the memory must outlive the model. The cache is
 * taken from the system page by page, when it is first used. */
ServeModel *program_model_new(const Program *p, void *const *params, const ProgramModelOptions *o, Report *err);
Engine *program_model_engine(ServeModel *m);            /* for profiles and the machine's limits */
uint64_t program_model_page_bytes(const ServeModel *m); /* of a page of all layers */
#endif
