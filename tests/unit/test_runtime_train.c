/* Whole runs of the training binary over the hand-made program, each in a child process: learning, threads, resume, kills,
 * Ctrl-C, and the rules of the run folder. */
#include "runtime/app.h"
#include "runtime/safetensors.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include "tests/unit/runtime_fixture.h"
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>

static Dir dir;

static void setup(void) {
  uint16_t t[6000];
  dir = dir_new();
  fixture_tokens(t, 6000, 1);
  mkdir(in(&dir, "data"), 0777);
  shard_put(in(&dir, "data/train.bin"), t, 5000);
  shard_put(in(&dir, "data/val.bin"), t + 5000, 1000);
}
static void teardown(void) {
  dir_free(&dir);
}
TestSuite(train, .init = setup, .fini = teardown);

/* Starts the program with the words of `line`, DIR standing for the test's folder; output to DIR/log. */
static pid_t start(const char *line) {
  pid_t pid = fork();
  if (pid) return pid;
  static char text[4096];
  char *argv[64] = {"bigram"};
  int argc = 1, at = 0;
  for (const char *c = line; *c; c++) {
    if (!strncmp(c, "DIR", 3))
      at += sprintf(text + at, "%s", dir.path), c += 2;
    else
      text[at++] = *c;
  }
  for (char *save, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) argv[argc++] = w;
  int log = open(in(&dir, "log"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  dup2(log, 1), dup2(log, 2);
  Fixture *f = fixture_new();
  int status = app_train(f->blob, fix_kernels, argc, argv);
  fflush(NULL);
  _exit(status);
}

static int finish(pid_t pid) {
  int status;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void run(const char *line, int want) {
  int got = finish(start(line));
  char *log = file_get(in(&dir, "log"), NULL);
  cr_assert(eq(int, got, want), "%s: exit %d, want %d\n%s", line, got, want, log);
  free(log);
}

static void log_says(const char *part) {
  char *log = file_get(in(&dir, "log"), NULL);
  cr_assert(ne(ptr, strstr(log, part), NULL), "'%s' does not say '%s'", log, part);
  free(log);
}

/* The n-th value of a key in a metrics file as written, or "". */
static void metric(const char *run_name, const char *key, int step, char out[64]) {
  char path[256], line_start[64];
  snprintf(path, sizeof(path), "%s/metrics.jsonl", run_name);
  snprintf(line_start, sizeof(line_start), "{\"step\": %d, ", step);
  char *text = file_get(in(&dir, path), NULL);
  out[0] = 0;
  for (char *line = text; line && *line; line = strchr(line, '\n') + 1) {
    char *at = strstr(line, key), *end = strchr(line, '\n');
    if (!strncmp(line, line_start, strlen(line_start)) && at && at < end) sscanf(at + strlen(key), "\": %63[^,}]", out);
  }
  free(text);
}

static void same_losses(const char *a, const char *b, int steps) {
  for (int i = 1; i <= steps; i++) {
    char x[64], y[64];
    metric(a, "loss", i, x), metric(b, "loss", i, y);
    cr_assert(ne(int, x[0], 0), "%s has no step %d", a, i);
    cr_assert(eq(str, x, y), "step %d", i);
  }
}

static int count_lines(const char *name) {
  char *text = file_get(in(&dir, name), NULL);
  int n = 0;
  for (char *c = text; c && *c; c++) n += *c == '\n';
  free(text);
  return n;
}

Test(train, it_learns) {
  run("--data DIR/data --run DIR/r --threads 1 --steps 200 --set lr=0.1", 0);
  char first[64], val[64];
  metric("r", "loss", 1, first), metric("r", "val_loss", 200, val);
  cr_assert(atof(first) > 2.6);       /* ln 16 = 2.77 */
  cr_assert(lt(dbl, atof(val), 1.5)); /* the chain's entropy is 1.2 */
  cr_assert(eq(int, count_lines("r/metrics.jsonl"), 220));
}

Test(train, threads_do_not_change_a_bit) {
  run("--data DIR/data --run DIR/a --threads 1", 0);
  run("--data DIR/data --run DIR/b --threads 2", 0);
  run("--data DIR/data --run DIR/c --threads 5", 0);
  same_losses("a", "b", 40);
  same_losses("a", "c", 40);
  cr_assert(file_same(in(&dir, "a/checkpoints/latest/model.safetensors"),
                      in(&dir, "b/checkpoints/latest/model.safetensors")));
  cr_assert(file_same(in(&dir, "a/checkpoints/latest/optimizer.safetensors"),
                      in(&dir, "c/checkpoints/latest/optimizer.safetensors")));
}

Test(train, accumulation_counts_targets_of_the_whole_batch) {
  unsigned char mask[5000];
  for (int i = 0; i < 5000; i++) mask[i] = i % 3 != 0;
  file_put(in(&dir, "data/train.bin.mask"), mask, 5000);
  run("--data DIR/data --run DIR/r --set global_batch=12 --steps 3", 0);
  run("--data DIR/data --run DIR/q --set global_batch=10 --steps 3", 1);
  log_says("not a multiple");
  char a[64];
  metric("r", "loss", 1, a);
  cr_assert(lt(dbl, fabs(atof(a) - log(16)), 0.1));
}

Test(train, resume_is_exact) {
  run("--data DIR/data --run DIR/whole --set checkpoint.every=10 --sample 5", 0);
  /* the newest checkpoint gone, as if the run had been killed between step 30 and 40 */
  run("--data DIR/data --run DIR/r --set checkpoint.every=10 --sample 5", 0);
  cr_assert(eq(int, rename(in(&dir, "r/checkpoints/step-40"), in(&dir, "r/gone")), 0));
  run("--data DIR/data --run DIR/r --resume --threads 3 --sample 5", 0);
  log_says("going on from step 30");
  same_losses("whole", "r", 40);
  cr_assert(eq(int, count_lines("r/metrics.jsonl"),
               count_lines("whole/metrics.jsonl"))); /* lines after 30 were cut, then written again */
  cr_assert(file_same(in(&dir, "whole/checkpoints/latest/model.safetensors"),
                      in(&dir, "r/checkpoints/latest/model.safetensors")));
  cr_assert(file_same(in(&dir, "whole/checkpoints/latest/optimizer.safetensors"),
                      in(&dir, "r/checkpoints/latest/optimizer.safetensors")));
  cr_assert(file_same(in(&dir, "whole/sample-final.txt"), in(&dir, "r/sample-final.txt")));
}

Test(train, settings_survive_and_can_be_changed) {
  run("--data DIR/data --run DIR/r --set lr=0.01 checkpoint.every=5 --steps 10", 0);
  run("--data DIR/data --run DIR/r --resume --steps 12 --set clip=0.5", 0);
  char *state = file_get(in(&dir, "r/checkpoints/latest/state.json"), NULL);
  cr_assert(ne(ptr, strstr(state, "\"lr\": \"0.01\""), NULL), "%s", state);
  cr_assert(ne(ptr, strstr(state, "\"clip\": \"0.5\""), NULL));
  cr_assert(ne(ptr, strstr(state, "\"steps\": \"12\""), NULL));
  free(state);
}

Test(train, ctrl_c_saves_and_says_so) {
  pid_t pid = start("--data DIR/data --run DIR/r --steps 100000000 --set eval.every=0");
  for (int i = 0; i < 500 && count_lines("r/metrics.jsonl") < 20; i++) usleep(10000);
  kill(pid, SIGINT);
  cr_assert(eq(int, finish(pid), 130));
  log_says("a checkpoint is saved, --resume goes on");
  char link[64] = {0};
  cr_assert(readlink(in(&dir, "r/checkpoints/latest"), link, 63) > 0);
  char steps[128];
  snprintf(steps, sizeof(steps), "--data DIR/data --run DIR/r --resume --steps %d --set eval.every=0",
           atoi(link + 5) + 3);
  run(steps, 0);
}

/* kill -9 at twenty moments of one run that checkpoints every step: each is resumed, and the end is that of a run without
 * kills. */
Test(train, kill_nine_at_any_moment, .timeout = 120) {
  const char *line = "--data DIR/data --run DIR/r --threads 1 --steps 400 --set checkpoint.every=1 eval.every=50";
  char resume[256];
  snprintf(resume, sizeof(resume), "%s --resume", line);
  int kills = 0;
  pid_t pid = start(line);
  for (int i = 0; i < 20; i++) {
    /* spread over the run by its progress, so that a fast disk does not end it early; then some random part of a step */
    for (int wait = 0; wait < 30000 && count_lines("r/metrics.jsonl") < 18 * (i + 1); wait++) usleep(1000);
    usleep((unsigned)(i * 7919 % 37 * 100));
    kill(pid, SIGKILL);
    int status = finish(pid);
    cr_assert(status == 1000 + SIGKILL || status == 0, "exit %d", status);
    kills += status != 0;
    pid = start(resume);
  }
  cr_assert(eq(int, finish(pid), 0));
  cr_assert(ge(int, kills, 10), "only %d kills hit a running program", kills);
  run("--data DIR/data --run DIR/whole --threads 1 --steps 400 --set eval.every=50", 0);
  same_losses("whole", "r", 400);
  cr_assert(eq(int, count_lines("r/metrics.jsonl"), 408));
  cr_assert(file_same(in(&dir, "whole/checkpoints/latest/model.safetensors"),
                      in(&dir, "r/checkpoints/latest/model.safetensors")));
  char *log = file_get(in(&dir, "log"), NULL);
  cr_assert(eq(ptr, strstr(log, "damaged"), NULL));
  free(log);
}

Test(train, run_folder_rules) {
  run("--data DIR/data --run DIR/r --steps 2", 0);
  run("--data DIR/data --run DIR/r --steps 2", 1);
  log_says("is not empty: --resume");
  mkdir(in(&dir, "empty"), 0777);
  run("--data DIR/data --run DIR/empty --steps 2", 0);
  run("--data DIR/data --run DIR/new/deep --steps 2 --resume", 0);
  log_says("has no checkpoint yet");
  run("--data DIR/data --run DIR/data/train.bin --steps 2", 1);
  pid_t pid = start("--data DIR/data --run DIR/busy --steps 100000000 --set eval.every=0");
  for (int i = 0; i < 500 && count_lines("busy/metrics.jsonl") < 3; i++) usleep(10000);
  run("--data DIR/data --run DIR/busy --resume", 1);
  log_says("another process");
  kill(pid, SIGKILL);
  finish(pid);
}

Test(train, usage_errors_come_together) {
  run("--steps 2", 2);
  log_says("--data is missing");
  log_says("--run is missing");
  run("--data DIR/data --run DIR/r --set lr=no seq=4 --resum", 2);
  log_says("did you mean '--resume'");
  run("--data DIR/data --run DIR/r --set lr=no seq=4", 2);
  log_says("'no' is not a number");
  log_says("ink build");
  run("--data DIR/nothing --run DIR/r", 1);
  log_says("no such file");
  run("--data DIR/data --run DIR/q --init DIR/data/train.bin", 1);
  log_says("at most 100000000");
  run("--help", 0);
  log_says("--data DIR|GLOB");
  run("--version", 0);
  log_says("spec 000000001234abcd");
  run("--licenses", 0);
  log_says("Petri Lehtinen");
}

Test(train, import_and_save_are_the_same_bytes) {
  run("--data DIR/data --run DIR/a --steps 30", 0);
  run("--data DIR/data --run DIR/b --steps 0 --init DIR/a/checkpoints/latest", 0);
  cr_assert(file_same(in(&dir, "a/checkpoints/latest/model.safetensors"),
                      in(&dir, "b/checkpoints/latest/model.safetensors")));
  run("--data DIR/data --run DIR/a --eval-only --resume", 0);
  char want[64];
  metric("a", "val_loss", 30, want);
  log_says(want);
  run("--val DIR/data/val.bin --init DIR/a/checkpoints/latest/model.safetensors --eval-only", 0);
  log_says(want);
}

Test(train, gradients_and_logits) {
  run("--data DIR/data --grads DIR/g --logits DIR/l --order sequential", 0);
  Report err = {0};
  SafeFile *g = safe_open(in(&dir, "g"), &err), *l = safe_open(in(&dir, "l"), &err);
  cr_assert(g && l, "%s", err.text);
  cr_assert(eq(int, g->n, 2));
  const SafeTensor *t = safe_find(g, "head.bias");
  float b[2 * FIX_VOCAB], sum = 0;
  safe_read(g, t, 0, 2 * FIX_VOCAB, b);
  for (int i = 0; i < FIX_VOCAB; i++) sum += b[i];
  cr_assert(lt(flt, fabsf(sum), 1e-6f)); /* softmax gradients sum to nothing */
  cr_assert(fabsf(b[0]) > 1e-4f);
  t = safe_find(l, "logits");
  cr_assert(t && t->rank == 2 && t->dim[0] == FIX_TIME && t->dim[1] == FIX_VOCAB);
  safe_close(g), safe_close(l);
  /* with a run, the run is as it would be without */
  run("--data DIR/data --run DIR/a --steps 5", 0);
  run("--data DIR/data --run DIR/b --steps 5 --grads DIR/g2 --logits DIR/l2", 0);
  same_losses("a", "b", 5);
}

Test(train, a_broken_loss_stops_the_run) {
  run("--data DIR/data --run DIR/r --steps 400 --set lr=1e6 clip=0 adamw.weight_decay=1000 schedule.warmup=0", 1);
  log_says("a lower lr");
  cr_assert(not(eq(int, count_lines("r/metrics.jsonl"), 400)));
}

/* ---- --profile and --trace */

/* The steps that a trace holds, "3 4 5 "; dies when the file is not JSON. */
static void traced_steps(const char *name, char out[256]) {
  json_error_t why;
  json_t *root = json_load_file(in(&dir, name), JSON_REJECT_DUPLICATES, &why), *v;
  cr_assert(ne(ptr, root, NULL), "%s:%d: %s", name, why.line, why.text);
  size_t i;
  int n = 0, at = 0;
  out[0] = 0;
  json_array_foreach(json_object_get(root, "traceEvents"), i, v) {
    const char *what = json_string_value(json_object_get(v, "name"));
    if (what && sscanf(what, "step %d", &at) == 1) n += snprintf(out + n, (size_t)(256 - n), "%d ", at);
  }
  json_decref(root);
}

Test(train, a_profile_changes_nothing) {
  char steps[256];
  run("--data DIR/data --run DIR/a --threads 2 --set checkpoint.every=15", 0);
  run("--data DIR/data --run DIR/b --threads 2 --set checkpoint.every=15 --profile --trace DIR/t.json --trace-steps 5",
      0);
  log_says("profile of 39 steps of ");
  log_says("bigram.yaml:1");
  log_says("trace: ");
  log_says("evaluation");
  same_losses("a", "b", 40);
  cr_assert(file_same(in(&dir, "a/checkpoints/latest/model.safetensors"),
                      in(&dir, "b/checkpoints/latest/model.safetensors")));
  cr_assert(file_same(in(&dir, "a/checkpoints/latest/optimizer.safetensors"),
                      in(&dir, "b/checkpoints/latest/optimizer.safetensors")));
  traced_steps("t.json", steps);
  cr_assert(eq(str, steps, "36 37 38 39 40 "));
  run("--data DIR/data --run DIR/a --resume --steps 41 --trace=DIR/t.json", 0); /* written over; without a table */
  traced_steps("t.json", steps);
  cr_assert(eq(str, steps, "41 "));
  char *log = file_get(in(&dir, "log"), NULL);
  cr_assert(eq(ptr, strstr(log, "profile of"), NULL), "%s", log);
  free(log);
}

Test(train, a_trace_of_a_run_that_ends_early) {
  char steps[256];
  pid_t pid = start("--data DIR/data --run DIR/r --steps 100000000 --set eval.every=0 --profile --trace DIR/t.json");
  for (int i = 0; i < 1500 && count_lines("r/metrics.jsonl") < 20; i++) usleep(10000);
  kill(pid, SIGINT);
  cr_assert(eq(int, finish(pid), 130));
  log_says("profile of ");
  traced_steps("t.json", steps);
  int a, b, c, n = -1;
  cr_assert(eq(int, sscanf(steps, "%d %d %d %n", &a, &b, &c, &n), 3), "%s", steps);
  cr_assert(a >= 18 && b == a + 1 && c == b + 1 && n > 0 && !steps[n], "%s", steps);

  run("--data DIR/data --run DIR/q --steps 400 --trace DIR/u.json --set lr=1e6 clip=0 adamw.weight_decay=1000 "
      "schedule.warmup=0",
      1);
  log_says("a lower lr");
  traced_steps("u.json", steps);
  cr_assert(ne(int, steps[0], 0));
}

Test(train, a_profile_that_is_not_possible) {
  run("--data DIR/data --grads DIR/g --profile", 2);
  log_says("--profile goes with training");
  run("--val DIR/data/val.bin --init DIR/x --eval-only --trace DIR/t.json", 2);
  log_says("--trace goes with training");
  run("--data DIR/data --run DIR/r --trace-steps 4", 2);
  log_says("--trace-steps needs --trace");
  run("--data DIR/data --run DIR/r --trace DIR/t.json --trace-steps 0", 2);
  log_says("from 1 to 10000");
  run("--data DIR/data --run DIR/r --trace DIR/none/t.json", 2);
  log_says("none/t.json");
  run("--data DIR/data --run DIR/r --trace DIR/data", 2);
  log_says("that is a folder");
  cr_assert(ne(int, access(in(&dir, "r"), F_OK), 0)); /* no mistake has made a run folder */
  run("--data DIR/data --run DIR/r --trace DIR/t.json --trace-steps 10000 --set global_batch=400 --threads 3", 1);
  log_says("--trace-steps 1149 would fit");
}
