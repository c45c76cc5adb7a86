/* The tokens are items of one text; a step writes another text with as many items or fewer. `settled` says how many of
 * the items stay, whatever follows. */
#include "text/decode.h"
#include "text/byte_level.h"
#include "text/chars.h"
#include "text/subword.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define SPACE "\xe2\x96\x81"       /* U+2581 */

void decoder_free(Decoder *z) {
  for (size_t i = 0; i < z->n; i++) {
    free(z->step[i].what), free(z->step[i].with);
    pattern_free(z->step[i].pattern);
  }
  free(z->step);
  *z = (Decoder){0};
}

Decode *decoder_add(Decoder *z, DecodeKind kind) {
  RESERVE(z->step, z->cap, z->n + 1);
  z->step[z->n] = (Decode){.kind = kind};
  return &z->step[z->n++];
}

typedef struct Items {
  Text text;
  size_t *end; /* of each */
  size_t n, cap;
} Items;

typedef struct Work {
  Items in, out;
  size_t settled;       /* items of `in` that stay */
  size_t settled_bytes; /* bytes of its text that stay, where all is one item; SIZE_MAX: by items */
  bool first, raw;
} Work;

static const char *item(const Items *a, size_t i, size_t *n) {
  size_t at = i ? a->end[i - 1] : 0;
  *n = a->end[i] - at;
  return a->text.s + at;
}

static void end_item(Items *a) {
  RESERVE(a->end, a->cap, a->n + 1);
  a->end[a->n++] = a->text.n;
}

/* ---- bytes */

/* Length of the longest beginning of a character at s, as Unicode has U+FFFD stand for; open: it may go on behind s[0..n). */
static size_t broken(const unsigned char *s, size_t n, bool *open) {
  uint32_t c;
  size_t k = 1;
  *open = utf8_next(s, n, &c) == UTF8_SHORT;
  if (*open) return n;
  while (k < n && k < 4 && utf8_next(s, k, &c) == UTF8_SHORT && utf8_next(s, k + 1, &c) == UTF8_SHORT) k++;
  return k;
}

/* Text with U+FFFD for what is no UTF-8; returns how many bytes of out stay. */
static size_t lossy(const char *bytes, size_t n, Text *out) {
  const unsigned char *s = (const unsigned char *)bytes;
  size_t stays = out->n;
  for (size_t i = 0; i < n;) {
    uint32_t c;
    bool open = false;
    int k = utf8_next(s + i, n - i, &c);
    if (k > 0) {
      text_write(out, s + i, (size_t)k);
    } else {
      k = (int)broken(s + i, n - i, &open);
      text_write(out, REPLACEMENT, 3);
    }
    i += (size_t)k;
    if (!open) stays = out->n;
  }
  return stays;
}

static void byte_level(Work *w) {
  Text bytes = {0};
  size_t n, settled = SIZE_MAX;
  for (size_t i = 0; i < w->in.n; i++) {
    const char *s = item(&w->in, i, &n);
    size_t from = bytes.n;
    if (i == w->settled) settled = from;
    if (byte_level_despell(s, n, &bytes)) continue;
    bytes.n = from;
    text_write(&bytes, s, n);
  }
  Items *out = &w->out;
  if (w->raw)
    text_write(&out->text, bytes.s, bytes.n);
  else
    w->settled_bytes = lossy(bytes.s, bytes.n, &out->text);
  if (settled != SIZE_MAX) w->settled_bytes = 0; /* what came before is not settled itself */
  end_item(out);
  text_free(&bytes);
}

static void put_run(Work *w, const Text *run) {
  Items *out = &w->out;
  bool whole = true;
  uint32_t c;
  for (size_t i = 0; whole && i < run->n;) {
    int k = utf8_next((const unsigned char *)run->s + i, run->n - i, &c);
    whole = k > 0;
    i += (size_t)(k > 0 ? k : 1);
  }
  if (w->raw || whole) text_write(&out->text, run->s, run->n), end_item(out);
  for (size_t i = 0; !w->raw && !whole && i < run->n; i++) text_write(&out->text, REPLACEMENT, 3), end_item(out);
}

static void fallback(Work *w) {
  Text run = {0};
  size_t n, settled = SIZE_MAX;
  for (size_t i = 0; i < w->in.n; i++) {
    const char *s = item(&w->in, i, &n);
    int byte = subword_byte(s, n);
    if (i == w->settled) settled = w->out.n;
    if (byte >= 0) {
      char c = (char)byte;
      text_write(&run, &c, 1);
      continue;
    }
    if (run.n) put_run(w, &run);
    run.n = 0;
    text_write(&w->out.text, s, n);
    end_item(&w->out);
  }
  if (settled == SIZE_MAX) settled = w->out.n; /* a run at the end may go on */
  if (run.n) put_run(w, &run);
  w->settled = settled;
  text_free(&run);
}

/* ---- within a token */

static void replace(const Decode *z, PatternWork *pw, const char *s, size_t n, Text *out, Diags *err) {
  size_t at = 0, from = 0, start, end;
  uint32_t c;
  while (z->pattern && from <= n && pattern_find(z->pattern, pw, s, n, from, &start, &end, err) > 0) {
    text_write(out, s + at, start - at);
    text_write(out, z->with, z->nwith);
    at = end;
    from = end > start ? end : end + (end < n ? char_at(s + end, n - end, &c) : 1);
  }
  const char *hit;
  while (!z->pattern && z->nwhat && n - at >= z->nwhat && (hit = memmem(s + at, n - at, z->what, z->nwhat))) {
    text_write(out, s + at, (size_t)(hit - s) - at);
    text_write(out, z->with, z->nwith);
    at = (size_t)(hit - s) + z->nwhat;
  }
  text_write(out, s + at, n - at);
}

/* Takes up to `most` of the character z->what from the beginning (or the end) of s[*from..*to). */
static void strip(const Decode *z, const char *s, uint32_t most, bool end, size_t *from, size_t *to) {
  for (; most && *to - *from >= z->nwhat && z->nwhat; most--) {
    if (memcmp(end ? s + *to - z->nwhat : s + *from, z->what, z->nwhat)) break;
    if (end)
      *to -= z->nwhat;
    else
      *from += z->nwhat;
  }
}

static void cleanup(Text *t, size_t from) {
  static const char *const rules[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                         {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                         {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (int i = 0; i < LEN(rules); i++) {
    Text made = {0};
    Decode z = {.what = (char *)rules[i][0], .with = (char *)rules[i][1]};
    z.nwhat = strlen(z.what), z.nwith = strlen(z.with);
    if (!memmem(t->s + from, t->n - from, z.what, z.nwhat)) continue;
    replace(&z, NULL, t->s + from, t->n - from, &made, NULL);
    t->n = from;
    text_write(t, made.s, made.n);
    text_free(&made);
  }
}

static void one_token(const Decode *z, PatternWork *pw, const Work *w, size_t i, Text *out, Diags *err) {
  size_t n, from = 0, to;
  const char *s = item(&w->in, i, &n);
  bool first = w->first && !i, last = i + 1 == w->in.n;
  size_t begin = out->n;
  to = n;
  switch (z->kind) {
  case DECODE_METASPACE: {
    Decode r = {.what = z->what, .nwhat = z->nwhat, .with = " ", .nwith = first && z->first ? 0 : 1};
    replace(&r, pw, s, n, out, err);
    return;
  }
  case DECODE_REPLACE: replace(z, pw, s, n, out, err); return;
  case DECODE_STRIP:
    if (w->settled_bytes == SIZE_MAX || w->first) strip(z, s, z->start, false, &from, &to);
    strip(z, s, z->stop, true, &from, &to);
    text_write(out, s + from, to - from);
    return;
  case DECODE_WORDPIECE:
    if (!first) {
      if (z->nwhat && n >= z->nwhat && !memcmp(s, z->what, z->nwhat))
        s += z->nwhat, n -= z->nwhat;
      else
        text_write(out, " ", 1);
    }
    text_write(out, s, n);
    if (z->cleanup) cleanup(out, begin);
    return;
  case DECODE_SUFFIX: {
    Decode r = {.what = z->what, .nwhat = z->nwhat, .with = " ", .nwith = last && !w->raw ? 0 : 1};
    replace(&r, pw, s, n, out, err);
    return;
  }
  case DECODE_JOIN:
    if (!first) text_write(out, " ", 1);
    text_write(out, s, n);
    return;
  default: return;
  }
}

/* ---- SentencePiece */

static void sentence(const Decode *z, const uint32_t *ids, Work *w) {
  Items *out = &w->out;
  bool begin = w->first, seen = false; /* no text yet; a space was taken away */
  size_t n;
  uint32_t c;
  Text run = {0};
  w->settled_bytes = 0;
  for (size_t i = 0; i <= w->in.n; i++) {
    const char *s = i < w->in.n ? item(&w->in, i, &n) : NULL;
    if (s && z->kinds[ids[i]] == DECODE_IS_BYTE) {
      char byte = (char)subword_byte(s, n);
      text_write(&run, &byte, 1);
      continue;
    }
    bool open = false;
    for (size_t at = 0; at < run.n;) {
      int k = utf8_next((const unsigned char *)run.s + at, run.n - at, &c);
      open = open || (!s && k == UTF8_SHORT);
      text_write(&out->text, k > 0 || w->raw ? run.s + at : REPLACEMENT, k > 0 ? (size_t)k : w->raw ? 1 : 3);
      at += (size_t)(k > 0 ? k : 1);
      if (!open) w->settled_bytes = out->text.n;
    }
    run.n = 0;
    if (!s) break;
    if (seen || out->text.n) begin = false;
    if (z->kinds[ids[i]] == DECODE_IS_UNKNOWN) s = z->with, n = z->nwith;
    if (begin && z->first && n >= 3 && !memcmp(s, SPACE, 3)) s += 3, n -= 3, seen = !z->squeeze;
    Decode r = {.what = SPACE, .nwhat = 3, .with = " ", .nwith = 1};
    if (z->kinds[ids[i]] == DECODE_IS_TEXT)
      replace(&r, NULL, s, n, &out->text, NULL);
    else
      text_write(&out->text, s, n);
    w->settled_bytes = out->text.n;
  }
  text_free(&run);
  end_item(out);
}

/* ---- all of them */

static void step(const Decode *z, PatternWork *pw, const uint32_t *ids, Work *w, Diags *err) {
  Items *out = &w->out;
  bool one = w->settled_bytes != SIZE_MAX; /* the text is one item already */
  out->n = out->text.n = 0;
  text_write(&out->text, "", 0);
  switch (z->kind) {
  case DECODE_BYTE_LEVEL: byte_level(w); break;
  case DECODE_FALLBACK: fallback(w); break;
  case DECODE_SENTENCE: sentence(z, ids, w); break;
  case DECODE_FUSE:
    if (!one) w->settled_bytes = !w->settled ? 0 : w->in.end[w->settled - 1];
    text_write(&out->text, w->in.text.s, w->in.text.n);
    end_item(out);
    break;
  default:
    for (size_t i = 0; i < w->in.n; i++) {
      size_t before = out->text.n;
      one_token(z, pw, w, i, &out->text, err);
      end_item(out);
      /* What a step on the whole text takes from its beginning is settled; anything else may be seen otherwise later. */
      size_t now = out->text.n - before;
      if (one && z->kind == DECODE_STRIP && !z->stop)
        w->settled_bytes = w->in.text.n - now > w->settled_bytes ? 0 : w->settled_bytes - (w->in.text.n - now);
      else if (one)
        w->settled_bytes = 0;
    }
    if (z->kind == DECODE_SUFFIX && w->settled && w->settled == w->in.n) w->settled--;
  }
  Items t = w->in;
  w->in = *out;
  *out = t;
  if (w->settled > w->in.n) w->settled = w->in.n;
}

bool decoder_late(const Decoder *z) {
  bool one = false;
  for (size_t i = 0; i < z->n; i++) {
    const Decode *s = &z->step[i];
    if (one && s->kind != DECODE_FUSE && !(s->kind == DECODE_STRIP && !s->stop)) return true;
    one = one || s->kind == DECODE_FUSE || s->kind == DECODE_BYTE_LEVEL || s->kind == DECODE_SENTENCE;
  }
  return false;
}

size_t decode(const Decoder *z, const Vocab *spelled, const uint32_t *ids, size_t n, bool first, bool raw, Text *out,
              size_t *whole) {
  Work w = {.settled = n, .settled_bytes = SIZE_MAX, .first = first, .raw = raw};
  bool patterns = false;
  for (size_t i = 0; i < z->n; i++) patterns = patterns || z->step[i].pattern;
  PatternWork *pw = patterns ? pattern_work_new() : NULL;
  Arena *a = patterns ? arena_new() : NULL; /* of errors of patterns: the rest of the token stays as it is */
  Diags *err = a ? diags_new(a) : NULL;
  text_write(&w.in.text, "", 0);
  for (size_t i = 0; i < n; i++) {
    size_t k;
    const char *s = vocab_bytes(spelled, ids[i], &k);
    text_write(&w.in.text, s, k);
    end_item(&w.in);
  }
  for (size_t i = 0; n && i < z->n; i++) step(&z->step[i], pw, ids, &w, err);
  text_write(out, w.in.text.s, w.in.text.n);
  size_t stays = w.settled_bytes != SIZE_MAX ? w.settled_bytes : !w.settled || !n ? 0 : w.in.end[w.settled - 1];
  bool each = true; /* an item is a token to the end */
  for (size_t i = 0; i < z->n; i++)
    each = each && z->step[i].kind != DECODE_BYTE_LEVEL && z->step[i].kind != DECODE_FALLBACK &&
           z->step[i].kind != DECODE_FUSE && z->step[i].kind != DECODE_SENTENCE;
  *whole = each ? w.settled : 0;
  pattern_work_free(pw);
  if (a) arena_free(a);
  text_free(&w.in.text), text_free(&w.out.text);
  free(w.in.end), free(w.out.end);
  return stays;
}
