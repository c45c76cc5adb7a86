/* Safetensors: 8 bytes of header length, a JSON header, then the tensors' bytes without gaps.
 *
 * The reader takes files from strangers: header of at most 100 MB; every tensor inside the data, of the size its shape and
 * dtype give (products checked); no overlaps, no gaps, nothing left over. The writer gives the bytes that the Python
 * library gives for the same tensors and metadata: widest dtype first, then by name; header padded with spaces to 8. What is
 * to be used where it lies is written in an order and with a padding of its own, safe_header. */
#ifndef RT_SAFETENSORS_H
#define RT_SAFETENSORS_H
#include "runtime/fs.h"
#include <string.h>

enum { SAFE_RANK = 8 };

typedef struct SafeTensor {
  char *name;
  const char *dtype; /* "F32", "BF16", ... a name of the format's table */
  int rank;
  int64_t dim[SAFE_RANK];
  int64_t elements;
  uint64_t begin, end; /* in the data */
} SafeTensor;

/* An entry of __metadata__. */
typedef struct SafePair {
  const char *key, *value;
} SafePair;

typedef struct SafeFile {
  FsMap map;
  bool borrowed; /* the bytes are somebody else's, not mapped here */
  char *path;
  const unsigned char *data;
  SafeTensor *tensor; /* sorted by name */
  int n;
  SafePair *meta;
  int nmeta;
} SafeFile;

SafeFile *safe_open(const char *path, Report *err);
/* The same of bytes in memory, which must outlive it; name: for messages. */
SafeFile *safe_view(const void *bytes, size_t n, const char *name, Report *err);
void safe_close(SafeFile *f);
const char *safe_meta(const SafeFile *f, const char *key); /* NULL: no such entry */
const SafeTensor *safe_find(const SafeFile *f, const char *name);
bool safe_is_float(const SafeTensor *t); /* F32, BF16 or F16: what safe_read understands */
/* n elements from `first` on as f32; within the tensor. */
void safe_read(const SafeFile *f, const SafeTensor *t, int64_t first, int64_t n, float *out);

int safe_dtype_size(const char *dtype); /* bytes; 0: not of the format's table */
uint16_t safe_half(float v);            /* F16, nearest even */
/* F16 as f32: exact. Without branches, so that loops of it become vectors. */
static inline float safe_float(uint16_t h) {
  uint32_t e = h & 0x7c00u, bits = (uint32_t)(h & 0x7fffu) << 13, small;
  float v = (float)(h & 0x3ffu) * 0x1p-24f; /* a subnormal's value */
  memcpy(&small, &v, 4);
  bits = e == 0 ? small : bits + (e == 0x7c00u ? 224u << 23 : 112u << 23);
  bits |= (uint32_t)(h & 0x8000u) << 16;
  memcpy(&v, &bits, 4);
  return v;
}

/* Writing: tensors are announced first, so the header can be written before the data. */
typedef struct SafeItem {
  const char *name;
  int rank;
  const int64_t *dim;
  const char *dtype; /* NULL: F32; else of the format's table */
} SafeItem;
/* Sorts items into file order and writes the header; the caller then adds each item's bytes in that order. key, value: one
 * entry of __metadata__, or NULL. */
bool safe_write_header(FsWriter *w, SafeItem *items, int n, const char *key, const char *value, Report *err);
void safe_sort(SafeItem *items, int n); /* into that order */
/* The header for items as they stand, padded so that the data begins at a multiple of `align`: *text is malloc'ed. */
bool safe_header(const SafeItem *items, int n, const SafePair *meta, int nmeta, size_t align, char **text, size_t *size,
                 Report *err);
int64_t safe_elements(const SafeItem *item);
#endif
