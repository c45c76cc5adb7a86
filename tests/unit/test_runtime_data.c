/* Token shards, idx files, and the loader over them. */
#include "runtime/loader.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include "tests/unit/runtime_fixture.h"

static Dir dir;
static Report err;
static Fixture *f;
static Program p;
static Engine *e;

static void setup(void) {
  dir = dir_new();
  f = fixture_new();
  cr_assert(program_open(&p, f->blob, fix_kernels, &err));
  e = engine_new(&p, 1, &err);
}
static void teardown(void) {
  engine_free(e);
  fixture_free(f);
  report_free(&err);
  dir_free(&dir);
}
TestSuite(data, .init = setup, .fini = teardown);

static Loader *loader(const char *data, const char *val, LoaderOrder order, uint64_t seed) {
  Loader *l = loader_open(e, data, val, FORMAT_LLMC, order, seed, &err);
  cr_assert(ne(ptr, l, NULL), "%s", err.text);
  return l;
}

static int32_t *tokens(void) {
  return engine_named(e, "tokens");
}
static int32_t *targets(void) {
  return engine_named(e, "targets");
}

static void counting(const char *name, size_t n) { /* tokens 0, 1, ..., 15, 0, ... */
  uint16_t *t = malloc(2 * n + 2);
  for (size_t i = 0; i < n; i++) t[i] = (uint16_t)(i % FIX_VOCAB);
  shard_put(in(&dir, name), t, n);
  free(t);
}

Test(data, sequential_windows) {
  counting("train.bin", 8 * 10 + 5); /* ten windows of 8 and a rest */
  Loader *l = loader(in(&dir, "train.bin"), NULL, ORDER_SEQUENTIAL, 1);
  for (int step = 0; step < 3; step++) {
    cr_assert(eq(i64, loader_draw(l, 1, &err), FIX_ROWS));
    cr_assert(loader_fill(l, 0, &err));
    for (int r = 0; r < FIX_BATCH; r++)
      for (int k = 0; k < FIX_TIME; k++) {
        int at = (step * FIX_BATCH + r) % 10 * 8 + k; /* the third step straddles two epochs */
        cr_assert(eq(int, tokens()[r * 8 + k], at % 16));
        cr_assert(eq(int, targets()[r * 8 + k], (at + 1) % 16));
      }
  }
  LoaderState s = loader_state(l);
  cr_assert(eq(u64, s.epoch, 1));
  cr_assert(eq(u64, s.index, 2));
  loader_close(l);
}

Test(data, an_epoch_sees_every_window_once) {
  uint16_t t[8 * 13];
  for (int i = 0; i < 8 * 13; i++) t[i] = (uint16_t)(i / 8 % 16);
  shard_put(in(&dir, "train_0.bin"), t, 8 * 13);
  Loader *l = loader(dir.path, NULL, ORDER_SHUFFLED, 5);
  int orders_alike = 0;
  int32_t last[12];
  for (int epoch = 0; epoch < 4; epoch++) {
    int seen[16] = {0}, n = 0;
    while (loader_state(l).epoch == (uint64_t)epoch && loader_state(l).index < 12) {
      cr_assert(eq(i64, loader_draw(l, 1, &err), FIX_ROWS));
      cr_assert(loader_fill(l, 0, &err));
      for (int r = 0; r < FIX_BATCH; r++) {
        int first = tokens()[8 * r]; /* token i is i / 8: the first one tells the window */
        seen[first]++;
        orders_alike += epoch && last[n] == first;
        last[n++] = first;
      }
    }
    cr_assert(eq(int, n, 12)); /* 103 targets with an offset of at most 7 make twelve windows */
    for (int i = 0; i < 12; i++) cr_assert(eq(int, seen[i], 1), "window %d: %d times", i, seen[i]);
    uint64_t next = loader_state(l).epoch + 1;
    cr_assert(loader_seek(l, (LoaderState){next, 0}));
  }
  cr_assert(lt(int, orders_alike, 18));
  loader_close(l);
}

Test(data, position_is_all_the_state) {
  uint16_t t[3000];
  fixture_tokens(t, 3000, 3);
  shard_put(in(&dir, "train.bin"), t, 3000);
  Loader *a = loader(dir.path, NULL, ORDER_SHUFFLED, 9), *b = loader(dir.path, NULL, ORDER_SHUFFLED, 9);
  for (int i = 0; i < 150; i++) loader_draw(a, 1, &err); /* into the second epoch */
  LoaderState s = loader_state(a);
  cr_assert(eq(u64, s.epoch, 1));
  cr_assert(loader_seek(b, s));
  for (int i = 0; i < 100; i++) {
    int32_t one[FIX_ROWS];
    loader_draw(a, 1, &err), loader_fill(a, 0, &err);
    memcpy(one, tokens(), sizeof(one));
    loader_draw(b, 1, &err), loader_fill(b, 0, &err);
    cr_assert(zero(int, memcmp(one, tokens(), sizeof(one))));
  }
  cr_assert(not(loader_seek(b, (LoaderState){0, 999})));
  loader_close(a), loader_close(b);
}

Test(data, windows_do_not_cross_shards) {
  uint16_t a[100], b[60], c[5] = {1, 1, 1, 1, 1};
  for (int i = 0; i < 100; i++) a[i] = 2;
  for (int i = 0; i < 60; i++) b[i] = 3;
  shard_put(in(&dir, "train_0.bin"), a, 100);
  shard_put(in(&dir, "train_1.bin"), c, 5); /* too short for a window */
  shard_put(in(&dir, "train_2.bin"), b, 60);
  Loader *l = loader(dir.path, NULL, ORDER_SHUFFLED, 1);
  for (int i = 0; i < 30; i++) {
    loader_draw(l, 2, &err);
    for (int m = 0; m < 2; m++) {
      cr_assert(loader_fill(l, m, &err), "%s", err.text);
      for (int r = 0; r < FIX_BATCH; r++)
        for (int k = 0; k < FIX_TIME; k++) {
          cr_assert(eq(int, tokens()[r * 8 + k], tokens()[r * 8]));
          cr_assert(eq(int, targets()[r * 8 + k], tokens()[r * 8]));
        }
    }
  }
  loader_close(l);
}

Test(data, mask_and_documents) {
  counting("t.bin", 33);
  unsigned char mask[33];
  for (int i = 0; i < 33; i++) mask[i] = i % 3 == 0;
  file_put(in(&dir, "t.bin.mask"), mask, 33);
  uint64_t docs[] = {0, 7, 20};
  file_put(in(&dir, "t.bin.docs"), docs, sizeof(docs));
  Loader *l = loader(in(&dir, "t.bin"), NULL, ORDER_SEQUENTIAL, 1);
  cr_assert(eq(i64, loader_draw(l, 1, &err), 10)); /* targets 3, 6, ..., 30 */
  cr_assert(loader_fill(l, 0, &err));
  for (int i = 0; i < 32; i++) cr_assert(eq(int, targets()[i], (i + 1) % 3 ? -1 : (i + 1) % 16));
  char text[256];
  loader_describe(l, text, sizeof(text));
  cr_assert(eq(str, text, "train: 33 tokens in 1 file, 3 documents"));
  loader_close(l);
}

Test(data, validation_is_whole_and_padded) {
  counting("train.bin", 100);
  counting("val.bin", 8 * 6 + 3);
  Loader *l = loader(dir.path, NULL, ORDER_SHUFFLED, 1);
  cr_assert(eq(i64, loader_val_batches(l), 2));
  cr_assert(eq(i64, loader_fill_val(l, 0, &err), 32));
  cr_assert(eq(i64, loader_fill_val(l, 1, &err), 16));
  for (int i = 0; i < 16; i++) cr_assert(eq(int, targets()[i], (33 + i) % 16));
  for (int i = 16; i < 32; i++) cr_assert(eq(int, targets()[i], -1));
  loader_close(l);
  counting("tiny.bin", 5); /* shorter than one window: one short window */
  l = loader(dir.path, in(&dir, "tiny.bin"), ORDER_SHUFFLED, 1);
  cr_assert(eq(i64, loader_val_batches(l), 1));
  cr_assert(eq(i64, loader_fill_val(l, 0, &err), 4));
  loader_close(l);
}

Test(data, wide_and_headerless_tokens) {
  uint32_t wide[256 + 20] = {20240801, 7, 20};
  for (int i = 0; i < 20; i++) wide[256 + i] = (uint32_t)i % 16;
  file_put(in(&dir, "wide.bin"), wide, sizeof(wide));
  Loader *l = loader(in(&dir, "wide.bin"), NULL, ORDER_SEQUENTIAL, 1);
  loader_draw(l, 1, &err), loader_fill(l, 0, &err);
  for (int i = 0; i < 16; i++) cr_assert(eq(int, tokens()[i], i));
  loader_close(l);
  uint16_t bare[40];
  for (int i = 0; i < 40; i++) bare[i] = (uint16_t)(15 - i % 16);
  file_put(in(&dir, "bare.bin"), bare, sizeof(bare));
  l = loader_open(e, in(&dir, "bare.bin"), NULL, FORMAT_NANOGPT, ORDER_SEQUENTIAL, 1, &err);
  cr_assert(ne(ptr, l, NULL), "%s", err.text);
  loader_draw(l, 1, &err), loader_fill(l, 0, &err);
  for (int i = 0; i < 16; i++) cr_assert(eq(int, tokens()[i], 15 - i));
  loader_close(l);
}

Test(data, meta_names_files) {
  counting("a.bin", 50), counting("b.bin", 50), counting("c.bin", 50);
  const char *meta =
      "{\"vocab_size\": 16, \"train\": [\"b.bin\", {\"file\": \"a.bin\", \"tokens\": 50}], \"val\": \"c.bin\"}";
  file_put(in(&dir, "meta.json"), meta, strlen(meta));
  Loader *l = loader(dir.path, NULL, ORDER_SHUFFLED, 1);
  cr_assert(eq(u64, loader_items(l), 100));
  cr_assert(eq(i64, loader_val_batches(l), 2));
  loader_close(l);
}

Test(data, meta_knows_the_format) {
  uint16_t bare[40] = {3, 1, 4};
  file_put(in(&dir, "a.bin"), bare, sizeof(bare));
  const char *meta = "{\"vocab_size\": 16, \"format\": \"nanogpt\", \"train\": [{\"file\": \"a.bin\"}]}";
  file_put(in(&dir, "meta.json"), meta, strlen(meta));
  Loader *l = loader(dir.path, NULL, ORDER_SEQUENTIAL, 1);
  cr_assert(eq(u64, loader_items(l), 40));
  loader_close(l);
}

/* ---- bad data */

static void check_bad(const char *data, const char *val, const char *part) {
  Loader *l = loader_open(e, data, val, FORMAT_LLMC, ORDER_SHUFFLED, 1, &err);
  cr_assert(eq(ptr, l, NULL), "taken, though '%s'", part);
  cr_assert(ne(ptr, strstr(err.text, part), NULL), "'%s' does not say '%s'", err.text, part);
  report_free(&err);
}

static const char *spoilt(int word, int32_t value, size_t bytes) {
  int32_t head[256 + 50] = {20240520, 1, 100};
  head[word] = value;
  file_put(in(&dir, "bad.bin"), head, bytes);
  return in(&dir, "bad.bin");
}

Test(data, bad_shards) {
  enum { WHOLE = 1024 + 200 };
  check_bad(spoilt(0, 77, WHOLE), NULL, "its first number is 77");
  check_bad(spoilt(1, 2, WHOLE), NULL, "version 2");
  check_bad(spoilt(1, 7, WHOLE), NULL, "version 7");
  check_bad(spoilt(2, 101, WHOLE), NULL, "counts 101 tokens");
  check_bad(spoilt(2, -5, WHOLE), NULL, "counts -5");
  check_bad(spoilt(2, 99, WHOLE), NULL, "counts 99 tokens");
  check_bad(spoilt(0, 20240520, 1000), NULL, "no token shard");
  check_bad(spoilt(0, 20240520, 0), NULL, "no token shard");
  check_bad(spoilt(2, 5, 1024 + 10), NULL, "9 tokens of one window");
  check_bad(in(&dir, "nothing*.bin"), NULL, "no such file");
  check_bad(dir.path, NULL, "no train*.bin");
  counting("good.bin", 50);
  check_bad(in(&dir, "good.bin"), in(&dir, "none.bin"), "--val");
  file_put(in(&dir, "good.bin.mask"), "short", 5);
  check_bad(in(&dir, "good.bin"), NULL, "one byte a token");
  char mask[50] = {0};
  mask[30] = 2;
  file_put(in(&dir, "good.bin.mask"), mask, 50);
  check_bad(in(&dir, "good.bin"), NULL, "byte 30 is 2");
  remove(in(&dir, "good.bin.mask"));
  uint64_t docs[] = {0, 9, 9};
  file_put(in(&dir, "good.bin.docs"), docs, sizeof(docs));
  check_bad(in(&dir, "good.bin"), NULL, "document 2");
  file_put(in(&dir, "good.bin.docs"), docs, 9);
  check_bad(in(&dir, "good.bin"), NULL, "8 bytes each");
  docs[2] = 50;
  file_put(in(&dir, "good.bin.docs"), docs, sizeof(docs));
  check_bad(in(&dir, "good.bin"), NULL, "shard of 50 tokens");
}

Test(data, bad_meta) {
  static const char *const bad[][2] = {{"{\"vocab_size\": 17, \"train\": [\"g.bin\"]}", "17 token ids"},
                                       {"{\"train\": [\"../g.bin\"]}", "no file name"},
                                       {"{\"train\": [3]}", "no file name"},
                                       {"[1]", "not an object"},
                                       {"{\"train\": ", "meta.json:1"},
                                       {"{\"train\": [\"none.bin\"]}", "none.bin"}};
  counting("g.bin", 50);
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    file_put(in(&dir, "meta.json"), bad[i][0], strlen(bad[i][0]));
    check_bad(dir.path, NULL, bad[i][1]);
  }
}

Test(data, a_token_out_of_range_is_named) {
  uint16_t t[50] = {0};
  t[23] = FIX_VOCAB;
  shard_put(in(&dir, "t.bin"), t, 50);
  Loader *l = loader(in(&dir, "t.bin"), NULL, ORDER_SEQUENTIAL, 1);
  loader_draw(l, 1, &err);
  cr_assert(not(loader_fill(l, 0, &err)));
  cr_assert(ne(ptr, strstr(err.text, "token 23 is 16; the model knows ids below 16"), NULL), "%s", err.text);
  loader_close(l);
}

/* ---- idx */

static void idx_put(const char *name, int rank, uint32_t magic, const uint32_t *dim, const void *bytes, size_t n) {
  unsigned char all[4096];
  size_t at = 0;
  for (int i = -1; i < rank; i++) {
    uint32_t v = i < 0 ? magic : dim[i];
    for (int k = 24; k >= 0; k -= 8) all[at++] = (unsigned char)(v >> k);
  }
  memcpy(all + at, bytes, n);
  file_put(in(&dir, name), all, at + n);
}

Test(data, idx_files) {
  unsigned char pixels[12] = {0, 255, 51, 0, 1, 2, 3, 4, 5, 6, 7, 8}, labels[3] = {2, 0, 1};
  idx_put("i", 3, 0x803, (uint32_t[]){3, 2, 2}, pixels, 12);
  idx_put("l", 1, 0x801, (uint32_t[]){3}, labels, 3);
  Dataset *d = idx_open(in(&dir, "i"), in(&dir, "l"), 4, 3, &err);
  cr_assert(ne(ptr, d, NULL), "%s", err.text);
  cr_assert(eq(u64, d->begin(d, 1, 0), 3));
  float image[4];
  int32_t label;
  Row row = {.images = image, .labels = &label};
  cr_assert(eq(i64, d->fill(d, 0, &row, &err), 1));
  cr_assert(eq(int, label, 2));
  cr_assert(eq(flt, image[1], 1));
  cr_assert(eq(flt, image[2], 51.0f / 255));
  d->close(d);
  d = idx_open(in(&dir, "i"), in(&dir, "l"), 4, 2, &err);
  cr_assert(eq(i64, d->fill(d, 0, &row, &err), -1)); /* label 2 of two classes */
  d->close(d);
}

Test(data, bad_idx_files) {
  unsigned char b[12] = {0};
  static const struct {
    int rank;
    uint32_t magic, dim[3];
    size_t n;
    const char *part;
  } bad[] = {{3, 0x801, {3, 2, 2}, 12, "magic is 0x00000801"},
             {3, 0x803, {3, 2, 2}, 11, "speaks of 12 values"},
             {3, 0x803, {UINT32_MAX, UINT32_MAX, UINT32_MAX}, 12, "impossible"},
             {3, 0x803, {4, 1, 3}, 12, "4 images"},
             {3, 0x803, {3, 4, 1}, 12, NULL},
             {3, 0x803, {3, 1, 3}, 9, "1 x 3 pixels"},
             {-1, 0, {0}, 2, "no idx file"}};
  idx_put("l", 1, 0x801, (uint32_t[]){3}, b, 3);
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    if (bad[i].rank < 0)
      file_put(in(&dir, "i"), b, bad[i].n);
    else
      idx_put("i", bad[i].rank, bad[i].magic, bad[i].dim, b, bad[i].n);
    Dataset *d = idx_open(in(&dir, "i"), in(&dir, "l"), 4, 3, &err);
    if (!bad[i].part) {
      cr_assert(ne(ptr, d, NULL), "%s", err.text);
      d->close(d);
      continue;
    }
    cr_assert(eq(ptr, d, NULL));
    cr_assert(ne(ptr, strstr(err.text, bad[i].part), NULL), "'%s' does not say '%s'", err.text, bad[i].part);
    report_free(&err);
  }
  file_put(in(&dir, "i"), "\x1f\x8b\x08", 3);
  cr_assert(eq(ptr, idx_open(in(&dir, "i"), in(&dir, "l"), 4, 3, &err), NULL));
  cr_assert(ne(ptr, strstr(err.text, "gzip"), NULL));
}
