/* Byte-pair training against its definition, written plainly: count all pairs, merge the best, again. */
#include "data/tokenizer.h"
#include "text/split.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static Arena *arena;
static Diags *err;

static void setup(void) {
  arena = arena_new();
  err = diags_new(arena);
}

static void teardown(void) {
  arena_free(arena);
}

TestSuite(data_train, .init = setup, .fini = teardown);

static uint64_t seed = 7;

static uint32_t rnd(uint32_t below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((seed >> 33) % below);
}

static Tokenizer *train(const char *text, size_t n, uint32_t vocab) {
  BpeTrainer *b = bpe_trainer_new(err);
  cr_assert(bpe_trainer_feed(b, text, n, true, err));
  Tokenizer *t = bpe_trainer_finish(b, vocab, NULL, err);
  bpe_trainer_free(b);
  return t;
}

static void random_words(Text *out, int n, uint32_t letters, uint32_t length) {
  for (int i = 0; i < n; i++) {
    text_add(out, i ? " " : "");
    for (uint32_t k = 1 + rnd(length); k; k--) text_add(out, "%c", (int)('a' + rnd(letters)));
  }
}

/* ---- the definition */

enum { MOST = 1 << 14, IDS = 600 };

typedef struct Plain {
  uint32_t id[MOST]; /* UINT32_MAX between pieces */
  size_t n;
  char *token[IDS];
  uint32_t ids, pairs[IDS][2], merges;
} Plain;

static void add_piece(void *ctx, const char *piece, size_t n) {
  Plain *p = ctx;
  for (size_t i = 0; i < n; i++) p->id[p->n++] = (unsigned char)piece[i];
  p->id[p->n++] = UINT32_MAX;
}

static bool best_pair(const Plain *p, uint32_t *left, uint32_t *right) {
  static uint32_t count[IDS][IDS];
  uint32_t most = 1;
  memset(count, 0, sizeof count);
  for (size_t i = 0; i + 1 < p->n; i++)
    if (p->id[i] != UINT32_MAX && p->id[i + 1] != UINT32_MAX) count[p->id[i]][p->id[i + 1]]++;
  for (uint32_t l = 0; l < p->ids; l++)
    for (uint32_t r = 0; r < p->ids; r++)
      if (count[l][r] > most) most = count[l][r], *left = l, *right = r;
  return most > 1;
}

static void train_plainly(Plain *p, uint32_t vocab) {
  for (int i = 0; i < 256; i++) p->token[p->ids++] = arena_printf(arena, "%c", i ? i : 1);
  uint32_t l, r;
  while (p->ids + 1 < vocab && best_pair(p, &l, &r)) {
    char *both = arena_printf(arena, "%s%s", p->token[l], p->token[r]);
    uint32_t merged = 256;
    while (merged < p->ids && strcmp(p->token[merged], both)) merged++;
    if (merged == p->ids) p->token[p->ids++] = both;
    size_t n = 0;
    for (size_t i = 0; i < p->n; n++) {
      bool here = i + 1 < p->n && p->id[i] == l && p->id[i + 1] == r;
      p->id[n] = here ? merged : p->id[i];
      i += here ? 2 : 1;
    }
    p->n = n;
    bool known = false; /* a pair comes again when its tokens were made anew */
    for (uint32_t i = 0; i < p->merges; i++) known |= p->pairs[i][0] == l && p->pairs[i][1] == r;
    if (!known) p->pairs[p->merges][0] = l, p->pairs[p->merges++][1] = r;
  }
}

Test(data_train, is_what_the_definition_says) {
  for (int round = 0; round < 12; round++) {
    Text text = {0};
    random_words(&text, 300, 2 + rnd(6), 2 + rnd(12));
    uint32_t vocab = 270 + rnd(200);
    Plain *p = arena_alloc(arena, sizeof *p);
    Splitter *s = splitter_new(err);
    cr_assert(splitter_feed(s, text.s, text.n, true, add_piece, p, err));
    train_plainly(p, vocab);
    Tokenizer *t = train(text.s, text.n, vocab);
    cr_assert(eq(u32, tokenizer_vocab(t), p->ids + 1));
    cr_assert(eq(i64, tokenizer_eot(t), (int64_t)p->ids));
    cr_assert(eq(u32, bpe_merges(t->bpe), p->merges));
    for (uint32_t i = 0; i < p->merges; i++) {
      uint32_t l, r;
      bpe_pair(t->bpe, i, &l, &r);
      cr_assert(eq(u32, l, p->pairs[i][0]), "merge %u", i);
      cr_assert(eq(u32, r, p->pairs[i][1]), "merge %u", i);
    }
    tokenizer_free(t);
    splitter_free(s);
    text_free(&text);
  }
}

Test(data_train, counts_matter_and_order_does_not) {
  Text one = {0}, two = {0}, a = {0}, b = {0};
  char *word[200];
  for (int i = 0; i < LEN(word); i++) {
    Text w = {0};
    random_words(&w, 1, 5, 8);
    word[i] = arena_strdup(arena, w.s);
    text_free(&w);
  }
  for (int i = 0; i < LEN(word); i++) text_add(&one, " %s", word[i]), text_add(&two, " %s", word[(i * 77 + 5) % 200]);
  Tokenizer *t = train(one.s, one.n, 400), *u = train(two.s, two.n, 400), *v = train(one.s, one.n, 400);
  tokenizer_json(t, &a);
  tokenizer_json(u, &b);
  cr_assert(eq(str, a.s, b.s));
  b.n = 0;
  tokenizer_json(v, &b);
  cr_assert(eq(str, a.s, b.s));
  text_add(&one, " zz zz zz zz zz zz zz zz zz zz zz zz");
  Tokenizer *w = train(one.s, one.n, 400);
  b.n = 0;
  tokenizer_json(w, &b);
  cr_assert(ne(str, a.s, b.s));
  tokenizer_free(t), tokenizer_free(u), tokenizer_free(v), tokenizer_free(w);
  text_free(&one), text_free(&two), text_free(&a), text_free(&b);
}

Test(data_train, ties_go_to_the_smaller_ids) {
  Tokenizer *t = train(" dc dc ba ba", 12, 260); /* " d", "dc", " b", "ba": each twice */
  static const uint32_t want[][2] = {{' ', 'b'}, {' ', 'd'}, {256, 'a'}};
  cr_assert(eq(u32, bpe_merges(t->bpe), LEN(want)));
  for (int i = 0; i < LEN(want); i++) {
    uint32_t l, r;
    bpe_pair(t->bpe, (uint32_t)i, &l, &r);
    cr_assert(eq(u32, l, want[i][0]));
    cr_assert(eq(u32, r, want[i][1]));
  }
  tokenizer_free(t);
}

Test(data_train, stops_when_nothing_repeats) {
  Tokenizer *t = train("abcdefg", 7, 1000);
  cr_assert(eq(u32, tokenizer_vocab(t), 257));
  tokenizer_free(t);
  t = train("aaaa aaaa", 9, 1000);
  cr_assert(tokenizer_vocab(t) > 257);
  cr_assert(lt(u32, tokenizer_vocab(t), 1000));
  tokenizer_free(t);
}

Test(data_train, refuses_sizes_and_stops_when_told) {
  BpeTrainer *b = bpe_trainer_new(err);
  volatile int stop = 1;
  cr_assert(bpe_trainer_feed(b, "abab abab", 9, true, err));
  cr_assert(eq(ptr, bpe_trainer_finish(b, 256, NULL, err), NULL));
  cr_assert(eq(ptr, bpe_trainer_finish(b, BPE_MOST_TOKENS + 1, NULL, err), NULL));
  cr_assert(eq(int, err->n, 2));
  cr_assert(eq(ptr, bpe_trainer_finish(b, 300, &stop, err), NULL));
  cr_assert(eq(int, err->n, 3));
  bpe_trainer_free(b);
}
