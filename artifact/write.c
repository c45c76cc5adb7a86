/* Writing an artifact: container.h. Beside the wanted path as .tmp-NAME first. */
#include "artifact/container.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct ArtifactWriter {
  FsWriter *out;
  char dir[FS_PATH], name[FS_PATH], aside[FS_PATH], path[FS_PATH]; /* path: of the file aside */
  ArtifactSection section[ARTIFACT_SECTIONS];
  int n;
  bool open; /* the last section is being written */
  XXH3_state_t *hash;
  uint64_t at;
  Report err;
};

static void put(ArtifactWriter *w, const void *bytes, size_t n) {
  fs_writer_add(w->out, bytes, n);
  w->at += n;
}

static void pad(ArtifactWriter *w, uint64_t align) {
  static const unsigned char zero[4096];
  for (uint64_t n = (align - w->at % align) % align; n;) {
    size_t part = n < sizeof(zero) ? (size_t)n : sizeof(zero);
    put(w, zero, part);
    n -= part;
  }
}

static void end(ArtifactWriter *w) {
  if (!w->open) return;
  ArtifactSection *s = &w->section[w->n - 1];
  s->bytes = w->at - s->offset;
  s->hash = XXH3_64bits_digest(w->hash);
  w->open = false;
}

void artifact_begin(ArtifactWriter *w, const char *name, uint64_t align) {
  end(w);
  if (w->n == ARTIFACT_SECTIONS || strlen(name) >= sizeof(w->section[0].name)) {
    report_add(&w->err, "section '%s' does not go into an artifact: %s", name,
               w->n == ARTIFACT_SECTIONS ? "there are too many" : "its name is too long");
    return;
  }
  pad(w, align);
  ArtifactSection *s = &w->section[w->n++];
  *s = (ArtifactSection){.offset = w->at};
  memcpy(s->name, name, strlen(name));
  w->open = true;
  XXH3_64bits_reset(w->hash);
}

void artifact_add(ArtifactWriter *w, const void *bytes, size_t n) {
  XXH3_64bits_update(w->hash, bytes, n);
  put(w, bytes, n);
}

const ArtifactSection *artifact_written(ArtifactWriter *w, int *n) {
  end(w);
  *n = w->n;
  return w->section;
}

ArtifactWriter *artifact_create(const char *path, const char *program, Report *err) {
  struct stat st;
  FsMap map = {0};
  ArtifactWriter *w = calloc(1, sizeof(ArtifactWriter));
  if (!w || !(w->hash = XXH3_createState())) {
    free(w);
    report_add(err, "out of memory");
    return NULL;
  }
  const char *name = fs_split(path, w->dir, err);
  bool ok = name && fs_map(&map, program, err);
  if (ok && stat(program, &st)) ok = fs_failed(err, "read", program, errno);
  if (ok && snprintf(w->name, sizeof(w->name), "%s", name) + 16 > (int)sizeof(w->name))
    ok = report_add(err, "%s: the name is too long", path);
  if (ok) {
    snprintf(w->aside, sizeof(w->aside), ".tmp-%.4000s", w->name);
    ok = fs_join(w->path, w->dir, w->aside, err) && (w->out = fs_writer_replace(w->dir, w->aside, err));
  }
  if (ok && chmod(w->path, st.st_mode & 0777)) ok = fs_failed(err, "change the permissions of", w->path, errno);
  if (ok) {
    artifact_begin(w, "program", 1);
    artifact_add(w, map.at, map.n);
  }
  fs_unmap(&map);
  if (ok) return w;
  artifact_abandon(w);
  return NULL;
}

static void release(ArtifactWriter *w) {
  XXH3_freeState(w->hash);
  report_free(&w->err);
  free(w);
}

void artifact_abandon(ArtifactWriter *w) {
  if (!w) return;
  Report ignored = {0};
  if (w->out) {
    fs_writer_close(w->out, NULL, &ignored);
    unlink(w->path);
  }
  report_free(&ignored);
  release(w);
}

bool artifact_finish(ArtifactWriter *w, Report *err) {
  end(w);
  pad(w, ARTIFACT_ALIGN);
  size_t size = (size_t)w->n * sizeof(ArtifactSection);
  ArtifactTrailer t = {.version = ARTIFACT_VERSION, .sections = (uint32_t)w->n, .index = w->at};
  memcpy(t.magic, ARTIFACT_MAGIC, sizeof(t.magic));
  t.index_hash = fs_hash(w->section, size);
  t.bytes = w->at + size + sizeof(t);
  t.hash = fs_hash(&t, sizeof(t) - sizeof(t.hash));
  put(w, w->section, size);
  put(w, &t, sizeof(t));
  bool ok = fs_writer_close(w->out, NULL, err);
  if (w->err.lines) ok = report_add(err, "%.*s", (int)w->err.n - 1, w->err.text);
  ok = ok && fs_rename(w->dir, w->aside, w->name, err);
  if (!ok) unlink(w->path);
  release(w);
  return ok;
}
