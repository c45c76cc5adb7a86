/* Reading a corpus: files in blocks, lines out of blocks, JSON out of lines, text onward in portions.
 *
 * Files are read, not mapped: a file that shrinks meanwhile is an error instead of a signal, and memory stays at a block
 * (or the longest line) whatever the size. Each file is read twice or more; what the first pass found is held against
 * the later ones, so that a file that changes in between is noticed. */
#define XXH_INLINE_ALL
#include "data/corpus.h"
#include "text/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { BLOCK = 1 << 20, LONGEST_LINE = 1 << 28, WRONG_LINES = 20 };

/* A window [at, at + n) of an open file. */
typedef struct Reader {
  const char *path;
  int fd;
  char *text;
  size_t n, cap;
  uint64_t at;
} Reader;

static bool reader_open(Reader *r, const char *path, Diags *err) {
  r->path = path;
  r->n = 0;
  r->at = 0;
  r->fd = open(path, O_RDONLY | O_CLOEXEC);
  return r->fd >= 0 || diag_error(err, (Span){0}, "%s: cannot read: %s", path, strerror(errno));
}

/* When the open file was last written, in nanoseconds; 0 when that cannot be told. */
static int64_t reader_time(const Reader *r) {
  struct stat st;
  return fstat(r->fd, &st) ? 0 : (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

static void reader_close(Reader *r) {
  if (r->fd >= 0) close(r->fd);
  r->fd = -1;
}

/* Adds what follows the window, at most `most` bytes; *got: how many (0: the file ends). */
static bool reader_more(Reader *r, size_t most, size_t *got, Diags *err) {
  RESERVE(r->text, r->cap, r->n + most);
  ssize_t k;
  do k = pread(r->fd, r->text + r->n, most, (off_t)(r->at + r->n));
  while (k < 0 && errno == EINTR);
  *got = k > 0 ? (size_t)k : 0;
  r->n += *got;
  return k >= 0 || diag_error(err, (Span){0}, "%s: cannot read: %s", r->path, strerror(errno));
}

static bool stopped(const Corpus *c, Diags *err) {
  return c->stop && *c->stop && !diag_error(err, (Span){0}, "interrupted");
}

/* ---- JSON lines */

/* The line's text; *root keeps it alive. False after an error; a blank line gives NULL. */
static bool line_text(const CorpusFile *f, uint64_t line, const char *s, size_t n, json_t **root, const char **text,
                      size_t *len, Diags *err) {
  *root = NULL;
  *text = NULL;
  *len = 0;
  size_t blank = 0;
  while (blank < n && strchr(" \t\r", s[blank]) && s[blank]) blank++;
  if (blank == n) return true;
  json_error_t e;
  *root = json_loadb(s, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
  if (!*root) return diag_error(err, (Span){0}, "%s:%" PRIu64 ":%d: %s", f->path, line, e.column, e.text);
  const json_t *v = json_object_get(*root, "text");
  if (json_is_string(v)) {
    *text = json_string_value(v);
    *len = json_string_length(v);
    return true;
  }
  diag_error(err, (Span){0}, "%s:%" PRIu64 ": %s", f->path, line,
             !json_is_object(*root) ? "not an object {\"text\": ...}"
             : v                    ? "its \"text\" is no string"
                                    : "the object has no \"text\"");
  json_decref(*root);
  *root = NULL;
  return false;
}

static void add_document(Corpus *c, Document d) {
  if (!d.bytes) {
    c->empty++;
    return;
  }
  RESERVE(c->docs, c->cap_docs, c->ndocs + 1);
  c->docs[c->ndocs++] = d;
  c->bytes += d.bytes;
}

static bool index_line(Corpus *c, size_t file, Document d, const char *s, Diags *err) {
  json_t *root;
  const char *text;
  size_t n;
  if (!line_text(&c->files[file], d.line, s, d.raw, &root, &text, &n, err)) return false;
  d.bytes = n;
  if (text) add_document(c, d);
  json_decref(root);
  return true;
}

static bool index_lines(Corpus *c, size_t file, Reader *r, XXH3_state_t *hash, Diags *err) {
  CorpusFile *f = &c->files[file];
  uint64_t line = 0;
  int wrong = 0;
  size_t got = 1, seen = 0; /* seen: bytes of the window known to hold no end of line */
  while (got || r->n) {
    const char *stop = r->n > seen ? memchr(r->text + seen, '\n', r->n - seen) : NULL;
    if (!stop && got) {
      seen = r->n;
      if (r->n > LONGEST_LINE)
        return diag_error(err, (Span){0}, "%s:%" PRIu64 ": a line of over %d bytes", f->path, line + 1, LONGEST_LINE);
      if (stopped(c, err) || !reader_more(r, BLOCK, &got, err)) return false;
      XXH3_64bits_update(hash, r->text + seen, got);
      f->bytes += got;
      continue;
    }
    /* All lines of the window, and the rest when the file ends. */
    size_t from = 0;
    while (from < r->n && (stop || !got)) {
      size_t n = stop ? (size_t)(stop - r->text) - from : r->n - from;
      if (++line > UINT32_MAX) return diag_error(err, (Span){0}, "%s: more lines than can be counted", f->path);
      Document d = {r->at + from, n, 0, (uint32_t)file, (uint32_t)line};
      wrong += !index_line(c, file, d, r->text + from, err);
      if (wrong == WRONG_LINES) return diag_error(err, (Span){0}, "%s: not read any further", f->path);
      from += n + (stop != NULL);
      stop = from < r->n ? memchr(r->text + from, '\n', r->n - from) : NULL;
    }
    memmove(r->text, r->text + from, r->n - from);
    r->n -= from;
    r->at += from;
    seen = r->n;
  }
  return wrong == 0;
}

static bool index_text(Corpus *c, size_t file, Reader *r, XXH3_state_t *hash, Diags *err) {
  CorpusFile *f = &c->files[file];
  for (size_t got = 1; got;) {
    r->at += r->n;
    r->n = 0;
    if (stopped(c, err) || !reader_more(r, BLOCK, &got, err)) return false;
    XXH3_64bits_update(hash, r->text, got);
    f->bytes += got;
  }
  add_document(c, (Document){0, f->bytes, f->bytes, (uint32_t)file, 0});
  return true;
}

bool corpus_index(Corpus *c, Diags *err) {
  XXH3_state_t *hash = XXH3_createState();
  if (!hash) abort();
  Reader r = {.fd = -1};
  bool ok = true;
  for (size_t i = 0; i < c->nfiles; i++) {
    CorpusFile *f = &c->files[i];
    XXH3_64bits_reset(hash);
    bool good = reader_open(&r, f->path, err) && (f->written = reader_time(&r), true) &&
                (f->jsonl ? index_lines(c, i, &r, hash, err) : index_text(c, i, &r, hash, err));
    reader_close(&r);
    f->hash = XXH3_64bits_digest(hash);
    ok &= good;
    if (c->stop && *c->stop) break;
  }
  XXH3_freeState(hash);
  free(r.text);
  if (ok && !c->ndocs) ok = diag_error(err, (Span){0}, "the input holds no text");
  return ok;
}

void corpus_shuffle(Corpus *c, uint64_t seed) {
  uint64_t state = seed;
  for (size_t i = c->ndocs; i > 1; i--) { /* Fisher and Yates; splitmix64 */
    uint64_t x = state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    size_t k = (size_t)(((unsigned __int128)x * i) >> 64);
    Document d = c->docs[k];
    c->docs[k] = c->docs[i - 1];
    c->docs[i - 1] = d;
  }
}

/* ---- handing on */

static bool changed(const CorpusFile *f, Diags *err) {
  return diag_error(err, (Span){0}, "%s: the file changed while it was read", f->path);
}

static bool each_text(Corpus *c, size_t doc, Reader *r, CorpusFn fn, void *ctx, Diags *err) {
  const Document *d = &c->docs[doc];
  for (uint64_t at = 0; at < d->bytes;) {
    size_t want = d->bytes - at < BLOCK ? (size_t)(d->bytes - at) : BLOCK, got;
    r->at = at;
    r->n = 0;
    if (stopped(c, err) || !reader_more(r, want, &got, err)) return false;
    if (!got) return changed(&c->files[d->file], err);
    if (!fn(ctx, doc, at, r->text, got, at + got == d->bytes)) return false;
    at += got;
  }
  return true;
}

static bool each_line(Corpus *c, size_t doc, Reader *r, CorpusFn fn, void *ctx, Diags *err) {
  const Document *d = &c->docs[doc];
  if (stopped(c, err)) return false;
  if (d->at < r->at || d->at + d->raw > r->at + r->n) {      /* not in the window: read on from the line's start */
    bool next = d->at >= r->at && d->at <= r->at + r->n + 1; /* in order: the lines behind it will be wanted, too */
    size_t got = 1, want = d->raw > BLOCK || !next ? (size_t)d->raw : BLOCK;
    r->at = d->at;
    r->n = 0;
    while (got && r->n < d->raw)
      if (!reader_more(r, want - r->n, &got, err)) return false;
    if (r->n < d->raw) return changed(&c->files[d->file], err);
  }
  json_t *root;
  const char *text;
  size_t n;
  if (!line_text(&c->files[d->file], d->line, r->text + (d->at - r->at), (size_t)d->raw, &root, &text, &n, err))
    return false;
  bool ok = n == d->bytes ? fn(ctx, doc, 0, text, n, true) : changed(&c->files[d->file], err);
  json_decref(root);
  return ok;
}

bool corpus_each(Corpus *c, size_t from, size_t to, CorpusFn fn, void *ctx, Diags *err) {
  Reader r = {.fd = -1};
  uint32_t file = UINT32_MAX;
  bool ok = true;
  for (size_t i = from; ok && i < to; i++) {
    const Document *d = &c->docs[i];
    if (d->file != file) {
      reader_close(&r);
      const CorpusFile *f = &c->files[d->file];
      ok = reader_open(&r, f->path, err) && (reader_time(&r) == f->written || changed(f, err));
      file = d->file;
    }
    if (ok) ok = c->files[d->file].jsonl ? each_line(c, i, &r, fn, ctx, err) : each_text(c, i, &r, fn, ctx, err);
  }
  reader_close(&r);
  free(r.text);
  return ok;
}
