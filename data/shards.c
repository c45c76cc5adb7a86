/* Writing token files: a buffer, the count patched into the header at the end, every write checked.
 *
 * A file is complete only after shards_finish: the caller keeps the folder aside until then. Must hold: no shard has
 * more than `most` tokens, so no reader's int32 overflows. */
#include "data/shards.h"
#include "text/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, STEM = 16, MOST_SHARDS = 10000 };

typedef struct Out { /* one file */
  char *path;
  int fd;
  unsigned char *at; /* BUFFER bytes */
  size_t n;
} Out;

struct Shards {
  const char *dir; /* not owned */
  char stem[STEM];
  ShardFormat format;
  int width;
  uint64_t most, tokens;
  bool docs;
  Out bin, side;
  ShardFile *file;
  size_t nfile, cap_file;
};

/* ---- a file */

static bool out_open(Out *o, const char *dir, const char *name, Diags *err) {
  size_t room = strlen(dir) + strlen(name) + 2;
  o->path = memory_resize(o->path, room, 1);
  snprintf(o->path, room, "%s/%s", dir, name);
  if (!o->at) o->at = memory_resize(NULL, BUFFER, 1);
  o->n = 0;
  o->fd = open(o->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  return o->fd >= 0 || diag_error(err, (Span){0}, "%s: cannot create: %s", o->path, strerror(errno));
}

static bool out_flush(Out *o, Diags *err) {
  for (size_t done = 0; done < o->n;) {
    ssize_t k = write(o->fd, o->at + done, o->n - done);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) return diag_error(err, (Span){0}, "%s: cannot write: %s", o->path, strerror(errno));
    done += (size_t)k;
  }
  o->n = 0;
  return true;
}

static bool out_add(Out *o, const void *bytes, size_t n, Diags *err) {
  if (o->n + n > BUFFER && !out_flush(o, err)) return false;
  memcpy(o->at + o->n, bytes, n); /* n is below BUFFER: some ids, a header */
  o->n += n;
  return true;
}

static bool out_close(Out *o, Diags *err) {
  bool ok = out_flush(o, err);
  if (ok && fsync(o->fd)) ok = diag_error(err, (Span){0}, "%s: cannot write: %s", o->path, strerror(errno));
  if (close(o->fd) && ok) ok = diag_error(err, (Span){0}, "%s: cannot write: %s", o->path, strerror(errno));
  o->fd = -1;
  return ok;
}

static void out_free(Out *o) {
  if (o->fd >= 0) close(o->fd);
  free(o->path);
  free(o->at);
}

/* ---- shards */

Shards *shards_new(const char *dir, const char *stem, ShardFormat format, uint32_t vocab, uint64_t most, bool docs,
                   Diags *err) {
  if (format == SHARDS_NANOGPT && vocab > 65536) {
    diag_hint(err, (Span){0}, "--format llmc has a form of 32 bits",
              "nanoGPT's format has 16 bits a token; a vocabulary of %" PRIu32 " ids does not fit", vocab);
    return NULL;
  }
  Shards *s = memory_zeroed(1, sizeof *s);
  *s =
      (Shards){.dir = dir, .format = format, .width = vocab > 65536 ? 4 : 2, .docs = docs, .bin.fd = -1, .side.fd = -1};
  s->most = format == SHARDS_NANOGPT ? UINT64_MAX : most;
  snprintf(s->stem, sizeof s->stem, "%s", stem);
  return s;
}

void shards_free(Shards *s) {
  if (!s) return;
  out_free(&s->bin);
  out_free(&s->side);
  free(s->file);
  free(s);
}

static bool begin(Shards *s, Diags *err) {
  ShardFile f = {0};
  char side[sizeof f.name + 8];
  if (s->nfile == MOST_SHARDS)
    return diag_error(err, (Span){0}, "more than %d shards of %" PRIu64 " tokens: larger ones are wanted", MOST_SHARDS,
                      s->most);
  if (s->format == SHARDS_NANOGPT)
    snprintf(f.name, sizeof f.name, "%s.bin", s->stem);
  else
    snprintf(f.name, sizeof f.name, "%s_%06zu.bin", s->stem, s->nfile);
  RESERVE(s->file, s->cap_file, s->nfile + 1);
  s->file[s->nfile++] = f;
  if (!out_open(&s->bin, s->dir, f.name, err)) return false;
  snprintf(side, sizeof side, "%s.docs", f.name);
  if (s->docs && !out_open(&s->side, s->dir, side, err)) return false;
  int32_t header[SHARD_HEADER] = {0};
  return s->format == SHARDS_NANOGPT || out_add(&s->bin, header, sizeof header, err);
}

static bool end(Shards *s, Diags *err) {
  if (s->bin.fd < 0) return true;
  bool wide = s->width == 4, ok = out_flush(&s->bin, err);
  int32_t head[3] = {wide ? SHARD_MAGIC_U32 : SHARD_MAGIC_U16, wide ? SHARD_VERSION_U32 : SHARD_VERSION_U16, 0};
  if (ok && s->format == SHARDS_LLMC) {
    head[2] = (int32_t)s->file[s->nfile - 1].tokens;
    if (pwrite(s->bin.fd, head, sizeof head, 0) != sizeof head)
      ok = diag_error(err, (Span){0}, "%s: cannot write: %s", s->bin.path, strerror(errno));
  }
  if (!out_close(&s->bin, err)) ok = false;
  if (s->side.fd >= 0 && !out_close(&s->side, err)) ok = false;
  return ok;
}

/* Room for a token in the file at hand, or in a new one. */
static bool make_room(Shards *s, Diags *err) {
  if (s->bin.fd >= 0 && s->file[s->nfile - 1].tokens < s->most) return true;
  return end(s, err) && begin(s, err);
}

bool shards_document(Shards *s, Diags *err) {
  if (!s->docs) return true;
  if (!make_room(s, err)) return false;
  uint64_t at = s->file[s->nfile - 1].tokens;
  return out_add(&s->side, &at, sizeof at, err);
}

bool shards_add(Shards *s, const uint32_t *ids, size_t n, Diags *err) {
  enum { SOME = 4096 };
  uint16_t narrow[SOME];
  for (size_t done = 0, k; done < n; done += k) {
    if (!make_room(s, err)) return false;
    uint64_t *tokens = &s->file[s->nfile - 1].tokens;
    k = n - done < SOME ? n - done : SOME;
    if (k > s->most - *tokens) k = (size_t)(s->most - *tokens);
    for (size_t i = 0; i < k; i++) narrow[i] = (uint16_t)ids[done + i];
    if (!out_add(&s->bin, s->width == 4 ? (const void *)(ids + done) : narrow, k * (size_t)s->width, err)) return false;
    *tokens += k;
    s->tokens += k;
  }
  return true;
}

bool shards_finish(Shards *s, Diags *err) {
  return end(s, err);
}

uint64_t shards_tokens(const Shards *s) {
  return s->tokens;
}

int shards_count(const Shards *s) {
  return (int)s->nfile;
}

const ShardFile *shards_file(const Shards *s, int i) {
  return &s->file[i];
}
