/* The targets' common ground, see fuzz.h. */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fuzz_broken(const char *file, int line, const char *fmt, ...) {
  va_list ap;
  fprintf(stderr, "%s:%d: broken promise: ", file, line);
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
  abort();
}

static char folder[64];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *w) {
  (void)st, (void)flag, (void)w;
  return remove(path);
}

static void remove_folder(void) {
  nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_path(const char *name) {
  enum { NAMES = 32 };
  static struct { char name[32], path[128]; } known[NAMES];
  if (!folder[0]) {
    strcpy(folder, access("/dev/shm", W_OK) ? "/tmp/ink-fuzz-XXXXXX" : "/dev/shm/ink-fuzz-XXXXXX");
    MUST(mkdtemp(folder), "no folder: %s", strerror(errno));
    atexit(remove_folder);
  }
  if (!*name) return folder;
  for (int i = 0; i < NAMES; i++) {
    if (!strcmp(known[i].name, name)) return known[i].path;
    if (known[i].name[0]) continue;
    MUST(strlen(name) < sizeof known[i].name, "the name %s is too long", name);
    strcpy(known[i].name, name);
    snprintf(known[i].path, sizeof known[i].path, "%s/%s", folder, name);
    return known[i].path;
  }
  fuzz_broken(__FILE__, __LINE__, "more than %d file names", NAMES);
}

void fuzz_put(const char *name, const void *bytes, size_t n) {
  int fd = open(fuzz_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  MUST(fd >= 0, "%s: %s", name, strerror(errno));
  MUST(write(fd, bytes, n) == (ssize_t)n, "%s: %s", name, strerror(errno));
  close(fd);
}

void fuzz_gone(const char *name) {
  unlink(fuzz_path(name));
}

int fuzz_split(const uint8_t *data, size_t size, FuzzPart *part, int most) {
  static const char mark[] = "====\n";
  enum { MARK = sizeof mark - 1 };
  int n = 0;
  for (int i = 0; i < most; i++) part[i] = (FuzzPart){data, 0};
  while (n < most) {
    const uint8_t *end = memmem(data, size, mark, MARK);
    part[n++] = (FuzzPart){data, end ? (size_t)(end - data) : size};
    if (!end) break;
    size -= (size_t)(end - data) + MARK;
    data = end + MARK;
  }
  return n;
}

/* Printable UTF-8 and line ends, nothing that a terminal would take for a command. */
static void check_words(const char *s, size_t n) {
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)s[i];
    MUST(c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f), "byte 0x%02x would reach the terminal", c);
    if (c == 0xc2 && i + 1 < n) MUST((unsigned char)s[i + 1] >= 0xa0, "a C1 control would reach the terminal");
  }
}

void fuzz_diags(const Diags *d, bool refused) {
  Text t = {0};
  diags_render(d, &t);
  MUST(!refused || t.n, "refused without a word");
  check_words(t.s, t.n);
  text_free(&t);
}

void fuzz_report(Report *err, bool refused) {
  MUST(!refused || err->lines, "refused without a word");
  check_words(err->text, err->n);
  report_free(err);
}
