/* The files of a corpus: inputs as given, folders walked in sorted order. */
#include "data/corpus.h"
#include "text/memory.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { DEEPEST = 64 };

static bool ends(const char *s, const char *with) {
  size_t n = strlen(s), k = strlen(with);
  return n > k && !strcmp(s + n - k, with);
}

static bool known(const char *name) {
  return ends(name, ".txt") || ends(name, ".jsonl");
}

static char *join(const char *dir, const char *name) {
  size_t n = strlen(dir), k = strlen(name);
  while (n > 1 && dir[n - 1] == '/') n--;
  char *p = memory_resize(NULL, n + k + 2, 1);
  memcpy(p, dir, n);
  p[n] = '/';
  memcpy(p + n + 1, name, k + 1);
  return p;
}

/* Takes `path` over. */
static void add_file(Corpus *c, char *path) {
  RESERVE(c->files, c->cap_files, c->nfiles + 1);
  c->files[c->nfiles++] = (CorpusFile){.path = path, .jsonl = ends(path, ".jsonl")};
}

static int visible(const struct dirent *e) {
  return e->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name); /* not by locale: the order must not depend on the user's */
}

static bool walk(Corpus *c, const char *dir, int depth, Diags *err) {
  if (depth > DEEPEST) return diag_error(err, (Span){0}, "%s: folders nested deeper than %d", dir, DEEPEST);
  struct dirent **entry = NULL;
  int n = scandir(dir, &entry, visible, by_bytes);
  bool ok = n >= 0 || diag_error(err, (Span){0}, "%s: cannot list: %s", dir, strerror(errno));
  for (int i = 0; i < n; i++) {
    char *path = join(dir, entry[i]->d_name);
    struct stat st, target;
    bool there = ok && lstat(path, &st) == 0;
    if (ok && !there) ok = diag_error(err, (Span){0}, "%s: %s", path, strerror(errno));
    if (there && S_ISDIR(st.st_mode)) {
      ok = walk(c, path, depth + 1, err);
    } else if (there && known(path) && stat(path, &target) == 0 && S_ISREG(target.st_mode)) {
      add_file(c, path);
      path = NULL;
    }
    free(path);
    free(entry[i]);
  }
  free(entry);
  return ok;
}

static bool add_input(Corpus *c, const char *path, Diags *err) {
  struct stat st;
  if (stat(path, &st)) return diag_error(err, (Span){0}, "%s: cannot read: %s", path, strerror(errno));
  if (S_ISDIR(st.st_mode)) {
    size_t before = c->nfiles;
    if (!walk(c, path, 0, err)) return false;
    return c->nfiles > before || diag_error(err, (Span){0}, "%s: the folder holds no .txt and no .jsonl file", path);
  }
  if (!S_ISREG(st.st_mode)) return diag_error(err, (Span){0}, "%s: neither a plain file nor a folder", path);
  if (!known(path))
    return diag_hint(err, (Span){0}, "text goes into .txt (a document) or .jsonl (a line {\"text\": ...} a document)",
                     "%s: unknown kind of file", path);
  char *copy = strdup(path);
  if (!copy) abort();
  add_file(c, copy);
  return true;
}

Corpus *corpus_open(const char *const *inputs, int n, Diags *err) {
  Corpus *c = memory_zeroed(1, sizeof *c);
  bool ok = n > 0 || diag_error(err, (Span){0}, "no input");
  for (int i = 0; i < n; i++) ok &= add_input(c, inputs[i], err);
  if (ok) return c;
  corpus_free(c);
  return NULL;
}

void corpus_free(Corpus *c) {
  if (!c) return;
  for (size_t i = 0; i < c->nfiles; i++) free(c->files[i].path);
  free(c->files);
  free(c->docs);
  free(c);
}
