/* Programs of parameters alone, for tests of artifact/: made field by field, without a blob's tables. */
#ifndef ARTIFACT_PROGRAM_H
#define ARTIFACT_PROGRAM_H
#include "artifact/pack.h"
#include <stdlib.h>
#include <string.h>

enum { MADE = 16 };

typedef struct Made {
  Program p;
  ProgramHeader h;
  ProgramBuffer buffer[MADE];
  ProgramParam param[MADE];
  ProgramPiece piece[4 * MADE];
  char text[4096];
  uint32_t used;
} Made;

static uint32_t made_text(Made *m, const char *s) {
  uint32_t at = m->used;
  strcpy(m->text + at, s);
  m->used += (uint32_t)strlen(s) + 1;
  return at;
}

__attribute__((unused)) static Made *made_new(void) {
  Made *m = calloc(1, sizeof(Made));
  m->used = 1;
  m->p = (Program){
      .blob = (const unsigned char *)m->text, .h = &m->h, .buffers = m->buffer, .params = m->param, .pieces = m->piece};
  return m;
}

/* A parameter without pieces yet. */
__attribute__((unused)) static ProgramBuffer *made_param(Made *m, const char *name, int dtype, int rank,
                                                         const int64_t *dim, int panel, int split) {
  ProgramBuffer *b = &m->buffer[m->p.nbuffers];
  *b = (ProgramBuffer){.name = made_text(m, name), .dtype = (uint8_t)dtype, .kind = BUF_PARAM, .rank = (uint8_t)rank};
  int64_t n = 1, k = 1, size = dtype == DTYPE_F32 ? 4 : 2;
  for (int i = 0; i < rank; i++) {
    b->dim[i] = dim[i];
    *(i < split ? &n : &k) *= dim[i];
  }
  b->panel = (uint32_t)panel;
  b->split = (uint32_t)split;
  b->bytes = (uint64_t)(n * k * size);
  if (panel) b->bytes = (uint64_t)((n + panel - 1) / panel * panel * (dtype == DTYPE_F32 ? k * 4 : (k + 1) / 2 * 4));
  m->param[m->p.nparams++] = (ProgramParam){.buffer = (uint32_t)m->p.nbuffers++, .piece = (uint32_t)m->p.npieces};
  return b;
}

/* A piece of the last parameter; the tensor's shape is `hf`. */
__attribute__((unused)) static ProgramPiece *made_piece(Made *m, const char *tensor, int hf_rank, const int64_t *hf,
                                                        int rank, const int64_t *dim, const int64_t *pstride,
                                                        const int64_t *stride, int64_t start, int64_t base) {
  ProgramPiece *c = &m->piece[m->p.npieces++];
  *c = (ProgramPiece){.hf_rank = (uint32_t)hf_rank, .start = start, .base = base, .rank = (uint32_t)rank};
  for (int i = 0; i < m->p.npieces - 1 && !c->tensor; i++)
    if (!strcmp(m->text + m->piece[i].tensor, tensor)) c->tensor = m->piece[i].tensor;
  if (!c->tensor) c->tensor = made_text(m, tensor);
  memcpy(c->hf_dim, hf, (size_t)hf_rank * sizeof(int64_t));
  memcpy(c->dim, dim, (size_t)rank * sizeof(int64_t));
  memcpy(c->pstride, pstride, (size_t)rank * sizeof(int64_t));
  memcpy(c->stride, stride, (size_t)rank * sizeof(int64_t));
  m->param[m->p.nparams - 1].npieces++;
  return c;
}
#define I64(...) ((const int64_t[]){__VA_ARGS__})

/* A safetensors file of n tensors; bytes[i] their data, in this order (by dtype and name). */
__attribute__((unused)) static bool made_file(const char *dir, const char *name, SafeItem *item, void *const *bytes,
                                              int n, Report *err) {
  FsWriter *w = fs_writer_open(dir, name, err);
  if (!w || !safe_write_header(w, item, n, "format", "pt", err)) return false;
  for (int i = 0; i < n; i++)
    fs_writer_add(w, bytes[i],
                  (size_t)safe_elements(&item[i]) * (size_t)safe_dtype_size(item[i].dtype ? item[i].dtype : "F32"));
  return fs_writer_close(w, NULL, err);
}
#endif
