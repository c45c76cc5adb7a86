/* Writes the weights of a case: weights TENSORS.txt DIR.
 *
 * What: the safetensors files that tensors.txt lists ("FILE DTYPE NAME EXTENT..." a line, sorted by name), and
 * model.safetensors.index.json when they are several. Element i of a tensor is computed from its name and i, by the formula of
 * `values` in scripts/check/make_import_goldens.py; both sides compute it exactly, with one rounding to f32 and for BF16 a
 * second one. Must hold: the bytes are those of the Python library for the same tensors. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TENSORS = 500, RANK = 4 };

typedef struct Tensor {
  char file[64], dtype[8], name[128];
  int rank, dim[RANK];
  size_t n;
} Tensor;

static Tensor tensor[TENSORS];
static int tensors;

static float value(const Tensor *t, uint64_t i) {
  uint64_t z = 0xcbf29ce484222325u;
  for (const char *c = t->name; *c; c++) z = (z ^ (unsigned char)*c) * 0x100000001b3u;
  z += i + 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  double x = (double)(z >> 40) / 0x1p23 - 1;
  size_t len = strlen(t->name);
  bool bias = len > 4 && !strcmp(t->name + len - 4, "bias");
  return (float)(t->rank > 1 ? x / 8 : bias ? x / 16 : 1 + x / 8);
}

static void read_list(const char *path) {
  char line[512];
  FILE *in = fopen(path, "r");
  if (!in) exit((perror(path), 2));
  while (fgets(line, sizeof line, in) && tensors < TENSORS) {
    Tensor *t = &tensor[tensors++];
    int used = 0, more;
    if (sscanf(line, "%63s %7s %127s%n", t->file, t->dtype, t->name, &used) != 3) exit(2);
    t->n = 1;
    for (const char *s = line + used; t->rank < RANK && sscanf(s, "%d%n", &t->dim[t->rank], &more) == 1; s += more)
      t->n *= (size_t)t->dim[t->rank++];
  }
  fclose(in);
}

static FILE *create(const char *dir, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *out = fopen(path, "wb");
  if (!out) exit((perror(path), 2));
  return out;
}

static void write_file(const char *dir, const char *file) {
  static char head[1 << 16];
  int n = snprintf(head, sizeof head, "{\"__metadata__\":{\"format\":\"pt\"}");
  size_t at = 0;
  for (int i = 0; i < tensors; i++) {
    const Tensor *t = &tensor[i];
    if (strcmp(t->file, file)) continue;
    n += snprintf(head + n, sizeof head - (size_t)n, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, t->dtype);
    for (int k = 0; k < t->rank; k++) n += snprintf(head + n, sizeof head - (size_t)n, "%s%d", k ? "," : "", t->dim[k]);
    size_t bytes = t->n * (strcmp(t->dtype, "BF16") ? 4 : 2);
    n += snprintf(head + n, sizeof head - (size_t)n, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
    at += bytes;
  }
  head[n++] = '}';
  while (n % 8) head[n++] = ' ';
  uint64_t length = (uint64_t)n;
  FILE *out = create(dir, file);
  fwrite(&length, 8, 1, out);
  fwrite(head, 1, (size_t)n, out);
  for (int i = 0; i < tensors; i++) {
    const Tensor *t = &tensor[i];
    for (size_t k = 0; k < t->n && !strcmp(t->file, file); k++) {
      float v = value(t, k);
      uint32_t bits;
      memcpy(&bits, &v, 4);
      uint16_t half = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); /* to nearest even */
      fwrite(strcmp(t->dtype, "BF16") ? (void *)&bits : (void *)&half, strcmp(t->dtype, "BF16") ? 4 : 2, 1, out);
    }
  }
  if (fclose(out)) exit((perror(file), 2));
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "usage: weights TENSORS.txt DIR\n"), 2;
  read_list(argv[1]);
  for (int i = 0; i < tensors; i++)
    if (!i || strcmp(tensor[i].file, tensor[i - 1].file)) write_file(argv[2], tensor[i].file);
  if (!tensors || !strcmp(tensor[0].file, "model.safetensors")) return !tensors;
  FILE *out = create(argv[2], "model.safetensors.index.json");
  fprintf(out, "{\"metadata\": {}, \"weight_map\": {");
  for (int i = 0; i < tensors; i++) fprintf(out, "%s\n  \"%s\": \"%s\"", i ? "," : "", tensor[i].name, tensor[i].file);
  fprintf(out, "\n}}\n");
  return fclose(out) != 0;
}
