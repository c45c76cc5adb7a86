/* `ink data prepare` from end to end: counts, headers, formats, the split, documents, and every way to fail. After a
 * failure nothing may stand beside the inputs: no output folder, no folder half-filled. */
#include "data/data.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static Arena *arena;
static Diags *err;
static char dir[4096]; /* this test's own folder */
static PrepareOptions o;
static PrepareResult r;

static void setup(void) {
  const char *tmp = getenv("TMPDIR");
  arena = arena_new();
  err = diags_new(arena);
  snprintf(dir, sizeof dir, "%s/ink-test-XXXXXX", tmp ? tmp : "/tmp");
  cr_assert(ne(ptr, mkdtemp(dir), NULL));
  o = (PrepareOptions){.val = 0.1, .shard_tokens = 100000000};
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *f) {
  (void)st, (void)kind, (void)f;
  return remove(path);
}

static void teardown(void) {
  nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
  arena_free(arena);
}

TestSuite(data_prepare, .init = setup, .fini = teardown);

static const char *at(const char *name) {
  return arena_printf(arena, "%s/%s", dir, name);
}

static const char *put_bytes(const char *name, const char *bytes, size_t n) {
  const char *path = at(name);
  FILE *f = fopen(path, "wb");
  cr_assert(ne(ptr, f, NULL));
  fwrite(bytes, 1, n, f);
  fclose(f);
  return path;
}

static const char *put(const char *name, const char *text) {
  return put_bytes(name, text, strlen(text));
}

static char *slurp(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  cr_assert(ne(ptr, f, NULL), "%s", path);
  fseek(f, 0, SEEK_END);
  *n = (size_t)ftell(f);
  rewind(f);
  char *s = arena_alloc(arena, *n + 1);
  *n = fread(s, 1, *n, f);
  fclose(f);
  return s;
}

static bool prepare(const char *const *inputs, int n, const char *out) {
  o.inputs = inputs;
  o.ninputs = n;
  o.out = at(out);
  return data_prepare(&o, &r, err);
}

static bool prepare1(const char *input, const char *out) {
  return prepare(&input, 1, out);
}

/* The ids of a shard, its header checked. */
static uint32_t *shard(const char *name, int32_t magic, int32_t version, size_t *count) {
  size_t n, width = magic == SHARD_MAGIC_U32 ? 4 : 2;
  char *s = slurp(at(name), &n);
  int32_t head[SHARD_HEADER];
  cr_assert(ge(sz, n, sizeof head));
  memcpy(head, s, sizeof head);
  cr_assert(eq(i32, head[0], magic));
  cr_assert(eq(i32, head[1], version));
  cr_assert(eq(sz, n, sizeof head + (size_t)head[2] * width));
  for (int i = 3; i < SHARD_HEADER; i++) cr_assert(eq(i32, head[i], 0));
  *count = (size_t)head[2];
  uint32_t *ids = arena_alloc(arena, *count * sizeof *ids);
  for (size_t i = 0; i < *count; i++) memcpy(&ids[i], s + sizeof head + i * width, width);
  return ids;
}

static uint32_t *shard16(const char *name, size_t *count) {
  return shard(name, SHARD_MAGIC_U16, SHARD_VERSION_U16, count);
}

static void check_ids(const char *name, const uint32_t *want, size_t n) {
  size_t count;
  const uint32_t *ids = shard16(name, &count);
  cr_assert(eq(sz, count, n), "%s", name);
  for (size_t i = 0; i < n; i++) cr_assert(eq(u32, ids[i], want[i]), "%s: %zu", name, i);
}

/* Only these names are in the test's folder, so nothing was left behind. */
static void check_left(const char *const *names, int n) {
  DIR *d = opendir(dir);
  int found = 0;
  for (const struct dirent *e; (e = readdir(d));) {
    bool known = e->d_name[0] == '.';
    for (int i = 0; i < n; i++) known |= !strcmp(names[i], e->d_name);
    cr_assert(known, "%s was left behind", e->d_name);
    found += e->d_name[0] != '.';
  }
  closedir(d);
  cr_assert(eq(int, found, n));
}

/* It fails, says `want`, and leaves only its input. */
static void check_failure(const char *name, bool ok, const char *want) {
  cr_assert(not(ok), "%s", want);
  bool said = false;
  for (int i = 0; i < err->n; i++) said |= strstr(err->list[i].text, want) != NULL;
  cr_assert(said, "wanted '%s', got '%s'", want, err->n ? err->list[0].text : "nothing");
  check_left(&name, name ? 1 : 0);
}

static const char *shared(const char *name) {
  const char *root = getenv("INK_SHARED"), *path = arena_printf(arena, "%s/data/%s", root ? root : "../shared", name);
  if (access(path, R_OK)) cr_skip_test("%s is not here (INK_SHARED names its folder)", path);
  return path;
}

/* ---- what comes out */

Test(data_prepare, tinyshakespeare_is_nanogpt_s) {
  size_t n, k, v;
  const char *path = shared("tinyshakespeare/input.txt");
  cr_assert(prepare1(path, "out"));
  cr_assert(eq(u32, r.vocab, 65));
  cr_assert(eq(i64, r.eot, -1));
  const uint32_t *train = shard16("out/train_000000.bin", &k), *val = shard16("out/val_000000.bin", &v);
  cr_assert(eq(sz, k, 1003854));
  cr_assert(eq(sz, v, 111540));
  const char *text = slurp(path, &n);
  uint32_t id[256] = {0}, next = 0;
  for (int c = 0; c < 256; c++)
    if (memchr(text, c, n)) id[c] = next++;
  for (size_t i = 0; i < n; i++)
    if ((i < k ? train[i] : val[i - k]) != id[(unsigned char)text[i]]) cr_fail("character %zu", i);
}

Test(data_prepare, char_of_one_document) {
  o.val = 0.5;
  cr_assert(prepare1(put("a.txt", "b\xc3\xbc"
                                  "ab\xc3\xbc\xc3\xbc"
                                  "a"),
                     "out")); /* 7 characters: 3 and 4 */
  check_ids("out/train_000000.bin", (uint32_t[]){1, 2, 0}, 3);
  check_ids("out/val_000000.bin", (uint32_t[]){1, 2, 2, 0}, 4);
  cr_assert(eq(u32, r.vocab, 3));
  size_t n;
  cr_assert(ne(ptr, (void *)strstr(slurp(at("out/meta.json"), &n), "\"eot\": null"), NULL));
  cr_assert(ne(ptr, (void *)strstr(slurp(at("out/tokenizer.json"), &n), "\"\xc3\xbc\": 2"), NULL));
  cr_assert(ne(int, access(at("out/train_000000.bin.docs"), F_OK), 0));
}

Test(data_prepare, several_documents_stay_whole) {
  o.val = 0.3;
  o.tokenizer = PREPARE_BYTES;
  const char *path = put("a.jsonl", "{\"text\": \"ab\", \"more\": [1]}\n\n{\"text\": \"\"}\n{\"text\": \"c\\u0000\"}\n"
                                    " {\"text\":\"\\ud83e\\udd99\"}"); /* no end of line at the end */
  cr_assert(prepare1(path, "out"));
  check_ids("out/train_000000.bin", (uint32_t[]){256, 'a', 'b', 256, 'c', 0}, 6);
  check_ids("out/val_000000.bin", (uint32_t[]){256, 0xf0, 0x9f, 0xa6, 0x99}, 5);
  cr_assert(eq(u32, r.vocab, 257));
  cr_assert(eq(i64, r.eot, 256));
  cr_assert(eq(u64, r.empty, 1));
  cr_assert(eq(u64, r.documents[0], 2));
  cr_assert(eq(u64, r.documents[1], 1));
  size_t n;
  const char *docs = slurp(at("out/train_000000.bin.docs"), &n);
  cr_assert(eq(sz, n, 16));
  cr_assert(eq(int, memcmp(docs, (uint64_t[]){0, 3}, 16), 0));
}

Test(data_prepare, folders_are_walked_in_order) {
  mkdir(at("in"), 0777);
  mkdir(at("in/b"), 0777);
  put("in/c.txt", "3");
  put("in/a.jsonl", "{\"text\": \"1\"}\n");
  put("in/b/x.txt", "2");
  put("in/.hidden.txt", "no");
  put("in/readme.md", "no");
  o.val = 0;
  cr_assert(prepare1(at("in"), "out"));
  check_ids("out/train_000000.bin", (uint32_t[]){3, 0, 3, 1, 3, 2}, 6);
  cr_assert(eq(int, r.files[1], 0));
  cr_assert(ne(int, access(at("out/val_000000.bin"), F_OK), 0));
}

Test(data_prepare, shards_are_split) {
  o.shard_tokens = 4;
  o.val = 0;
  o.tokenizer = PREPARE_BYTES;
  const char *in[] = {put("a.txt", "abcd"), put("b.txt", "ef"), put("c.txt", "g")};
  cr_assert(prepare(in, 3, "out")); /* eot a b c | d eot e f | eot g */
  check_ids("out/train_000000.bin", (uint32_t[]){256, 'a', 'b', 'c'}, 4);
  check_ids("out/train_000001.bin", (uint32_t[]){'d', 256, 'e', 'f'}, 4);
  check_ids("out/train_000002.bin", (uint32_t[]){256, 'g'}, 2);
  cr_assert(eq(int, r.files[0], 3));
  size_t n;
  const char *docs = slurp(at("out/train_000001.bin.docs"), &n);
  cr_assert(eq(sz, n, 8));
  cr_assert(eq(int, docs[0], 1));
}

Test(data_prepare, nanogpt_has_no_header) {
  o.format = SHARDS_NANOGPT;
  o.tokenizer = PREPARE_BYTES;
  o.val = 0.25;
  cr_assert(prepare1(put("a.txt", "abcd"), "out"));
  size_t n;
  const char *s = slurp(at("out/train.bin"), &n);
  cr_assert(eq(sz, n, 6));
  cr_assert(eq(int, memcmp(s, (uint16_t[]){'a', 'b', 'c'}, 6), 0));
  s = slurp(at("out/val.bin"), &n);
  cr_assert(eq(sz, n, 2));
  cr_assert(eq(int, s[0], 'd'));
}

Test(data_prepare, wide_ids_when_the_vocabulary_wants_them) {
  uint32_t ids[] = {65536, 1, 70000};
  size_t n;
  Shards *s = shards_new(dir, "train", SHARDS_LLMC, 65537, 100, false, err);
  cr_assert(shards_add(s, ids, 3, err) && shards_finish(s, err));
  shards_free(s);
  const uint32_t *got = shard("train_000000.bin", SHARD_MAGIC_U32, SHARD_VERSION_U32, &n);
  cr_assert(eq(sz, n, 3));
  cr_assert(eq(int, memcmp(got, ids, sizeof ids), 0));
  s = shards_new(dir, "val", SHARDS_LLMC, 65536, 100, false, err); /* the largest id is 65535 */
  cr_assert(shards_add(s, (uint32_t[]){65535}, 1, err) && shards_finish(s, err));
  shards_free(s);
  cr_assert(eq(u32, *shard16("val_000000.bin", &n), 65535));
  cr_assert(eq(ptr, shards_new(dir, "x", SHARDS_NANOGPT, 65537, 100, false, err), NULL));
}

Test(data_prepare, byte_pairs_train_on_the_training_part_alone) {
  o.tokenizer = PREPARE_TRAIN_BPE;
  o.vocab = 300;
  o.val = 0.5;
  const char *in[] = {put("a.txt", "ab ab ab ab ab ab ab"), put("b.txt", "zq zq zq zq zq zq zq")};
  cr_assert(prepare(in, 2, "out"));
  size_t n;
  const char *json = slurp(at("out/tokenizer.json"), &n);
  cr_assert(ne(ptr, (void *)strstr(json, "\"ab\": "), NULL));
  cr_assert(eq(ptr, (void *)strstr(json, "\"zq\": "), NULL));
  const uint32_t *ids = shard16("out/train_000000.bin", &n);
  cr_assert(eq(i64, (int64_t)ids[0], r.eot));
  cr_assert(eq(u32, r.vocab, (uint32_t)r.eot + 1));
  cr_assert(lt(sz, n, 12));
}

Test(data_prepare, a_model_s_own_tokenizer) {
  o.tokenizer = PREPARE_MODEL;
  o.model = "tests/golden/tokenizers/spm-bpe";
  o.val = 0.5;
  const char *in[] = {put("a.txt", "Hello world, says the <s> machine"), put("b.txt", "another \xff text")};
  cr_assert(prepare(in, 2, "out"));
  Codec *c = codec_open(o.model, err);
  size_t n, m;
  const uint32_t *ids = shard16("out/train_000000.bin", &n);
  cr_assert(eq(u32, ids[0], (uint32_t)codec_role(c, "eos_token")));
  for (size_t i = 1; i < n; i++) cr_assert(not(codec_special(c, ids[i])), "a special token out of text");
  Ids want = {0};
  cr_assert(codec_encode(c, "Hello world, says the <s> machine", 33, 0, &want, err));
  cr_assert(eq(sz, n, want.n + 1));
  cr_assert(memcmp(ids + 1, want.v, want.n * sizeof *want.v) == 0, "other ids");
  const char *model = slurp(at("out/tokenizer.model"), &n),
             *was = slurp("tests/golden/tokenizers/spm-bpe/tokenizer.model", &m);
  cr_assert(n == m && !memcmp(model, was, n), "its files come along");
  cr_assert(eq(int, access(at("out/tokenizer.json"), F_OK), -1));
  o.force = true; /* names of ours alone: it may be replaced */
  cr_assert(prepare(in, 2, "out"));
  free(want.v);
  codec_free(c);
}

Test(data_prepare, the_seed_decides_the_order) {
  Text text = {0};
  uint32_t *ids[3];
  size_t n;
  for (int i = 0; i < 50; i++) text_add(&text, "{\"text\": \"\\u4e%02x\"}\n", (unsigned)i);
  const char *path = put("a.jsonl", text.s);
  o.val = 0;
  o.shuffle = true;
  for (int i = 0; i < 3; i++) {
    o.seed = i == 2 ? 5 : 4;
    cr_assert(prepare1(path, (const char *[]){"x", "y", "z"}[i]));
    ids[i] = shard16((const char *[]){"x/train_000000.bin", "y/train_000000.bin", "z/train_000000.bin"}[i], &n);
    cr_assert(eq(sz, n, 100));
  }
  cr_assert(eq(int, memcmp(ids[0], ids[1], 100 * sizeof(uint32_t)), 0));
  cr_assert(ne(int, memcmp(ids[0], ids[2], 100 * sizeof(uint32_t)), 0));
  bool seen[51] = {false};
  for (size_t i = 0; i < n; i++) seen[ids[0][i]] = true;
  for (int i = 0; i < 51; i++) cr_assert(seen[i]);
  text_free(&text);
}

Test(data_prepare, same_input_same_bytes) {
  const char *path = put("a.txt", "some text that is not long, but long enough to be cut in two parts");
  static const char *const names[] = {"meta.json", "tokenizer.json", "train_000000.bin", "val_000000.bin"};
  o.tokenizer = PREPARE_TRAIN_BPE;
  o.vocab = 264;
  cr_assert(prepare1(path, "x"));
  cr_assert(prepare1(path, "y"));
  for (int i = 0; i < LEN(names); i++) {
    size_t n, m;
    const char *a = slurp(arena_printf(arena, "%s/x/%s", dir, names[i]), &n);
    const char *b = slurp(arena_printf(arena, "%s/y/%s", dir, names[i]), &m);
    cr_assert(eq(sz, n, m));
    cr_assert(eq(int, memcmp(a, b, n), 0), "%s", names[i]);
  }
}

/* ---- the output folder */

Test(data_prepare, a_full_folder_is_kept_unless_forced) {
  const char *path = put("a.txt", "abcdefghij");
  size_t n;
  mkdir(at("out"), 0777); /* an empty one is fine */
  o.shard_tokens = 2;
  cr_assert(prepare1(path, "out"));
  cr_assert(eq(int, access(at("out/train_000003.bin"), F_OK), 0));
  cr_assert(not(prepare1(put("b.txt", "0123456789"), "out")));
  cr_assert(ne(ptr, (void *)strstr(err->list[0].text, "not empty"), NULL));
  cr_assert(ne(ptr, (void *)strstr(slurp(at("out/meta.json"), &n), "a.txt"), NULL));
  o.force = true;
  o.shard_tokens = 100;
  cr_assert(prepare1(at("b.txt"), "out"));
  cr_assert(ne(ptr, (void *)strstr(slurp(at("out/meta.json"), &n), "b.txt"), NULL));
  cr_assert(ne(int, access(at("out/train_000003.bin"), F_OK), 0)); /* nothing of the old one is left */
  check_left((const char *[]){"a.txt", "b.txt", "out"}, 3);
  put("out/precious.txt", "mine");
  cr_assert(not(prepare1(path, "out")));
  cr_assert(ne(ptr, (void *)strstr(err->list[1].text, "precious.txt"), NULL));
  cr_assert(eq(int, access(at("out/precious.txt"), F_OK), 0));
}

Test(data_prepare, folders_above_are_made) {
  cr_assert(prepare1(put("a.txt", "abcdefghij"), "x/y/z/"));
  cr_assert(eq(int, access(at("x/y/z/meta.json"), F_OK), 0));
}

Test(data_prepare, output_that_cannot_be) {
  const char *path = put("a.txt", "abcdefghij");
  check_failure("a.txt", prepare1(path, "a.txt"), "no folder");
  check_failure("a.txt", prepare1(path, "a.txt/out"), "a.txt/out");
  check_failure("a.txt", prepare1(path, "a.txt/b/c"), "a.txt/b/c");
}

Test(data_prepare, a_full_disk_leaves_nothing) {
  size_t n = 3 << 20;
  char *big = malloc(n);
  for (size_t i = 0; i < n; i++) big[i] = (char)('a' + i % 20);
  const char *path = put_bytes("a.txt", big, n);
  free(big);
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit old, limit = {1 << 20, 1 << 20};
  getrlimit(RLIMIT_FSIZE, &old);
  limit.rlim_max = old.rlim_max;
  setrlimit(RLIMIT_FSIZE, &limit); /* stands in for the disk's end: writes fail there */
  bool ok = prepare1(path, "out");
  setrlimit(RLIMIT_FSIZE, &old);
  check_failure("a.txt", ok, "cannot write");
}

Test(data_prepare, interruption_leaves_nothing) {
  volatile int stop = 1;
  o.stop = &stop;
  check_failure("a.txt", prepare1(put("a.txt", "abcdefghij"), "out"), "interrupted");
}

/* ---- input that is wrong */

Test(data_prepare, char_wants_utf8) {
  check_failure("a.txt",
                prepare1(put("a.txt", "abc\xc3\xbc\xff"
                                      "def"),
                         "out"),
                "a.txt: no UTF-8 at byte 5");
  o.tokenizer = PREPARE_BYTES;
  cr_assert(prepare1(at("a.txt"), "out"));
}

Test(data_prepare, json_errors_name_the_line) {
  const char *path =
      put("a.jsonl", "{\"text\": \"ok\"}\n{\"text\": }\n[1]\n{\"txt\": \"x\"}\n{\"text\": 3}\n"
                     "{\"text\": \"\xff\"}\n{\"text\": \"a\", \"text\": \"b\"}\n{\"text\": \"\\ud800\"}\n");
  static const char *const want[] = {"a.jsonl:2:",
                                     "a.jsonl:3: not an object",
                                     "a.jsonl:4: the object has no",
                                     "a.jsonl:5: its \"text\" is no string",
                                     "a.jsonl:6:",
                                     "a.jsonl:7:",
                                     "a.jsonl:8:"};
  for (int i = 0; i < LEN(want); i++) {
    err->n = 0;
    check_failure("a.jsonl", prepare1(path, "out"), want[i]);
    cr_assert(eq(int, err->n, LEN(want)));
  }
}

Test(data_prepare, many_wrong_lines_end_early) {
  Text text = {0};
  for (int i = 0; i < 500; i++) text_add(&text, "wrong\n");
  check_failure("a.jsonl", prepare1(put("a.jsonl", text.s), "out"), "a.jsonl: not read any further");
  cr_assert(lt(int, err->n, 30));
  text_free(&text);
}

Test(data_prepare, inputs_without_text) {
  check_failure("a.txt", prepare1(put("a.txt", ""), "out"), "no text");
  remove(at("a.txt"));
  check_failure("a.jsonl", prepare1(put("a.jsonl", "\n{\"text\": \"\"}\n  \n"), "out"), "no text");
  remove(at("a.jsonl"));
  mkdir(at("in"), 0777);
  check_failure("in", prepare1(at("in"), "out"), "holds no .txt and no .jsonl");
  remove(at("in"));
  check_failure(NULL, prepare1(at("gone.txt"), "out"), "gone.txt: cannot read");
  check_failure("a.csv", prepare1(put("a.csv", "x"), "out"), "unknown kind of file");
  check_failure("a.csv", prepare(NULL, 0, "out"), "no input");
}

Test(data_prepare, splits_that_leave_nothing) {
  check_failure("a.txt", prepare1(put("a.txt", "a"), "out"), "no text to train on");
  o.val = 0.99;
  check_failure("a.txt", prepare1(put("a.txt", "abc"), "out"), "no text to train on");
  o.val = 1;
  check_failure("a.txt", prepare1(at("a.txt"), "out"), "below 1");
  o.val = 0;
  cr_assert(prepare1(at("a.txt"), "out"));
}

Test(data_prepare, long_lines_and_many_files_stream) {
  Text line = {0};
  text_add(&line, "{\"text\": \"");
  for (int i = 0; i < 400000; i++) text_add(&line, "word%d ", i % 100);
  text_add(&line, "\"}\n{\"text\": \"last\"}\n");
  o.tokenizer = PREPARE_BYTES;
  const char *in[] = {put("a.jsonl", line.s), put("b.txt", "end")};
  cr_assert(prepare(in, 2, "out"));
  cr_assert(eq(u64, r.tokens[0] + r.tokens[1], r.text + 3));
  cr_assert(eq(u64, r.text, line.n - strlen("{\"text\": \"\"}\n{\"text\": \"last\"}\n") + 4 + 3));
  text_free(&line);
}
