/* An output folder that appears whole or not at all: it is filled beside its final place, synced, then renamed. */
#ifndef DATA_FOLDER_H
#define DATA_FOLDER_H
#include "ink/base.h"

typedef struct Folder {
  char *final; /* where it will stand, links resolved */
  char *aside; /* where it is filled */
  bool replaces;
} Folder;

/* Makes the folder beside `out` (and what is missing above it). Refused when `out` is there and not empty, unless
 * `force` and all it holds are files that an earlier preparation wrote. */
bool folder_begin(Folder *f, const char *out, bool force, Diags *err);
bool folder_write(const Folder *f, const char *name, const void *bytes, size_t n, Diags *err);
bool folder_commit(Folder *f, Diags *err); /* the files in it must be synced */
void folder_abandon(Folder *f);            /* removes what was not committed; frees the names in any case */
#endif
