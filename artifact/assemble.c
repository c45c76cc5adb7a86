/* The sections of an artifact, one behind the other. */
#include "artifact/assemble.h"
#include "text/codec.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 512 << 20 };

static const char *folder_of(const AssembleSpec *s, char dir[FS_PATH], Report *err) {
  const char *path = s->tokenizer ? s->tokenizer : s->weights;
  if (fs_is_dir(path)) return path;
  return fs_split(path, dir, err) ? dir : NULL;
}

/* An artifact may be given away: a link in a folder from a stranger must not bring other files along. Download caches keep files as
 * links to their blobs. */
static bool stays_inside(const char *folder, const char *name, Report *err) {
  char path[FS_PATH], real[PATH_MAX], home[PATH_MAX], blobs[FS_PATH], cache[PATH_MAX];
  if (!fs_join(path, folder, name, err) || !fs_join(blobs, folder, "../../blobs", err)) return false;
  if (!realpath(path, real) || !realpath(folder, home)) return fs_failed(err, "read", path, errno);
  const char *within[] = {home, realpath(blobs, cache) ? cache : home};
  for (int i = 0; i < 2; i++)
    if (!strncmp(real, within[i], strlen(within[i])) && real[strlen(within[i])] == '/') return true;
  return report_add(err, "%s leads outside of its folder: it is not put into an artifact", path);
}

static bool add_file(ArtifactWriter *w, const char *name, const void *bytes, size_t n, Report *err) {
  char section[72];
  if (snprintf(section, sizeof(section), "tokenizer/%s", name) >= (int)sizeof(section))
    return report_add(err, "the name of the tokenizer file '%s' is too long", name);
  artifact_begin(w, section, ARTIFACT_ALIGN);
  artifact_add(w, bytes, n);
  return true;
}

/* The tokenizer's files, as they are, once they were understood; and of the weights' folder what goes with a checkpoint. */
static const char *const beside[] = {"config.json", "generation_config.json"};

static bool add_tokenizer(const AssembleSpec *s, ArtifactWriter *w, Report *err) {
  char dir[FS_PATH], path[FS_PATH];
  const char *folder = folder_of(s, dir, err);
  if (!folder) return false;
  Arena *arena = arena_new();
  Diags *d = diags_new(arena);
  Codec *codec = codec_open(s->tokenizer ? s->tokenizer : folder, d);
  const CodecFile *file = NULL;
  int n = codec ? codec_files(codec, &file) : 0;
  bool ok = codec != NULL;
  for (int i = 0; !ok && i < d->n; i++)
    report_add(err, "tokenizer: %s%s%s", d->list[i].text, d->list[i].hint ? "; " : "",
               d->list[i].hint ? d->list[i].hint : "");
  if (!ok && !s->tokenizer) report_add(err, "--tokenizer names a folder with another one");
  for (int i = 0; ok && i < n; i++)
    ok = stays_inside(folder, file[i].name, err) && add_file(w, file[i].name, file[i].bytes, file[i].n, err);
  folder = s->weights;
  if (ok && !fs_is_dir(folder)) folder = fs_split(folder, dir, err) ? dir : NULL;
  for (int i = 0; ok && folder && i < LEN(beside); i++)
    if (fs_join(path, folder, beside[i], err) && fs_exists(path)) {
      size_t bytes;
      char *text = stays_inside(folder, beside[i], err) ? fs_read(path, FILE_LIMIT, &bytes, err) : NULL;
      ok = text && add_file(w, beside[i], text, bytes, err);
      free(text);
    }
  codec_free(codec);
  arena_free(arena);
  return ok;
}

static bool add_card(const AssembleSpec *s, const Program *p, const PackReport *weights, ArtifactWriter *w,
                     Report *err) {
  int n;
  const ArtifactSection *section = artifact_written(w, &n);
  CardInfo info = {.dtype = s->dtype, .flags = s->flags, .nflags = s->nflags, .weights = weights};
  char *text = card_make(p, &info, section, n, err);
  if (!text) return false;
  artifact_begin(w, CARD_SECTION, ARTIFACT_ALIGN);
  artifact_add(w, text, strlen(text));
  free(text);
  return true;
}

bool assemble(const AssembleSpec *s, PackReport *out, Report *err) {
  Program p;
  if (!program_open(&p, s->blob, NULL, err)) return false;
  ArtifactWriter *w = artifact_create(s->path, s->program, err);
  if (!w) return false;
  if (add_tokenizer(s, w, err) && pack_weights(&p, s->weights, w, s->threads, out, err) && add_card(s, &p, out, w, err))
    return artifact_finish(w, err);
  artifact_abandon(w);
  return false;
}
