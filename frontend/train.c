/* TRAIN.yaml: the settings of include/ink/train.def, checked. Keys nest (`adamw: {beta1: 0.9}`) or are written whole
 * (`adamw.beta1: 0.9`). Values stay text, as they are passed to the program; each was checked for its kind and range. */
#include "frontend/frontend.h"
#include "frontend/yaml.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum Kind { KIND_num, KIND_int, KIND_str };
enum When { WHEN_run, WHEN_build };
enum {
#define KEY(id, ...) KEY_##id,
#include "ink/train.def"
  KEY_COUNT
};

typedef struct KeyRow {
  const char *name;
  enum Kind kind;
  const char *value;
  double low, high;
  enum When when;
} KeyRow;

static const KeyRow key_row[] = {
#define KEY(id, name, kind, value, low, high, when, doc) {name, KIND_##kind, value, low, high, WHEN_##when},
#include "ink/train.def"
};
static const char *const key_name[] = {
#define KEY(id, name, ...) name,
#include "ink/train.def"
};
_Static_assert(KEY_COUNT <= LEN(((TrainSpec *)0)->value), "TrainSpec.value holds every key");

/* The words that a text setting may be. */
static const char *const schedules[] = {"cosine", "linear", "constant"};
static const char *const dtypes[] = {"f32", "bf16"};

int train_key(const char *key) {
  for (int i = 0; i < KEY_COUNT; i++)
    if (!strcmp(key_name[i], key)) return i;
  return -1;
}

static const char *check_word(Arena *a, const char *key, const char *value, const char *const *words, int n) {
  Text list = {0};
  for (int i = 0; i < n; i++) {
    if (!strcmp(words[i], value)) {
      text_free(&list);
      return NULL;
    }
    text_add(&list, "%s%s", i ? ", " : "", words[i]);
  }
  const char *near = near_miss(value, words, n);
  const char *what = near ? arena_printf(a, "%s: unknown value '%.60s'; did you mean '%s'?", key, value, near)
                          : arena_printf(a, "%s: unknown value '%.60s'; expected %s", key, value, list.s);
  text_free(&list);
  return what;
}

static const char *check_number(Arena *a, const KeyRow *row, const char *value) {
  bool whole = row->kind == KIND_int;
  const char *allowed = whole ? "0123456789" : "0123456789+-.eE";
  char *end = NULL;
  double v = strtod(value, &end);
  if (*value == '-' && whole && strspn(value + 1, allowed) == strlen(value + 1) && value[1]) allowed = "-0123456789";
  if (!*value || value[strspn(value, allowed)] || *end)
    return arena_printf(a, "%s: expected %s, found '%.60s'", row->name, whole ? "an integer" : "a number", value);
  if (!(v >= row->low && v <= row->high))
    return arena_printf(a, "%s: %.60s is out of the range %g to %g", row->name, value, row->low, row->high);
  return NULL;
}

/* A key may have lost its section: its last part is compared, too. */
const char *train_nearest(const char *word) {
  const char *all[2 * KEY_COUNT], *leaf[KEY_COUNT];
  int n = 0;
  for (int i = 0; i < KEY_COUNT; i++) {
    const char *dot = strchr(key_name[i], '.');
    leaf[i] = dot ? dot + 1 : key_name[i];
    all[n++] = key_name[i];
    if (dot) all[n++] = internn(key_name[i], (size_t)(dot - key_name[i]));
  }
  const char *near = near_miss(word, all, n), *last = near_miss(word, leaf, KEY_COUNT);
  for (int i = 0; i < KEY_COUNT; i++)
    if (leaf[i] == last && (!near || !strcmp(last, word))) return key_name[i];
  return near;
}

const char *train_check(Arena *a, const char *key, const char *value, bool at_run) {
  int k = train_key(key);
  if (k < 0) {
    const char *near = train_nearest(key);
    if (near) return arena_printf(a, "unknown setting '%.60s'; did you mean '%s'?", key, near);
    return arena_printf(a, "unknown setting '%.60s'", key);
  }
  if (at_run && key_row[k].when == WHEN_build)
    return arena_printf(a, "%s is fixed when the program is built; build it again with --set %s=%.60s", key, key,
                        value);
  if (k == KEY_schedule) return check_word(a, key, value, schedules, LEN(schedules));
  if (k == KEY_dtype) return check_word(a, key, value, dtypes, LEN(dtypes));
  int64_t bytes;
  if (k == KEY_memory)
    return train_bytes(value, &bytes)
               ? NULL
               : arena_printf(a, "memory: expected none or an amount such as 8GiB, 500MiB or 1073741824, found '%.60s'",
                              value);
  return check_number(a, &key_row[k], value);
}

/* "8GiB", "1.5 MiB", "4096": at most 4 EiB. */
bool train_bytes(const char *text, int64_t *bytes) {
  static const struct Unit {
    const char *name;
    double bytes;
  } units[] = {{"", 1}, {"KiB", 1024}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1024. * (1 << 30)}};
  size_t digits = strspn(text, "0123456789."), blanks = strspn(text + digits, " ");
  char *end;
  double v = strtod(text, &end);
  *bytes = 0;
  if (!strcmp(text, "none")) return true;
  if (!digits || digits > 20 || blanks > 1 || end != text + digits) return false;
  for (int i = 0; i < LEN(units); i++)
    if (!strcmp(text + digits + blanks, units[i].name)) v *= units[i].bytes, end = NULL;
  if (end || v < 1 || v > 4. * (1ll << 60) || (v != floor(v) && text[digits] == 0)) return false;
  *bytes = (int64_t)v;
  return true;
}

typedef struct TrainReader {
  Arena *arena;
  Diags *diags;
  TrainSpec *spec;
  Span at[KEY_COUNT];
  bool ok;
} TrainReader;

/* The names of the keys of a section, for the message. */
static bool is_section(const char *name) {
  size_t n = strlen(name);
  for (int i = 0; i < KEY_COUNT; i++)
    if (!strncmp(key_name[i], name, n) && key_name[i][n] == '.') return true;
  return false;
}

static void read_map(TrainReader *r, const YNode *map, const char *prefix) {
  for (int i = 0; i < map->n; i++) {
    const YNode *key = map->pair[i].key, *value = map->pair[i].value;
    const char *name = *prefix ? arena_printf(r->arena, "%s.%s", prefix, key->text) : key->text;
    int k = train_key(name);
    if (k < 0 && value->kind == Y_MAP && is_section(name)) {
      read_map(r, value, name);
    } else if (k < 0) {
      const char *near = train_nearest(name);
      const char *hint = is_section(name) ? "it is a section: name the setting in it"
                         : near           ? arena_printf(r->arena, "did you mean '%s'?", near)
                                          : NULL;
      r->ok = diag_hint(r->diags, key->at, hint, "unknown setting '%.60s'", name);
    } else if (value->kind != Y_SCALAR) {
      r->ok =
          diag_error(r->diags, value->at, "%s: expected a single value, found %s", name, yaml_kind_name(value->kind));
    } else if (r->at[k].file) {
      r->ok = diag_error(r->diags, key->at, "'%s' is set already, on line %u", name, r->at[k].line);
    } else {
      const char *wrong = train_check(r->arena, name, value->text, false);
      if (wrong) r->ok = diag_error(r->diags, value->at, "%s", wrong);
      r->spec->value[k] = value->text;
      r->at[k] = value->at;
    }
  }
}

/* What a single value can't tell, and the fields that follow from the values. */
static bool finish(Arena *a, Diags *d, TrainSpec *s, Span at) {
  int64_t global = strtoll(s->value[KEY_global_batch], NULL, 10);
  s->micro_batch = strtoll(s->value[KEY_micro_batch], NULL, 10);
  s->seq = strtoll(s->value[KEY_seq], NULL, 10);
  Text t = {0};
  for (int i = 0; i < KEY_COUNT; i++) text_add(&t, "%s: %s\n", key_name[i], s->value[i]);
  s->effective = arena_strdup(a, t.s);
  text_free(&t);
  if (global % s->micro_batch)
    return diag_error(d, at, "global_batch %lld is not a multiple of micro_batch %lld", (long long)global,
                      (long long)s->micro_batch);
  return true;
}

/* root NULL: the defaults */
static TrainSpec *read(Arena *a, Diags *d, const YNode *root) {
  TrainReader r = {.arena = a, .diags = d, .spec = NEW(a, TrainSpec), .ok = true};
  for (int i = 0; i < KEY_COUNT; i++) r.spec->value[i] = key_row[i].value;
  Span at = {0};
  if (root) {
    if (!yaml_expect(d, root, Y_MAP, "a training file")) return NULL;
    at = root->at;
    read_map(&r, root, "");
  }
  if (r.at[KEY_global_batch].file) at = r.at[KEY_global_batch];
  return r.ok && finish(a, d, r.spec, at) ? r.spec : NULL;
}

TrainSpec *train_load(Arena *a, Diags *d, const char *path) {
  const YNode *root = path ? yaml_load(a, d, path) : NULL;
  return path && !root ? NULL : read(a, d, root);
}

TrainSpec *train_text(Arena *a, Diags *d, const char *name, const char *text) {
  const YNode *root = yaml_text(a, d, name, text);
  return root ? read(a, d, root) : NULL;
}

bool train_set(Arena *a, Diags *d, TrainSpec *s, const char *set) {
  uint32_t file = diags_source(d, "--set", arena_strdup(a, set), strlen(set));
  const char *eq = strchr(set, '=');
  Span at = {file, 1, 1};
  if (!eq) return diag_error(d, at, "expected NAME=VALUE, as in lr=3e-4");
  const char *key = arena_strndup(a, set, (size_t)(eq - set)), *value = arena_strdup(a, eq + 1);
  const char *wrong = train_check(a, key, value, false);
  if (wrong) return diag_error(d, at, "%s", wrong);
  s->value[train_key(key)] = value;
  return finish(a, d, s, at);
}
