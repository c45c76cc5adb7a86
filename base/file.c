/* Files written whole or not at all, and the hash of bytes.
 *
 * A reader of `path` sees the old file or the new one, never a part: the bytes go to a file beside it, which is synced
 * and renamed over it; then the folder is synced, so that the rename survives a crash too. */
#define XXH_INLINE_ALL
#include "ink/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static bool write_all(int fd, const char *p, size_t n) {
  while (n) {
    ssize_t k = write(fd, p, n);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) return false;
    p += k;
    n -= (size_t)k;
  }
  return true;
}

static bool sync_folder(const char *path) {
  const char *slash = strrchr(path, '/');
  char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
  if (!folder) return false;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free(folder);
  if (fd < 0) return false;
  bool ok = fsync(fd) == 0 || errno == EINVAL; /* some file systems have no sync for folders */
  int e = errno;
  close(fd);
  errno = e;
  return ok;
}

bool file_write_atomic(const char *path, const void *bytes, size_t n) {
  static atomic_uint serial; /* two threads may write beside each other */
  size_t room = strlen(path) + 48;
  char *temp = malloc(room);
  if (!temp) return false;
  snprintf(temp, room, "%s.%ld.%u.tmp", path, (long)getpid(), atomic_fetch_add(&serial, 1));
  int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  bool ok = fd >= 0;
  if (ok) {
    ok = write_all(fd, bytes, n) && fsync(fd) == 0;
    int e = errno;
    if (close(fd) != 0 && ok) {
      ok = false;
      e = errno;
    }
    errno = e;
    ok = ok && rename(temp, path) == 0;
    if (!ok) {
      e = errno;
      unlink(temp);
      errno = e;
    }
    ok = ok && sync_folder(path);
  }
  int e = errno;
  free(temp);
  errno = e;
  return ok;
}

uint64_t hash64(const void *bytes, size_t n) {
  return XXH3_64bits(bytes, n);
}
