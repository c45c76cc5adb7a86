/* tokenizer.json: normalizers, pre-tokenizers and post-processors, as steps of normalize.h and pretokenize.h. */
#include "text/codec_parts.h"

#include <string.h>

enum { NESTED = 8 }; /* sequences within sequences */

static bool unknown(const char *what, const char *type, Diags *err) {
  return diag_error(err, (Span){0}, "tokenizer.json: the %s '%s' is not supported", what,
                    type ? type : "without a type");
}

bool codec_read_string_or_pattern(const json_t *z, const char *where, char **what, size_t *nwhat, Pattern **pattern,
                                  Diags *err) {
  const json_t *s = json_is_string(z) ? z : json_object_get(z, "String"), *re = json_object_get(z, "Regex");
  if (json_is_string(s)) {
    *nwhat = json_string_length(s);
    *what = codec_copy(json_string_value(s), *nwhat);
    return *nwhat || diag_error(err, (Span){0}, "%s: an empty string to look for", where);
  }
  if (!json_is_string(re)) return diag_error(err, (Span){0}, "%s: a pattern is a String or a Regex", where);
  *pattern = pattern_new(json_string_value(re), json_string_length(re), PATTERN_ONIGURUMA, where, err);
  return *pattern != NULL;
}

/* A string of at most NORMALIZE_LONGEST bytes. */
static bool short_string(const json_t *z, const char *key, const char *where, char **to, size_t *n, Diags *err) {
  const json_t *s = json_object_get(z, key);
  if (!json_is_string(s) || json_string_length(s) > NORMALIZE_LONGEST)
    return diag_error(err, (Span){0}, "%s: '%s' is no string of at most %d bytes", where, key, NORMALIZE_LONGEST);
  *n = json_string_length(s);
  *to = codec_copy(json_string_value(s), *n);
  return true;
}

/* ---- normalizers */

static bool read_charsmap(CodecTables *t, const json_t *z, Diags *err) {
  const json_t *s = json_object_get(z, "precompiled_charsmap");
  static const char where[] = "tokenizer.json: normalizer Precompiled";
  Text blob = {0};
  bool ok = (json_is_string(s) && base64_decode(json_string_value(s), json_string_length(s), &blob)) ||
            diag_error(err, (Span){0}, "%s: precompiled_charsmap is no base64", where);
  if (ok && blob.n) {
    Charsmap *m = charsmap_new(blob.s, blob.n, where, err);
    if (m) normalizer_add(&t->normalizer, NORMALIZE_CHARSMAP)->map = m;
    ok = m != NULL;
  }
  text_free(&blob);
  return ok;
}

static bool read_normalizer(CodecTables *t, const json_t *z, int depth, Diags *err) {
  static const struct {
    const char *type;
    NormalizeKind kind;
  } plain[] = {{"NFC", NORMALIZE_NFC},         {"NFD", NORMALIZE_NFD},
               {"NFKC", NORMALIZE_NFKC},       {"NFKD", NORMALIZE_NFKD},
               {"Nmt", NORMALIZE_NMT},         {"Lowercase", NORMALIZE_LOWERCASE},
               {"ByteLevel", NORMALIZE_SPELL}, {"StripAccents", NORMALIZE_STRIP_ACCENTS}};
  static const char where[] = "tokenizer.json: normalizer";
  if (!z || json_is_null(z)) return true;
  const char *type = json_string_value(json_object_get(z, "type"));
  if (!type || depth > NESTED || t->normalizer.n >= NORMALIZE_STEPS) return unknown("normalizer", type, err);
  for (int i = 0; i < LEN(plain); i++) {
    if (strcmp(plain[i].type, type)) continue;
    normalizer_add(&t->normalizer, plain[i].kind);
    return codec_json_only(z, where, err, "type", NULL);
  }
  if (!strcmp(type, "Sequence")) {
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(z, "normalizers"), i,
                       one) if (!read_normalizer(t, one, depth + 1, err)) return false;
    return codec_json_only(z, where, err, "type", "normalizers", NULL);
  }
  if (!strcmp(type, "Precompiled"))
    return codec_json_only(z, where, err, "type", "precompiled_charsmap", NULL) && read_charsmap(t, z, err);
  if (!strcmp(type, "Replace")) {
    Normalize *s = normalizer_add(&t->normalizer, NORMALIZE_REPLACE);
    return codec_json_only(z, where, err, "type", "pattern", "content", NULL) &&
           codec_read_string_or_pattern(json_object_get(z, "pattern"), where, &s->what, &s->nwhat, &s->pattern, err) &&
           short_string(z, "content", where, &s->with, &s->nwith, err);
  }
  if (!strcmp(type, "Prepend")) {
    Normalize *s = normalizer_add(&t->normalizer, NORMALIZE_PREPEND);
    return codec_json_only(z, where, err, "type", "prepend", NULL) &&
           short_string(z, "prepend", where, &s->with, &s->nwith, err);
  }
  if (!strcmp(type, "Strip")) {
    Normalize *s = normalizer_add(&t->normalizer, NORMALIZE_STRIP);
    s->left = codec_json_bool(z, "strip_left", true);
    s->right = codec_json_bool(z, "strip_right", true);
    return codec_json_only(z, where, err, "type", "strip_left", "strip_right", NULL);
  }
  if (!strcmp(type, "BertNormalizer")) {
    Normalize *s = normalizer_add(&t->normalizer, NORMALIZE_CLEAN);
    s->clean = codec_json_bool(z, "clean_text", true);
    s->chinese = codec_json_bool(z, "handle_chinese_chars", true);
    s->lowercase = codec_json_bool(z, "lowercase", true);
    s->accents = codec_json_bool(z, "strip_accents", s->lowercase);
    return codec_json_only(z, where, err, "type", "clean_text", "handle_chinese_chars", "lowercase", "strip_accents",
                           NULL);
  }
  return unknown("normalizer", type, err);
}

bool codec_read_normalizer(CodecTables *t, const json_t *z, Diags *err) {
  return read_normalizer(t, z, 0, err);
}

/* ---- pre-tokenizers */

static const char where_split[] = "tokenizer.json: pre_tokenizer";

static bool read_mode(const json_t *z, SplitMode otherwise, SplitMode *mode, Diags *err) {
  static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  const char *s = json_string_value(json_object_get(z, "behavior"));
  *mode = otherwise;
  for (int i = 0; s && i < LEN(names); i++)
    if (!strcmp(s, names[i])) return *mode = (SplitMode)i, true;
  return !s || diag_error(err, (Span){0}, "%s: the behavior '%s' is not supported", where_split, s);
}

/* The next step; spelling that was left to the model stands before it. */
static Pretokenize *add(CodecTables *t, PretokenizeKind kind, bool *spelled) {
  if (*spelled) pretokenizer_add(&t->pretokenizer, PRETOKENIZE_SPELL);
  *spelled = false;
  return pretokenizer_add(&t->pretokenizer, kind);
}

static void add_class(CodecTables *t, CharClass class, SplitMode mode, bool *spelled) {
  Pretokenize *s = add(t, PRETOKENIZE_SPLIT, spelled);
  s->class = class;
  s->mode = mode;
}

static bool add_pattern(CodecTables *t, const char *re, PatternDialect d, bool invert, SplitMode mode, bool *spelled,
                        Diags *err) {
  Pretokenize *s = add(t, PRETOKENIZE_SPLIT, spelled);
  s->mode = mode;
  s->invert = invert;
  s->pattern = pattern_new(re, strlen(re), d, where_split, err);
  return s->pattern != NULL;
}

static bool add_metaspace(CodecTables *t, const json_t *z, bool *spelled, Diags *err) {
  const char *scheme = json_string_value(json_object_get(z, "prepend_scheme"));
  char *space = NULL;
  size_t n = 0;
  if (!codec_json_only(z, where_split, err, "type", "replacement", "str_rep", "prepend_scheme", "add_prefix_space",
                       "split", NULL) ||
      !short_string(z, "replacement", where_split, &space, &n, err))
    return false;
  bool prefix = codec_json_bool(z, "add_prefix_space", true);
  if (!scheme) scheme = prefix ? "always" : "never";
  bool first = !strcmp(scheme, "first"), never = !strcmp(scheme, "never") || (!prefix && strcmp(scheme, "never"));
  bool ok =
      (n && (first || never || !strcmp(scheme, "always"))) ||
      diag_error(err, (Span){0}, "%s: the prepend_scheme '%s' of Metaspace is not supported", where_split, scheme);
  if (ok) {
    Pretokenize *s = add(t, PRETOKENIZE_SWAP, spelled);
    s->what = codec_copy(" ", s->nwhat = 1);
    s->with = codec_copy(space, s->nwith = n);
    if (!never) {
      s = add(t, PRETOKENIZE_PREPEND, spelled);
      s->with = codec_copy(space, s->nwith = n);
      s->first = first;
    }
    if (codec_json_bool(z, "split", true)) {
      s = add(t, PRETOKENIZE_SPLIT, spelled);
      s->mode = SPLIT_NEXT;
      s->what = codec_copy(space, s->nwhat = n);
    }
  }
  free(space);
  return ok;
}

static bool read_pretokenizer(CodecTables *t, const json_t *z, int depth, bool *spelled, Diags *err) {
  if (!z || json_is_null(z)) return true;
  const char *type = json_string_value(json_object_get(z, "type"));
  SplitMode mode;
  if (!type || depth > NESTED || t->pretokenizer.n >= NORMALIZE_STEPS) return unknown("pre_tokenizer", type, err);
  if (!strcmp(type, "Sequence")) {
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(z, "pretokenizers"), i,
                       one) if (!read_pretokenizer(t, one, depth + 1, spelled, err)) return false;
    return codec_json_only(z, where_split, err, "type", "pretokenizers", NULL);
  }
  if (!strcmp(type, "ByteLevel")) {
    if (!codec_json_only(z, where_split, err, "type", "add_prefix_space", "trim_offsets", "use_regex", NULL))
      return false;
    if (codec_json_bool(z, "add_prefix_space", true)) {
      Pretokenize *s = add(t, PRETOKENIZE_PREPEND, spelled);
      s->with = codec_copy(" ", s->nwith = 1);
    }
    if (codec_json_bool(z, "use_regex", true) &&
        !add_pattern(t, PATTERN_BYTE_LEVEL, PATTERN_ONIGURUMA, false, SPLIT_ISOLATED, spelled, err))
      return false;
    if (*spelled) pretokenizer_add(&t->pretokenizer, PRETOKENIZE_SPELL);
    return *spelled = true;
  }
  if (!strcmp(type, "Split")) {
    if (!codec_json_only(z, where_split, err, "type", "pattern", "behavior", "invert", NULL) ||
        !read_mode(z, SPLIT_ISOLATED, &mode, err))
      return false;
    Pretokenize *s = add(t, PRETOKENIZE_SPLIT, spelled);
    s->mode = mode;
    s->invert = codec_json_bool(z, "invert", false);
    return codec_read_string_or_pattern(json_object_get(z, "pattern"), where_split, &s->what, &s->nwhat, &s->pattern,
                                        err);
  }
  if (!strcmp(type, "CharDelimiterSplit")) {
    Pretokenize *s = add(t, PRETOKENIZE_SPLIT, spelled);
    s->mode = SPLIT_REMOVED;
    return codec_json_only(z, where_split, err, "type", "delimiter", NULL) &&
           codec_read_string_or_pattern(json_object_get(z, "delimiter"), where_split, &s->what, &s->nwhat, &s->pattern,
                                        err);
  }
  if (!strcmp(type, "Metaspace")) return add_metaspace(t, z, spelled, err);
  if (!strcmp(type, "Punctuation")) {
    if (!codec_json_only(z, where_split, err, "type", "behavior", NULL) || !read_mode(z, SPLIT_ISOLATED, &mode, err))
      return false;
    add_class(t, CLASS_PUNCTUATION, mode, spelled);
    return true;
  }
  if (!strcmp(type, "Digits")) {
    add_class(t, CLASS_NUMERIC, codec_json_bool(z, "individual_digits", false) ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS,
              spelled);
    return codec_json_only(z, where_split, err, "type", "individual_digits", NULL);
  }
  if (!strcmp(type, "Whitespace"))
    return codec_json_only(z, where_split, err, "type", NULL) &&
           add_pattern(t, "\\w+|[^\\w\\s]+", PATTERN_RUST, true, SPLIT_REMOVED, spelled, err);
  if (!strcmp(type, "WhitespaceSplit") || !strcmp(type, "BertPreTokenizer")) {
    add_class(t, CLASS_SPACE, SPLIT_REMOVED, spelled);
    if (type[0] == 'B') add_class(t, CLASS_PUNCTUATION, SPLIT_ISOLATED, spelled);
    return codec_json_only(z, where_split, err, "type", NULL);
  }
  return unknown("pre_tokenizer", type, err);
}

bool codec_read_pretokenizer(CodecTables *t, const json_t *z, bool *spelled, Diags *err) {
  return read_pretokenizer(t, z, 0, spelled, err);
}

/* ---- post-processors: what stands before a text and behind it */

static bool put_id(CodecTables *t, Ids *to, const json_t *id, Diags *err) {
  if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= t->spelled.count)
    return diag_error(err, (Span){0}, "tokenizer.json: the post_processor adds an id that is none");
  ids_add(to, (uint32_t)json_integer_value(id));
  return true;
}

static bool read_template(CodecTables *t, const json_t *z, Ids *before, Ids *after, Diags *err) {
  const json_t *single = json_object_get(z, "single"), *tokens = json_object_get(z, "special_tokens");
  size_t i, k;
  json_t *part, *id;
  int texts = 0;
  if (!codec_json_only(z, "tokenizer.json: post_processor", err, "type", "single", "pair", "special_tokens", NULL))
    return false;
  json_array_foreach(single, i, part) {
    const json_t *token = json_object_get(part, "SpecialToken"), *text = json_object_get(part, "Sequence");
    if (text) {
      texts++;
      continue;
    }
    const char *name = json_string_value(json_object_get(token, "id"));
    const json_t *ids = name ? json_object_get(json_object_get(tokens, name), "ids") : NULL;
    if (!json_is_array(ids))
      return diag_error(err, (Span){0}, "tokenizer.json: the post_processor's template names '%s', which has no ids",
                        name ? name : "nothing");
    json_array_foreach(ids, k, id) if (!put_id(t, texts ? after : before, id, err)) return false;
  }
  return texts == 1 ||
         diag_error(err, (Span){0}, "tokenizer.json: the post_processor's template holds the text %d times", texts);
}

static bool read_processor(CodecTables *t, const json_t *z, int depth, Diags *err) {
  static const char where[] = "tokenizer.json: post_processor";
  if (!z || json_is_null(z)) return true;
  const char *type = json_string_value(json_object_get(z, "type"));
  if (!type || depth > NESTED) return unknown("post_processor", type, err);
  if (!strcmp(type, "Sequence")) {
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(z, "processors"), i,
                       one) if (!read_processor(t, one, depth + 1, err)) return false;
    return codec_json_only(z, where, err, "type", "processors", NULL);
  }
  if (!strcmp(type, "ByteLevel")) /* moves offsets, adds nothing */
    return codec_json_only(z, where, err, "type", "add_prefix_space", "trim_offsets", "use_regex", NULL);
  bool pair = !strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing");
  if (!pair && strcmp(type, "TemplateProcessing")) return unknown("post_processor", type, err);
  Ids before = {0}, after = {0};
  bool ok;
  if (pair)
    ok = codec_json_only(z, where, err, "type", "sep", "cls", "trim_offsets", "add_prefix_space", NULL) &&
         put_id(t, &before, json_array_get(json_object_get(z, "cls"), 1), err) &&
         put_id(t, &after, json_array_get(json_object_get(z, "sep"), 1), err);
  else
    ok = read_template(t, z, &before, &after, err);
  /* This one goes around what there is. */
  for (size_t i = 0; i < t->before.n; i++) ids_add(&before, t->before.v[i]);
  for (size_t i = 0; i < after.n; i++) ids_add(&t->after, after.v[i]);
  free(t->before.v), free(after.v);
  t->before = before;
  return ok;
}

bool codec_read_processor(CodecTables *t, const json_t *z, Diags *err) {
  return read_processor(t, z, 0, err);
}
