/* Tokenizers: GPT-2's published vectors, decode(encode(x)) == x, the same ids however the text is portioned, the same
 * merges by scanning and by heap, and files that are wrong. */
#include "data/tokenizer.h"
#include "text/byte_level.h"
#include "text/split.h"
#include "text/utf8.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static Arena *arena;
static Diags *err;

static void setup(void) {
  arena = arena_new();
  err = diags_new(arena);
}

static void teardown(void) {
  arena_free(arena);
}

TestSuite(data_tokenizer, .init = setup, .fini = teardown);

static uint64_t seed = 1;

static uint32_t rnd(uint32_t below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((seed >> 33) % below);
}

static char *slurp(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  char *s = malloc(1 << 24);
  *n = fread(s, 1, (1 << 24) - 1, f);
  s[*n] = 0;
  fclose(f);
  return s;
}

static const char *shared(const char *name) {
  const char *root = getenv("INK_SHARED");
  return arena_printf(arena, "%s/data/%s", root ? root : "../shared", name);
}

static Tokenizer *gpt2(void) {
  const char *dir = shared("tokenizers/gpt2");
  if (access(dir, R_OK)) cr_skip_test("GPT-2's tokenizer files are not here (INK_SHARED names their folder)");
  Tokenizer *t = tokenizer_gpt2(dir, err);
  cr_assert(ne(ptr, t, NULL));
  return t;
}

/* Byte pairs trained on a little text, for tests that need no files. */
static Tokenizer *small_bpe(uint32_t vocab) {
  static const char text[] = "the cat sat on the mat and the other cat sat there, that's what cats do; they'll sit on "
                             "mats: 12 cats on 12 mats. \xc3\x9c"
                             "ber uns \xc3\xbc"
                             "ber alles \xe6\x97\xa5\xe6\x9c\xac";
  BpeTrainer *b = bpe_trainer_new(err);
  for (int i = 0; i < 3; i++) cr_assert(bpe_trainer_feed(b, text, sizeof text - 1, true, err));
  Tokenizer *t = bpe_trainer_finish(b, vocab, NULL, err);
  bpe_trainer_free(b);
  cr_assert(ne(ptr, t, NULL));
  return t;
}

/* Text of all kinds: words, spaces, any characters, any bytes. */
static void random_text(Text *out, size_t n, bool bytes) {
  static const char *const word[] = {
      "the",      " cat", "'s",  "'ll",      "  ",           "\n",           "\r\n\r\n",         " 12",
      "3",        "!?",   "\t ", "\xc2\xa0", "\xe1\xa0\x8e", "\xe2\x80\xa8", "\xf0\x9f\xa6\x99", "\xd9\xa1",
      "\xcc\x88", "there"};
  while (out->n < n) {
    uint32_t kind = rnd(bytes ? 4 : 3);
    char c[4];
    if (kind < 2) {
      text_add(out, "%s", word[rnd(LEN(word))]);
    } else if (kind == 2) {
      uint32_t cp = rnd(rnd(2) ? 0x3000 : UTF8_MAX);
      if (cp < 0xd800 || cp > 0xdfff) text_write(out, c, (size_t)utf8_put(cp, c));
    } else {
      c[0] = (char)rnd(256);
      text_write(out, c, 1);
    }
  }
}

static void check_round_trip(Tokenizer *t, const Text *x) {
  Ids ids = {0}, again = {0};
  Text back = {0};
  cr_assert(tokenizer_encode(t, x->s, x->n, &ids, err));
  cr_assert(tokenizer_decode(t, ids.v, ids.n, &back, err));
  cr_assert(eq(sz, back.n, x->n));
  cr_assert(x->n == 0 || !memcmp(back.s, x->s, x->n));
  for (size_t i = 0; i < ids.n; i++) cr_assert(lt(u32, ids.v[i], tokenizer_vocab(t)));
  for (size_t at = 0, n; at < x->n; at += n) { /* portions cut anywhere change nothing */
    n = 1 + rnd(9);
    if (n > x->n - at) n = x->n - at;
    cr_assert(tokenizer_feed(t, x->s + at, n, at + n == x->n, &again, err));
  }
  cr_assert(eq(sz, again.n, ids.n));
  cr_assert(ids.n == 0 || !memcmp(again.v, ids.v, ids.n * sizeof *ids.v));
  free(ids.v);
  free(again.v);
  text_free(&back);
}

Test(data_tokenizer, gpt2_vectors) {
  Tokenizer *t = gpt2();
  size_t n, m;
  char *inp = slurp(shared("tokenizers/gpt2/ggml-vocab-gpt-2.gguf.inp"), &n);
  char *out = slurp(shared("tokenizers/gpt2/ggml-vocab-gpt-2.gguf.out"), &m);
  if (!inp || !out) cr_skip_test("GPT-2's vectors are not here");
  static const char mark[] = "\n__ggml_vocab_test__\n";
  int texts = 0;
  for (char *s = inp, *o = out, *stop; (stop = strstr(s, mark)); texts++) {
    Ids ids = {0};
    Text line = {0};
    cr_assert(tokenizer_encode(t, s, (size_t)(stop - s), &ids, err));
    for (size_t i = 0; i < ids.n; i++) text_add(&line, " %u", ids.v[i]);
    char *end = strchr(o, '\n');
    *end = 0;
    cr_assert(eq(str, line.s ? line.s : (char *)"", o), "text %d", texts);
    free(ids.v);
    text_free(&line);
    s = stop + sizeof mark - 1;
    o = end + 1;
  }
  cr_assert(eq(int, texts, 46));
  free(inp);
  free(out);
  tokenizer_free(t);
}

Test(data_tokenizer, gpt2_ids_are_the_published_ones) {
  Tokenizer *t = gpt2();
  cr_assert(eq(u32, tokenizer_vocab(t), 50257));
  cr_assert(eq(i64, tokenizer_eot(t), 50256));
  Ids ids = {0};
  cr_assert(tokenizer_encode(t, " gazed", 6, &ids, err));
  cr_assert(eq(sz, ids.n, 1));
  cr_assert(eq(u32, ids.v[0], 50255));
  ids.n = 0; /* its own spelling is text like any other */
  cr_assert(tokenizer_encode(t, END_OF_TEXT, strlen(END_OF_TEXT), &ids, err));
  cr_assert(ids.n > 1);
  for (size_t i = 0; i < ids.n; i++) cr_assert(ne(u32, ids.v[i], 50256));
  free(ids.v);
  tokenizer_free(t);
}

Test(data_tokenizer, round_trips) {
  Charset *set = charset_new();
  Text x = {0};
  uint64_t bad;
  random_text(&x, 20000, false);
  cr_assert(charset_feed(set, x.s, x.n, true, &bad));
  Tokenizer *ch = tokenizer_char(set, true), *by = tokenizer_bytes(true), *bp = small_bpe(330);
  for (int i = 0; i < 60; i++) {
    Text text = {0}, any = {0};
    random_text(&any, i ? rnd(400) : 0, true);
    size_t from = 0, to = x.n / 60 * (size_t)(i + 1);
    while (from < to && ((unsigned char)x.s[from] & 0xc0) == 0x80) from++;
    while (((unsigned char)x.s[to] & 0xc0) == 0x80) to--;
    text_write(&text, x.s + from, to - from);
    check_round_trip(ch, &text);
    check_round_trip(by, &any);
    check_round_trip(bp, &any);
    check_round_trip(bp, &text);
    text_free(&text);
    text_free(&any);
  }
  text_free(&x);
  charset_free(set);
  tokenizer_free(ch);
  tokenizer_free(by);
  tokenizer_free(bp);
}

/* The definition: the lowest rank, its leftmost pair, one merge at a time. */
static size_t merge_plainly(const Bpe *b, uint32_t *id, size_t n) {
  for (;;) {
    for (uint32_t rank = 0;; rank++) {
      uint32_t left, right, merged = 0;
      size_t i, k;
      if (rank == bpe_merges(b)) return n;
      bpe_pair(b, rank, &left, &right);
      for (i = 0; i + 1 < n && !(id[i] == left && id[i + 1] == right); i++) {
      }
      if (i + 1 >= n) continue;
      Text both = {0};
      const char *s = bpe_bytes(b, left, &k);
      text_write(&both, s, k);
      s = bpe_bytes(b, right, &k);
      text_write(&both, s, k);
      cr_assert(bpe_find(b, both.s, both.n, &merged));
      text_free(&both);
      id[i] = merged;
      memmove(id + i + 1, id + i + 2, (n - i - 2) * sizeof *id);
      n--;
      break;
    }
  }
}

/* Pieces of all lengths out of these letters, encoded, against the definition. */
static void check_merging(Tokenizer *t, const char *letters) {
  for (int round = 0; round < 200; round++) {
    char piece[160];
    uint32_t id[160];
    size_t n = 1 + rnd(sizeof piece);
    Ids got = {0};
    for (size_t i = 0; i < n; i++) piece[i] = letters[rnd((uint32_t)strlen(letters))], id[i] = (unsigned char)piece[i];
    bpe_encode(t->bpe, piece, n, &got);
    n = merge_plainly(t->bpe, id, n);
    cr_assert(eq(sz, got.n, n));
    cr_assert(eq(int, memcmp(got.v, id, n * sizeof *id), 0));
    free(got.v);
  }
}

Test(data_tokenizer, long_and_short_pieces_merge_alike) {
  Tokenizer *t = small_bpe(320);
  check_merging(t, "thecasonmh ");
  tokenizer_free(t);
}

Test(data_tokenizer, runs_of_a_letter_merge_from_the_left) {
  BpeTrainer *b = bpe_trainer_new(err);
  cr_assert(bpe_trainer_feed(b, "aa aaa aaaaa aaab aab aaaab aaaaaaab baa", 40, true, err));
  Tokenizer *t = bpe_trainer_finish(b, 262, NULL, err);
  bpe_trainer_free(b);
  check_merging(t, "aaaaaab");
  check_merging(t, "a");
  tokenizer_free(t);
}

static void collect(void *ctx, const char *piece, size_t n) {
  Text *t = ctx;
  text_write(t, piece, n);
  text_add(t, "|");
}

Test(data_tokenizer, pieces) {
  static const char *const cases[][2] = {
      {"Hello world's  end", "Hello| world|'s| | end|"},
      {"they'll've 'd'S", "they|'ll|'ve| '|d|'|S|"},
      {"a1b22 ?! \n\n x", "a|1|b|22| ?!| \n\n| x|"},
      {"end   ", "end|   |"},
      {"a\xe1\xa0\x8e\xe1\xa0\x8e"
       "b",
       "a|\xe1\xa0\x8e\xe1\xa0\x8e|b|"}, /* U+180E is no white space */
      {"a\xc2\x85\xc2\x85"
       "b",
       "a|\xc2\x85|\xc2\x85|b|"},                   /* U+0085 is */
      {"x\xff\xfey \xc3", "x|\xff|\xfe|y| |\xc3|"}, /* broken bytes stand alone */
      {"", ""},
  };
  Splitter *s = splitter_new(err);
  for (int i = 0; i < LEN(cases); i++) {
    Text got = {0};
    cr_assert(splitter_feed(s, cases[i][0], strlen(cases[i][0]), true, collect, &got, err));
    cr_assert(eq(str, got.s ? got.s : (char *)"", (char *)cases[i][1]), "case %d", i);
    text_free(&got);
  }
  splitter_free(s);
}

typedef struct Lengths {
  size_t longest, sum, count;
} Lengths;

static void measure(void *ctx, const char *piece, size_t n) {
  (void)piece;
  Lengths *l = ctx;
  if (n > l->longest) l->longest = n;
  l->sum += n;
  l->count++;
}

Test(data_tokenizer, endless_pieces_are_cut) {
  static const char *const unit[] = {"\xc3\xa9", "12", "  ", "\xe3\x80\x80", "!!", "\xf0\x9f\xa6\x99"};
  size_t n = 2 * SPLIT_LONGEST + 1008;
  char *text = malloc(n);
  Splitter *s = splitter_new(err);
  for (int u = 0; u < LEN(unit); u++) { /* a word, a number, spaces of one and three bytes, signs of one and four */
    size_t k = strlen(unit[u]), whole = n - n % k, cut = SPLIT_LONGEST - SPLIT_LONGEST % k;
    for (size_t i = 0; i < whole; i++) text[i] = unit[u][i % k];
    for (size_t portion = 1 << 16; portion < n; portion = portion * 16 + 1) {
      Lengths l = {0};
      for (size_t at = 0, m; at < whole; at += m) {
        m = portion < whole - at ? portion : whole - at;
        cr_assert(splitter_feed(s, text + at, m, at + m == whole, measure, &l, err));
      }
      cr_assert(eq(sz, l.sum, whole));
      cr_assert(eq(sz, l.longest, cut), "%d", u);
      cr_assert(eq(sz, l.count, 3));
    }
  }
  splitter_free(s);
  free(text);
}

Test(data_tokenizer, utf8_is_strict) {
  static const struct {
    const char *s;
    int k;
    uint32_t cp;
  } cases[] = {{"a", 1, 'a'},
               {"\xc3\xbc", 2, 0xfc},
               {"\xe2\x82\xac", 3, 0x20ac},
               {"\xf0\x9f\xa6\x99", 4, 0x1f999},
               {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
               {"\xc0\x80", UTF8_BROKEN, 0},
               {"\xe0\x80\x80", UTF8_BROKEN, 0},
               {"\xed\xa0\x80", UTF8_BROKEN, 0},
               {"\xf4\x90\x80\x80", UTF8_BROKEN, 0},
               {"\xff", UTF8_BROKEN, 0},
               {"\x80", UTF8_BROKEN, 0},
               {"\xe2\x82", UTF8_SHORT, 0},
               {"\xf0", UTF8_SHORT, 0}};
  for (int i = 0; i < LEN(cases); i++) {
    uint32_t cp;
    int k = utf8_next((const unsigned char *)cases[i].s, strlen(cases[i].s), &cp);
    cr_assert(eq(int, k, cases[i].k), "case %d", i);
    if (k > 0) cr_assert(eq(u32, cp, cases[i].cp));
  }
  for (uint32_t c = 0; c < UTF8_MAX; c += 7) {
    char s[4];
    uint32_t cp;
    if (c >= 0xd800 && c < 0xe000) continue;
    cr_assert(utf8_next((unsigned char *)s, (size_t)utf8_put(c, s), &cp) > 0 && cp == c);
  }
}

Test(data_tokenizer, charset_tells_where_text_breaks) {
  static const struct {
    const char *s;
    uint64_t bad;
  } cases[] = {{"ab\xff", 2}, {"\xc3\xbc\xc3", 2}, {"a\xe2\x82x", 1}, {"\xf0\x9f\xa6", 0}};
  for (int i = 0; i < LEN(cases); i++)
    for (int portion = 1; portion < 5; portion++) {
      Charset *c = charset_new();
      size_t n = strlen(cases[i].s), at = 0;
      uint64_t bad = 99;
      bool ok = true;
      for (size_t k; ok && at < n; at += k) {
        k = (size_t)portion < n - at ? (size_t)portion : n - at;
        ok = charset_feed(c, cases[i].s + at, k, at + k == n, &bad);
      }
      cr_assert(not(ok));
      cr_assert(eq(u64, bad, cases[i].bad), "case %d in portions of %d", i, portion);
      charset_free(c);
    }
}

Test(data_tokenizer, byte_level_spelling_is_a_bijection) {
  for (int c = 0; c < 256; c++) {
    uint32_t code = byte_level_code((unsigned char)c);
    cr_assert(eq(int, byte_level_byte(code), c));
    cr_assert(code > 0x20 && code != 0x7f && code != 0xa0 && code != 0xad);
  }
  cr_assert(eq(u32, byte_level_code(' '), 0x120));
  cr_assert(eq(u32, byte_level_code('\n'), 0x10a));
  cr_assert(eq(u32, byte_level_code(0xad), 0x143));
  cr_assert(eq(int, byte_level_byte(0x144), -1));
}

Test(data_tokenizer, decoding_checks_ids) {
  Tokenizer *t = tokenizer_bytes(true);
  Text out = {0};
  cr_assert(tokenizer_decode(t, (uint32_t[]){'a', 256, 'b'}, 3, &out, err));
  cr_assert(eq(str, out.s, (char *)"a<|endoftext|>b"));
  cr_assert(not(tokenizer_decode(t, (uint32_t[]){257}, 1, &out, err)));
  cr_assert(eq(int, err->n, 1));
  text_free(&out);
  tokenizer_free(t);
}

Test(data_tokenizer, bad_gpt2_files) {
  static const struct {
    const char *dir, *want;
  } cases[] = {{"nothing", "holds neither"},
               {"broken_json", "encoder.json:2:"},
               {"no_object", "not an object"},
               {"id_twice", "both have the id 3"},
               {"id_too_large", "is 300"},
               {"no_integer", "no integer"},
               {"bad_spelling", "byte-level spelling"},
               {"missing_byte", "0x0a"},
               {"bad_merges", "vocab.bpe:2:"}};
  for (int i = 0; i < LEN(cases); i++) {
    int before = err->n;
    Tokenizer *t = tokenizer_gpt2(arena_printf(arena, "tests/data/gpt2_%s", cases[i].dir), err);
    cr_assert(eq(ptr, t, NULL), "%s", cases[i].dir);
    cr_assert(err->n > before, "%s", cases[i].dir);
    cr_assert(ne(ptr, (void *)strstr(err->list[before].text, cases[i].want), NULL), "%s: %s", cases[i].dir,
              err->list[before].text);
  }
  Tokenizer *t = tokenizer_gpt2("tests/data/gpt2_good", err); /* the same files, unspoiled: the others fail for cause */
  cr_assert(ne(ptr, t, NULL));
  cr_assert(eq(u32, tokenizer_vocab(t), 259));
  cr_assert(eq(i64, tokenizer_eot(t), 258));
  cr_assert(eq(ptr, (void *)tokenizer_note(t), NULL));
  Ids ids = {0};
  cr_assert(tokenizer_encode(t, "abc", 3, &ids, err));
  cr_assert(eq(sz, ids.n, 1));
  cr_assert(eq(u32, ids.v[0], 257));
  free(ids.v);
  tokenizer_free(t);
  t = tokenizer_gpt2("tests/data/gpt2_mended", err);
  cr_assert(ne(ptr, t, NULL));
  cr_assert(eq(i64, tokenizer_eot(t), 258));
  cr_assert(ne(ptr, (void *)tokenizer_note(t), NULL));
  tokenizer_free(t);
}
