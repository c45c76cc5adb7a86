/* tokenizer.json: its vocabulary and model. The steps around them are in codec_steps.c and codec_decoder.c.
 *
 * What the file holds is copied; the JSON goes when it is read. Every kind and key that is not known is an error. */
#include "text/byte_level.h"
#include "text/codec_parts.h"

#include <inttypes.h>
#include <string.h>

enum { HOLES = 1 << 14 }; /* ids without a token: so many, and four for each that has one */

#define NUL_AS "\xf4\x8f\xbf\xbf" /* U+10FFFF */

char *codec_copy(const char *s, size_t n) {
  char *copy = memory_resize(NULL, n + 1, 1);
  if (n) memcpy(copy, s, n);
  copy[n] = 0;
  return copy;
}

/* ---- JSON */

json_t *codec_json(CodecTables *t, const CodecFile *f, Diags *err) {
  const char *s = f->bytes;
  size_t n = f->n;
  Text other = {0};
  if (memmem(s, n, "\\u0000", 6)) {
    if (memmem(s, n, NUL_AS, 4) || memmem(s, n, "\\udbff\\udfff", 12) || memmem(s, n, "\\uDBFF\\uDFFF", 12)) {
      diag_error(err, (Span){0}, "%s: U+0000 and U+10FFFF in one file are not supported", f->name);
      return NULL;
    }
    for (size_t i = 0; i < n;) { /* an escape is a backslash and what follows; outside of strings there is none */
      const char *slash = memchr(s + i, '\\', n - i);
      size_t at = slash ? (size_t)(slash - s) : n;
      text_write(&other, s + i, at - i);
      if (n - at >= 6 && !memcmp(s + at, "\\u0000", 6)) {
        text_add(&other, "\\udbff\\udfff");
        i = at + 6;
      } else {
        i = at + 2 < n ? at + 2 : n;
        if (at < n) text_write(&other, s + at, i - at);
      }
    }
    s = other.s, n = other.n;
    t->nul = true;
  }
  json_error_t e;
  json_t *root = json_loadb(s, n, 0, &e);
  /* model_max_length is 10^30 where nobody set it: then all numbers are read as reals, none of which names a token */
  if (!root && json_error_code(&e) == json_error_numeric_overflow && !strcmp(f->name, "tokenizer_config.json"))
    root = json_loadb(s, n, JSON_DECODE_INT_AS_REAL, &e);
  if (!root) diag_error(err, (Span){0}, "%s:%d:%d: %s", f->name, e.line, e.column, e.text);
  text_free(&other);
  return root;
}

const char *codec_json_string(const CodecTables *t, const char *s, size_t *n, Text *out) {
  const char *hit;
  if (!t->nul || !memmem(s, *n, NUL_AS, 4)) return s;
  out->n = 0;
  while ((hit = memmem(s, *n, NUL_AS, 4)) != NULL) {
    text_write(out, s, (size_t)(hit - s));
    text_write(out, "", 1);
    *n -= (size_t)(hit + 4 - s);
    s = hit + 4;
  }
  text_write(out, s, *n);
  *n = out->n;
  return out->s;
}

bool codec_json_only(const json_t *o, const char *where, Diags *err, ...) {
  const char *key;
  json_t *value;
  if (!json_is_object(o)) return diag_error(err, (Span){0}, "%s is no object", where);
  json_object_foreach((json_t *)o, key, value) {
    va_list ap;
    bool known = json_is_null(value) || json_is_false(value) || (json_is_string(value) && !json_string_length(value));
    va_start(ap, err);
    for (const char *k; !known && (k = va_arg(ap, const char *)) != NULL;) known = !strcmp(k, key);
    va_end(ap);
    if (!known) return diag_error(err, (Span){0}, "%s: '%s' is not supported", where, key);
  }
  return true;
}

bool codec_json_bool(const json_t *o, const char *key, bool otherwise) {
  const json_t *v = json_object_get(o, key);
  return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

/* ---- tokens by id */

bool spellings_put(Spellings *p, const char *s, size_t n, int64_t id, const char *where, Diags *err) {
  if (id < 0 || id >= CODEC_MOST_TOKENS)
    return diag_error(err, (Span){0}, "%s: the id %" PRId64 "; ids are 0 to %d", where, id, CODEC_MOST_TOKENS - 1);
  if (n > CODEC_LONGEST_TOKEN)
    return diag_error(err, (Span){0}, "%s: token %" PRId64 " has more than %d bytes", where, id, CODEC_LONGEST_TOKEN);
  RESERVE(p->v, p->cap, (size_t)id + 1);
  while (p->n <= (size_t)id) p->v[p->n++] = (struct Spelling){0};
  struct Spelling *to = &p->v[id];
  if (to->s && (to->n != n || memcmp(to->s, s, n)))
    return diag_error(err, (Span){0}, "%s: '%s' and '%s' both have the id %" PRId64, where, to->s, s, id);
  if (!to->s) *to = (struct Spelling){codec_copy(s, n), n};
  return true;
}

bool spellings_dense(const Spellings *p, const char *where, Diags *err) {
  size_t count = 0;
  for (size_t i = 0; i < p->n; i++) count += p->v[i].s != NULL;
  return p->n <= HOLES + 4 * count ||
         diag_error(err, (Span){0}, "%s: the id %zu, and only %zu tokens", where, p->n - 1, count);
}

void spellings_free(Spellings *p) {
  for (size_t i = 0; i < p->n; i++) free(p->v[i].s);
  free(p->v);
  *p = (Spellings){0};
}

/* May be called again, with more tokens. */
bool codec_spell(CodecTables *t, const Spellings *p, Diags *err) {
  if (!spellings_dense(p, t->source, err)) return false;
  uint32_t before = t->spelled.count;
  vocab_free(&t->spelled);
  for (size_t i = 0; i < p->n; i++) vocab_add(&t->spelled, p->v[i].s, p->v[i].n);
  if (t->spelled.count <= before) return true;
  t->special = memory_resize(t->special, t->spelled.count, sizeof *t->special);
  for (uint32_t i = before; i < t->spelled.count; i++) t->special[i] = false;
  return true;
}

static bool read_vocab(const CodecTables *t, const json_t *vocab, Spellings *tokens, Diags *err) {
  const char *key;
  json_t *value;
  Text buffer = {0};
  bool ok = json_is_object(vocab) || diag_error(err, (Span){0}, "%s: the vocabulary is no object", t->source);
  if (ok) json_object_foreach((json_t *)vocab, key, value) {
      if (!json_is_integer(value)) {
        ok = diag_error(err, (Span){0}, "%s: the id of '%s' is no integer", t->source, key);
        break;
      }
      size_t n = strlen(key);
      const char *s = codec_json_string(t, key, &n, &buffer);
      if (!(ok = spellings_put(tokens, s, n, json_integer_value(value), t->source, err))) break;
    }
  text_free(&buffer);
  return ok && spellings_dense(tokens, t->source, err);
}

/* ---- byte pairs */

static bool all_bytes(const Spellings *tokens) {
  bool have[256] = {false};
  int n = 0;
  for (size_t i = 0; i < tokens->n; i++) {
    Text one = {0};
    const struct Spelling *x = &tokens->v[i];
    if (x->n && x->n <= 2 && byte_level_despell(x->s, x->n, &one) && one.n == 1) {
      unsigned char c = (unsigned char)one.s[0];
      n += !have[c];
      have[c] = true;
    }
    text_free(&one);
  }
  return n == 256;
}

/* One part of a merge, as the model has it. */
static bool find_part(const CodecTables *t, const char *s, size_t n, Text *bytes, uint32_t *id) {
  bytes->n = 0;
  if (t->model.kind != SUBWORD_BYTES)
    text_write(bytes, s, n);
  else if (!byte_level_despell(s, n, bytes))
    return false;
  return bpe_find(t->model.bpe, bytes->s, bytes->n, id);
}

static bool read_merge(CodecTables *t, const json_t *merge, size_t i, Text part[2], Text *buffer, Diags *err) {
  const char *s[2] = {NULL, NULL};
  size_t n[2] = {0, 0};
  uint32_t id[2], merged;
  if (json_is_string(merge)) {
    s[0] = json_string_value(merge);
    const char *space = strchr(s[0], ' ');
    if (space && !strchr(space + 1, ' ')) {
      n[0] = (size_t)(space - s[0]);
      s[1] = space + 1;
      n[1] = strlen(s[1]);
    }
  } else if (json_array_size(merge) == 2) {
    for (int k = 0; k < 2; k++) {
      s[k] = json_string_value(json_array_get(merge, (size_t)k));
      n[k] = s[k] ? strlen(s[k]) : 0;
    }
  }
  if (!n[0] || !n[1]) return diag_error(err, (Span){0}, "%s: merge %zu is no pair of tokens", t->source, i);
  for (int k = 0; k < 2; k++) {
    s[k] = codec_json_string(t, s[k], &n[k], &buffer[k]);
    if (!find_part(t, s[k], n[k], &part[k], &id[k]))
      return diag_error(err, (Span){0}, "%s: the vocabulary lacks '%.*s' of merge %zu", t->source,
                        (int)(n[k] < 200 ? n[k] : 200), s[k], i);
  }
  size_t skip = t->model.prefix ? strlen(t->model.prefix) : 0;
  if (skip > part[1].n) return diag_error(err, (Span){0}, "%s: merge %zu lacks the prefix", t->source, i);
  text_write(&part[0], part[1].s + skip, part[1].n - skip);
  if (!bpe_find(t->model.bpe, part[0].s, part[0].n, &merged))
    return diag_error(err, (Span){0}, "%s: the vocabulary lacks what merge %zu makes", t->source, i);
  return bpe_rank(t->model.bpe, id[0], id[1], merged, (uint32_t)i) ||
         diag_error(err, (Span){0}, "%s: merge %zu stands there twice", t->source, i);
}

static bool read_pairs(CodecTables *t, const json_t *z, bool spelled, Spellings *tokens, Diags *err) {
  Subword *m = &t->model;
  if (!codec_json_only(z, "tokenizer.json: the BPE model", err, "type", "unk_token", "continuing_subword_prefix",
                       "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges", "dropout",
                       NULL))
    return false;
  const json_t *dropout = json_object_get(z, "dropout");
  if (json_is_number(dropout) && json_number_value(dropout) != 0)
    return diag_error(err, (Span){0}, "tokenizer.json: dropout is not supported");
  if (!read_vocab(t, json_object_get(z, "vocab"), tokens, err)) return false;
  const char *prefix = json_string_value(json_object_get(z, "continuing_subword_prefix")),
             *suffix = json_string_value(json_object_get(z, "end_of_word_suffix"));
  if (prefix && *prefix) m->prefix = codec_copy(prefix, strlen(prefix));
  if (suffix && *suffix) m->suffix = codec_copy(suffix, strlen(suffix));
  m->fuse_unk = codec_json_bool(z, "fuse_unk", false);
  m->fallback = codec_json_bool(z, "byte_fallback", false);
  m->whole = codec_json_bool(z, "ignore_merges", false);
  bool bytes = spelled && !m->prefix && !m->suffix && !m->fallback && all_bytes(tokens);
  m->kind = bytes ? SUBWORD_BYTES : SUBWORD_CHARS;
  if (spelled && !bytes) pretokenizer_add(&t->pretokenizer, PRETOKENIZE_SPELL);
  m->bpe = bpe_new();
  Text part[2] = {{0}, {0}}, buffer[2] = {{0}, {0}};
  for (size_t i = 0; i < tokens->n; i++) {
    struct Spelling *x = &tokens->v[i];
    part[0].n = 0;
    if (bytes && x->s && !byte_level_despell(x->s, x->n, &part[0]))
      part[0].n = 0; /* not of this spelling: an added one */
    if (bytes)
      bpe_add(m->bpe, part[0].s, part[0].n);
    else
      bpe_add(m->bpe, x->s, x->n);
  }
  const json_t *merges = json_object_get(z, "merges");
  size_t i;
  json_t *merge;
  bool ok = json_is_array(merges) || diag_error(err, (Span){0}, "%s: the BPE model has no merges", t->source);
  if (ok) json_array_foreach(merges, i, merge) {
      if (!(ok = read_merge(t, merge, i, part, buffer, err))) break;
    }
  for (int k = 0; k < 2; k++) text_free(&part[k]), text_free(&buffer[k]);
  return ok;
}

/* ---- the other models */

static bool read_unigram(CodecTables *t, const json_t *z, Spellings *tokens, Diags *err) {
  Subword *m = &t->model;
  size_t i;
  json_t *entry;
  Text buffer = {0};
  if (!codec_json_only(z, "tokenizer.json: the Unigram model", err, "type", "unk_id", "vocab", "byte_fallback", NULL))
    return false;
  const json_t *vocab = json_object_get(z, "vocab"), *unk = json_object_get(z, "unk_id");
  size_t n = json_array_size(vocab);
  if (!n || n > CODEC_MOST_TOKENS)
    return diag_error(err, (Span){0}, "tokenizer.json: the vocabulary is no list of 1 to %d tokens", CODEC_MOST_TOKENS);
  m->kind = SUBWORD_UNIGRAM;
  m->fallback = codec_json_bool(z, "byte_fallback", false);
  m->score = memory_zeroed(n, sizeof *m->score);
  bool ok = true;
  json_array_foreach(vocab, i, entry) {
    const json_t *s = json_array_get(entry, 0), *score = json_array_get(entry, 1);
    ok = (json_is_string(s) && json_is_number(score)) ||
         diag_error(err, (Span){0}, "tokenizer.json: token %zu is no pair of text and score", i);
    if (!ok) break;
    size_t k = json_string_length(s);
    const char *text = codec_json_string(t, json_string_value(s), &k, &buffer);
    if (!(ok = spellings_put(tokens, text, k, (int64_t)i, "tokenizer.json", err))) break;
    m->score[i] = json_number_value(score);
  }
  text_free(&buffer);
  if (json_is_integer(unk)) m->unk = json_integer_value(unk);
  if (ok && (m->unk < -1 || m->unk >= (int64_t)n))
    ok = diag_error(err, (Span){0}, "tokenizer.json: unk_id is no token");
  return ok;
}

static bool read_words(CodecTables *t, const json_t *z, bool pieces, Spellings *tokens, Diags *err) {
  Subword *m = &t->model;
  m->kind = pieces ? SUBWORD_WORDPIECE : SUBWORD_WORD;
  if (!(pieces ? codec_json_only(z, "tokenizer.json: the WordPiece model", err, "type", "unk_token",
                                 "continuing_subword_prefix", "max_input_chars_per_word", "vocab", NULL)
               : codec_json_only(z, "tokenizer.json: the WordLevel model", err, "type", "unk_token", "vocab", NULL)))
    return false;
  const char *prefix = json_string_value(json_object_get(z, "continuing_subword_prefix"));
  const json_t *most = json_object_get(z, "max_input_chars_per_word");
  if (prefix) m->prefix = codec_copy(prefix, strlen(prefix));
  m->longest = json_is_integer(most) && json_integer_value(most) > 0 ? (size_t)json_integer_value(most) : 100;
  return read_vocab(t, json_object_get(z, "vocab"), tokens, err);
}

bool codec_read_model(CodecTables *t, const json_t *z, bool spelled, Spellings *tokens, Diags *err) {
  Subword *m = &t->model;
  if (!json_is_object(z)) return diag_error(err, (Span){0}, "tokenizer.json: no model");
  const char *type = json_string_value(json_object_get(z, "type"));
  if (!type) /* files of old */
    type = json_object_get(z, "merges")                      ? "BPE"
           : json_is_array(json_object_get(z, "vocab"))      ? "Unigram"
           : json_object_get(z, "continuing_subword_prefix") ? "WordPiece"
                                                             : "WordLevel";
  bool ok = false;
  if (!strcmp(type, "BPE"))
    ok = read_pairs(t, z, spelled, tokens, err);
  else if (!strcmp(type, "Unigram"))
    ok = read_unigram(t, z, tokens, err);
  else if (!strcmp(type, "WordPiece") || !strcmp(type, "WordLevel"))
    ok = read_words(t, z, type[4] == 'P', tokens, err);
  else
    diag_error(err, (Span){0}, "tokenizer.json: the model '%s' is not supported", type);
  if (!ok) return false;
  if (!m->bpe) {
    if (spelled) pretokenizer_add(&t->pretokenizer, PRETOKENIZE_SPELL);
    for (size_t i = 0; i < tokens->n; i++) vocab_add(&m->vocab, tokens->v[i].s, tokens->v[i].n);
  }
  const char *unk = json_string_value(json_object_get(z, "unk_token"));
  uint32_t id;
  if (unk && *unk && (m->bpe ? bpe_find(m->bpe, unk, strlen(unk), &id) : vocab_find(&m->vocab, unk, strlen(unk), &id)))
    m->unk = id;
  return subword_ready(m, t->source, err);
}

/* ---- added tokens */

bool codec_read_added(CodecTables *t, const json_t *from, int64_t id, Spellings *tokens, const char *where,
                      Diags *err) {
  const json_t *content = json_object_get(from, "content");
  Text buffer = {0};
  uint32_t have;
  if (!json_is_string(content)) return diag_error(err, (Span){0}, "%s: an added token without content", where);
  if (!codec_json_only(from, where, err, "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special",
                       "__type", NULL))
    return false;
  size_t n = json_string_length(content);
  const char *s = codec_json_string(t, json_string_value(content), &n, &buffer);
  bool special = codec_json_bool(from, "special", false), ok = true;
  AddedToken token = {.content = (char *)s,
                      .n = n,
                      .left = codec_json_bool(from, "lstrip", false),
                      .right = codec_json_bool(from, "rstrip", false),
                      .word = codec_json_bool(from, "single_word", false),
                      .normalized = codec_json_bool(from, "normalized", !special),
                      .special = special};
  if (vocab_find(&t->spelled, s, n, &have) && have != (uint32_t)id && id >= 0)
    ok = diag_error(err, (Span){0}, "%s: '%s' has the id %" PRId64 " here, and %" PRIu32 " in the vocabulary", where, s,
                    id, have);
  ok = ok && spellings_put(tokens, s, n, id, where, err);
  token.id = (uint32_t)id;
  ok = ok && added_put(&t->added, &token, where, err);
  text_free(&buffer);
  return ok;
}

bool codec_index_added(CodecTables *t, Diags *err) {
  Text text = {0}, other = {0};
  PatternWork *w = pattern_work_new();
  Spellings written = {0};
  bool ok = true, first = true, changed = false;
  for (size_t i = 0; ok && i < t->added.n; i++) {
    const AddedToken *a = &t->added.v[i];
    if (a->special && a->id < t->spelled.count) t->special[a->id] = true;
    if (!a->normalized) {
      trie_add(&t->added.plain, a->content, a->n, (uint32_t)i);
      continue;
    }
    text.n = 0;
    text_write(&text, a->content, a->n);
    ok = normalize(&t->normalizer, w, &first, &text, &other, err);
    if (!ok || !text.n) continue;
    trie_add(&t->added.normalized, text.s, text.n, (uint32_t)i);
    changed = changed || text.n != a->n || memcmp(text.s, a->content, a->n);
    ok = spellings_put(&written, text.s, text.n, a->id, t->source, err);
  }
  for (uint32_t id = 0; ok && changed && id < t->spelled.count; id++) {
    size_t n;
    const char *s = vocab_bytes(&t->spelled, id, &n);
    bool other_one = id < written.n && written.v[id].s;
    vocab_add(&t->written, other_one ? written.v[id].s : s, other_one ? written.v[id].n : n);
  }
  spellings_free(&written);
  pattern_work_free(w);
  text_free(&text), text_free(&other);
  return ok;
}

/* ---- the whole file */

bool codec_read_json(CodecTables *t, const CodecFile *f, Diags *err) {
  json_t *root = codec_json(t, f, err);
  if (!root) return false;
  Spellings tokens = {0};
  bool spelled = false;
  t->source = f->name;
  bool ok = codec_json_only(root, "tokenizer.json", err, "version", "truncation", "padding", "added_tokens",
                            "normalizer", "pre_tokenizer", "post_processor", "decoder", "model", NULL);
  ok = ok && codec_read_normalizer(t, json_object_get(root, "normalizer"), err) &&
       codec_read_pretokenizer(t, json_object_get(root, "pre_tokenizer"), &spelled, err) &&
       codec_read_model(t, json_object_get(root, "model"), spelled, &tokens, err);
  ok = ok && codec_spell(t, &tokens, err);
  size_t i;
  json_t *added;
  if (ok) json_array_foreach(json_object_get(root, "added_tokens"), i, added) {
      const json_t *id = json_object_get(added, "id");
      ok = json_is_integer(id) || diag_error(err, (Span){0}, "tokenizer.json: added token %zu has no id", i);
      if (!(ok =
                ok && codec_read_added(t, added, json_integer_value(id), &tokens, "tokenizer.json: added_tokens", err)))
        break;
    }
  ok = ok && codec_spell(t, &tokens, err);
  ok = ok && codec_read_processor(t, json_object_get(root, "post_processor"), err) &&
       codec_read_decoder(t, json_object_get(root, "decoder"), err);
  spellings_free(&tokens);
  json_decref(root);
  return ok;
}
