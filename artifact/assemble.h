/* From a linked program, a checkpoint and a tokenizer to an artifact: what `ink build --for infer` ends with. */
#ifndef ARTIFACT_ASSEMBLE_H
#define ARTIFACT_ASSEMBLE_H
#include "artifact/card.h"

typedef struct AssembleSpec {
  const char *path;          /* of the artifact */
  const char *program;       /* the linked executable */
  const unsigned char *blob; /* the same program's blob */
  const char *weights;       /* safetensors file, Hugging Face folder, checkpoint folder of a run */
  const char *tokenizer;     /* folder or file; NULL: the weights' folder */
  const char *dtype;
  const char *const *flags;
  int nflags, threads;
} AssembleSpec;

/* out: what the weights were. */
bool assemble(const AssembleSpec *s, PackReport *out, Report *err);
#endif
