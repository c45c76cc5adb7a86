/* ink train: build, then run, in one. The program is kept beside the run folder (RUN.program), so that it can be run again;
 * this process becomes it, so signals and the exit status are the program's own.
 *
 * Data that was prepared by `ink data prepare` knows the size of its vocabulary; a model with a dimension `vocab` gets it
 * unless the user set one. */
#include "cli/compile.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool user_sets_vocab(const Compile *c) {
  for (int i = 0; i < c->nsets; i++)
    if (!strncmp(c->sets[i], "dims.vocab=", 11)) return true;
  return false;
}

/* vocab_size of DIR/meta.json, or 0. Data in foreign formats has no such file, and that is fine. */
static int64_t data_vocab(Arena *a, const char *data) {
  enum { META_LIMIT = 1 << 20 }; /* as the program that reads it next (runtime/loader.c) */
  const char *path = arena_printf(a, "%s/meta.json", data);
  struct stat st;
  if (stat(path, &st) || !S_ISREG(st.st_mode)) return 0;
  uint32_t file;
  json_error_t err;
  Diags *ignored = diags_new(a); /* what is wrong with it, the program says */
  if (!diags_read(ignored, path, META_LIMIT, &file)) return 0;
  const Source *s = &ignored->sources[file - 1];
  json_t *meta = json_loadb(s->text, s->n, JSON_REJECT_DUPLICATES, &err);
  int64_t n = json_integer_value(json_object_get(meta, "vocab_size"));
  json_decref(meta);
  return n > 0 ? n : 0;
}

/* Has the model a dimension `vocab`? Looked up in its effective text, under dims. */
static bool model_has_vocab(const char *effective) {
  const char *dims = effective ? strstr(effective, "dims:") : NULL;
  for (const char *line = dims ? strchr(dims, '\n') : NULL; line && line[1] == ' '; line = strchr(line + 1, '\n')) {
    const char *key = line + 1 + strspn(line + 1, " ");
    if (!strncmp(key, "vocab:", 6)) return true;
  }
  return dims && !strncmp(dims, "dims: {", 7) && strstr(dims, "vocab:") && strstr(dims, "vocab:") < strchr(dims, '}');
}

/* --set lr=... belongs to the run; what needs a build stays here. */
static void split_sets(Compile *c, const char **argv, int *n) {
  int kept = 0;
  for (int i = 0; i < c->nsets; i++) {
    const char *eq = strchr(c->sets[i], '=');
    const char *key = arena_strndup(c->arena, c->sets[i], (size_t)(eq - c->sets[i]));
    bool known = train_key(key) >= 0;
    if (known && !train_check(c->arena, key, eq + 1, true)) {
      argv[(*n)++] = "--set";
      argv[(*n)++] = c->sets[i];
    } else {
      c->sets[kept++] = c->sets[i];
    }
  }
  c->nsets = kept;
}

static int failed(Compile *c) {
  cli_diags(c->diags);
  compile_free(c);
  return EXIT_FAILED;
}

/* An imported model starts from its checkpoint, unless the user says what else to start from. NULL: it does not. */
static const char *weights_of(const Compile *c, const Args *a) {
  for (int i = 0; i < a->nrest; i++)
    if (!strncmp(a->rest[i], "--init", 6) || !strcmp(a->rest[i], "--resume")) return NULL;
  return compile_weights(c);
}

static int run(Args *a) {
  Compile c;
  const char *data = args_get(a, "--data"), *folder = args_get(a, "--run");
  if (!compile_options(&c, a, a->operand[0])) return EXIT_USAGE;
  if (!data || !folder) {
    cli_error("train: give %s",
              data ? "--run DIR, a new folder for the run" : "--data DIR, as ink data prepare writes it");
    return EXIT_USAGE;
  }
  const char **argv = NEW_ARRAY(a->arena, const char *, a->nrest + 2 * c.nsets + 10);
  int n = 1;
  split_sets(&c, argv, &n);
  argv[n++] = "--data";
  argv[n++] = data;
  argv[n++] = "--run";
  argv[n++] = folder;
  for (int i = 0; i < a->nrest; i++) argv[n++] = a->rest[i];
  if (access(data, R_OK) && !strpbrk(data, "*?[")) {
    cli_error("train: cannot read %s: %s", data, strerror(errno));
    return EXIT_FAILED;
  }
  int64_t vocab = user_sets_vocab(&c) ? 0 : data_vocab(a->arena, data);
  if (vocab) {
    Compile probe = c;
    if (!compile_run(&probe, STAGE_SOURCE)) return failed(&probe);
    if (model_has_vocab(probe.model->effective)) {
      PUSH(c.arena, c.sets, c.nsets, c.cap_sets, arena_printf(c.arena, "dims.vocab=%" PRId64, vocab));
      printf("%s has %" PRId64 " tokens: --set dims.vocab=%" PRId64 "\n", data, vocab, vocab);
    }
  }
  const char *path = arena_printf(a->arena, "%s.program", folder);
  size_t end = strlen(folder);
  while (end > 1 && folder[end - 1] == '/') end--;
  path = arena_printf(a->arena, "%.*s.program", (int)end, folder);
  if (!cli_make_parents(a->arena, path)) {
    cli_error("train: cannot make the folder of %s: %s", path, strerror(errno));
    return EXIT_FAILED;
  }
  if (!build_program(&c, path, NULL, false, false)) return failed(&c);
  const char *weights = weights_of(&c, a);
  if (weights) {
    printf("starts from %s\n", weights);
    argv[n++] = "--init";
    argv[n++] = weights;
  }
  argv[0] = strchr(path, '/') ? path : arena_printf(a->arena, "./%s", path);
  fflush(stdout);
  execv(argv[0], (char *const *)argv);
  cli_error("train: cannot run %s: %s", path, strerror(errno));
  return EXIT_FAILED;
}

static const Option options[] = {
    COMPILE_OPTIONS,
    TUNE_OPTIONS,
    {"--data", "DIR|GLOB", false, "training data, as ink data prepare writes it, or llm.c shards"},
    {"--run", "DIR", false, "a new folder for metrics and checkpoints; the program goes to DIR.program"},
};

const Command cmd_train = {
    .name = "train",
    .usage = "MODEL.yaml --data DIR --run DIR [--train TRAIN.yaml] [--set KEY=VALUE ...] [--target TARGET] [options of "
             "the program ...]",
    .summary = "build, then run, in one",
    .doc = "Builds the program as ink build does and runs it. Options that are not listed here go to the program:\n"
           "--steps N, --threads N, --seed S, --init FILE, --resume, --sample N and so on; DIR.program --help lists "
           "them.\n"
           "The vocabulary's size is taken from the data unless --set dims.vocab=N is given.",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .pass_on = "the program",
    .run = run,
};
