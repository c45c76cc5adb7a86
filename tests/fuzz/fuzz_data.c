/* What a training program reads: token shards with their sidecars, meta.json, idx files. Everything that a loader hands to a
 * program as an index is in its range, whatever the files say.
 *
 * The first byte chooses: 't' a shard, its mask and its document starts; 'n' the same without a header; 'm' meta.json beside
 * two whole shards a.bin and b.bin; 'i' images and labels. Parts stand behind lines "====". */
#include "runtime/loader.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/runtime_fixture.h"

static Fixture *fixture;
static Engine *engine;

static void put_shard(const char *name, size_t n) {
  static uint16_t ids[1024];
  int32_t head[256] = {20240520, 1, (int32_t)n};
  static uint8_t all[1024 + 2048];
  fixture_tokens(ids, n, 1);
  memcpy(all, head, sizeof head);
  memcpy(all + sizeof head, ids, 2 * n);
  fuzz_put(name, all, sizeof head + 2 * n);
}

static void start(void) {
  static Program p;
  Report err = {0};
  fixture = fixture_new();
  MUST(program_open(&p, fixture->blob, fix_kernels, &err), "%s", err.text);
  engine = engine_new(&p, 1, &err);
  MUST(engine, "%s", err.text);
  put_shard("a.bin", 200);
  put_shard("b.bin", 50);
}

static void check_rows(void) {
  const int32_t *tokens = engine_named(engine, "tokens"), *targets = engine_named(engine, "targets");
  for (int k = 0; k < FIX_ROWS; k++)
    MUST(tokens[k] >= 0 && tokens[k] < FIX_VOCAB && targets[k] >= -1 && targets[k] < FIX_VOCAB,
         "token %d, target %d of %d", tokens[k], targets[k], FIX_VOCAB);
}

static void load(const char *path, TokenFormat format, LoaderOrder order) {
  Report err = {0};
  Loader *l = loader_open(engine, path, NULL, format, order, 1, &err);
  bool ok = l != NULL;
  for (int i = 0; ok && i < 3; i++) {
    ok = loader_draw(l, 1, &err) >= 0 && loader_fill(l, 0, &err);
    check_rows();
  }
  for (int64_t i = 0, n = ok ? loader_val_batches(l) : 0; ok && i < n && i < 3; i++) {
    ok = loader_fill_val(l, i, &err) >= 0;
    if (ok) check_rows();
  }
  char text[256];
  if (l) loader_describe(l, text, sizeof text);
  if (ok) loader_seek(l, (LoaderState){1, 0});
  loader_close(l);
  fuzz_report(&err, !ok);
}

static void images(FuzzPart a, FuzzPart b) {
  Report err = {0};
  fuzz_put("images", a.at, a.n);
  fuzz_put("labels", b.at, b.n);
  Dataset *d = idx_open(fuzz_path("images"), fuzz_path("labels"), 9, 3, &err);
  bool ok = d != NULL;
  float image[9];
  int32_t label;
  Row row = {.images = image, .labels = &label};
  for (uint64_t k = 0, n = ok ? d->begin(d, 1, 0) : 0; ok && k < n && k < 16; k++) {
    ok = d->fill(d, k, &row, &err) == 1;
    if (ok) MUST(label >= 0 && label < 3 && image[8] >= 0 && image[8] <= 1, "label %d, pixel %g", label, image[8]);
  }
  if (d) d->close(d);
  fuzz_report(&err, !ok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzPart part[3];
  if (!engine) start();
  if (!size) return 0;
  LoaderOrder order = size % 2 ? ORDER_SHUFFLED : ORDER_SEQUENTIAL;
  int n = fuzz_split(data + 1, size - 1, part, 3);
  fuzz_gone("meta.json");
  fuzz_gone("t.bin.mask");
  fuzz_gone("t.bin.docs");
  switch (data[0]) {
  case 't':
  case 'n':
    fuzz_put("t.bin", part[0].at, part[0].n);
    if (n > 1) fuzz_put("t.bin.mask", part[1].at, part[1].n);
    if (n > 2) fuzz_put("t.bin.docs", part[2].at, part[2].n);
    load(fuzz_path("t.bin"), data[0] == 't' ? FORMAT_LLMC : FORMAT_NANOGPT, order);
    break;
  case 'm':
    fuzz_put("meta.json", part[0].at, part[0].n);
    load(fuzz_path(""), FORMAT_LLMC, order);
    break;
  case 'i': images(part[0], part[1]);
  }
  return 0;
}
