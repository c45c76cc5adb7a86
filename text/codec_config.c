/* tokenizer_config.json and chat_template.jinja, beside any kind of tokenizer: further tokens, roles, what stands around a text, the
 * template of a chat, the pattern's name. Keys of tokenizer_config.json that are not named here are other programs' business. */
#include "text/codec_parts.h"

#include <inttypes.h>
#include <string.h>

static const char where[] = "tokenizer_config.json";

static bool read_tokens(CodecTables *t, const json_t *config, Diags *err) {
  const char *key;
  json_t *value;
  json_t *added = json_object_get(config, "added_tokens_decoder");
  if (!json_object_size(added)) return true;
  Spellings tokens = {0};
  bool ok = true;
  for (uint32_t id = 0; id < t->spelled.count; id++) {
    size_t n;
    const char *s = vocab_bytes(&t->spelled, id, &n);
    if (n) ok = ok && spellings_put(&tokens, s, n, id, where, err);
  }
  json_object_foreach(added, key, value) {
    char *end;
    long id = strtol(key, &end, 10);
    if (*end || end == key) ok = diag_error(err, (Span){0}, "%s: '%s' is no id", where, key);
    if (ok && id >= 0 && id < (long)t->spelled.count && (size_t)id < tokens.n && tokens.v[id].s) {
      /* One of SentencePiece's places may be named anew: an unused piece. */
      size_t n = json_string_length(json_object_get(value, "content"));
      const char *s = json_string_value(json_object_get(value, "content"));
      if (s && t->kinds && (n != tokens.v[id].n || memcmp(s, tokens.v[id].s, n))) {
        free(tokens.v[id].s);
        tokens.v[id] = (struct Spelling){0};
      }
    }
    ok = ok && codec_read_added(t, value, id, &tokens, where, err);
    if (!ok) break;
  }
  uint32_t before = t->spelled.count;
  ok = ok && codec_spell(t, &tokens, err);
  if (ok && t->kinds) {
    t->kinds = memory_resize(t->kinds, t->spelled.count, sizeof *t->kinds);
    for (uint32_t id = before; id < t->spelled.count; id++) t->kinds[id] = DECODE_IS_CONTROL;
    for (size_t i = 0; i < t->decoder.n; i++) t->decoder.step[i].kinds = t->kinds;
  }
  spellings_free(&tokens);
  return ok;
}

static bool read_roles(CodecTables *t, const json_t *config, Diags *err) {
  for (int i = 0; i < CODEC_ROLES; i++) {
    const json_t *v = json_object_get(config, codec_roles[i]);
    if (json_is_object(v)) v = json_object_get(v, "content");
    if (!json_is_string(v)) continue;
    uint32_t id;
    if (!vocab_find(&t->spelled, json_string_value(v), json_string_length(v), &id))
      return diag_error(err, (Span){0}, "%s: %s is '%s', which is no token", where, codec_roles[i],
                        json_string_value(v));
    t->role[i] = id;
    if (!t->kinds || t->kinds[id] != DECODE_IS_UNKNOWN) t->special[id] = true;
  }
  return true;
}

/* Said outright, it holds; else what the tokenizer's own file says. */
static bool read_around(CodecTables *t, const json_t *config, Diags *err) {
  static const char *const keys[2] = {"add_bos_token", "add_eos_token"};
  Ids *const to[2] = {&t->before, &t->after};
  for (int i = 0; i < 2; i++) {
    const json_t *v = json_object_get(config, keys[i]);
    int64_t id = t->role[i];
    if (!json_is_boolean(v)) continue;
    bool there = false;
    for (size_t k = 0; k < to[i]->n; k++) there = there || (int64_t)to[i]->v[k] == id;
    if (json_is_true(v) && id < 0)
      return diag_error(err, (Span){0}, "%s: %s, but there is no %s", where, keys[i], codec_roles[i]);
    if (json_is_true(v) && !there) { /* outermost */
      ids_add(to[i], (uint32_t)id);
      if (!i) {
        memmove(to[i]->v + 1, to[i]->v, (to[i]->n - 1) * sizeof *to[i]->v);
        to[i]->v[0] = (uint32_t)id;
      }
    }
    if (json_is_false(v) && there) {
      size_t n = 0;
      for (size_t k = 0; k < to[i]->n; k++)
        if ((int64_t)to[i]->v[k] != id) to[i]->v[n++] = to[i]->v[k];
      to[i]->n = n;
    }
  }
  return true;
}

/* A string, or a list of {"name", "template"}: the one called default. */
static bool read_template(CodecTables *t, const json_t *config, Diags *err) {
  const CodecFile *f = codec_file(t, "chat_template.jinja");
  const json_t *v = json_object_get(config, "chat_template"), *found = json_is_string(v) ? v : NULL;
  size_t i;
  json_t *one;
  if (f) {
    text_write(&t->template, f->bytes, f->n);
    return t->has_template = true;
  }
  json_array_foreach(v, i, one) {
    const char *name = json_string_value(json_object_get(one, "name"));
    if (name && !strcmp(name, "default")) found = json_object_get(one, "template");
  }
  if (json_is_array(v) && !found && json_array_size(v) == 1) found = json_object_get(json_array_get(v, 0), "template");
  if (json_array_size(v) && !json_is_string(found))
    return diag_error(err, (Span){0}, "%s: none of the chat templates is called default", where);
  if (!json_is_string(found)) return true;
  text_write(&t->template, json_string_value(found), json_string_length(found));
  return t->has_template = true;
}

bool codec_read_config(CodecTables *t, const json_t *config, Diags *err) {
  return read_tokens(t, config, err) && read_roles(t, config, err) && read_around(t, config, err) &&
         read_template(t, config, err);
}

/* ---- the pattern of tokenizers whose files do not hold it */

/* As published with each of these encodings. */
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
static const struct {
  const char *name, *pattern;
} patterns[] = {
    {"r50k_base", PATTERN_BYTE_LEVEL},
    {"cl100k_base",
     CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s+$|\\s*[\\r\\n]|"
                  "\\s+(?!\\S)|\\s"},
    {"cl100k_lines", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" REST},
    {"cl100k_digits", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" REST},
    {"o200k_base",
     "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" CONTRACTIONS "?|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER
     "]*" CONTRACTIONS "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
};

bool codec_read_pattern(CodecTables *t, const json_t *config, const char *name, const char *file, Diags *err) {
  const char *given = json_string_value(json_object_get(config, "pattern"));
  const char *re = given, *said = given ? given : name;
  for (int i = 0; said && i < LEN(patterns); i++)
    if (!strcmp(patterns[i].name, said)) re = patterns[i].pattern;
  if (!re)
    return diag_error(
        err, (Span){0},
        "%s: by which pattern its text is split is not known; tokenizer_config.json may say it: \"pattern\": a "
        "regular expression, or r50k_base, cl100k_base, cl100k_lines, cl100k_digits, o200k_base",
        file);
  Pretokenize *s = pretokenizer_add(&t->pretokenizer, PRETOKENIZE_SPLIT);
  s->mode = SPLIT_ISOLATED;
  s->pattern = pattern_new(re, strlen(re), PATTERN_RUST, file, err);
  return s->pattern != NULL;
}
