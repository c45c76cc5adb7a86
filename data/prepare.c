/* Preparation from end to end: list, index, split, make the tokenizer, encode, write, rename.
 *
 * The split. One document is cut: the first 1 - val of its characters train, the rest validates (nanoGPT's split; bytes
 * take the place of characters for the bytes tokenizer). Several documents stay whole: the last ones validate, cut at
 * the boundary nearest to 1 - val of the text, one document on either side at least. A tokenizer is trained on the
 * training part alone; the characters of a char tokenizer are those of both, so that validation text encodes.
 *
 * Characters are counted as bytes other than 10xxxxxx, which is right for UTF-8 and defined for everything else. */
#include "data/corpus.h"
#include "data/data.h"
#include "data/folder.h"
#include "text/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LISTED = 256 * 1024 }; /* bytes of meta.json for the list of sources; its readers have a limit */

typedef struct Job {
  const PrepareOptions *o;
  Diags *err;
  Corpus *corpus;
  size_t split;    /* documents from here on validate */
  uint64_t cut;    /* a single document's first byte that validates; UINT64_MAX: documents stay whole */
  uint64_t units;  /* characters or bytes of the single document */
  uint64_t wanted; /* of them to train */
  uint64_t done;   /* bytes, for progress */
  const char *what;
  Charset *charset;
  BpeTrainer *trainer;
  Tokenizer *tokenizer;
  Shards *shards[2];
  uint64_t documents[2];
  Ids ids;
  Folder folder;
} Job;

static void progress(Job *j, size_t n) {
  j->done += n;
  if (j->o->progress) j->o->progress(j->what, j->done, j->corpus->bytes);
}

static void stage(Job *j, const char *what) {
  j->what = what;
  j->done = 0;
  progress(j, 0);
}

/* ---- the split */

static bool is_unit(const Job *j, char c) {
  return j->o->tokenizer == PREPARE_BYTES || ((unsigned char)c & 0xc0) != 0x80;
}

static bool count_units(void *ctx, size_t doc, uint64_t at, const char *text, size_t n, bool last) {
  (void)doc, (void)at, (void)last;
  Job *j = ctx;
  for (size_t i = 0; i < n; i++) j->units += is_unit(j, text[i]);
  return true;
}

static bool find_cut(void *ctx, size_t doc, uint64_t at, const char *text, size_t n, bool last) {
  (void)doc, (void)last;
  Job *j = ctx;
  for (size_t i = 0; i < n && j->cut == UINT64_MAX; i++)
    if (is_unit(j, text[i]) && j->units++ == j->wanted) j->cut = at + i;
  return true;
}

static bool split_document(Job *j) {
  j->split = 1;
  if (j->o->val <= 0) return true;
  if (!corpus_each(j->corpus, 0, 1, count_units, j, j->err)) return false;
  uint64_t units = j->units;
  j->wanted = (uint64_t)((double)units * (1 - j->o->val));
  if (j->wanted == 0 || j->wanted >= units)
    return diag_hint(j->err, (Span){0}, "--val 0 makes no validation set",
                     "a share of %g of %" PRIu64 " characters leaves no text %s", j->o->val, units,
                     j->wanted ? "for validation" : "to train on");
  j->units = 0;
  return corpus_each(j->corpus, 0, 1, find_cut, j, j->err);
}

static void split_documents(Job *j) {
  const Corpus *c = j->corpus;
  j->split = c->ndocs;
  if (j->o->val <= 0) return;
  double target = (double)c->bytes * (1 - j->o->val), best = 0;
  uint64_t before = 0;
  for (size_t i = 1; i < c->ndocs; i++) {
    before += c->docs[i - 1].bytes;
    double off = (double)before - target;
    if (off < 0) off = -off;
    if (i == 1 || off < best) best = off, j->split = i;
  }
}

/* ---- the tokenizer */

static bool see_characters(void *ctx, size_t doc, uint64_t at, const char *text, size_t n, bool last) {
  (void)at;
  Job *j = ctx;
  const CorpusFile *f = &j->corpus->files[j->corpus->docs[doc].file];
  uint64_t bad;
  progress(j, n);
  return charset_feed(j->charset, text, n, last, &bad) ||
         diag_hint(j->err, (Span){0}, "--tokenizer bytes and the byte-pair tokenizers take any bytes",
                   "%s: no UTF-8 at byte %" PRIu64, f->path, bad);
}

static bool see_words(void *ctx, size_t doc, uint64_t at, const char *text, size_t n, bool last) {
  (void)doc;
  Job *j = ctx;
  progress(j, n);
  if (at >= j->cut) return true;
  if (n >= j->cut - at) n = (size_t)(j->cut - at), last = true;
  return bpe_trainer_feed(j->trainer, text, n, last, j->err);
}

static bool make_tokenizer(Job *j) {
  bool several = j->corpus->ndocs > 1;
  switch (j->o->tokenizer) {
  case PREPARE_CHAR:
    stage(j, "characters");
    j->charset = charset_new();
    if (!corpus_each(j->corpus, 0, j->corpus->ndocs, see_characters, j, j->err)) return false;
    j->tokenizer = tokenizer_char(j->charset, several);
    break;
  case PREPARE_BYTES: j->tokenizer = tokenizer_bytes(several); break;
  case PREPARE_GPT2: j->tokenizer = tokenizer_gpt2(j->o->gpt2, j->err); break;
  case PREPARE_MODEL: j->tokenizer = tokenizer_model(j->o->model, j->err); break;
  case PREPARE_TRAIN_BPE:
    stage(j, "words");
    j->trainer = bpe_trainer_new(j->err);
    if (!j->trainer || !corpus_each(j->corpus, 0, j->split, see_words, j, j->err)) return false;
    stage(j, "byte pairs");
    j->tokenizer = bpe_trainer_finish(j->trainer, j->o->vocab, j->o->stop, j->err);
    break;
  }
  return j->tokenizer != NULL;
}

/* ---- encoding */

static bool encode(Job *j, int part, const char *text, size_t n, bool last) {
  j->ids.n = 0;
  return tokenizer_feed(j->tokenizer, text, n, last, &j->ids, j->err) &&
         shards_add(j->shards[part], j->ids.v, j->ids.n, j->err);
}

static bool encode_portion(void *ctx, size_t doc, uint64_t at, const char *text, size_t n, bool last) {
  Job *j = ctx;
  int part = doc >= j->split;
  int64_t eot = tokenizer_eot(j->tokenizer);
  uint32_t id = (uint32_t)eot;
  progress(j, n);
  if (at == 0) {
    j->documents[part]++;
    if (!shards_document(j->shards[part], j->err)) return false;
    if (eot >= 0 && !shards_add(j->shards[part], &id, 1, j->err)) return false;
  }
  size_t head = at >= j->cut ? 0 : j->cut - at < n ? (size_t)(j->cut - at) : n;
  if (head && !encode(j, part, text, head, last || at + head == j->cut)) return false;
  return head == n || encode(j, 1, text + head, n - head, last);
}

static bool encode_all(Job *j) {
  static const char *const stem[2] = {"train", "val"};
  const PrepareOptions *o = j->o;
  bool docs = j->corpus->ndocs > 1, ok = true;
  stage(j, "tokens");
  for (int i = 0; ok && i < 2; i++)
    ok = (j->shards[i] = shards_new(j->folder.aside, stem[i], o->format, tokenizer_vocab(j->tokenizer), o->shard_tokens,
                                    docs, j->err)) != NULL;
  ok = ok && corpus_each(j->corpus, 0, j->corpus->ndocs, encode_portion, j, j->err);
  return ok && shards_finish(j->shards[0], j->err) && shards_finish(j->shards[1], j->err);
}

/* ---- meta.json */

/* A path may hold any bytes; JSON holds characters. */
static void write_string(Text *out, const char *s) {
  text_add(out, "\"");
  for (size_t n = strlen(s); n;) {
    uint32_t cp;
    int k = utf8_next((const unsigned char *)s, n, &cp);
    if (k <= 0)
      text_add(out, "\\ufffd");
    else if (cp == '"' || cp == '\\')
      text_add(out, "\\%c", (int)cp);
    else if (cp < 0x20)
      text_add(out, "\\u%04" PRIx32, cp);
    else
      text_write(out, s, (size_t)k);
    k = k <= 0 ? 1 : k;
    s += k;
    n -= (size_t)k;
  }
  text_add(out, "\"");
}

static void write_shards(Text *out, const char *key, const Shards *s) {
  text_add(out, "  \"%s\": [", key);
  for (int i = 0; i < shards_count(s); i++)
    text_add(out, "%s\n    {\"file\": \"%s\", \"tokens\": %" PRIu64 "}", i ? "," : "", shards_file(s, i)->name,
             shards_file(s, i)->tokens);
  text_add(out, "%s],\n", shards_count(s) ? "\n  " : "");
}

static void write_sources(Text *out, const Corpus *c) {
  size_t i = 0, from = out->n;
  text_add(out, "  \"sources\": [");
  for (; i < c->nfiles && out->n - from < LISTED; i++) {
    text_add(out, "%s\n    {\"path\": ", i ? "," : "");
    write_string(out, c->files[i].path);
    text_add(out, ", \"bytes\": %" PRIu64 ", \"xxh3\": \"%016" PRIx64 "\"}", c->files[i].bytes, c->files[i].hash);
  }
  uint64_t all = 0; /* order counts: each file's hash into the next */
  for (size_t k = 0; k < c->nfiles; k++) {
    uint64_t pair[2] = {all, c->files[k].hash};
    all = hash64(pair, sizeof pair);
  }
  text_add(out, "\n  ],\n  \"sources_not_listed\": %zu,\n  \"sources_xxh3\": \"%016" PRIx64 "\"\n}\n", c->nfiles - i,
           all);
}

static bool write_meta(Job *j) {
  static const char *const kind[] = {"char", "bytes", "gpt2", "bpe", "hf"};
  Text t = {0};
  uint32_t vocab = tokenizer_vocab(j->tokenizer);
  text_add(&t, "{\n  \"format_version\": 1,\n  \"written_by\": \"ink %s\",\n", INK_VERSION);
  text_add(&t, "  \"format\": \"%s\",\n  \"dtype\": \"%s\",\n", j->o->format == SHARDS_LLMC ? "llmc" : "nanogpt",
           vocab > 65536 ? "uint32" : "uint16");
  text_add(&t, "  \"tokenizer\": \"%s\",\n  \"vocab_size\": %" PRIu32 ",\n", kind[j->o->tokenizer], vocab);
  if (tokenizer_eot(j->tokenizer) < 0)
    text_add(&t, "  \"eot\": null,\n");
  else
    text_add(&t, "  \"eot\": %" PRId64 ",\n", tokenizer_eot(j->tokenizer));
  text_add(&t, "  \"train_tokens\": %" PRIu64 ",\n  \"val_tokens\": %" PRIu64 ",\n", shards_tokens(j->shards[0]),
           shards_tokens(j->shards[1]));
  text_add(&t, "  \"train_documents\": %" PRIu64 ",\n  \"val_documents\": %" PRIu64 ",\n", j->documents[0],
           j->documents[1]);
  text_add(&t, "  \"val_share\": %.12g,\n", j->o->val);
  if (j->o->shuffle)
    text_add(&t, "  \"shuffle_seed\": %" PRIu64 ",\n", j->o->seed);
  else
    text_add(&t, "  \"shuffle_seed\": null,\n");
  write_shards(&t, "train", j->shards[0]);
  write_shards(&t, "val", j->shards[1]);
  write_sources(&t, j->corpus);
  bool ok = folder_write(&j->folder, "meta.json", t.s, t.n, j->err);
  text_free(&t);
  return ok;
}

static bool write_tokenizer(Job *j) {
  Text t = {0};
  const CodecFile *own;
  int n = tokenizer_files(j->tokenizer, &own);
  for (int i = 0; i < n; i++)
    if (!folder_write(&j->folder, own[i].name, own[i].bytes, own[i].n, j->err)) return false;
  if (n) return true;
  tokenizer_json(j->tokenizer, &t);
  bool ok = folder_write(&j->folder, "tokenizer.json", t.s, t.n, j->err);
  t.n = 0;
  tokenizer_config_json(j->tokenizer, &t);
  ok = ok && folder_write(&j->folder, "tokenizer_config.json", t.s, t.n, j->err);
  text_free(&t);
  return ok;
}

/* ---- the whole */

static bool check_options(const PrepareOptions *o, Diags *err) {
  if (!(o->val >= 0 && o->val < 1))
    return diag_error(err, (Span){0}, "the share for validation is 0 or more and below 1, not %g", o->val);
  if (o->format == SHARDS_LLMC && (o->shard_tokens < 1 || o->shard_tokens > INT32_MAX))
    return diag_error(err, (Span){0}, "a shard has 1 to %d tokens, not %" PRIu64, INT32_MAX, o->shard_tokens);
  return true;
}

static bool run(Job *j) {
  const PrepareOptions *o = j->o;
  if (!folder_begin(&j->folder, o->out, o->force, j->err)) return false;
  if (!(j->corpus = corpus_open(o->inputs, o->ninputs, j->err))) return false;
  j->corpus->stop = o->stop;
  if (!corpus_index(j->corpus, j->err)) return false;
  if (o->shuffle) corpus_shuffle(j->corpus, o->seed);
  if (j->corpus->ndocs > 1)
    split_documents(j);
  else if (!split_document(j))
    return false;
  if (!make_tokenizer(j) || !encode_all(j)) return false;
  return write_tokenizer(j) && write_meta(j) && folder_commit(&j->folder, j->err);
}

bool data_prepare(const PrepareOptions *o, PrepareResult *r, Diags *err) {
  Job j = {.o = o, .err = err, .cut = UINT64_MAX};
  bool ok = check_options(o, err) && run(&j);
  if (ok) {
    *r = (PrepareResult){.vocab = tokenizer_vocab(j.tokenizer), .eot = tokenizer_eot(j.tokenizer)};
    r->text = j.corpus->bytes;
    r->empty = j.corpus->empty;
    const char *note = tokenizer_note(j.tokenizer);
    if (note) snprintf(r->note, sizeof r->note, "%s", note);
    for (int i = 0; i < 2; i++) {
      r->tokens[i] = shards_tokens(j.shards[i]);
      r->documents[i] = j.documents[i];
      r->files[i] = shards_count(j.shards[i]);
    }
  }
  folder_abandon(&j.folder);
  shards_free(j.shards[0]);
  shards_free(j.shards[1]);
  free(j.ids.v);
  tokenizer_free(j.tokenizer);
  bpe_trainer_free(j.trainer);
  charset_free(j.charset);
  corpus_free(j.corpus);
  return ok;
}
