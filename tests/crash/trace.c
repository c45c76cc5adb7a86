/* Reads a trace; record.c says what stands in it. */
#include "tests/crash/trace.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"open",  "write", "seek",   "truncate", "fsync", "close",
                                    "mkdir", "rmdir", "unlink", "rename",   "link",  "symlink"};

void give_up(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fputs("crash-replay: ", stderr);
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
  va_end(ap);
  exit(1);
}

void *must_alloc(void *old, size_t n) {
  void *p = realloc(old, n ? n : 1);
  if (!p) give_up("out of memory");
  return p;
}

static char *read_all(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  if (!f) give_up("cannot read %s", path);
  char *text = NULL;
  size_t cap = 1 << 20;
  for (*n = 0;; cap *= 2) {
    text = must_alloc(text, cap + 1);
    *n += fread(text + *n, 1, cap - *n, f);
    if (*n < cap) break;
  }
  fclose(f);
  text[*n] = 0;
  return text;
}

/* Splits off the text up to `end` and returns where the next begins. */
static char *cut(char *at, char end) {
  char *mark = at ? strchr(at, end) : NULL;
  if (!mark) give_up("the trace is broken");
  *mark = 0;
  return mark + 1;
}

Trace trace_read(const char *path) {
  size_t size;
  Trace t = {.text = read_all(path, &size)};
  char *at = t.text, *end = t.text + size;
  int cap = 0;
  for (;;) {
    if (at >= end) give_up("%s has no end", path);
    char *line = at;
    at = cut(line, '\n');
    char *rest = cut(line, ' ');
    if (!strcmp(line, "end")) return t;
    int kind = 0, count = (int)(sizeof(names) / sizeof(names[0]));
    while (kind < count && strcmp(names[kind], line)) kind++;
    if (kind == count) give_up("%s: unknown operation %s", path, line);
    if (t.n == cap) t.op = must_alloc(t.op, (size_t)(cap = cap ? 2 * cap : 256) * sizeof(TraceOp));
    TraceOp *o = &t.op[t.n++];
    *o = (TraceOp){.kind = (TraceKind)kind, .a = rest};
    if (kind <= TR_CLOSE) o->handle = (int)strtol(rest, &rest, 10);
    if (kind <= TR_TRUNCATE) o->number = strtoll(rest, &rest, 10);
    if (kind == TR_OPEN) o->a = rest + 1;
    if (kind == TR_WRITE) {
      o->n = strtoull(rest, NULL, 10);
      o->bytes = (const unsigned char *)at;
      if (o->n >= (size_t)(end - at)) give_up("%s is cut short", path);
      at += o->n + 1;
    }
    if (kind >= TR_RENAME) o->b = cut((char *)o->a, '\t');
  }
}

void trace_free(Trace *t) {
  free(t->text);
  free(t->op);
  *t = (Trace){0};
}

const char *trace_text(const TraceOp *o, char *text, size_t n) {
  const char *name = names[o->kind];
  if (o->kind == TR_OPEN)
    snprintf(text, n, "open %s", o->a);
  else if (o->kind == TR_WRITE)
    snprintf(text, n, "write of %zu bytes to file %d", o->n, o->handle);
  else if (o->kind <= TR_CLOSE)
    snprintf(text, n, "%s of file %d", name, o->handle);
  else
    snprintf(text, n, "%s %s%s%s", name, o->a, o->b ? " " : "", o->b ? o->b : "");
  return text;
}
