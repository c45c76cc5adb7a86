/* The kinds of tokenizers behind one interface: portions of text in, ids out; ids in, bytes out.
 *
 * Portions may end anywhere, so what cannot be decided yet is kept: a begun character (char), the piece that may go on
 * (bpe, in the splitter), all of the text (model). Must hold: decode(encode(x)) == x for every text that encodes, but for a
 * model's own, which may normalize. */
#include "data/tokenizer.h"
#include "text/split.h"
#include "text/utf8.h"

#include <inttypes.h>
#include <string.h>

/* ---- characters seen */

struct Charset {
  unsigned char seen[UTF8_MAX]; /* a byte each: simple, and faster than bits */
  uint32_t count;
  uint64_t at; /* bytes of this text before the portion */
  unsigned char pending[4];
  int npending;
};

Charset *charset_new(void) {
  return memory_zeroed(1, sizeof(Charset));
}

void charset_free(Charset *c) {
  free(c);
}

/* Length of the character that begins in `pending` and ends in the text, the bytes it takes of the text in *taken. */
static int finish_pending(unsigned char pending[4], int have, const unsigned char *s, size_t n, int *taken,
                          uint32_t *cp) {
  int k = UTF8_SHORT;
  *taken = 0;
  while (k == UTF8_SHORT && (size_t)*taken < n && have + *taken < 4) {
    pending[have + *taken] = s[*taken];
    ++*taken;
    k = utf8_next(pending, (size_t)(have + *taken), cp);
  }
  return k;
}

bool charset_feed(Charset *c, const char *text, size_t n, bool last, uint64_t *bad) {
  const unsigned char *s = (const unsigned char *)text;
  size_t i = 0;
  int k = 1, taken = 0;
  uint32_t cp = 0;
  *bad = c->at - (uint64_t)c->npending;
  if (c->npending && n) {
    k = finish_pending(c->pending, c->npending, s, n, &taken, &cp);
    i = (size_t)taken;
    if (k == UTF8_SHORT)
      c->npending += taken;
    else
      c->npending = 0;
    if (k > 0) c->count += !c->seen[cp], c->seen[cp] = 1;
  }
  while (k > 0 && i < n) {
    k = utf8_next(s + i, n - i, &cp);
    *bad = c->at + i;
    if (k > 0) c->count += !c->seen[cp], c->seen[cp] = 1, i += (size_t)k;
  }
  if (k == UTF8_SHORT && i < n) {
    c->npending = (int)(n - i);
    memcpy(c->pending, s + i, n - i);
  }
  c->at += n;
  bool ok = k != UTF8_BROKEN && !(last && c->npending);
  if (last || !ok) c->at = 0, c->npending = 0;
  return ok;
}

/* ---- making and freeing */

Tokenizer *tokenizer_char(const Charset *c, bool eot) {
  Tokenizer *t = memory_zeroed(1, sizeof *t);
  *t = (Tokenizer){.kind = TOKENIZER_CHAR, .eot = eot ? (int64_t)c->count : -1, .vocab = c->count + eot};
  t->id_of = memory_zeroed(UTF8_MAX, sizeof *t->id_of);
  t->code_of = memory_zeroed(c->count, sizeof *t->code_of);
  uint32_t id = 0;
  for (uint32_t cp = 0; cp < UTF8_MAX; cp++)
    if (c->seen[cp]) t->code_of[id] = cp, t->id_of[cp] = ++id;
  return t;
}

Tokenizer *tokenizer_bytes(bool eot) {
  Tokenizer *t = memory_zeroed(1, sizeof *t);
  *t = (Tokenizer){.kind = TOKENIZER_BYTES, .eot = eot ? 256 : -1, .vocab = 256 + eot};
  return t;
}

Tokenizer *tokenizer_bpe(Bpe *b, int64_t eot, Diags *err) {
  Tokenizer *t = memory_zeroed(1, sizeof *t);
  *t = (Tokenizer){.kind = TOKENIZER_BPE, .eot = eot, .vocab = bpe_count(b), .bpe = b};
  int byte;
  bool ok = bpe_ready(b, &byte) ||
            diag_error(err, (Span){0}, "no token stands for the byte 0x%02x alone, so not every text has ids", byte);
  if (ok) ok = (t->split = splitter_new(err)) != NULL;
  if (ok) return t;
  tokenizer_free(t);
  return NULL;
}

Tokenizer *tokenizer_model(const char *path, Diags *err) {
  Codec *c = codec_open(path, err);
  if (!c) return NULL;
  Tokenizer *t = memory_zeroed(1, sizeof *t);
  *t = (Tokenizer){.kind = TOKENIZER_MODEL, .eot = codec_role(c, "eos_token"), .vocab = codec_vocab(c), .codec = c};
  return t;
}

int tokenizer_files(const Tokenizer *t, const CodecFile **files) {
  return t->codec ? codec_files(t->codec, files) : 0;
}

void tokenizer_free(Tokenizer *t) {
  if (!t) return;
  codec_free(t->codec);
  text_free(&t->whole);
  free(t->id_of);
  free(t->code_of);
  bpe_free(t->bpe);
  splitter_free(t->split);
  text_free(&t->note);
  free(t);
}

TokenizerKind tokenizer_kind(const Tokenizer *t) {
  return t->kind;
}

uint32_t tokenizer_vocab(const Tokenizer *t) {
  return t->vocab;
}

int64_t tokenizer_eot(const Tokenizer *t) {
  return t->eot;
}

const char *tokenizer_note(const Tokenizer *t) {
  return t->note.s;
}

/* ---- encoding */

typedef struct Work {
  Bpe *bpe;
  Ids *out;
} Work;

static void encode_piece(void *ctx, const char *piece, size_t n) {
  Work *w = ctx;
  bpe_encode(w->bpe, piece, n, w->out);
}

static bool feed_char(Tokenizer *t, const unsigned char *s, size_t n, bool last, Ids *out, Diags *err) {
  size_t i = 0;
  while (i < n) {
    uint32_t cp = 0;
    int taken, k;
    if (t->npending) {
      k = finish_pending(t->pending, t->npending, s, n, &taken, &cp);
      t->npending = k == UTF8_SHORT ? t->npending + taken : 0;
      i += (size_t)taken;
    } else {
      k = utf8_next(s + i, n - i, &cp);
      if (k == UTF8_SHORT)
        memcpy(t->pending, s + i, n - i), t->npending = (int)(n - i), i = n;
      else if (k > 0)
        i += (size_t)k;
    }
    if (k == UTF8_SHORT) break;
    if (k == UTF8_BROKEN || !t->id_of[cp]) {
      t->npending = 0;
      return k == UTF8_BROKEN ? diag_error(err, (Span){0}, "the text is no UTF-8, which a char tokenizer needs")
                              : diag_error(err, (Span){0}, "the vocabulary has no character U+%04" PRIX32, cp);
    }
    ids_add(out, t->id_of[cp] - 1);
  }
  bool torn = last && t->npending;
  if (last) t->npending = 0;
  return !torn || diag_error(err, (Span){0}, "the text ends within a character");
}

/* Text of strangers: a special token's spelling in it is text. */
static bool feed_model(Tokenizer *t, const char *text, size_t n, bool last, Ids *out, Diags *err) {
  if (last && !t->whole.n) return codec_encode(t->codec, text, n, 0, out, err);
  text_write(&t->whole, text, n);
  if (!last) return true;
  bool ok = codec_encode(t->codec, t->whole.s, t->whole.n, 0, out, err);
  t->whole.n = 0;
  return ok;
}

bool tokenizer_feed(Tokenizer *t, const char *text, size_t n, bool last, Ids *out, Diags *err) {
  if (t->kind == TOKENIZER_MODEL) return feed_model(t, text, n, last, out, err);
  if (t->kind == TOKENIZER_CHAR) return feed_char(t, (const unsigned char *)text, n, last, out, err);
  if (t->kind == TOKENIZER_BPE) {
    Work w = {t->bpe, out};
    return splitter_feed(t->split, text, n, last, encode_piece, &w, err);
  }
  RESERVE(out->v, out->cap, out->n + n);
  for (size_t i = 0; i < n; i++) out->v[out->n++] = (unsigned char)text[i];
  return true;
}

bool tokenizer_encode(Tokenizer *t, const char *text, size_t n, Ids *out, Diags *err) {
  return tokenizer_feed(t, text, n, true, out, err);
}

bool tokenizer_decode(const Tokenizer *t, const uint32_t *ids, size_t n, Text *out, Diags *err) {
  if (t->kind == TOKENIZER_MODEL) {
    codec_decode(t->codec, ids, n, false, out);
    return true;
  }
  for (size_t i = 0; i < n; i++) {
    uint32_t id = ids[i];
    char one[4];
    size_t k;
    if (id >= t->vocab)
      return diag_error(err, (Span){0}, "token %zu is %" PRIu32 "; the vocabulary ends at %" PRIu32, i, id, t->vocab);
    if ((int64_t)id == t->eot) {
      text_write(out, END_OF_TEXT, sizeof END_OF_TEXT - 1);
    } else if (t->kind == TOKENIZER_CHAR) {
      text_write(out, one, (size_t)utf8_put(t->code_of[id], one));
    } else if (t->kind == TOKENIZER_BYTES) {
      one[0] = (char)id;
      text_write(out, one, 1);
    } else {
      const char *bytes = bpe_bytes(t->bpe, id, &k);
      text_write(out, bytes, k);
    }
  }
  return true;
}
