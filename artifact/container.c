/* Reading an artifact: container.h says what must hold. */
#include "artifact/container.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(sizeof(ArtifactSection) == 96 && sizeof(ArtifactTrailer) == 64, "the file's records");

static bool name_ok(const ArtifactSection *s) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
  size_t n = strnlen(s->name, sizeof(s->name));
  if (!n || n == sizeof(s->name) || strspn(s->name, plain) != n || s->name[0] == '/' || strstr(s->name, ".."))
    return false;
  for (size_t i = n; i < sizeof(s->name); i++)
    if (s->name[i]) return false;
  return true;
}

static bool zeros(const unsigned char *at, uint64_t n) {
  while (n && !*at) at++, n--;
  return !n;
}

/* Sections follow one another, and what lies between is short and empty. */
static bool check_sections(const Artifact *a, uint64_t index, Report *err) {
  uint64_t end = 0;
  for (int i = 0; i < a->n; i++) {
    const ArtifactSection *s = &a->section[i];
    if (!name_ok(s)) return report_add(err, "%s: section %d has an impossible name", a->path, i);
    for (int k = 0; k < i; k++)
      if (!strcmp(a->section[k].name, s->name)) return report_add(err, "%s: two sections '%s'", a->path, s->name);
    if (s->offset > index || s->bytes > index - s->offset)
      return report_add(err, "%s: section '%s' does not lie in the file", a->path, s->name);
    if (s->offset < end) return report_add(err, "%s: section '%s' overlaps the one before it", a->path, s->name);
    if (s->offset - end >= ARTIFACT_PAGE || !zeros(a->map.at + end, s->offset - end))
      return report_add(err, "%s: there are bytes before section '%s' that belong to nothing", a->path, s->name);
    end = s->offset + s->bytes;
  }
  if (strcmp(a->section[0].name, "program") || a->section[0].offset)
    return report_add(err, "%s: it does not begin with its program", a->path);
  if (index - end >= ARTIFACT_ALIGN || !zeros(a->map.at + end, index - end))
    return report_add(err, "%s: there are bytes before its index that belong to nothing", a->path);
  return true;
}

static bool read_index(Artifact *a, Report *err) {
  ArtifactTrailer t;
  if (a->map.n < sizeof(t)) return report_add(err, "%s is no artifact: it has %zu bytes", a->path, a->map.n);
  memcpy(&t, a->map.at + a->map.n - sizeof(t), sizeof(t));
  if (memcmp(t.magic, ARTIFACT_MAGIC, sizeof(t.magic)))
    return report_add(err, "%s is no artifact, or it is cut short: its last 64 bytes are no trailer", a->path);
  if (t.version != ARTIFACT_VERSION)
    return report_add(err, "%s is an artifact of format %u; this program reads format %d", a->path, t.version,
                      ARTIFACT_VERSION);
  if (t.hash != fs_hash(&t, sizeof(t) - sizeof(t.hash)))
    return report_add(err, "%s is damaged: the hash of its trailer is wrong", a->path);
  if (t.bytes != a->map.n)
    return report_add(err, "%s is damaged: it has %zu bytes, %" PRIu64 " were written", a->path, a->map.n, t.bytes);
  uint64_t size = t.sections * (uint64_t)sizeof(ArtifactSection), room = a->map.n - sizeof(t);
  if (!t.sections || t.sections > ARTIFACT_SECTIONS || t.zero[0] || t.zero[1] || t.index > room ||
      room - t.index != size)
    return report_add(err, "%s is damaged: its trailer makes no sense", a->path);
  if (t.index_hash != fs_hash(a->map.at + t.index, size))
    return report_add(err, "%s is damaged: the hash of its index is wrong", a->path);
  a->section = malloc(size);
  if (!a->section) return report_add(err, "out of memory");
  memcpy(a->section, a->map.at + t.index, size);
  a->n = (int)t.sections;
  return check_sections(a, t.index, err);
}

Artifact *artifact_open(const char *path, Report *err) {
  Artifact *a = calloc(1, sizeof(Artifact));
  if (!a || !(a->path = strdup(path))) {
    free(a);
    report_add(err, "out of memory");
    return NULL;
  }
  if (fs_map(&a->map, path, err) && read_index(a, err)) return a;
  artifact_close(a);
  return NULL;
}

void artifact_close(Artifact *a) {
  if (!a) return;
  fs_unmap(&a->map);
  free(a->section);
  free(a->path);
  free(a);
}

bool artifact_check(const Artifact *a, const char *but, Report *err) {
  bool ok = true;
  for (int i = 0; i < a->n; i++) {
    const ArtifactSection *s = &a->section[i];
    if (but && !strncmp(s->name, but, strlen(but))) continue;
    if (fs_hash(artifact_bytes(a, s), s->bytes) != s->hash)
      ok = report_add(err, "%s is damaged: the hash of its section '%s' is wrong", a->path, s->name);
  }
  return ok;
}

const ArtifactSection *artifact_section(const Artifact *a, const char *name) {
  for (int i = 0; i < a->n; i++)
    if (!strcmp(a->section[i].name, name)) return &a->section[i];
  return NULL;
}

const void *artifact_bytes(const Artifact *a, const ArtifactSection *s) {
  return a->map.at + s->offset;
}

bool artifact_is(const char *path) {
  char magic[sizeof(ArtifactTrailer)];
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
  bool yes = end >= (off_t)sizeof(magic) &&
             pread(fd, magic, sizeof(magic), end - (off_t)sizeof(magic)) == (ssize_t)sizeof(magic) &&
             !memcmp(magic, ARTIFACT_MAGIC, 8);
  if (fd >= 0) close(fd);
  return yes;
}
