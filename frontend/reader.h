/* The sections of a spec while they are read: what model.c and sections.c share. */
#ifndef INK_FRONTEND_READER_H
#define INK_FRONTEND_READER_H
#include "frontend/build.h"

typedef struct Reader {
  Arena *arena;
  Diags *diags;
  YNode *root;
  Names names;
  Builder b;
  Code forward;
  Ast *loss;
  int64_t batch, time;
  bool ok;
} Reader;

/* Each reads its part of r->root into r->b; errors are reported, and r->ok turns false. */
void read_dims(Reader *r);
void read_sections(Reader *r); /* all that follows, once the dims have their values */
/* Some input has a time axis, so that T means something. */
bool read_has_time(const Reader *r);
#endif
