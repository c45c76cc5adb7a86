/* Opening an artifact, from its file to a batcher. */
#include "artifact/open.h"
#include "runtime/machine.h"
#include "serve/program_model.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void report_diags(const Diags *d, const char *before, Report *err) {
  for (int i = 0; i < d->n; i++)
    report_add(err, "%s%s%s%s", before, d->list[i].text, d->list[i].hint ? "; " : "",
               d->list[i].hint ? d->list[i].hint : "");
}

/* The card and the program in this process are of one build. */
static bool check_card(const Opened *o, Report *err) {
  char hash[32];
  snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)o->program.h->spec_hash);
  const char *said = json_string_value(json_object_get(o->card, "spec_hash"));
  return !strcmp(said, hash) || report_add(err, "%s: its card is of another program", o->file->path);
}

bool opened_file(Opened *o, const Call *c, Report *err) {
  *o = (Opened){0};
  return program_open(&o->program, c->blob, c->kernels, err) &&
         machine_has(program_string(&o->program, o->program.h->cpu_features), err) &&
         (o->file = artifact_open(c->path, err)) && (o->card = card_read(o->file, err)) && check_card(o, err);
}

/* ---- tokenizer and template */

#define TOKENIZER "tokenizer/"

static bool open_codec(Opened *o, Report *err) {
  CodecFile file[ARTIFACT_SECTIONS];
  int n = 0;
  for (int i = 0; i < o->file->n; i++) {
    const ArtifactSection *s = &o->file->section[i];
    if (!strncmp(s->name, TOKENIZER, sizeof(TOKENIZER) - 1))
      file[n++] = (CodecFile){s->name + sizeof(TOKENIZER) - 1, artifact_bytes(o->file, s), s->bytes};
  }
  Arena *arena = arena_new();
  Diags *d = diags_new(arena);
  o->codec = codec_open_files(file, n, d);
  if (!o->codec) report_diags(d, "tokenizer: ", err);
  arena_free(arena);
  return o->codec != NULL;
}

/* A template that cannot be read costs the chat, not the model. */
static void open_chat(Opened *o, Report *notes) {
  const char *source = codec_template(o->codec);
  if (!source) return;
  Arena *arena = arena_new();
  Diags *d = diags_new(arena);
  o->chat = chat_open(source, strlen(source), d);
  if (!o->chat) report_diags(d, "the chat template cannot be used: ", notes);
  arena_free(arena);
  o->chat_variables = chat_variables(o->codec);
}

/* ---- generation_config.json: the checkpoint's own, else the model's */

static json_t *generation_config(const Opened *o) {
  const ArtifactSection *s = artifact_section(o->file, TOKENIZER "generation_config.json");
  if (s) return json_loadb(artifact_bytes(o->file, s), s->bytes, 0, NULL);
  for (int i = 0; i < o->program.nfiles; i++)
    if (!strcmp(program_string(&o->program, o->program.files[i].name), "generation_config.json"))
      return json_loads(program_string(&o->program, o->program.files[i].text), 0, NULL);
  return NULL;
}

static double number(const json_t *config, const char *key, double low, double high, double missing) {
  const json_t *v = json_object_get(config, key);
  double x = json_number_value(v);
  return json_is_number(v) && x >= low && x <= high ? x : missing;
}

static void add_eos(Opened *o, int64_t id) {
  if (id < 0 || id >= o->model->limits.vocab) return;
  for (int i = 0; i < o->served.neos; i++)
    if (o->eos[i] == id) return;
  o->eos[o->served.neos++] = (int32_t)id;
}

static bool read_config(Opened *o, Report *err) {
  json_t *config = generation_config(o), *eos = json_object_get(config, "eos_token_id");
  o->served.defaults = (SampleParams){.temperature = (float)number(config, "temperature", 0, 100, 1),
                                      .top_k = (int)number(config, "top_k", 0, 1 << 30, 0),
                                      .top_p = (float)number(config, "top_p", 0, 1, 1),
                                      .min_p = (float)number(config, "min_p", 0, 1, 0),
                                      .repetition = (float)number(config, "repetition_penalty", 1e-6, 100, 1)};
  o->eos = calloc(json_array_size(eos) + 2, sizeof(*o->eos));
  if (!o->eos) {
    json_decref(config);
    return report_add(err, "out of memory");
  }
  if (json_is_integer(eos)) add_eos(o, json_integer_value(eos));
  for (size_t i = 0; i < json_array_size(eos); i++)
    if (json_is_integer(json_array_get(eos, i))) add_eos(o, json_integer_value(json_array_get(eos, i)));
  add_eos(o, codec_role(o->codec, "eos_token"));
  json_decref(config);
  return true;
}

/* ---- weights and model */

static bool open_weights(Opened *o, Report *err) {
  o->weights = pack_open(o->file, err);
  o->param = calloc((size_t)o->program.nbuffers + 1, sizeof(void *));
  if (!o->param) return report_add(err, "out of memory");
  return o->weights && pack_find(&o->program, o->weights, o->param, err);
}

/* "first,second": no name may be empty. */
static bool read_aliases(Opened *o, const char *text, Report *err) {
  int n = 1;
  for (const char *p = text; p && *p; p++) n += *p == ',';
  if (!text) return true;
  o->alias_text = strdup(text);
  o->alias = calloc((size_t)n, sizeof(*o->alias));
  if (!o->alias_text || !o->alias) return report_add(err, "out of memory");
  char *rest = o->alias_text;
  for (int i = 0; i < n; i++) {
    o->alias[i] = strsep(&rest, ",");
    if (!*o->alias[i]) return report_add(err, "--alias '%s': a name is empty", text);
  }
  o->served.alias = o->alias;
  o->served.nalias = n;
  return true;
}

bool opened_model(Opened *o, const OpenOptions *options, Report *notes, Report *err) {
  struct stat st;
  if (!artifact_check(o->file, options->no_check ? WEIGHTS_SECTION : NULL, err) || !open_codec(o, err) ||
      !open_weights(o, err))
    return false;
  ProgramModelOptions model = {.threads = options->threads, .cache_bytes = (uint64_t)(options->cache * 0x1p30)};
  BatchOptions batch = {.max_seqs = options->max_seqs,
                        .max_queue = options->max_queue ? options->max_queue : 256,
                        .max_latency_ms = options->latency,
                        .no_prefix_cache = options->no_prefix_cache};
  o->model = program_model_new(&o->program, o->param, &model, err);
  if (!o->model || !read_config(o, err)) return false;
  if (codec_vocab(o->codec) > (uint32_t)o->model->limits.vocab)
    report_add(notes, "the tokenizer has ids up to %u, the model %d: some text cannot be read",
               codec_vocab(o->codec) - 1, o->model->limits.vocab);
  o->batcher = batcher_new(o->model, &batch, err);
  if (!o->batcher) return false;
  open_chat(o, notes);
  if (!read_aliases(o, options->alias, err)) return false;
  Served *s = &o->served;
  s->name = json_string_value(json_object_get(o->card, "model"));
  s->model = o->model;
  s->batcher = o->batcher;
  s->codec = o->codec;
  s->chat = o->chat;
  s->eos = o->eos;
  s->created = stat(o->file->path, &st) ? 0 : (int64_t)st.st_mtime;
  return true;
}

void opened_close(Opened *o) {
  if (o->batcher) batcher_free(o->batcher);
  if (o->model) o->model->free(o->model);
  if (o->chat) chat_free(o->chat);
  json_decref(o->chat_variables);
  if (o->codec) codec_free(o->codec);
  free(o->eos);
  free(o->alias_text), free(o->alias);
  free(o->param);
  safe_close(o->weights);
  json_decref(o->card);
  artifact_close(o->file);
  *o = (Opened){0};
}

bool opened_encode(Opened *o, const char *text, size_t n, unsigned flags, Ids *ids, Report *err) {
  Arena *arena = arena_new();
  Diags *d = diags_new(arena);
  bool ok = codec_encode(o->codec, text, n, flags, ids, d);
  if (!ok) report_diags(d, "the text cannot be tokenized: ", err);
  for (size_t i = 0; ok && i < ids->n; i++)
    if (ids->v[i] >= (uint32_t)o->model->limits.vocab)
      ok = report_add(err, "the text has the token id %u; the model has ids below %d", ids->v[i],
                      o->model->limits.vocab);
  arena_free(arena);
  return ok;
}
