/* What the subcommands share: messages and files. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void cli_error(const char *fmt, ...) {
  va_list ap;
  Arena *a = arena_new();
  Text t = {0};
  va_start(ap, fmt);
  const char *text = arena_vprintf(a, fmt, ap);
  va_end(ap);
  text_add(&t, "ink: ");
  text_write_clean(&t, text, strlen(text)); /* a path may be any bytes */
  text_add(&t, "\n");
  fwrite(t.s, 1, t.n, stderr);
  text_free(&t);
  arena_free(a);
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
