/* Weights through their views, and checkpoints: what is saved comes back, what is damaged is not loaded. */
#include "runtime/checkpoint.h"
#include "runtime/random.h"
#include "runtime/weights.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include "tests/unit/runtime_fixture.h"

static Dir dir;
static Report err, notes;
static Fixture *f;
static Program p;
static Engine *e;
static RunState s;

static void setup(void) {
  dir = dir_new();
  f = fixture_new();
  cr_assert(program_open(&p, f->blob, fix_kernels, &err));
  e = engine_new(&p, 1, &err);
  init_params(e, 1);
  s = (RunState){.step = 7, .data = {3, 21}, .data_items = 1000, .best_val = 1.5, .last_val = 2.5};
  cr_assert(settings_default(&s.set, &p, &err));
}
static void teardown(void) {
  engine_free(e);
  fixture_free(f);
  report_free(&err), report_free(&notes);
  dir_free(&dir);
}
TestSuite(checkpoint, .init = setup, .fini = teardown);

static float *data(const char *name) {
  return engine_named(e, name);
}

static bool ignore_file(void *ctx, const char *file, uint64_t hash) {
  (void)ctx, (void)file, (void)hash;
  return true;
}

/* ---- weights */

Test(checkpoint, views) {
  for (int i = 0; i < FIX_VOCAB; i++) data("b0")[i] = (float)i, data("b1")[i] = (float)(100 + i);
  cr_assert(weights_save(e, dir.path, 0, ignore_file, NULL, &err), "%s", err.text);
  SafeFile *file = safe_open(in(&dir, "model.safetensors"), &err);
  cr_assert(eq(int, file->n, 2));
  float w[FIX_VOCAB * FIX_VOCAB], b[2 * FIX_VOCAB];
  safe_read(file, safe_find(file, "head.weight"), 0, FIX_VOCAB * FIX_VOCAB, w);
  safe_read(file, safe_find(file, "head.bias"), 0, 2 * FIX_VOCAB, b);
  for (int i = 0; i < FIX_VOCAB; i++)
    for (int k = 0; k < FIX_VOCAB; k++) cr_assert(eq(flt, w[k * FIX_VOCAB + i], data("w")[i * FIX_VOCAB + k]));
  for (int i = 0; i < FIX_VOCAB; i++) cr_assert(b[i] == (float)i && b[FIX_VOCAB + i] == (float)(100 + i));
  safe_close(file);
  /* and back: the same parameters, the same bytes */
  float before[FIX_VOCAB * FIX_VOCAB];
  memcpy(before, data("w"), sizeof(before));
  init_params(e, 2);
  cr_assert(weights_load(e, in(&dir, "model.safetensors"), &err), "%s", err.text);
  cr_assert(zero(int, memcmp(before, data("w"), sizeof(before))));
  cr_assert(eq(flt, data("b1")[5], 105));
  mkdir(in(&dir, "again"), 0777);
  cr_assert(weights_save(e, in(&dir, "again"), 0, ignore_file, NULL, &err));
  cr_assert(file_same(in(&dir, "model.safetensors"), in(&dir, "again/model.safetensors")));
}

Test(checkpoint, shards_and_index) {
  cr_assert(weights_save(e, dir.path, 1100, ignore_file, NULL, &err), "%s",
            err.text); /* 1024 + 128 bytes: two shards */
  char *index = file_get(in(&dir, "model.safetensors.index.json"), NULL);
  cr_assert(eq(str, index,
               "{\n  \"metadata\": {\n    \"total_size\": 1152\n  },\n  \"weight_map\": {\n"
               "    \"head.bias\": \"model-00002-of-00002.safetensors\",\n"
               "    \"head.weight\": \"model-00001-of-00002.safetensors\"\n  }\n}\n"));
  free(index);
  float before[FIX_VOCAB * FIX_VOCAB];
  memcpy(before, data("w"), sizeof(before));
  init_params(e, 2);
  cr_assert(weights_load(e, dir.path, &err), "%s", err.text);
  cr_assert(zero(int, memcmp(before, data("w"), sizeof(before))));
  const char *evil = "{\"weight_map\": {\"head.bias\": \"../x\"}}";
  file_put(in(&dir, "model.safetensors.index.json"), evil, strlen(evil));
  cr_assert(not(weights_load(e, dir.path, &err)));
  cr_assert(ne(ptr, strstr(err.text, "no file name"), NULL));
}

Test(checkpoint, all_faults_of_weights_are_named_and_nothing_loaded) {
  const char *h = "{\"head.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},\"other\":{\"dtype\":"
                  "\"F32\",\"shape\":[1],\"data_offsets\":[24,28]}}";
  unsigned char all[1024] = {0};
  uint64_t n = strlen(h);
  memcpy(all, &n, 8), memcpy(all + 8, h, n);
  file_put(in(&dir, "x.safetensors"), all, 8 + n + 28);
  float before = data("w")[3];
  cr_assert(not(weights_load(e, in(&dir, "x.safetensors"), &err)));
  cr_assert(ne(ptr, strstr(err.text, "'head.weight' is [2, 3]; the model has [16, 16]"), NULL), "%s", err.text);
  cr_assert(ne(ptr, strstr(err.text, "'head.bias' [32] is missing"), NULL));
  cr_assert(ne(ptr, strstr(err.text, "no tensor 'other'"), NULL));
  cr_assert(eq(flt, data("w")[3], before));
  report_free(&err);
  cr_assert(not(weights_load(e, dir.path, &err)));
  cr_assert(ne(ptr, strstr(err.text, "neither model.safetensors"), NULL));
}

/* ---- checkpoints */

static void scribble(float x) {
  for (int i = 0; i < p.nbuffers; i++)
    if (p.buffers[i].kind == BUF_PARAM || p.buffers[i].kind == BUF_STATE)
      for (int64_t k = 0; k < buffer_elements(&p.buffers[i]); k++)
        ((float *)engine_buffer(e, i))[k] = x + (float)i + (float)k / 64;
}

static void save(int64_t step) {
  s.step = step;
  scribble((float)step);
  cr_assert(checkpoint_save(e, &s, dir.path, NULL, &err), "%s", err.text);
}

Test(checkpoint, everything_comes_back) {
  s.set.lr = 0.123;
  save(7);
  float m[FIX_VOCAB * FIX_VOCAB];
  memcpy(m, data("m.w"), sizeof(m));
  scribble(0);
  RunState r = {0};
  cr_assert(settings_default(&r.set, &p, &err));
  cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_LOADED), "%s", err.text);
  cr_assert(zero(int, memcmp(m, data("m.w"), sizeof(m))));
  cr_assert(eq(flt, data("w")[0], 7 + (float)program_buffer(&p, "w")));
  cr_assert(eq(flt, data("v.b1")[1], 7 + (float)program_buffer(&p, "v.b1") + 1 / 64.0f));
  cr_assert(eq(flt, data("grad.w")[0], (float)program_buffer(&p, "grad.w"))); /* gradients are not kept */
  cr_assert(eq(i64, r.step, 7));
  cr_assert(r.data.epoch == 3 && r.data.index == 21 && r.data_items == 1000);
  cr_assert(r.best_val == 1.5 && r.last_val == 2.5 && r.set.lr == 0.123);
  char link[64] = {0};
  cr_assert(readlink(in(&dir, "checkpoints/latest"), link, 63) > 0);
  cr_assert(eq(str, link, "step-7"));
  char *config = file_get(in(&dir, "checkpoints/latest/config.json"), NULL);
  cr_assert(eq(str, config, "{\n  \"model_type\": \"bigram\"\n}\n"));
  free(config);
}

Test(checkpoint, tokenizer_files_go_with_it) {
  mkdir(in(&dir, "data"), 0777), mkdir(in(&dir, "data/tokenizer"), 0777);
  file_put(in(&dir, "data/tokenizer.json"), "{}", 2);
  file_put(in(&dir, "data/tokenizer/merges.txt"), "a b", 3);
  file_put(in(&dir, "data/tokenizer/config.json"), "evil", 4); /* never over the program's own */
  file_put(in(&dir, "data/train.bin"), "no", 2);
  cr_assert(checkpoint_save(e, &s, dir.path, in(&dir, "data"), &err), "%s", err.text);
  cr_assert(file_same(in(&dir, "checkpoints/step-7/tokenizer.json"), in(&dir, "data/tokenizer.json")));
  cr_assert(file_same(in(&dir, "checkpoints/step-7/merges.txt"), in(&dir, "data/tokenizer/merges.txt")));
  char *config = file_get(in(&dir, "checkpoints/step-7/config.json"), NULL);
  cr_assert(ne(ptr, strstr(config, "bigram"), NULL));
  free(config);
  cr_assert(not(fs_exists(in(&dir, "checkpoints/step-7/train.bin"))));
}

Test(checkpoint, the_newest_are_kept) {
  s.set.ckpt_keep = 2;
  for (int i = 1; i <= 12; i++) save(i);
  FsList names = {0};
  cr_assert(fs_list_dir(&names, in(&dir, "checkpoints"), &err));
  cr_assert(eq(int, names.n, 3));
  cr_assert(eq(str, names.name[1], "step-11")); /* by number, not by name: 9 < 11 */
  cr_assert(eq(str, names.name[2], "step-12"));
  fs_list_free(&names);
  save(12); /* over an existing one */
  cr_assert(fs_exists(in(&dir, "checkpoints/step-12/state.json")));
}

/* Damage of every kind to every file of the newest checkpoint: the one before is loaded, with a note. */
static void check_damage(const char *file, int kind) {
  char path[FS_PATH];
  save(10), save(20);
  snprintf(path, sizeof(path), "%s/checkpoints/step-20/%s", dir.path, file);
  size_t n;
  char *bytes = file_get(path, &n);
  cr_assert(ne(ptr, bytes, NULL), "%s", path);
  if (kind == 0) remove(path);
  if (kind == 1) file_put(path, bytes, n / 2);
  if (kind == 2) file_put(path, bytes, 0);
  if (kind == 3) bytes[n / 3] ^= 1, file_put(path, bytes, n);
  if (kind == 4) bytes[n - 4] ^= 1, file_put(path, bytes, n);
  free(bytes);
  scribble(-1);
  RunState r = {.set = s.set};
  cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_LOADED), "%s %d: %s", file, kind,
            err.text);
  cr_assert(eq(i64, r.step, 10));
  cr_assert(eq(flt, data("w")[0], 10 + (float)program_buffer(&p, "w")));
  cr_assert(ne(ptr, strstr(notes.text, "step-20 is damaged"), NULL), "%s", notes.text);
  cr_assert(fs_exists(in(&dir, "checkpoints/step-20.damaged")));
  report_free(&notes);
  Report ignored = {0};
  cr_assert(fs_remove_flat(in(&dir, "checkpoints/step-20.damaged"), &ignored));
}

Test(checkpoint, damage_falls_back_to_the_one_before) {
  static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "state.json", "config.json"};
  for (int i = 0; i < 4; i++)
    for (int kind = 0; kind < 5; kind++) check_damage(files[i], kind);
}

Test(checkpoint, only_damaged_ones_are_an_error) {
  save(10);
  remove(in(&dir, "checkpoints/step-10/model.safetensors"));
  RunState r = {.set = s.set};
  cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_FAILED));
  cr_assert(ne(ptr, strstr(err.text, "no checkpoint"), NULL));
  report_free(&err); /* and again, now that it is set aside: still no silent start at step 0 */
  cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_FAILED));
}

Test(checkpoint, half_written_ones_are_not_seen) {
  RunState r = {.set = s.set};
  cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_NONE));
  save(10);
  mkdir(in(&dir, "checkpoints/.tmp-step-20"), 0777);
  file_put(in(&dir, "checkpoints/.tmp-step-20/model.safetensors"), "half", 4);
  mkdir(in(&dir, "checkpoints/.old-step-5"), 0777);
  mkdir(in(&dir, "checkpoints/step-x"), 0777);
  cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_LOADED));
  cr_assert(eq(i64, r.step, 10));
  checkpoint_clean(dir.path);
  cr_assert(not(fs_exists(in(&dir, "checkpoints/.tmp-step-20"))));
  cr_assert(not(fs_exists(in(&dir, "checkpoints/.old-step-5"))));
  cr_assert(fs_exists(in(&dir, "checkpoints/step-x")));
  save(20); /* also over a left-over folder */
}

/* state.json with one text replaced, its checksum made right again: what is meant is judged, not damage. */
static void rewrite(const char *from, const char *to) {
  char path[FS_PATH];
  snprintf(path, sizeof(path), "%s/checkpoints/step-7/state.json", dir.path);
  char *text = file_get(path, NULL), all[8192];
  char *at = strstr(text, from);
  cr_assert(ne(ptr, at, NULL));
  int n = snprintf(all, sizeof(all), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
  char *mark = strstr(all, ",\n  \"checksum\"");
  n = (int)(mark - all);
  n += snprintf(all + n, sizeof(all) - (size_t)n, ",\n  \"checksum\": \"%016llx\"\n}\n",
                (unsigned long long)fs_hash(all, (size_t)n));
  file_put(path, all, (size_t)n);
  free(text);
}

Test(checkpoint, another_program_is_refused_with_both_hashes) {
  save(7);
  rewrite("000000001234abcd", "00000000deadbeef");
  RunState r = {.set = s.set};
  cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_FAILED));
  cr_assert(ne(ptr, strstr(err.text, "00000000deadbeef"), NULL));
  cr_assert(ne(ptr, strstr(err.text, "000000001234abcd"), NULL));
  cr_assert(fs_exists(in(&dir, "checkpoints/step-7")));
}

Test(checkpoint, a_later_format_is_refused) {
  save(5), save(7);
  rewrite("\"format\": 1", "\"format\": 2");
  remove(in(&dir, "checkpoints/step-7/model.safetensors")); /* a later format may name its files as it likes */
  RunState r = {.set = s.set};
  cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_FAILED));
  cr_assert(ne(ptr, strstr(err.text, "step-7 is not loaded"), NULL), "%s", err.text);
  cr_assert(ne(ptr, strstr(err.text, "format 2; this program reads format 1: build it with a newer ink"), NULL));
  cr_assert(fs_exists(in(&dir, "checkpoints/step-7"))); /* neither set aside nor passed over */
}

Test(checkpoint, what_cannot_be_read_is_no_damage) {
  save(5), save(7);
  static const char *const files[] = {"state.json", "model.safetensors"};
  for (int i = 0; i < 2; i++) {
    char path[FS_PATH], kept[FS_PATH];
    snprintf(path, sizeof(path), "%s/checkpoints/step-7/%s", dir.path, files[i]);
    snprintf(kept, sizeof(kept), "%s/kept", dir.path);
    cr_assert(zero(int, rename(path, kept)));
    cr_assert(zero(int, symlink(files[i], path))); /* a link to itself: no user can open it */
    RunState r = {.set = s.set};
    cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_FAILED));
    cr_assert(ne(ptr, strstr(err.text, files[i]), NULL), "%s", err.text);
    cr_assert(fs_exists(in(&dir, "checkpoints/step-7")));
    report_free(&err);
    remove(path);
    cr_assert(zero(int, rename(kept, path)));
  }
}

Test(checkpoint, what_a_crash_left_undone_is_done) {
  s.set.ckpt_keep = 5;
  save(5), save(6), save(7);
  cr_assert(zero(int, remove(in(&dir, "checkpoints/latest"))));
  cr_assert(zero(int, symlink("step-5", in(&dir, "checkpoints/latest"))));
  file_put(in(&dir, ".tmp-sample-0.txt"), "half", 4);
  cr_assert(zero(int, symlink("step-5", in(&dir, "checkpoints/.tmp-latest"))));
  checkpoint_clean(dir.path);
  cr_assert(not(fs_exists(in(&dir, ".tmp-sample-0.txt"))));
  cr_assert(not(fs_exists(in(&dir, "checkpoints/.tmp-latest"))));
  cr_assert(checkpoint_settle(dir.path, 7, 2, &err), "%s", err.text);
  char link[64] = {0};
  cr_assert(readlink(in(&dir, "checkpoints/latest"), link, 63) > 0);
  cr_assert(eq(str, link, "step-7"));
  cr_assert(fs_exists(in(&dir, "checkpoints/step-6")) && !fs_exists(in(&dir, "checkpoints/step-5")));
}

Test(checkpoint, a_state_without_position_is_refused) {
  save(7);
  rewrite("\"index\": 21", "\"index\": -1");
  RunState r = {.set = s.set};
  cr_assert(eq(int, checkpoint_load(e, &r, dir.path, &notes, &err), CHECKPOINT_FAILED));
}
