/* Settings of a run: the keys of ink/train.def, their values, and the learning rate they give. */
#ifndef RT_SETTINGS_H
#define RT_SETTINGS_H
#include "runtime/program.h"

typedef double setting_num;
typedef int64_t setting_int;
typedef char setting_str[32];

typedef struct Settings {
#define KEY(c, key, kind, def, low, high, when, doc) setting_##kind c;
#include "ink/train.def"
} Settings;

typedef struct SettingInfo {
  const char *key, *kind, *def, *doc; /* kind: "num", "int", "str" */
  double low, high;
  bool build; /* changes a shape or a dtype: fixed when the program was built */
} SettingInfo;
extern const SettingInfo setting_table[];
extern const int setting_count;

/* The table's defaults, then the program's. */
bool settings_default(Settings *s, const Program *p, Report *err);
/* key=value as a user wrote it; an unknown key gets a suggestion, a build-time key is refused. */
bool settings_set(Settings *s, const char *key, const char *value, Report *err);
bool settings_assign(Settings *s, const char *assignment, Report *err); /* "lr=3e-4" */
/* Across keys: global_batch a multiple of the program's batch; resolves global_batch 0. */
bool settings_check(Settings *s, const Program *p, Report *err);
/* The value as text that settings_set reads back exactly. */
const char *settings_text(const Settings *s, int index, char text[64]);

/* Learning rate of the optimizer step that follows `done` finished ones. Warm-up: lr * (done + 1) / (warmup + 1), as
 * nanoGPT; then from lr to floor * lr at `steps` by the kind of schedule, and floor * lr after. */
double settings_lr(const Settings *s, int64_t done);
#endif
