/* Parameters and checkpoint tensors.
 *
 * A parameter is a set of pieces; a piece is a block of the parameter whose elements lie in a checkpoint tensor at
 * base + sum i_k * stride[k]. Reading gathers, writing scatters, with the same numbers. A tensor is staged whole in
 * memory only when it is not simply a parameter; elements that no piece covers are written as 0.
 *
 * Loading happens in two sweeps: first every tensor is checked, then all are read. Nothing of a checkpoint with a fault
 * ever reaches a parameter. */
#include "runtime/weights.h"
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int find_tensor(const WeightMap *m, const char *name) {
  for (int i = 0; i < m->n; i++)
    if (!strcmp(m->tensor[i].name, name)) return i;
  return -1;
}

/* The parameter and the tensor hold the same elements in the same order. */
static bool is_whole(const ProgramPiece *c, int64_t elements) {
  int64_t dense = 1, whole = 1;
  for (uint32_t k = 0; k < c->hf_rank; k++) whole *= c->hf_dim[k];
  if (whole != elements || c->start || c->base) return false;
  for (int k = (int)c->rank - 1; k >= 0; k--) {
    if (c->dim[k] > 1 && (c->pstride[k] != dense || c->stride[k] != dense)) return false;
    dense *= c->dim[k];
  }
  return dense == elements;
}

bool weights_map(const Program *p, WeightMap *m, Report *err) {
  *m = (WeightMap){calloc((size_t)(p->npieces + p->nparams) + 1, sizeof(WeightTensor)), 0,
                   program_string(p, p->h->skip)};
  if (!m->tensor) return report_add(err, "out of memory");
  for (int i = 0; i < p->nparams; i++) {
    const ProgramParam *q = &p->params[i];
    const ProgramBuffer *b = &p->buffers[q->buffer];
    if (!q->npieces) {
      WeightTensor *t = &m->tensor[m->n++];
      *t = (WeightTensor){.name = program_string(p, b->name), .rank = b->rank, .param = i};
      memcpy(t->dim, b->dim, (size_t)b->rank * sizeof(int64_t));
    }
    for (uint32_t k = q->piece; k < q->piece + q->npieces; k++) {
      const ProgramPiece *c = &p->pieces[k];
      const char *name = program_string(p, c->tensor);
      int at = find_tensor(m, name);
      if (at < 0) {
        WeightTensor *t = &m->tensor[m->n++];
        *t = (WeightTensor){.name = name, .rank = (int)c->hf_rank};
        memcpy(t->dim, c->hf_dim, c->hf_rank * sizeof(int64_t));
        t->param = q->npieces == 1 && is_whole(c, buffer_elements(b)) ? i : -1;
        continue;
      }
      WeightTensor *t = &m->tensor[at];
      t->param = -1;
      if (t->rank != (int)c->hf_rank || memcmp(t->dim, c->hf_dim, c->hf_rank * sizeof(int64_t)))
        return report_add(err, "broken program: two shapes of the checkpoint tensor '%s'", name);
    }
  }
  return true;
}

void weights_free(WeightMap *m) {
  free(m->tensor);
  *m = (WeightMap){0};
}

static int64_t tensor_elements(const WeightTensor *t) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; i++) n *= t->dim[i];
  return n;
}

/* Copies one piece between the parameter w and the tensor image t, row by row along the last axis. */
static void copy_piece(const ProgramPiece *c, float *w, float *t, bool to_tensor) {
  int rank = (int)c->rank;
  int64_t at[PROGRAM_RANK] = {0}, last = rank ? c->dim[rank - 1] : 1;
  int64_t ps = rank ? c->pstride[rank - 1] : 0, ts = rank ? c->stride[rank - 1] : 0;
  for (;;) {
    int64_t pi = c->start, ti = c->base;
    for (int k = 0; k < rank - 1; k++) pi += at[k] * c->pstride[k], ti += at[k] * c->stride[k];
    if (to_tensor)
      for (int64_t i = 0; i < last; i++) t[ti + i * ts] = w[pi + i * ps];
    else
      for (int64_t i = 0; i < last; i++) w[pi + i * ps] = t[ti + i * ts];
    int k = rank - 2;
    while (k >= 0 && ++at[k] == c->dim[k]) at[k--] = 0;
    if (k < 0) return;
  }
}

/* What stands behind a parameter's view: the parameter, or its gradient. */
static float *view_data(Engine *e, const ProgramParam *q, bool gradient) {
  return engine_buffer(e, (int)(gradient ? q->grad : q->buffer));
}

static void copy_tensor(Engine *e, const char *name, float *t, bool to_tensor, bool gradient) {
  const Program *p = engine_program(e);
  for (int i = 0; i < p->nparams; i++) {
    const ProgramParam *q = &p->params[i];
    for (uint32_t k = q->piece; k < q->piece + q->npieces; k++)
      if (!strcmp(program_string(p, p->pieces[k].tensor), name))
        copy_piece(&p->pieces[k], view_data(e, q, gradient), t, to_tensor);
  }
}

/* ---- loading */

void source_close(WeightSource *s) {
  for (int i = 0; i < s->n; i++) safe_close(s->file[i]);
  free(s->file);
  *s = (WeightSource){0};
}

static bool source_add(WeightSource *s, const char *path, Report *err) {
  SafeFile **grown = realloc(s->file, ((size_t)s->n + 1) * sizeof(*grown));
  if (!grown) return report_add(err, "out of memory");
  s->file = grown;
  SafeFile *f = safe_open(path, err);
  if (!f) return false;
  s->file[s->n++] = f;
  return true;
}

enum { SHARD_LIMIT = 4096 }; /* files of one index: each is compared with those before it, and stays open */

/* The shards that model.safetensors.index.json names; each once. */
static bool source_index(WeightSource *s, const char *dir, const char *index, Report *err) {
  size_t n;
  char *text = fs_read(index, 64u << 20, &n, err);
  if (!text) return false;
  json_error_t e;
  json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
  free(text);
  if (!root) return report_add(err, "%s:%d:%d: %s", index, e.line, e.column, e.text);
  json_t *map = json_object_get(root, "weight_map");
  bool ok = json_object_size(map) > 0 || report_add(err, "%s: no weight_map", index);
  FsList files = {0};
  const char *key;
  json_t *v;
  json_object_foreach(map, key, v) {
    const char *name = json_string_value(v);
    if (!name || !*name || strchr(name, '/') || !strcmp(name, "..")) {
      ok = report_add(err, "%s: the file of tensor '%s' is no file name", index, key);
      break;
    }
    bool known = false;
    for (int i = 0; i < files.n; i++) known = known || !strcmp(files.name[i], name);
    if (known) continue;
    if (files.n == SHARD_LIMIT) {
      ok = report_add(err, "%s: more than %d files", index, SHARD_LIMIT);
      break;
    }
    if (!fs_list_add(&files, name)) ok = report_add(err, "out of memory");
  }
  fs_list_sort(&files);
  for (int i = 0; ok && i < files.n; i++) {
    char path[FS_PATH];
    ok = fs_join(path, dir, files.name[i], err) && source_add(s, path, err);
  }
  fs_list_free(&files);
  json_decref(root);
  return ok;
}

bool source_open(WeightSource *s, const char *path, Report *err) {
  if (!fs_is_dir(path)) return source_add(s, path, err);
  char file[FS_PATH];
  if (!fs_join(file, path, "model.safetensors", err)) return false;
  if (fs_exists(file)) return source_add(s, file, err);
  if (!fs_join(file, path, "model.safetensors.index.json", err)) return false;
  if (fs_exists(file)) return source_index(s, path, file, err);
  return report_add(err, "%s holds neither model.safetensors nor model.safetensors.index.json", path);
}

const SafeTensor *source_find(const WeightSource *s, const char *name, const SafeFile **file) {
  for (int i = 0; i < s->n; i++) {
    const SafeTensor *t = safe_find(s->file[i], name);
    if (t) {
      *file = s->file[i];
      return t;
    }
  }
  return NULL;
}

static const char *shape_text(const int64_t *dim, int rank, char *text, size_t n) {
  size_t at = 0;
  text[at++] = '[';
  for (int i = 0; i < rank && at + 24 < n; i++)
    at += (size_t)snprintf(text + at, n - at, "%s%" PRId64, i ? ", " : "", dim[i]);
  snprintf(text + at, n - at, "]");
  return text;
}

/* Is the name like one of the patterns? */
static bool is_skipped(const char *patterns, const char *name) {
  char one[256];
  for (const char *p = patterns; p && *p; p += strcspn(p, "\n"), p += *p == '\n') {
    size_t n = strcspn(p, "\n");
    if (n >= sizeof(one)) continue;
    memcpy(one, p, n);
    one[n] = 0;
    if (!fnmatch(one, name, 0)) return true;
  }
  return false;
}

bool source_check(const WeightSource *s, const WeightMap *m, const char *path, Report *err) {
  bool ok = true;
  char a[256], b[256];
  for (int i = 0; i < m->n; i++) {
    const WeightTensor *w = &m->tensor[i];
    const SafeFile *f = NULL;
    const SafeTensor *t = source_find(s, w->name, &f);
    if (!t)
      ok = report_add(err, "%s: tensor '%s' %s is missing", path, w->name, shape_text(w->dim, w->rank, a, sizeof(a)));
    else if (t->rank != w->rank || memcmp(t->dim, w->dim, (size_t)w->rank * sizeof(int64_t)))
      ok = report_add(err, "%s: tensor '%s' is %s; the model has %s", f->path, w->name,
                      shape_text(t->dim, t->rank, a, sizeof(a)), shape_text(w->dim, w->rank, b, sizeof(b)));
    else if (!safe_is_float(t))
      ok = report_add(err, "%s: tensor '%s' is %s; F32, BF16 and F16 are read", f->path, w->name, t->dtype);
  }
  for (int i = 0; i < s->n; i++)
    for (int k = 0; k < s->file[i]->n; k++)
      if (find_tensor(m, s->file[i]->tensor[k].name) < 0 && !is_skipped(m->skip, s->file[i]->tensor[k].name))
        ok = report_add(err, "%s: the model has no tensor '%s'", s->file[i]->path, s->file[i]->tensor[k].name);
  return ok;
}

bool weights_check(const WeightMap *m, const char *path, Report *err) {
  WeightSource s = {0};
  bool ok = source_open(&s, path, err) && source_check(&s, m, path, err);
  source_close(&s);
  return ok;
}

bool weights_load(Engine *e, const char *path, Report *err) {
  const Program *p = engine_program(e);
  WeightMap m = {0};
  WeightSource s = {0};
  bool ok = weights_map(p, &m, err) && source_open(&s, path, err) && source_check(&s, &m, path, err);
  for (int i = 0; ok && i < m.n; i++) {
    const WeightTensor *w = &m.tensor[i];
    const SafeFile *f = NULL;
    const SafeTensor *t = source_find(&s, w->name, &f);
    if (w->param >= 0) {
      safe_read(f, t, 0, t->elements, engine_buffer(e, (int)p->params[w->param].buffer));
      continue;
    }
    float *image = malloc((size_t)t->elements * sizeof(float) + 1);
    if (!image)
      ok = report_add(err, "out of memory for tensor '%s'", w->name);
    else {
      safe_read(f, t, 0, t->elements, image);
      copy_tensor(e, w->name, image, false, false);
    }
    free(image);
  }
  source_close(&s);
  weights_free(&m);
  return ok;
}

/* ---- saving */

/* The tensors which[0..n) to a writer, in file order; closes it. */
static bool write_tensors(Engine *e, const WeightMap *m, FsWriter *w, const int *which, int n, bool gradient,
                          const char *key, const char *value, uint64_t *hash, Report *err) {
  const Program *p = engine_program(e);
  SafeItem *items = calloc((size_t)n + 1, sizeof(SafeItem));
  bool ok = items != NULL || report_add(err, "out of memory");
  for (int i = 0; ok && i < n; i++) {
    const WeightTensor *t = &m->tensor[which[i]];
    items[i] = (SafeItem){t->name, t->rank, t->dim};
  }
  ok = ok && safe_write_header(w, items, n, key, value, err);
  for (int i = 0; ok && i < n; i++) {
    const WeightTensor *t = &m->tensor[find_tensor(m, items[i].name)];
    size_t bytes = (size_t)tensor_elements(t) * sizeof(float);
    if (t->param >= 0) {
      fs_writer_add(w, view_data(e, &p->params[t->param], gradient), bytes);
      continue;
    }
    float *image = calloc(1, bytes + 1);
    if (!image)
      ok = report_add(err, "out of memory for tensor '%s'", t->name);
    else {
      copy_tensor(e, t->name, image, true, gradient);
      fs_writer_add(w, image, bytes);
    }
    free(image);
  }
  free(items);
  return fs_writer_close(w, hash, err) && ok;
}

bool weights_save_gradients(Engine *e, const char *dir, const char *name, double loss, Report *err) {
  const Program *p = engine_program(e);
  for (int i = 0; i < p->nparams; i++) {
    const ProgramBuffer *g = &p->buffers[p->params[i].grad], *w = &p->buffers[p->params[i].buffer];
    if (g->dtype != DTYPE_F32 || buffer_elements(g) != buffer_elements(w))
      return report_add(err, "broken program: the gradient of '%s' is not of its shape", program_string(p, w->name));
  }
  WeightMap m = {0};
  bool ok = weights_map(p, &m, err);
  int *which = calloc((size_t)m.n + 1, sizeof(int));
  for (int i = 0; which && i < m.n; i++) which[i] = i;
  FsWriter *w = ok && which ? fs_writer_replace(dir, name, err) : NULL;
  char text[32];
  snprintf(text, sizeof(text), "%.9g", loss);
  ok = w && write_tensors(e, &m, w, which, m.n, true, "loss", text, NULL, err);
  free(which);
  weights_free(&m);
  return ok;
}

static int name_order(const void *a, const void *b) {
  return strcmp((*(const WeightTensor *const *)a)->name, (*(const WeightTensor *const *)b)->name);
}

/* The index as Python's json.dumps(indent=2, sort_keys=True) writes it. shard: by tensor. */
static bool write_index(const WeightMap *m, const char *dir, const int *shard, int shards, WeightsDone done, void *ctx,
                        Report *err) {
  const WeightTensor **sorted = calloc((size_t)m->n + 1, sizeof(*sorted));
  char *text = NULL;
  size_t size = 0;
  FILE *out = sorted ? open_memstream(&text, &size) : NULL;
  if (!out) {
    free(sorted);
    return report_add(err, "out of memory");
  }
  uint64_t total = 0;
  for (int i = 0; i < m->n; i++) {
    sorted[i] = &m->tensor[i];
    total += 4 * (uint64_t)tensor_elements(&m->tensor[i]);
  }
  qsort(sorted, (size_t)m->n, sizeof(*sorted), name_order);
  fprintf(out, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {", total);
  for (int i = 0; i < m->n; i++) {
    json_t *name = json_string(sorted[i]->name);
    char *quoted = name ? json_dumps(name, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    fprintf(out, "%s\n    %s: \"model-%05d-of-%05d.safetensors\"", i ? "," : "", quoted ? quoted : "\"?\"",
            shard[sorted[i] - m->tensor] + 1, shards);
    free(quoted);
    json_decref(name);
  }
  fputs("\n  }\n}\n", out);
  bool ok = !fclose(out) || report_add(err, "out of memory");
  FsWriter *w = ok ? fs_writer_open(dir, "model.safetensors.index.json", err) : NULL;
  uint64_t hash = 0;
  if (w) fs_writer_add(w, text, size);
  ok = w && fs_writer_close(w, &hash, err) && done(ctx, "model.safetensors.index.json", hash);
  free(text);
  free(sorted);
  return ok;
}

bool weights_save(Engine *e, const char *dir, uint64_t shard_bytes, WeightsDone done, void *ctx, Report *err) {
  if (!shard_bytes) shard_bytes = 5ull * 1000 * 1000 * 1000;
  WeightMap m = {0};
  if (!weights_map(engine_program(e), &m, err)) {
    weights_free(&m);
    return false;
  }
  int *shard = calloc((size_t)m.n + 1, sizeof(int)), *which = calloc((size_t)m.n + 1, sizeof(int));
  bool ok = (shard && which) || report_add(err, "out of memory");
  /* Greedy in order: a tensor that does not fit opens the next shard. */
  int shards = 1;
  uint64_t used = 0;
  for (int i = 0; ok && i < m.n; i++) {
    uint64_t bytes = 4 * (uint64_t)tensor_elements(&m.tensor[i]);
    if (used && used + bytes > shard_bytes) shards++, used = 0;
    used += bytes;
    shard[i] = shards - 1;
  }
  for (int s = 0; ok && s < shards; s++) {
    char file[64];
    int n = 0;
    if (shards == 1)
      snprintf(file, sizeof(file), "model.safetensors");
    else
      snprintf(file, sizeof(file), "model-%05d-of-%05d.safetensors", s + 1, shards);
    for (int i = 0; i < m.n; i++)
      if (shard[i] == s) which[n++] = i;
    uint64_t hash = 0;
    FsWriter *w = fs_writer_open(dir, file, err);
    ok = w && write_tensors(e, &m, w, which, n, false, "format", "pt", &hash, err) && done(ctx, file, hash);
  }
  if (ok && shards > 1) ok = write_index(&m, dir, shard, shards, done, ctx, err);
  free(shard), free(which);
  weights_free(&m);
  return ok;
}
