/* Tokenizers of models: every golden of tests/golden/tokenizers, the published vectors of ../shared, what is refused and by which
 * name, decoding in portions, tables that are shared, files that are damaged. */
#include "text/codec.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <pthread.h>
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

TestSuite(text_codec, .init = setup, .fini = teardown);

static char *slurp(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  char *s = arena_alloc(arena, 4 << 20);
  *n = fread(s, 1, (4 << 20) - 1, f);
  fclose(f);
  return s;
}

static const char *shared(const char *name) {
  const char *root = getenv("INK_SHARED");
  return arena_printf(arena, "%s/data/tokenizers/%s", root ? root : "../shared", name);
}

static const char *words(void) {
  Text t = {0};
  text_add(&t, "%s", "");
  diags_render(err, &t);
  const char *s = arena_strndup(arena, t.s, t.n);
  text_free(&t);
  return s;
}

static Codec *open_json(const char *json, const char *config) {
  CodecFile file[2] = {{"tokenizer.json", json, strlen(json)},
                       {"tokenizer_config.json", config, config ? strlen(config) : 0}};
  return codec_open_files(file, config ? 2 : 1, err);
}

/* Encodes a whole text; the test fails where that does. */
static Ids encode(Codec *c, const char *text, size_t n, unsigned flags) {
  Ids ids = {0};
  cr_assert(codec_encode(c, text, n, flags, &ids, err), "'%.*s': %s", (int)n, text, words());
  return ids;
}

static const char *show(const uint32_t *v, size_t n) {
  Text t = {0};
  text_add(&t, "%s", "");
  for (size_t i = 0; i < n; i++) text_add(&t, "%s%u", i ? " " : "", v[i]);
  const char *s = arena_strndup(arena, t.s, t.n);
  text_free(&t);
  return s;
}

/* ids in decimal, spaces between. */
static void same_ids(const Ids *ids, const char *want, const char *what) {
  const char *have = show(ids->v, ids->n);
  cr_assert_str_eq(have, want, "%s: the ids are\n%s, not\n%s", what, have, want);
}

/* Decodes at once and id by id: the same bytes, which come back. */
static Text decode(const Codec *c, const Ids *ids, bool skip) {
  Text whole = {0}, parts = {0};
  CodecStream s = {.skip = skip};
  codec_decode(c, ids->v, ids->n, skip, &whole);
  for (size_t i = 0; i < ids->n; i++) codec_stream(c, &s, ids->v[i], &parts);
  codec_stream_end(c, &s, &parts);
  cr_assert(whole.n == parts.n && !memcmp(whole.s, parts.s, whole.n), "in portions '%s', at once '%s'", parts.s,
            whole.s);
  text_free(&parts);
  return whole;
}

/* ---- goldens */

static size_t unhex(const char *s, size_t n, char *out) {
  for (size_t i = 0; i < n / 2; i++) {
    unsigned v = 0;
    sscanf(s + 2 * i, "%2x", &v);
    out[i] = (char)v;
  }
  return n / 2;
}

static void check_decoded(const Codec *c, const Ids *ids, bool skip, const char *want, size_t nwant, const char *what) {
  Text t = decode(c, ids, skip);
  cr_assert(t.n == nwant && !memcmp(t.s, want, nwant), "%s: decoded as '%s', not '%.*s'", what, t.s, (int)nwant, want);
  text_free(&t);
}

static int golden(const char *name) {
  const char *folder = arena_printf(arena, "tests/golden/tokenizers/%s", name);
  size_t n;
  char *cases = slurp(arena_printf(arena, "%s/cases.txt", folder), &n);
  cr_assert(cases != NULL, "%s has no cases", folder);
  Codec *c = codec_open(folder, err);
  cr_assert(c != NULL, "%s", words());
  int done = 0;
  static char text[1 << 16], first[1 << 16], second[1 << 16];
  for (char *line = cases, *next; *line; line = next) {
    next = strchr(line, '\n');
    *next++ = 0;
    if (*line == '#') continue;
    char *field[5] = {0};
    for (int i = 0; i < 5; i++) field[i] = strsep(&line, "\t");
    cr_assert(field[4] != NULL, "%s: a line without five fields", folder);
    size_t k = unhex(field[1], strlen(field[1]), text), a, b;
    const char *what = arena_printf(arena, "%s, flags %s, %s", name, field[0], field[1]);
    Ids ids = encode(c, text, k, (unsigned)atoi(field[0]));
    same_ids(&ids, field[2], what);
    bool same = !strcmp(field[3], "=");
    if (same)
      memcpy(first, text, a = k);
    else
      a = unhex(field[3], strlen(field[3]), first);
    check_decoded(c, &ids, true, first, a, what);
    if (!strcmp(field[4], "."))
      memcpy(second, first, b = a);
    else if (!strcmp(field[4], "="))
      memcpy(second, text, b = k);
    else
      b = unhex(field[4], strlen(field[4]), second);
    if (strcmp(field[4], "-")) check_decoded(c, &ids, false, second, b, what);
    free(ids.v);
    done++;
  }
  codec_free(c);
  return done;
}

Test(text_codec, goldens) {
  static const char *const names[] = {"gpt2",    "llama3",      "qwen2", "roberta", "splits", "spm-bpe",   "llama2",
                                      "mistral", "spm-unigram", "t5",    "bert",    "clip",   "metaspace", "tiktoken"};
  for (int i = 0; i < LEN(names); i++) cr_expect(ge(int, golden(names[i]), 150), "%s", names[i]);
}

/* ---- the vectors of ../shared */

static void vectors(Codec *c, const char *stem) {
  static const char mark[] = "\n__ggml_vocab_test__\n";
  size_t n, m;
  char *in = slurp(arena_printf(arena, "%s.inp", stem), &n), *out = slurp(arena_printf(arena, "%s.out", stem), &m);
  int done = 0;
  for (char *end; (end = strstr(in, mark)) != NULL; in = end + sizeof mark - 1, done++) {
    char *line = strsep(&out, "\n"), *s = line;
    while (*s == ' ') s++;
    for (char *e = s + strlen(s); e > s && e[-1] == ' ';) *--e = 0;
    Ids ids = encode(c, in, (size_t)(end - in), 0);
    same_ids(&ids, s, arena_strndup(arena, in, (size_t)(end - in)));
    check_decoded(c, &ids, false, in, (size_t)(end - in), "a vector");
    free(ids.v);
  }
  cr_assert(eq(int, done, 46));
}

Test(text_codec, published_byte_pairs) {
  if (access(shared("gpt2"), R_OK)) cr_skip_test("../shared is not here (INK_SHARED names its folder)");
  Codec *c = codec_open(shared("gpt2"), err);
  cr_assert(c != NULL, "%s", words());
  vectors(c, shared("gpt2/ggml-vocab-gpt-2.gguf"));
  cr_expect(eq(u32, codec_vocab(c), 50257));
  cr_expect(eq(i64, codec_find(c, "<|endoftext|>"), 50256));
  cr_expect(eq(i64, codec_role(c, "eos_token"), 50256));
  cr_expect(codec_special(c, 50256));
  codec_free(c);
}

/* ---- a vocabulary in a GGUF as the SentencePiece model that it was */

static void varint(Text *t, uint64_t v) {
  for (; v > 127; v >>= 7) text_write(t, &(char){(char)(v | 128)}, 1);
  text_write(t, &(char){(char)v}, 1);
}

static void bytes_field(Text *t, int number, const void *s, size_t n) {
  varint(t, (uint64_t)number << 3 | 2);
  varint(t, n);
  text_write(t, s, n);
}

static void number_field(Text *t, int number, uint64_t v) {
  varint(t, (uint64_t)number << 3);
  varint(t, v);
}

typedef struct Gguf {
  const unsigned char *s, *tokens, *scores, *types;
  uint64_t count;
} Gguf;

static uint64_t number(const unsigned char *s, int n) {
  uint64_t v = 0;
  for (int i = 0; i < n; i++) v |= (uint64_t)s[i] << (8 * i);
  return v;
}

/* Bytes of a value of GGUF's type at s. */
static size_t value_size(uint32_t type, const unsigned char *s) {
  static const unsigned char sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  if (type == 8) return 8 + (size_t)number(s, 8);
  if (type != 9) return sizes[type];
  uint32_t inner = (uint32_t)number(s, 4);
  uint64_t n = number(s + 4, 8);
  size_t size = 12;
  for (uint64_t i = 0; i < n; i++) size += value_size(inner, s + size);
  return size;
}

static Gguf read_gguf(const unsigned char *s) {
  Gguf g = {.s = s};
  uint64_t keys = number(s + 16, 8);
  s += 24;
  for (uint64_t i = 0; i < keys; i++) {
    size_t n = (size_t)number(s, 8);
    const char *key = (const char *)s + 8;
    s += 8 + n;
    uint32_t type = (uint32_t)number(s, 4);
    s += 4;
    if (n == 21 && !memcmp(key, "tokenizer.ggml.tokens", n)) g.tokens = s + 12, g.count = number(s + 4, 8);
    if (n == 21 && !memcmp(key, "tokenizer.ggml.scores", n)) g.scores = s + 12;
    if (n == 25 && !memcmp(key, "tokenizer.ggml.token_type", n)) g.types = s + 12;
    s += value_size(type, s);
  }
  return g;
}

static Text model_of(const Gguf *g) {
  Text model = {0}, part = {0};
  const unsigned char *s = g->tokens;
  for (uint64_t i = 0; i < g->count; i++) {
    size_t n = (size_t)number(s, 8);
    part.n = 0;
    bytes_field(&part, 1, s + 8, n);
    text_write(&part, "\x15", 1); /* field 2, four bytes */
    text_write(&part, g->scores + 4 * i, 4);
    number_field(&part, 3, number(g->types + 4 * i, 4));
    bytes_field(&model, 1, part.s, part.n);
    s += 8 + n;
  }
  part.n = 0;
  number_field(&part, 3, 2), number_field(&part, 35, 1);
  bytes_field(&model, 2, part.s, part.n);
  part.n = 0;
  number_field(&part, 3, 1), number_field(&part, 4, 0), number_field(&part, 5, 1);
  bytes_field(&model, 3, part.s, part.n);
  text_free(&part);
  return model;
}

Test(text_codec, published_sentencepiece) {
  size_t n;
  const char *path = shared("llama-spm/ggml-vocab-llama-spm.gguf");
  if (access(path, R_OK)) cr_skip_test("../shared is not here (INK_SHARED names its folder)");
  Gguf g = read_gguf((const unsigned char *)slurp(path, &n));
  cr_assert(eq(u64, g.count, 32000));
  Text model = model_of(&g);
  Codec *c = codec_open_files(&(CodecFile){"tokenizer.model", model.s, model.n}, 1, err);
  cr_assert(c != NULL, "%s", words());
  vectors(c, path);
  cr_expect(eq(i64, codec_role(c, "bos_token"), 1));
  cr_expect(eq(i64, codec_role(c, "unk_token"), 0));
  codec_free(c);
  text_free(&model);
}

Test(text_codec, small_vocabulary) {
  if (access(shared("hf-small"), R_OK)) cr_skip_test("../shared is not here (INK_SHARED names its folder)");
  Codec *c = codec_open(shared("hf-small"), err);
  cr_assert(c != NULL, "%s", words());
  cr_expect(eq(u32, codec_vocab(c), 2020));
  Ids ids = encode(c, "<|im_start|>Hi!<|im_end|>", 25, CODEC_SPECIAL);
  same_ids(&ids, "2009 72 105 33 2010", "a chat");
  check_decoded(c, &ids, true, "Hi!", 3, "a chat");
  cr_expect(eq(i64, codec_role(c, "bos_token"), 2002));
  cr_expect(codec_template(c) != NULL);
  size_t k;
  const char *nul = codec_token(c, 0, &k); /* U+0000 in a key */
  cr_expect(k == 1 && nul && !*nul);
  /* Its vocabulary has no spelled space: other programs drop it without a word. */
  cr_expect(not(codec_encode(c, "a b", 3, 0, &ids, err)));
  cr_expect(strstr(words(), "no token stands for the character U+0120") != NULL, "%s", words());
  free(ids.v);
  codec_free(c);
}

/* ---- what is refused */

#define MODEL                                                                                                          \
  "\"model\":{\"type\":\"BPE\",\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1,\"b\":2,\"ab\":3,\"\\u2581\":4},"        \
  "\"merges\":[\"a b\"]}"

Test(text_codec, refusals) {
  static const char *const cases[][3] = {
      {"{}", NULL, "no model"},
      {"[1]", NULL, "tokenizer.json is no object"},
      {"{\"model\":", NULL, "tokenizer.json:1:"},
      {"{\"model\":{\"type\":\"Neural\"}}", NULL, "the model 'Neural' is not supported"},
      {"{\"surprise\":1," MODEL "}", NULL, "'surprise' is not supported"},
      {"{\"normalizer\":{\"type\":\"Rot13\"}," MODEL "}", NULL, "the normalizer 'Rot13' is not supported"},
      {"{\"normalizer\":{\"type\":\"NFC\",\"more\":true}," MODEL "}", NULL, "normalizer: 'more' is not supported"},
      {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL "}", NULL,
       "the pre_tokenizer 'UnicodeScripts' is not supported"},
      {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\",\"invert\":"
       "false}," MODEL "}",
       NULL, "the pattern '(' is not understood"},
      {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\"}," MODEL
       "}",
       NULL, "an operation on classes"},
      {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Sideways\"}," MODEL "}",
       NULL, "the behavior 'Sideways' is not supported"},
      {"{\"post_processor\":{\"type\":\"Postman\"}," MODEL "}", NULL, "the post_processor 'Postman' is not supported"},
      {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},{"
       "\"Sequence\":{\"id\":\"A\"}}],"
       "\"special_tokens\":{}}," MODEL "}",
       NULL, "names 'x', which has no ids"},
      {"{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
       "\"content\":\"aaaaaaaaaaaa\"},"
       "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaaaaaaaaaa\"}]}," MODEL "}",
       NULL, "64 times as long"},
      {"{\"decoder\":{\"type\":\"CTC\"}," MODEL "}", NULL, "decoder 'CTC' is not supported"},
      {"{\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]}}", NULL,
       "dropout is not supported"},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", NULL, "both have the id 0"},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", NULL, "the id -1"},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":999999},\"merges\":[]}}", NULL,
       "the id 999999, and only 1 tokens"},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999},\"merges\":[]}}", NULL, "the id 99999999"},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", NULL, "lacks 'b' of merge 0"},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", NULL,
       "lacks what merge 0 makes"},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",[\"a\",\"a\"]]}}", NULL,
       "merge 1 stands there twice"},
      {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":7}}", NULL, "unk_id is no token"},
      {"{\"added_tokens\":[{\"id\":9,\"content\":\"ab\"}]," MODEL "}", NULL,
       "has the id 9 here, and 3 in the vocabulary"},
      {"{" MODEL "}", "{\"eos_token\":\"</s>\"}", "eos_token is '</s>', which is no token"},
      {"{" MODEL "}", "{\"add_bos_token\":true}", "add_bos_token, but there is no bos_token"},
      {"{" MODEL "}", "{\"chat_template\":[{\"name\":\"a\",\"template\":\"\"},{\"name\":\"b\",\"template\":\"\"}]}",
       "called default"},
      {"{" MODEL "}", "[", "tokenizer_config.json:1"},
  };
  for (int i = 0; i < LEN(cases); i++) {
    err = diags_new(arena);
    Codec *c = open_json(cases[i][0], cases[i][1]);
    cr_expect(c == NULL, "%s", cases[i][0]);
    cr_expect(strstr(words(), cases[i][2]) != NULL, "'%s' is not in: %s", cases[i][2], words());
    codec_free(c);
  }
}

Test(text_codec, refused_files) {
  static const struct {
    const char *name, *bytes, *words;
  } cases[] = {{"tokenizer.model", "\n\x7f", "damaged"},
               {"tokenizer.model", "", "damaged"},
               {"tokenizer.model", "YQ== 0\nYg== x\n", "tokenizer.model:2: no base64, space and rank"},
               {"tokenizer.model", "YQ== 0\nYg== 1\n", "by which pattern its text is split is not known"},
               {"readme.txt", "", "no tokenizer among the files"}};
  for (int i = 0; i < LEN(cases); i++) {
    err = diags_new(arena);
    Codec *c = codec_open_files(&(CodecFile){cases[i].name, cases[i].bytes, strlen(cases[i].bytes)}, 1, err);
    cr_expect(c == NULL);
    cr_expect(strstr(words(), cases[i].words) != NULL, "'%s' is not in: %s", cases[i].words, words());
  }
  cr_expect(codec_open("/nonexistent", err) == NULL);
  CodecFile other[3] = {
      {"vocab.json", "{}", 2}, {"merges.txt", "", 0}, {"tokenizer_config.json", "{\"tokenizer_class\":\"X\"}", 23}};
  err = diags_new(arena);
  cr_expect(codec_open_files(other, 3, err) == NULL);
  cr_expect(strstr(words(), "by which pattern") != NULL, "%s", words());
}

/* Every beginning of a file, and every byte of it changed: an answer, whichever. */
Test(text_codec, damaged_files) {
  static const char *const names[][2] = {{"spm-unigram", "tokenizer.model"}, {"spm-bpe", "tokenizer.model"}};
  for (int i = 0; i < LEN(names); i++) {
    size_t n;
    char *s = slurp(arena_printf(arena, "tests/golden/tokenizers/%s/%s", names[i][0], names[i][1]), &n);
    for (size_t k = 0; k < n; k += 97) {
      Arena *a = arena_new();
      Diags *d = diags_new(a);
      Codec *c = codec_open_files(&(CodecFile){names[i][1], s, k}, 1, d);
      cr_expect(c || d->n, "refused without a word at %zu", k);
      codec_free(c);
      s[k] ^= 0x55;
      c = codec_open_files(&(CodecFile){names[i][1], s, n}, 1, d);
      Ids ids = {0};
      if (c) codec_encode(c, "Hello, wörld 12\xff", 17, 0, &ids, d);
      free(ids.v);
      codec_free(c);
      s[k] ^= 0x55;
      arena_free(a);
    }
  }
}

/* ---- questions and settings */

Test(text_codec, config) {
  static const char json[] = "{\"added_tokens\":[{\"id\":5,\"content\":\"<s>\",\"special\":true},{\"id\":6,\"content\":"
                             "\"</s>\",\"special\":true}],"
                             "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
                             "\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],"
                             "\"special_tokens\":{\"<s>\":{\"ids\":[5]}}}," MODEL "}";
  static const struct {
    const char *config, *ids;
  } around[] = {{NULL, "5 3"},
                {"{\"bos_token\":\"<s>\",\"add_bos_token\":true}", "5 3"},
                {"{\"bos_token\":\"<s>\",\"add_bos_token\":false}", "3"},
                {"{\"eos_token\":{\"content\":\"</s>\"},\"add_eos_token\":true}", "5 3 6"}};
  for (int i = 0; i < LEN(around); i++) {
    Codec *c = open_json(json, around[i].config);
    cr_assert(c != NULL, "%s", words());
    Ids ids = encode(c, "ab", 2, CODEC_ADD);
    same_ids(&ids, around[i].ids, around[i].config ? around[i].config : "no config");
    free(ids.v);
    codec_free(c);
  }
  Codec *c = open_json(
      json, "{\"pad_token\":\"<pad>\",\"unk_token\":null,\"chat_template\":[{\"name\":\"tool\",\"template\":\"T\"},"
            "{\"name\":\"default\",\"template\":\"D\"}],\"added_tokens_decoder\":{\"9\":{\"content\":\"<pad>\","
            "\"special\":true},\"8\":{\"content\":\"word\",\"special\":false}}}");
  cr_assert(c != NULL, "%s", words());
  cr_expect(eq(u32, codec_vocab(c), 10));
  cr_expect(eq(i64, codec_role(c, "pad_token"), 9));
  cr_expect(eq(i64, codec_role(c, "unk_token"), -1));
  cr_expect(codec_special(c, 9) && !codec_special(c, 8) && !codec_special(c, 7) && !codec_special(c, 10));
  cr_expect(eq(str, (char *)codec_template(c), "D"));
  size_t n;
  cr_expect(codec_token(c, 7, &n) == NULL && codec_token(c, 10, &n) == NULL && codec_token(c, 8, &n) != NULL);
  Ids ids = encode(c, "abword<pad>", 11, 0);
  same_ids(&ids, "3 8 0 0 1 0 0", "special tokens are text");
  ids.n = 0;
  cr_assert(codec_encode(c, "abword<pad>", 11, CODEC_SPECIAL, &ids, err));
  same_ids(&ids, "3 8 9", "special tokens are tokens");
  free(ids.v);
  const CodecFile *files;
  cr_expect(eq(int, codec_files(c, &files), 2));
  cr_expect(eq(str, (char *)files[0].name, "tokenizer.json"));
  cr_expect(files[0].n == strlen(json) && !memcmp(files[0].bytes, json, files[0].n));
  codec_free(c);
  CodecFile two[2] = {{"tokenizer.json", json, strlen(json)}, {"chat_template.jinja", "J", 1}};
  c = codec_open_files(two, 2, err);
  cr_expect(eq(str, (char *)codec_template(c), "J"));
  codec_free(c);
}

/* ---- portions */

Test(text_codec, portions) {
  Codec *c = codec_open("tests/golden/tokenizers/gpt2", err);
  cr_assert(c != NULL, "%s", words());
  Ids ids = encode(c, "\xe4\xbd\xa0!", 4, 0); /* 你, whose bytes are tokens of their own here or not */
  cr_assert(ge(sz, ids.n, 2));
  CodecStream s = {0};
  Text out = {0};
  for (size_t i = 0; i + 1 < ids.n; i++) {
    codec_stream(c, &s, ids.v[i], &out);
    cr_expect(out.n == 0 || out.n == 3, "half a character was told");
  }
  codec_stream(c, &s, 4000000000u, &out); /* no id: nothing */
  cr_expect(eq(sz, out.n, 3));
  codec_stream(c, &s, ids.v[ids.n - 1], &out);
  cr_expect(eq(str, out.s, "\xe4\xbd\xa0!"));
  codec_stream(c, &s, ids.v[0], &out); /* broken at the end */
  codec_stream_end(c, &s, &out);
  cr_expect(eq(str, out.s, "\xe4\xbd\xa0!\xef\xbf\xbd"));
  text_free(&out);
  free(ids.v);
  codec_free(c);
}

/* A byte is what a token of one byte stands for, be it UTF-8 or not. */
Test(text_codec, tokens_in_running_text) {
  size_t n;
  Codec *c = codec_open("tests/golden/tokenizers/spm-bpe", err);
  cr_assert(c != NULL, "%s", words());
  int64_t id = codec_find(c, "<0xE4>");
  cr_assert(ge(i64, id, 0));
  const char *s = codec_token(c, (uint32_t)id, &n);
  cr_expect(n == 1 && *s == '\xe4');
  id = codec_find(c, "\xe2\x96\x81the");
  cr_assert(ge(i64, id, 0));
  s = codec_token(c, (uint32_t)id, &n);
  cr_expect(n == 4 && !memcmp(s, " the", 4));
  codec_free(c);
  c = codec_open("tests/golden/tokenizers/gpt2", err);
  id = codec_find(c, "\xc4\xa0the"); /* Ġthe */
  cr_assert(ge(i64, id, 0));
  s = codec_token(c, (uint32_t)id, &n);
  cr_expect(n == 4 && !memcmp(s, " the", 4));
  codec_free(c);
}

/* ---- sharing */

typedef struct Shared {
  Codec *c;
  const char *text;
  size_t n;
  Ids ids;
  bool ok;
} Shared;

static void *encode_often(void *ctx) {
  Shared *s = ctx;
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  s->ok = true;
  for (int i = 0; i < 20; i++) {
    s->ids.n = 0;
    s->ok = s->ok && codec_encode(s->c, s->text, s->n, CODEC_SPECIAL | CODEC_ADD, &s->ids, d);
  }
  codec_free(s->c);
  arena_free(a);
  return NULL;
}

Test(text_codec, threads_share_tables) {
  static const char *const names[] = {"llama3", "llama2", "spm-unigram", "bert"};
  size_t n;
  char *text = slurp("docs/testing.md", &n);
  for (int k = 0; k < LEN(names); k++) {
    Codec *c = codec_open(arena_printf(arena, "tests/golden/tokenizers/%s", names[k]), err);
    cr_assert(c != NULL, "%s", words());
    Ids want = encode(c, text, n, CODEC_SPECIAL | CODEC_ADD);
    Shared one[3];
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) one[i] = (Shared){.c = codec_share(c), .text = text, .n = n};
    codec_free(c); /* in any order */
    for (int i = 0; i < 3; i++) cr_assert(eq(int, pthread_create(&thread[i], NULL, encode_often, &one[i]), 0));
    for (int i = 0; i < 3; i++) {
      pthread_join(thread[i], NULL);
      cr_expect(one[i].ok && one[i].ids.n == want.n && !memcmp(one[i].ids.v, want.v, want.n * sizeof *want.v));
      free(one[i].ids.v);
    }
    free(want.v);
  }
}

/* ---- patterns that other engines read otherwise */

Test(text_codec, patterns) {
  static const struct {
    const char *pattern, *text;
    int pieces; /* Isolated, as Hugging Face's library (Oniguruma) divides it */
  } cases[] = {
      {"\\\\d{1,3}+", "12345678", 1},
      {"\\\\d{1,3}", "12345678", 3},
      {"a{,2}", "aaaa", 2},
      {"^b", "a\\nb", 2},
      {"a$", "a\\na", 3},
      {"\\\\w", "\\u00bd\\u00bd", 2},
      {"[\\\\w]", "\\u00bd\\u00bd", 1},
      {"\\\\s", "a\\u180eb", 1},
      {"[^\\\\S\\\\n]", "a \\nb", 3},
      {"\\\\h+", "xaf09x", 3},
      {"(?m:a.b)", "a\\nb", 1},
      {"\\\\p{Han}+", "a\\u3007\\u30fcb", 3},
      {"(?i:ST)", "\\u017ft", 1},
      {"\\\\u0061", "ba", 2},
      {"x*+x", "xxx", 1},
      {"a?", "baab", 4},
      {"(?=b)", "ab", 2},
  };
  for (int i = 0; i < LEN(cases); i++) {
    err = diags_new(arena);
    Codec *c = open_json(
        arena_printf(arena,
                     "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\"},"
                     "\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"u\":0}}}",
                     cases[i].pattern),
        NULL);
    cr_assert(c != NULL, "%s: %s", cases[i].pattern, words());
    json_t *text = json_loads(arena_printf(arena, "\"%s\"", cases[i].text), JSON_DECODE_ANY, NULL);
    Ids ids = encode(c, json_string_value(text), json_string_length(text), 0);
    cr_expect(eq(int, (int)ids.n, cases[i].pieces), "%s on %s", cases[i].pattern, cases[i].text);
    free(ids.v);
    json_decref(text);
    codec_free(c);
  }
}

/* A pattern that would take forever is an error, soon. */
Test(text_codec, patterns_are_bounded, .timeout = 60) {
  Codec *c = open_json("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a|a)*+b|(a*)*c\"},"
                       "\"behavior\":\"Isolated\"}," MODEL "}",
                       NULL);
  cr_assert(c != NULL, "%s", words());
  char text[3001];
  memset(text, 'a', sizeof text);
  Ids ids = {0};
  cr_expect(not(codec_encode(c, text, 3000, 0, &ids, err)));
  cr_expect(strstr(words(), "fails on the text") != NULL, "%s", words());
  free(ids.v);
  codec_free(c);
}

/* Nor may a few steps make much text of little. */
Test(text_codec, growth_is_bounded) {
  Text json = {0};
  text_add(&json, "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
  for (int i = 0; i < 40; i++)
    text_add(&json, "%s{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}", i ? "," : "");
  text_add(&json, "]}," MODEL "}");
  Codec *c = open_json(json.s, NULL);
  cr_assert(c != NULL, "%s", words());
  Ids ids = {0};
  cr_expect(not(codec_encode(c, "\xc3\xa4", 2, 0, &ids, err)));
  cr_expect(strstr(words(), "32 times as long") != NULL, "%s", words());
  free(ids.v);
  text_free(&json);
  codec_free(c);
}
