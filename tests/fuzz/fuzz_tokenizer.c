/* Vocabularies and texts: GPT-2's two files, JSON lines, tokenizer.json as it is written and as it is read.
 *
 * The first byte chooses: 'g' encoder.json and vocab.bpe, then a text to encode; 'j' a .jsonl file; 'c' a text, the vocabulary of
 * its own characters; 'd' a tokenizer.json for the runtime. What encodes decodes to the same bytes, by the tokenizer and by
 * the tokenizer.json it writes. */
#include "data/corpus.h"
#include "data/tokenizer.h"
#include "runtime/detokenize.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void check_json(const char *text, size_t n) {
  json_error_t e;
  json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
  MUST(root || strstr(text, "\\u0000"), "written JSON is broken, %d:%d: %s\n%s", e.line, e.column, e.text, text);
  json_decref(root);
}

/* The text of ids by the runtime, from the files that are written for it. */
static void check_detokenizer(const Tokenizer *t, const Ids *ids, const char *text, size_t n) {
  Text json = {0};
  Report err = {0};
  char *out = NULL;
  size_t nout = 0;
  tokenizer_config_json(t, &json);
  check_json(json.s, json.n);
  json.n = 0;
  tokenizer_json(t, &json);
  check_json(json.s, json.n);
  fuzz_put("tokenizer.json", json.s, json.n);
  Detokenizer *d = detokenizer_open(fuzz_path("tokenizer.json"), &err);
  MUST(d, "the tokenizer.json that is written is not read: %s\n%s", err.text, json.s);
  FILE *f = open_memstream(&out, &nout);
  for (size_t i = 0; i < ids->n; i++) detokenizer_write(d, (int32_t)ids->v[i], f);
  fclose(f);
  bool picture = false; /* U+0000 of a character vocabulary becomes U+2400, see runtime/detokenize.c */
  for (size_t i = 0; i < n; i++) picture = picture || !text[i];
  MUST(picture || (nout == n && !memcmp(out, text, n)), "the runtime's text differs: %zu bytes, not %zu", nout, n);
  free(out);
  detokenizer_close(d);
  text_free(&json);
}

static void check_tokenizer(Tokenizer *t, const char *text, size_t n, Diags *d) {
  Ids ids = {0}, parts = {0};
  Text back = {0};
  bool ok = tokenizer_encode(t, text, n, &ids, d);
  if (ok) {
    for (size_t i = 0; i < ids.n; i++) MUST(ids.v[i] < tokenizer_vocab(t), "id %u", ids.v[i]);
    MUST(tokenizer_decode(t, ids.v, ids.n, &back, d), "what was encoded is not decoded");
    MUST(back.n == n && (!n || !memcmp(back.s, text, n)), "decoded otherwise");
    check_detokenizer(t, &ids, text, n);
    size_t half = n / 2; /* portions make no difference */
    MUST(tokenizer_feed(t, text, half, false, &parts, d) && tokenizer_feed(t, text + half, n - half, true, &parts, d),
         "in portions it is refused");
    MUST(parts.n == ids.n && (!ids.n || !memcmp(parts.v, ids.v, ids.n * sizeof *ids.v)), "in portions it is otherwise");
  }
  text_free(&back);
  free(ids.v);
  free(parts.v);
}

static void gpt2(const FuzzPart *part, Diags *d) {
  fuzz_put("encoder.json", part[0].at, part[0].n);
  fuzz_put("vocab.bpe", part[1].at, part[1].n);
  Tokenizer *t = tokenizer_gpt2(fuzz_path(""), d);
  fuzz_diags(d, !t);
  if (t) check_tokenizer(t, (const char *)part[2].at, part[2].n, d);
  tokenizer_free(t);
}

static bool keep(void *ctx, size_t doc, uint64_t at, const char *text, size_t n, bool last) {
  (void)doc, (void)at, (void)last;
  MUST(n, "an empty portion");
  text_write(ctx, text, n);
  return true;
}

static void lines(FuzzPart x, Diags *d) {
  fuzz_put("x.jsonl", x.at, x.n);
  const char *inputs[] = {fuzz_path("x.jsonl")};
  Corpus *c = corpus_open(inputs, 1, d);
  bool ok = c && corpus_index(c, d);
  Text all = {0};
  if (ok) {
    corpus_shuffle(c, 1);
    MUST(corpus_each(c, 0, c->ndocs, keep, &all, d), "indexed, but not read");
    MUST(all.n == c->bytes, "%zu bytes of %llu", all.n, (unsigned long long)c->bytes);
  }
  fuzz_diags(d, !ok);
  text_free(&all);
  corpus_free(c);
}

static void characters(const char *text, size_t n, Diags *d) {
  static Charset *c;
  uint64_t bad;
  charset_free(c); /* a megabyte: the last one goes when the next is made */
  c = charset_new();
  if (!charset_feed(c, text, n, true, &bad)) {
    MUST(bad < n, "the broken byte %llu of %zu", (unsigned long long)bad, n);
    return;
  }
  Tokenizer *t = tokenizer_char(c, n % 2);
  check_tokenizer(t, text, n, d);
  MUST(!d->n, "the text of its own vocabulary is refused: %s", d->list[0].text);
  tokenizer_free(t);
}

static void detokenize(FuzzPart x) {
  Report err = {0};
  char *out = NULL;
  size_t n = 0;
  fuzz_put("tokenizer.json", x.at, x.n);
  Detokenizer *d = detokenizer_open(fuzz_path("tokenizer.json"), &err);
  fuzz_report(&err, !d);
  FILE *f = open_memstream(&out, &n);
  for (int32_t id = -2; d && id < 300; id++) detokenizer_write(d, id, f);
  fclose(f);
  free(out);
  if (d) detokenizer_find(d, "<s>");
  detokenizer_close(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzPart part[3];
  if (!size) return 0;
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  fuzz_split(data + 1, size - 1, part, data[0] == 'g' ? 3 : 1);
  switch (data[0]) {
  case 'g': gpt2(part, d); break;
  case 'j': lines(part[0], d); break;
  case 'c': characters((const char *)part[0].at, part[0].n, d); break;
  case 'd': detokenize(part[0]);
  }
  fuzz_diags(d, false);
  arena_free(a);
  return 0;
}
