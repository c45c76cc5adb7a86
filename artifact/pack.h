/* Weights of a checkpoint into an artifact, and out of it again.
 *
 * The section weights.safetensors holds one tensor for each parameter of the program, in the memory that its kernels read (see
 * layout.h), so that it is used where it lies in the file. A tensor has the name of the checkpoint's tensor where the
 * parameter is that tensor and nothing else, else the parameter's own; __metadata__ has, under the tensor's name, a JSON object:
 * shape of the parameter, dtype, panel, split, and `from`, the checkpoint's tensors. U8 tensors "pad.N" keep what follows at
 * a multiple of 64 bytes.
 *
 * The section checkpoint.json says what the checkpoint was: for each tensor its dtype, its file, how many of its elements were
 * rounded, how many were dropped because the model has no use for them; each file's metadata; and tensors that were skipped. */
#ifndef ARTIFACT_PACK_H
#define ARTIFACT_PACK_H
#include "artifact/container.h"
#include "runtime/program.h"
#include "runtime/safetensors.h"

#define WEIGHTS_SECTION "weights.safetensors"
#define CHECKPOINT_SECTION "checkpoint.json"

typedef struct PackReport {
  uint64_t bytes_read, bytes_written;
  int64_t rounded, dropped; /* elements, over all tensors */
  char dtype[16];           /* of the checkpoint: "F32", "BF16", "F16", or "mixed" */
  double seconds;
} PackReport;

/* Reads a checkpoint (a safetensors file, a Hugging Face folder, a checkpoint folder of a run), writes both sections. Memory: the
 * largest parameter. All missing, extra and misshapen tensors are named. false: the writer is still to be abandoned. */
bool pack_weights(const Program *p, const char *checkpoint, ArtifactWriter *w, int threads, PackReport *out,
                  Report *err);

/* The weights of an open artifact. param[i]: where buffer i lies, NULL for those that are no parameters; [nbuffers]. */
SafeFile *pack_open(const Artifact *a, Report *err);
bool pack_find(const Program *p, const SafeFile *weights, void **param, Report *err);

/* Writes the checkpoint's files into a folder, which is made; files that are there are an error. notes: what is not as it was. */
bool pack_restore(const Program *p, const Artifact *a, const char *dir, Report *notes, Report *err);

/* ---- names.c: names of the tensors, by parameter; pack_names_free frees them. */
char **pack_names(const Program *p, Report *err);
void pack_names_free(const Program *p, char **names);
/* A parameter's piece; a parameter that has none is a tensor of its own name, element for element: *own is filled for it. */
const ProgramPiece *pack_piece(const Program *p, const ProgramParam *q, uint32_t i, ProgramPiece *own);
uint32_t pack_pieces(const ProgramParam *q);
int64_t piece_elements(const ProgramPiece *c);
int64_t piece_whole(const ProgramPiece *c); /* elements of its checkpoint tensor */
const char *piece_tensor(const Program *p, const ProgramParam *q, const ProgramPiece *c);
#endif
