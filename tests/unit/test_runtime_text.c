/* Ids to text, messages, and sampling. */
#include "runtime/detokenize.h"
#include "runtime/random.h"
#include "runtime/sampler.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include "tests/unit/runtime_fixture.h"

static Dir dir;
static Report err;
static void setup(void) {
  dir = dir_new();
}
static void teardown(void) {
  report_free(&err);
  dir_free(&dir);
}
TestSuite(text, .init = setup, .fini = teardown);

static void check(const char *json, const int32_t *ids, int n, const char *want) {
  file_put(in(&dir, "t.json"), json, strlen(json));
  Detokenizer *d = detokenizer_open(in(&dir, "t.json"), &err);
  cr_assert(ne(ptr, d, NULL), "%s", err.text);
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  for (int i = 0; i < n; i++) detokenizer_write(d, ids[i], out);
  fclose(out);
  cr_assert(eq(str, text, (char *)want), "'%s', want '%s'", text, want);
  free(text);
  detokenizer_close(d);
}

Test(text, byte_level) {
  /* "Ġ" is a space, "Ċ" a line's end, "Ã©" the two bytes of é, "¡" byte 161 */
  check("{\"decoder\":{\"type\":\"ByteLevel\"},\"added_tokens\":[{\"id\":5,\"content\":\"<|Ġ|>\"}],"
        "\"model\":{\"vocab\":{\"Hi\":0,\"Ġyou\":1,\"Ċ\":2,\"Ã\":3,\"©\":4}}}",
        (int32_t[]){0, 1, 2, 3, 4, 5, 99, -1}, 8, "Hi you\n\xC3\xA9<|Ġ|>");
}

Test(text, every_byte_has_its_character) {
  /* the table of GPT-2, made the way its code makes it, gives every byte back */
  char json[8192] =
      "{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"}]},\"model\":{\"vocab\":{";
  int extra = 0;
  for (int b = 0; b < 256; b++) {
    bool same = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    int c = same ? b : 256 + extra++;
    sprintf(json + strlen(json), "%s\"\\u%04x\":%d", b ? "," : "", (unsigned)c, b);
  }
  strcat(json, "}}}");
  file_put(in(&dir, "t.json"), json, strlen(json));
  Detokenizer *d = detokenizer_open(in(&dir, "t.json"), &err);
  cr_assert(ne(ptr, d, NULL), "%s", err.text);
  FILE *out = fopen(in(&dir, "bytes"), "wb");
  for (int b = 0; b < 256; b++) detokenizer_write(d, b, out);
  fclose(out);
  size_t n;
  unsigned char *got = (unsigned char *)file_get(in(&dir, "bytes"), &n);
  cr_assert(eq(sz, n, 256));
  for (int b = 0; b < 256; b++) cr_assert(eq(int, got[b], b));
  free(got);
  detokenizer_close(d);
}

Test(text, spaces_and_byte_fallback) {
  check("{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"▁\"},"
        "\"content\":\" \"},"
        "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]},\"model\":{\"vocab\":{\"▁Hi▁\":0,\"<0x0A>\":1,\"<0xC3>\":2,"
        "\"<0xA9>\":3}}}",
        (int32_t[]){0, 1, 2, 3}, 4, " Hi \n\xC3\xA9");
  check("{\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"_\"},\"model\":{\"vocab\":[[\"_a\",-1.5],[\"b\",0]]}}",
        (int32_t[]){0, 1}, 2, " ab");
}

Test(text, plain) {
  check("{\"model\":{\"vocab\":{\"a\":0,\"\\n\":1,\"Ġ\":2,\"\\\\u0000\":3,\"\\u0000\":4}}}", (int32_t[]){0, 1, 2, 3, 4},
        5, "a\nĠ\\u0000\xE2\x90\x80");
}

Test(text, bad_tokenizers) {
  static const char *const bad[][2] = {{"", "t.json:1"},
                                       {"{", "t.json:1"},
                                       {"[]", "no vocabulary"},
                                       {"{\"model\":{}}", "no vocabulary"},
                                       {"{\"model\":{\"vocab\":{\"a\":-1}}}", "impossible id"},
                                       {"{\"model\":{\"vocab\":{\"a\":99999999999}}}", "impossible id"},
                                       {"{\"model\":{\"vocab\":{\"a\":\"b\"}}}", "impossible id"},
                                       {"{\"model\":{\"vocab\":[3]}}", "entry 0"},
                                       {"{\"model\":{\"vocab\":{}},\"added_tokens\":[{\"id\":1}]}", "added token 0"}};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    file_put(in(&dir, "t.json"), bad[i][0], strlen(bad[i][0]));
    cr_assert(eq(ptr, detokenizer_open(in(&dir, "t.json"), &err), NULL), "taken: %s", bad[i][0]);
    cr_assert(ne(ptr, strstr(err.text, bad[i][1]), NULL), "%s: %s", bad[i][0], err.text);
    report_free(&err);
  }
}

Test(text, samples_follow_the_logits_and_the_seed) {
  Fixture *f = fixture_new();
  Program p;
  cr_assert(program_open(&p, f->blob, fix_kernels, &err));
  Engine *e = engine_new(&p, 1, &err);
  cr_assert(sampler_possible(&p));
  float *w = engine_named(e, "w");
  for (int i = 0; i < FIX_VOCAB; i++)
    for (int k = 0; k < FIX_VOCAB; k++)
      w[i * FIX_VOCAB + k] = k == (i + 3) % FIX_VOCAB ? 60 : 0; /* sure of the next token */
  char *text[3];
  size_t size;
  for (uint64_t s = 0; s < 3; s++) {
    if (s == 1) init_params(e, 1);
    FILE *out = open_memstream(&text[s], &size);
    cr_assert(sampler_run(e, NULL, 20, 0.8, s, out, &err));
    fclose(out);
  }
  cr_assert(eq(str, text[0], "3 6 9 12 15 2 5 8 11 14 1 4 7 10 13 0 3 6 9 12\n")); /* past the window of eight, too */
  cr_assert(ne(str, text[1], text[2]));
  for (int i = 0; i < 3; i++) free(text[i]);
  engine_free(e);
  fixture_free(f);
}

Test(text, messages) {
  Report r = {0};
  cr_assert(not(report_add(&r, "%s", "a\033[31mb\tc")));
  cr_assert(eq(str, r.text, "a?[31mb?c\n")); /* no escape sequences from files to terminals */
  report_free(&r);
  for (int i = 0; i < 100000; i++) report_add(&r, "line %d", i);
  cr_assert(lt(sz, r.n, 70000));
  cr_assert(ne(ptr, strstr(r.text, "... and more\n"), NULL));
  report_free(&r);
  static const char *const words[] = {"alpha", "beta", "gamma"};
  cr_assert(eq(str, (char *)report_suggest("betta", words, 3), "beta"));
  cr_assert(eq(ptr, (void *)report_suggest("omicron", words, 3), NULL));
}
