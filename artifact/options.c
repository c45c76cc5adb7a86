/* Options of a command by its table. */
#include "artifact/command.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool take(const Opt *o, char *at, const char *value, Report *err) {
  char *end;
  errno = 0;
  switch (o->kind) {
  case OPT_FLAG: *(bool *)at = true; return true;
  case OPT_TEXT: *(const char **)(void *)at = value; return true;
  case OPT_LIST: {
    TextList *l = (void *)at;
    if (l->n == TEXTS) return report_add(err, "%s may be given %d times", o->name, TEXTS);
    l->v[l->n++] = value;
    return true;
  }
  case OPT_INT: {
    long v = strtol(value, &end, 10);
    if (!*value || *end || errno || (double)v < o->low || (double)v > o->high)
      return report_add(err, "%s takes a whole number from %.0f to %.0f, not '%s'", o->name, o->low, o->high, value);
    *(int *)(void *)at = (int)v;
    return true;
  }
  case OPT_NUM: {
    double v = strtod(value, &end);
    if (!*value || *end || !(v >= o->low && v <= o->high))
      return report_add(err, "%s takes a number from %g to %g, not '%s'", o->name, o->low, o->high, value);
    *(double *)(void *)at = v;
    return true;
  }
  }
  return false;
}

static const Opt *find(const CommandInfo *c, const char *name) {
  for (int i = 0; i < c->nopts; i++)
    if (!strcmp(c->opts[i].name, name)) return &c->opts[i];
  return NULL;
}

static bool unknown(const CommandInfo *c, const char *name, Report *err) {
  const char *names[64];
  int n = 0;
  for (int i = 0; i < c->nopts && n < LEN(names); i++) names[n++] = c->opts[i].name;
  const char *near = report_suggest(name, names, n);
  return report_add(err, "unknown option '%s'%s%s%s", name, near ? "; did you mean '" : "", near ? near : "",
                    near ? "'?" : "; --help lists them");
}

bool options_read(const Call *c, void *into, const char **operand,
                  int (*other)(void *into, const char *name, const char *value, Report *err), Report *err) {
  bool ok = true;
  int noperands = 0;
  for (int i = 0; i < c->argc; i++) {
    const char *word = c->argv[i], *equal = word[0] == '-' ? strchr(word, '=') : NULL;
    char name[64];
    snprintf(name, sizeof(name), "%.*s", equal ? (int)(equal - word) : 63, word);
    const char *next = equal ? equal + 1 : i + 1 < c->argc ? c->argv[i + 1] : NULL;
    if (word[0] != '-' || !word[1]) {
      if (noperands == c->info->operands)
        ok = report_add(err, "'%s' stands alone; --help lists the options", word);
      else
        operand[noperands++] = word;
      continue;
    }
    const Opt *o = find(c->info, name);
    int taken = 0;
    if (!o && other && !strncmp(name, "--", 2)) taken = other(into, name + 2, next, err);
    if (!o && taken) {
      ok = taken > 0 && ok;
      i += !equal;
    } else if (!o) {
      ok = unknown(c->info, name, err);
    } else if (o->kind == OPT_FLAG ? equal != NULL : !next) {
      ok = report_add(err, o->kind == OPT_FLAG ? "%s takes no value" : "%s wants %s", o->name, o->value);
    } else {
      ok = take(o, (char *)into + o->at, next, err) && ok;
      i += o->kind != OPT_FLAG && !equal;
    }
  }
  if (noperands < c->info->operands) ok = report_add(err, "usage: %s %s %s", c->self, c->info->name, c->info->usage);
  return ok;
}

void command_help(const char *self, const CommandInfo *c, Text *out) {
  text_add(out, "usage: %s %s %s\n\n%s\n", self, c->name, c->usage, c->doc);
  if (c->nopts) text_add(out, "\noptions\n");
  for (int i = 0; i < c->nopts; i++) {
    const Opt *o = &c->opts[i];
    char left[80];
    snprintf(left, sizeof(left), "%s%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "",
             o->kind == OPT_LIST ? " ..." : "");
    text_add(out, "  %-28s %s\n", left, o->doc);
  }
  if (c->help) c->help(out);
}
