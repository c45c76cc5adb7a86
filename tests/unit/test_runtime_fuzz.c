/* Readers of files from outside, fed with damaged ones: a valid file, a few bytes changed, cut or repeated, many times.
 *
 * A reader may refuse or accept; it may not crash (the sanitizer build watches), and what it accepts must keep its promises:
 * ids below the bound, tensors inside the file. The sequence of damages is the same in every run. */
#include "runtime/detokenize.h"
#include "runtime/loader.h"
#include "runtime/random.h"
#include "runtime/safetensors.h"
#include "runtime/weights.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include "tests/unit/runtime_fixture.h"

enum { ROUNDS = 1500, LIMIT = 1 << 16 };
static Dir dir;
static Report err;
static Fixture *f;
static Program p;
static Engine *e;
static int accepted, refused;

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
TestSuite(fuzz, .init = setup, .fini = teardown);

static uint64_t draw(uint64_t round, uint64_t what, uint64_t n) {
  return random_below(round, what, 7, n);
}

/* Damage number `round` of `good` to a file: bytes set, bits flipped, a cut, or a stretch copied elsewhere. */
static void put_damaged(const char *path, const void *good, size_t n, uint64_t round) {
  static unsigned char all[LIMIT];
  memcpy(all, good, n);
  for (uint64_t k = 0, edits = 1 + draw(round, 1, 3); k < edits && n > 1; k++) {
    size_t at = draw(round, 10 + k, n);
    switch (draw(round, 20 + k, 5)) {
    case 0: all[at] = (unsigned char)draw(round, 30 + k, 256); break;
    case 1: all[at] ^= (unsigned char)(1 << draw(round, 30 + k, 8)); break;
    case 2: all[at] = (unsigned char)"0919-[]{}\",:.eE"[draw(round, 30 + k, 15)]; break;
    case 3: n = at + 1; break;
    default: {
      size_t from = draw(round, 40 + k, n), len = draw(round, 50 + k, 16);
      for (size_t i = 0; i < len && at + i < n && from + i < n; i++) all[at + i] = all[from + i];
    }
    }
  }
  file_put(path, all, n);
}

static void count(bool ok) {
  if (ok)
    accepted++;
  else
    refused++;
  cr_assert(ok || err.lines > 0, "refused without a word");
  report_free(&err);
}

/* The damages must not all be found, nor all be missed: else the test tests nothing. */
static void check_counts(void) {
  cr_assert(accepted > 0 && refused > 50, "%d accepted, %d refused", accepted, refused);
}

Test(fuzz, safetensors) {
  static const char h[] =
      "{\"__metadata__\":{\"format\":\"pt\"},\"head.bias\":{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[0,128]},"
      "\"head.weight\":{\"dtype\":\"BF16\",\"shape\":[16,16],\"data_offsets\":[128,640]}}    ";
  static unsigned char all[1024];
  uint64_t n = sizeof(h) - 1;
  memcpy(all, &n, 8);
  memcpy(all + 8, h, n);
  for (uint64_t r = 0; r < ROUNDS; r++) {
    put_damaged(in(&dir, "x"), all, 8 + n + 640, r);
    SafeFile *s = safe_open(in(&dir, "x"), &err);
    for (int i = 0; s && i < s->n; i++) {
      cr_assert(le(u64, s->tensor[i].end, 640 + 160));
      if (safe_is_float(&s->tensor[i])) {
        float *v = malloc((size_t)s->tensor[i].elements * 4 + 4);
        safe_read(s, &s->tensor[i], 0, s->tensor[i].elements, v);
        free(v);
      }
    }
    count(s != NULL);
    safe_close(s);
    weights_load(e, in(&dir, "x"), &err);
    report_free(&err);
  }
  check_counts();
}

/* Everything a loader of this folder gives stays in bounds. */
static void check_loader(const char *data) {
  Loader *l = loader_open(e, data, NULL, FORMAT_LLMC, ORDER_SHUFFLED, 1, &err);
  bool ok = l != NULL;
  for (int i = 0; ok && i < 3; i++) {
    ok = loader_draw(l, 1, &err) >= 0 && loader_fill(l, 0, &err);
    const int32_t *tokens = engine_named(e, "tokens"), *targets = engine_named(e, "targets");
    for (int k = 0; ok && k < FIX_ROWS; k++)
      cr_assert(tokens[k] >= 0 && tokens[k] < FIX_VOCAB && targets[k] >= -1 && targets[k] < FIX_VOCAB);
  }
  loader_close(l);
  count(ok);
}

Test(fuzz, token_shards) {
  uint16_t ids[200];
  fixture_tokens(ids, 200, 1);
  shard_put(in(&dir, "good"), ids, 200);
  size_t n = 0;
  char *good = file_get(in(&dir, "good"), &n);
  for (uint64_t r = 0; r < ROUNDS; r++) {
    put_damaged(in(&dir, "t.bin"), good, n, r);
    check_loader(in(&dir, "t.bin"));
  }
  free(good);
  check_counts();
}

Test(fuzz, sidecars) {
  uint16_t ids[200];
  unsigned char mask[200];
  fixture_tokens(ids, 200, 1);
  for (int i = 0; i < 200; i++) mask[i] = i & 1;
  shard_put(in(&dir, "t.bin"), ids, 200);
  uint64_t docs[] = {0, 20, 50, 199};
  for (uint64_t r = 0; r < ROUNDS; r++) {
    put_damaged(in(&dir, "t.bin.mask"), mask, 200, r);
    put_damaged(in(&dir, "t.bin.docs"), docs, sizeof(docs), r + 1);
    check_loader(in(&dir, "t.bin"));
  }
  check_counts();
}

Test(fuzz, meta) {
  uint16_t ids[200];
  fixture_tokens(ids, 200, 1);
  shard_put(in(&dir, "a.bin"), ids, 200);
  static const char meta[] =
      "{\"format\": \"llmc\", \"vocab_size\": 16, \"train\": [{\"file\": \"a.bin\", \"tokens\": 200}], \"val\": []}";
  for (uint64_t r = 0; r < ROUNDS; r++) {
    put_damaged(in(&dir, "meta.json"), meta, sizeof(meta) - 1, r);
    check_loader(dir.path);
  }
  check_counts();
}

Test(fuzz, idx) {
  unsigned char images[16 + 36] = {0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 3},
                            labels[8 + 4] = {0, 0, 8, 1, 0, 0, 0, 4, 1, 2, 0, 1};
  for (uint64_t r = 0; r < ROUNDS; r++) {
    put_damaged(in(&dir, "i"), images, sizeof(images), r);
    put_damaged(in(&dir, "l"), labels, sizeof(labels), r / 2);
    Dataset *d = idx_open(in(&dir, "i"), in(&dir, "l"), 9, 3, &err);
    bool ok = d != NULL;
    float image[9];
    int32_t label;
    Row row = {.images = image, .labels = &label};
    for (uint64_t k = 0; ok && k < d->begin(d, 1, 0); k++) {
      ok = d->fill(d, k, &row, &err) == 1;
      bool inside = !ok || (label >= 0 && label < 3 && image[8] >= 0 && image[8] <= 1);
      cr_assert(inside);
    }
    if (d) d->close(d);
    count(ok);
  }
  check_counts();
}

Test(fuzz, tokenizers) {
  static const char good[] = "{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"},{\"type\":"
                             "\"Replace\",\"pattern\":{\"String\":\"_\"},"
                             "\"content\":\" "
                             "\"}]},\"added_tokens\":[{\"id\":5,\"content\":\"<s>\"}],\"model\":{\"vocab\":{\"Hi\":0,"
                             "\"\\u0120you\":1,\"\\u0000\":3}}}";
  FILE *null = fopen("/dev/null", "w");
  for (uint64_t r = 0; r < ROUNDS; r++) {
    put_damaged(in(&dir, "t.json"), good, sizeof(good) - 1, r);
    Detokenizer *d = detokenizer_open(in(&dir, "t.json"), &err);
    for (int32_t id = -2; d && id < 12; id++) detokenizer_write(d, id, null);
    count(d != NULL);
    detokenizer_close(d);
  }
  fclose(null);
  check_counts();
}
