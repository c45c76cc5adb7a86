/* metrics.jsonl: what a resumed run keeps of it, and what it writes. */
#include "runtime/metrics.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include <math.h>

static Dir dir;
static Report err;

static void setup(void) {
  dir = dir_new();
}
static void teardown(void) {
  report_free(&err);
  dir_free(&dir);
}
TestSuite(metrics, .init = setup, .fini = teardown);

#define ONE "{\"step\": 1, \"loss\": 2.5}\n"
#define TWO "{\"step\": 2, \"loss\": 2.25}\n"
#define TWO_VAL "{\"step\": 2, \"val_loss\": 2.5}\n"

/* The file after it was opened to go on behind `step`. */
static void becomes(const char *before, size_t n, int64_t step, const char *want) {
  file_put(in(&dir, "metrics.jsonl"), before, n);
  Metrics *m = metrics_open(dir.path, step, &err);
  cr_assert(ne(ptr, m, NULL), "%s", err.text);
  metrics_close(m);
  char *have = file_get(in(&dir, "metrics.jsonl"), NULL);
  cr_assert(zero(int, strcmp(have, want)), "%s becomes %s", before, have);
  free(have);
  cr_assert(not(fs_exists(in(&dir, ".tmp-metrics.jsonl"))));
}
#define BECOMES(before, step, want) becomes(before, sizeof(before) - 1, step, want)

Test(metrics, lines_past_the_checkpoint_go) {
  BECOMES(ONE TWO TWO_VAL, 2, ONE TWO TWO_VAL);
  BECOMES(ONE TWO TWO_VAL, 1, ONE);
  BECOMES(ONE TWO, 0, "");
  BECOMES("", 3, "");
}

Test(metrics, torn_and_double_lines_go) {
  BECOMES(ONE "{\"step\": 1\0\0\0\0, \"loss\": 2}\n", 1, ONE); /* zeros in the number of step 12 */
  BECOMES(ONE "\0\0\0\0\0\0\n" TWO, 2, ONE TWO);
  BECOMES(ONE "{\"step\": 2, \"lo", 2, ONE);
  BECOMES(ONE "{\"step\": 2, \"loss\": 2.25}", 2, ONE); /* whole but for its end */
  BECOMES(ONE TWO ONE TWO_VAL TWO TWO_VAL, 2, ONE TWO TWO_VAL);
  BECOMES(ONE "[2]\n\n{\"step\": \"2\"}\n" TWO, 2, ONE TWO);
}

Test(metrics, what_is_written_is_kept) {
  Metrics *m = metrics_open(dir.path, 0, &err); /* no file yet */
  cr_assert(ne(ptr, m, NULL), "%s", err.text);
  cr_assert(metrics_step(m, &(StepMetrics){.step = 1, .loss = 2.5, .lr = 0.1}, &err));
  cr_assert(metrics_val(m, 1, 3.5, &err) && metrics_val(m, 2, NAN, &err) && metrics_sync(m, &err));
  metrics_close(m);
  char *before = file_get(in(&dir, "metrics.jsonl"), NULL);
  m = metrics_open(dir.path, 2, &err);
  metrics_close(m);
  char *after = file_get(in(&dir, "metrics.jsonl"), NULL);
  cr_assert(eq(str, before, after));
  cr_assert(ne(ptr, strstr(after, "{\"step\": 1, \"val_loss\": 3.5}\n"), NULL));
  cr_assert(ne(ptr, strstr(after, "{\"step\": 2, \"val_loss\": null}\n"), NULL));
  free(before), free(after);
}

Test(metrics, a_file_that_cannot_be_read_is_said_and_left) {
  cr_assert(zero(int, symlink("metrics.jsonl", in(&dir, "metrics.jsonl"))));
  cr_assert(eq(ptr, metrics_open(dir.path, 1, &err), NULL));
  cr_assert(ne(ptr, strstr(err.text, "metrics.jsonl"), NULL));
  cr_assert(fs_exists(in(&dir, "metrics.jsonl")));
}
