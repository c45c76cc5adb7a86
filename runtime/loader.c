/* The loader. Which kind of data a program wants is written in its DATA buffers' `source`: tokens and targets, or images
 * and labels. Bounds for the ids come from the program where it says them (ProgramBuffer.bound, or the width of
 * next_logits), else from the data's meta.json. */
#include "runtime/loader.h"
#include "runtime/random.h"
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Loader {
  Engine *e;
  Dataset *train, *val;
  int64_t batch, time;
  uint64_t seed, train_samples, val_samples;
  LoaderOrder order;
  LoaderState at;
  uint64_t epoch; /* that the training set and the permutation stand in, when epoch_ready */
  bool epoch_ready;
  Shuffle shuffle;
  LoaderState *drawn; /* samples of the step: epoch, and sample (not position) in it */
  int64_t cap;
  int64_t pixels;
  bool images;
  char folder[FS_PATH];
  int64_t meta_vocab; /* 0: no meta.json, or none in it */
  TokenFormat format;
};

/* ---- what files there are */

/* Names out of meta.json's "train" or "val": plain file names beside it. */
static bool meta_files(const json_t *meta, const char *key, const char *dir, FsList *out, Report *err) {
  const json_t *v = json_object_get(meta, key);
  size_t n = json_is_array(v) ? json_array_size(v) : json_is_string(v) ? 1 : 0;
  for (size_t i = 0; i < n; i++) {
    const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;
    if (json_is_object(item)) item = json_object_get(item, "file");
    const char *name = json_string_value(item);
    char path[FS_PATH];
    if (!name || !*name || strchr(name, '/'))
      return report_add(err, "%s/meta.json: '%s' lists something that is no file name", dir, key);
    if (!fs_join(path, dir, name, err) || !fs_list_add(out, path)) return false;
  }
  return true;
}

static bool matches(const char *dir, const char *pattern, FsList *out, Report *err) {
  FsList names = {0};
  if (!fs_list_dir(&names, dir, err)) return false;
  size_t n = strlen(pattern);
  bool ok = true;
  for (int i = 0; ok && i < names.n; i++) {
    const char *name = names.name[i];
    size_t len = strlen(name);
    char path[FS_PATH];
    if (!strncmp(name, pattern, n) && len > 4 && !strcmp(name + len - 4, ".bin"))
      ok = fs_join(path, dir, name, err) && fs_list_add(out, path);
  }
  fs_list_free(&names);
  return ok;
}

static bool read_meta(Loader *l, const char *dir, FsList *train, FsList *val, Report *err) {
  char path[FS_PATH];
  if (!fs_join(path, dir, "meta.json", err)) return false;
  if (!fs_exists(path)) return true;
  size_t n;
  char *text = fs_read(path, 1 << 20, &n, err);
  if (!text) return false;
  json_error_t e;
  json_t *meta = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
  free(text);
  if (!json_is_object(meta)) {
    bool bad = meta != NULL;
    json_decref(meta);
    return bad ? report_add(err, "%s: not an object", path)
               : report_add(err, "%s:%d:%d: %s", path, e.line, e.column, e.text);
  }
  l->meta_vocab = (int64_t)json_integer_value(json_object_get(meta, "vocab_size"));
  const char *format = json_string_value(json_object_get(meta, "format")); /* who prepared the data knows best */
  if (format && !strcmp(format, "nanogpt")) l->format = FORMAT_NANOGPT;
  if (format && !strcmp(format, "llmc")) l->format = FORMAT_LLMC;
  bool ok = meta_files(meta, "train", dir, train, err) && meta_files(meta, "val", dir, val, err);
  json_decref(meta);
  return ok;
}

/* Token files for training and validation. */
static bool find_tokens(Loader *l, const char *data, const char *val, FsList *train, FsList *valid, Report *err) {
  if (data && fs_is_dir(data)) {
    if (!read_meta(l, data, train, valid, err)) return false;
    if (!train->n && !matches(data, "train", train, err)) return false;
    if (!valid->n && !matches(data, "val", valid, err)) return false;
    if (!train->n) return report_add(err, "%s holds no train*.bin and no meta.json that lists files", data);
  } else if (data) {
    if (!fs_list_glob(train, data, err)) return false;
    if (!train->n) return report_add(err, "--data %s: no such file or folder", data);
  }
  if (val) {
    fs_list_free(valid);
    if (fs_is_dir(val) ? !matches(val, "val", valid, err) : !fs_list_glob(valid, val, err)) return false;
    if (!valid->n) return report_add(err, "--val %s: no such files", val);
  }
  return true;
}

static bool idx_path(char path[FS_PATH], const char *dir, const char *set, const char *what, int rank, Report *err) {
  for (int i = 0; i < 2; i++) { /* both spellings are about */
    char name[128];
    snprintf(name, sizeof(name), "%s-%s%cidx%d-ubyte", set, what, "-."[i], rank);
    if (!fs_join(path, dir, name, err)) return false;
    if (fs_exists(path)) return true;
  }
  return false;
}

static Dataset *find_images(const Loader *l, const char *dir, const char *set, int64_t classes, bool must,
                            Report *err) {
  char images[FS_PATH], labels[FS_PATH];
  bool a = idx_path(images, dir, set, "images", 3, err), b = idx_path(labels, dir, set, "labels", 1, err);
  if (a && b) return idx_open(images, labels, l->pixels, classes, err);
  if (must || a || b) report_add(err, "%s holds no %s-images-idx3-ubyte with %s-labels-idx1-ubyte", dir, set, set);
  return NULL;
}

/* ---- opening */

/* What a checkpoint copies out of the data's folder (checkpoint.c) must lie in it: a link to elsewhere could carry any file of
 * the user's into a folder that is made to be given away. Shards may be links, for they are only read. */
static bool is_inside(const char *dir, const char *name, Report *err) {
  char path[FS_PATH], root[PATH_MAX], real[PATH_MAX];
  if (!fs_join(path, dir, name, err)) return false;
  if (!fs_exists(path) || !realpath(path, real) || !realpath(dir, root)) return true;
  size_t n = strlen(root);
  if (!strncmp(real, root, n) && (real[n] == '/' || !strcmp(root, "/"))) return true;
  return report_add(err, "%s is a link to %s, outside of its folder; checkpoints copy it: put the file itself there",
                    path, real);
}

static bool check_links(const char *dir, Report *err) {
  static const char *const copied[] = {".json", ".txt", ".model", ".jinja"}; /* ends of the names */
  FsList names = {0};
  char sub[FS_PATH];
  bool ok = fs_list_dir(&names, dir, err);
  for (int i = 0; ok && i < names.n; i++) {
    const char *name = names.name[i], *dot = strrchr(name, '.');
    bool may = !strcmp(name, "tokenizer");
    for (size_t k = 0; dot && k < sizeof(copied) / sizeof(copied[0]); k++) may = may || !strcmp(dot, copied[k]);
    ok = !may || is_inside(dir, name, err);
  }
  fs_list_free(&names);
  if (!ok || !fs_join(sub, dir, "tokenizer", err) || !fs_is_dir(sub)) return ok;
  ok = fs_list_dir(&names, sub, err);
  for (int i = 0; ok && i < names.n; i++) ok = is_inside(sub, names.name[i], err);
  fs_list_free(&names);
  return ok;
}

/* Ids of a DATA buffer must lie below this. */
static int64_t id_bound(const Loader *l, int buffer, Report *err) {
  const Program *p = engine_program(l->e);
  const char *source = program_string(p, p->buffers[buffer].source);
  int64_t bound = p->buffers[buffer].bound;
  int logits = program_buffer(p, "next_logits");
  if (!bound && logits >= 0 && p->buffers[logits].rank && (!strcmp(source, "tokens") || !strcmp(source, "targets")))
    bound = p->buffers[logits].dim[p->buffers[logits].rank - 1];
  if (!bound) bound = l->meta_vocab;
  if (!bound)
    report_add(err, "cannot tell which %s the model knows: neither the program nor a meta.json says it", source);
  return bound;
}

static bool check_shape(const Program *p, int buffer, const char *source, int dtype, int64_t elements, Report *err) {
  const ProgramBuffer *b = &p->buffers[buffer];
  if (b->dtype != dtype || buffer_elements(b) != elements)
    return report_add(err, "broken program: its '%s' are %s with %" PRId64 " elements, not %s with %" PRId64, source,
                      dtype_text(b->dtype), buffer_elements(b), dtype_text(dtype), elements);
  return true;
}

static bool open_tokens(Loader *l, const char *data, const char *val, Report *err) {
  const Program *p = engine_program(l->e);
  int tokens = program_source(p, "tokens"), targets = program_source(p, "targets");
  if (l->time < 1) return report_add(err, "broken program: tokens without a length of time");
  if (!check_shape(p, tokens, "tokens", DTYPE_I32, l->batch * l->time, err)) return false;
  if (targets >= 0 && !check_shape(p, targets, "targets", DTYPE_I32, l->batch * l->time, err)) return false;
  FsList train = {0}, valid = {0};
  bool ok = find_tokens(l, data, val, &train, &valid, err);
  int64_t vocab = ok ? id_bound(l, tokens, err) : 0;
  if (ok && targets >= 0 && p->buffers[targets].bound && (int64_t)p->buffers[targets].bound < vocab)
    vocab = p->buffers[targets].bound;
  ok = ok && vocab > 0;
  if (ok && l->meta_vocab > vocab)
    ok = report_add(err, "%s was prepared with %" PRId64 " token ids; the model knows %" PRId64, data, l->meta_vocab,
                    vocab);
  if (ok && train.n) ok = (l->train = tokens_open(&train, l->format, l->time, vocab, err)) != NULL;
  if (ok && valid.n) ok = (l->val = tokens_open(&valid, l->format, l->time, vocab, err)) != NULL;
  fs_list_free(&train);
  fs_list_free(&valid);
  return ok;
}

static bool open_images(Loader *l, const char *data, const char *val, Report *err) {
  const Program *p = engine_program(l->e);
  int images = program_source(p, "images"), labels = program_source(p, "labels");
  if (labels < 0) return report_add(err, "broken program: images without labels");
  l->pixels = buffer_elements(&p->buffers[images]) / l->batch;
  if (!check_shape(p, images, "images", DTYPE_F32, l->batch * l->pixels, err) ||
      !check_shape(p, labels, "labels", DTYPE_I32, l->batch, err))
    return false;
  int64_t classes = p->buffers[labels].bound ? p->buffers[labels].bound : 256;
  if (data && !fs_is_dir(data)) return report_add(err, "--data %s: a folder with idx files is wanted", data);
  if (data && !(l->train = find_images(l, data, "train", classes, true, err))) return false;
  if (val && !fs_is_dir(val)) return report_add(err, "--val %s: a folder with idx files is wanted", val);
  int before = err->lines;
  const char *dir = val ? val : data;
  if (dir) l->val = find_images(l, dir, "t10k", classes, val != NULL, err);
  return err->lines == before;
}

/* The data set and the permutation of one epoch; a step may straddle two, so this is called whenever the epoch changes. */
static bool enter_epoch(Loader *l, uint64_t epoch) {
  if (l->epoch_ready && l->epoch == epoch) return true;
  l->train_samples = l->train->begin(l->train, l->seed, l->order == ORDER_SHUFFLED ? (int64_t)epoch : -1);
  l->shuffle = shuffle_new(l->train_samples, l->seed, epoch);
  l->epoch = epoch;
  l->epoch_ready = true;
  return l->train_samples > 0;
}

Loader *loader_open(Engine *e, const char *data, const char *val, TokenFormat format, LoaderOrder order, uint64_t seed,
                    Report *err) {
  const Program *p = engine_program(e);
  Loader *l = calloc(1, sizeof(Loader));
  if (!l) {
    report_add(err, "out of memory");
    return NULL;
  }
  *l = (Loader){.e = e, .batch = p->h->batch, .time = p->h->time, .seed = seed, .order = order, .format = format};
  l->images = program_source(p, "images") >= 0;
  if (data && fs_is_dir(data)) snprintf(l->folder, sizeof(l->folder), "%s", data);
  bool ok = !l->folder[0] || check_links(l->folder, err);
  if (ok)
    ok = l->images                          ? open_images(l, data, val, err)
         : program_source(p, "tokens") >= 0 ? open_tokens(l, data, val, err)
                                            : report_add(err, "this program reads neither tokens nor images");
  if (ok && l->train && !enter_epoch(l, 0)) {
    if (l->images)
      ok = report_add(err, "%s holds no images", data);
    else
      ok = report_add(err, "%s: no shard has the %" PRId64 " tokens of one window and its targets", data, l->time + 1);
  }
  if (ok && l->val) l->val_samples = l->val->begin(l->val, seed, -1);
  if (ok && l->val && !l->val_samples) ok = report_add(err, "the validation data is empty");
  if (!ok) {
    loader_close(l);
    return NULL;
  }
  return l;
}

void loader_close(Loader *l) {
  if (!l) return;
  if (l->train) l->train->close(l->train);
  if (l->val) l->val->close(l->val);
  free(l->drawn);
  free(l);
}

LoaderState loader_state(const Loader *l) {
  return l->at;
}

bool loader_seek(Loader *l, LoaderState s) {
  if (!l->train || s.epoch > UINT64_C(1) << 38 || !enter_epoch(l, s.epoch) || s.index > l->train_samples) return false;
  l->at = s;
  return true;
}

uint64_t loader_items(const Loader *l) {
  return l->train ? l->train->items : 0;
}

const char *loader_folder(const Loader *l) {
  return l->folder[0] ? l->folder : NULL;
}

static int describe(const Loader *l, const Dataset *d, const char *what, char *text, size_t n) {
  char docs[48] = "";
  if (d->documents) snprintf(docs, sizeof(docs), ", %" PRIu64 " documents", d->documents);
  return snprintf(text, n, "%s %" PRIu64 " %s in %d file%s%s", what, d->items, l->images ? "images" : "tokens",
                  d->nfiles, d->nfiles == 1 ? "" : "s", docs);
}

void loader_describe(const Loader *l, char *text, size_t n) {
  int at = 0;
  text[0] = 0;
  if (l->train) at = describe(l, l->train, "train:", text, n);
  if (l->val && at >= 0 && (size_t)at + 3 < n) {
    if (at) at += snprintf(text + at, n - (size_t)at, "; ");
    describe(l, l->val, "validation:", text + at, n - (size_t)at);
  }
}

/* ---- samples of a step */

int64_t loader_draw(Loader *l, int64_t micro_batches, Report *err) {
  int64_t n = micro_batches * l->batch, valid = 0;
  if (!l->train) {
    report_add(err, "there is no training data: --data");
    return -1;
  }
  if (n > l->cap) {
    LoaderState *grown = realloc(l->drawn, (size_t)n * sizeof(LoaderState));
    if (!grown) {
      report_add(err, "out of memory");
      return -1;
    }
    l->drawn = grown;
    l->cap = n;
  }
  for (int64_t i = 0; i < n; i++) {
    enter_epoch(l, l->at.epoch);
    if (l->at.index >= l->train_samples) {
      l->at = (LoaderState){l->at.epoch + 1, 0};
      enter_epoch(l, l->at.epoch);
    }
    uint64_t sample = l->order == ORDER_SHUFFLED ? shuffle_at(&l->shuffle, l->at.index) : l->at.index;
    l->at.index++;
    l->drawn[i] = (LoaderState){l->at.epoch, sample};
    valid += l->train->valid(l->train, sample);
  }
  return valid;
}

/* Where row r of the micro-batch lies in the program's buffers. */
static Row row_at(Loader *l, int64_t r) {
  const Program *p = engine_program(l->e);
  int tokens = program_source(p, "tokens"), targets = program_source(p, "targets");
  int images = program_source(p, "images"), labels = program_source(p, "labels");
  Row row = {0};
  if (tokens >= 0) row.tokens = (int32_t *)engine_buffer(l->e, tokens) + r * l->time;
  if (targets >= 0) row.targets = (int32_t *)engine_buffer(l->e, targets) + r * l->time;
  if (images >= 0) row.images = (float *)engine_buffer(l->e, images) + r * l->pixels;
  if (labels >= 0) row.labels = (int32_t *)engine_buffer(l->e, labels) + r;
  return row;
}

/* A source of "positions" holds 0, 1, ... along time in every row. */
static void fill_positions(Loader *l) {
  const Program *p = engine_program(l->e);
  int i = program_source(p, "positions");
  if (i < 0 || p->buffers[i].dtype != DTYPE_I32 || l->time < 1) return;
  int32_t *at = engine_buffer(l->e, i);
  for (int64_t k = 0, n = buffer_elements(&p->buffers[i]); k < n; k++) at[k] = (int32_t)(k % l->time);
}

bool loader_fill(Loader *l, int64_t micro, Report *err) {
  fill_positions(l);
  for (int64_t r = 0; r < l->batch; r++) {
    LoaderState s = l->drawn[micro * l->batch + r];
    Row row = row_at(l, r);
    enter_epoch(l, s.epoch);
    if (l->train->fill(l->train, s.index, &row, err) < 0) return false;
  }
  return true;
}

int64_t loader_val_batches(const Loader *l) {
  return (int64_t)((l->val_samples + (uint64_t)l->batch - 1) / (uint64_t)l->batch);
}

int64_t loader_fill_val(Loader *l, int64_t batch, Report *err) {
  int64_t counted = 0;
  fill_positions(l);
  for (int64_t r = 0; r < l->batch; r++) {
    uint64_t sample = (uint64_t)(batch * l->batch + r);
    Row row = row_at(l, r);
    if (sample < l->val_samples) {
      int64_t n = l->val->fill(l->val, sample, &row, err);
      if (n < 0) return -1;
      counted += n;
      continue;
    }
    for (int64_t k = 0; k < l->time; k++) {
      if (row.tokens) row.tokens[k] = 0;
      if (row.targets) row.targets[k] = -1;
    }
    if (row.images) memset(row.images, 0, (size_t)l->pixels * sizeof(float));
    if (row.labels) *row.labels = -1;
  }
  return counted;
}
