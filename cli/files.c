/* What the subcommands share: messages, files, and where the parts of an installation lie. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void cli_error(const char *fmt, ...) {
  va_list ap;
  fputs("ink: ", stderr);
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
}

int cli_diags(const Diags *d) {
  Text t = {0};
  diags_render(d, &t);
  if (t.n) fwrite(t.s, 1, t.n, stderr);
  text_free(&t);
  return EXIT_FAILED;
}

bool cli_write(const char *path, const char *text, size_t n) {
  bool ok = path ? file_write_atomic(path, text, n) : fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
  if (!ok) cli_error("cannot write %s: %s", path ? path : "the output", strerror(errno));
  return ok;
}

const char *cli_find(Arena *a, const char *const *candidates, int n) {
  char self[4096];
  ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
  if (len <= 0) return NULL;
  self[len] = 0;
  char *slash = strrchr(self, '/');
  if (!slash) return NULL;
  *slash = 0;
  for (int i = 0; i < n; i++) {
    const char *path = arena_printf(a, "%s/%s", self, candidates[i]);
    if (!access(path, R_OK)) return path;
  }
  return NULL;
}

const char *cli_models(Arena *a) {
  static const char *const places[] = {"../share/ink/models", "../../models"};
  return cli_find(a, places, LEN(places));
}

const char *cli_inkrt(Arena *a) {
  static const char *const places[] = {"../lib/libinkrt.a", "../lib/x86_64-linux-gnu/libinkrt.a",
                                       "../lib64/libinkrt.a"};
  return cli_find(a, places, LEN(places));
}

bool cli_make_parents(Arena *a, const char *path) {
  char *p = arena_strdup(a, path);
  for (char *s = p + 1; (s = strchr(s, '/')); s++) {
    *s = 0;
    if (mkdir(p, 0777) && errno != EEXIST) return false;
    *s = '/';
  }
  return true;
}

const char *cli_bytes(Arena *a, int64_t bytes) {
  if (bytes >= (int64_t)1 << 30) return arena_printf(a, "%.2f GiB", (double)bytes / (1 << 30));
  if (bytes >= 1 << 20) return arena_printf(a, "%.1f MiB", (double)bytes / (1 << 20));
  if (bytes >= 1 << 10) return arena_printf(a, "%.1f KiB", (double)bytes / (1 << 10));
  return arena_printf(a, "%d bytes", (int)bytes);
}
