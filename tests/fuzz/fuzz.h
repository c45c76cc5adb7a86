/* What the fuzz targets share: files of their own to put hostile bytes into, promises, and diagnostics that are looked at.
 *
 * A target is a file fuzz_*.c with LLVMFuzzerTestOneInput: it gives the bytes to a reader of ours and holds the result
 * against what was promised. Refusing is right, accepting is right; crashing, hanging, leaking or breaking a promise is not.
 * The folder lies in memory (/dev/shm), one for each process, and nothing outside of it is read or written. */
#ifndef INK_TESTS_FUZZ_H
#define INK_TESTS_FUZZ_H
#include "ink/base.h"
#include "runtime/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* FOLDER/name, valid to the end of the process; made at the first call. An empty name: the folder. */
const char *fuzz_path(const char *name);
void fuzz_put(const char *name, const void *bytes, size_t n); /* writes FOLDER/name */
void fuzz_gone(const char *name);                             /* removes it; may be absent */

/* Divides data at lines "====": part[0 .. n) of at most `most`; returns n, at least 1. What is not there is empty. */
typedef struct FuzzPart {
  const uint8_t *at;
  size_t n;
} FuzzPart;
int fuzz_split(const uint8_t *data, size_t size, FuzzPart *part, int most);

/* A promise: prints the words and aborts where it does not hold. */
#define MUST(holds, ...)                                                                                               \
  do {                                                                                                                 \
    if (!(holds)) fuzz_broken(__FILE__, __LINE__, __VA_ARGS__);                                                        \
  } while (0)
_Noreturn void fuzz_broken(const char *file, int line, const char *fmt, ...) PRINTF(3, 4);

/* What a user would see: rendered, and fit for a terminal. Says so, too, when something was refused without a word. */
void fuzz_diags(const Diags *d, bool refused);
void fuzz_report(Report *err, bool refused); /* frees it */
#endif
