/* Reading and writing of safetensors files. See safetensors.h for the rules that a file must keep. */
#include "runtime/safetensors.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_LIMIT = 100 * 1000 * 1000, TENSOR_LIMIT = 1 << 20 };

static const struct {
  const char *name;
  int bytes;
} dtypes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
              {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"F64", 8},     {"I64", 8}, {"U64", 8}};

static int find_dtype(const char *name) {
  for (int i = 0; i < (int)(sizeof(dtypes) / sizeof(dtypes[0])); i++)
    if (!strcmp(dtypes[i].name, name)) return i;
  return -1;
}

/* A number of the header as a size: a whole number that is not negative. */
static bool size_of(const json_t *v, int64_t *n) {
  if (!json_is_integer(v)) return false;
  *n = (int64_t)json_integer_value(v);
  return *n >= 0;
}

static bool read_entry(SafeFile *f, const char *name, const json_t *v, Report *err) {
  SafeTensor *t = &f->tensor[f->n];
  const json_t *dtype = json_object_get(v, "dtype"), *shape = json_object_get(v, "shape");
  const json_t *at = json_object_get(v, "data_offsets");
  if (!json_is_object(v) || json_object_size(v) != 3 || !json_is_string(dtype) || !json_is_array(shape) ||
      !json_is_array(at))
    return report_add(err, "%s: tensor '%s' is not described by dtype, shape and data_offsets", f->path, name);
  int kind = find_dtype(json_string_value(dtype));
  if (kind < 0)
    return report_add(err, "%s: tensor '%s' has the unknown dtype '%s'", f->path, name, json_string_value(dtype));
  *t = (SafeTensor){.dtype = dtypes[kind].name, .elements = 1};
  if (json_array_size(shape) > SAFE_RANK)
    return report_add(err, "%s: tensor '%s' has %zu dimensions; at most %d are read", f->path, name,
                      json_array_size(shape), SAFE_RANK);
  t->rank = (int)json_array_size(shape);
  int64_t bytes, begin, end;
  for (int i = 0; i < t->rank; i++)
    if (!size_of(json_array_get(shape, (size_t)i), &t->dim[i]) ||
        __builtin_mul_overflow(t->elements, t->dim[i], &t->elements))
      return report_add(err, "%s: tensor '%s' has an impossible shape", f->path, name);
  if (__builtin_mul_overflow(t->elements, (int64_t)dtypes[kind].bytes, &bytes))
    return report_add(err, "%s: tensor '%s' has an impossible shape", f->path, name);
  if (json_array_size(at) != 2 || !size_of(json_array_get(at, 0), &begin) || !size_of(json_array_get(at, 1), &end) ||
      end < begin)
    return report_add(err, "%s: tensor '%s' has impossible data_offsets", f->path, name);
  if (end - begin != bytes)
    return report_add(err, "%s: tensor '%s' has %" PRId64 " bytes; its shape and dtype make %" PRId64, f->path, name,
                      end - begin, bytes);
  t->begin = (uint64_t)begin;
  t->end = (uint64_t)end;
  t->name = strdup(name);
  if (!t->name) return report_add(err, "out of memory");
  f->n++;
  return true;
}

static int by_begin(const void *a, const void *b) {
  const SafeTensor *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const SafeTensor *)a)->name, ((const SafeTensor *)b)->name);
}

/* Tensors in data order must follow one another exactly and fill the file. */
static bool check_layout(SafeFile *f, uint64_t bytes, Report *err) {
  if (f->n) qsort(f->tensor, (size_t)f->n, sizeof(SafeTensor), by_begin);
  uint64_t at = 0;
  for (int i = 0; i < f->n; i++) {
    const SafeTensor *t = &f->tensor[i];
    if (t->begin != at)
      return report_add(err,
                        "%s: tensor '%s' starts at byte %" PRIu64 " of the data, the one before ends at %" PRIu64 "%s",
                        f->path, t->name, t->begin, at, t->begin < at ? " (they overlap)" : " (a gap)");
    at = t->end;
    if (at > bytes)
      return report_add(err,
                        "%s: tensor '%s' ends at byte %" PRIu64 " of %" PRIu64 " bytes of data: the file is cut short",
                        f->path, t->name, at, bytes);
  }
  if (at != bytes) return report_add(err, "%s: %" PRIu64 " bytes after the last tensor", f->path, bytes - at);
  if (f->n) qsort(f->tensor, (size_t)f->n, sizeof(SafeTensor), by_name);
  return true;
}

static bool read_header(SafeFile *f, const json_t *root, Report *err) {
  if (!json_is_object(root)) return report_add(err, "%s: its header is not a JSON object", f->path);
  if (json_object_size(root) > TENSOR_LIMIT) return report_add(err, "%s: more than %d tensors", f->path, TENSOR_LIMIT);
  f->tensor = calloc(json_object_size(root) + 1, sizeof(SafeTensor));
  if (!f->tensor) return report_add(err, "out of memory");
  const char *key;
  json_t *v;
  json_object_foreach((json_t *)root, key, v) {
    if (strcmp(key, "__metadata__")) {
      if (!read_entry(f, key, v, err)) return false;
      continue;
    }
    const char *mk;
    json_t *mv;
    if (!json_is_object(v)) return report_add(err, "%s: __metadata__ is not an object", f->path);
    json_object_foreach(v, mk, mv) if (!json_is_string(mv)) return report_add(
        err, "%s: __metadata__ '%s' is not a string", f->path, mk);
  }
  return true;
}

SafeFile *safe_open(const char *path, Report *err) {
  SafeFile *f = calloc(1, sizeof(SafeFile));
  if (!f || !(f->path = strdup(path))) {
    free(f);
    report_add(err, "out of memory");
    return NULL;
  }
  json_t *root = NULL;
  bool ok = fs_map(&f->map, path, err);
  if (ok && f->map.n < 8) ok = report_add(err, "%s: %zu bytes are no safetensors file", path, f->map.n);
  uint64_t n = 0;
  for (int i = 0; ok && i < 8; i++) n |= (uint64_t)f->map.at[i] << (8 * i);
  if (ok && n > HEADER_LIMIT)
    ok = report_add(err, "%s: a header of %" PRIu64 " bytes; at most %d are read (is it a safetensors file?)", path, n,
                    HEADER_LIMIT);
  if (ok && n > f->map.n - 8)
    ok =
        report_add(err, "%s: a header of %" PRIu64 " bytes in a file of %zu: the file is cut short", path, n, f->map.n);
  if (ok && (!n || f->map.at[8] != '{')) ok = report_add(err, "%s: its header does not start with '{'", path);
  if (ok) {
    json_error_t e;
    root = json_loadb((const char *)f->map.at + 8, n, JSON_REJECT_DUPLICATES, &e);
    if (!root) ok = report_add(err, "%s: its header is broken at byte %d: %s", path, e.position, e.text);
  }
  ok = ok && read_header(f, root, err) && check_layout(f, f->map.n - 8 - n, err);
  json_decref(root);
  if (!ok) {
    safe_close(f);
    return NULL;
  }
  f->data = f->map.at + 8 + n;
  return f;
}

void safe_close(SafeFile *f) {
  if (!f) return;
  for (int i = 0; i < f->n; i++) free(f->tensor[i].name);
  free(f->tensor);
  free(f->path);
  fs_unmap(&f->map);
  free(f);
}

const SafeTensor *safe_find(const SafeFile *f, const char *name) {
  int low = 0, high = f->n - 1;
  while (low <= high) {
    int mid = (low + high) / 2, c = strcmp(name, f->tensor[mid].name);
    if (!c) return &f->tensor[mid];
    if (c < 0)
      high = mid - 1;
    else
      low = mid + 1;
  }
  return NULL;
}

bool safe_is_float(const SafeTensor *t) {
  return !strcmp(t->dtype, "F32") || !strcmp(t->dtype, "BF16") || !strcmp(t->dtype, "F16");
}

static float from_half(uint16_t h) {
  uint32_t sign = (uint32_t)(h >> 15) << 31, e = h >> 10 & 31, m = h & 1023, bits;
  if (e == 31)
    bits = sign | 0x7f800000u | m << 13;
  else if (e)
    bits = sign | (e + 112) << 23 | m << 13;
  else {
    float v = (float)m * 0x1p-24f; /* subnormal: exact */
    return sign ? -v : v;
  }
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

void safe_read(const SafeFile *f, const SafeTensor *t, int64_t first, int64_t n, float *out) {
  const unsigned char *at = f->data + t->begin;
  if (!strcmp(t->dtype, "F32")) {
    memcpy(out, at + 4 * first, 4 * (size_t)n);
    return;
  }
  bool brain = !strcmp(t->dtype, "BF16");
  for (int64_t i = 0; i < n; i++) {
    uint16_t h;
    memcpy(&h, at + 2 * (first + i), 2);
    uint32_t bits = (uint32_t)h << 16;
    if (brain)
      memcpy(&out[i], &bits, 4);
    else
      out[i] = from_half(h);
  }
}

/* ---- writing */

int64_t safe_elements(const SafeItem *item) {
  int64_t n = 1;
  for (int i = 0; i < item->rank; i++) n *= item->dim[i];
  return n;
}

static int item_order(const void *a, const void *b) {
  return strcmp(((const SafeItem *)a)->name, ((const SafeItem *)b)->name);
}

/* A JSON string as serde writes it: only quotes, backslashes and control characters are escaped. */
static void add_string(FILE *out, const char *s) {
  fputc('"', out);
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      fprintf(out, "\\%c", c);
    else if (c == '\b')
      fputs("\\b", out);
    else if (c == '\f')
      fputs("\\f", out);
    else if (c == '\n')
      fputs("\\n", out);
    else if (c == '\r')
      fputs("\\r", out);
    else if (c == '\t')
      fputs("\\t", out);
    else if (c < 0x20)
      fprintf(out, "\\u%04x", c);
    else
      fputc(c, out);
  }
  fputc('"', out);
}

bool safe_write_header(FsWriter *w, SafeItem *items, int n, const char *key, const char *value, Report *err) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (!out) return report_add(err, "out of memory");
  if (n) qsort(items, (size_t)n, sizeof(SafeItem), item_order);
  fputc('{', out);
  if (key) {
    fputs("\"__metadata__\":{", out);
    add_string(out, key);
    fputc(':', out);
    add_string(out, value);
    fputc('}', out);
  }
  uint64_t at = 0;
  for (int i = 0; i < n; i++) {
    if (i || key) fputc(',', out);
    add_string(out, items[i].name);
    fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", items[i].dtype ? items[i].dtype : "F32");
    for (int k = 0; k < items[i].rank; k++) fprintf(out, "%s%" PRId64, k ? "," : "", items[i].dim[k]);
    uint64_t end = at + 4 * (uint64_t)safe_elements(&items[i]);
    fprintf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, end);
    at = end;
  }
  fputc('}', out);
  for (long p = ftell(out); p % 8; p++) fputc(' ', out);
  if (fclose(out) || !text) {
    free(text);
    return report_add(err, "out of memory");
  }
  unsigned char length[8];
  for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)size >> (8 * i));
  fs_writer_add(w, length, 8);
  fs_writer_add(w, text, size);
  free(text);
  return true;
}
