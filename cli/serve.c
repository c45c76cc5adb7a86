/* ink serve: from a checkpoint, a run, a model file or an artifact to a server, in one.
 *
 * What has to be made is made by ink itself, `ink import` and `ink build`, into a folder of the cache whose name is a hash of all
 * that goes into it: names, sizes and times of the checkpoint's files, the model file's bytes, options, this ink, this processor. So
 * the second start is at once. A build that was cut off leaves no artifact, and is begun again. This process becomes the artifact. */
#include "artifact/container.h"
#include "cli/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- the key of the cache */

static void key_file(Text *key, const char *path) {
  struct stat st;
  if (stat(path, &st)) return;
  text_add(key, "%s %lld %lld.%09ld\n", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

/* The files of a folder, or a file. */
static bool key_path(Text *key, const char *path) {
  FsList files = {0};
  Report err = {0};
  char real[PATH_MAX];
  if (!realpath(path, real)) {
    cli_error("serve: cannot read %s: %s", path, strerror(errno));
    return false;
  }
  if (!fs_is_dir(real)) {
    key_file(key, real);
    return true;
  }
  bool ok = fs_list_dir(&files, real, &err);
  fs_list_sort(&files);
  for (int i = 0; i < files.n; i++) {
    char file[FS_PATH];
    if (fs_join(file, real, files.name[i], &err)) key_file(key, file);
  }
  fs_list_free(&files);
  if (!ok) cli_error("serve: %.*s", (int)err.n - 1, err.text);
  report_free(&err);
  return ok;
}

/* A model file, and its neighbours, which it may be based on. */
static bool key_model(Text *key, const char *path) {
  char dir[FS_PATH], glob[FS_PATH];
  FsList files = {0};
  Report err = {0};
  text_add(key, "model %s\n", path);
  bool ok = fs_split(path, dir, &err) && fs_join(glob, dir, "*.yaml", &err) && fs_list_glob(&files, glob, &err);
  for (int i = 0; i < files.n; i++) key_file(key, files.name[i]);
  if (fs_exists(path)) key_file(key, path); /* else the name of a shipped model */
  if (!ok) cli_error("serve: %.*s", (int)err.n - 1, err.text);
  fs_list_free(&files);
  report_free(&err);
  return ok;
}

/* $XDG_CACHE_HOME/inkstone/serve, or ~/.cache/inkstone/serve. */
static const char *cache_root(Arena *a) {
  const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (cache && *cache == '/') return arena_printf(a, "%s/inkstone/serve", cache);
  return home && *home == '/' ? arena_printf(a, "%s/.cache/inkstone/serve", home) : NULL;
}

/* ---- making what is not there */

/* `ink WORDS...`, its output as it is. */
static bool run_ink(const char *const *words) {
  char self[PATH_MAX];
  const char *argv[64] = {self};
  int n = 1, status;
  pid_t pid;
  if (!realpath("/proc/self/exe", self)) {
    cli_error("serve: cannot find ink itself: %s", strerror(errno));
    return false;
  }
  while (*words && n < LEN(argv) - 1) argv[n++] = *words++;
  int err = posix_spawn(&pid, self, NULL, NULL, (char *const *)(uintptr_t)argv, environ);
  if (err) {
    cli_error("serve: cannot start %s: %s", self, strerror(err));
    return false;
  }
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* What a path is, and what the artifact is made from. */
typedef struct Made {
  const char *model;     /* a model file; NULL: it is imported from the weights' folder */
  const char *weights;   /* a checkpoint */
  const char *tokenizer; /* NULL: the weights' own */
} Made;

static const char *const passed[] = {"--dtype", "--max-batch", "--max-tokens", "--ctx", "--target", "--set"};

static bool make(const Args *a, const Made *m, const char *folder, const char *artifact) {
  const char *words[64] = {"build", m->model}, *imported = arena_printf(a->arena, "%s/import", folder);
  int n = 2;
  if (!m->model) {
    words[1] = arena_printf(a->arena, "%s/model.yaml", imported);
    if (!fs_exists(words[1]) && !run_ink((const char *const[]){"import", m->weights, "-o", imported, NULL}))
      return false;
  }
  const char *fixed[] = {"--for", "infer", "--weights", m->weights, "-o", artifact};
  for (int i = 0; i < LEN(fixed); i++) words[n++] = fixed[i];
  if (m->tokenizer) words[n++] = "--tokenizer", words[n++] = m->tokenizer;
  for (int i = 0; i < LEN(passed); i++) {
    const char *value;
    for (int k = 0; n < LEN(words) - 3 && (value = args_at(a, passed[i], k)); k++)
      words[n++] = passed[i], words[n++] = value;
  }
  return run_ink(words);
}

/* The checkpoint that an imported model's file names. */
static const char *named_weights(const Args *a, const char *model) {
  Compile c = {.arena = a->arena,
               .diags = diags_new(a->arena),
               .model_path = model,
               .models = place_models(a->arena),
               .target_name = "cpu:native",
               .infer = true};
  const char *set;
  for (int i = 0; (set = args_at(a, "--set", i)); i++) PUSH(c.arena, c.sets, c.nsets, c.cap_sets, set);
  bool ok = true;
  for (int i = 0; i < c.nsets; i++) ok = ok && strchr(c.sets[i], '=');
  if (!ok) cli_error("--set takes KEY=VALUE");
  if (!ok || !compile_run(&c, STAGE_SOURCE)) {
    cli_diags(c.diags);
    return NULL;
  }
  const char *path = compile_weights(&c);
  if (!path) cli_error("serve: a model file needs --weights FILE|DIR");
  return path;
}

static bool sort_out(const Args *a, const char *path, Made *m) {
  const char *weights = args_get(a, "--weights");
  *m = (Made){.tokenizer = args_get(a, "--tokenizer")};
  if (!fs_is_dir(path)) {
    m->model = path;
    if (!weights && !(weights = named_weights(a, path))) return false;
    m->weights = artifact_weights(a->arena, weights);
    return true;
  }
  m->weights = artifact_weights(a->arena, path);
  const char *model = arena_printf(a->arena, "%s/model.yaml", m->weights); /* a run's checkpoint has its model */
  if (fs_exists(model)) m->model = model;
  if (weights)
    cli_error("serve: %s is a checkpoint's folder, which has its weights; --weights goes with a model file", path);
  return !weights;
}

static bool key_of(const Args *a, const Made *m, Text *key) {
  Target t;
  Diags *d = diags_new(a->arena);
  const char *target = args_get(a, "--target");
  if (!target_resolve(a->arena, d, target ? target : "cpu:native", &t)) {
    cli_diags(d);
    return false;
  }
  text_add(key, "ink %s for %s %s\n", INK_VERSION, t.name, t.features);
  for (int i = 0; i < LEN(passed); i++) {
    const char *value;
    for (int k = 0; (value = args_at(a, passed[i], k)); k++) text_add(key, "%s %s\n", passed[i], value);
  }
  return key_path(key, "/proc/self/exe") && (!m->model || key_model(key, m->model)) && key_path(key, m->weights) &&
         (!m->tokenizer || key_path(key, m->tokenizer));
}

/* The artifact of the cache, made if it is not there. One process at a time makes it. */
static const char *find_or_make(const Args *a, const char *path) {
  Made m;
  Text key = {0};
  Report err = {0};
  const char *root = cache_root(a->arena), *found = NULL;
  if (!root) {
    cli_error("serve: there is no folder for the cache: XDG_CACHE_HOME and HOME are not set");
    return NULL;
  }
  if (!sort_out(a, path, &m) || !key_of(a, &m, &key)) {
    text_free(&key);
    return NULL;
  }
  const char *folder = arena_printf(a->arena, "%s/%016llx", root, (unsigned long long)hash64(key.s, key.n));
  const char *artifact = arena_printf(a->arena, "%s/artifact", folder),
             *lock = arena_printf(a->arena, "%s/.lock", folder);
  text_free(&key);
  int fd = fs_mkdirs(folder, &err) ? open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
  if (fd < 0) {
    if (err.lines)
      cli_error("serve: %.*s", (int)err.n - 1, err.text);
    else
      cli_error("serve: cannot write %s: %s", lock, strerror(errno));
  } else {
    while (flock(fd, LOCK_EX) && errno == EINTR) {
    }
    if (args_get(a, "--rebuild")) unlink(artifact);
    if (artifact_is(artifact) || make(a, &m, folder, artifact)) found = artifact;
    close(fd);
  }
  report_free(&err);
  return found;
}

static int run(Args *a) {
  const char *path = a->operand[0], *artifact = path;
  if (!path) {
    cli_error("serve: what? usage: ink serve %s", a->command->usage);
    return EXIT_USAGE;
  }
  if (!artifact_is(path) && !(artifact = find_or_make(a, path))) return EXIT_FAILED;
  if (artifact == path && (args_get(a, "--weights") || args_get(a, "--tokenizer"))) {
    cli_error("serve: %s is an artifact, which has its weights and tokenizer", path);
    return EXIT_USAGE;
  }
  const char **argv = NEW_ARRAY(a->arena, const char *, a->nrest + 3);
  if (!strchr(artifact, '/')) artifact = arena_printf(a->arena, "./%s", artifact);
  argv[0] = artifact;
  argv[1] = "serve";
  memcpy(argv + 2, a->rest, (size_t)a->nrest * sizeof(char *));
  fflush(NULL);
  execv(artifact, (char *const *)(uintptr_t)argv);
  cli_error("serve: cannot run %s: %s", artifact, strerror(errno));
  return EXIT_FAILED;
}

static const Option options[] = {
    ARTIFACT_OPTIONS,
    {"--dtype", "DTYPE", false, "as ink build: f32 or bf16"},
    {"--max-batch", "N", false, "as ink build: sequences at once"},
    {"--max-tokens", "N", false, "as ink build: tokens of a step"},
    {"--ctx", "N", false, "as ink build: positions of a sequence"},
    {"--target", "TARGET", false, "as ink build"},
    {"--set", "KEY=VALUE", true, "as ink build: change the model"},
    {"--rebuild", NULL, false, "build again what the cache has"},
};

const Command cmd_serve = {
    .name = "serve",
    .usage = "HF_DIR|RUN_DIR|MODEL.yaml|ARTIFACT [--weights DIR] [--port N ...]",
    .summary = "the OpenAI API for a checkpoint, a run, a model or an artifact",
    .doc =
        "Imports and builds what is needed into the cache ($XDG_CACHE_HOME/inkstone/serve), then becomes ARTIFACT "
        "serve, which gets\n"
        "all other options: --host, --port, --api-key-file and what ARTIFACT serve --help lists.\n"
        "MODEL.yaml needs --weights. What was built before is used again as long as nothing that went into it changed.",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .pass_on = "ARTIFACT serve",
    .run = run,
};
