/* The `hf:` section to JSON:
 *
 *   architectures: [GPT2LMHeadModel]      model_type: gpt2
 *   dims: {d: n_embd, ctx: [n_positions, n_ctx]}      a dimension's value under one key or several
 *   config: {activation_function: gelu_new, layer_norm_epsilon: "= eps"}      further keys, verbatim
 *   generation: {eos_token_id: 50256}                 generation_config.json, likewise
 *
 * A plain true, false, null or number is itself, a text that starts with "=" is an expression over dims and consts, any
 * other text is a string; lists and mappings nest. Keys come out in the order of the file, so the text is a function of it. */
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
static bool is_number(const char *s) {
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

static void write_number(double v, Text *out) {
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

static bool write_value(Names *nm, YNode *v, int indent, Text *out) {
  bool ok = true;
  if (v->kind == Y_SCALAR && v->text[0] == '=') {
    double x = 0;
    Slice s = {v, 1, v->len - 1};
    if (!names_number(nm, slice_trim(s), NULL, 0, &x)) return false;
    write_number(x, out);
  } else if (v->kind == Y_SCALAR) {
    bool word = !strcmp(v->text, "true") || !strcmp(v->text, "false") || !strcmp(v->text, "null");
    if (!v->quoted && (word || is_number(v->text)))
      text_add(out, "%s", v->text);
    else
      write_string(v->text, out);
  } else {
    text_add(out, v->kind == Y_SEQ ? "[" : "{");
    for (int i = 0; i < v->n; i++) {
      text_add(out, "%s\n%*s", i ? "," : "", indent + 2, "");
      if (v->kind == Y_MAP) write_string(v->pair[i].key->text, out), text_add(out, ": ");
      ok &= write_value(nm, v->kind == Y_SEQ ? v->item[i] : v->pair[i].value, indent + 2, out);
    }
    if (v->n) text_add(out, "\n%*s", indent, "");
    text_add(out, v->kind == Y_SEQ ? "]" : "}");
  }
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
  if (!dim || dim->sym) {
    const char **all = NEW_ARRAY(o->nm->arena, const char *, o->nm->n + 1);
    for (int i = 0; i < o->nm->n; i++) all[i] = o->nm->list[i].name;
    const char *near = near_miss(p.key->text, all, o->nm->n);
    return diag_hint(o->nm->diags, p.key->at, near ? arena_printf(o->nm->arena, "did you mean '%s'?", near) : NULL,
                     "unknown dimension '%s'", p.key->text);
  }
  YNode *one[] = {p.value}, **key = p.value->kind == Y_SEQ ? p.value->item : one;
  int n = p.value->kind == Y_SEQ ? p.value->n : 1;
  for (int i = 0; i < n; i++) {
    if (!yaml_expect(o->nm->diags, key[i], Y_SCALAR, "a config key") || !add_key(o, key[i]->text, key[i]->at))
      return false;
    write_number(dim->value, &o->out);
  }
  return true;
}

static bool add_map(Object *o, YNode *map, const char *what) {
  if (!map) return true;
  if (!yaml_expect(o->nm->diags, map, Y_MAP, what)) return false;
  bool ok = true;
  for (int i = 0; i < map->n; i++) {
    YPair p = map->pair[i];
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

bool config_make(Names *nm, const YNode *hf, const char **config, const char **generation) {
  *config = *generation = NULL;
  if (!hf) return true;
  if (!yaml_expect(nm->diags, hf, Y_MAP, "hf")) return false;
  static const char *const keys[] = {"architectures", "model_type", "dims", "config", "generation"};
  bool ok = yaml_check_keys(nm->diags, hf, "hf", keys, LEN(keys));
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
