/* Labelled images from idx files (the MNIST format): big-endian magic 0x00000803 for images (count, rows, columns, then
 * bytes) and 0x00000801 for labels. Pixels become floats in [0, 1]. Files must be unpacked (no .gz). */
#include "runtime/dataset.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct Idx {
  Dataset set;
  FsMap images, labels;
  uint64_t n, pixels;
  char *path; /* of the labels */
  int64_t classes;
} Idx;

static uint32_t big32(const unsigned char *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Checks the header of `rank` dimensions and the size; the sizes go to dim. */
static bool header(const FsMap *m, const char *path, int rank, uint32_t *dim, Report *err) {
  size_t head = 4 + 4 * (size_t)rank;
  if (m->n >= 2 && m->at[0] == 0x1f && m->at[1] == 0x8b)
    return report_add(err, "%s is gzip-packed: unpack it first", path);
  if (m->n < head) return report_add(err, "%s: %zu bytes are no idx file", path, m->n);
  uint32_t want = 0x0800u + (uint32_t)rank;
  if (big32(m->at) != want)
    return report_add(err, "%s: its magic is 0x%08x; an idx file of bytes with %d dimensions has 0x%08x", path,
                      big32(m->at), rank, want);
  uint64_t bytes = head, elements = 1;
  for (int i = 0; i < rank; i++) {
    dim[i] = big32(m->at + 4 + 4 * i);
    if (__builtin_mul_overflow(elements, (uint64_t)dim[i], &elements))
      return report_add(err, "%s: impossible sizes", path);
  }
  if (__builtin_add_overflow(bytes, elements, &bytes) || bytes != m->n)
    return report_add(err, "%s: its header speaks of %" PRIu64 " values; the file has %zu", path, elements,
                      m->n - head);
  return true;
}

static uint64_t begin(Dataset *d, uint64_t seed, int64_t epoch) {
  (void)seed, (void)epoch;
  return ((Idx *)d)->n;
}

static int64_t valid(Dataset *d, uint64_t i) {
  (void)d, (void)i;
  return 1;
}

static int64_t fill(Dataset *d, uint64_t i, const Row *r, Report *err) {
  const Idx *x = (Idx *)d;
  unsigned label = x->labels.at[8 + i];
  if ((int64_t)label >= x->classes) {
    report_add(err, "%s: label %" PRIu64 " is %u; the model knows classes below %" PRId64, x->path, i, label,
               x->classes);
    return -1;
  }
  const unsigned char *pixel = x->images.at + 16 + i * x->pixels;
  if (r->images)
    for (uint64_t k = 0; k < x->pixels; k++) r->images[k] = (float)pixel[k] / 255.0f;
  if (r->labels) *r->labels = (int32_t)label;
  return 1;
}

static void close_idx(Dataset *d) {
  Idx *x = (Idx *)d;
  fs_unmap(&x->images);
  fs_unmap(&x->labels);
  free(x->path);
  free(x);
}

Dataset *idx_open(const char *images, const char *labels, int64_t pixels, int64_t classes, Report *err) {
  Idx *x = calloc(1, sizeof(Idx));
  if (!x) {
    report_add(err, "out of memory");
    return NULL;
  }
  x->set = (Dataset){begin, fill, valid, close_idx, 0, 0, 2};
  x->classes = classes;
  x->path = strdup(labels);
  uint32_t dim[3] = {0}, count[1] = {0};
  bool ok = (x->path || report_add(err, "out of memory")) && fs_map(&x->images, images, err) &&
            fs_map(&x->labels, labels, err) && header(&x->images, images, 3, dim, err) &&
            header(&x->labels, labels, 1, count, err);
  if (ok && dim[0] != count[0])
    ok = report_add(err, "%s has %u images, %s %u labels", images, dim[0], labels, count[0]);
  if (ok && (int64_t)dim[1] * dim[2] != pixels)
    ok = report_add(err, "%s: images of %u x %u pixels; the model takes %" PRId64 " values", images, dim[1], dim[2],
                    pixels);
  if (!ok) {
    close_idx(&x->set);
    return NULL;
  }
  x->n = x->set.items = dim[0];
  x->pixels = (uint64_t)pixels;
  return &x->set;
}
