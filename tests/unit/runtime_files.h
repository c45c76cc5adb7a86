/* Folders and files for tests of the runtime. Each test that wants files makes one folder and removes it. */
#ifndef RUNTIME_FILES_H
#define RUNTIME_FILES_H
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Dir {
  char path[64];
} Dir;

__attribute__((unused)) static Dir dir_new(void) {
  Dir d = {"/tmp/ink-test-XXXXXX"};
  if (!mkdtemp(d.path)) abort();
  return d;
}

static int dir_unlink(const char *path, const struct stat *st, int flag, struct FTW *w) {
  (void)st, (void)flag, (void)w;
  return remove(path);
}
__attribute__((unused)) static void dir_free(Dir *d) {
  nftw(d->path, dir_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* DIR/name, in one of a few static buffers. */
__attribute__((unused)) static const char *in(const Dir *d, const char *name) {
  static char text[16][512];
  static int at;
  at = (at + 1) % 16;
  snprintf(text[at], sizeof(text[at]), "%s/%s", d->path, name);
  return text[at];
}

__attribute__((unused)) static void file_put(const char *path, const void *bytes, size_t n) {
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) abort();
}

/* malloc'ed, NUL-terminated; NULL when there is no such file */
__attribute__((unused)) static char *file_get(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  fseek(f, 0, SEEK_END);
  long size = ftell(f);
  rewind(f);
  char *text = calloc(1, (size_t)size + 1);
  if (fread(text, 1, (size_t)size, f) != (size_t)size) abort();
  fclose(f);
  if (n) *n = (size_t)size;
  return text;
}

__attribute__((unused)) static int file_same(const char *a, const char *b) {
  size_t na = 0, nb = 0;
  char *x = file_get(a, &na), *y = file_get(b, &nb);
  int same = x && y && na == nb && !memcmp(x, y, na);
  free(x), free(y);
  return same;
}

/* An llm.c shard of uint16 tokens. */
__attribute__((unused)) static void shard_put(const char *path, const uint16_t *ids, size_t n) {
  int32_t head[256] = {20240520, 1, (int32_t)n};
  unsigned char *all = malloc(sizeof(head) + 2 * n);
  memcpy(all, head, sizeof(head));
  memcpy(all + sizeof(head), ids, 2 * n);
  file_put(path, all, sizeof(head) + 2 * n);
  free(all);
}
#endif
