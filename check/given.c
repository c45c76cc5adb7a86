/* Values of inputs from safetensors files: a batch that went wrong, a checkpoint, what a shrunk module came with.
 *
 * A tensor is the input of its name (layer.0.wq, tokens; m.layer.0.wq in a checkpoint's optimizer.safetensors). With a
 * model, its params are also put together from checkpoint tensors through their views, as `--init` of a program does.
 * Files stay mapped and are read when asked, so a child process pays for what it uses. While a module shrinks its inputs
 * become smaller than their tensors; they get the corner at the origin. */
#include "check/check.h"
#include "driver/compile.h"
#include "runtime/safetensors.h"
#include <inttypes.h>
#include <string.h>

typedef struct Found {
  const char *path; /* of its file */
  const char *dtype;
  const SafeFile *file; /* NULL: data */
  const SafeTensor *tensor;
  const float *data;
  int rank;
  int64_t dim[SAFE_RANK];
} Found;

typedef struct Made { /* a param put together from checkpoint tensors */
  const char *name;
  Found found;
} Made;

struct Given {
  SafeFile **file;
  int nfiles, cap_files;
  Made *made;
  int nmade;
};

/* What a Report says as diagnostics. */
static bool reported(Diags *d, Report *r) {
  for (char *line = r->text; line && *line;) {
    size_t n = strcspn(line, "\n");
    diag_error(d, (Span){0}, "%.*s", (int)n, line);
    line += n + (line[n] == '\n');
  }
  report_free(r);
  return false;
}

static const SafeTensor *find(const Given *g, const char *name, const SafeFile **file) {
  for (int i = 0; i < g->nfiles; i++) {
    const SafeTensor *t = safe_find(g->file[i], name);
    *file = g->file[i];
    if (t) return t;
  }
  return NULL;
}

static bool found(const Given *g, const char *name, Found *f) {
  for (int i = 0; i < g->nmade; i++)
    if (!strcmp(g->made[i].name, name)) return *f = g->made[i].found, true;
  const SafeFile *file;
  const SafeTensor *t = find(g, name, &file);
  if (!t) return false;
  *f = (Found){.path = file->path, .dtype = t->dtype, .file = file, .tensor = t, .rank = t->rank};
  memcpy(f->dim, t->dim, sizeof t->dim);
  return true;
}

/* ---- a checkpoint's tensors to params */

static bool same_shape(const SafeTensor *t, int rank, const int64_t *dim) {
  return t->rank == rank && !memcmp(t->dim, dim, (size_t)rank * sizeof *dim);
}

static const char *shape_text(Arena *a, int rank, const int64_t *dim) {
  Text t = {0};
  text_add(&t, "[");
  for (int i = 0; i < rank; i++) text_add(&t, "%s%" PRId64, i ? ", " : "", dim[i]);
  text_add(&t, "]");
  const char *s = arena_strdup(a, t.s);
  text_free(&t);
  return s;
}

static void copy_piece(const Piece *p, const float *image, float *w) {
  int64_t at[MAX_RANK] = {0};
  for (;;) {
    int64_t to = p->start, from = p->base;
    for (int k = 0; k < p->rank; k++) to += at[k] * p->pstride[k], from += at[k] * p->stride[k];
    w[to] = image[from];
    int k = p->rank - 1;
    while (k >= 0 && ++at[k] == p->dim[k]) at[k--] = 0;
    if (k < 0) return;
  }
}

/* false: errors. A param none of whose tensors is there is not given. */
static bool make_param(Given *g, Arena *a, Diags *d, const ModelParam *p, Type type) {
  const SafeFile *file = NULL;
  const SafeTensor *t = NULL;
  int there = 0;
  const char *missing = NULL;
  for (int k = 0; k < p->npieces; k++)
    if (find(g, p->pieces[k].tensor, &file))
      there++;
    else
      missing = p->pieces[k].tensor;
  if (!there) return true;
  if (missing)
    return diag_error(d, (Span){0}, "param '%s' needs the tensor '%s', which is in no file", p->name, missing);
  float *w = NEW_ARRAY(a, float, type_elements(type));
  for (int k = 0; k < p->npieces; k++) {
    const Piece *c = &p->pieces[k];
    t = find(g, c->tensor, &file);
    int64_t own[MAX_RANK];
    for (int i = 0; i < type.rank; i++) own[i] = type.dim[i].n;
    if (!strcmp(c->tensor, p->name) && same_shape(t, type.rank, own)) return true; /* as the graph has it */
    if (!same_shape(t, c->hf_rank, c->hf_dim))
      return diag_error(d, (Span){0}, "%s: tensor '%s' is %s; the model has %s", file->path, c->tensor,
                        shape_text(a, t->rank, t->dim), shape_text(a, c->hf_rank, c->hf_dim));
    if (!safe_is_float(t))
      return diag_error(d, (Span){0}, "%s: tensor '%s' is %s; for a param F32, BF16 and F16 are read", file->path,
                        c->tensor, t->dtype);
    Arena *tmp = arena_new();
    float *image = NEW_ARRAY(tmp, float, t->elements + 1);
    safe_read(file, t, 0, t->elements, image);
    copy_piece(c, image, w);
    arena_free(tmp);
  }
  Made *m = &g->made[g->nmade++];
  *m = (Made){p->name, {.path = file->path, .dtype = "F32", .data = w, .rank = type.rank}};
  for (int i = 0; i < type.rank; i++) m->found.dim[i] = type.dim[i].n;
  return true;
}

static bool make_params(Given *g, Arena *a, Diags *d, const Model *m) {
  const Graph *forward = module_find(m->mod, "forward");
  bool ok = true;
  g->made = NEW_ARRAY(a, Made, m->nparams + 1);
  for (int i = 0; i < m->nparams; i++) {
    const Input *in = graph_find_input(forward, m->params[i].name);
    if (in) ok = make_param(g, a, d, &m->params[i], val_type(forward, in->val)) && ok;
  }
  return ok;
}

/* ---- opening */

static bool open_file(Given *g, Arena *a, const char *path, Report *err) {
  SafeFile *f = safe_open(path, err);
  if (f) PUSH(a, g->file, g->nfiles, g->cap_files, f);
  return f != NULL;
}

static bool open_folder(Given *g, Arena *a, const char *dir, Report *err) {
  FsList names = {0};
  bool ok = fs_list_dir(&names, dir, err);
  fs_list_sort(&names);
  for (int i = 0; i < names.n; i++) {
    const char *dot = strrchr(names.name[i], '.');
    if (dot && !strcmp(dot, ".safetensors"))
      ok = open_file(g, a, arena_printf(a, "%s/%s", dir, names.name[i]), err) && ok;
  }
  if (ok && !g->nfiles) ok = report_add(err, "%s holds no .safetensors file", dir);
  fs_list_free(&names);
  return ok;
}

Given *given_open(Arena *a, Diags *d, const char *path, const Model *m) {
  Given *g = NEW(a, Given);
  Report err = {0};
  bool ok = (fs_is_dir(path) ? open_folder : open_file)(g, a, path, &err) || reported(d, &err);
  if (ok && (!m || make_params(g, a, d, m))) return g;
  given_close(g);
  return NULL;
}

void given_close(Given *g) {
  for (int i = 0; g && i < g->nfiles; i++) safe_close(g->file[i]);
  if (g) g->nfiles = 0;
}

/* ---- reading */

static bool whole(DType dt) {
  return dt == DT_i32 || dt == DT_i8;
}

static int integer_bytes(const char *dtype) {
  static const char *const names[] = {"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"};
  for (int i = 0; i < LEN(names); i++)
    if (!strcmp(names[i], dtype)) return 1 << i / 2;
  return 0;
}

static bool kind_fits(const Found *f, const Input *in, DType dt, Diags *d) {
  if (whole(dt) ? integer_bytes(f->dtype) > 0 : !f->tensor || safe_is_float(f->tensor)) return true;
  return diag_error(d, (Span){0}, "%s: tensor '%s' is %s; the input is %s, for which %s are read", f->path, in->name,
                    f->dtype, dtype_name[dt], whole(dt) ? "I8 to I64" : "F32, BF16 and F16");
}

bool given_fits(const Given *g, const Graph *graph, Diags *d, int *named) {
  bool ok = true;
  *named = 0;
  for (int i = 0; i < graph->ninputs; i++) {
    const Input *in = &graph->inputs[i];
    Type t = val_type(graph, in->val);
    Found f;
    if (!found(g, in->name, &f)) continue;
    ++*named;
    bool same = f.rank == t.rank;
    int64_t dim[MAX_RANK];
    for (int k = 0; k < t.rank; k++) {
      dim[k] = t.dim[k].n;
      same = same && (t.dim[k].sym ? f.dim[k] <= dim[k] : f.dim[k] == dim[k]);
    }
    if (!same)
      ok = diag_error(d, (Span){0}, "%s: tensor '%s' is %s; the input is %s", f.path, in->name,
                      shape_text(d->arena, f.rank, f.dim), shape_text(d->arena, t.rank, dim));
    else
      ok = kind_fits(&f, in, t.dt, d) && ok;
  }
  return ok;
}

/* n whole numbers from `first` on; false: one needs more than 32 bits. */
static bool read_integers(const Found *f, int64_t first, int64_t n, int32_t *out) {
  int bytes = integer_bytes(f->dtype);
  bool sign = f->dtype[0] == 'I';
  const unsigned char *at = f->file->data + f->tensor->begin + first * bytes;
  for (int64_t i = 0; i < n; i++, at += bytes) {
    uint64_t u = 0;
    for (int k = 0; k < bytes; k++) u |= (uint64_t)at[k] << 8 * k;
    if (sign && bytes < 8 && u >> (8 * bytes - 1)) u |= ~(uint64_t)0 << 8 * bytes;
    out[i] = (int32_t)(uint32_t)u;
    if ((uint64_t)(int64_t)out[i] != u) return false;
  }
  return true;
}

bool given_read(const Given *g, const Input *in, EvalMode mode, Diags *d, Tensor *t) {
  Found f;
  if (!found(g, in->name, &f)) return false;
  bool inside = f.rank == t->type.rank;
  for (int i = 0; i < t->type.rank && inside; i++) inside = t->type.dim[i].n <= f.dim[i];
  if (!inside)
    return diag_error(d, (Span){0}, "%s: tensor '%s' is %s, too small for the input", f.path, in->name,
                      shape_text(d->arena, f.rank, f.dim));
  if (!kind_fits(&f, in, t->type.dt, d)) return false;
  int64_t n = type_elements(t->type), row = f.rank ? t->type.dim[f.rank - 1].n : 1, at[SAFE_RANK] = {0};
  Arena *tmp = arena_new();
  float *x = NEW_ARRAY(tmp, float, row + 1);
  int32_t *z = NEW_ARRAY(tmp, int32_t, row + 1);
  bool ok = true;
  for (int64_t to = 0; to < n && ok; to += row) {
    int64_t from = 0;
    for (int k = 0; k < f.rank; k++) from = from * f.dim[k] + at[k];
    if (whole(t->type.dt))
      ok = read_integers(&f, from, row, z) ||
           diag_error(d, (Span){0}, "%s: tensor '%s' holds a number of more than 32 bits", f.path, in->name);
    else if (f.data)
      memcpy(x, f.data + from, 4 * (size_t)row);
    else
      safe_read(f.file, f.tensor, from, row, x);
    for (int64_t i = 0; i < row && ok; i++)
      tensor_set(t, mode, to + i, whole(t->type.dt) ? (double)z[i] : (double)x[i]);
    int k = f.rank - 2;
    while (k >= 0 && ++at[k] == t->type.dim[k].n) at[k--] = 0;
  }
  arena_free(tmp);
  return ok;
}

/* ---- writing */

typedef struct Wanted {
  SafeItem *item;
  const Input **input; /* each name once */
  Type *type;
  int n;
} Wanted;

static Wanted wanted(const Given *g, const Module *m, Arena *a) {
  int most = 0;
  for (int i = 0; i < m->ngraphs; i++) most += m->graphs[i]->ninputs;
  Wanted w = {NEW_ARRAY(a, SafeItem, most + 1), NEW_ARRAY(a, const Input *, most + 1), NEW_ARRAY(a, Type, most + 1), 0};
  for (int i = 0; i < m->ngraphs; i++)
    for (int k = 0; k < m->graphs[i]->ninputs; k++) {
      const Input *in = &m->graphs[i]->inputs[k];
      Type t = val_type(m->graphs[i], in->val);
      Found f;
      bool known = !found(g, in->name, &f);
      for (int j = 0; j < w.n; j++) known = known || !strcmp(w.input[j]->name, in->name);
      if (known) continue;
      int64_t *dim = NEW_ARRAY(a, int64_t, MAX_RANK);
      for (int j = 0; j < t.rank; j++) dim[j] = t.dim[j].n = t.dim[j].n < f.dim[j] ? t.dim[j].n : f.dim[j];
      w.item[w.n] = (SafeItem){in->name, t.rank, dim, whole(t.dt) ? "I32" : "F32"};
      w.input[w.n] = in;
      w.type[w.n++] = t;
    }
  return w;
}

bool given_write(const Given *g, const Module *m, const char *path, Diags *d, int *n) {
  Arena *a = arena_new();
  Report err = {0};
  Wanted w = wanted(g, m, a);
  const char *slash = strrchr(path, '/'), *dir = slash ? arena_strndup(a, path, (size_t)(slash - path) + 1) : ".";
  FsWriter *out = fs_writer_replace(dir, slash ? slash + 1 : path, &err);
  bool ok = out && safe_write_header(out, w.item, w.n, NULL, NULL, &err);
  for (int i = 0; i < w.n && ok; i++)
    for (int k = 0; k < w.n && ok; k++) { /* the header's order is its own */
      if (strcmp(w.input[k]->name, w.item[i].name)) continue;
      Tensor t = tensor_new(a, w.type[k], EVAL_EXACT);
      if ((ok = given_read(g, w.input[k], EVAL_EXACT, d, &t)))
        fs_writer_add(out, t.data, 4 * (size_t)type_elements(t.type));
    }
  if (out && !fs_writer_close(out, NULL, &err)) ok = false;
  if (err.n) ok = reported(d, &err);
  arena_free(a);
  *n = w.n;
  return ok;
}
