/* Files. Nothing here follows a path that came out of a file: callers join names they chose or checked themselves. */
#include "runtime/fs.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

bool fs_join(char out[FS_PATH], const char *dir, const char *name, Report *err) {
  int n = snprintf(out, FS_PATH, "%s/%s", dir, name);
  if (n < 0 || n >= FS_PATH) return report_add(err, "the path %s/%s is too long", dir, name);
  return true;
}

const char *fs_split(const char *path, char dir[FS_PATH], Report *err) {
  const char *slash = strrchr(path, '/');
  size_t n = slash ? (size_t)(slash - path) : 0;
  if (n >= FS_PATH) {
    report_add(err, "the path %s is too long", path);
    return NULL;
  }
  memcpy(dir, path, n);
  dir[n] = 0;
  if (!n) strcpy(dir, slash ? "/" : ".");
  return slash ? slash + 1 : path;
}

bool fs_exists(const char *path) {
  struct stat st;
  return !lstat(path, &st);
}

bool fs_is_dir(const char *path) {
  struct stat st;
  return !stat(path, &st) && S_ISDIR(st.st_mode);
}

bool fs_failed(Report *err, const char *what, const char *path, int error) {
  const char *help = "";
  if (error == ENOSPC || error == EDQUOT) help = "; make room there";
  if (error == EROFS || error == EACCES || error == EPERM) help = "; it must be writable for this user";
  if (error == EIO) help = "; the disk fails, look at the system's log";
  return report_add(err, "cannot %s %s: %s%s", what, path, strerror(error), help);
}

/* The folder that holds `path`. */
static bool sync_parent(const char *path, Report *err) {
  char parent[FS_PATH];
  const char *slash = strrchr(path, '/');
  snprintf(parent, sizeof(parent), "%.*s", (int)(slash ? slash - path : 0), path);
  return fs_sync_dir(!slash ? "." : slash == path ? "/" : parent, err);
}

bool fs_mkdirs(const char *path, Report *err) {
  char part[FS_PATH];
  size_t n = strlen(path);
  if (!n || n >= sizeof(part)) return report_add(err, "cannot make the folder '%s': bad path", path);
  memcpy(part, path, n + 1);
  for (size_t i = 1; i <= n; i++) {
    if (part[i] != '/' && part[i]) continue;
    char c = part[i];
    part[i] = 0;
    bool made = !mkdir(part, 0777);
    if (!made && errno != EEXIST) return fs_failed(err, "make the folder", part, errno);
    /* The last one's name even when it is there: who made it may have been killed before this. */
    if ((made || !c) && !sync_parent(part, err)) return false;
    part[i] = c;
  }
  return fs_is_dir(path) || report_add(err, "%s is not a folder", path);
}

bool fs_sync_dir(const char *path, Report *err) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == EACCES) return true; /* a folder that one may not read cannot be synced by any means */
  if (fd < 0) return report_add(err, "cannot open %s: %s", path, strerror(errno));
  bool ok = !fsync(fd) || errno == EINVAL; /* some file systems cannot sync a folder */
  if (!ok) fs_failed(err, "sync", path, errno);
  close(fd);
  return ok;
}

bool fs_remove_flat(const char *dir, Report *err) {
  FsList l = {0};
  struct stat st;
  if (!lstat(dir, &st) && S_ISLNK(st.st_mode)) /* what it leads to is not ours */
    return !unlink(dir) || report_add(err, "cannot remove %s: %s", dir, strerror(errno));
  if (!fs_list_dir(&l, dir, err)) return false;
  bool ok = true;
  for (int i = 0; ok && i < l.n; i++) {
    char path[FS_PATH];
    ok = fs_join(path, dir, l.name[i], err);
    if (ok && unlink(path)) ok = fs_failed(err, "remove", path, errno);
  }
  fs_list_free(&l);
  if (ok && rmdir(dir)) ok = fs_failed(err, "remove", dir, errno);
  return ok;
}

bool fs_rename(const char *dir, const char *from, const char *to, Report *err) {
  char a[FS_PATH], b[FS_PATH];
  if (!fs_join(a, dir, from, err) || !fs_join(b, dir, to, err)) return false;
  return (!rename(a, b) || fs_failed(err, "write", b, errno)) && fs_sync_dir(dir, err);
}

bool fs_replace(const char *dir, const char *name, const void *bytes, size_t n, Report *err) {
  char aside[256], path[FS_PATH];
  snprintf(aside, sizeof(aside), ".tmp-%s", name);
  FsWriter *w = fs_join(path, dir, aside, err) ? fs_writer_replace(dir, aside, err) : NULL;
  if (!w) return false;
  fs_writer_add(w, bytes, n);
  bool ok = fs_writer_close(w, NULL, err) && fs_rename(dir, aside, name, err);
  if (!ok) unlink(path); /* a full disk should not stay full */
  return ok;
}

char *fs_read(const char *path, size_t limit, size_t *n, Report *err) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO is refused, not waited for */
  struct stat st;
  if (fd < 0 || fstat(fd, &st)) {
    report_add(err, "cannot read %s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return NULL;
  }
  char *text = NULL;
  if (!S_ISREG(st.st_mode))
    report_add(err, "%s is not a plain file", path);
  else if ((uint64_t)st.st_size > limit)
    report_add(err, "%s has %lld bytes; at most %zu are read", path, (long long)st.st_size, limit);
  else if (!(text = malloc((size_t)st.st_size + 1)))
    report_add(err, "out of memory");
  size_t got = 0;
  while (text && got < (size_t)st.st_size) {
    ssize_t r = read(fd, text + got, (size_t)st.st_size - got);
    if (r < 0 && errno == EINTR) continue;
    if (r < 0) {
      report_add(err, "cannot read %s: %s", path, strerror(errno));
      free(text);
      text = NULL;
    }
    if (r <= 0) break;
    got += (size_t)r;
  }
  close(fd);
  if (!text) return NULL;
  text[got] = 0;
  if (n) *n = got;
  return text;
}

/* All mappings, so that a fault in one of them can be named. */
typedef struct Mapping {
  struct Mapping *next;
  const unsigned char *at;
  size_t n;
  char path[];
} Mapping;
static Mapping *mappings;

static bool mapping_add(const FsMap *m, const char *path) {
  size_t n = strlen(path) + 1;
  Mapping *a = malloc(sizeof(Mapping) + n);
  if (!a) return false;
  *a = (Mapping){mappings, m->at, m->n};
  memcpy(a->path, path, n);
  mappings = a;
  return true;
}

const char *fs_mapped(const void *at) {
  for (const Mapping *a = mappings; a; a = a->next)
    if ((const unsigned char *)at >= a->at && (const unsigned char *)at < a->at + a->n) return a->path;
  return NULL;
}

bool fs_map(FsMap *m, const char *path, Report *err) {
  *m = (FsMap){0};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat st;
  if (fd < 0) return report_add(err, "cannot open %s: %s", path, strerror(errno));
  if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
    close(fd);
    return report_add(err, "%s is not a plain file", path);
  }
  if (st.st_size) {
    void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) {
      int e = errno;
      close(fd);
      return report_add(err, "cannot map %s: %s", path, strerror(e));
    }
    *m = (FsMap){at, (size_t)st.st_size};
  }
  close(fd);
  if (!m->at || mapping_add(m, path)) return true;
  munmap((void *)m->at, m->n);
  *m = (FsMap){0};
  return report_add(err, "out of memory");
}

void fs_unmap(FsMap *m) {
  for (Mapping **a = &mappings; *a; a = &(*a)->next)
    if ((*a)->at == m->at) {
      Mapping *gone = *a;
      *a = gone->next;
      free(gone);
      break;
    }
  if (m->at) munmap((void *)m->at, m->n);
  *m = (FsMap){0};
}

bool fs_list_add(FsList *l, const char *name) {
  if (l->n == l->cap) {
    int cap = l->cap ? 2 * l->cap : 16;
    char **grown = realloc(l->name, (size_t)cap * sizeof(char *));
    if (!grown) return false;
    l->name = grown;
    l->cap = cap;
  }
  char *copy = strdup(name);
  if (copy) l->name[l->n++] = copy;
  return copy != NULL;
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

void fs_list_sort(FsList *l) {
  if (l->n) qsort(l->name, (size_t)l->n, sizeof(char *), by_name);
}

bool fs_list_dir(FsList *l, const char *dir, Report *err) {
  DIR *d = opendir(dir);
  if (!d) return report_add(err, "cannot list %s: %s", dir, strerror(errno));
  bool ok = true;
  for (struct dirent *e; ok && (e = readdir(d));)
    if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
      ok = fs_list_add(l, e->d_name) || report_add(err, "out of memory");
  closedir(d);
  fs_list_sort(l);
  return ok;
}

bool fs_list_glob(FsList *l, const char *pattern, Report *err) {
  glob_t g;
  int rc = glob(pattern, 0, NULL, &g);
  if (rc == GLOB_NOMATCH) return true;
  if (rc) return report_add(err, "cannot expand '%s'", pattern);
  bool ok = true;
  for (size_t i = 0; ok && i < g.gl_pathc; i++) ok = fs_list_add(l, g.gl_pathv[i]) || report_add(err, "out of memory");
  globfree(&g);
  fs_list_sort(l);
  return ok;
}

void fs_list_free(FsList *l) {
  for (int i = 0; i < l->n; i++) free(l->name[i]);
  free(l->name);
  *l = (FsList){0};
}

struct FsWriter {
  int fd, error;
  size_t used;
  XXH3_state_t *hash;
  char path[FS_PATH];
  unsigned char buffer[1 << 16];
};

static FsWriter *writer_open(const char *dir, const char *name, int how, Report *err) {
  FsWriter *w = calloc(1, sizeof(FsWriter));
  if (!w || !(w->hash = XXH3_createState())) {
    free(w);
    report_add(err, "out of memory");
    return NULL;
  }
  XXH3_64bits_reset(w->hash);
  if (!fs_join(w->path, dir, name, err))
    w->fd = -1;
  else if ((w->fd = open(w->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | how, 0666)) < 0)
    fs_failed(err, "write", w->path, errno);
  if (w->fd < 0) {
    XXH3_freeState(w->hash);
    free(w);
    return NULL;
  }
  return w;
}

FsWriter *fs_writer_open(const char *dir, const char *name, Report *err) {
  return writer_open(dir, name, O_EXCL, err);
}

FsWriter *fs_writer_replace(const char *dir, const char *name, Report *err) {
  return writer_open(dir, name, O_TRUNC, err);
}

static void drain(FsWriter *w, const unsigned char *at, size_t n) {
  while (n && !w->error) {
    ssize_t r = write(w->fd, at, n < 1u << 30 ? n : 1u << 30);
    if (r < 0 && errno == EINTR) continue;
    if (r < 0)
      w->error = errno;
    else
      at += r, n -= (size_t)r;
  }
}

void fs_writer_add(FsWriter *w, const void *bytes, size_t n) {
  XXH3_64bits_update(w->hash, bytes, n);
  if (w->used + n > sizeof(w->buffer)) {
    drain(w, w->buffer, w->used);
    w->used = 0;
  }
  if (n > sizeof(w->buffer)) {
    drain(w, bytes, n);
    return;
  }
  memcpy(w->buffer + w->used, bytes, n);
  w->used += n;
}

bool fs_writer_close(FsWriter *w, uint64_t *hash, Report *err) {
  drain(w, w->buffer, w->used);
  if (!w->error && fsync(w->fd)) w->error = errno;
  if (close(w->fd) && !w->error) w->error = errno;
  if (hash) *hash = XXH3_64bits_digest(w->hash);
  bool ok = !w->error || fs_failed(err, "write", w->path, w->error);
  XXH3_freeState(w->hash);
  free(w);
  return ok;
}

uint64_t fs_hash(const void *bytes, size_t n) {
  return XXH3_64bits(bytes, n);
}
