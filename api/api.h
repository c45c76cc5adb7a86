/* What the files of the C API share: its three handles, and the rules that every function of it follows.
 *
 * A function that can fail begins with context_begin(), which forgets the diagnostics of the call before; it reports through
 * context_error() or context_report(), and gives back their value. */
#ifndef INK_API_API_H
#define INK_API_API_H
#include "codegen/jit.h"
#include "inkstone.h"
#include "runtime/profile.h"
#include "runtime/train.h"
#include <locale.h>

struct ink_context {
  Arena *arena; /* of this call: what it makes, and its diagnostics */
  Diags *diags;
  Text rendered;
};

struct ink_model {
  ink_context *context;
  Jit *jit;        /* owns blob and kernels */
  Program program; /* borrows them */
  int *buffer;     /* of the program's buffers those with a name for users: data, parameters, states */
  int nbuffers;
};

struct ink_session {
  ink_model *model;
  Engine *engine;
  Trainer trainer;     /* settings and lists; it has no loader */
  int64_t micro_batch; /* gradients since the last update */
  Profile *profile;    /* NULL: never on */
};

void context_begin(ink_context *c);
/* Add a diagnostic without a place; return the status that they are given. */
ink_status context_error(ink_context *c, ink_status status, const char *hint, const char *fmt, ...) PRINTF(4, 5);
/* One diagnostic for each line of the report, which is freed. Ok when there are none. */
ink_status context_report(ink_context *c, ink_status status, Report *r);

/* Structs that begin with their size. `from` is the caller's: a shorter one is from an older header, and what it lacks becomes
 * 0; a longer one is from a newer header, and what this library does not know must be 0. `to` has n bytes. */
bool struct_take(ink_context *c, const char *what, void *to, size_t n, const void *from);
/* The other way: as much as the caller has room for; what is beyond this library's n bytes becomes 0. */
ink_status struct_give(void *to, const void *from, size_t n);

/* Numbers are read and written as in the C locale between the two, whatever this thread or process has set. */
locale_t locale_enter(void);
void locale_leave(locale_t before);
#endif
