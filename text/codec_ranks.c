/* tiktoken's files: a line a token, its bytes in base64, a space, its rank, which is its id. Merges are the tokens' own order, and
 * a piece that is a token is that token. Special tokens are those of tokenizer_config.json. */
#include "text/byte_level.h"
#include "text/codec_parts.h"

#include <inttypes.h>
#include <string.h>

static bool read_line(const char *s, size_t n, Spellings *tokens, const char *name, int line, Diags *err) {
  const char *space = memchr(s, ' ', n);
  Text bytes = {0};
  int64_t id = 0;
  size_t i = space ? (size_t)(space - s) + 1 : n;
  bool ok = i < n && n - i < 10 && base64_decode(s, i - 1, &bytes) && bytes.n;
  for (; ok && i < n; i++) {
    ok = s[i] >= '0' && s[i] <= '9';
    id = id * 10 + (s[i] - '0');
  }
  if (!ok)
    diag_error(err, (Span){0}, "%s:%d: no base64, space and rank", name, line);
  else
    ok = spellings_put(tokens, bytes.s, bytes.n, id, name, err);
  text_free(&bytes);
  return ok;
}

/* By how many tokens they have the published ones are told apart. */
static const char *pattern_of(size_t tokens) {
  switch (tokens) {
  case 50256:
  case 50257:
  case 50280: return "r50k_base";
  case 100256: return "cl100k_base";
  case 128000: return "cl100k_lines";
  case 151643: return "cl100k_digits";
  case 199998: return "o200k_base";
  }
  return NULL;
}

bool codec_read_ranks(CodecTables *t, const CodecFile *f, const json_t *config, Diags *err) {
  Spellings tokens = {0}, spelled = {0};
  Text text = {0};
  bool ok = true;
  int line = 0;
  t->source = f->name;
  const char *s = f->bytes, *end = s + f->n;
  while (ok && s < end) {
    const char *stop = memchr(s, '\n', (size_t)(end - s));
    size_t n = (size_t)((stop ? stop : end) - s), k = n && s[n - 1] == '\r' ? n - 1 : n;
    line++;
    if (k) ok = read_line(s, k, &tokens, f->name, line, err);
    s += n + 1;
  }
  ok = ok && spellings_dense(&tokens, f->name, err);
  t->model.kind = SUBWORD_BYTES;
  t->model.whole = true;
  t->model.bpe = bpe_new();
  /* Spelled by characters for bytes, as all byte-level vocabularies are, so that byte tokens have spellings, too. */
  for (size_t i = 0; ok && i < tokens.n; i++) {
    uint32_t twin;
    if (bpe_find(t->model.bpe, tokens.v[i].s, tokens.v[i].n, &twin))
      ok = diag_error(err, (Span){0}, "%s: the ranks %" PRIu32 " and %zu have the same bytes", f->name, twin, i);
    bpe_add(t->model.bpe, tokens.v[i].s, tokens.v[i].n);
    text.n = 0;
    byte_level_spell(tokens.v[i].s, tokens.v[i].n, &text);
    if (ok && tokens.v[i].s) ok = spellings_put(&spelled, text.s, text.n, (int64_t)i, f->name, err);
  }
  ok = ok && (bpe_rank_all(t->model.bpe, NULL) || diag_error(err, (Span){0}, "%s: the tokens are too long", f->name));
  ok =
      ok && codec_read_pattern(t, config, pattern_of(tokens.n), f->name, err) && subword_ready(&t->model, f->name, err);
  ok = ok && codec_spell(t, &spelled, err);
  decoder_add(&t->decoder, DECODE_BYTE_LEVEL);
  spellings_free(&tokens), spellings_free(&spelled);
  text_free(&text);
  return ok;
}
