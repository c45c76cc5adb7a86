/* SentencePiece's models (sentencepiece_model.proto): pieces with scores and types, how they were trained, how text is normalized.
 *
 * A BPE model merges the pair whose piece has the highest score, the leftmost of equal ones; a unigram model divides by the sum of
 * scores. Control pieces are special tokens: text never makes them, but for their spelling with CODEC_SPECIAL. */
#include "text/chars.h"
#include "text/codec_parts.h"
#include "text/protobuf.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };
enum { UNIGRAM = 1, BPE };

typedef struct Proto {
  const char *name; /* of the file */
  Spellings pieces;
  float *score;
  unsigned char *type;
  size_t n, cap_score, cap_type;
  uint64_t model, fallback, suffix; /* of the trainer */
  char *unk_surface, *role[CODEC_ROLES];
  Normalize normal; /* flags alone */
  const char *charsmap;
  size_t ncharsmap;
} Proto;

static bool damaged(const Proto *p, Diags *err) {
  return diag_error(err, (Span){0}, "%s: no SentencePiece model, or a damaged one", p->name);
}

static bool utf8(const char *s, size_t n) {
  uint32_t c;
  for (size_t i = 0; i < n;) {
    int k = utf8_next((const unsigned char *)s + i, n - i, &c);
    if (k <= 0) return false;
    i += (size_t)k;
  }
  return true;
}

static bool read_piece(Proto *p, const ProtoField *from, Diags *err) {
  const char *s = from->s, *end = s + from->n, *piece = "";
  size_t n = 0;
  ProtoField f;
  int k;
  float score = 0;
  uint64_t type = NORMAL;
  while ((k = proto_next(&s, end, &f)) > 0) {
    if (f.number == 1 && f.wire == 2) piece = f.s, n = f.n;
    if (f.number == 2 && f.wire == 5) score = proto_float(&f);
    if (f.number == 3 && f.wire == 0) type = f.value;
  }
  if (k < 0 || type < NORMAL || type > BYTE || !isfinite(score)) return damaged(p, err);
  if (!n || !utf8(piece, n)) return diag_error(err, (Span){0}, "%s: piece %zu is empty or no UTF-8", p->name, p->n);
  RESERVE(p->score, p->cap_score, p->n + 1);
  RESERVE(p->type, p->cap_type, p->n + 1);
  p->score[p->n] = score;
  p->type[p->n] = (unsigned char)type;
  return spellings_put(&p->pieces, piece, n, (int64_t)p->n++, p->name, err);
}

static void keep(char **to, const ProtoField *f) {
  free(*to);
  *to = codec_copy(f->s, f->n);
}

static bool read_trainer(Proto *p, const ProtoField *from) {
  const char *s = from->s, *end = s + from->n;
  ProtoField f;
  int k;
  while ((k = proto_next(&s, end, &f)) > 0) {
    if (f.number == 3 && f.wire == 0) p->model = f.value;
    if (f.number == 24 && f.wire == 0) p->suffix = f.value;
    if (f.number == 35 && f.wire == 0) p->fallback = f.value;
    if (f.wire != 2) continue;
    if (f.number == 44) keep(&p->unk_surface, &f);
    if (f.number == 45) keep(&p->role[3], &f);
    if (f.number == 46) keep(&p->role[0], &f);
    if (f.number == 47) keep(&p->role[1], &f);
    if (f.number == 48) keep(&p->role[2], &f);
  }
  return k == 0;
}

static bool read_normal(Proto *p, const ProtoField *from) {
  const char *s = from->s, *end = s + from->n;
  ProtoField f;
  int k;
  while ((k = proto_next(&s, end, &f)) > 0) {
    if (f.number == 2 && f.wire == 2) p->charsmap = f.s, p->ncharsmap = f.n;
    if (f.number == 3 && f.wire == 0) p->normal.dummy = f.value != 0;
    if (f.number == 4 && f.wire == 0) p->normal.squeeze = f.value != 0;
    if (f.number == 5 && f.wire == 0) p->normal.escape = f.value != 0;
  }
  return k == 0;
}

static bool read_proto(Proto *p, const CodecFile *file, Diags *err) {
  const char *s = file->bytes, *end = s + file->n;
  ProtoField f;
  int k;
  while ((k = proto_next(&s, end, &f)) > 0) {
    if (f.wire != 2) continue;
    if (f.number == 1 && !read_piece(p, &f, err)) return false;
    if (f.number == 2 && !read_trainer(p, &f)) return damaged(p, err);
    if (f.number == 3 && !read_normal(p, &f)) return damaged(p, err);
    if (f.number != 5) continue;
    Proto other = {.name = p->name};
    if (!read_normal(&other, &f)) return damaged(p, err);
    if (other.ncharsmap) return diag_error(err, (Span){0}, "%s: a denormalizer is not supported", p->name);
  }
  if (k < 0 || !p->n) return damaged(p, err);
  if (p->model != UNIGRAM && p->model != BPE)
    return diag_error(err, (Span){0}, "%s: the model type %s is not supported", p->name,
                      p->model == 3   ? "WORD"
                      : p->model == 4 ? "CHAR"
                                      : "that it names");
  if (p->suffix) return diag_error(err, (Span){0}, "%s: treat_whitespace_as_suffix is not supported", p->name);
  return true;
}

/* ---- the models */

static int by_score(const void *a, const void *b, void *scores) {
  const float *score = scores;
  float x = score[*(const uint32_t *)a], y = score[*(const uint32_t *)b];
  return x > y ? -1 : x < y ? 1 : 0;
}

/* Ranks of pieces by falling score, equal ones alike; BPE_NEVER for what is never merged. */
static uint32_t *ranks(const Proto *p, size_t count) {
  uint32_t *order = memory_zeroed(p->n, sizeof *order), *rank = memory_zeroed(count, sizeof *rank);
  for (size_t i = 0; i < p->n; i++) order[i] = (uint32_t)i;
  qsort_r(order, p->n, sizeof *order, by_score, p->score);
  for (size_t i = 0; i < p->n; i++)
    rank[order[i]] = i && p->score[order[i]] == p->score[order[i - 1]] ? rank[order[i - 1]] : (uint32_t)i;
  for (size_t i = 0; i < p->n; i++)
    if (p->type[i] != NORMAL) rank[i] = BPE_NEVER;
  free(order);
  return rank;
}

static bool make_pairs(CodecTables *t, const Proto *p, Diags *err) {
  Subword *m = &t->model;
  m->kind = SUBWORD_CHARS;
  m->fuse_unk = true;
  m->bpe = bpe_new();
  for (size_t i = 0; i < p->n; i++) {
    const struct Spelling *x = &p->pieces.v[i];
    bool found = p->type[i] == NORMAL || p->type[i] == USER || p->type[i] == BYTE;
    if (p->type[i] == UNUSED)
      return diag_error(err, (Span){0}, "%s: the unused piece %zu is not supported in a BPE model", p->name, i);
    bpe_add(m->bpe, found ? x->s : NULL, found ? x->n : 0);
    if (p->type[i] == USER) trie_add(&m->keep, x->s, x->n, (uint32_t)i);
  }
  for (size_t i = 0; i < p->n; i++) { /* characters that are no pieces, but parts of some */
    const struct Spelling *x = &p->pieces.v[i];
    uint32_t c, id;
    for (size_t at = 0, k; p->type[i] == NORMAL && at < x->n; at += k) {
      k = char_at(x->s + at, x->n - at, &c);
      if (bpe_find(m->bpe, x->s + at, k, &id)) continue;
      id = bpe_add(m->bpe, x->s + at, k);
      if (!m->parts) m->parts = id;
    }
  }
  uint32_t *rank = ranks(p, bpe_count(m->bpe));
  bool ok = bpe_rank_all(m->bpe, rank) || diag_error(err, (Span){0}, "%s: the pieces are too long", p->name);
  free(rank);
  return ok;
}

static void make_unigram(CodecTables *t, const Proto *p) {
  Subword *m = &t->model;
  m->kind = SUBWORD_UNIGRAM;
  m->sentence = true;
  m->score = memory_zeroed(p->n, sizeof *m->score);
  m->user = memory_zeroed(p->n, sizeof *m->user);
  for (size_t i = 0; i < p->n; i++) {
    vocab_add(&m->vocab, p->pieces.v[i].s, p->pieces.v[i].n);
    m->user[i] = p->type[i] == USER;
    m->score[i] = p->type[i] == NORMAL || p->type[i] == USER ? p->score[i] : NAN;
  }
}

/* Special tokens, kinds of pieces, roles. */
static bool make_tokens(CodecTables *t, const Proto *p, Diags *err) {
  if (!codec_spell(t, &p->pieces, err)) return false;
  t->kinds = memory_zeroed(p->n, sizeof *t->kinds);
  for (size_t i = 0; i < p->n; i++) {
    const struct Spelling *x = &p->pieces.v[i];
    AddedToken token = {.content = x->s, .n = x->n, .id = (uint32_t)i, .special = true};
    int type = p->type[i];
    t->kinds[i] = type == CONTROL   ? DECODE_IS_CONTROL
                  : type == UNKNOWN ? DECODE_IS_UNKNOWN
                  : type == BYTE    ? DECODE_IS_BYTE
                                    : DECODE_IS_TEXT;
    if (type == BYTE && subword_byte(x->s, x->n) < 0)
      return diag_error(err, (Span){0}, "%s: piece %zu is a byte by its type, and none by its name", p->name, i);
    if (type == UNKNOWN && t->model.unk >= 0)
      return diag_error(err, (Span){0}, "%s: more than one unknown piece", p->name);
    if (type == UNKNOWN) t->model.unk = (int64_t)i;
    if (type == CONTROL && !added_put(&t->added, &token, p->name, err)) return false;
  }
  if (t->model.unk < 0) return diag_error(err, (Span){0}, "%s: no unknown piece", p->name);
  static const char *const names[CODEC_ROLES] = {"<s>", "</s>", "<pad>", "<unk>"};
  for (int i = 0; i < CODEC_ROLES; i++) {
    const char *s = p->role[i] ? p->role[i] : names[i];
    uint32_t id;
    if (vocab_find(&t->spelled, s, strlen(s), &id) && p->type[id] == (i == 3 ? UNKNOWN : CONTROL)) t->role[i] = id;
  }
  return true;
}

static bool make_normalizer(CodecTables *t, const Proto *p, const json_t *config, Diags *err) {
  Normalize *z = normalizer_add(&t->normalizer, NORMALIZE_SENTENCE);
  z->dummy = p->normal.dummy, z->squeeze = p->normal.squeeze, z->escape = p->normal.escape;
  z->each = codec_json_bool(config, "legacy", true);
  for (size_t i = 0; i < p->n; i++)
    if (p->type[i] == USER) trie_add(&z->keep, p->pieces.v[i].s, p->pieces.v[i].n, (uint32_t)i);
  if (p->ncharsmap) z->map = charsmap_new(p->charsmap, p->ncharsmap, p->name, err);
  return !p->ncharsmap || z->map;
}

bool codec_read_spm(CodecTables *t, const CodecFile *f, const json_t *config, Diags *err) {
  Proto p = {.name = f->name, .model = UNIGRAM, .normal = {.dummy = true, .squeeze = true, .escape = true}};
  t->source = f->name;
  bool ok = read_proto(&p, f, err) && make_tokens(t, &p, err) && make_normalizer(t, &p, config, err);
  t->model.fallback = p.fallback != 0;
  if (ok && p.model == BPE)
    ok = make_pairs(t, &p, err);
  else if (ok)
    make_unigram(t, &p);
  ok = ok && subword_ready(&t->model, f->name, err);
  Decode *d = decoder_add(&t->decoder, DECODE_SENTENCE);
  d->kinds = t->kinds;
  d->first = p.normal.dummy || p.normal.squeeze;
  d->squeeze = p.normal.squeeze;
  d->nwith = strlen(p.unk_surface ? p.unk_surface : " \xe2\x81\x87 ");
  d->with = codec_copy(p.unk_surface ? p.unk_surface : " \xe2\x81\x87 ", d->nwith);
  spellings_free(&p.pieces);
  free(p.score), free(p.type), free(p.unk_surface);
  for (int i = 0; i < CODEC_ROLES; i++) free(p.role[i]);
  return ok;
}
