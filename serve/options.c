/* The server's options by their table, serve/server.def: defaults, values from a command line, help, documentation. */
#include "serve/server.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum { KIND_text, KIND_int, KIND_num } Kind;

typedef struct Row {
  const char *group; /* a title; all else is empty then */
  const char *name, *doc, *text;
  Kind kind;
  double def, low, high;
  size_t at;
} Row;

#define DEFAULT_text(v) .text = (v)
#define DEFAULT_int(v) .def = (v)
#define DEFAULT_num(v) .def = (v)
static const Row rows[] = {
#define GROUP(title) {.group = (title)},
#define OPTION(k, n, d, l, h, w)                                                                                       \
  {.name = #n, .kind = KIND_##k, DEFAULT_##k(d), .low = (l), .high = (h), .doc = (w), .at = offsetof(ServerOptions, n)},
#include "serve/server.def"
#undef OPTION
#undef GROUP
};

static bool same(const char *field, const char *option) {
  for (; *field && *option; field++, option++)
    if (*field != (*option == '-' ? '_' : *option)) return false;
  return *field == *option;
}

static const char *dashed(const Row *r, char out[64]) {
  size_t n = 0;
  for (; r->name[n] && n < 63; n++) out[n] = (char)(r->name[n] == '_' ? '-' : r->name[n]);
  out[n] = 0;
  return out;
}

static const Row *find(const char *name) {
  for (int i = 0; i < LEN(rows); i++)
    if (rows[i].name && same(rows[i].name, name)) return &rows[i];
  return NULL;
}

void server_options_default(ServerOptions *o) {
  *o = (ServerOptions){0};
  for (int i = 0; i < LEN(rows); i++) {
    const Row *r = &rows[i];
    if (r->group) continue;
    char *at = (char *)o + r->at;
    if (r->kind == KIND_text) *(option_text *)at = r->text;
    if (r->kind == KIND_int) *(option_int *)at = (int)r->def;
    if (r->kind == KIND_num) *(option_num *)at = r->def;
  }
}

bool server_options_known(const char *name) {
  return find(name) != NULL;
}

bool server_options_set(ServerOptions *o, const char *name, const char *value, Report *err) {
  const Row *r = find(name);
  if (!r) return report_add(err, "the server has no option --%s", name);
  char *at = (char *)o + r->at;
  if (r->kind == KIND_text) {
    *(option_text *)at = value;
    return true;
  }
  char *end;
  errno = 0;
  double v = strtod(value, &end);
  if (end == value || *end || errno || !isfinite(v) || (r->kind == KIND_int && v != floor(v)))
    return report_add(err, "--%s %s: %s is wanted", name, value, r->kind == KIND_int ? "a whole number" : "a number");
  if (v < r->low || v > r->high)
    return report_add(err, "--%s %s: it must be from %.10g to %.10g", name, value, r->low, r->high);
  if (r->kind == KIND_int) *(option_int *)at = (int)v;
  if (r->kind == KIND_num) *(option_num *)at = v;
  return true;
}

void server_options_help(Text *out) {
  for (int i = 0; i < LEN(rows); i++) {
    const Row *r = &rows[i];
    char name[64], option[96], value[32] = "none";
    if (r->group) {
      text_add(out, "%s:\n", r->group);
      continue;
    }
    snprintf(option, sizeof option, "--%s %s", dashed(r, name),
             r->kind == KIND_text  ? "TEXT"
             : r->kind == KIND_int ? "N"
                                   : "SECONDS");
    if (r->kind != KIND_text) snprintf(value, sizeof value, "%.10g", r->def);
    text_add(out, "  %-26s %s (%s)\n", option, r->doc, r->kind == KIND_text && r->text ? r->text : value);
  }
}

void server_options_table(Text *out) {
  text_add(out, "| option | default | from, to | what |\n|---|---|---|---|\n");
  for (int i = 0; i < LEN(rows); i++) {
    const Row *r = &rows[i];
    char name[64];
    if (r->group) continue;
    text_add(out, "| `--%s` | ", dashed(r, name));
    if (r->kind == KIND_text)
      text_add(out, "%s | | ", r->text ? r->text : "none");
    else
      text_add(out, "%.10g%s | %.10g, %.10g | ", r->def, r->kind == KIND_num ? " s" : "", r->low, r->high);
    text_add(out, "%s |\n", r->doc);
  }
}
