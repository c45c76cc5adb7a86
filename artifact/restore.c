/* The weights of an artifact: where each parameter lies, and the checkpoint that they were; see pack.h. */
#include "artifact/layout.h"
#include "artifact/pack.h"
#include "runtime/weights.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SafeFile *pack_open(const Artifact *a, Report *err) {
  const ArtifactSection *s = artifact_section(a, WEIGHTS_SECTION);
  if (!s) {
    report_add(err, "%s holds no weights", a->path);
    return NULL;
  }
  return safe_view(artifact_bytes(a, s), s->bytes, WEIGHTS_SECTION, err);
}

static bool find_param(const Program *p, const SafeFile *f, const ProgramParam *q, const char *name, void **at,
                       Report *err) {
  Layout l;
  if (!layout_of(p, q, &l, err)) return false;
  const SafeTensor *t = safe_find(f, name);
  if (!t) return report_add(err, "%s: tensor '%s' is missing", f->path, name);
  if (strcmp(t->dtype, l.dtype == DTYPE_F32 ? "F32" : "BF16") || t->rank != l.rank ||
      memcmp(t->dim, l.dim, (size_t)l.rank * sizeof(int64_t)))
    return report_add(err, "%s: tensor '%s' is not laid out as the program reads it", f->path, name);
  *at = (void *)(uintptr_t)(f->data + t->begin);
  return (uintptr_t)*at % ARTIFACT_ALIGN == 0 || report_add(err, "%s: tensor '%s' is not aligned", f->path, name);
}

bool pack_find(const Program *p, const SafeFile *weights, void **param, Report *err) {
  char **names = pack_names(p, err);
  bool ok = names != NULL;
  for (int i = 0; i < p->nbuffers; i++) param[i] = NULL;
  for (int i = 0; names && i < p->nparams; i++)
    ok = find_param(p, weights, &p->params[i], names[i], &param[p->params[i].buffer], err) && ok;
  pack_names_free(p, names);
  return ok;
}

/* ---- back to a checkpoint */

typedef struct Restore {
  const Program *p;
  void **param;
  WeightMap map;
  const json_t *files, *tensors; /* of checkpoint.json */
  const char *dir;
  Report *notes, *err;
} Restore;

static const char *said(const Restore *r, const char *tensor, const char *key) {
  const char *s = json_string_value(json_object_get(json_object_get(r->tensors, tensor), key));
  return s ? s : "";
}

static int64_t counted(const Restore *r, const char *tensor, const char *key) {
  return (int64_t)json_integer_value(json_object_get(json_object_get(r->tensors, tensor), key));
}

/* Everything that checkpoint.json says is held against the program. */
static bool check(const Restore *r) {
  bool ok = json_is_object(r->files) && json_is_object(r->tensors);
  const char *key;
  json_t *v;
  if (!ok) return report_add(r->err, "%s: it lacks files or tensors", CHECKPOINT_SECTION);
  json_object_foreach((json_t *)r->files, key, v) if (!*key || strchr(key, '/') || *key == '.') ok =
      report_add(r->err, "%s: '%s' is no file name", CHECKPOINT_SECTION, key);
  for (int i = 0; i < r->map.n; i++) {
    const char *name = r->map.tensor[i].name, *dtype = said(r, name, "dtype");
    if (strcmp(dtype, "F32") && strcmp(dtype, "BF16") && strcmp(dtype, "F16"))
      ok = report_add(r->err, "%s: tensor '%s' has no dtype that is known", CHECKPOINT_SECTION, name);
    if (!json_object_get(r->files, said(r, name, "file")))
      ok = report_add(r->err, "%s: tensor '%s' lies in no file", CHECKPOINT_SECTION, name);
  }
  return ok;
}

static int64_t tensor_elements(const WeightTensor *t) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; i++) n *= t->dim[i];
  return n;
}

/* The tensor's bytes, from every parameter that holds a part of it; the wider dtype last. */
static bool gather(const Restore *r, const char *name, const char *dtype, void *image) {
  for (int wide = 0; wide < 2; wide++)
    for (int i = 0; i < r->p->nparams; i++) {
      const ProgramParam *q = &r->p->params[i];
      Layout l;
      if (!layout_of(r->p, q, &l, r->err)) return false;
      for (uint32_t k = 0; k < pack_pieces(q) && (l.dtype == DTYPE_F32) == wide; k++) {
        ProgramPiece own;
        const ProgramPiece *c = pack_piece(r->p, q, k, &own);
        if (strcmp(piece_tensor(r->p, q, c), name)) continue;
        LayoutMove *m = layout_move_new(&l, c, name, r->err);
        if (!m) return false;
        layout_move(m, r->param[q->buffer], image, dtype, false, 0, 1);
        layout_move_free(m);
      }
    }
  return true;
}

static void tell_losses(const Restore *r, const WeightTensor *t) {
  int64_t rounded = counted(r, t->name, "rounded"), dropped = counted(r, t->name, "dropped");
  if (rounded)
    report_add(r->notes, "tensor '%s': %" PRId64 " of %" PRId64 " elements were rounded when the artifact was built",
               t->name, rounded, tensor_elements(t));
  if (dropped)
    report_add(r->notes, "tensor '%s': %" PRId64 " of %" PRId64 " elements, which the model has no use for, are 0",
               t->name, dropped, tensor_elements(t));
}

static bool write_tensor(const Restore *r, FsWriter *w, const SafeItem *item) {
  size_t bytes = (size_t)safe_elements(item) * (size_t)safe_dtype_size(item->dtype);
  void *image = calloc(1, bytes + 1);
  bool ok = image ? gather(r, item->name, item->dtype, image)
                  : report_add(r->err, "out of memory for tensor '%s'", item->name);
  if (ok) fs_writer_add(w, image, bytes);
  free(image);
  return ok;
}

/* One file of the checkpoint with its tensors and metadata. */
static bool write_file(const Restore *r, const char *file, const json_t *metadata) {
  SafeItem *item = calloc((size_t)r->map.n + 1, sizeof(SafeItem));
  SafePair *meta = calloc(json_object_size(metadata) + 1, sizeof(SafePair));
  int n = 0, nmeta = 0;
  const char *key;
  json_t *v;
  char *text = NULL;
  size_t size = 0;
  bool ok = (item && meta) || report_add(r->err, "out of memory");
  for (int i = 0; ok && i < r->map.n; i++) {
    const WeightTensor *t = &r->map.tensor[i];
    if (strcmp(said(r, t->name, "file"), file)) continue;
    item[n++] = (SafeItem){t->name, t->rank, t->dim, said(r, t->name, "dtype")};
    tell_losses(r, t);
  }
  if (ok) {
    json_object_foreach((json_t *)metadata, key, v) meta[nmeta++] =
        (SafePair){key, json_is_string(v) ? json_string_value(v) : ""};
    safe_sort(item, n);
  }
  FsWriter *w =
      ok && safe_header(item, n, meta, nmeta, 8, &text, &size, r->err) ? fs_writer_open(r->dir, file, r->err) : NULL;
  ok = w != NULL;
  if (ok) fs_writer_add(w, text, size);
  for (int i = 0; ok && i < n; i++) ok = write_tensor(r, w, &item[i]);
  if (w) ok = fs_writer_close(w, NULL, r->err) && ok;
  free(item), free(meta), free(text);
  return ok;
}

/* As Python's json.dumps(indent=2, sort_keys=True) writes it. */
static bool write_index(const Restore *r) {
  json_t *map = json_object();
  int64_t total = 0;
  for (int i = 0; i < r->map.n; i++) {
    const char *name = r->map.tensor[i].name;
    json_object_set_new(map, name, json_string(said(r, name, "file")));
    total += tensor_elements(&r->map.tensor[i]) * safe_dtype_size(said(r, name, "dtype"));
  }
  json_t *o = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
  char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENSURE_ASCII) : NULL;
  json_decref(o);
  if (!text) return report_add(r->err, "out of memory");
  FsWriter *w = fs_writer_open(r->dir, "model.safetensors.index.json", r->err);
  if (w) fs_writer_add(w, text, strlen(text)), fs_writer_add(w, "\n", 1);
  free(text);
  return w && fs_writer_close(w, NULL, r->err);
}

static bool restore(Restore *r, const SafeFile *weights, json_t *root) {
  const char *key;
  size_t i;
  json_t *v;
  r->files = json_object_get(root, "files");
  r->tensors = json_object_get(root, "tensors");
  if (!weights_map(r->p, &r->map, r->err) || !pack_find(r->p, weights, r->param, r->err) || !check(r) ||
      !fs_mkdirs(r->dir, r->err))
    return false;
  json_object_foreach((json_t *)r->files, key, v) if (!write_file(r, key, v)) return false;
  json_array_foreach(json_object_get(root, "skipped"), i, v) if (json_is_string(v))
      report_add(r->notes, "tensor '%s' is not in the artifact: the model does not read it", json_string_value(v));
  return json_object_size(r->files) < 2 || write_index(r);
}

bool pack_restore(const Program *p, const Artifact *a, const char *dir, Report *notes, Report *err) {
  const ArtifactSection *s = artifact_section(a, CHECKPOINT_SECTION);
  if (!s) return report_add(err, "%s does not say what its weights were made from", a->path);
  json_error_t e;
  json_t *root = json_loadb(artifact_bytes(a, s), s->bytes, JSON_REJECT_DUPLICATES, &e);
  SafeFile *weights = root ? pack_open(a, err) : NULL;
  Restore r = {
      .p = p, .dir = dir, .notes = notes, .err = err, .param = calloc((size_t)p->nbuffers + 1, sizeof(void *))};
  bool ok = root || report_add(err, "%s: %s: %s", a->path, CHECKPOINT_SECTION, e.text);
  if (ok && !r.param) ok = report_add(err, "out of memory");
  ok = ok && weights && restore(&r, weights, root);
  weights_free(&r.map);
  free(r.param);
  safe_close(weights);
  json_decref(root);
  return ok;
}
