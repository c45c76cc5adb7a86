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

int safe_dtype_size(const char *dtype) {
  int i = find_dtype(dtype);
  return i < 0 ? 0 : dtypes[i].bytes;
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
    f->meta = calloc(json_object_size(v) + 1, sizeof(SafePair));
    if (!f->meta) return report_add(err, "out of memory");
    json_object_foreach(v, mk, mv) {
      if (!json_is_string(mv)) return report_add(err, "%s: __metadata__ '%s' is not a string", f->path, mk);
      SafePair *pair = &f->meta[f->nmeta++];
      *pair = (SafePair){strdup(mk), strdup(json_string_value(mv))};
      if (!pair->key || !pair->value) return report_add(err, "out of memory");
    }
  }
  return true;
}

static SafeFile *new_file(const char *path, Report *err) {
  SafeFile *f = calloc(1, sizeof(SafeFile));
  if (f && (f->path = strdup(path))) return f;
  free(f);
  report_add(err, "out of memory");
  return NULL;
}

/* Everything in f->map is checked. Closes f when it is refused. */
static SafeFile *read_file(SafeFile *f, Report *err) {
  const char *path = f->path;
  json_t *root = NULL;
  bool ok = f->map.n >= 8 || report_add(err, "%s: %zu bytes are no safetensors file", path, f->map.n);
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

SafeFile *safe_open(const char *path, Report *err) {
  SafeFile *f = new_file(path, err);
  if (f && !fs_map(&f->map, path, err)) {
    safe_close(f);
    return NULL;
  }
  return f ? read_file(f, err) : NULL;
}

SafeFile *safe_view(const void *bytes, size_t n, const char *name, Report *err) {
  SafeFile *f = new_file(name, err);
  if (!f) return NULL;
  f->map = (FsMap){bytes, n};
  f->borrowed = true;
  return read_file(f, err);
}

void safe_close(SafeFile *f) {
  if (!f) return;
  for (int i = 0; i < f->n; i++) free(f->tensor[i].name);
  for (int i = 0; i < f->nmeta; i++) free((char *)f->meta[i].key), free((char *)f->meta[i].value);
  free(f->tensor);
  free(f->meta);
  free(f->path);
  if (!f->borrowed) fs_unmap(&f->map);
  free(f);
}

const char *safe_meta(const SafeFile *f, const char *key) {
  for (int i = 0; i < f->nmeta; i++)
    if (!strcmp(f->meta[i].key, key)) return f->meta[i].value;
  return NULL;
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

/* Float's exponent counts from -127, half's from -15; below 2^-14 the steps are 2^-24. */
uint16_t safe_half(float v) {
  uint32_t bits;
  memcpy(&bits, &v, 4);
  uint32_t sign = bits >> 16 & 0x8000u, e = bits >> 23 & 255, m = bits & 0x7fffffu;
  if (e == 255) { /* a NaN stays one, and keeps what fits of its payload */
    uint32_t payload = m >> 13;
    return (uint16_t)(sign | 0x7c00u | (m && !payload ? 0x200u : payload));
  }
  if (e < 102) return (uint16_t)sign; /* below 2^-25: rounds to 0 */
  uint32_t shift = e < 113 ? 126 - e : 13, whole = e < 113 ? m | 0x800000u : m | (e - 112) << 23;
  if (e >= 143) return (uint16_t)(sign | 0x7c00u);
  uint32_t half = whole >> shift, rest = whole & ((1u << shift) - 1), middle = 1u << (shift - 1);
  if (rest > middle || (rest == middle && (half & 1))) half++; /* a carry goes into the exponent, up to infinity */
  return (uint16_t)(sign | half);
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
      out[i] = safe_float(h);
  }
}

/* ---- writing */

int64_t safe_elements(const SafeItem *item) {
  int64_t n = 1;
  for (int i = 0; i < item->rank; i++) n *= item->dim[i];
  return n;
}

static int item_dtype(const SafeItem *item) {
  return find_dtype(item->dtype ? item->dtype : "F32");
}

/* The table of dtypes stands in the format's own order, the widest last. */
static int item_order(const void *a, const void *b) {
  const SafeItem *x = a, *y = b;
  int i = item_dtype(x), k = item_dtype(y);
  return i != k ? k - i : strcmp(x->name, y->name);
}

void safe_sort(SafeItem *items, int n) {
  if (n) qsort(items, (size_t)n, sizeof(SafeItem), item_order);
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

bool safe_header(const SafeItem *items, int n, const SafePair *meta, int nmeta, size_t align, char **text, size_t *size,
                 Report *err) {
  *text = NULL;
  FILE *out = open_memstream(text, size);
  if (!out) return report_add(err, "out of memory");
  fwrite("\0\0\0\0\0\0\0", 1, 8, out); /* the length, known at the end */
  fputc('{', out);
  if (nmeta) fputs("\"__metadata__\":{", out);
  for (int i = 0; i < nmeta; i++) {
    if (i) fputc(',', out);
    add_string(out, meta[i].key);
    fputc(':', out);
    add_string(out, meta[i].value);
  }
  if (nmeta) fputc('}', out);
  uint64_t at = 0;
  for (int i = 0; i < n; i++) {
    if (i || nmeta) fputc(',', out);
    const char *dtype = items[i].dtype ? items[i].dtype : "F32";
    add_string(out, items[i].name);
    fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", dtype);
    for (int k = 0; k < items[i].rank; k++) fprintf(out, "%s%" PRId64, k ? "," : "", items[i].dim[k]);
    uint64_t end = at + (uint64_t)safe_dtype_size(dtype) * (uint64_t)safe_elements(&items[i]);
    fprintf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, end);
    at = end;
  }
  fputc('}', out);
  for (long p = ftell(out); p % (long)align; p++) fputc(' ', out);
  if (fclose(out) || !*text) {
    free(*text);
    *text = NULL;
    return report_add(err, "out of memory");
  }
  for (int i = 0; i < 8; i++) (*text)[i] = (char)((uint64_t)(*size - 8) >> (8 * i));
  return true;
}

bool safe_write_header(FsWriter *w, SafeItem *items, int n, const char *key, const char *value, Report *err) {
  char *text;
  size_t size;
  safe_sort(items, n);
  if (!safe_header(items, n, &(SafePair){key, value}, key != NULL, 8, &text, &size, err)) return false;
  fs_writer_add(w, text, size);
  free(text);
  return true;
}
