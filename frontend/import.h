/* A Hugging Face config.json to a model file of ours: the shipped model of its architecture, and the values that it gives. */
#ifndef INK_FRONTEND_IMPORT_H
#define INK_FRONTEND_IMPORT_H
#include "ink/base.h"

typedef struct ImportSource {
  const char *models; /* the folder of shipped models */
  uint32_t config,
      generation;      /* config.json and generation_config.json, sources of the Diags; generation 0: there is none */
  const char *name;    /* for the model; what a name may not hold becomes '-' */
  const char *weights; /* the path that is recorded */
  bool bare;           /* the tensors' names lack the model's prefix */
} ImportSource;

typedef struct Import {
  const char *architecture, *base; /* "llama.yaml" */
  bool prefixed;                   /* the model's tensors have a prefix that a checkpoint may lack */
  const char *text;                /* of the model file */
  const char **unmapped;           /* "key: value", printable: keys that are neither mapped nor known to be harmless */
  int nunmapped;
} Import;

/* Finds the model whose `hf.architectures` names the architecture of config.json and reads the file by its `hf:` section.
 * False: d says what is wrong or not supported. */
bool import_config(Arena *a, Diags *d, const ImportSource *src, Import *out);
#endif
