/* A smaller model of the same kind: dimensions that are plain numbers are halved, each time the one that saves most, as long as
 * the model still loads (heads that no longer divide d, and the like, are passed over). Nothing here knows what a
 * dimension means. */
#include "cli/sizes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { DIMS = 64, LEAST = 2, LEAST_LARGE = 32 }; /* a width of a few says little; layers and heads are few */

typedef struct DimValue {
  const char *name;
  int64_t given, now;
} DimValue;

double sizes_flops(const Model *m) {
  const Graph *g = module_find(m->mod, "forward");
  double sum = 0;
  for (int i = 0; g && i < g->nnodes; i++) sum += node_flops(g, &g->nodes[i]);
  return sum;
}

double sizes_work(const Model *m) {
  return sizes_flops(m) * (6.0 * m->nparams + 60);
}

/* The numbers under `dims:` of the effective specification, which is written one to a line. */
static int dims_of(Arena *a, const char *spec, DimValue *out) {
  const char *line = spec && !strncmp(spec, "dims:\n", 6) ? spec : spec ? strstr(spec, "\ndims:\n") : NULL;
  int n = 0;
  if (!line) return 0;
  for (line = strstr(line, "dims:\n") + 6; !strncmp(line, "  ", 2) && n < DIMS; line += strcspn(line, "\n") + 1) {
    char name[64];
    long long v;
    int end = 0;
    if (sscanf(line, "  %63[A-Za-z0-9_]: %lld%n", name, &v, &end) == 2 && line[end] == '\n' && v > 0)
      out[n++] = (DimValue){arena_strdup(a, name), v, v};
  }
  return n;
}

/* The model's work with these dimensions; negative: it does not load. */
static double work_with(const Compile *c, const DimValue *dim, int n) {
  Compile t = *c;
  double work = -1;
  t.arena = arena_new();
  t.diags = diags_new(t.arena);
  t.sets = NEW_ARRAY(t.arena, const char *, c->nsets + n + 1);
  memcpy(t.sets, c->sets, sizeof *t.sets * (size_t)c->nsets);
  for (int i = 0; i < n; i++)
    if (dim[i].now != dim[i].given)
      t.sets[t.nsets++] = arena_printf(t.arena, "dims.%s=%" PRId64, dim[i].name, dim[i].now);
  if (compile_run(&t, STAGE_GRAPH)) work = sizes_work(t.model);
  compile_free(&t);
  arena_free(t.arena);
  return work;
}

const char *sizes_smaller(const Compile *c, double most) {
  DimValue dim[DIMS];
  int n = dims_of(c->arena, c->model->effective, dim);
  double now = sizes_work(c->model);
  while (now > most) {
    int best = -1;
    double least = now;
    for (int i = 0; i < n; i++) {
      int64_t was = dim[i].now;
      if (was / 2 < (dim[i].given < LEAST_LARGE ? LEAST : LEAST_LARGE)) continue;
      dim[i].now = was / 2;
      double f = work_with(c, dim, n);
      dim[i].now = was;
      if (f >= 0 && f < 0.99 * least) best = i, least = f;
    }
    if (best < 0) break;
    dim[best].now /= 2;
    now = least;
  }
  Text t = {0};
  for (int i = 0; i < n; i++)
    if (dim[i].now != dim[i].given) text_add(&t, " --set dims.%s=%" PRId64, dim[i].name, dim[i].now);
  const char *s = t.n ? arena_strdup(c->arena, t.s) : NULL;
  text_free(&t);
  return s;
}
