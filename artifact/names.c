/* Parameters and the checkpoint's tensors behind them, by name. */
#include "artifact/pack.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t pack_pieces(const ProgramParam *q) {
  return q->npieces ? q->npieces : 1;
}

const ProgramPiece *pack_piece(const Program *p, const ProgramParam *q, uint32_t i, ProgramPiece *own) {
  if (q->npieces) return &p->pieces[q->piece + i];
  const ProgramBuffer *b = &p->buffers[q->buffer];
  *own = (ProgramPiece){.hf_rank = b->rank, .dim = {buffer_elements(b)}, .pstride = {1}, .stride = {1}, .rank = 1};
  memcpy(own->hf_dim, b->dim, sizeof(own->hf_dim));
  return own;
}

const char *piece_tensor(const Program *p, const ProgramParam *q, const ProgramPiece *c) {
  return program_string(p, q->npieces ? c->tensor : p->buffers[q->buffer].name);
}

int64_t piece_elements(const ProgramPiece *c) {
  int64_t n = 1;
  for (uint32_t k = 0; k < c->rank; k++) n *= c->dim[k];
  return n;
}

int64_t piece_whole(const ProgramPiece *c) {
  int64_t n = 1;
  for (uint32_t k = 0; k < c->hf_rank; k++) n *= c->hf_dim[k];
  return n;
}

static bool taken(char **names, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (!strcmp(names[i], name)) return true;
  return false;
}

char **pack_names(const Program *p, Report *err) {
  char **names = calloc((size_t)p->nparams + 1, sizeof(char *));
  for (int i = 0; names && i < p->nparams; i++) {
    const ProgramParam *q = &p->params[i];
    const ProgramBuffer *b = &p->buffers[q->buffer];
    ProgramPiece own;
    const ProgramPiece *c = pack_piece(p, q, 0, &own);
    bool alone = pack_pieces(q) == 1 && piece_elements(c) == buffer_elements(b) && piece_elements(c) == piece_whole(c);
    const char *name = alone ? piece_tensor(p, q, c) : program_string(p, b->name);
    if (taken(names, i, name)) name = program_string(p, b->name);
    int size = taken(names, i, name) ? asprintf(&names[i], "%s.%d", name, i) : asprintf(&names[i], "%s", name);
    if (size < 0) {
      names[i] = NULL;
      pack_names_free(p, names);
      names = NULL;
    }
  }
  if (!names) report_add(err, "out of memory");
  return names;
}

void pack_names_free(const Program *p, char **names) {
  for (int i = 0; names && i < p->nparams; i++) free(names[i]);
  free(names);
}
