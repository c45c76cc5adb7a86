/* From a path and overrides to one tree. Mappings merge key by key, anything else replaces; a value of ~ removes its key.
 * Order: base (itself with its base and variant), the file, the variant, then each --set.
 *
 * Paths come from strangers: a `base:` is relative, has no "..", and is looked for beside the file that names it, then in
 * the folder of shipped models. A model given as text has no file: its `base:` is looked for in the folder its caller
 * named, if any, never in the folder the process happens to be in. Trees are never changed in place, for aliases may share their parts. */
#include "frontend/spec.h"
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BASE_LIMIT = 8 }; /* files in a chain of bases */

typedef struct SpecLoader {
  Arena *arena;
  Diags *diags;
  const char *models; /* may be NULL */
  const char *folder; /* of a model in memory; may be NULL */
  const char *chain[BASE_LIMIT];
  int nchain;
} SpecLoader;

static bool is_null(const YNode *n) {
  return n->kind == Y_SCALAR && !n->quoted && (!strcmp(n->text, "~") || !strcmp(n->text, "null"));
}

static YNode *map_copy(Arena *a, const YNode *m) {
  YNode *n = NEW(a, YNode);
  *n = *m;
  n->pair = NEW_ARRAY(a, YPair, m->n + 1);
  n->cap = m->n + 1;
  if (m->n) memcpy(n->pair, m->pair, sizeof(YPair) * (size_t)m->n);
  return n;
}

static void map_set(Arena *a, YNode *m, YNode *key, YNode *value) {
  for (int i = 0; i < m->n; i++)
    if (m->pair[i].key->text == key->text) {
      m->pair[i] = (YPair){key, value};
      return;
    }
  YPair p = {key, value};
  PUSH(a, m->pair, m->n, m->cap, p);
}

static void map_remove(YNode *m, const char *key) {
  for (int i = 0; i < m->n; i++)
    if (m->pair[i].key->text == key) {
      memmove(&m->pair[i], &m->pair[i + 1], sizeof(YPair) * (size_t)(m->n - i - 1));
      m->n--;
      return;
    }
}

static YNode *merge(Arena *a, YNode *below, YNode *above) {
  if (below->kind != Y_MAP || above->kind != Y_MAP) return above;
  YNode *m = map_copy(a, below);
  for (int i = 0; i < above->n; i++) {
    YPair p = above->pair[i];
    YNode *old = yaml_get(m, p.key->text);
    if (is_null(p.value))
      map_remove(m, p.key->text);
    else
      map_set(a, m, p.key, old ? merge(a, old, p.value) : p.value);
  }
  return m;
}

static bool unknown_variant(SpecLoader *s, const YNode *variants, const char *name, Span at) {
  int n = variants ? variants->n : 0;
  const char **names = NEW_ARRAY(s->arena, const char *, n + 1);
  Text list = {0};
  for (int i = 0; i < n; i++) {
    names[i] = variants->pair[i].key->text;
    if (list.n < 200) text_add(&list, "%s%s", i ? ", " : "it has ", names[i]);
  }
  const char *near = near_miss(name, names, n);
  const char *hint = near     ? arena_printf(s->arena, "did you mean '%s'?", near)
                     : list.n ? arena_strdup(s->arena, list.s)
                              : "the model has no variants";
  text_free(&list);
  return diag_hint(s->diags, at, hint, "unknown variant '%s'", name);
}

static YNode *apply_variant(SpecLoader *s, YNode *root, const char *name, Span at) {
  YNode *variants = yaml_get(root, "variants");
  YNode *v = yaml_get(variants, name);
  if (!v) {
    unknown_variant(s, variants, name, at);
    return NULL;
  }
  static const char *const fixed[] = {"base", "variants"};
  for (int i = 0; i < LEN(fixed); i++)
    if (yaml_get(v, fixed[i])) {
      diag_error(s->diags, yaml_get(v, fixed[i])->at, "a variant can't change '%s'", fixed[i]);
      return NULL;
    }
  return yaml_expect(s->diags, v, Y_MAP, "a variant") ? merge(s->arena, root, v) : NULL;
}

/* "dir/gpt2.yaml:350M" -> the path; *variant "350M" or NULL. A file whose name holds the colon goes first. */
static const char *split_variant(Arena *a, const char *path, const char **variant) {
  const char *slash = strrchr(path, '/'), *colon = strrchr(path, ':');
  *variant = NULL;
  if (!colon || colon == path || (slash && colon < slash) || !access(path, F_OK)) return path;
  *variant = colon + 1;
  return arena_strndup(a, path, (size_t)(colon - path));
}

static bool has_dotdot(const char *path) {
  for (const char *p = path; (p = strstr(p, "..")); p++)
    if ((p == path || p[-1] == '/') && (!p[2] || p[2] == '/')) return true;
  return false;
}

/* A plain file that can be read: not a FIFO, which would be waited for. */
static bool is_file(const char *path) {
  struct stat st;
  return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, R_OK);
}

/* The file of a base: beside `from` (NULL: text in memory), else among the models. NULL after an error. */
static const char *find_base(SpecLoader *s, const char *from, const char *base, Span at) {
  if (!*base || *base == '/' || has_dotdot(base)) {
    diag_error(s->diags, at, "base '%s': expected a relative path without '..'", base);
    return NULL;
  }
  const char *slash = from ? strrchr(from, '/') : NULL, *beside = from ? base : NULL;
  if (slash) beside = arena_printf(s->arena, "%.*s%s", (int)(slash + 1 - from), from, base);
  if (!from && s->folder) beside = arena_printf(s->arena, "%s/%s", s->folder, base);
  if (beside && is_file(beside)) return beside;
  if (s->models) {
    const char *shipped = arena_printf(s->arena, "%s/%s", s->models, base);
    if (is_file(shipped)) return shipped;
  }
  diag_error(s->diags, at, "base '%s' is neither %s nor among the shipped models", base,
             from ? "beside this file" : "in the folder given for bases");
  return NULL;
}

static YNode *load_file(SpecLoader *s, const char *path, const char *variant, Span at);
static YNode *load_root(SpecLoader *s, const char *path, YNode *root, const char *variant, Span at);

static YNode *load_base(SpecLoader *s, const char *path, const YNode *base) {
  if (!yaml_expect(s->diags, base, Y_SCALAR, "base")) return NULL;
  const char *variant, *name = base->text, *colon = strrchr(name, ':');
  variant = colon ? colon + 1 : NULL;
  if (colon) name = arena_strndup(s->arena, name, (size_t)(colon - name));
  const char *file = find_base(s, path, name, base->at);
  if (!file) return NULL;
  for (int i = 0; i < s->nchain; i++)
    if (!strcmp(s->chain[i], file)) {
      diag_error(s->diags, base->at, "base '%s' builds on this file: a cycle", base->text);
      return NULL;
    }
  if (s->nchain == BASE_LIMIT) {
    diag_error(s->diags, base->at, "more than %d files in a chain of bases", (int)BASE_LIMIT);
    return NULL;
  }
  return load_file(s, file, variant, base->at);
}

static YNode *load_file(SpecLoader *s, const char *path, const char *variant, Span at) {
  s->chain[s->nchain++] = path;
  return load_root(s, path, yaml_load(s->arena, s->diags, path), variant, at);
}

/* What a file or a text holds, its base below it and its variant above. path NULL: text in memory. */
static YNode *load_root(SpecLoader *s, const char *path, YNode *root, const char *variant, Span at) {
  if (!root) return NULL;
  if (root->kind != Y_MAP) {
    yaml_expect(s->diags, root, Y_MAP, "a model file");
    return NULL;
  }
  YNode *base = yaml_get(root, "base");
  if (base) {
    YNode *below = load_base(s, path, base);
    if (!below) return NULL;
    root = merge(s->arena, below, root);
    map_remove(root, intern("base"));
  }
  YNode *variants = yaml_get(root, "variants");
  if (variants && !yaml_expect(s->diags, variants, Y_MAP, "variants")) return NULL;
  return variant ? apply_variant(s, root, variant, at) : root;
}

/* ---- overrides */

typedef struct Override {
  const char *path, *value;
  Span at, value_at;
} Override;

static bool parse_set(SpecLoader *s, const char *set, Override *out) {
  uint32_t file = diags_source(s->diags, "--set", arena_strdup(s->arena, set), strlen(set));
  const char *eq = strchr(set, '=');
  out->at = (Span){file, 1, 1};
  if (!yaml_check_utf8(s->diags, file)) return false;
  if (!eq || eq == set) return diag_error(s->diags, out->at, "expected NAME=VALUE, as in dims.layers=2");
  out->path = arena_strndup(s->arena, set, (size_t)(eq - set));
  out->value = eq + 1;
  out->value_at = (Span){file, 1, (uint32_t)(eq + 2 - set)};
  return true;
}

static bool unknown_path(SpecLoader *s, const YNode *map, const Override *o, size_t at, size_t n) {
  const char **keys = NEW_ARRAY(s->arena, const char *, map->n + 1);
  for (int i = 0; i < map->n; i++) keys[i] = map->pair[i].key->text;
  const char *word = arena_strndup(s->arena, o->path + at, n);
  const char *near = near_miss(word, keys, map->n);
  if (!near && !at) near = train_nearest(o->path); /* what is no training setting is taken for the model's */
  Span where = {o->at.file, 1, (uint32_t)at + 1};
  const char *hint = near ? arena_printf(s->arena, "did you mean '%.*s%s'?", (int)at, o->path, near) : NULL;
  if (!at) return diag_hint(s->diags, where, hint, "the model has no '%s'", word);
  return diag_hint(s->diags, where, hint, "'%.*s' has no '%s'", (int)at - 1, o->path, word);
}

/* The tree with the value at path + at replaced; NULL after an error. Keys may contain dots: the longest match wins. */
static YNode *set_path(SpecLoader *s, YNode *n, const Override *o, size_t at) {
  const char *rest = o->path + at;
  if (n->kind != Y_MAP) {
    diag_error(s->diags, (Span){o->at.file, 1, (uint32_t)at + 1}, "'%.*s' is %s: nothing below it can be set",
               (int)(at ? at - 1 : 0), o->path, yaml_kind_name(n->kind));
    return NULL;
  }
  int best = -1;
  size_t best_len = 0;
  for (int i = 0; i < n->n; i++) {
    const char *key = n->pair[i].key->text;
    size_t len = strlen(key);
    if (!strncmp(rest, key, len) && (!rest[len] || rest[len] == '.') && (best < 0 || len > best_len))
      best = i, best_len = len;
  }
  if (best < 0) {
    unknown_path(s, n, o, at, strcspn(rest, "."));
    return NULL;
  }
  YNode *old = n->pair[best].value, *new;
  if (rest[best_len]) {
    new = set_path(s, old, o, at + best_len + 1);
  } else if (old->kind != Y_SCALAR) {
    diag_error(s->diags, o->at, "'%s' is %s: set one of its values", o->path, yaml_kind_name(old->kind));
    new = NULL;
  } else {
    new = yaml_scalar(s->arena, o->value, o->value_at);
    new->quoted = old->quoted && !old->literal;
  }
  if (!new) return NULL;
  YNode *copy = map_copy(s->arena, n);
  copy->pair[best].value = new;
  return copy;
}

/* A bare name such as "gpt2" or "gpt2.yaml" may mean a shipped model. */
static const char *find_model(SpecLoader *s, const char *path) {
  if (!access(path, F_OK) || !s->models || strchr(path, '/') || has_dotdot(path)) return path;
  const char *shipped = arena_printf(s->arena, "%s/%s", s->models, path);
  if (!access(shipped, F_OK)) return shipped;
  const char *named = arena_printf(s->arena, "%s/%s.yaml", s->models, path);
  return access(named, F_OK) ? path : named;
}

YNode *spec_load(Arena *a, Diags *d, const char *path, const ModelOptions *opt) {
  SpecLoader s = {.arena = a, .diags = d, .models = opt->models, .folder = opt->folder};
  const char *variant = NULL;
  Span variant_at = {0};
  if (!opt->text) path = find_model(&s, split_variant(a, path, &variant));
  if (variant) variant_at = (Span){diags_source(d, "model", variant, strlen(variant)), 1, 1};
  Override *over = NEW_ARRAY(a, Override, opt->nsets + 1);
  bool ok = true;
  for (int i = 0; i < opt->nsets; i++) {
    if (!parse_set(&s, opt->sets[i], &over[i])) {
      ok = false;
    } else if (!strcmp(over[i].path, "variant")) {
      variant = over[i].value;
      variant_at = over[i].value_at;
    }
  }
  YNode *root = opt->text ? load_root(&s, NULL, yaml_text(a, d, path, opt->text), variant, variant_at)
                          : load_file(&s, path, variant, variant_at);
  if (!root || !ok) return NULL;
  root = map_copy(a, root);
  map_remove(root, intern("variants"));
  for (int i = 0; i < opt->nsets; i++) {
    if (!strcmp(over[i].path, "variant")) continue;
    YNode *next = set_path(&s, root, &over[i], 0);
    ok &= next != NULL;
    if (next) root = next;
  }
  return ok ? root : NULL;
}
