/* The codec as its users see it: opening, encoding, decoding, questions.
 *
 * Encoding: added tokens are found in the text; what lies between them is normalized, searched for those added tokens that
 * are normalized themselves, divided into pieces (pretokenize.h), and the pieces into tokens (subword.h). */
#include "text/codec_parts.h"
#include "text/utf8.h"

#include <string.h>

const char *const codec_roles[CODEC_ROLES] = {"bos_token", "eos_token", "pad_token", "unk_token"};

/* ---- making and freeing */

static Codec *new_codec(CodecTables *t) {
  Codec *c = memory_zeroed(1, sizeof *c);
  c->t = t;
  c->work = subword_work(&t->model);
  c->patterns = pattern_work_new();
  return c;
}

Codec *codec_share(Codec *c) {
  atomic_fetch_add(&c->t->shares, 1);
  return new_codec(c->t);
}

static void free_tables(CodecTables *t) {
  for (int i = 0; i < t->nfiles; i++) free((void *)t->file[i].name), free((void *)t->file[i].bytes);
  free(t->file);
  vocab_free(&t->spelled), vocab_free(&t->written), vocab_free(&t->running);
  free(t->special), free(t->kinds);
  added_free(&t->added);
  normalizer_free(&t->normalizer);
  pretokenizer_free(&t->pretokenizer);
  subword_free(&t->model);
  decoder_free(&t->decoder);
  free(t->before.v), free(t->after.v);
  text_free(&t->template);
  free(t);
}

void codec_free(Codec *c) {
  if (!c) return;
  subword_work_free(&c->work);
  pattern_work_free(c->patterns);
  pieces_free(&c->pieces);
  free(c->segments.v), free(c->inner.v);
  text_free(&c->clean), text_free(&c->text), text_free(&c->other);
  if (atomic_fetch_sub(&c->t->shares, 1) == 1) free_tables(c->t);
  free(c);
}

/* ---- opening */

const CodecFile *codec_file(const CodecTables *t, const char *name) {
  for (int i = 0; i < t->nfiles; i++)
    if (!strcmp(t->file[i].name, name)) return &t->file[i];
  return NULL;
}

/* Lines of base64, a space and digits: tiktoken's. The first byte of a SentencePiece model is a tag, below the space. */
static bool looks_like_ranks(const CodecFile *f) {
  const char *s = f->bytes;
  size_t i = 0;
  while (i < f->n && i < 4096 &&
         (s[i] == '+' || s[i] == '/' || s[i] == '=' || (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'A' && s[i] <= 'Z') ||
          (s[i] >= 'a' && s[i] <= 'z')))
    i++;
  return i && i + 1 < f->n && s[i] == ' ' && s[i + 1] >= '0' && s[i + 1] <= '9';
}

static bool read_tokens(CodecTables *t, const json_t *config, Diags *err) {
  static const char *const pairs[2][2] = {{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}};
  const CodecFile *f = codec_file(t, "tokenizer.json");
  if (f) return codec_read_json(t, f, err);
  if ((f = codec_file(t, "tokenizer.model")) != NULL)
    return looks_like_ranks(f) ? codec_read_ranks(t, f, config, err) : codec_read_spm(t, f, config, err);
  for (int i = 0; i < t->nfiles; i++) {
    size_t n = strlen(t->file[i].name);
    if (n > 9 && !strcmp(t->file[i].name + n - 9, ".tiktoken")) return codec_read_ranks(t, &t->file[i], config, err);
  }
  for (int i = 0; i < 2; i++) {
    const CodecFile *vocab = codec_file(t, pairs[i][0]), *merges = codec_file(t, pairs[i][1]);
    if (vocab && merges) return codec_read_pairs(t, vocab, merges, config, err);
  }
  return diag_error(err, (Span){0},
                    "no tokenizer among the files: tokenizer.json, tokenizer.model, NAME.tiktoken, vocab.json with "
                    "merges.txt or encoder.json with vocab.bpe");
}

/* Tokens as they are decoded. */
static const Vocab *written(const CodecTables *t) {
  return t->written.count ? &t->written : &t->spelled;
}

/* Every token as it stands in running text, and the bytes of those that are bytes. */
static void run_tokens(CodecTables *t) {
  Text one = {0};
  size_t whole;
  for (uint32_t id = 0; id < t->spelled.count; id++) {
    size_t n;
    vocab_bytes(&t->spelled, id, &n);
    one.n = 0;
    if (n) decode(&t->decoder, written(t), &id, 1, false, true, &one, &whole);
    vocab_add(&t->running, one.s, one.n);
  }
  text_free(&one);
}

Codec *codec_open_files(const CodecFile *files, int n, Diags *err) {
  CodecTables *t = memory_zeroed(1, sizeof *t);
  atomic_init(&t->shares, 1);
  t->model.unk = -1;
  for (int i = 0; i < CODEC_ROLES; i++) t->role[i] = -1;
  t->file = memory_zeroed((size_t)n, sizeof *t->file);
  bool ok = true;
  for (int i = 0; i < n; i++) {
    char *bytes = memory_resize(NULL, files[i].n + 1, 1), *name = memory_resize(NULL, strlen(files[i].name) + 1, 1);
    if (files[i].n) memcpy(bytes, files[i].bytes, files[i].n);
    bytes[files[i].n] = 0;
    strcpy(name, files[i].name);
    t->file[t->nfiles++] = (CodecFile){name, bytes, files[i].n};
    if (files[i].n > CODEC_LARGEST_FILE)
      ok = diag_error(err, (Span){0}, "%s: larger than the limit of %d bytes", name, CODEC_LARGEST_FILE);
  }
  const CodecFile *f = codec_file(t, "tokenizer_config.json");
  json_t *config = NULL;
  if (ok && f) {
    config = codec_json(t, f, err);
    ok = config && (json_is_object(config) || diag_error(err, (Span){0}, "tokenizer_config.json: not an object"));
  }
  ok = ok && read_tokens(t, config, err) && codec_read_config(t, config, err) && codec_index_added(t, err);
  json_decref(config);
  if (!ok) {
    free_tables(t);
    return NULL;
  }
  t->late = decoder_late(&t->decoder);
  run_tokens(t);
  return new_codec(t);
}

int codec_files(const Codec *c, const CodecFile **files) {
  *files = c->t->file;
  return c->t->nfiles;
}

/* ---- encoding */

static bool encode_text(Codec *c, const char *s, size_t n, bool first, unsigned flags, Ids *out, Diags *err) {
  const CodecTables *t = c->t;
  c->text.n = 0;
  text_write(&c->text, s, n);
  if (!normalize(&t->normalizer, c->patterns, &first, &c->text, &c->other, err)) return false;
  c->inner.n = 0;
  if (t->added.normalized.nodes)
    added_split(&t->added, &t->added.normalized, flags & CODEC_SPECIAL, c->text.s, c->text.n, &c->inner);
  bool divided = c->inner.n > 1 || (c->inner.n && c->inner.v[0].id >= 0);
  if (divided) {
    Text whole = c->text; /* pieces are of a text of their own */
    c->text = (Text){0};
    bool ok = true;
    for (size_t i = 0; ok && i < c->inner.n; i++) {
      Segment x = c->inner.v[i];
      if (x.id >= 0) {
        ids_add(out, (uint32_t)x.id);
        continue;
      }
      c->text.n = 0;
      text_write(&c->text, whole.s + x.at, x.n);
      ok = pretokenize(&t->pretokenizer, c->patterns, first && !x.at, &c->text, &c->pieces, err);
      for (size_t k = 0; ok && k < c->pieces.n; k++)
        ok = subword_encode(&t->model, &c->work, c->text.s + c->pieces.v[k].at, c->pieces.v[k].n, out, err);
    }
    text_free(&whole);
    return ok;
  }
  if (!pretokenize(&t->pretokenizer, c->patterns, first, &c->text, &c->pieces, err)) return false;
  for (size_t k = 0; k < c->pieces.n; k++)
    if (!subword_encode(&t->model, &c->work, c->text.s + c->pieces.v[k].at, c->pieces.v[k].n, out, err)) return false;
  return true;
}

/* The text with U+FFFD for every byte that is no UTF-8; itself when it is. */
static const char *cleaned(Codec *c, const char *text, size_t *n) {
  const unsigned char *s = (const unsigned char *)text;
  size_t i = 0;
  int k = 1;
  uint32_t cp;
  while (i < *n && (k = utf8_next(s + i, *n - i, &cp)) > 0) i += (size_t)k;
  if (i == *n) return text;
  c->clean.n = 0;
  for (size_t from = 0; from < *n;) {
    k = utf8_next(s + from, *n - from, &cp);
    if (k > 0)
      text_write(&c->clean, s + from, (size_t)k);
    else
      text_write(&c->clean, "\xef\xbf\xbd", 3);
    from += (size_t)(k > 0 ? k : 1);
  }
  *n = c->clean.n;
  return c->clean.s;
}

bool codec_encode(Codec *c, const char *text, size_t n, unsigned flags, Ids *out, Diags *err) {
  const CodecTables *t = c->t;
  size_t from = out->n;
  text = cleaned(c, text, &n);
  for (size_t i = 0; flags & CODEC_ADD && i < t->before.n; i++) ids_add(out, t->before.v[i]);
  c->segments.n = 0;
  added_split(&t->added, &t->added.plain, flags & CODEC_SPECIAL, text, n, &c->segments);
  for (size_t i = 0; i < c->segments.n; i++) {
    Segment x = c->segments.v[i];
    if (x.id >= 0) {
      ids_add(out, (uint32_t)x.id);
    } else if (!encode_text(c, text + x.at, x.n, !x.at, flags, out, err)) {
      out->n = from;
      return false;
    }
  }
  for (size_t i = 0; flags & CODEC_ADD && i < t->after.n; i++) ids_add(out, t->after.v[i]);
  return true;
}

/* ---- decoding */

static bool told(const CodecTables *t, uint32_t id, bool skip) {
  size_t n;
  return id < t->spelled.count && !(skip && t->special[id]) && (vocab_bytes(&t->spelled, id, &n), n > 0);
}

void codec_decode(const Codec *c, const uint32_t *ids, size_t n, bool skip, Text *out) {
  const CodecTables *t = c->t;
  Ids some = {0};
  size_t whole;
  for (size_t i = 0; i < n; i++)
    if (told(t, ids[i], skip)) ids_add(&some, ids[i]);
  text_write(out, "", 0);
  decode(&t->decoder, written(t), some.v, some.n, true, false, out, &whole);
  free(some.v);
}

/* The text of ids[from..] is decoded with every id; what stays and was not told yet is told. Ids all of whose text stays are done
 * with: the next ones stand alone. */
void codec_stream(const Codec *c, CodecStream *s, uint32_t id, Text *out) {
  const CodecTables *t = c->t;
  text_write(out, "", 0);
  if (!told(t, id, s->skip)) return;
  ids_add(&s->ids, id);
  if (t->late) return;
  Text text = {0};
  size_t whole,
      stays = decode(&t->decoder, written(t), s->ids.v + s->from, s->ids.n - s->from, !s->from, false, &text, &whole);
  if (stays > s->told) {
    text_write(out, text.s + s->told, stays - s->told);
    s->told = stays;
  }
  if (stays && stays == text.n)
    s->from = s->ids.n, s->told = 0;
  else if (stays && whole)
    s->from += whole, s->told = 0;
  text_free(&text);
}

void codec_stream_end(const Codec *c, CodecStream *s, Text *out) {
  const CodecTables *t = c->t;
  Text text = {0};
  size_t whole;
  text_write(out, "", 0);
  if (s->ids.n > s->from) {
    decode(&t->decoder, written(t), s->ids.v + s->from, s->ids.n - s->from, !s->from, false, &text, &whole);
    text_write(out, text.s + s->told, text.n - s->told);
  }
  text_free(&text);
  free(s->ids.v);
  *s = (CodecStream){.skip = s->skip};
}

/* ---- questions */

uint32_t codec_vocab(const Codec *c) {
  return c->t->spelled.count;
}

const char *codec_token(const Codec *c, uint32_t id, size_t *n) {
  *n = 0;
  if (!(id < c->t->spelled.count) || (vocab_bytes(&c->t->spelled, id, n), !*n)) return NULL;
  return vocab_bytes(&c->t->running, id, n);
}

bool codec_special(const Codec *c, uint32_t id) {
  return id < c->t->spelled.count && c->t->special[id];
}

int64_t codec_find(const Codec *c, const char *token) {
  uint32_t id;
  return vocab_find(&c->t->spelled, token, strlen(token), &id) ? (int64_t)id : -1;
}

int64_t codec_role(const Codec *c, const char *role) {
  for (int i = 0; i < CODEC_ROLES; i++)
    if (!strcmp(codec_roles[i], role)) return c->t->role[i];
  return -1;
}

const char *codec_template(const Codec *c) {
  return c->t->has_template ? c->t->template.s : NULL;
}
