/* Compares two safetensors files of f32 tensors: golden compare GOT WANT [--tol 1e-3] [--floor 1e-6] [--largest].
 *
 * What: for each tensor the relative error |got - want| / max(|want|, floor * |WANT|), norms being Euclidean and |WANT|
 * that of all tensors of WANT together; with --largest the norms are the largest absolute values. Why the floor: the gradient of a bias that nothing depends on is pure rounding,
 * and no two programs agree on it. How: both headers by jansson, the data summed in double.
 * Must hold: a tensor that is missing, extra, of another shape or not finite fails; so does any error above --tol.
 * Exit: 0 alike, 1 not, 2 unreadable or wrong usage. Kept apart from the runtime's reader on purpose: it judges that. */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct File {
  const char *path;
  char *bytes;
  uint64_t n, data; /* data: where the tensors' bytes begin */
  json_t *head;
} File;

static File got, want; /* for the life of the process */

static bool bad(const File *f, const char *why) {
  fprintf(stderr, "compare: %s: %s\n", f->path, why);
  return false;
}

static bool load(File *f, const char *path) {
  *f = (File){.path = path};
  FILE *in = fopen(path, "rb");
  if (!in) return bad(f, "cannot be opened");
  bool ok = fseek(in, 0, SEEK_END) == 0;
  long n = ok ? ftell(in) : -1;
  ok = ok && n >= 8 && n < (1l << 30) && fseek(in, 0, SEEK_SET) == 0;
  f->bytes = ok ? malloc((size_t)n) : NULL;
  ok = f->bytes && fread(f->bytes, 1, (size_t)n, in) == (size_t)n;
  fclose(in);
  if (!ok) return bad(f, "cannot be read, or is no safetensors file");
  f->n = (uint64_t)n;
  uint64_t head;
  memcpy(&head, f->bytes, 8);
  if (head > f->n - 8) return bad(f, "header longer than the file");
  f->data = 8 + head;
  json_error_t e;
  f->head = json_loadb(f->bytes + 8, (size_t)head, JSON_REJECT_DUPLICATES, &e);
  return json_is_object(f->head) || bad(f, "header is no JSON object");
}

/* The tensor's floats and their count, or NULL with a message. */
static const float *tensor(const File *f, const char *name, json_t *info, uint64_t *count) {
  json_t *shape = json_object_get(info, "shape"), *span = json_object_get(info, "data_offsets");
  const char *dtype = json_string_value(json_object_get(info, "dtype"));
  json_int_t from = json_integer_value(json_array_get(span, 0)), to = json_integer_value(json_array_get(span, 1));
  uint64_t n = 1;
  for (size_t i = 0; i < json_array_size(shape); i++) {
    json_int_t d = json_integer_value(json_array_get(shape, i));
    if (d < 0 || (d && n > f->n / (uint64_t)d)) return bad(f, name), bad(f, "impossible shape"), NULL;
    n *= (uint64_t)d;
  }
  if (!dtype || strcmp(dtype, "F32") != 0) return bad(f, name), bad(f, "not F32"), NULL;
  if (from < 0 || to < from || (uint64_t)to > f->n - f->data || (uint64_t)(to - from) != n * 4 ||
      (f->data + (uint64_t)from) % 4)
    return bad(f, name), bad(f, "data_offsets do not fit"), NULL;
  *count = n;
  return (const float *)(const void *)(f->bytes + f->data + from);
}

static bool largest;

/* The square of the norm. */
static double sum_squares(const float *x, uint64_t n) {
  double s = 0;
  for (uint64_t i = 0; largest && i < n; i++)
    if (!((double)x[i] * x[i] <= s)) s = (double)x[i] * x[i];
  if (largest) return s;
  for (uint64_t i = 0; i < n; i++) s += (double)x[i] * x[i];
  return s;
}

int main(int argc, char **argv) {
  double tol = 1e-3, floor_share = 1e-6;
  const char *path[2];
  int npaths = 0;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--tol") && i + 1 < argc)
      tol = atof(argv[++i]);
    else if (!strcmp(argv[i], "--floor") && i + 1 < argc)
      floor_share = atof(argv[++i]);
    else if (!strcmp(argv[i], "--largest"))
      largest = true;
    else if (argv[i][0] != '-' && npaths < 2)
      path[npaths++] = argv[i];
    else
      npaths = 3;
  }
  if (npaths != 2) return fprintf(stderr, "usage: compare GOT WANT [--tol 1e-3] [--floor 1e-6]\n"), 2;
  if (!load(&got, path[0]) || !load(&want, path[1])) return 2;

  const char *name, *worst_name = "none";
  json_t *info;
  double total = 0, worst = 0;
  uint64_t n, m;
  int tensors = 0, wrong = 0;
  json_object_foreach(want.head, name, info) {
    if (!strcmp(name, "__metadata__")) continue;
    const float *w = tensor(&want, name, info, &n);
    if (!w) return 2;
    total += sum_squares(w, n);
    tensors++;
  }
  total = sqrt(total);
  if (!tensors) return bad(&want, "holds no tensor"), 2;
  json_object_foreach(got.head, name, info) if (strcmp(name, "__metadata__") && !json_object_get(want.head, name)) {
    printf("extra: %s\n", name);
    wrong++;
  }
  json_object_foreach(want.head, name, info) {
    if (!strcmp(name, "__metadata__")) continue;
    json_t *other = json_object_get(got.head, name);
    if (!other) {
      printf("missing: %s\n", name);
      wrong++;
      continue;
    }
    if (!json_equal(json_object_get(info, "shape"), json_object_get(other, "shape"))) {
      printf("other shape: %s\n", name);
      wrong++;
      continue;
    }
    const float *w = tensor(&want, name, info, &n), *g = tensor(&got, name, other, &m);
    if (!w || !g || n != m) return 2;
    double d = 0, biggest = -1;
    uint64_t at = 0;
    for (uint64_t i = 0; i < n; i++) {
      double e = fabs((double)g[i] - w[i]);
      d += e * e;
      if (!(e <= biggest)) biggest = e, at = i;
    }
    if (largest) d = biggest * biggest;
    double base = fmax(sqrt(sum_squares(w, n)), floor_share * total), error = base > 0 ? sqrt(d) / base : sqrt(d);
    if (!(error <= tol)) { /* a NaN is caught here too */
      printf("differs: %s: relative error %.3g (norm %.6g); element %llu: got %.9g, want %.9g\n", name, error,
             sqrt(sum_squares(w, n)), (unsigned long long)at, g[at], w[at]);
      wrong++;
    }
    if (!(error <= worst)) worst = error, worst_name = name;
  }
  printf("%d tensors, global norm %.6g, largest relative error %.3g (%s), allowed %.3g: %s\n", tensors, total, worst,
         worst_name, tol, wrong ? "DIFFERENT" : "alike");
  return wrong ? 1 : 0;
}
