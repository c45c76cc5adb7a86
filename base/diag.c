/* Diagnostics: collected while working, shown at the end.
 *
 *     gpt2.yaml:24:18: error: unknown dimension 'head'
 *         x = merge(o, head)
 *                      ^
 *       did you mean 'heads'?
 *
 * Shown sorted by file and position. The source line may be anything (tabs, control bytes, broken UTF-8, megabytes in
 * one line): it is shown as cells of one column each, clipped to a window around the caret. Must hold: no byte of the
 * source reaches the terminal unless it is printable, and nothing of it is ever a format string. */
#include "ink/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { KEPT = 100, WIDTH = 112, INDENT = 4, TAB = 4 };

Diags *diags_new(Arena *a) {
  Diags *d = NEW(a, Diags);
  d->arena = a;
  return d;
}

uint32_t diags_source(Diags *d, const char *path, const char *text, size_t n) {
  Source s = {arena_strdup(d->arena, path), arena_strndup(d->arena, text, n), n};
  PUSH(d->arena, d->sources, d->nsources, d->cap_sources, s);
  return (uint32_t)d->nsources;
}

bool diags_read(Diags *d, const char *path, size_t limit, uint32_t *file) {
  Text t = {0};
  char block[16384];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t k = fd < 0 ? -1 : 1;
  while (k > 0 && t.n <= limit) {
    k = read(fd, block, sizeof block);
    if (k < 0 && errno == EINTR)
      k = 1;
    else if (k > 0)
      text_write(&t, block, (size_t)k);
  }
  int e = errno;
  if (fd >= 0) close(fd);
  bool over = k >= 0 && t.n > limit;
  *file = diags_source(d, path, k < 0 || over || !t.s ? "" : t.s, k < 0 || over ? 0 : t.n);
  text_free(&t);
  Span whole = {*file, 0, 0};
  if (k < 0) return diag_error(d, whole, "cannot read: %s", strerror(e));
  if (over) return diag_error(d, whole, "larger than the limit of %zu bytes", limit);
  return true;
}

static bool add(Diags *d, Span at, const char *hint, const char *fmt, va_list ap) {
  if (d->n < KEPT) {
    Diag g = {at, arena_vprintf(d->arena, fmt, ap), hint ? arena_strdup(d->arena, hint) : NULL};
    PUSH(d->arena, d->list, d->n, d->cap, g);
  } else {
    d->dropped++;
  }
  return false;
}

bool diag_error(Diags *d, Span at, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  add(d, at, NULL, fmt, ap);
  va_end(ap);
  return false;
}

bool diag_hint(Diags *d, Span at, const char *hint, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  add(d, at, hint, fmt, ap);
  va_end(ap);
  return false;
}

static void add_clean(Text *out, const char *s) {
  text_write_clean(out, s, strlen(s));
}

/* The line around the caret and the caret under it. Cells are counted from a point at most 4 * WIDTH bytes before the
 * caret, so that a line of megabytes costs no more than a short one. */
static void add_line(Text *out, const char *line, size_t n, size_t col) {
  size_t caret = col - 1 < n ? col - 1 : n, from = 0;
  if (caret > 4 * WIDTH) {
    from = caret - 4 * WIDTH;
    while (from < caret && ((unsigned char)line[from] & 0xc0) == 0x80) from++;
  }
  size_t before = 0; /* cells up to the caret */
  for (size_t i = from; i < caret;) {
    int k = text_printable(line + i, n - i);
    before += line[i] == '\t' ? TAB : 1;
    i += k ? (size_t)k : 1;
  }
  size_t skip = before > WIDTH * 2 / 3 ? before - WIDTH * 2 / 3 : 0;
  bool head = from > 0 || skip > 0;
  text_add(out, "%*s%s", INDENT, "", head ? "..." : "");
  size_t cell = 0, i = from;
  while (i < n && cell < skip + WIDTH) {
    int k = text_printable(line + i, n - i), cells = line[i] == '\t' ? TAB : 1;
    for (int c = 0; c < cells; c++, cell++)
      if (cell >= skip && cell < skip + WIDTH) {
        if (line[i] == '\t')
          text_add(out, " ");
        else
          text_write(out, k ? line + i : "?", k ? (size_t)k : 1);
      }
    i += k ? (size_t)k : 1;
  }
  text_add(out, "%s\n%*s^\n", i < n ? "..." : "", (int)(INDENT + (head ? 3 : 0) + before - skip), "");
}

static bool after(Span a, Span b) {
  if (a.file != b.file) return a.file > b.file;
  if (a.line != b.line) return a.line > b.line;
  return a.col > b.col;
}

static void add_diag(const Diags *d, const Diag *g, Text *out) {
  const Source *s = g->at.file && g->at.file <= (uint32_t)d->nsources ? &d->sources[g->at.file - 1] : NULL;
  if (s) {
    add_clean(out, s->path);
    if (g->at.line) text_add(out, ":%u", g->at.line);
    if (g->at.line && g->at.col) text_add(out, ":%u", g->at.col);
    text_add(out, ": ");
  }
  text_add(out, "error: ");
  add_clean(out, g->text);
  text_add(out, "\n");
  if (s && g->at.line && g->at.col) {
    const char *line = s->text, *end = s->text + s->n;
    for (uint32_t l = 1; line && l < g->at.line; l++) {
      line = memchr(line, '\n', (size_t)(end - line));
      if (line) line++;
    }
    if (line && (line < end || g->at.line == 1) && s->n) {
      const char *stop = memchr(line, '\n', (size_t)(end - line));
      size_t n = (size_t)((stop ? stop : end) - line);
      if (n && line[n - 1] == '\r') n--;
      add_line(out, line, n, g->at.col);
    }
  }
  if (g->hint) {
    text_add(out, "  ");
    add_clean(out, g->hint);
    text_add(out, "\n");
  }
}

void diags_render(const Diags *d, Text *out) {
  int order[KEPT];
  for (int i = 0; i < d->n && i < KEPT; i++) { /* insertion: stable, and the list is short */
    int j = i;
    for (; j > 0 && after(d->list[order[j - 1]].at, d->list[i].at); j--) order[j] = order[j - 1];
    order[j] = i;
  }
  for (int i = 0; i < d->n && i < KEPT; i++) add_diag(d, &d->list[order[i]], out);
  if (d->dropped) text_add(out, "%d more errors not shown\n", d->dropped);
}
