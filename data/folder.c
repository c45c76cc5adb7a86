/* The output folder's life: checked, filled aside, swapped in.
 *
 * Must hold: under the final name stands the old folder or the complete new one; nothing is removed but files with the
 * names that a preparation gives (so a mistaken --force on a home folder removes nothing). */
#include "data/folder.h"
#include "text/memory.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(Diags *err, const char *path, const char *what) {
  return diag_error(err, (Span){0}, "%s: %s: %s", path, what, strerror(errno));
}

static bool is_file(const char *s, const char *stem) {
  size_t n = strlen(stem);
  if (strncmp(s, stem, n)) return false;
  s += n;
  if (*s == '_') {
    for (s++, n = 0; isdigit((unsigned char)*s); s++) n++;
    if (n < 6) return false;
  }
  return !strcmp(s, ".bin") || !strcmp(s, ".bin.docs");
}

static bool written_by_us(const char *name) {
  static const char *const names[] = {"meta.json",       "tokenizer.json", "tokenizer_config.json",
                                      "tokenizer.model", "encoder.json",   "vocab.bpe",
                                      "vocab.json",      "merges.txt",     "chat_template.jinja"};
  size_t n = strlen(name);
  for (int i = 0; i < LEN(names); i++)
    if (!strcmp(name, names[i])) return true;
  return (n > 9 && !strcmp(name + n - 9, ".tiktoken")) || is_file(name, "train") || is_file(name, "val");
}

/* Looks at all names of a folder. stranger: one that is not ours, malloc'ed, or NULL. */
static bool look(const char *path, int *count, char **stranger, Diags *err) {
  DIR *d = opendir(path);
  *count = 0;
  *stranger = NULL;
  if (!d) return fail(err, path, "cannot list");
  for (const struct dirent *e; (e = readdir(d));) {
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    ++*count;
    if (!*stranger && !written_by_us(e->d_name) && !(*stranger = strdup(e->d_name))) abort();
  }
  closedir(d);
  return true;
}

/* Removes our files in the folder, then the folder; what is not ours stays, and the folder with it. */
static bool remove_ours(const char *path) {
  DIR *d = opendir(path);
  if (!d) return false;
  for (const struct dirent *e; (e = readdir(d));)
    if (written_by_us(e->d_name)) unlinkat(dirfd(d), e->d_name, 0);
  closedir(d);
  return rmdir(path) == 0;
}

static bool sync_path(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  bool ok = fsync(fd) == 0 || errno == EINVAL; /* some file systems have no sync for folders */
  close(fd);
  return ok;
}

static bool make_parents(char *path, Diags *err) {
  for (char *p = path + 1; (p = strchr(p, '/')); p++) {
    *p = 0;
    bool ok = mkdir(path, 0777) == 0 || errno == EEXIST;
    if (!ok) fail(err, path, "cannot create the folder");
    *p = '/';
    if (!ok) return false;
  }
  return true;
}

static char *final_name(const char *out, bool there, Diags *err) {
  if (there) {
    char *real = realpath(out, NULL);
    if (!real) fail(err, out, "cannot resolve");
    return real;
  }
  char *path = strdup(out);
  if (!path) abort();
  for (size_t n = strlen(path); n > 1 && path[n - 1] == '/';) path[--n] = 0;
  return path;
}

static bool check_existing(const char *out, const struct stat *st, bool force, bool *replaces, Diags *err) {
  int count;
  char *stranger;
  if (!S_ISDIR(st->st_mode)) return diag_error(err, (Span){0}, "%s: is there and no folder", out);
  if (!look(out, &count, &stranger, err)) return false;
  bool ok = true;
  if (count && !force)
    ok = diag_hint(err, (Span){0}, "--force replaces what an earlier preparation wrote", "%s: the folder is not empty",
                   out);
  else if (stranger)
    ok =
        diag_error(err, (Span){0}, "%s: holds '%s', which no preparation wrote; --force does not replace such a folder",
                   out, stranger);
  free(stranger);
  *replaces = count > 0;
  return ok;
}

bool folder_begin(Folder *f, const char *out, bool force, Diags *err) {
  struct stat st;
  *f = (Folder){0};
  if (!*out) return diag_error(err, (Span){0}, "the output folder has an empty name");
  bool there = stat(out, &st) == 0;
  if (!there && errno != ENOENT) return fail(err, out, "cannot look at it");
  if (!there && lstat(out, &st) == 0) return diag_error(err, (Span){0}, "%s: a link to nothing", out);
  if (there && !check_existing(out, &st, force, &f->replaces, err)) return false;
  f->final = final_name(out, there, err);
  if (!f->final || (!there && !make_parents(f->final, err))) return false;
  size_t room = strlen(f->final) + 48;
  char *aside = memory_resize(NULL, room, 1);
  int made = -1;
  for (int i = 0; i < 100 && made; i++) {
    snprintf(aside, room, "%s.tmp-%ld-%d", f->final, (long)getpid(), i);
    made = mkdir(aside, 0777);
    if (made && errno != EEXIST) break;
  }
  if (!made)
    f->aside = aside;
  else
    fail(err, aside, "cannot create the folder"), free(aside);
  return !made;
}

bool folder_write(const Folder *f, const char *name, const void *bytes, size_t n, Diags *err) {
  size_t room = strlen(f->aside) + strlen(name) + 2;
  char *path = memory_resize(NULL, room, 1);
  snprintf(path, room, "%s/%s", f->aside, name);
  bool ok = file_write_atomic(path, bytes, n) || fail(err, path, "cannot write");
  free(path);
  return ok;
}

/* The new folder in the old one's place in one step, where the file system can; else two renames. */
static bool swap(const Folder *f) {
  if (renameat2(AT_FDCWD, f->aside, AT_FDCWD, f->final, RENAME_EXCHANGE) == 0) return true;
  if (errno != EINVAL && errno != ENOSYS) return false;
  size_t room = strlen(f->aside) + 8;
  char *old = memory_resize(NULL, room, 1);
  snprintf(old, room, "%s.old", f->aside);
  bool ok = rename(f->final, old) == 0;
  if (ok && rename(f->aside, f->final)) {
    int e = errno;
    rename(old, f->final); /* put it back; the first error is the one to tell */
    errno = e;
    ok = false;
  }
  if (ok) ok = rename(old, f->aside) == 0;
  free(old);
  return ok;
}

static bool sync_parent(const Folder *f) {
  char *parent = strdup(f->final);
  if (!parent) abort();
  char *slash = strrchr(parent, '/');
  if (slash) slash[slash == parent] = 0;
  bool ok = sync_path(slash ? parent : ".");
  free(parent);
  return ok;
}

bool folder_commit(Folder *f, Diags *err) {
  if (!sync_path(f->aside)) return fail(err, f->aside, "cannot write");
  if (!(f->replaces ? swap(f) : rename(f->aside, f->final) == 0)) {
    const char *hint = errno == EBUSY ? "give a folder below the mount point" : NULL;
    return diag_hint(err, (Span){0}, hint, "%s: cannot put the finished folder there: %s", f->final, strerror(errno));
  }
  if (f->replaces && !remove_ours(f->aside))
    return diag_error(err, (Span){0}, "%s: done, but the old files are still in %s", f->final, f->aside);
  free(f->aside);
  f->aside = NULL;
  return sync_parent(f) || fail(err, f->final, "cannot write the folder above");
}

void folder_abandon(Folder *f) {
  if (f->aside) remove_ours(f->aside);
  free(f->aside);
  free(f->final);
  *f = (Folder){0};
}
