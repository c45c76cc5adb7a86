/* Parameters and checkpoint tensors: the views of ProgramPiece, in both directions. */
#ifndef RT_WEIGHTS_H
#define RT_WEIGHTS_H
#include "runtime/inkrt.h"
#include "runtime/safetensors.h"

/* The distinct checkpoint tensors of a program, in the order in which its parameters first name them. A parameter
 * without pieces stands under its own name, whole. */
typedef struct WeightTensor {
  const char *name;
  int rank;
  int64_t dim[SAFE_RANK];
  int param; /* the parameter that is this tensor element for element, or -1 */
} WeightTensor;
typedef struct WeightMap {
  WeightTensor *tensor;
  int n;
  const char *skip; /* patterns (fnmatch), a line each: what files may hold beside the tensors; "" or NULL: nothing */
} WeightMap;
bool weights_map(const Program *p, WeightMap *m, Report *err);
void weights_free(WeightMap *m);

/* A checkpoint's files: a safetensors file, a folder with an index, or a Hugging Face folder. A zeroed one is ready. */
typedef struct WeightSource {
  SafeFile **file;
  int n;
} WeightSource;
bool source_open(WeightSource *s, const char *path, Report *err); /* close it after errors, too */
void source_close(WeightSource *s);
/* The tensor and its file; NULL: none of that name. */
const SafeTensor *source_find(const WeightSource *s, const char *name, const SafeFile **file);
/* All missing, extra and misshapen tensors are named. path: for messages. */
bool source_check(const WeightSource *s, const WeightMap *m, const char *path, Report *err);

/* Loads a safetensors file, a folder with an index, or a Hugging Face folder. All missing, extra and misshapen tensors are
 * named, and then nothing is loaded. */
bool weights_load(Engine *e, const char *path, Report *err);

/* Only the check that comes before loading: every tensor of the map is there with its shape, and no other but skipped ones. */
bool weights_check(const WeightMap *m, const char *path, Report *err);

/* Writes model.safetensors, or shards and an index when the tensors take more than `shard_bytes` (0: 5 GB), into dir. Each
 * file written is named, with its hash, through `done`. */
typedef bool (*WeightsDone)(void *ctx, const char *file, uint64_t hash);
bool weights_save(Engine *e, const char *dir, uint64_t shard_bytes, WeightsDone done, void *ctx, Report *err);

/* The gradients through the same views: one file dir/name, the loss in its metadata. */
bool weights_save_gradients(Engine *e, const char *dir, const char *name, double loss, Report *err);
#endif
