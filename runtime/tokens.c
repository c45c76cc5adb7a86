/* Token shards as a data set of windows.
 *
 * A window is `time` tokens and, as targets, the tokens one further on. Windows never cross shards. In training, each
 * shard's division into windows starts at an offset drawn from (seed, epoch, shard), so an epoch sees other windows
 * than the last. In fixed order it starts at 0; a shard too short for one window then makes a short one, its missing
 * targets -1. The rest behind a shard's last whole window is not used.
 *
 * Shards are mapped, never copied. Headers, sizes and sidecars are checked when opened; token ids when they are used,
 * so opening a terabyte costs nothing and still no id from outside reaches a kernel. */
#include "runtime/dataset.h"
#include "runtime/random.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_INTS = 256, MAGIC_U16 = 20240520, VERSION_U16 = 1, MAGIC_U32 = 20240801, VERSION_U32 = 7 };

typedef struct Shard {
  char *path;
  FsMap map, mask;
  const unsigned char *ids;
  int width; /* bytes an id */
  uint64_t n;
  uint64_t offset, first; /* of this epoch: where windows start; number of windows before this shard */
} Shard;

typedef struct Tokens {
  Dataset set;
  Shard *shard;
  int n;
  uint64_t time;
  int64_t vocab;
} Tokens;

static uint32_t id_at(const Shard *s, uint64_t i) {
  if (s->width == 2) {
    uint16_t v;
    memcpy(&v, s->ids + 2 * i, 2);
    return v;
  }
  uint32_t v;
  memcpy(&v, s->ids + 4 * i, 4);
  return v;
}

static bool read_header(Shard *s, Report *err) {
  int32_t head[HEADER_INTS];
  if (s->map.n < sizeof(head))
    return report_add(err,
                      "%s: %zu bytes are no token shard: its header alone has %zu (headerless files: --format nanogpt)",
                      s->path, s->map.n, sizeof(head));
  memcpy(head, s->map.at, sizeof(head));
  if (head[0] == MAGIC_U16 && head[1] == VERSION_U16)
    s->width = 2;
  else if (head[0] == MAGIC_U32 && head[1] == VERSION_U32)
    s->width = 4;
  else if (head[0] == MAGIC_U16 || head[0] == MAGIC_U32)
    return report_add(err, "%s: token shard of version %d; version %d is understood", s->path, head[1],
                      head[0] == MAGIC_U16 ? VERSION_U16 : VERSION_U32);
  else
    return report_add(err,
                      "%s: its first number is %d, not a token shard's %d or %d (headerless files: --format nanogpt)",
                      s->path, head[0], MAGIC_U16, MAGIC_U32);
  if (head[2] < 0) return report_add(err, "%s: its header counts %d tokens", s->path, head[2]);
  s->n = (uint64_t)head[2];
  uint64_t want = sizeof(head) + s->n * (uint64_t)s->width;
  if (s->map.n != want)
    return report_add(err, "%s: its header counts %" PRIu64 " tokens, so %" PRIu64 " bytes; the file has %zu", s->path,
                      s->n, want, s->map.n);
  s->ids = s->map.at + sizeof(head);
  return true;
}

static bool read_mask(Shard *s, const char *path, Report *err) {
  if (!fs_map(&s->mask, path, err)) return false;
  if (s->mask.n != s->n)
    return report_add(err, "%s: a mask has one byte a token, so %" PRIu64 "; the file has %zu", path, s->n, s->mask.n);
  for (uint64_t i = 0; i < s->n; i++)
    if (s->mask.at[i] > 1) return report_add(err, "%s: byte %" PRIu64 " is %d, not 0 or 1", path, i, s->mask.at[i]);
  return true;
}

static bool read_docs(Tokens *t, const Shard *s, const char *path, Report *err) {
  FsMap m;
  if (!fs_map(&m, path, err)) return false;
  bool ok = m.n % 8 == 0 || report_add(err, "%s: document starts have 8 bytes each; the file has %zu", path, m.n);
  uint64_t last = 0;
  for (size_t i = 0; ok && i < m.n / 8; i++) {
    uint64_t at;
    memcpy(&at, m.at + 8 * i, 8);
    if ((i && at <= last) || at >= s->n)
      ok =
          report_add(err, "%s: document %zu starts at %" PRIu64 ", after %" PRIu64 ", in a shard of %" PRIu64 " tokens",
                     path, i, at, last, s->n);
    last = at;
  }
  t->set.documents += m.n / 8;
  fs_unmap(&m);
  return ok;
}

static bool open_shard(Tokens *t, Shard *s, const char *path, TokenFormat format, Report *err) {
  s->path = strdup(path);
  if (!s->path) return report_add(err, "out of memory");
  if (!fs_map(&s->map, path, err)) return false;
  if (format == FORMAT_NANOGPT) {
    if (s->map.n % 2) return report_add(err, "%s: %zu bytes are no whole number of uint16 tokens", path, s->map.n);
    s->width = 2;
    s->n = s->map.n / 2;
    s->ids = s->map.at;
  } else if (!read_header(s, err))
    return false;
  char side[FS_PATH];
  int n = snprintf(side, sizeof(side), "%s.mask", path);
  if (n < 0 || n >= (int)sizeof(side)) return report_add(err, "the path %s is too long", path);
  if (fs_exists(side) && !read_mask(s, side, err)) return false;
  strcpy(side + n - 4, "docs");
  if (fs_exists(side) && !read_docs(t, s, side, err)) return false;
  t->set.items += s->n;
  return true;
}

static uint64_t begin(Dataset *d, uint64_t seed, int64_t epoch) {
  Tokens *t = (Tokens *)d;
  uint64_t stream = random_stream("offset"), windows = 0;
  for (int i = 0; i < t->n; i++) {
    Shard *s = &t->shard[i];
    s->first = windows;
    s->offset = 0;
    if (epoch < 0) {
      uint64_t whole = s->n > 1 ? (s->n - 1) / t->time : 0;
      windows += whole || s->n < 2 ? whole : 1;
    } else if (s->n > t->time) {
      uint64_t room = s->n - t->time; /* offsets that leave one window at least */
      s->offset = random_below(seed, stream, (uint64_t)epoch << 24 | (uint64_t)i, room < t->time ? room : t->time);
      windows += (s->n - 1 - s->offset) / t->time;
    }
  }
  return windows;
}

/* The shard and the first token of window i, and its length. */
static const Shard *window(const Tokens *t, uint64_t i, uint64_t *start, uint64_t *len) {
  int low = 0, high = t->n - 1;
  while (low < high) { /* last shard whose first window is at most i; empty shards share their successor's */
    int mid = (low + high + 1) / 2;
    if (t->shard[mid].first <= i)
      low = mid;
    else
      high = mid - 1;
  }
  const Shard *s = &t->shard[low];
  *start = s->offset + (i - s->first) * t->time;
  uint64_t left = s->n - 1 - *start;
  *len = left < t->time ? left : t->time;
  return s;
}

static int64_t valid(Dataset *d, uint64_t i) {
  const Tokens *t = (Tokens *)d;
  uint64_t start, len;
  const Shard *s = window(t, i, &start, &len);
  if (!s->mask.at) return (int64_t)len;
  int64_t n = 0;
  for (uint64_t k = 1; k <= len; k++) n += s->mask.at[start + k];
  return n;
}

static int64_t fill(Dataset *d, uint64_t i, const Row *r, Report *err) {
  const Tokens *t = (Tokens *)d;
  uint64_t start, len;
  const Shard *s = window(t, i, &start, &len);
  int64_t counted = 0;
  for (uint64_t k = 0; k <= len; k++) {
    uint32_t id = id_at(s, start + k);
    if ((int64_t)id >= t->vocab) {
      report_add(err, "%s: token %" PRIu64 " is %u; the model knows ids below %" PRId64, s->path, start + k, id,
                 t->vocab);
      return -1;
    }
    bool counts = k && (!s->mask.at || s->mask.at[start + k]);
    if (r->tokens && k < len) r->tokens[k] = (int32_t)id;
    if (r->targets && k) r->targets[k - 1] = counts ? (int32_t)id : -1;
    counted += counts;
  }
  for (uint64_t k = len; k < t->time; k++) {
    if (r->tokens) r->tokens[k] = 0;
    if (r->targets) r->targets[k] = -1;
  }
  return counted;
}

static void close_tokens(Dataset *d) {
  Tokens *t = (Tokens *)d;
  for (int i = 0; i < t->n; i++) {
    free(t->shard[i].path);
    fs_unmap(&t->shard[i].map);
    fs_unmap(&t->shard[i].mask);
  }
  free(t->shard);
  free(t);
}

Dataset *tokens_open(const FsList *files, TokenFormat format, int64_t time, int64_t vocab, Report *err) {
  Tokens *t = calloc(1, sizeof(Tokens));
  Shard *shards = calloc((size_t)files->n + 1, sizeof(Shard));
  if (!t || !shards) {
    free(t), free(shards);
    report_add(err, "out of memory");
    return NULL;
  }
  *t = (Tokens){
      .set = {begin, fill, valid, close_tokens, 0, 0, files->n}, .shard = shards, .n = files->n, .vocab = vocab};
  t->time = (uint64_t)time;
  bool ok = true;
  for (int i = 0; i < files->n; i++) ok = open_shard(t, &shards[i], files->name[i], format, err) && ok;
  if (!ok) {
    close_tokens(&t->set);
    return NULL;
  }
  return &t->set;
}
