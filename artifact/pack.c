/* Packing: a checkpoint's tensors into parameters, parameter by parameter; see pack.h. */
#include "artifact/pack.h"
#include "artifact/layout.h"
#include "runtime/machine.h"
#include "runtime/pool.h"
#include "runtime/weights.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Pack {
  const Program *p;
  WeightMap map;
  WeightSource source;
  Pool *pool;
  char **names;
  int64_t *rounded, *held; /* by tensor of the map */
  bool *whole;             /* one parameter holds all of it */
  /* the piece on its way */
  LayoutMove *move;
  const char *dtype;
  void *param, *tensor;
  int64_t changed;
  PackReport *out;
  Report *err;
} Pack;

static const SafeTensor *find(Pack *k, const char *name, const SafeFile **file) {
  return source_find(&k->source, name, file);
}

/* ---- the header */

/* What __metadata__ says of a parameter. */
static char *layout_json(Pack *k, const ProgramParam *q) {
  const ProgramBuffer *b = &k->p->buffers[q->buffer];
  json_t *shape = json_array(), *from = json_object();
  for (int i = 0; i < b->rank; i++) json_array_append_new(shape, json_integer(b->dim[i]));
  for (uint32_t i = 0; i < pack_pieces(q); i++) {
    ProgramPiece own;
    const SafeFile *file;
    const char *name = piece_tensor(k->p, q, pack_piece(k->p, q, i, &own));
    json_object_set_new(from, name, json_string(find(k, name, &file)->dtype));
  }
  json_t *o =
      json_pack("{s:s, s:s, s:o, s:i, s:i, s:o}", "parameter", program_string(k->p, b->name), "dtype",
                dtype_text(b->dtype), "shape", shape, "panel", (int)b->panel, "split", (int)b->split, "from", from);
  char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
  json_decref(o);
  return text;
}

static uint64_t padding(uint64_t bytes) {
  return (ARTIFACT_ALIGN - bytes % ARTIFACT_ALIGN) % ARTIFACT_ALIGN;
}

static bool write_header(Pack *k, const Layout *layouts, ArtifactWriter *w) {
  int n = k->p->nparams, items = 0, texts = 0;
  SafeItem *item = calloc(2 * (size_t)n + 1, sizeof(SafeItem));
  SafePair *meta = calloc((size_t)n + 1, sizeof(SafePair));
  int64_t *pad = calloc((size_t)n + 1, sizeof(int64_t));
  char(*pad_name)[32] = calloc((size_t)n + 1, sizeof(*pad_name)), *text = NULL;
  size_t size = 0;
  bool ok = item && meta && pad && pad_name;
  if (ok) meta[texts++] = (SafePair){"format", "inkstone-packed-1"};
  for (int i = 0; ok && i < n; i++) {
    const Layout *l = &layouts[i];
    item[items++] = (SafeItem){k->names[i], l->rank, l->dim, l->dtype == DTYPE_F32 ? "F32" : "BF16"};
    meta[texts] = (SafePair){k->names[i], layout_json(k, &k->p->params[i])};
    ok = meta[texts++].value != NULL;
    pad[i] = (int64_t)padding(l->bytes);
    snprintf(pad_name[i], sizeof(*pad_name), "pad.%d", i);
    if (pad[i]) item[items++] = (SafeItem){pad_name[i], 1, &pad[i], "U8"};
  }
  ok = ok ? safe_header(item, items, meta, texts, ARTIFACT_ALIGN, &text, &size, k->err)
          : report_add(k->err, "out of memory");
  if (ok) artifact_add(w, text, size);
  for (int i = 1; i < texts; i++) free((char *)meta[i].value);
  free(item), free(meta), free(pad), free(pad_name), free(text);
  return ok;
}

/* ---- parameters */

static void move_share(void *ctx, int thread, int threads) {
  Pack *k = ctx;
  int64_t n = layout_move(k->move, k->param, k->tensor, k->dtype, true, thread, threads);
  __atomic_fetch_add(&k->changed, n, __ATOMIC_RELAXED);
}

static int tensor_index(const Pack *k, const char *name) {
  for (int i = 0; i < k->map.n; i++)
    if (!strcmp(k->map.tensor[i].name, name)) return i;
  return -1;
}

/* One parameter into memory at k->param, which is zero. */
static bool pack_param(Pack *k, const ProgramParam *q, const Layout *l) {
  const char *param = program_string(k->p, k->p->buffers[q->buffer].name);
  for (uint32_t i = 0; i < pack_pieces(q); i++) {
    ProgramPiece own;
    const ProgramPiece *c = pack_piece(k->p, q, i, &own);
    const SafeFile *file = NULL;
    const char *name = piece_tensor(k->p, q, c);
    const SafeTensor *t = find(k, name, &file);
    int at = tensor_index(k, name);
    k->move = layout_move_new(l, c, param, k->err);
    if (!k->move) return false;
    k->changed = 0;
    k->tensor = (void *)(uintptr_t)(file->data + t->begin);
    k->dtype = t->dtype;
    pool_run(k->pool, move_share, k);
    layout_move_free(k->move);
    /* A tensor that two parameters hold whole is as good as the better one. */
    if (pack_pieces(q) == 1 && piece_elements(c) == t->elements) {
      if (!k->whole[at] || k->changed < k->rounded[at]) k->rounded[at] = k->changed;
      k->whole[at] = true;
    } else if (!k->whole[at]) {
      k->rounded[at] += k->changed;
      k->held[at] += piece_elements(c);
    }
  }
  return true;
}

/* One block of memory takes one parameter after another: new pages for each would cost more than what is done with them. */
static bool write_params(Pack *k, const Layout *layouts, ArtifactWriter *w) {
  static const unsigned char zero[ARTIFACT_ALIGN];
  uint64_t most = 0;
  for (int i = 0; i < k->p->nparams; i++) most = layouts[i].bytes > most ? layouts[i].bytes : most;
  k->param = aligned_alloc(ARTIFACT_ALIGN, most + ARTIFACT_ALIGN - most % ARTIFACT_ALIGN);
  bool ok = k->param || report_add(k->err, "out of memory: the largest parameter has %" PRIu64 " bytes", most);
  for (int i = 0; ok && i < k->p->nparams; i++) {
    const Layout *l = &layouts[i];
    memset(k->param, 0, l->bytes); /* what no piece covers, and what panels have beyond rows and columns */
    ok = pack_param(k, &k->p->params[i], l);
    if (ok) artifact_add(w, k->param, l->bytes), artifact_add(w, zero, padding(l->bytes));
    k->out->bytes_written += l->bytes;
  }
  free(k->param);
  return ok;
}

/* ---- checkpoint.json */

static json_t *file_metadata(const SafeFile *f) {
  json_t *o = json_object();
  for (int i = 0; i < f->nmeta; i++) json_object_set_new(o, f->meta[i].key, json_string(f->meta[i].value));
  return o;
}

static const char *file_name(const Pack *k, const SafeFile *f) {
  const char *slash = strrchr(f->path, '/');
  return k->source.n == 1 ? "model.safetensors" : slash ? slash + 1 : f->path;
}

static bool write_checkpoint(Pack *k, ArtifactWriter *w) {
  json_t *tensors = json_object(), *files = json_object(), *skipped = json_array();
  PackReport *out = k->out;
  for (int i = 0; i < k->map.n; i++) {
    const SafeFile *file = NULL;
    const SafeTensor *t = find(k, k->map.tensor[i].name, &file);
    int64_t held = k->whole[i] || k->held[i] > t->elements ? t->elements : k->held[i], dropped = t->elements - held;
    json_object_set_new(tensors, t->name,
                        json_pack("{s:s, s:s, s:I, s:I}", "dtype", t->dtype, "file", file_name(k, file), "rounded",
                                  (json_int_t)k->rounded[i], "dropped", (json_int_t)dropped));
    out->rounded += k->rounded[i];
    out->dropped += dropped;
    out->bytes_read += t->end - t->begin;
    if (!i || strcmp(out->dtype, t->dtype)) snprintf(out->dtype, sizeof(out->dtype), "%s", i ? "mixed" : t->dtype);
  }
  for (int i = 0; i < k->source.n; i++) {
    const SafeFile *f = k->source.file[i];
    json_object_set_new(files, file_name(k, f), file_metadata(f));
    for (int t = 0; t < f->n; t++)
      if (tensor_index(k, f->tensor[t].name) < 0) json_array_append_new(skipped, json_string(f->tensor[t].name));
  }
  json_t *o = json_pack("{s:i, s:o, s:o, s:o}", "format", 1, "files", files, "tensors", tensors, "skipped", skipped);
  char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
  json_decref(o);
  if (!text) return report_add(k->err, "out of memory");
  artifact_begin(w, CHECKPOINT_SECTION, ARTIFACT_ALIGN);
  artifact_add(w, text, strlen(text));
  free(text);
  return true;
}

static bool pack(Pack *k, const char *checkpoint, ArtifactWriter *w, int threads) {
  const Program *p = k->p;
  if (!weights_map(p, &k->map, k->err) || !source_open(&k->source, checkpoint, k->err) ||
      !source_check(&k->source, &k->map, checkpoint, k->err))
    return false;
  Layout *layouts = calloc((size_t)p->nparams + 1, sizeof(Layout));
  k->rounded = calloc((size_t)k->map.n + 1, sizeof(int64_t));
  k->held = calloc((size_t)k->map.n + 1, sizeof(int64_t));
  k->whole = calloc((size_t)k->map.n + 1, sizeof(bool));
  bool ok = (layouts && k->rounded && k->held && k->whole) || report_add(k->err, "out of memory");
  for (int i = 0; ok && i < p->nparams; i++) ok = layout_of(p, &p->params[i], &layouts[i], k->err);
  ok = ok && (k->names = pack_names(p, k->err)) && (k->pool = pool_new(threads, k->err));
  if (ok) artifact_begin(w, WEIGHTS_SECTION, ARTIFACT_PAGE);
  ok = ok && write_header(k, layouts, w) && write_params(k, layouts, w) && write_checkpoint(k, w);
  free(layouts);
  return ok;
}

bool pack_weights(const Program *p, const char *checkpoint, ArtifactWriter *w, int threads, PackReport *out,
                  Report *err) {
  double start = machine_seconds();
  *out = (PackReport){0};
  Pack k = {.p = p, .out = out, .err = err};
  bool ok = pack(&k, checkpoint, w, threads);
  out->seconds = machine_seconds() - start;
  pool_free(k.pool);
  pack_names_free(p, k.names);
  free(k.rounded), free(k.held), free(k.whole);
  source_close(&k.source);
  weights_free(&k.map);
  return ok;
}
