/* Safetensors: the writer's bytes, the reader's values, and what the reader refuses. */
#include "runtime/safetensors.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include <math.h>

static Dir dir;
static Report err;
static void setup(void) {
  dir = dir_new();
}
static void teardown(void) {
  report_free(&err);
  dir_free(&dir);
}
TestSuite(safetensors, .init = setup, .fini = teardown);

/* Header text, padded with spaces to `pad` bytes more, and data bytes 0, 1, 2, ... */
static const char *put(const char *header, size_t data, int64_t length) {
  static unsigned char all[1 << 16];
  size_t n = strlen(header);
  uint64_t say = length < 0 ? n : (uint64_t)length;
  memcpy(all, &say, 8);
  memcpy(all + 8, header, n);
  for (size_t i = 0; i < data; i++) all[8 + n + i] = (unsigned char)i;
  file_put(in(&dir, "x"), all, 8 + n + data);
  return in(&dir, "x");
}

Test(safetensors, bytes_of_the_python_library) {
  /* what safetensors.torch.save_file writes for {"b": arange(3), "a": ones(2, 1)} with metadata {"format": "pt"} */
  const char *want =
      "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
      "\"b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[8,20]}}";
  float a[] = {1, 1}, b[] = {0, 1, 2};
  SafeItem items[] = {{"b", 1, (int64_t[]){3}}, {"a", 2, (int64_t[]){2, 1}}};
  FsWriter *w = fs_writer_open(dir.path, "w", &err);
  cr_assert(safe_write_header(w, items, 2, "format", "pt", &err));
  cr_assert(eq(str, (char *)items[0].name, "a")); /* the order in which the data follows */
  fs_writer_add(w, a, sizeof(a));
  fs_writer_add(w, b, sizeof(b));
  uint64_t hash;
  cr_assert(fs_writer_close(w, &hash, &err));
  size_t n, head = strlen(want), padded = (head + 7) / 8 * 8;
  unsigned char *got = (unsigned char *)file_get(in(&dir, "w"), &n);
  cr_assert(eq(sz, n, 8 + padded + 20));
  uint64_t say;
  memcpy(&say, got, 8);
  cr_assert(eq(u64, say, padded));
  cr_assert(zero(int, memcmp(got + 8, want, head)));
  for (size_t i = head; i < padded; i++) cr_assert(eq(chr, (char)got[8 + i], ' '));
  cr_assert(zero(int, memcmp(got + 8 + padded, a, 8)));
  cr_assert(zero(int, memcmp(got + 16 + padded, b, 12)));
  cr_assert(eq(u64, hash, fs_hash(got, n)));
  free(got);
  SafeFile *f = safe_open(in(&dir, "w"), &err);
  cr_assert(ne(ptr, f, NULL), "%s", err.text);
  float back[3];
  safe_read(f, safe_find(f, "b"), 1, 2, back);
  cr_assert(eq(flt, back[1], 2));
  cr_assert(eq(ptr, (void *)safe_find(f, "c"), NULL));
  safe_close(f);
}

Test(safetensors, half_and_brain_floats) {
  static const struct {
    uint16_t bits;
    float want;
  } half[] = {{0x3c00, 1},        {0xc000, -2},       {0x7bff, 65504},      {0x0001, 0x1p-24f}, {0x83ff, -0x1.ff8p-15f},
              {0x0400, 0x1p-14f}, {0x7c00, INFINITY}, {0x3555, 0x1.554p-2f}};
  unsigned char all[256];
  const char *h = "{\"h\":{\"dtype\":\"F16\",\"shape\":[8],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"BF16\","
                  "\"shape\":[2],\"data_offsets\":[16,20]}}";
  uint64_t n = strlen(h);
  memcpy(all, &n, 8);
  memcpy(all + 8, h, n);
  for (int i = 0; i < 8; i++) memcpy(all + 8 + n + 2 * i, &half[i].bits, 2);
  memcpy(all + 8 + n + 16, (uint16_t[]){0x3f80, 0xc049}, 4);
  file_put(in(&dir, "x"), all, 8 + n + 20);
  SafeFile *f = safe_open(in(&dir, "x"), &err);
  cr_assert(ne(ptr, f, NULL), "%s", err.text);
  float v[8];
  safe_read(f, safe_find(f, "h"), 0, 8, v);
  for (int i = 0; i < 8; i++) cr_assert(eq(flt, v[i], half[i].want), "%04x", half[i].bits);
  safe_read(f, safe_find(f, "b"), 0, 2, v);
  cr_assert(eq(flt, v[0], 1));
  cr_assert(eq(flt, v[1], -3.140625f));
  safe_close(f);
}

Test(safetensors, odd_but_legal) {
  static const struct {
    const char *header;
    size_t data;
  } good[] = {{"{}", 0},
              {"{\"__metadata__\":{}}   ", 0},
              {"{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4},
              {"{\"e\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[0,0]},\"i\":{\"dtype\":\"I64\",\"shape\":["
               "1],\"data_offsets\":[0,8]}}",
               8},
              {"{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[4,7]},\"a\":{\"data_offsets\":[0,4],\"shape\":"
               "[4],\"dtype\":\"I8\"}}",
               7}};
  for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
    SafeFile *f = safe_open(put(good[i].header, good[i].data, -1), &err);
    cr_assert(ne(ptr, f, NULL), "%s: %s", good[i].header, err.text);
    safe_close(f);
  }
}

#define ONE(dtype, shape, offsets) "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
Test(safetensors, bad_files) {
  static const struct {
    const char *header;
    size_t data;
    int64_t length;
    const char *part;
  } bad[] = {
      {"", 0, 0, "does not start with '{'"},
      {"{}", 0, 1 << 30, "at most 100000000"},
      {"{}", 0, INT64_MAX, "at most 100000000"},
      {"{}", 0, 50, "cut short"},
      {" {}", 0, -1, "does not start with '{'"},
      {"{\"t\":", 0, -1, "broken at byte"},
      {"{} x", 0, -1, "broken at byte"},
      {"{\"t\":1}", 0, -1, "not described"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, -1, "not described"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, -1, "not described"},
      {"{\"t\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, -1, "not described"},
      {ONE("F33", "[1]", "[0,4]"), 4, -1, "unknown dtype 'F33'"},
      {ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, -1, "9 dimensions"},
      {ONE("F32", "[-1]", "[0,4]"), 4, -1, "impossible shape"},
      {ONE("F32", "[1.5]", "[0,4]"), 4, -1, "impossible shape"},
      {ONE("F32", "[\"1\"]", "[0,4]"), 4, -1, "impossible shape"},
      {ONE("F32", "[4294967296,4294967296]", "[0,4]"), 4, -1, "impossible shape"},
      {ONE("F32", "[4611686018427387904]", "[0,0]"), 0, -1, "impossible shape"},
      {ONE("F32", "[99999999999999999999]", "[0,4]"), 4, -1, "broken at byte"},
      {ONE("F32", "[1]", "[0]"), 4, -1, "impossible data_offsets"},
      {ONE("F32", "[1]", "[0,4,8]"), 4, -1, "impossible data_offsets"},
      {ONE("F32", "[1]", "[4,0]"), 4, -1, "impossible data_offsets"},
      {ONE("F32", "[1]", "[-4,0]"), 4, -1, "impossible data_offsets"},
      {ONE("F32", "[2]", "[0,4]"), 4, -1, "has 4 bytes; its shape and dtype make 8"},
      {ONE("F32", "[1]", "[4,8]"), 8, -1, "a gap"},
      {ONE("F32", "[1]", "[0,4]"), 3, -1, "cut short"},
      {ONE("F32", "[1]", "[0,4]"), 5, -1, "1 bytes after the last tensor"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
       "offsets\":[4,8]}}",
       8, -1, "they overlap"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
       "offsets\":[0,4]}}",
       4, -1, "they overlap"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
       "offsets\":[8,12]}}",
       12, -1, "a gap"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
       "offsets\":[4,8]}}",
       8, -1, "duplicate"},
      {"{\"__metadata__\":3}", 0, -1, "__metadata__ is not an object"},
      {"{\"__metadata__\":{\"a\":3}}", 0, -1, "__metadata__ 'a' is not a string"},
      {"{\"\xff\":1}", 0, -1, "broken at byte"},
  };
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    SafeFile *f = safe_open(put(bad[i].header, bad[i].data, bad[i].length), &err);
    cr_assert(eq(ptr, f, NULL), "taken: %s", bad[i].header);
    cr_assert(ne(ptr, strstr(err.text, bad[i].part), NULL), "%s: '%s' does not say '%s'", bad[i].header, err.text,
              bad[i].part);
    report_free(&err);
  }
  file_put(in(&dir, "x"), "1234", 4);
  cr_assert(eq(ptr, safe_open(in(&dir, "x"), &err), NULL));
  cr_assert(eq(ptr, safe_open(in(&dir, "none"), &err), NULL));
  cr_assert(eq(ptr, safe_open(dir.path, &err), NULL));
}

Test(safetensors, deep_nesting_is_refused) {
  static char deep[20000];
  memset(deep, '[', sizeof(deep) - 1);
  memcpy(deep, "{\"a\":", 5);
  cr_assert(eq(ptr, safe_open(put(deep, 0, -1), &err), NULL));
}

/* Every cut and every flipped byte of the header gives an error or a file that still keeps the rules: never a crash. */
Test(safetensors, cut_and_flipped_bytes) {
  const char *h = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"BF16\","
                  "\"shape\":[3],\"data_offsets\":[16,22]}}";
  size_t n;
  char *all = file_get(put(h, 22, -1), &n);
  for (size_t i = 0; i < n; i++) {
    file_put(in(&dir, "y"), all, i);
    cr_assert(eq(ptr, safe_open(in(&dir, "y"), &err), NULL), "cut at %zu", i);
    report_free(&err);
  }
  for (size_t i = 0; i < 8 + strlen(h); i++)
    for (int bit = 0; bit < 8; bit++) {
      all[i] ^= (char)(1 << bit);
      file_put(in(&dir, "y"), all, n);
      SafeFile *f = safe_open(in(&dir, "y"), &err);
      for (int k = 0; f && k < f->n; k++) cr_assert(le(u64, f->tensor[k].end, 22));
      safe_close(f);
      report_free(&err);
      all[i] ^= (char)(1 << bit);
    }
  free(all);
}
