/* Where the parts of an installation lie, seen from the file that holds this very code: a program in bin/, or libinkstone.so
 * in lib/. Nothing is remembered and nothing comes from the environment, so a moved installation works at once. */
#include "driver/compile.h"
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* The folder of this code's file. A program has no name among the loaded objects. */
static const char *own_folder(Arena *a) {
  Dl_info info;
  void *map = NULL;
  char self[PATH_MAX];
  if (!dladdr1((const void *)dump_names, &info, &map, RTLD_DL_LINKMAP)) return NULL;
  const char *name = ((const struct link_map *)map)->l_name;
  bool program = !name || !*name;
  if (!realpath(program ? "/proc/self/exe" : name, self) &&
      !(program && realpath((const char *)getauxval(AT_EXECFN), self))) /* no /proc, as in a bare chroot */
    return NULL;
  char *slash = strrchr(self, '/');
  return slash ? arena_strndup(a, self, (size_t)(slash - self)) : NULL;
}

static const char *find(Arena *a, const char *const *candidates, int n) {
  const char *folder = own_folder(a);
  for (int i = 0; folder && i < n; i++) {
    const char *path = arena_printf(a, "%s/%s", folder, candidates[i]);
    if (!access(path, R_OK)) return path;
  }
  return NULL;
}

const char *place_models(Arena *a) {
  static const char *const places[] = {"../share/ink/models", "../../share/ink/models", "../../models"};
  return find(a, places, LEN(places));
}

/* The runtime of programs for this architecture is NAME.a, for another one NAME-ARCH.a beside it. */
static const char *place_library(Arena *a, Diags *d, const Target *t, const char *base, const char *what) {
  static const char *const folders[] = {"", "../lib/", "../lib/x86_64-linux-gnu/", "../lib/aarch64-linux-gnu/",
                                        "../lib64/"};
  const char *name = arena_printf(a, target_here(t) ? "%s.a" : "%s-%s.a", base, t->arch), *places[LEN(folders)];
  for (int i = 0; i < LEN(folders); i++) places[i] = arena_printf(a, "%s%s", folders[i], name);
  const char *path = find(a, places, LEN(places));
  if (path) return path;
  const char *hint = "it belongs beside libinkstone.so, in lib/ beside the folder of ink";
  if (!target_here(t)) {
    bool arm = !strcmp(t->arch, "aarch64");
    hint = arena_printf(
        a,
        "Inkstone builds it where there are %s-linux-gnu-gcc and its libjansson.a (Debian: gcc-%s-linux-gnu "
        "and libjansson-dev:%s); then build Inkstone again",
        t->arch, arm ? t->arch : "x86-64", arm ? "arm64" : "amd64");
  }
  diag_hint(d, (Span){0}, hint, "target %s: %s, the runtime of %s, is not there", t->name, name, what);
  return NULL;
}

const char *place_inkrt(Arena *a, Diags *d, const Target *t) {
  return place_library(a, d, t, "libinkrt", "its programs");
}

const char *place_inkserve(Arena *a, Diags *d, const Target *t) {
  if (target_here(t)) return place_library(a, d, t, "libinkserve", "artifacts");
  diag_hint(d, (Span){0}, "build the artifact on a machine of that architecture",
            "target %s: artifacts that serve are linked for this machine's architecture alone", t->name);
  return NULL;
}
