/* weights: the checkpoint that the artifact was made from. */
#include "artifact/open.h"
#include <stdlib.h>
#include <string.h>

typedef struct Weights {
  const char *out;
} Weights;

#define TOKENIZER "tokenizer/"

static bool put(const char *dir, const char *name, const void *bytes, size_t n, Report *err) {
  FsWriter *w = fs_writer_open(dir, name, err);
  if (w) fs_writer_add(w, bytes, n);
  return w && fs_writer_close(w, NULL, err);
}

/* The tokenizer's files, and the model's where the checkpoint had none of the name. */
static bool put_files(const Opened *o, const char *dir, Report *err) {
  char section[128];
  bool ok = true;
  for (int i = 0; ok && i < o->file->n; i++) {
    const ArtifactSection *s = &o->file->section[i];
    const char *name = s->name + sizeof(TOKENIZER) - 1;
    if (strncmp(s->name, TOKENIZER, sizeof(TOKENIZER) - 1)) continue;
    if (strchr(name, '/') || !*name) return report_add(err, "%s: section '%s' is no file's", o->file->path, s->name);
    ok = put(dir, name, artifact_bytes(o->file, s), s->bytes, err);
  }
  for (int i = 0; ok && i < o->program.nfiles; i++) {
    const char *name = program_string(&o->program, o->program.files[i].name);
    const char *text = program_string(&o->program, o->program.files[i].text);
    snprintf(section, sizeof(section), TOKENIZER "%s", name);
    if (*text && !artifact_section(o->file, section)) ok = put(dir, name, text, strlen(text), err);
  }
  return ok && fs_sync_dir(dir, err);
}

static int run(const Call *c) {
  Weights w = {0};
  Opened o = {0};
  Report err = {0}, notes = {0};
  if (options_read(c, &w, NULL, NULL, &err) && !w.out) report_add(&err, "-o is missing: which folder?");
  if (err.lines) return fail(&err, STATUS_USAGE);
  bool ok = opened_file(&o, c, &err) && artifact_check(o.file, NULL, &err) &&
            pack_restore(&o.program, o.file, w.out, &notes, &err) && put_files(&o, w.out, &err);
  say("note: ", &notes);
  int status = ok ? STATUS_DONE : fail(&err, STATUS_FAILED);
  opened_close(&o);
  return status;
}

static const Opt opts[] = {
    {"-o", "DIR", OPT_TEXT, offsetof(Weights, out), 0, 0,
     "the folder, which is made; files in it are not written over"},
};

const CommandInfo command_weights = {
    .name = "weights",
    .usage = "-o DIR",
    .summary = "the checkpoint back: safetensors, tokenizer, config.json",
    .doc = "Writes the checkpoint that the artifact was made from: the same tensors by the same names, in their own "
           "dtypes, bit for\n"
           "bit where the artifact's dtype holds them. What was rounded when it was built is told, tensor by tensor.",
    .opts = opts,
    .nopts = LEN(opts),
    .run = run,
};
