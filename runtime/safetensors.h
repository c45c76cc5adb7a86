/* Safetensors: 8 bytes of header length, a JSON header, then the tensors' bytes without gaps.
 *
 * The reader takes files from strangers: header of at most 100 MB; every tensor inside the data, of the size its shape and
 * dtype give (products checked); no overlaps, no gaps, nothing left over. The writer gives the bytes that the Python
 * library gives for the same tensors and metadata: widest dtype first, then by name; header padded with spaces to 8. */
#ifndef RT_SAFETENSORS_H
#define RT_SAFETENSORS_H
#include "runtime/fs.h"

enum { SAFE_RANK = 8 };

typedef struct SafeTensor {
  char *name;
  const char *dtype; /* "F32", "BF16", ... a name of the format's table */
  int rank;
  int64_t dim[SAFE_RANK];
  int64_t elements;
  uint64_t begin, end; /* in the data */
} SafeTensor;

typedef struct SafeFile {
  FsMap map;
  char *path;
  const unsigned char *data;
  SafeTensor *tensor; /* sorted by name */
  int n;
} SafeFile;

SafeFile *safe_open(const char *path, Report *err);
void safe_close(SafeFile *f);
const SafeTensor *safe_find(const SafeFile *f, const char *name);
bool safe_is_float(const SafeTensor *t); /* F32, BF16 or F16: what safe_read understands */
/* n elements from `first` on as f32; within the tensor. */
void safe_read(const SafeFile *f, const SafeTensor *t, int64_t first, int64_t n, float *out);

/* Writing: all tensors are of four bytes an element and are announced first, so the header can be written before the data. */
typedef struct SafeItem {
  const char *name;
  int rank;
  const int64_t *dim;
  const char *dtype; /* NULL: F32; or I32 */
} SafeItem;
/* Sorts items into file order and writes the header; the caller then adds each item's bytes in that order. key, value: one
 * entry of __metadata__, or NULL. */
bool safe_write_header(FsWriter *w, SafeItem *items, int n, const char *key, const char *value, Report *err);
int64_t safe_elements(const SafeItem *item);
#endif
