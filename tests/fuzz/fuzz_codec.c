/* Tokenizers of models: tokenizer.json, SentencePiece's and tiktoken's files, vocabularies with merges; and text.
 *
 * The first byte chooses the files: 'j' tokenizer.json, 'm' tokenizer.model, 'p' vocab.json and merges.txt. They follow, then
 * tokenizer_config.json (left out when empty), then a text. What is read encodes the text or says why not; its ids are tokens;
 * what they decode to is UTF-8, the same id by id as at once, and the same by a codec that shares the tables. */
#include "tests/fuzz/fuzz.h"
#include "text/codec.h"
#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>

static void check_decoding(const Codec *c, const Ids *ids, bool skip) {
  Text whole = {0}, parts = {0};
  CodecStream s = {.skip = skip};
  uint32_t cp;
  codec_decode(c, ids->v, ids->n, skip, &whole);
  for (size_t i = 0; i < ids->n; i++) codec_stream(c, &s, ids->v[i], &parts);
  codec_stream_end(c, &s, &parts);
  MUST(parts.n == whole.n && !memcmp(parts.s, whole.s, whole.n), "id by id it is '%s', at once '%s'", parts.s, whole.s);
  for (size_t i = 0; i < whole.n;) {
    int k = utf8_next((const unsigned char *)whole.s + i, whole.n - i, &cp);
    MUST(k > 0, "the text of tokens is no UTF-8");
    i += (size_t)k;
  }
  text_free(&whole);
  text_free(&parts);
}

static void check_codec(Codec *c, const char *text, size_t n, Diags *d) {
  Codec *other = codec_share(c);
  for (unsigned flags = 0; flags < 4; flags++) {
    Ids ids = {0}, again = {0};
    int before = d->n;
    bool ok = codec_encode(c, text, n, flags, &ids, d);
    MUST(ok || d->n > before || d->dropped, "refused without a word");
    MUST(ok || !ids.n, "refused, but ids came");
    MUST(codec_encode(other, text, n, flags, &again, d) == ok, "the shared one is otherwise");
    MUST(ids.n == again.n && (!ids.n || !memcmp(ids.v, again.v, ids.n * sizeof *ids.v)), "the shared one is otherwise");
    for (size_t i = 0; i < ids.n; i++) MUST(ids.v[i] < codec_vocab(c), "id %u", ids.v[i]);
    check_decoding(c, &ids, flags & 1);
    free(ids.v), free(again.v);
  }
  codec_free(c);
  Ids all = {0}; /* every id, and one that is none */
  for (uint32_t id = 0; id <= codec_vocab(other) && id < 2000; id++) {
    size_t k;
    codec_token(other, id, &k);
    ids_add(&all, id);
  }
  check_decoding(other, &all, true);
  check_decoding(other, &all, false);
  free(all.v);
  codec_free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const names[3][2] = {{"tokenizer.json"}, {"tokenizer.model"}, {"vocab.json", "merges.txt"}};
  if (!size) return 0;
  int kind = data[0] == 'j' ? 0 : data[0] == 'm' ? 1 : data[0] == 'p' ? 2 : -1, files = kind == 2 ? 2 : 1;
  if (kind < 0) return 0;
  FuzzPart part[4] = {{0}};
  fuzz_split(data + 1, size - 1, part, files + 2);
  CodecFile file[3];
  int n = 0;
  for (int i = 0; i < files; i++) file[n++] = (CodecFile){names[kind][i], part[i].at, part[i].n};
  if (part[files].n) file[n++] = (CodecFile){"tokenizer_config.json", part[files].at, part[files].n};
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  Codec *c = codec_open_files(file, n, d);
  fuzz_diags(d, !c);
  if (c) check_codec(c, (const char *)part[files + 1].at, part[files + 1].n, d);
  fuzz_diags(d, false);
  arena_free(a);
  return 0;
}
