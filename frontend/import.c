/* config.json to a model file, by the `hf:` section of the shipped model that knows its architecture.
 *
 * The section is read as a set of patterns. `dims`, `config` and `also` are laid over the file: a text "= NAME ..." gives
 * NAME its value, any other is what the file must say (in a list `i` is the item's index); `free` keys may say anything and
 * are kept; a key that none of them knows is reported. What is absent has the value that `absent` gives; else that of the
 * model's own expression, if it is one, and where it is a plain number the key is missed. null counts as absent, but for
 * `or null`.
 *
 * Two sweeps: the first reads values and compares constants; then dims and consts have their values, and the second compares
 * what is computed and asks for keys whose condition holds. The file comes from a stranger: it is limited in size by who
 * reads it, in depth here; its texts reach the model file as quoted scalars. */
#include "frontend/import.h"
#include "frontend/config.h"
#include "frontend/spec.h"
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_LIMIT = 16, FILES_LIMIT = 1000, UNMAPPED_LIMIT = 200, KEY_LIMIT = 200 };

/* What any config.json may hold and what says nothing of the computation: of the file, of its writer, of Python's classes. */
static const char *const harmless[] = {"_attn_implementation", "_name_or_path",     "architectures",
                                       "attn_implementation",  "auto_map",          "dtype",
                                       "model_type",           "output_attentions", "output_hidden_states",
                                       "return_dict",          "tokenizer_class",   "torch_dtype",
                                       "transformers_version", "use_cache"};

typedef struct Given {
  const char *name; /* interned: a dim or a const */
  const char *text, *path;
} Given;

typedef struct Job {
  Arena *arena;
  Diags *diags;
  uint32_t file;
  json_t *config;
  YNode *spec, *hf;
  const char *base;
  Names names; /* of the model as it is; in the second sweep with the values of the file */
  bool second;
  double index; /* in a list: what `i` stands for */
  Given *given;
  int ngiven, cap_given;
  Import *out;
  int cap_unmapped;
} Job;

/* ---- places and texts */

/* Where the key at the end of a path "rope_scaling.factor" stands: the first that is written so, each below the one before. */
static Span place(const Job *j, const char *path) {
  const Source *s = &j->diags->sources[j->file - 1];
  const char *at = s->text;
  Span span = {j->file, 1, 1};
  for (const char *key = path; at && *key; key += strcspn(key, "."), key += *key == '.') {
    const char *quoted = arena_printf(j->arena, "\"%.*s\"", (int)strcspn(key, "."), key);
    at = strstr(at, quoted);
  }
  for (const char *p = s->text; at && p < at; p++) {
    span.col++;
    if (*p == '\n') span.line++, span.col = 1;
  }
  return span;
}

static const char *value_text(Arena *a, const json_t *v) {
  char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_COMPACT);
  char *text = arena_printf(a, "%.60s%s", s ? s : "?", s && strlen(s) > 60 ? "..." : "");
  for (char *p = text; (p = strchr(p, 0x7F));) *p = '?'; /* the one control character that JSON leaves as it is */
  free(s);
  return text;
}

static const char *join(Arena *a, const char *path, const char *key) {
  return *path ? arena_printf(a, "%s.%.*s", path, (int)KEY_LIMIT, key) : arena_printf(a, "%.*s", (int)KEY_LIMIT, key);
}

static const char *number_text(Arena *a, double x) {
  Text t = {0};
  config_write_number(x, &t);
  const char *s = arena_strdup(a, t.s);
  text_free(&t);
  return s;
}

static bool wrong(Job *j, const char *path, const json_t *v, const char *expected) {
  return diag_error(j->diags, place(j, path), "%s is %s; %s takes %s", path, value_text(j->arena, v), j->base,
                    expected);
}

/* ---- values */

static Given *given_find(Job *j, const char *name) {
  for (int i = 0; i < j->ngiven; i++)
    if (j->given[i].name == name) return &j->given[i];
  return NULL;
}

static bool give(Job *j, const char *name, const char *text, const char *path) {
  const Given *old = given_find(j, intern(name));
  if (old && strcmp(old->text, text))
    return diag_error(j->diags, place(j, path), "%s is %s here, by %s it is %s", path, text, old->path, old->text);
  Given g = {intern(name), text, path};
  if (!old) PUSH(j->arena, j->given, j->ngiven, j->cap_given, g);
  return true;
}

/* A text "= EXPR ..." and what the file says there. */
static bool match_value(Job *j, YNode *pattern, const json_t *v, const char *path) {
  ConfigValue c;
  double x = 0, have;
  if (!config_value(&j->names, pattern, &c)) return false;
  if (j->second == (c.name != NULL)) return true; /* names in the first sweep, what is computed in the second */
  if (json_is_null(v) && c.kind != CONFIG_OR_NULL) return true;
  if (json_is_number(v) && (c.kind == CONFIG_NUMBER || c.kind == CONFIG_OR_NULL)) {
    have = json_number_value(v);
  } else if (json_is_null(v) || (json_is_boolean(v) && c.kind == CONFIG_BOOL)) {
    have = json_is_true(v);
  } else if (json_is_string(v) && c.kind == CONFIG_WORD) {
    Text list = {0};
    int k = 0;
    for (; k < c.nwords && strcmp(c.word[k], json_string_value(v)); k++)
      text_add(&list, "%s%s", k ? ", " : "", c.word[k]);
    const char *words = arena_strdup(j->arena, list.n ? list.s : "nothing");
    text_free(&list);
    if (k == c.nwords) return wrong(j, path, v, words);
    have = k;
  } else {
    static const char *const kinds[] = {"a number", "true or false", "a number or null", "a word"};
    return wrong(j, path, v, kinds[c.kind]);
  }
  if (c.name) return give(j, c.name->name, number_text(j->arena, have), path);
  if (!names_number(&j->names, c.expr, &(Local){"i", j->index}, 1, &x)) return false;
  if (c.kind == CONFIG_WORD && have != x)
    return wrong(j, path, v, x >= 0 && x < c.nwords && x == floor(x) ? c.word[(int)x] : "another word");
  if (c.kind == CONFIG_OR_NULL && x == 0 && !json_is_null(v)) return have == 0 || wrong(j, path, v, "null alone");
  return have == x || wrong(j, path, v, number_text(j->arena, x));
}

static bool is_constant(const YNode *pattern, const json_t *v) {
  const char *s = pattern->text;
  if (pattern->quoted || json_is_string(v)) return json_is_string(v) && !strcmp(s, json_string_value(v));
  if (json_is_boolean(v)) return !strcmp(s, json_is_true(v) ? "true" : "false");
  return json_is_number(v) && config_is_number(s) && strtod(s, NULL) == json_number_value(v);
}

/* v may be NULL: the file has no such key. A list of one pattern stands for lists of any length. */
static bool match(Job *j, YNode *pattern, const json_t *v, const char *path) {
  bool ok = true;
  if (!v) return true;
  if (config_is_value(pattern)) return match_value(j, pattern, v, path);
  if (json_is_null(v)) return true;
  if (pattern->kind == Y_SCALAR)
    return j->second || is_constant(pattern, v) ||
           wrong(j, path, v, arena_printf(j->arena, "%.60s alone", pattern->text));
  if (pattern->kind == Y_SEQ) {
    size_t n = json_array_size(v);
    j->index = 0;
    if (!json_is_array(v) || (pattern->n != 1 && n != (size_t)pattern->n)) return wrong(j, path, v, "another list");
    for (size_t i = 0; i < n && ok; i++, j->index = (double)i)
      ok = match(j, pattern->item[pattern->n == 1 ? 0 : i], json_array_get(v, i), path);
    return ok;
  }
  if (!json_is_object(v)) return wrong(j, path, v, "an object");
  for (int i = 0; i < pattern->n; i++) {
    YPair p = pattern->pair[i];
    ok &= match(j, p.value, json_object_get(v, p.key->text), join(j->arena, path, p.key->text));
  }
  return ok;
}

static bool is_free(const Job *j, const char *key) {
  const YNode *keys = yaml_get(j->hf, "free");
  for (int i = 0; keys && i < keys->n; i++)
    if (!strcmp(keys->item[i]->text, key)) return true;
  return false;
}

static bool match_all(Job *j) {
  bool ok = true;
  const YNode *dims = yaml_get(j->hf, "dims");
  for (int i = 0; !j->second && dims && i < dims->n; i++) {
    YPair p = dims->pair[i];
    int n = p.value->kind == Y_SEQ ? p.value->n : 1;
    for (int k = 0; k < n; k++) {
      const char *key = (p.value->kind == Y_SEQ ? p.value->item[k] : p.value)->text;
      const json_t *v = json_object_get(j->config, key);
      if (!v || json_is_null(v)) continue;
      ok &= json_is_number(v) ? give(j, p.key->text, number_text(j->arena, json_number_value(v)), key)
                              : wrong(j, key, v, "a number");
    }
  }
  static const char *const sections[] = {"config", "also"};
  for (int i = 0; i < LEN(sections); i++) {
    YNode *pattern = yaml_get(j->hf, sections[i]);
    for (int k = 0; pattern && k < pattern->n; k++) {
      YPair p = pattern->pair[k];
      if (!is_free(j, p.key->text)) ok &= match(j, p.value, json_object_get(j->config, p.key->text), p.key->text);
    }
  }
  return ok;
}

/* ---- what is absent */

static YNode *own_value(const Job *j, const char *name) {
  YNode *dim = yaml_get(yaml_get(j->spec, "dims"), name);
  return dim ? dim : yaml_get(yaml_get(j->spec, "consts"), name);
}

/* A name that the file gave no value has one by the model's own expression. A plain number there is no such: it is the size
 * of the model that the file describes, and another one here. */
static bool want(Job *j, const char *name, const char *path) {
  const YNode *own = own_value(j, name);
  if (given_find(j, intern(name)) || !own || !config_is_number(own->text)) return true;
  return diag_error(j->diags, (Span){j->file, 1, 1}, "there is no '%s', which %s needs", path, j->base);
}

static bool want_all(Job *j, YNode *pattern, const char *path) {
  ConfigValue c;
  bool ok = true;
  double x;
  if (config_is_value(pattern)) {
    if (!config_value(&j->names, pattern, &c)) return false;
    if (!c.name || j->second != (c.when.len > 0)) return true;
    if (c.when.len && (!names_number(&j->names, c.when, NULL, 0, &x) || x == 0)) return x == 0;
    return want(j, c.name->name, path);
  }
  for (int i = 0; i < pattern->n && pattern->kind == Y_MAP; i++) {
    const char *key = pattern->pair[i].key->text;
    if (*path || !is_free(j, key)) ok &= want_all(j, pattern->pair[i].value, join(j->arena, path, key));
  }
  return ok;
}

static bool fill_absent(Job *j) {
  const YNode *absent = yaml_get(j->hf, "absent"), *dims = yaml_get(j->hf, "dims");
  YNode *config = yaml_get(j->hf, "config");
  bool ok = true;
  for (int i = 0; absent && i < absent->n; i++)
    if (!given_find(j, absent->pair[i].key->text))
      ok &= give(j, absent->pair[i].key->text, absent->pair[i].value->text, "");
  for (int i = 0; dims && i < dims->n; i++) {
    const YNode *key = dims->pair[i].value;
    ok &= want(j, dims->pair[i].key->text, (key->kind == Y_SEQ && key->n ? key->item[0] : key)->text);
  }
  return (!config || want_all(j, config, "")) && ok;
}

/* The names of the model, with the values of the file where it gave some. */
static bool read_names(Job *j) {
  bool ok = true;
  j->names = (Names){.arena = j->arena, .diags = j->diags};
  names_builtin(&j->names, "B", 1, false);
  names_builtin(&j->names, "T", 1, false);
  static const char *const sections[] = {"dims", "consts"};
  for (int i = 0; i < LEN(sections); i++) {
    const YNode *map = yaml_get(j->spec, sections[i]);
    for (int k = 0; map && k < map->n; k++) {
      YPair p = map->pair[k];
      const Given *g = given_find(j, p.key->text);
      YNode *value = g ? yaml_scalar(j->arena, g->text, place(j, g->path)) : p.value;
      ok &= names_add(&j->names, p.key->text, value, p.key->at, !i);
    }
  }
  return ok && (!j->ngiven || names_resolve_all(&j->names));
}

/* ---- what is not mapped */

static bool is_known(const Job *j, const char *key) {
  for (int i = 0; i < LEN(harmless); i++)
    if (!strcmp(harmless[i], key)) return true;
  if (is_free(j, key)) return true;
  const YNode *dims = yaml_get(j->hf, "dims");
  for (int i = 0; dims && i < dims->n; i++) {
    const YNode *v = dims->pair[i].value;
    if (v->kind == Y_SCALAR && !strcmp(v->text, key)) return true;
    for (int k = 0; k < v->n; k++)
      if (!strcmp(v->item[k]->text, key)) return true;
  }
  return false;
}

static void note_unmapped(Job *j, const json_t *object, const YNode *a, const YNode *b, const char *path) {
  const char *key;
  json_t *v;
  json_object_foreach((json_t *)object, key, v) {
    const YNode *pa = yaml_get(a, key), *pb = yaml_get(b, key);
    if ((pa || pb) && json_is_object(v)) note_unmapped(j, v, pa, pb, join(j->arena, path, key));
    if (pa || pb || json_is_null(v) || (!*path && is_known(j, key)) || j->out->nunmapped == UNMAPPED_LIMIT) continue;
    json_t *name = json_string(join(j->arena, path, key));
    const char *quoted = value_text(j->arena, name), *line;
    json_decref(name);
    line = arena_printf(j->arena, "%.*s: %s", (int)strcspn(quoted + 1, "\""), quoted + 1, value_text(j->arena, v));
    if (j->out->nunmapped == UNMAPPED_LIMIT - 1) line = "(and more)";
    PUSH(j->arena, j->out->unmapped, j->out->nunmapped, j->cap_unmapped, line);
  }
}

/* ---- the model file */

static YNode *map_new(Arena *a) {
  YNode *m = NEW(a, YNode);
  m->kind = Y_MAP;
  return m;
}

static void map_add(Arena *a, YNode *m, const char *key, YNode *value) {
  YPair p = {yaml_scalar(a, intern(key), (Span){0}), value};
  p.key->text = intern(key);
  PUSH(a, m->pair, m->n, m->cap, p);
}

static void map_text(Arena *a, YNode *m, const char *key, const char *text, bool quoted) {
  YNode *v = yaml_scalar(a, text, (Span){0});
  v->quoted = quoted;
  map_add(a, m, key, v);
}

/* JSON to YAML. A text of the hf section that begins with "=" would be computed. */
static YNode *from_json(Job *j, const json_t *v, const char *path) {
  const char *key;
  json_t *child;
  YNode *n = yaml_scalar(j->arena, "null", (Span){0});
  if (json_is_string(v)) {
    n = yaml_scalar(j->arena, json_string_value(v), (Span){0});
    n->quoted = true;
    if (n->text[0] == '=') diag_error(j->diags, place(j, path), "%s: a text that begins with '='", path);
  } else if (json_is_boolean(v)) {
    n = yaml_scalar(j->arena, json_is_true(v) ? "true" : "false", (Span){0});
  } else if (json_is_integer(v)) {
    n = yaml_scalar(j->arena, arena_printf(j->arena, "%lld", (long long)json_integer_value(v)), (Span){0});
  } else if (json_is_real(v)) {
    const char *text = number_text(j->arena, json_real_value(v)); /* 0.0 stays so: readers tell it from 0 */
    n = yaml_scalar(j->arena, strpbrk(text, ".e") ? text : arena_printf(j->arena, "%s.0", text), (Span){0});
  } else if (json_is_array(v)) {
    n->kind = Y_SEQ;
    for (size_t i = 0; i < json_array_size(v); i++) {
      YNode *item = from_json(j, json_array_get(v, i), path);
      PUSH(j->arena, n->item, n->n, n->cap, item);
    }
  } else if (json_is_object(v)) {
    n = map_new(j->arena);
    json_object_foreach((json_t *)v, key, child) map_add(j->arena, n, key, from_json(j, child, path));
  }
  return n;
}

/* One mapping of the hf section replaced by what the file says: keys of `below` that it lacks are taken away. */
static void replace(Job *j, YNode *into, const YNode *below, const char *key, const json_t *v) {
  if (v && !json_is_null(v))
    map_add(j->arena, into, key, from_json(j, v, key));
  else if (yaml_get(below, key))
    map_text(j->arena, into, key, "null", false);
}

static YNode *generation_map(Job *j, json_t *generation) {
  YNode *m = map_new(j->arena);
  const YNode *below = yaml_get(j->hf, "generation");
  const char *key;
  json_t *v;
  json_object_foreach(generation, key, v) {
    if (strcmp(key, "transformers_version") && strcmp(key, "_from_model_config") && !json_is_null(v))
      map_add(j->arena, m, key, from_json(j, v, key));
  }
  for (int i = 0; below && i < below->n; i++)
    if (!yaml_get(m, below->pair[i].key->text)) map_text(j->arena, m, below->pair[i].key->text, "null", false);
  return m;
}

static const char *clean_name(Arena *a, const char *name) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  char *s = arena_printf(a, "%.64s", *name ? name : "imported");
  for (char *p = s; *p; p++)
    if (!strchr(allowed, *p)) *p = '-';
  return s;
}

static void write_model(Job *j, const ImportSource *src, json_t *generation) {
  YNode *root = map_new(j->arena), *hf = map_new(j->arena), *config = map_new(j->arena);
  YNode *numbers[] = {map_new(j->arena), map_new(j->arena)};
  static const char *const sections[] = {"dims", "consts"};
  for (int i = 0; i < LEN(sections); i++) { /* in the order of the model */
    const YNode *own = yaml_get(j->spec, sections[i]);
    for (int k = 0; own && k < own->n; k++) {
      const Given *g = given_find(j, own->pair[k].key->text);
      if (g) map_text(j->arena, numbers[i], g->name, g->text, false);
    }
  }
  const YNode *free_keys = yaml_get(j->hf, "free");
  for (int i = 0; free_keys && i < free_keys->n; i++) {
    const char *key = free_keys->item[i]->text;
    replace(j, config, yaml_get(j->hf, "config"), key, json_object_get(j->config, key));
  }
  map_text(j->arena, root, "base", j->base, false);
  map_text(j->arena, root, "model", clean_name(j->arena, src->name), false);
  map_text(j->arena, root, "weights", src->weights, true);
  for (int i = 0; i < LEN(sections); i++) map_add(j->arena, root, sections[i], numbers[i]);
  map_add(j->arena, hf, "config", config);
  if (generation)
    map_add(j->arena, hf, "generation", generation_map(j, generation));
  else if (yaml_get(j->hf, "generation"))
    map_text(j->arena, hf, "generation", "null", false);
  if (src->bare) map_text(j->arena, hf, "bare", "true", false);
  map_add(j->arena, root, "hf", hf);
  Text t = {0};
  text_add(&t, "# %s, as ink import read it from a config.json.\n", j->out->architecture);
  for (int i = 0; i < j->out->nunmapped; i++) text_add(&t, "# not mapped: %s\n", j->out->unmapped[i]);
  yaml_write(root, &t);
  j->out->text = arena_strdup(j->arena, t.s);
  text_free(&t);
}

/* ---- the shipped models */

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool ends_in(const char *s, const char *end) {
  size_t n = strlen(s), k = strlen(end);
  return n > k && !strcmp(s + n - k, end);
}

/* Of the models in the folder the one whose hf section names the architecture and the type; where the file has no type, the
 * architecture must be the first that the model names. */
static bool find_base(Job *j, const char *models, const char *architecture, const char *type) {
  const char **names = NULL, **known = NULL;
  int n = 0, cap = 0, nknown = 0, cap_known = 0;
  DIR *dir = opendir(models);
  if (!dir) return diag_error(j->diags, (Span){0}, "cannot read the folder of shipped models, %s", models);
  for (const struct dirent *e; (e = readdir(dir)) && n < FILES_LIMIT;)
    if (ends_in(e->d_name, ".yaml") && !ends_in(e->d_name, ".train.yaml"))
      PUSH(j->arena, names, n, cap, arena_strdup(j->arena, e->d_name));
  closedir(dir);
  if (n) qsort(names, (size_t)n, sizeof *names, by_text);
  for (int i = 0; i < n && !j->spec; i++) {
    ModelOptions opt = {.models = models};
    YNode *spec = spec_load(j->arena, j->diags, arena_printf(j->arena, "%s/%s", models, names[i]), &opt);
    if (!spec) return false;
    YNode *hf = yaml_get(spec, "hf"), *list = yaml_get(hf, "architectures"), *own_type = yaml_get(hf, "model_type");
    for (int k = 0; list && list->kind == Y_SEQ && k < list->n; k++) {
      PUSH(j->arena, known, nknown, cap_known, list->item[k]->text);
      bool same_type = type && own_type && !strcmp(own_type->text, type);
      if (strcmp(list->item[k]->text, architecture) || !(same_type || (!type && !k))) continue;
      j->spec = spec;
      j->hf = hf;
      j->base = names[i];
    }
  }
  if (j->spec) return true;
  Text list = {0};
  const char *near = near_miss(architecture, known, nknown);
  text_add(&list, near ? "did you mean %s? known are " : "known are %.0s", near ? near : "");
  for (int i = 0; i < nknown; i++) text_add(&list, "%s%s", i ? ", " : "", known[i]);
  const char *hint = arena_strdup(j->arena, list.s);
  text_free(&list);
  return diag_hint(j->diags, place(j, "architectures"), hint, "no shipped model has the architecture '%.60s'%s%.60s%s",
                   architecture, type ? " of model_type '" : "", type ? type : "", type ? "'" : "");
}

/* ---- all of it */

static bool is_deep(const json_t *v, int left) {
  const char *key;
  json_t *child;
  if (!left) return json_is_array(v) || json_is_object(v);
  for (size_t i = 0; i < json_array_size(v); i++)
    if (is_deep(json_array_get(v, i), left - 1)) return true;
  json_object_foreach((json_t *)v, key, child) if (is_deep(child, left - 1)) return true;
  return false;
}

static json_t *read_json(Diags *d, uint32_t file) {
  const Source *s = &d->sources[file - 1];
  json_error_t e;
  if (!yaml_check_utf8(d, file)) return NULL;
  json_t *root = json_loadb(s->text, s->n, JSON_REJECT_DUPLICATES, &e);
  Span at = {file, e.line > 0 ? (uint32_t)e.line : 1, e.column > 0 ? (uint32_t)e.column : 1};
  if (!root) {
    diag_error(d, at, "no JSON: %s", e.text);
    return NULL;
  }
  const char *wrong_root = !json_is_object(root)        ? "the file is no JSON object"
                           : is_deep(root, DEPTH_LIMIT) ? "nested deeper than 16 levels"
                                                        : NULL;
  if (!wrong_root) return root;
  diag_error(d, (Span){file, 1, 1}, "%s", wrong_root);
  json_decref(root);
  return NULL;
}

static bool import(Job *j, const ImportSource *src, json_t *generation) {
  const char *name = json_string_value(json_array_get(json_object_get(j->config, "architectures"), 0));
  const char *type = json_string_value(json_object_get(j->config, "model_type"));
  int errors = j->diags->n;
  if (!name)
    return diag_error(j->diags, place(j, "architectures"),
                      "the file names no architecture, as in architectures: [NAME]");
  if (!find_base(j, src->models, name, type)) return false;
  j->out->architecture = arena_strdup(j->arena, name);
  j->out->base = j->base;
  j->out->prefixed = yaml_get(j->hf, "prefix") != NULL;
  bool ok = read_names(j) && match_all(j) && fill_absent(j) && j->diags->n == errors;
  j->second = true;
  ok = ok && read_names(j) && match_all(j);
  YNode *config = yaml_get(j->hf, "config"), *also = yaml_get(j->hf, "also");
  ok = ok && (!config || want_all(j, config, ""));
  if (!ok) return false;
  note_unmapped(j, j->config, config, also, "");
  write_model(j, src, generation);
  return j->diags->n == errors;
}

bool import_config(Arena *a, Diags *d, const ImportSource *src, Import *out) {
  *out = (Import){0};
  Job j = {.arena = a, .diags = d, .file = src->config, .out = out};
  json_t *generation = NULL;
  if (!(j.config = read_json(d, src->config))) return false;
  bool ok = !src->generation || (generation = read_json(d, src->generation));
  ok = ok && import(&j, src, generation);
  json_decref(j.config);
  json_decref(generation);
  return ok;
}
