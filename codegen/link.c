/* Object file + runtime library -> executable, by a C compiler for the target's architecture as the linker driver.
 *
 * The compiler is run by argv (no shell, so names are only names); its output is shown when it fails. The object and the
 * executable are written beside the wanted path, in a folder of their own, and the executable is renamed over it, so
 * that nobody ever sees half of one.
 *
 * What must hold: the executable needs libc and libm only; unused functions of the runtime leave (--gc-sections). Line
 * tables of the kernels stay for profilers and debuggers; other symbols' debug information comes from the runtime's own build. */
#include "codegen/program.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { SHOWN = 4000 }; /* bytes of the compiler's own words */

static bool write_file(const char *path, const void *bytes, size_t n) {
  FILE *f = fopen(path, "wbe");
  if (!f) return false;
  bool ok = fwrite(bytes, 1, n, f) == n;
  return fclose(f) == 0 && ok;
}

/* Runs argv with stdout and stderr in `log`. Returns the exit status, or -1 with errno. */
static int run(char *const *argv, const char *log) {
  posix_spawn_file_actions_t act;
  pid_t pid;
  int status;
  if (posix_spawn_file_actions_init(&act)) return -1;
  posix_spawn_file_actions_addopen(&act, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&act, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&act, 1, 2);
  int err = posix_spawnp(&pid, argv[0], &act, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&act);
  if (err) {
    errno = err;
    return -1;
  }
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *read_log(Arena *a, const char *path) {
  char *text = NEW_ARRAY(a, char, SHOWN + 1);
  FILE *f = fopen(path, "rbe");
  if (!f) return "";
  size_t n = fread(text, 1, SHOWN, f);
  fclose(f);
  text[n] = 0;
  return text;
}

/* Names as Debian has them. */
static const char *where_from(Arena *a, const Target *t) {
  if (target_here(t)) return "a C compiler links it, by the name of cc where no other is given";
  return arena_printf(a, "a compiler for %s links it: Debian's is in the package gcc-%s-linux-gnu; --cc names another",
                      t->arch, strcmp(t->arch, "x86_64") ? t->arch : "x86-64");
}

static bool link_in(Arena *a, Diags *d, const Text *object, const Target *t, const char *cc, const char *inkrt,
                    const char *folder, const char *path) {
  char *obj = arena_printf(a, "%s/program.o", folder), *out = arena_printf(a, "%s/program", folder);
  char *log = arena_printf(a, "%s/log", folder);
  if (!write_file(obj, object->s, object->n))
    return diag_error(d, (Span){0}, "cannot write %s: %s", obj, strerror(errno));
  char *argv[] = {(char *)cc,
                  (char *)"-o",
                  out,
                  obj,
                  (char *)inkrt,
                  (char *)"-Wl,--gc-sections",
                  (char *)"-Wl,--as-needed",
                  (char *)"-Wl,-z,noexecstack",
                  (char *)"-pie",
                  (char *)"-lm",
                  NULL};
  int status = run(argv, log);
  bool ok = status == 0;
  if (status < 0)
    diag_hint(d, (Span){0}, where_from(a, t), "cannot run the C compiler '%s', which links programs: %s", cc,
              strerror(errno));
  else if (status > 0)
    diag_error(d, (Span){0}, "'%s' failed to link (exit status %d):\n%s", cc, status, read_log(a, log));
  else if (rename(out, path))
    ok = diag_error(d, (Span){0}, "cannot write %s: %s", path, strerror(errno));
  unlink(obj);
  unlink(log);
  unlink(out);
  return ok;
}

bool link_program(Arena *a, Diags *d, const Text *object, const Target *t, const char *cc, const char *inkrt,
                  const char *path) {
  struct stat st;
  if (!stat(path, &st) && S_ISDIR(st.st_mode)) return diag_error(d, (Span){0}, "%s is a folder", path);
  /* Not "-o" nor "@file": the compiler would take such a path for an option or a file of options. */
  char *folder = arena_printf(a, "%s%s.link.XXXXXX", *path == '/' ? "" : "./", path);
  if (!mkdtemp(folder)) return diag_error(d, (Span){0}, "cannot write beside %s: %s", path, strerror(errno));
  if (!cc) cc = target_here(t) ? "cc" : arena_printf(a, "%s-linux-gnu-gcc", t->arch);
  bool ok = link_in(a, d, object, t, cc, inkrt, folder, path);
  rmdir(folder);
  return ok;
}
