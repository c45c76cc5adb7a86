/* Reading checkpoints: the newest whole one.
 *
 * A checkpoint is looked at in four sweeps. First state.json: its own checksum. Second its format version: all formats keep
 * that key and that checksum as they are, and nothing else need be as this program knows it. Third every file it lists:
 * present, and of the checksum listed. Fourth the meaning: spec hash, position, tensors. A failure of the first or the
 * third means damage: the folder is set aside and the next older one is tried. All other failures (a newer ink, another
 * program, a file that this user may not read) are no damage, and the run is refused, for an older checkpoint would be no
 * better. Parameters are written only after all that. */
#include "runtime/checkpoint.h"
#include "runtime/checkpoint_files.h"
#include "runtime/safetensors.h"
#include "runtime/weights.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATE_LIMIT = 16 << 20 };

typedef enum { WHOLE, DAMAGED, REFUSED } Health;

/* A file that could not be read: not there is damage; there, but kept from this user or by a failing disk, is none. */
static Health judge_unread(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  char byte;
  bool refused = fd < 0 ? errno != ENOENT && errno != ENOTDIR : read(fd, &byte, 1) < 0 && errno == EIO;
  if (fd >= 0) close(fd);
  return refused ? REFUSED : DAMAGED;
}

static const char *last_mark(const char *text) {
  const char *found = NULL;
  for (const char *at = text; (at = strstr(at, STATE_MARK)); at++) found = at;
  return found;
}

/* state.json as an object, when its checksum is right. */
static Health read_state(const char *dir, json_t **root, Report *why) {
  char path[FS_PATH];
  size_t n;
  *root = NULL;
  if (!fs_join(path, dir, "state.json", why)) return REFUSED;
  char *text = fs_read(path, STATE_LIMIT, &n, why);
  if (!text) return judge_unread(path);
  const char *mark = strlen(text) == n ? last_mark(text) : NULL;
  char want[32];
  if (mark) snprintf(want, sizeof(want), "%016" PRIx64 "\"\n}\n", fs_hash(text, (size_t)(mark - text)));
  json_error_t e;
  if (!mark || strcmp(mark + strlen(STATE_MARK), want))
    report_add(why, "state.json does not have the checksum it states");
  else if (!(*root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e)))
    report_add(why, "state.json:%d: %s", e.line, e.text);
  free(text);
  return *root ? WHOLE : DAMAGED;
}

static Health check_format(const json_t *root, Report *why) {
  json_int_t format = json_integer_value(json_object_get(root, "format"));
  if (format >= 1 && format <= CHECKPOINT_FORMAT) return WHOLE;
  report_add(why,
             "state.json: checkpoint format %" JSON_INTEGER_FORMAT
             "; this program reads format %d: build it with a newer ink",
             format, CHECKPOINT_FORMAT);
  return REFUSED;
}

/* Every file that state.json lists is there, byte for byte. */
static Health check_files(const char *dir, const json_t *root, Report *why) {
  json_t *files = json_object_get(root, "files"), *v;
  const char *name;
  Health health = WHOLE;
  if (!json_object_size(files)) {
    report_add(why, "state.json lists no files");
    return DAMAGED;
  }
  json_object_foreach(files, name, v) {
    char path[FS_PATH], have[24];
    FsMap m;
    if (strchr(name, '/') || !json_is_string(v)) {
      report_add(why, "state.json lists something that is no file");
      return DAMAGED;
    }
    if (!fs_join(path, dir, name, why)) return REFUSED;
    if (!fs_map(&m, path, why)) {
      Health h = judge_unread(path);
      if (h > health) health = h;
      continue;
    }
    snprintf(have, sizeof(have), "%016" PRIx64, fs_hash(m.at ? (const void *)m.at : "", m.n));
    fs_unmap(&m);
    if (strcmp(have, json_string_value(v))) {
      report_add(why, "%s does not have the checksum it was written with", name);
      if (health == WHOLE) health = DAMAGED;
    }
  }
  return health;
}

static double number_or_nan(const json_t *v) {
  return json_is_number(v) ? json_number_value(v) : NAN;
}

/* The meaning of a state.json that is whole. Sets *s, its settings on top. */
static bool read_meaning(const Program *p, const char *dir, const json_t *root, RunState *s, Report *err) {
  char own[24];
  snprintf(own, sizeof(own), "%016" PRIx64, p->h->spec_hash);
  const char *hash = json_string_value(json_object_get(root, "spec_hash"));
  if (!hash || strcmp(hash, own))
    return report_add(err,
                      "%s is of another program: its spec hash is %s, this program's is %s (weights alone: --init %s)",
                      dir, hash ? hash : "missing", own, dir);
  const json_t *data = json_object_get(root, "data"), *step = json_object_get(root, "step");
  const json_t *epoch = json_object_get(data, "epoch"), *index = json_object_get(data, "index");
  if (!json_is_integer(step) || !json_is_integer(epoch) || !json_is_integer(index) || json_integer_value(step) < 0 ||
      json_integer_value(epoch) < 0 || json_integer_value(index) < 0)
    return report_add(err, "%s: state.json lacks its step or data position", dir);
  s->step = json_integer_value(step);
  s->data = (LoaderState){(uint64_t)json_integer_value(epoch), (uint64_t)json_integer_value(index)};
  s->data_items = (uint64_t)json_integer_value(json_object_get(data, "items"));
  const char *order = json_string_value(json_object_get(data, "order"));
  s->order = order && !strcmp(order, "sequential") ? ORDER_SEQUENTIAL : ORDER_SHUFFLED;
  s->best_val = number_or_nan(json_object_get(root, "best_val"));
  s->last_val = number_or_nan(json_object_get(root, "last_val"));
  json_t *set = json_object_get(root, "settings");
  for (int i = 0; i < setting_count; i++) {
    const char *value = json_string_value(json_object_get(set, setting_table[i].key));
    if (value && !setting_table[i].build && !settings_set(&s->set, setting_table[i].key, value, err)) return false;
  }
  return true;
}

static bool load_state_tensors(Engine *e, const char *dir, Report *err) {
  const Program *p = engine_program(e);
  char path[FS_PATH];
  SafeFile *f = fs_join(path, dir, "optimizer.safetensors", err) ? safe_open(path, err) : NULL;
  if (!f) return false;
  bool ok = true;
  int kept = 0;
  for (int pass = 0; ok && pass < 2; pass++) /* check all, then load all */
    for (int i = 0; i < p->nbuffers; i++) {
      const ProgramBuffer *b = &p->buffers[i];
      if (!state_is_kept(p, i)) continue;
      const char *name = program_string(p, b->name);
      const SafeTensor *t = safe_find(f, name);
      kept += !pass;
      if (pass)
        safe_read(f, t, 0, t->elements, engine_buffer(e, i));
      else if (!t)
        ok = report_add(err, "%s: tensor '%s' is missing", path, name);
      else if (strcmp(t->dtype, "F32") || t->rank != b->rank || memcmp(t->dim, b->dim, b->rank * sizeof(int64_t)))
        ok = report_add(err, "%s: tensor '%s' is not of the program's shape and dtype", path, name);
    }
  if (ok && kept != f->n) ok = report_add(err, "%s: %d tensors; the program keeps %d", path, f->n, kept);
  safe_close(f);
  return ok;
}

/* A damaged folder out of the way, so that it is neither counted nor tried again. */
static void set_aside(const char *dir, Report *notes) {
  char to[FS_PATH];
  for (int i = 0; i < 100; i++) {
    int n = i ? snprintf(to, sizeof(to), "%s.damaged.%d", dir, i) : snprintf(to, sizeof(to), "%s.damaged", dir);
    if (n < 0 || n >= (int)sizeof(to)) return;
    if (fs_exists(to)) continue;
    if (!rename(dir, to)) report_add(notes, "it is set aside as %s", to);
    return;
  }
}

static bool only_damaged(const char *folder) {
  FsList names = {0};
  Report ignored = {0};
  bool found = false;
  if (fs_is_dir(folder) && fs_list_dir(&names, folder, &ignored))
    for (int i = 0; i < names.n; i++) found = found || strstr(names.name[i], ".damaged");
  fs_list_free(&names);
  report_free(&ignored);
  return found;
}

CheckpointResult checkpoint_load(Engine *e, RunState *s, const char *run, Report *notes, Report *err) {
  char folder[FS_PATH], dir[FS_PATH], name[64];
  int64_t *steps;
  if (!fs_join(folder, run, "checkpoints", err)) return CHECKPOINT_FAILED;
  int before = err->lines, n = checkpoint_steps(folder, &steps, err);
  CheckpointResult result = err->lines > before ? CHECKPOINT_FAILED : CHECKPOINT_NONE;
  if (!n && only_damaged(folder)) result = CHECKPOINT_FAILED; /* never start over without being asked to */
  for (int i = 0; i < n; i++) {
    snprintf(name, sizeof(name), "step-%" PRId64, steps[i]);
    if (!fs_join(dir, folder, name, err)) break;
    Report why = {0};
    json_t *root;
    Health health = read_state(dir, &root, &why);
    if (health == WHOLE) health = check_format(root, &why);
    if (health == WHOLE) health = check_files(dir, root, &why);
    if (health == DAMAGED) {
      report_add(notes, "%s is damaged and not loaded:\n%s", dir, why.text ? why.text : "");
      set_aside(dir, notes);
    } else if (health == REFUSED)
      report_add(err, "%s is not loaded:\n%s", dir, why.text ? why.text : "");
    bool ok = health == WHOLE && read_meaning(engine_program(e), dir, root, s, err) && weights_load(e, dir, err) &&
              load_state_tensors(e, dir, err);
    result = ok ? CHECKPOINT_LOADED : CHECKPOINT_FAILED;
    report_free(&why);
    json_decref(root);
    if (health != DAMAGED) break;
  }
  if (result == CHECKPOINT_FAILED && err->lines == before)
    report_add(err, "no checkpoint in %s is whole: put one back that is, or start anew with another --run", folder);
  free(steps);
  return result;
}
