/* Writing checkpoints. The order of operations is the guarantee:
 *
 *   1. the run folder's own name and that of checkpoints/ are synced when they are made (fs_mkdirs);
 *   2. checkpoints/.tmp-step-N/ gets every file, each synced; state.json comes last and holds the others' checksums
 *      (XXH3) and its own;
 *   3. the folder is synced, renamed to step-N, and checkpoints/ is synced: from here on the checkpoint is saved;
 *   4. `latest` is a new symlink renamed over the old one, and checkpoints/ is synced;
 *   5. only then do checkpoints beyond the newest K go, each renamed out of the way before its files are removed.
 *
 * A kill or a loss of power between any two system calls leaves the last saved checkpoint loadable; tests/crash cuts
 * between all of them. Reading is in checkpoint_load.c. */
#include "runtime/checkpoint.h"
#include "ink/base.h"
#include "runtime/checkpoint_files.h"
#include "runtime/weights.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- state buffers that a checkpoint holds */

static bool is_gradient(const Program *p, int buffer) {
  for (int i = 0; i < p->nparams; i++)
    if ((int)p->params[i].grad == buffer) return true;
  return false;
}

bool state_is_kept(const Program *p, int buffer) {
  const ProgramBuffer *b = &p->buffers[buffer];
  const char *name = program_string(p, b->name);
  return b->kind == BUF_STATE && !is_gradient(p, buffer) && strcmp(name, "loss_sum") && strcmp(name, "grad_norm") &&
         strncmp(name, "grad.", 5);
}

typedef struct Writing {
  const char *dir;
  json_t *files; /* name: checksum */
  Report *err;
} Writing;

static bool record(void *ctx, const char *file, uint64_t hash) {
  Writing *w = ctx;
  char text[24];
  snprintf(text, sizeof(text), "%016" PRIx64, hash);
  return !json_object_set_new(w->files, file, json_string(text)) || report_add(w->err, "out of memory");
}

static bool write_state(Engine *e, Writing *w) {
  const Program *p = engine_program(e);
  SafeItem *items = calloc((size_t)p->nbuffers + 1, sizeof(SafeItem));
  bool ok = items != NULL || report_add(w->err, "out of memory");
  int n = 0;
  for (int i = 0; ok && i < p->nbuffers; i++) {
    const ProgramBuffer *b = &p->buffers[i];
    if (!state_is_kept(p, i)) continue;
    if (b->dtype != DTYPE_F32)
      ok = report_add(w->err, "the state '%s' is %s; this runtime saves f32", program_string(p, b->name),
                      dtype_text(b->dtype));
    items[n++] = (SafeItem){program_string(p, b->name), b->rank, b->dim};
  }
  FsWriter *out = ok ? fs_writer_open(w->dir, "optimizer.safetensors", w->err) : NULL;
  uint64_t hash = 0;
  if (out) {
    ok = safe_write_header(out, items, n, NULL, NULL, w->err);
    for (int i = 0; ok && i < n; i++)
      fs_writer_add(out, engine_named(e, items[i].name), (size_t)safe_elements(&items[i]) * sizeof(float));
    ok = fs_writer_close(out, &hash, w->err) && ok;
  }
  free(items);
  return ok && out && record(w, "optimizer.safetensors", hash);
}

/* ---- small files */

static bool write_small(Writing *w, const char *name, const void *bytes, size_t n) {
  FsWriter *out = fs_writer_open(w->dir, name, w->err);
  uint64_t hash;
  if (!out) return false;
  fs_writer_add(out, bytes, n);
  return fs_writer_close(out, &hash, w->err) && record(w, name, hash);
}

/* Names that this file writes itself, and so that no copied file may take. */
static bool is_reserved(const char *name) {
  return !strncmp(name, "model", 5) || !strncmp(name, "optimizer", 9) || !strcmp(name, "state.json") ||
         !strcmp(name, "config.json") || !strcmp(name, "generation_config.json");
}

static bool copy_file(Writing *w, const char *dir, const char *name) {
  enum { LIMIT = 256 << 20 };
  char path[FS_PATH];
  struct stat st;
  if (!fs_join(path, dir, name, w->err)) return false;
  if (stat(path, &st) || !S_ISREG(st.st_mode) || json_object_get(w->files, name)) return true;
  size_t n;
  char *bytes = fs_read(path, LIMIT, &n, w->err);
  bool ok = bytes && write_small(w, name, bytes, n);
  free(bytes);
  return ok;
}

static bool copy_tokenizer(Writing *w, const char *data_dir) {
  static const char *const known[] = {
      "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
      "merges.txt",     "tokenizer.model",       "chat_template.jinja"};
  char dir[FS_PATH];
  if (!data_dir) return true;
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
    if (!copy_file(w, data_dir, known[i])) return false;
  if (!fs_join(dir, data_dir, "tokenizer", w->err)) return false;
  if (!fs_is_dir(dir)) return true;
  FsList names = {0};
  bool ok = fs_list_dir(&names, dir, w->err);
  for (int i = 0; ok && i < names.n; i++)
    if (!is_reserved(names.name[i]) && names.name[i][0] != '.') ok = copy_file(w, dir, names.name[i]);
  fs_list_free(&names);
  return ok;
}

static bool write_program_files(Writing *w, const Program *p) {
  for (int i = 0; i < p->nfiles; i++) {
    const char *name = program_string(p, p->files[i].name), *text = program_string(p, p->files[i].text);
    if (!*name || strchr(name, '/') || name[0] == '.')
      return report_add(w->err, "broken program: a file named '%s'", name);
    if (!write_small(w, name, text, strlen(text))) return false;
  }
  return true;
}

/* ---- state.json */

static json_t *number_or_null(double v) {
  return isfinite(v) ? json_real(v) : json_null();
}

static json_t *describe(const Program *p, const RunState *s, json_t *files) {
  char hash[24];
  snprintf(hash, sizeof(hash), "%016" PRIx64, p->h->spec_hash);
  json_t *set = json_object();
  for (int i = 0; i < setting_count; i++) {
    char text[64];
    json_object_set_new(set, setting_table[i].key, json_string(settings_text(&s->set, i, text)));
  }
  json_t *root = json_object();
  json_object_set_new(root, "format", json_integer(CHECKPOINT_FORMAT));
  json_object_set_new(root, "ink", json_string(INK_VERSION));
  json_object_set_new(root, "model", json_string(program_string(p, p->h->model)));
  json_object_set_new(root, "spec_hash", json_string(hash));
  json_object_set_new(root, "step", json_integer(s->step));
  json_t *data = json_object();
  json_object_set_new(data, "epoch", json_integer((json_int_t)s->data.epoch));
  json_object_set_new(data, "index", json_integer((json_int_t)s->data.index));
  json_object_set_new(data, "items", json_integer((json_int_t)s->data_items));
  json_object_set_new(data, "order", json_string(s->order == ORDER_SEQUENTIAL ? "sequential" : "shuffled"));
  json_object_set_new(root, "data", data);
  json_t *random = json_object();
  json_object_set_new(random, "generator", json_string("philox4x32-10"));
  json_object_set_new(random, "seed", json_integer(s->set.seed));
  json_object_set_new(root, "random", random);
  json_object_set_new(root, "best_val", number_or_null(s->best_val));
  json_object_set_new(root, "last_val", number_or_null(s->last_val));
  json_object_set_new(root, "settings", set);
  json_object_set(root, "files", files);
  return root;
}

/* The object's text without its last brace, then the checksum of all before it. */
static bool write_description(Writing *w, const Program *p, const RunState *s) {
  json_t *root = describe(p, s, w->files);
  char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
  json_decref(root);
  size_t n = text ? strlen(text) : 0;
  FsWriter *out = n > 2 ? fs_writer_open(w->dir, "state.json", w->err) : NULL;
  bool ok = out != NULL || report_add(w->err, "cannot write state.json");
  if (out) {
    char end[64];
    n -= 2; /* "\n}" */
    fs_writer_add(out, text, n);
    fs_writer_add(out, STATE_MARK, strlen(STATE_MARK));
    int k = snprintf(end, sizeof(end), "%016" PRIx64 "\"\n}\n", fs_hash(text, n));
    fs_writer_add(out, end, (size_t)k);
    ok = fs_writer_close(out, NULL, w->err);
  }
  free(text);
  return ok;
}

/* ---- folders */

int64_t checkpoint_step(const char *name) {
  if (strncmp(name, "step-", 5) || strlen(name) > 5 + 18) return -1;
  const char *digits = name + 5;
  if (!*digits || strspn(digits, "0123456789") != strlen(digits)) return -1;
  return strtoll(digits, NULL, 10);
}

static int newest_first(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x > y ? -1 : x < y;
}

int checkpoint_steps(const char *folder, int64_t **steps, Report *err) {
  FsList names = {0};
  *steps = NULL;
  int n = 0;
  if (!fs_is_dir(folder)) return 0;
  if (fs_list_dir(&names, folder, err) && (*steps = calloc((size_t)names.n + 1, sizeof(int64_t))))
    for (int i = 0; i < names.n; i++) {
      int64_t step = checkpoint_step(names.name[i]);
      if (step >= 0) (*steps)[n++] = step;
    }
  fs_list_free(&names);
  if (n) qsort(*steps, (size_t)n, sizeof(int64_t), newest_first);
  return n;
}

/* step-N out of the way at once, then its files; what a kill leaves is cleaned at the next start. */
static bool remove_step(const char *folder, int64_t step, Report *err) {
  char from[FS_PATH], to[FS_PATH], name[64];
  snprintf(name, sizeof(name), "step-%" PRId64, step);
  if (!fs_join(from, folder, name, err)) return false;
  snprintf(name, sizeof(name), ".old-step-%" PRId64, step);
  if (!fs_join(to, folder, name, err)) return false;
  if (fs_exists(to) && !fs_remove_flat(to, err)) return false;
  if (rename(from, to)) return fs_failed(err, "rename", from, errno);
  return fs_remove_flat(to, err);
}

static bool point_latest(const char *folder, const char *name, Report *err) {
  char aside[FS_PATH];
  if (!fs_join(aside, folder, ".tmp-latest", err)) return false;
  unlink(aside);
  if (symlink(name, aside)) return fs_failed(err, "write", aside, errno);
  return fs_rename(folder, ".tmp-latest", "latest", err);
}

static bool prune(const char *folder, int64_t keep, Report *err) {
  int64_t *steps;
  int n = checkpoint_steps(folder, &steps, err);
  bool ok = true;
  for (int64_t i = keep < 1 ? 1 : keep; ok && i < n; i++) ok = remove_step(folder, steps[i], err);
  free(steps);
  return ok;
}

bool checkpoint_save(Engine *e, const RunState *s, const char *run, const char *data_dir, Report *err) {
  const Program *p = engine_program(e);
  char folder[FS_PATH], aside[FS_PATH], final[FS_PATH], name[64], tmp[80];
  snprintf(name, sizeof(name), "step-%" PRId64, s->step);
  snprintf(tmp, sizeof(tmp), ".tmp-%s", name);
  if (!fs_join(folder, run, "checkpoints", err) || !fs_mkdirs(folder, err)) return false;
  if (!fs_join(aside, folder, tmp, err) || !fs_join(final, folder, name, err)) return false;
  if (fs_exists(aside) && !fs_remove_flat(aside, err)) return false;
  if (mkdir(aside, 0777)) return fs_failed(err, "make the folder", aside, errno);
  Writing w = {aside, json_object(), err};
  bool ok = weights_save(e, aside, 0, record, &w, err) && write_state(e, &w) && write_program_files(&w, p) &&
            copy_tokenizer(&w, data_dir) && write_description(&w, p, s) && fs_sync_dir(aside, err);
  json_decref(w.files);
  if (!ok) {
    Report ignored = {0};
    fs_remove_flat(aside, &ignored); /* a full disk should not stay full */
    report_free(&ignored);
    return false;
  }
  if (fs_exists(final) && !remove_step(folder, s->step, err)) return false;
  return fs_rename(folder, tmp, name, err) && point_latest(folder, name, err) && prune(folder, s->set.ckpt_keep, err);
}

bool checkpoint_settle(const char *run, int64_t step, int64_t keep, Report *err) {
  char folder[FS_PATH], path[FS_PATH], name[64], now[64] = "";
  snprintf(name, sizeof(name), "step-%" PRId64, step);
  if (!fs_join(folder, run, "checkpoints", err) || !fs_join(path, folder, "latest", err)) return false;
  ssize_t n = readlink(path, now, sizeof(now) - 1);
  now[n > 0 ? n : 0] = 0;
  /* First the name that was loaded: who gave it may have been killed before the sync, and older ones are to go. */
  return fs_sync_dir(folder, err) && prune(folder, keep, err) &&
         (!strcmp(now, name) || point_latest(folder, name, err));
}

/* Names that this program gives to what it has not finished, or is about to remove. */
static bool is_leftover(const char *name) {
  return !strncmp(name, ".tmp-", 5) || !strncmp(name, ".old-step-", 10);
}

static void clean_folder(const char *folder, Report *ignored) {
  char path[FS_PATH];
  FsList names = {0};
  if (fs_is_dir(folder) && fs_list_dir(&names, folder, ignored))
    for (int i = 0; i < names.n; i++)
      if (is_leftover(names.name[i]) && fs_join(path, folder, names.name[i], ignored) && unlink(path))
        fs_remove_flat(path, ignored);
  fs_list_free(&names);
}

void checkpoint_clean(const char *run) {
  char folder[FS_PATH];
  Report ignored = {0};
  clean_folder(run, &ignored);
  if (fs_join(folder, run, "checkpoints", &ignored)) clean_folder(folder, &ignored);
  report_free(&ignored);
}
