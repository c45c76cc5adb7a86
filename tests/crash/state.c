/* Folders as values: scanned, written, compared. */
#include "tests/crash/state.h"
#include "tests/crash/trace.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

void state_add(State *s, const char *path, EntryKind kind, unsigned char *bytes, size_t n) {
  if (s->n == s->cap) s->entry = must_alloc(s->entry, (size_t)(s->cap = s->cap ? 2 * s->cap : 64) * sizeof(Entry));
  char *copy = strdup(path);
  if (!copy) give_up("out of memory");
  s->entry[s->n++] = (Entry){copy, kind, bytes, n};
}

static int by_path(const void *a, const void *b) {
  return strcmp(((const Entry *)a)->path, ((const Entry *)b)->path);
}

void state_sort(State *s) {
  if (s->n) qsort(s->entry, (size_t)s->n, sizeof(Entry), by_path);
}

void state_free(State *s) {
  for (int i = 0; i < s->n; i++) free(s->entry[i].path), free(s->entry[i].bytes);
  free(s->entry);
  *s = (State){0};
}

uint64_t state_hash(const State *s) {
  uint64_t h = 0;
  for (int i = 0; i < s->n; i++) {
    const Entry *e = &s->entry[i];
    h = XXH3_64bits_withSeed(e->path, strlen(e->path) + 1, h + (uint64_t)e->kind);
    h = XXH3_64bits_withSeed(e->n ? (const void *)e->bytes : "", e->n, h);
  }
  return h;
}

/* ---- the real disk */

static void join(char out[4096], const char *a, const char *b) {
  if (snprintf(out, 4096, "%s%s%s", a, *a && *b ? "/" : "", b) >= 4096) give_up("a path is too long");
}

static unsigned char *read_file(const char *path, size_t n) {
  unsigned char *bytes = must_alloc(NULL, n);
  FILE *f = fopen(path, "rb");
  if (!f || fread(bytes, 1, n, f) != n) give_up("cannot read %s", path);
  fclose(f);
  return bytes;
}

static void scan(State *s, const char *top, const char *below) {
  char dir[4096], path[4096], full[4096];
  join(dir, top, below);
  DIR *d = opendir(dir);
  if (!d) give_up("cannot list %s", dir);
  for (struct dirent *e; (e = readdir(d));) {
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    struct stat st;
    join(path, below, e->d_name);
    join(full, top, path);
    if (lstat(full, &st)) give_up("cannot look at %s", full);
    if (S_ISDIR(st.st_mode)) {
      state_add(s, path, ENTRY_DIR, NULL, 0);
      scan(s, top, path);
    } else if (S_ISLNK(st.st_mode)) {
      char text[4096];
      ssize_t n = readlink(full, text, sizeof(text));
      if (n < 0) give_up("cannot read the link %s", full);
      state_add(s, path, ENTRY_LINK, memcpy(must_alloc(NULL, (size_t)n), text, (size_t)n), (size_t)n);
    } else if (S_ISREG(st.st_mode))
      state_add(s, path, ENTRY_FILE, read_file(full, (size_t)st.st_size), (size_t)st.st_size);
    else
      give_up("%s is neither file nor folder nor link", full);
  }
  closedir(d);
}

State state_scan(const char *dir) {
  State s = {0};
  scan(&s, dir, "");
  state_sort(&s);
  return s;
}

void state_write(const State *s, const char *dir) {
  for (int i = 0; i < s->n; i++) {
    const Entry *e = &s->entry[i];
    char path[4096], text[4096];
    join(path, dir, e->path);
    if (e->kind == ENTRY_DIR) {
      if (mkdir(path, 0777)) give_up("cannot make %s: %s", path, strerror(errno));
    } else if (e->kind == ENTRY_LINK) {
      snprintf(text, sizeof(text), "%.*s", (int)e->n, (const char *)e->bytes);
      if (symlink(text, path)) give_up("cannot link %s: %s", path, strerror(errno));
    } else {
      FILE *f = fopen(path, "wb");
      if (!f || fwrite(e->bytes, 1, e->n, f) != e->n || fclose(f))
        give_up("cannot write %s: %s", path, strerror(errno));
    }
  }
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *w) {
  (void)st, (void)flag;
  return w->level ? remove(path) : 0;
}

void state_clear(const char *dir) {
  if (nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS)) give_up("cannot clear %s", dir);
}

const char *state_difference(const State *want, const State *have, char *text, size_t n) {
  for (int i = 0;; i++) {
    const Entry *a = i < want->n ? &want->entry[i] : NULL, *b = i < have->n ? &have->entry[i] : NULL;
    if (!a && !b) return NULL;
    int c = !a ? 1 : !b ? -1 : strcmp(a->path, b->path);
    if (c) {
      snprintf(text, n, c < 0 ? "%s is missing" : "%s should not be there", c < 0 ? a->path : b->path);
      return text;
    }
    if (a->kind != b->kind || a->n != b->n || (a->n && memcmp(a->bytes, b->bytes, a->n))) {
      size_t at = 0;
      while (at < a->n && at < b->n && a->bytes[at] == b->bytes[at]) at++;
      snprintf(text, n, "%s differs at byte %zu (%zu bytes, want %zu)", a->path, at, b->n, a->n);
      return text;
    }
  }
}
