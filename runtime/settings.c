/* Settings of a run. Everything here is generated from ink/train.def: the struct, the table, the parser and the help. */
#include "runtime/settings.h"
#include "runtime/exact.h"
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WHEN_run, WHEN_build };
typedef enum { KIND_num, KIND_int, KIND_str } Kind;

const SettingInfo setting_table[] = {
#define KEY(c, key, kind, def, low, high, when, doc) {key, #kind, def, doc, low, high, WHEN_##when},
#include "ink/train.def"
};
const int setting_count = (int)(sizeof(setting_table) / sizeof(setting_table[0]));

static const struct {
  Kind kind;
  size_t at;
} fields[] = {
#define KEY(c, key, kind, def, low, high, when, doc) {KIND_##kind, offsetof(Settings, c)},
#include "ink/train.def"
};

static int find(const char *key) {
  for (int i = 0; i < setting_count; i++)
    if (!strcmp(setting_table[i].key, key)) return i;
  return -1;
}

/* Decimal numbers as YAML and people write them: 5e-5, 1000, .1, 1_000 is not one. */
static bool number(const char *text, double *v) {
  if (!*text || strspn(text, "0123456789+-.eE") != strlen(text)) return false;
  char *end;
  *v = strtod(text, &end);
  return !*end && isfinite(*v);
}

static bool store(Settings *s, int i, const char *value, Report *err) {
  const SettingInfo *k = &setting_table[i];
  char *at = (char *)s + fields[i].at;
  double v = 0;
  if (fields[i].kind == KIND_str) {
    if (strlen(value) >= sizeof(setting_str)) return report_add(err, "%s: '%s' is too long", k->key, value);
    if (!strcmp(k->key, "schedule.kind") && strcmp(value, "cosine") && strcmp(value, "linear") &&
        strcmp(value, "constant"))
      return report_add(err, "%s: '%s' is none of cosine, linear, constant", k->key, value);
    strcpy(at, value);
    return true;
  }
  if (!number(value, &v)) return report_add(err, "%s: '%s' is not a number", k->key, value);
  if (v < k->low || v > k->high)
    return report_add(err, "%s: %s is not between %.15g and %.15g", k->key, value, k->low, k->high);
  if (fields[i].kind == KIND_num) {
    *(setting_num *)(void *)at = v;
    return true;
  }
  if (v != floor(v)) return report_add(err, "%s: %s is not a whole number", k->key, value);
  *(setting_int *)(void *)at = (int64_t)v;
  return true;
}

bool settings_default(Settings *s, const Program *p, Report *err) {
  *s = (Settings){0};
  for (int i = 0; i < setting_count; i++)
    if (!store(s, i, setting_table[i].def, err)) return false;
  for (int i = 0; p && i < p->nsettings; i++) {
    const char *key = program_string(p, p->settings[i].key);
    int k = find(key);
    if (k < 0) return report_add(err, "broken program: a setting '%s' that the runtime does not know", key);
    if (!store(s, k, program_string(p, p->settings[i].value), err)) return false;
  }
  return true;
}

bool settings_set(Settings *s, const char *key, const char *value, Report *err) {
  int k = find(key);
  if (k < 0) {
    const char *keys[64];
    int n = 0;
    for (int i = 0; i < setting_count && n < 64; i++) keys[n++] = setting_table[i].key;
    const char *near = report_suggest(key, keys, n);
    /* "beta1" for "adamw.beta1": the last part alone is enough for a suggestion */
    for (int i = 0; !near && i < setting_count; i++) {
      const char *dot = strrchr(setting_table[i].key, '.');
      if (dot && !strcmp(dot + 1, key)) near = setting_table[i].key;
    }
    return near ? report_add(err, "unknown setting '%s'; did you mean '%s'?", key, near)
                : report_add(err, "unknown setting '%s'; --help lists them all", key);
  }
  if (setting_table[k].build)
    return report_add(err, "'%s' is fixed when the program is built: `ink build ... --set %s=%s`", key, key, value);
  return store(s, k, value, err);
}

bool settings_assign(Settings *s, const char *assignment, Report *err) {
  const char *equal = strchr(assignment, '=');
  char key[64];
  size_t n = equal ? (size_t)(equal - assignment) : 0;
  if (!equal || !n) return report_add(err, "--set wants key=value, found '%s'", assignment);
  if (n >= sizeof(key)) return report_add(err, "unknown setting in '%s'", assignment);
  memcpy(key, assignment, n);
  key[n] = 0;
  return settings_set(s, key, equal + 1, err);
}

bool settings_check(Settings *s, const Program *p, Report *err) {
  int64_t batch = p->h->batch;
  if (batch < 1) return report_add(err, "this program has no batch to train on");
  if (!s->global_batch) s->global_batch = batch;
  if (s->global_batch % batch)
    return report_add(
        err, "global_batch %" PRId64 " is not a multiple of the micro-batch %" PRId64 " this program was built for",
        s->global_batch, batch);
  return true;
}

const char *settings_text(const Settings *s, int index, char text[64]) {
  const char *at = (const char *)s + fields[index].at;
  switch (fields[index].kind) {
  case KIND_num: { /* the shortest text that reads back exactly */
    double v = *(const setting_num *)(const void *)at;
    for (int digits = 6; digits <= 17; digits++) {
      snprintf(text, 64, "%.*g", digits, v);
      if (strtod(text, NULL) == v) break;
    }
    break;
  }
  case KIND_int: snprintf(text, 64, "%" PRId64, *(const setting_int *)(const void *)at); break;
  case KIND_str: snprintf(text, 64, "%s", at); break;
  }
  return text;
}

double settings_lr(const Settings *s, int64_t done) {
  double end = s->lr * s->floor;
  if (done < s->warmup) return s->lr * (double)(done + 1) / (double)(s->warmup + 1);
  if (!strcmp(s->schedule, "constant")) return s->lr;
  if (done >= s->steps) return end;
  double at = (double)(done - s->warmup) / (double)(s->steps - s->warmup);
  if (!strcmp(s->schedule, "linear")) return s->lr + (end - s->lr) * at;
  double sine, cosine;
  exact_turn(0.5 * at, &sine, &cosine);
  return end + 0.5 * (1 + cosine) * (s->lr - end);
}
