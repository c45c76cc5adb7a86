/* ink import: a Hugging Face folder becomes a model file of ours, beside the folder's tokenizer; the weights stay where they
 * are, and their path is written down.
 *
 * Nothing is written before all is known to be right: config.json is mapped (frontend/import.h), the model that comes of it is
 * loaded, and the headers of the weights' files are held against its views. The folder comes from a stranger: its files are
 * read up to a limit, and a link in it is followed only within the folder, or to the blobs of a download cache. */
#include "frontend/import.h"
#include "cli/cli.h"
#include "driver/compile.h"
#include "runtime/weights.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_LIMIT = 1 << 20, COPY_LIMIT = 256 << 20 };

static const char *const carried[] = {"tokenizer.json",
                                      "tokenizer_config.json",
                                      "tokenizer.model",
                                      "vocab.json",
                                      "vocab.txt",
                                      "merges.txt",
                                      "special_tokens_map.json",
                                      "added_tokens.json",
                                      "chat_template.json",
                                      "chat_template.jinja",
                                      "generation_config.json"};

/* The lines of a report as errors. False. */
static bool failed(Report *err) {
  char *rest = err->text;
  for (char *line; (line = strsep(&rest, "\n"));)
    if (*line) cli_error("import: %s", line);
  report_free(err);
  return false;
}

static bool is_within(const char *path, const char *folder) {
  size_t n = strlen(folder);
  return !strncmp(path, folder, n) && path[n] == '/';
}

/* Where the file of the folder really lies, or NULL where there is none that may be read. */
static const char *find_file(Arena *a, const char *folder, const char *name) {
  char real[PATH_MAX], blobs[PATH_MAX];
  const char *path = arena_printf(a, "%s/%s", folder, name);
  struct stat st;
  if (!realpath(path, real) || stat(real, &st) || !S_ISREG(st.st_mode)) return NULL;
  bool cached = realpath(arena_printf(a, "%s/../../blobs", folder), blobs) && is_within(real, blobs);
  if (is_within(real, folder) || cached) return arena_strdup(a, real);
  cli_error("import: %s leads outside of its folder; it is not read", path);
  return NULL;
}

/* ---- the weights */

typedef struct Named {
  const Piece *piece;
} Named;

static int by_tensor(const void *a, const void *b) {
  return strcmp(((const Named *)a)->piece->tensor, ((const Named *)b)->piece->tensor);
}

/* The distinct checkpoint tensors of the model's views, in the order of their names. */
static WeightMap tensors_of(Arena *a, const Model *m) {
  int n = 0;
  for (int i = 0; i < m->nparams; i++) n += m->params[i].npieces;
  Named *all = NEW_ARRAY(a, Named, n + 1);
  WeightMap map = {NEW_ARRAY(a, WeightTensor, n + 1), 0, m->skip};
  n = 0;
  for (int i = 0; i < m->nparams; i++)
    for (int k = 0; k < m->params[i].npieces; k++) all[n++].piece = &m->params[i].pieces[k];
  if (n) qsort(all, (size_t)n, sizeof *all, by_tensor);
  for (int i = 0; i < n; i++) {
    const Piece *p = all[i].piece;
    if (i && !strcmp(p->tensor, all[i - 1].piece->tensor)) continue;
    WeightTensor *t = &map.tensor[map.n++];
    *t = (WeightTensor){.name = p->tensor, .rank = p->hf_rank, .param = -1};
    memcpy(t->dim, p->hf_dim, (size_t)p->hf_rank * sizeof(int64_t));
  }
  return map;
}

static int64_t elements_of(const WeightMap *m) {
  int64_t sum = 0;
  for (int i = 0; i < m->n; i++) {
    int64_t n = 1;
    for (int k = 0; k < m->tensor[i].rank; k++) n *= m->tensor[i].dim[k];
    sum += n;
  }
  return sum;
}

/* ---- writing */

static bool copy_file(Arena *a, const char *folder, const char *to, const char *name, Text *copied, Report *err) {
  const char *path = find_file(a, folder, name);
  if (!path) return true;
  size_t n;
  char *bytes = fs_read(path, COPY_LIMIT, &n, err);
  bool ok = bytes && fs_replace(to, name, bytes, n, err);
  free(bytes);
  if (ok) text_add(copied, "%s%s", copied->n ? ", " : "", name);
  return ok;
}

static bool is_empty(const char *dir, Report *err) {
  FsList files = {0};
  bool ok = !fs_exists(dir) ||
            (fs_list_dir(&files, dir, err) && (!files.n || report_add(err, "%s is not empty; give a new folder", dir)));
  fs_list_free(&files);
  return ok;
}

/* model.yaml comes last: where it is, all is. */
static bool write_folder(Arena *a, const char *folder, const char *to, const char *text, Text *copied) {
  Report err = {0};
  bool ok = is_empty(to, &err) && fs_mkdirs(to, &err);
  for (int i = 0; ok && i < LEN(carried); i++) ok = copy_file(a, folder, to, carried[i], copied, &err);
  ok = ok && fs_replace(to, "model.yaml", text, strlen(text), &err);
  return ok || failed(&err);
}

static bool read_config(Arena *a, Diags *d, const char *folder, const char *name, bool must, uint32_t *file) {
  const char *path = find_file(a, folder, name);
  if (path) return diags_read(d, path, CONFIG_LIMIT, file);
  return !must || diag_error(d, (Span){0}, "%s holds no %s that can be read", folder, name);
}

/* ---- all of it */

/* The config and the weights of the folder, read as one model. */
static bool read_model(Arena *a, Diags *d, const ImportSource *src, Import *imported, WeightMap *map, Report *err) {
  if (!import_config(a, d, src, imported)) return false;
  ModelOptions opt = {.batch = 1, .models = src->models, .text = imported->text};
  const Model *m = model_load(a, d, "the imported model", &opt);
  if (!m) return false;
  *map = tensors_of(a, m);
  return weights_check(map, src->weights, err);
}

static bool import_folder(Arena *a, Diags *d, const char *folder, const char *to) {
  ImportSource src = {.models = place_models(a), .weights = folder, .name = strrchr(folder, '/') + 1};
  Import imported;
  WeightMap map;
  Report err = {0}, ignored = {0};
  if (!src.models) return diag_error(d, (Span){0}, "the folder of shipped models is not there");
  if (!read_config(a, d, folder, "config.json", true, &src.config) ||
      !read_config(a, d, folder, "generation_config.json", false, &src.generation))
    return false;
  bool ok = read_model(a, d, &src, &imported, &map, &err);
  if (!ok && err.n && imported.prefixed) { /* if it is not that, the first errors are the ones to show */
    src.bare = true;
    ok = read_model(a, d, &src, &imported, &map, &ignored);
    report_free(&ignored);
  }
  if (!ok) return failed(&err);
  report_free(&err);
  Text out = {0}, copied = {0};
  if (!write_folder(a, folder, to, imported.text, &copied)) return text_free(&copied), false;
  text_add(&out, "%s is %s: %s, %d tensors of %" PRId64 " parameters\n", folder, imported.architecture, imported.base,
           map.n, elements_of(&map));
  if (imported.nunmapped) text_add(&out, "not mapped, so make sure that the model computes the same without:\n");
  for (int i = 0; i < imported.nunmapped; i++) text_add(&out, "  %s\n", imported.unmapped[i]);
  text_add(&out, "copied: %s\n%s/model.yaml is the model; its programs read the weights with --init %s\n",
           copied.n ? copied.s : "nothing, there is no tokenizer", to, folder);
  Text clean = {0};
  text_write_clean(&clean, out.s, out.n);
  fwrite(clean.s, 1, clean.n, stdout);
  text_free(&out), text_free(&copied), text_free(&clean);
  return true;
}

static int run(Args *a) {
  const char *to = args_get(a, "-o"), *from = a->operand[0];
  char real[PATH_MAX];
  if (!from || !to) {
    cli_error("import: %s; usage: ink import %s", from ? "where to? give -o DIR" : "which folder?", a->command->usage);
    return EXIT_USAGE;
  }
  if (!realpath(from, real) || !fs_is_dir(real)) {
    cli_error("import: %s is no folder that can be read", from);
    return EXIT_FAILED;
  }
  Diags *d = diags_new(a->arena);
  bool ok = import_folder(a->arena, d, real, to);
  if (!ok) cli_diags(d);
  return ok ? EXIT_OK : EXIT_FAILED;
}

static const Option options[] = {
    {"-o", "DIR", false, "a new or empty folder: model.yaml and the tokenizer's files go there"},
};

const Command cmd_import = {
    .name = "import",
    .usage = "HF_DIR -o DIR",
    .summary = "a Hugging Face checkpoint to a model file",
    .doc =
        "Reads HF_DIR/config.json by the shipped model of its architecture, checks that the weights' files hold every\n"
        "tensor of the model in its shape and no other, and writes DIR/model.yaml. The weights stay in HF_DIR, and\n"
        "DIR/model.yaml names it; the tokenizer's files and generation_config.json are copied. Keys of config.json "
        "that\n"
        "are not mapped are listed; what is not supported is an error.",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .run = run,
};
