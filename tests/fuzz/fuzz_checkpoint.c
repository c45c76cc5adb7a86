/* A checkpoint's state.json and the files it lists, as --resume reads them.
 *
 * The bytes are the text of state.json up to its checksum, which is put behind it, right, so that what is said is looked at and
 * not only that it was damaged; where they hold a checksum already they stay as they are. Beside it stand the whole files of
 * a real checkpoint of the fixture's program, whose checksums a "#model", "#optimizer" or "#config" in the text stands for. */
#include "runtime/checkpoint.h"
#include "runtime/checkpoint_files.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/runtime_fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "config.json"};
static const char *const marks[] = {"#model", "#optimizer", "#config"};
enum { FILES = 3 };
static char checksum[FILES][24];
static Fixture *fixture;
static Engine *engine;
static Settings set;

static void start(void) {
  static Program p;
  Report err = {0};
  char path[256];
  fixture = fixture_new();
  MUST(program_open(&p, fixture->blob, fix_kernels, &err), "%s", err.text);
  engine = engine_new(&p, 1, &err);
  MUST(engine && settings_default(&set, &p, &err), "%s", err.text);
  RunState s = {.step = 7, .data = {1, 2}, .data_items = 200, .best_val = 1, .last_val = 2, .set = set};
  MUST(checkpoint_save(engine, &s, fuzz_path(""), NULL, &err), "%s", err.text);
  for (int i = 0; i < FILES; i++) {
    FsMap m;
    snprintf(path, sizeof path, "%s/checkpoints/step-7/%s", fuzz_path(""), files[i]);
    MUST(fs_map(&m, path, &err), "%s", err.text);
    snprintf(checksum[i], sizeof checksum[i], "%016" PRIx64, fs_hash(m.at, m.n));
    fs_unmap(&m);
  }
}

/* The folder as it was, if it was set aside. */
static void restore(void) {
  char from[256], to[256];
  snprintf(from, sizeof from, "%s/checkpoints/step-7.damaged", fuzz_path(""));
  snprintf(to, sizeof to, "%s/checkpoints/step-7", fuzz_path(""));
  if (!access(from, F_OK)) MUST(!rename(from, to), "it is not put back");
}

static void put_state(const uint8_t *data, size_t size) {
  Text t = {0};
  for (size_t i = 0; i < size;) {
    int k = 0;
    while (k < FILES && (size - i < strlen(marks[k]) || memcmp(data + i, marks[k], strlen(marks[k])))) k++;
    if (k < FILES)
      text_write(&t, checksum[k], 16), i += strlen(marks[k]);
    else
      text_write(&t, data + i++, 1);
  }
  if (!t.s || !memmem(t.s, t.n, STATE_MARK, strlen(STATE_MARK))) {
    uint64_t h = fs_hash(t.s ? t.s : "", t.n);
    text_add(&t, "%s%016" PRIx64 "\"\n}\n", STATE_MARK, h);
  }
  fuzz_put("checkpoints/step-7/state.json", t.s, t.n);
  text_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Report notes = {0}, err = {0};
  if (!engine) start();
  restore();
  put_state(data, size);
  RunState s = {.set = set};
  CheckpointResult r = checkpoint_load(engine, &s, fuzz_path(""), &notes, &err);
  MUST(r != CHECKPOINT_NONE, "the checkpoint was not seen");
  if (r == CHECKPOINT_LOADED) MUST(s.step >= 0 && s.order <= ORDER_SEQUENTIAL, "step %" PRId64, s.step);
  fuzz_report(&notes, false);
  fuzz_report(&err, r == CHECKPOINT_FAILED);
  return 0;
}
