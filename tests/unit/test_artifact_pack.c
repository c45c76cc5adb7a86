/* Packing: what lies in an artifact against program.h's words, element by element, and the way back. */
#include "artifact/layout.h"
#include "tests/unit/artifact_program.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include <math.h>

static bool is_true(bool x) {
  return x;
}

static Dir dir;
static Report err;
static void setup(void) {
  dir = dir_new();
}
static void teardown(void) {
  report_free(&err);
  dir_free(&dir);
}
TestSuite(pack, .init = setup, .fini = teardown);

static uint32_t state = 1;
static uint32_t draw(uint32_t n) {
  state = state * 1664525u + 1013904223u;
  return (state >> 8) % n;
}

/* ---- numbers */

Test(pack, every_half_comes_back) {
  for (uint32_t h = 0; h < 65536; h++) cr_assert(safe_half(safe_float((uint16_t)h)) == h, "half %04x", h);
}

static float half_of(uint32_t h) {
  return safe_float((uint16_t)h);
}

/* Against the neighbours: none is nearer, and of two as near the even one is taken. */
Test(pack, halves_are_the_nearest) {
  for (uint32_t h = 0; h < 0x7bff; h++) {
    double low = half_of(h), high = half_of(h + 1), middle = (low + high) / 2;
    cr_assert(safe_half((float)middle) == (h & 1 ? h + 1 : h), "middle over %04x", h);
    cr_assert(safe_half(nextafterf((float)middle, 0)) == h);
    cr_assert(safe_half(-nextafterf((float)middle, 1e9f)) == (0x8000 | (h + 1)));
  }
  cr_assert(safe_half(65519.996f) == 0x7bff);
  cr_assert(safe_half(65520) == 0x7c00);
  cr_assert(safe_half(INFINITY) == 0x7c00);
  cr_assert(safe_half(0x1p-26f) == 0);
}

/* ---- any piece of any parameter, against the definition */

typedef struct Case {
  Made *m;
  ProgramBuffer *b;
  int64_t elements; /* of the tensor */
  uint32_t *image;  /* the tensor, as bits of f32 */
} Case;

/* Bits of f32 that the dtype holds. */
static uint32_t value(const char *dtype) {
  uint32_t special[] = {0,           0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u,
                        0x7f810000u, 1,           0x3f808000u, 0x3f818000u};
  uint32_t bits = draw(8) ? draw(1u << 24) << 8 | draw(256) : special[draw(9)];
  float v;
  if (!strcmp(dtype, "BF16")) return bits & 0xffff0000u;
  if (strcmp(dtype, "F16")) return bits;
  v = safe_float((uint16_t)(bits >> 16));
  memcpy(&bits, &v, 4);
  return bits;
}

static void put_bits(void *at, int64_t i, const char *dtype, uint32_t bits) {
  float v;
  memcpy(&v, &bits, 4);
  if (!strcmp(dtype, "F32")) ((uint32_t *)at)[i] = bits;
  if (!strcmp(dtype, "BF16")) ((uint16_t *)at)[i] = (uint16_t)(bits >> 16);
  if (!strcmp(dtype, "F16")) ((uint16_t *)at)[i] = safe_half(v);
}

static uint32_t get_bits(const void *at, int64_t i, const char *dtype) {
  if (!strcmp(dtype, "F32")) return ((const uint32_t *)at)[i];
  if (!strcmp(dtype, "BF16")) return (uint32_t)((const uint16_t *)at)[i] << 16;
  float v = safe_float(((const uint16_t *)at)[i]);
  uint32_t bits;
  memcpy(&bits, &v, 4);
  return bits;
}

/* To bf16 in exact arithmetic on integers. */
static uint32_t rounded(uint32_t bits) {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits & 0x7f0000) ? bits & 0xffff0000u : (bits & 0xffff0000u) | 0x400000;
  uint32_t low = bits & 0xffff, high = bits >> 16;
  if (low > 0x8000 || (low == 0x8000 && (high & 1))) high++;
  return high << 16;
}

/* Where program.h says that element `flat` of a parameter lies. */
static int64_t lies(const ProgramBuffer *b, int64_t flat) {
  if (!b->panel) return flat;
  int64_t K = 1;
  for (int i = (int)b->split; i < b->rank; i++) K *= b->dim[i];
  int64_t n = flat / K, k = flat % K, panel = b->panel;
  if (b->dtype == DTYPE_F32) return n / panel * K * panel + k * panel + n % panel;
  return n / panel * ((K + 1) / 2) * panel * 2 + k / 2 * panel * 2 + n % panel * 2 + k % 2;
}

static const char *const dtypes[] = {"F32", "BF16", "F16"};

/* A random parameter, and a random block of it behind a tensor with its axes in another order and wider than the block. Axes
 * that lie one behind the other on both sides are joined, as the compiler joins them. */
static void one(int turn) {
  state = (uint32_t)turn * 7919u + 1;
  int rank = 1 + (int)draw(4), order[4] = {0, 1, 2, 3}, panels[] = {0, 4, 8, 16, 32}, panel = panels[draw(5)];
  int64_t dim[4], block[4], from[4], wide[4], stride[4] = {0}, pstride[4], elements = 1, whole = 1, start = 0, base = 0,
                                              dense = 1;
  bool all = draw(2);
  for (int i = 0; i < rank; i++) {
    dim[i] = 1 + draw(elements < 100 && draw(3) == 0 ? 90 : 7);
    elements *= dim[i];
    block[i] = all ? dim[i] : 1 + draw((uint32_t)dim[i]);
    from[i] = draw((uint32_t)(dim[i] - block[i] + 1));
    int k = (int)draw((uint32_t)i + 1), keep = order[i];
    if (draw(2)) order[i] = order[k], order[k] = keep;
  }
  for (int i = rank - 1; i >= 0; i--) pstride[i] = dense, start += from[i] * dense, dense *= dim[i];
  for (int i = rank - 1; i >= 0; i--) { /* axes of the tensor, the last first */
    int x = order[i];
    int64_t before = all || draw(2) ? 0 : draw(3);
    wide[i] = block[x] + before + (all || draw(2) ? 0 : draw(3));
    stride[x] = whole;
    base += before * whole;
    whole *= wide[i];
  }
  const char *dtype = dtypes[draw(3)];
  int held = draw(2) ? DTYPE_BF16 : DTYPE_F32;
  Made *m = made_new();
  ProgramBuffer *b = made_param(m, "w", held, rank, dim, panel, panel ? (int)draw((uint32_t)rank + 1) : 0);
  int64_t jd[4], jp[4], js[4];
  int joined = 0;
  for (int i = 0; i < rank; i++) {
    bool joins = joined && jp[joined - 1] == pstride[i] * block[i] && js[joined - 1] == stride[i] * block[i];
    if (joins)
      jd[joined - 1] *= block[i], jp[joined - 1] = pstride[i], js[joined - 1] = stride[i];
    else
      jd[joined] = block[i], jp[joined] = pstride[i], js[joined++] = stride[i];
  }
  ProgramPiece *c = made_piece(m, "t", rank, wide, joined, jd, jp, js, start, base);
  Layout l;
  cr_assert(layout_of(&m->p, m->p.params, &l, &err), "turn %d: %s", turn, err.text);
  LayoutMove *move = layout_move_new(&l, c, "w", &err);
  cr_assert(ne(ptr, move, NULL), "turn %d: %s", turn, err.text);
  uint32_t *image = malloc((size_t)whole * 4);
  void *tensor = calloc((size_t)whole, 4), *back = calloc((size_t)whole, 4), *param = calloc(1, b->bytes + 64);
  unsigned char *touched = calloc(1, b->bytes);
  for (int64_t i = 0; i < whole; i++) put_bits(tensor, i, dtype, image[i] = value(dtype));
  int threads = 1 + (int)draw(4);
  int64_t changed = 0, wrong = 0;
  for (int t = 0; t < threads; t++) changed += layout_move(move, param, tensor, dtype, true, t, threads);
  const char *as = held == DTYPE_F32 ? "F32" : "BF16";
  int64_t index[4] = {0};
  for (bool more = true; more;) {
    int64_t at = start, ti = base;
    for (int i = 0; i < rank; i++) at += index[i] * pstride[i], ti += index[i] * stride[i];
    uint32_t want = held == DTYPE_BF16 ? rounded(image[ti]) : image[ti], got = get_bits(param, lies(b, at), as);
    cr_assert(eq(u32, got, want), "turn %d: element %ld", turn, at);
    wrong += want != image[ti];
    touched[lies(b, at)] = 1;
    int i = rank - 1;
    while (i >= 0 && ++index[i] == block[i]) index[i--] = 0;
    more = i >= 0;
  }
  cr_assert(eq(i64, changed, wrong), "turn %d", turn);
  for (int64_t i = 0; i < (int64_t)b->bytes / (held == DTYPE_F32 ? 4 : 2); i++)
    cr_assert(touched[i] || !get_bits(param, i, as), "turn %d: element %ld of memory is no part of the piece", turn, i);
  int64_t lost = 0;
  for (int t = 0; t < threads; t++) lost += layout_move(move, param, back, dtype, false, t, threads);
  for (bool more = true; more;) {
    int64_t ti = base;
    for (int i = 0; i < rank; i++) ti += index[i] * stride[i];
    if (!wrong) cr_assert(eq(u32, get_bits(back, ti, dtype), image[ti]), "turn %d", turn);
    int i = rank - 1;
    while (i >= 0 && ++index[i] == block[i]) index[i--] = 0;
    more = i >= 0;
  }
  if (!wrong) cr_assert(eq(i64, lost, 0));
  layout_move_free(move);
  free(image), free(tensor), free(back), free(param), free(touched), free(m);
}

Test(pack, any_piece_of_any_parameter) {
  for (int turn = 0; turn < 3000; turn++) one(turn);
}

Test(pack, pieces_that_are_no_blocks) {
  Made *m = made_new();
  made_param(m, "w", DTYPE_F32, 2, I64(4, 6), 0, 0);
  /* 8 elements from the middle of a row on run over its end */
  ProgramPiece *c = made_piece(m, "t", 1, I64(8), 1, I64(8), I64(1), I64(1), 3, 0);
  Layout l;
  cr_assert(layout_of(&m->p, m->p.params, &l, &err));
  cr_assert(eq(ptr, layout_move_new(&l, c, "w", &err), NULL));
  cr_assert(strstr(err.text, "no block of its rows") != NULL);
  free(m);
}

Test(pack, layouts_that_the_program_gets_wrong) {
  Made *m = made_new();
  ProgramBuffer *b = made_param(m, "w", DTYPE_F32, 2, I64(4, 6), 8, 1);
  Layout l;
  cr_assert(layout_of(&m->p, m->p.params, &l, &err));
  b->bytes -= 4;
  cr_assert(not(layout_of(&m->p, m->p.params, &l, &err)));
  b->bytes += 4, b->panel = 65;
  cr_assert(not(layout_of(&m->p, m->p.params, &l, &err)));
  b->panel = 8, b->split = 3;
  cr_assert(not(layout_of(&m->p, m->p.params, &l, &err)));
  b->split = 1, b->dtype = DTYPE_F64;
  cr_assert(not(layout_of(&m->p, m->p.params, &l, &err)));
  free(m);
}

/* ---- a checkpoint into an artifact and out again */

enum { V = 19, D = 12, L = 2 };

/* A tied embedding, row-major for lookups and packed for logits; q, k and v in one tensor; layers in one parameter; a parameter
 * without pieces. */
static Made *model(int dtype) {
  Made *m = made_new();
  made_param(m, "wte", DTYPE_F32, 2, I64(V, D), 0, 0);
  made_piece(m, "embed.weight", 2, I64(V, D), 1, I64(V * D), I64(1), I64(1), 0, 0);
  made_param(m, "wte.packed", dtype, 2, I64(V, D), 16, 1);
  made_piece(m, "embed.weight", 2, I64(V, D), 1, I64(V * D), I64(1), I64(1), 0, 0);
  made_param(m, "q", dtype, 3, I64(L, D, D), 8, 2);
  made_piece(m, "h.0.qk", 2, I64(D, 2 * D), 2, I64(D, D), I64(1, D), I64(2 * D, 1), 0, 0);
  made_piece(m, "h.1.qk", 2, I64(D, 2 * D), 2, I64(D, D), I64(1, D), I64(2 * D, 1), D * D, 0);
  made_param(m, "k", dtype, 3, I64(L, D, D), 8, 2);
  made_piece(m, "h.0.qk", 2, I64(D, 2 * D), 2, I64(D, D), I64(1, D), I64(2 * D, 1), 0, D);
  made_piece(m, "h.1.qk", 2, I64(D, 2 * D), 2, I64(D, D), I64(1, D), I64(2 * D, 1), D * D, D);
  made_param(m, "norm", DTYPE_F32, 1, I64(D), 0, 0);
  return m;
}

typedef struct Data {
  float embed[V * D], qk0[2 * D * D], qk1[2 * D * D], norm[D];
} Data;

static Data *data(void) {
  Data *d = malloc(sizeof(Data));
  float *v = (float *)d;
  for (size_t i = 0; i < sizeof(Data) / 4; i++) v[i] = (float)((int)draw(65536) - 32768) / 4096;
  return d;
}

static void checkpoint(const Data *d) {
  SafeItem item[] = {
      {"embed.weight", 2, I64(V, D)}, {"h.0.qk", 2, I64(D, 2 * D)}, {"h.1.qk", 2, I64(D, 2 * D)}, {"norm", 1, I64(D)}};
  void *bytes[] = {(void *)d->embed, (void *)d->qk0, (void *)d->qk1, (void *)d->norm};
  cr_assert(made_file(dir.path, "model.safetensors", item, bytes, 4, &err), "%s", err.text);
}

static bool pack_it(const Made *m, const char *from, PackReport *r) {
  file_put(in(&dir, "elf"), "ELF", 3);
  ArtifactWriter *w = artifact_create(in(&dir, "a"), in(&dir, "elf"), &err);
  if (pack_weights(&m->p, from, w, 2, r, &err)) return artifact_finish(w, &err);
  artifact_abandon(w);
  return false;
}

Test(pack, exact_and_back) {
  Made *m = model(DTYPE_F32);
  Data *d = data();
  PackReport r;
  Report notes = {0};
  checkpoint(d);
  cr_assert(pack_it(m, in(&dir, "model.safetensors"), &r), "%s", err.text);
  cr_assert(eq(i64, r.rounded, 0));
  cr_assert(eq(i64, r.dropped, 0));
  cr_assert(eq(str, r.dtype, "F32"));
  Artifact *a = artifact_open(in(&dir, "a"), &err);
  cr_assert(a && artifact_check(a, NULL, &err), "%s", err.text);
  SafeFile *f = pack_open(a, &err);
  void *param[MADE];
  cr_assert(f && pack_find(&m->p, f, param, &err), "%s", err.text);
  cr_assert(safe_find(f, "embed.weight") && safe_find(f, "wte.packed") && safe_find(f, "q") && safe_find(f, "norm"));
  cr_assert(eq(int, safe_find(f, "wte.packed")->rank, 3));
  cr_assert(strstr(safe_meta(f, "q"), "\"panel\":8") && strstr(safe_meta(f, "q"), "h.1.qk"));
  const float *q = param[2], *k = param[3], *wte = param[1];
  for (int i = 0; i < 5; i++) cr_assert(is_true((uintptr_t)param[i] % 64 == 0));
  for (int64_t row = 0; row < L * D; row++)
    for (int64_t col = 0; col < D; col++) {
      const float *t = row < D ? d->qk0 : d->qk1;
      /* the tensor is [in, 2 out]; q's rows are its first columns */
      cr_assert(eq(flt, q[lies(&m->buffer[2], row * D + col)], t[col * 2 * D + row % D]));
      cr_assert(eq(flt, k[lies(&m->buffer[3], row * D + col)], t[col * 2 * D + D + row % D]));
    }
  for (int i = 0; i < V * D; i++) cr_assert(eq(flt, wte[lies(&m->buffer[1], i)], d->embed[i]));
  cr_assert(zero(int, memcmp(param[4], d->norm, sizeof(d->norm))));
  safe_close(f);
  cr_assert(pack_restore(&m->p, a, in(&dir, "back"), &notes, &err), "%s", err.text);
  cr_assert(eq(int, notes.lines, 0));
  cr_assert(file_same(in(&dir, "model.safetensors"), in(&dir, "back/model.safetensors")));
  cr_assert(not(pack_restore(&m->p, a, in(&dir, "back"), &notes, &err))); /* nothing is written over */
  artifact_close(a);
  free(m), free(d);
}

Test(pack, rounded_and_told) {
  Made *m = model(DTYPE_BF16);
  Data *d = data();
  PackReport r;
  Report notes = {0};
  checkpoint(d);
  cr_assert(pack_it(m, dir.path, &r), "%s", err.text);
  int64_t want = 0;
  for (int i = 0; i < 2 * D * D; i++) {
    uint32_t x, y;
    memcpy(&x, &d->qk0[i], 4), memcpy(&y, &d->qk1[i], 4);
    want += (x != rounded(x)) + (y != rounded(y));
  }
  cr_assert(gt(i64, want, 0));
  cr_assert(eq(i64, r.rounded, want)); /* the embedding has a copy in f32 */
  Artifact *a = artifact_open(in(&dir, "a"), &err);
  cr_assert(pack_restore(&m->p, a, in(&dir, "back"), &notes, &err), "%s", err.text);
  cr_assert(eq(int, notes.lines, 2));
  cr_assert(strstr(notes.text, "'h.0.qk'") && strstr(notes.text, "'h.1.qk'"));
  SafeFile *f = safe_open(in(&dir, "back/model.safetensors"), &err);
  cr_assert(zero(int, memcmp(f->data + safe_find(f, "embed.weight")->begin, d->embed, sizeof(d->embed))));
  const float *qk = (const float *)(const void *)(f->data + safe_find(f, "h.0.qk")->begin);
  for (int i = 0; i < 2 * D * D; i++) {
    uint32_t x, y;
    memcpy(&x, &d->qk0[i], 4), memcpy(&y, &qk[i], 4);
    cr_assert(eq(u32, y, rounded(x)));
  }
  safe_close(f);
  artifact_close(a);
  report_free(&notes);
  free(m), free(d);
}

/* A checkpoint of halves in two files, as the library writes it, comes back byte for byte. */
Test(pack, shards_of_halves) {
  Made *m = model(DTYPE_F32);
  static uint16_t embed[V * D], qk0[2 * D * D], qk1[2 * D * D], norm[D];
  uint16_t *const each[] = {embed, qk0, qk1, norm};
  const int n[] = {V * D, 2 * D * D, 2 * D * D, D};
  for (int t = 0; t < 4; t++)
    for (int i = 0; i < n[t]; i++) each[t][i] = (uint16_t)draw(65536);
  SafeItem one_[] = {{"embed.weight", 2, I64(V, D), "BF16"}, {"norm", 1, I64(D), "F16"}};
  SafeItem two[] = {{"h.0.qk", 2, I64(D, 2 * D), "F16"}, {"h.1.qk", 2, I64(D, 2 * D), "F16"}};
  const char *index = "{\n  \"metadata\": {\n    \"total_size\": %d\n  },\n  \"weight_map\": {\n"
                      "    \"embed.weight\": \"model-00001-of-00002.safetensors\",\n"
                      "    \"h.0.qk\": \"model-00002-of-00002.safetensors\",\n"
                      "    \"h.1.qk\": \"model-00002-of-00002.safetensors\",\n"
                      "    \"norm\": \"model-00001-of-00002.safetensors\"\n  }\n}\n";
  char text[1024];
  int size = snprintf(text, sizeof(text), index, 2 * (V * D + 4 * D * D + D));
  mkdir(in(&dir, "hf"), 0777);
  file_put(in(&dir, "hf/model.safetensors.index.json"), text, (size_t)size);
  cr_assert(made_file(in(&dir, "hf"), "model-00001-of-00002.safetensors", one_, (void *[]){embed, norm}, 2, &err));
  cr_assert(made_file(in(&dir, "hf"), "model-00002-of-00002.safetensors", two, (void *[]){qk0, qk1}, 2, &err));
  PackReport r;
  Report notes = {0};
  cr_assert(pack_it(m, in(&dir, "hf"), &r), "%s", err.text);
  cr_assert(eq(str, r.dtype, "mixed"));
  cr_assert(eq(i64, r.rounded, 0));
  Artifact *a = artifact_open(in(&dir, "a"), &err);
  cr_assert(pack_restore(&m->p, a, in(&dir, "back"), &notes, &err), "%s", err.text);
  static const char *const files[] = {"model.safetensors.index.json", "model-00001-of-00002.safetensors",
                                      "model-00002-of-00002.safetensors"};
  for (int i = 0; i < 3; i++) {
    char x[64], y[64];
    snprintf(x, sizeof(x), "hf/%s", files[i]), snprintf(y, sizeof(y), "back/%s", files[i]);
    cr_assert(file_same(in(&dir, x), in(&dir, y)), "%s", files[i]);
  }
  artifact_close(a);
  free(m);
}

Test(pack, all_that_is_wrong_is_named) {
  Made *m = model(DTYPE_F32);
  Data *d = data();
  PackReport r;
  SafeItem item[] = {{"embed.weight", 2, I64(D, V)}, {"h.0.qk", 2, I64(D, 2 * D)}, {"more", 1, I64(D)}};
  cr_assert(made_file(dir.path, "model.safetensors", item, (void *[]){d->embed, d->qk0, d->norm}, 3, &err));
  cr_assert(not(pack_it(m, in(&dir, "model.safetensors"), &r)));
  cr_assert(eq(int, err.lines, 4)); /* misshapen, two missing, one more */
  cr_assert(strstr(err.text, "'embed.weight'") && strstr(err.text, "'h.1.qk'") && strstr(err.text, "'norm'") &&
            strstr(err.text, "'more'"));
  cr_assert(is_true(!fs_exists(in(&dir, "a")) && !fs_exists(in(&dir, ".tmp-a"))));
  free(m), free(d);
}

/* A tensor that the model uses in part, and one that the program does not lay out as the file has it. */
Test(pack, dropped_and_not_fitting) {
  Made *m = made_new();
  made_param(m, "w", DTYPE_F32, 2, I64(3, 4), 0, 0);
  made_piece(m, "t", 2, I64(5, 4), 1, I64(12), I64(1), I64(1), 0, 0);
  float v[20];
  for (int i = 0; i < 20; i++) v[i] = (float)i + 1;
  SafeItem item[] = {{"t", 2, I64(5, 4)}};
  cr_assert(made_file(dir.path, "model.safetensors", item, (void *[]){v}, 1, &err));
  PackReport r;
  Report notes = {0};
  cr_assert(pack_it(m, dir.path, &r), "%s", err.text);
  cr_assert(eq(i64, r.dropped, 8));
  Artifact *a = artifact_open(in(&dir, "a"), &err);
  cr_assert(pack_restore(&m->p, a, in(&dir, "back"), &notes, &err));
  cr_assert(strstr(notes.text, "8 of 20") != NULL);
  SafeFile *f = pack_open(a, &err);
  void *param[MADE];
  m->buffer[0].panel = 4, m->buffer[0].split = 1, m->buffer[0].bytes = 64;
  cr_assert(not(pack_find(&m->p, f, param, &err)));
  cr_assert(strstr(err.text, "not laid out") != NULL);
  safe_close(f);
  artifact_close(a);
  report_free(&notes);
  free(m);
}

/* What the model file says may be there and is not read is no error, and is told when the checkpoint is asked for again. */
Test(pack, skipped_tensors_are_told) {
  Made *m = made_new();
  made_param(m, "w", DTYPE_F32, 1, I64(4), 0, 0);
  m->h.skip = made_text(m, "*.mask\nother");
  float v[4] = {1, 2, 3, 4};
  SafeItem item[] = {{"h.0.mask", 1, I64(2)}, {"w", 1, I64(4)}};
  cr_assert(made_file(dir.path, "model.safetensors", item, (void *[]){v, v}, 2, &err));
  PackReport r;
  Report notes = {0};
  cr_assert(pack_it(m, dir.path, &r), "%s", err.text);
  Artifact *a = artifact_open(in(&dir, "a"), &err);
  cr_assert(pack_restore(&m->p, a, in(&dir, "back"), &notes, &err), "%s", err.text);
  cr_assert(eq(int, notes.lines, 1));
  cr_assert(strstr(notes.text, "'h.0.mask' is not in the artifact") != NULL);
  artifact_close(a);
  report_free(&notes);
  free(m);
}
