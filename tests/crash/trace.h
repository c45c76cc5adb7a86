/* The operations that crash-record wrote down. */
#ifndef CRASH_TRACE_H
#define CRASH_TRACE_H
#include <stdbool.h>
#include <stddef.h>

typedef enum {
  TR_OPEN,
  TR_WRITE,
  TR_SEEK,
  TR_TRUNCATE,
  TR_FSYNC,
  TR_CLOSE,
  TR_MKDIR,
  TR_RMDIR,
  TR_UNLINK,
  TR_RENAME,
  TR_LINK,
  TR_SYMLINK
} TraceKind;

typedef struct TraceOp {
  TraceKind kind;
  int handle;
  long long number;           /* open: flags; write: offset or -1; seek, truncate: where */
  const char *a, *b;          /* paths; symlink: text and path */
  const unsigned char *bytes; /* write */
  size_t n;
} TraceOp;

typedef struct Trace {
  char *text; /* what the operations point into */
  TraceOp *op;
  int n;
} Trace;

/* Ends the program with a message when the file is no whole trace. */
Trace trace_read(const char *path);
void trace_free(Trace *t);
/* One operation in words. */
const char *trace_text(const TraceOp *o, char *text, size_t n);

/* A message on standard error, and the end, with status 1. */
__attribute__((noreturn, format(printf, 1, 2))) void give_up(const char *fmt, ...);
void *must_alloc(void *old, size_t n); /* realloc that does not fail */
#endif
