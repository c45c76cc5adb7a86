/* The `hf:` section to JSON (import.c reads JSON by the same section):
 *
 *   architectures: [Name]      model_type: name
 *   dims: {d: n_embd, ctx: [n_positions, n_ctx]}      a dimension's value under one key or several
 *   config: {act: gelu, epsilon: "= eps", tie: "= tied as bool"}      further keys: constants, or values (config.h)
 *   also, free, absent      for reading alone
 *   generation: {eos_token_id: 50256}                 generation_config.json, as `config`
 *   skip: ["*.inv_freq"]      tensors of checkpoints that are not read
 *   prefix: model.   bare: true      of tensors' names; without it they are all the same
 *
 * A plain true, false, null or number is itself, a text that starts with "=" is a value computed from dims and consts, any
 * other text is a string; lists and mappings nest. What is left of a mapping when conditions take keys away is written
 * unless it is nothing. Keys come out in the order of the file, so the text is a function of it. */
#include "frontend/config.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_string(const char *s, Text *out) {
  text_add(out, "\"");
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      text_add(out, "\\%c", c);
    else if (c == '\n')
      text_add(out, "\\n");
    else if (c < 0x20 || c == 0x7F)
      text_add(out, "\\u%04x", c);
    else
      text_write(out, s, 1);
  }
  text_add(out, "\"");
}

/* JSON's number grammar. */
bool config_is_number(const char *s) {
  if (*s == '-') s++;
  if (!isdigit((unsigned char)*s)) return false;
  if (*s == '0' && isdigit((unsigned char)s[1])) return false;
  while (isdigit((unsigned char)*s)) s++;
  if (*s == '.') {
    if (!isdigit((unsigned char)*++s)) return false;
    while (isdigit((unsigned char)*s)) s++;
  }
  if (*s == 'e' || *s == 'E') {
    s++;
    if (*s == '+' || *s == '-') s++;
    if (!isdigit((unsigned char)*s)) return false;
    while (isdigit((unsigned char)*s)) s++;
  }
  return !*s;
}

void config_write_number(double v, Text *out) {
  if (v == floor(v) && fabs(v) < 9e15) {
    text_add(out, "%lld", (long long)v);
    return;
  }
  char text[40];
  for (int digits = 6; digits <= 17; digits++) { /* the shortest text that reads back as the same double */
    snprintf(text, sizeof text, "%.*g", digits, v);
    if (strtod(text, NULL) == v) break;
  }
  text_add(out, "%s", text);
}

/* ---- texts that begin with "=" */

/* Takes `word` off the end of the slice. */
static bool take_end(Slice *s, const char *word) {
  size_t n = strlen(word);
  if (s->len <= n || strncmp(s->node->text + s->off + s->len - n, word, n) ||
      !isspace((unsigned char)s->node->text[s->off + s->len - n - 1]))
    return false;
  *s = slice_trim((Slice){s->node, s->off, s->len - n});
  return true;
}

/* Divides the slice at the last " word "; what follows it goes to *rest. */
static bool split_at(Slice *s, const char *word, Slice *rest) {
  size_t n = strlen(word);
  const char *text = s->node->text + s->off;
  for (size_t i = s->len > n ? s->len - n : 0; i-- > 0;)
    if (!strncmp(text + i, word, n)) {
      *rest = slice_trim((Slice){s->node, s->off + i + n, s->len - i - n});
      *s = slice_trim((Slice){s->node, s->off, i});
      return true;
    }
  return false;
}

const char *config_unknown_name(Names *nm, const char *name) {
  const char **all = NEW_ARRAY(nm->arena, const char *, nm->n + 1);
  for (int i = 0; i < nm->n; i++) all[i] = nm->list[i].name;
  const char *near = near_miss(name, all, nm->n);
  return near ? arena_printf(nm->arena, "did you mean '%s'?", near) : NULL;
}

bool config_value(Names *nm, YNode *text, ConfigValue *out) {
  Slice s = slice_trim((Slice){text, 1, text->len - 1}), words;
  *out = (ConfigValue){.kind = CONFIG_NUMBER};
  split_at(&s, " when ", &out->when);
  if (take_end(&s, "as bool")) {
    out->kind = CONFIG_BOOL;
  } else if (take_end(&s, "or null")) {
    out->kind = CONFIG_OR_NULL;
  } else if (split_at(&s, " of ", &words)) {
    Slice *part;
    out->kind = CONFIG_WORD;
    if (words.len < 2 || text->text[words.off] != '[' || text->text[words.off + words.len - 1] != ']')
      return diag_error(nm->diags, slice_span(nm, words, 0), "expected the words that stand for 0, 1, ...: [a, b]");
    out->nwords = slice_split(nm->arena, (Slice){text, words.off + 1, words.len - 2}, &part);
    out->word = NEW_ARRAY(nm->arena, const char *, out->nwords + 1);
    for (int i = 0; i < out->nwords; i++) out->word[i] = slice_text(nm, part[i]);
  }
  out->expr = s;
  out->name = names_find(nm, slice_text(nm, s));
  return s.len || diag_error(nm->diags, text->at, "expected an expression after '='");
}

/* Does a condition keep the key, or all within it, out of the file? */
static bool is_left_out(Names *nm, YNode *v, bool *ok) {
  ConfigValue c;
  double x = 1;
  if (config_is_value(v)) {
    if (!strstr(v->text, " when ")) return false; /* what is wrong with it is said where it is written */
    if (!config_value(nm, v, &c) || !names_number(nm, c.when, NULL, 0, &x)) *ok = false, x = 0;
    return x == 0;
  }
  bool all = v->kind == Y_MAP && v->n;
  for (int i = 0; i < v->n && all; i++) all = is_left_out(nm, v->pair[i].value, ok);
  return all;
}

static bool write_computed(Names *nm, YNode *v, Text *out) {
  ConfigValue c;
  double x = 0;
  if (!config_value(nm, v, &c) || !names_number(nm, c.expr, NULL, 0, &x)) return false;
  if (c.kind == CONFIG_BOOL) {
    text_add(out, x != 0 ? "true" : "false");
  } else if (c.kind == CONFIG_OR_NULL && x == 0) {
    text_add(out, "null");
  } else if (c.kind == CONFIG_WORD) {
    if (!(x >= 0 && x < c.nwords && x == floor(x)))
      return diag_error(nm->diags, v->at, "%g is none of the %d words, which count from 0", x, c.nwords);
    write_string(c.word[(int)x], out);
  } else {
    config_write_number(x, out);
  }
  return true;
}

static bool write_value(Names *nm, YNode *v, int indent, Text *out) {
  bool ok = true;
  if (config_is_value(v)) return write_computed(nm, v, out);
  if (v->kind == Y_SCALAR) {
    bool word = !strcmp(v->text, "true") || !strcmp(v->text, "false") || !strcmp(v->text, "null");
    if (!v->quoted && (word || config_is_number(v->text)))
      text_add(out, "%s", v->text);
    else
      write_string(v->text, out);
    return true;
  }
  int n = 0;
  text_add(out, v->kind == Y_SEQ ? "[" : "{");
  for (int i = 0; i < v->n; i++) {
    YNode *item = v->kind == Y_SEQ ? v->item[i] : v->pair[i].value;
    if (v->kind == Y_MAP && is_left_out(nm, item, &ok)) continue;
    text_add(out, "%s\n%*s", n++ ? "," : "", indent + 2, "");
    if (v->kind == Y_MAP) write_string(v->pair[i].key->text, out), text_add(out, ": ");
    ok &= write_value(nm, item, indent + 2, out);
  }
  if (n) text_add(out, "\n%*s", indent, "");
  text_add(out, v->kind == Y_SEQ ? "]" : "}");
  return ok;
}

typedef struct Object { /* the JSON object that is being written */
  Names *nm;
  Text out;
  const char **keys;
  int n, cap;
} Object;

static bool add_key(Object *o, const char *key, Span at) {
  enum { KEYS = 1000 }; /* each is compared with all */
  if (o->n == KEYS) return diag_error(o->nm->diags, at, "more than %d config keys", (int)KEYS);
  for (int i = 0; i < o->n; i++)
    if (!strcmp(o->keys[i], key)) return diag_error(o->nm->diags, at, "config key '%s' is written twice", key);
  PUSH(o->nm->arena, o->keys, o->n, o->cap, key);
  text_add(&o->out, "%s\n  ", o->n > 1 ? "," : "");
  write_string(key, &o->out);
  text_add(&o->out, ": ");
  return true;
}

static bool add_dim(Object *o, YPair p) {
  const Number *dim = names_find(o->nm, p.key->text);
  if (!dim || dim->sym)
    return diag_hint(o->nm->diags, p.key->at, config_unknown_name(o->nm, p.key->text), "unknown dimension '%s'",
                     p.key->text);
  YNode *one[] = {p.value}, **key = p.value->kind == Y_SEQ ? p.value->item : one;
  int n = p.value->kind == Y_SEQ ? p.value->n : 1;
  for (int i = 0; i < n; i++) {
    if (!yaml_expect(o->nm->diags, key[i], Y_SCALAR, "a config key") || !add_key(o, key[i]->text, key[i]->at))
      return false;
    config_write_number(dim->value, &o->out);
  }
  return true;
}

static bool add_map(Object *o, YNode *map, const char *what) {
  if (!map) return true;
  if (!yaml_expect(o->nm->diags, map, Y_MAP, what)) return false;
  bool ok = true;
  for (int i = 0; i < map->n; i++) {
    YPair p = map->pair[i];
    if (is_left_out(o->nm, p.value, &ok)) continue;
    ok &= add_key(o, p.key->text, p.key->at) && write_value(o->nm, p.value, 2, &o->out);
  }
  return ok;
}

static const char *finish(Object *o) {
  text_add(&o->out, "\n}\n");
  const char *s = arena_strdup(o->nm->arena, o->out.s);
  text_free(&o->out);
  return s;
}

/* What only import.c reads, checked here, so that a mistake shows when the model is built. */
static bool check_patterns(Names *nm, YNode *v) {
  ConfigValue c;
  bool ok = true;
  if (config_is_value(v)) {
    if (!config_value(nm, v, &c)) return false;
    double x;
    ok = names_number(nm, c.expr, &(Local){"i", 0}, 1, &x);
  }
  for (int i = 0; i < v->n; i++) ok &= check_patterns(nm, v->kind == Y_SEQ ? v->item[i] : v->pair[i].value);
  return ok;
}

static bool check_reading(Names *nm, const YNode *hf) {
  YNode *also = yaml_get(hf, "also"), *free_keys = yaml_get(hf, "free"), *absent = yaml_get(hf, "absent");
  bool ok = !also || (yaml_expect(nm->diags, also, Y_MAP, "hf.also") && check_patterns(nm, also));
  if (free_keys && !yaml_expect(nm->diags, free_keys, Y_SEQ, "hf.free")) return false;
  for (int i = 0; free_keys && i < free_keys->n; i++)
    ok &= yaml_expect(nm->diags, free_keys->item[i], Y_SCALAR, "a config key");
  if (absent && !yaml_expect(nm->diags, absent, Y_MAP, "hf.absent")) return false;
  for (int i = 0; absent && i < absent->n; i++) {
    YPair p = absent->pair[i];
    double x;
    if (!names_find(nm, p.key->text))
      ok = diag_hint(nm->diags, p.key->at, config_unknown_name(nm, p.key->text), "unknown dimension or constant '%s'",
                     p.key->text);
    ok &= yaml_expect(nm->diags, p.value, Y_SCALAR, p.key->text) && names_number(nm, slice_all(p.value), NULL, 0, &x);
  }
  return ok;
}

bool config_make(Names *nm, const YNode *hf, const char **config, const char **generation) {
  *config = *generation = NULL;
  if (!hf) return true;
  if (!yaml_expect(nm->diags, hf, Y_MAP, "hf")) return false;
  static const char *const keys[] = {"architectures", "model_type", "dims", "config", "also", "free",
                                     "absent",        "generation", "skip", "prefix", "bare"};
  bool ok = yaml_check_keys(nm->diags, hf, "hf", keys, LEN(keys)) & check_reading(nm, hf);
  Object o = {.nm = nm};
  text_add(&o.out, "{");
  for (int i = 0; i < 2; i++) {
    YNode *v = yaml_get(hf, keys[i]);
    if (!v)
      ok = diag_error(nm->diags, hf->at, "hf has no '%s': other tools need it to know the model", keys[i]);
    else
      ok &= yaml_expect(nm->diags, v, i ? Y_SCALAR : Y_SEQ, keys[i]) && add_key(&o, keys[i], v->at) &&
            write_value(nm, v, 2, &o.out);
  }
  YNode *dims = yaml_get(hf, "dims");
  if (dims && !yaml_expect(nm->diags, dims, Y_MAP, "hf.dims"))
    ok = false;
  else
    for (int i = 0; dims && i < dims->n; i++) ok &= add_dim(&o, dims->pair[i]);
  YNode *extra = yaml_get(hf, "config");
  ok &= add_map(&o, extra, "hf.config");
  if (!yaml_get(extra, "torch_dtype") && add_key(&o, "torch_dtype", hf->at)) text_add(&o.out, "\"float32\"");
  *config = finish(&o);
  Object gen = {.nm = nm};
  text_add(&gen.out, "{");
  ok &= add_map(&gen, yaml_get(hf, "generation"), "hf.generation");
  *generation = finish(&gen);
  if (!yaml_get(hf, "generation")) *generation = NULL;
  return ok;
}

bool config_tensors(Names *nm, const YNode *hf, ConfigTensors *out) {
  enum { PATTERNS = 64, PATTERN = 200 }; /* each is held against every name */
  const YNode *skip = yaml_get(hf, "skip"), *prefix = yaml_get(hf, "prefix"), *bare = yaml_get(hf, "bare");
  Text t = {0};
  *out = (ConfigTensors){"", "", false};
  if (skip && !yaml_expect(nm->diags, skip, Y_SEQ, "hf.skip")) return false;
  if (skip && skip->n > PATTERNS) return diag_error(nm->diags, skip->at, "more than %d patterns", (int)PATTERNS);
  bool ok = true;
  for (int i = 0; skip && i < skip->n; i++) {
    const YNode *p = skip->item[i];
    if (!yaml_expect(nm->diags, p, Y_SCALAR, "a pattern"))
      ok = false;
    else if (!p->len || p->len > PATTERN || strchr(p->text, '\n'))
      ok = diag_error(nm->diags, p->at, "a pattern is a line of 1 to %d characters", (int)PATTERN);
    else
      text_add(&t, "%s%s", t.n ? "\n" : "", p->text);
  }
  if (t.n) out->skip = arena_strdup(nm->arena, t.s);
  text_free(&t);
  if (prefix && (ok &= yaml_expect(nm->diags, prefix, Y_SCALAR, "hf.prefix"))) out->prefix = prefix->text;
  if (!bare) return ok;
  if (!yaml_expect(nm->diags, bare, Y_SCALAR, "hf.bare")) return false;
  out->bare = !strcmp(bare->text, "true");
  return ok && (out->bare || !strcmp(bare->text, "false") || diag_error(nm->diags, bare->at, "bare is true or false"));
}
