/* Files: mapping, listing, and writing so that what was written survives (fsync) and can be checked (XXH3). */
#ifndef RT_FS_H
#define RT_FS_H
#include "runtime/report.h"
#include <stdint.h>

enum { FS_PATH = 4096 };

/* out = dir/name; false (with a message) when that is too long. */
bool fs_join(char out[FS_PATH], const char *dir, const char *name, Report *err);
/* Folder and name of a path: the folder is written over `dir`, the name is the path's own end. NULL: it is too long. */
const char *fs_split(const char *path, char dir[FS_PATH], Report *err);
bool fs_exists(const char *path);
bool fs_is_dir(const char *path);
/* Like mkdir -p; the names of the folders made are synced, for a folder whose name is lost takes all in it along. */
bool fs_mkdirs(const char *path, Report *err);
bool fs_sync_dir(const char *path, Report *err);
/* Renames within a folder and syncs it: after a crash there is the one name or the other, later the new one for sure. */
bool fs_rename(const char *dir, const char *from, const char *to, Report *err);
/* DIR/NAME with these bytes: written aside as .tmp-NAME, synced, renamed. A crash leaves the old file or the new one. */
bool fs_replace(const char *dir, const char *name, const void *bytes, size_t n, Report *err);
/* "cannot WHAT PATH: ...", and what to do about it. False. */
bool fs_failed(Report *err, const char *what, const char *path, int error);
/* Removes a folder of plain files; refuses to descend, and of a link removes the link. True when it is gone. */
bool fs_remove_flat(const char *dir, Report *err);

/* Whole file, NUL-terminated, malloc'ed; refuses more than `limit` bytes. */
char *fs_read(const char *path, size_t limit, size_t *n, Report *err);

/* Read-only mapping of a whole file; an empty file maps to at == NULL, n == 0. One thread maps and unmaps. */
typedef struct FsMap {
  const unsigned char *at;
  size_t n;
} FsMap;
bool fs_map(FsMap *m, const char *path, Report *err);
void fs_unmap(FsMap *m);
/* The path of the file mapped there, or NULL; fit for a signal handler. */
const char *fs_mapped(const void *at);

/* Sorted, malloc'ed names. */
typedef struct FsList {
  char **name;
  int n, cap;
} FsList;
bool fs_list_add(FsList *l, const char *name);
bool fs_list_dir(FsList *l, const char *dir, Report *err);      /* names without "." and ".." */
bool fs_list_glob(FsList *l, const char *pattern, Report *err); /* paths; none is no error */
void fs_list_sort(FsList *l);
void fs_list_free(FsList *l);

/* A new file, never through a link, that is hashed while it is written and synced when it is closed. After an error the
 * writer stays failed; fs_writer_close reports it. */
typedef struct FsWriter FsWriter;
FsWriter *fs_writer_open(const char *dir, const char *name, Report *err);
FsWriter *fs_writer_replace(const char *dir, const char *name, Report *err); /* the same over a file that may exist */
void fs_writer_add(FsWriter *w, const void *bytes, size_t n);
bool fs_writer_close(FsWriter *w, uint64_t *hash, Report *err); /* frees the writer; hash may be NULL */

uint64_t fs_hash(const void *bytes, size_t n);
#endif
