/* The files of a tokenizer in a folder, by their names. */
#include "text/codec_parts.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const names[] = {
    "tokenizer.json", "tokenizer.model", "encoder.json",          "vocab.bpe",
    "vocab.json",     "merges.txt",      "tokenizer_config.json", "chat_template.jinja"};

typedef struct Found {
  CodecFile file[LEN(names) + 1];
  int n;
} Found;

static bool read_file(const char *path, const char *name, Found *found, Diags *err) {
  FILE *f = fopen(path, "rb");
  char *bytes = NULL;
  size_t n = 0, cap = 0, k = 1;
  if (!f) return diag_error(err, (Span){0}, "%s: cannot open: %m", path);
  while (k && n <= CODEC_LARGEST_FILE) {
    RESERVE(bytes, cap, n + 65536);
    k = fread(bytes + n, 1, 65536, f);
    n += k;
  }
  bool failed = ferror(f) != 0;
  fclose(f);
  char *copy = memory_resize(NULL, strlen(name) + 1, 1);
  strcpy(copy, name);
  found->file[found->n++] = (CodecFile){copy, bytes, n};
  if (failed) return diag_error(err, (Span){0}, "%s: cannot read", path);
  return n <= CODEC_LARGEST_FILE ||
         diag_error(err, (Span){0}, "%s: larger than the limit of %d bytes", path, CODEC_LARGEST_FILE);
}

static bool is_ranks(const char *name) {
  size_t n = strlen(name);
  return n > 9 && !strcmp(name + n - 9, ".tiktoken");
}

/* The names of NAME.tiktoken in a folder: the one there is. */
static bool read_ranks(const char *folder, Found *found, Diags *err) {
  DIR *d = opendir(folder);
  if (!d) return diag_error(err, (Span){0}, "%s: cannot open: %m", folder);
  bool ok = true, have = false;
  for (struct dirent *e; ok && (e = readdir(d));) {
    if (!is_ranks(e->d_name)) continue;
    Text path = {0};
    text_add(&path, "%s/%s", folder, e->d_name);
    ok = have ? diag_error(err, (Span){0}, "%s: holds more than one file of ranks (.tiktoken)", folder)
              : read_file(path.s, e->d_name, found, err);
    have = true;
    text_free(&path);
  }
  closedir(d);
  return ok;
}

Codec *codec_open(const char *path, Diags *err) {
  struct stat st;
  Found found = {0};
  const char *slash = strrchr(path, '/'), *only = NULL;
  Text folder = {0}, file = {0};
  if (stat(path, &st)) {
    diag_error(err, (Span){0}, "%s: cannot open: %m", path);
    return NULL;
  }
  text_add(&folder, "%s", path);
  if (!S_ISDIR(st.st_mode)) { /* that one, and what lies beside it */
    only = slash ? slash + 1 : path;
    folder.n = 0;
    text_add(&folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (slash == path) text_add(&folder, "/");
  }
  bool ok = true, ranks = only && is_ranks(only);
  for (int i = 0; ok && i < LEN(names); i++) {
    bool tokens = i < 2;
    if (only && (tokens ? strcmp(only, names[i]) != 0 : i < 6 && (!strncmp(only, "tokenizer", 9) || ranks))) continue;
    if (!only && i < 6 && found.n && !strncmp(found.file[0].name, "tokenizer.", 10)) continue; /* the first one rules */
    file.n = 0;
    text_add(&file, "%s/%s", folder.s, names[i]);
    if (stat(file.s, &st) && errno == ENOENT) continue;
    ok = read_file(file.s, names[i], &found, err);
  }
  if (ok && ranks)
    ok = read_file(path, only, &found, err);
  else if (ok && !only && !(found.n && !strncmp(found.file[0].name, "tokenizer.", 10)))
    ok = read_ranks(folder.s, &found, err);
  Codec *c = ok ? codec_open_files(found.file, found.n, err) : NULL;
  for (int i = 0; i < found.n; i++) free((void *)found.file[i].name), free((void *)found.file[i].bytes);
  text_free(&folder), text_free(&file);
  return c;
}
