/* A program blob as text: what `ink dump --stage program` shows.
 *
 *   list micro: 41 steps
 *     0  gather.0 tokens wte -> ...   # FILE:LINE layer.0     the kernel, what it reads and writes, where it comes from
 *     7  list micro.loop.0 x 16
 *   buffers, with their place, size and shape
 *
 * Reads only the blob, so it shows what the runtime will see. The blob is ours: it is not checked again here. */
#include "codegen/program.h"
#include <inttypes.h>

typedef struct View {
  const unsigned char *blob;
  const ProgramHeader *h;
  const ProgramBuffer *buffers;
  const ProgramKernel *kernels;
  const ProgramStep *steps;
  const ProgramArg *args;
  const ProgramInt *ints;
  const ProgramList *lists;
  const ProgramSymbol *symbols;
  const ProgramParam *params;
  const ProgramPlace *places;
} View;

static const char *str(const View *v, uint32_t at) {
  return at ? (const char *)v->blob + at : "";
}

static void print_int(const View *v, const ProgramInt *i, Text *out) {
  if (i->sym)
    text_add(out, "%s", str(v, v->symbols[i->sym - 1].name));
  else
    text_add(out, "%" PRId64, i->c);
}

/* "   # gpt2.yaml:31 layer.3, 32, 29 layer.2": the step's own place, then the others, each once. */
static void print_places(const View *v, const ProgramStep *s, Text *out) {
  const ProgramPlace *first = &v->places[s->place];
  for (uint32_t i = 0; i < s->nplaces; i++) {
    const ProgramPlace *a = &first[i], *before = i ? &first[i - 1] : NULL;
    bool said = !a->line;
    for (uint32_t k = 0; k < i && !said; k++)
      said = first[k].file == a->file && first[k].line == a->line && first[k].in == a->in;
    if (said) continue;
    if (!before || before->file != a->file)
      text_add(out, "%s%s:%u", before ? ", " : "   # ", str(v, a->file), a->line);
    else
      text_add(out, ", %u", a->line);
    if (a->in) text_add(out, " %s", str(v, a->in));
  }
}

static void print_step(const View *v, uint32_t n, uint32_t first, Text *out) {
  const ProgramStep *s = &v->steps[n];
  if (s->kind == STEP_LIST) {
    text_add(out, "  %4u  list %s x ", n - first, str(v, v->lists[s->kernel].name));
    print_int(v, &v->ints[s->count], out);
    print_places(v, s, out);
    text_add(out, "\n");
    return;
  }
  text_add(out, "  %4u  %s", n - first, str(v, v->kernels[s->kernel].name));
  for (uint32_t a = s->args; a < s->args + s->nargs; a++) {
    if (a == s->args + s->nargs - v->kernels[s->kernel].outputs) text_add(out, " ->");
    text_add(out, " %s", str(v, v->buffers[v->args[a].buffer].name));
    if (v->args[a].offset) text_add(out, "+%" PRId64, v->args[a].offset);
    if (v->args[a].stride) text_add(out, "+%" PRId64 "i", v->args[a].stride);
  }
  for (uint32_t i = s->ints; i < s->ints + s->nints; i++) {
    text_add(out, i == s->ints ? " | " : " ");
    print_int(v, &v->ints[i], out);
  }
  print_places(v, s, out);
  text_add(out, "\n");
}

void program_list_text(const void *blob, Text *out) {
  static const char *const kind[] = {"data", "param", "state", "temp", "const"};
  View v = {.blob = blob, .h = blob};
  const ProgramHeader *h = v.h;
#define AT(field) ((const void *)(v.blob + h->field.at))
  v.buffers = AT(buffers);
  v.kernels = AT(kernels);
  v.steps = AT(steps);
  v.args = AT(args);
  v.ints = AT(ints);
  v.lists = AT(lists);
  v.symbols = AT(symbols);
  v.params = AT(params);
  v.places = AT(places);
#undef AT
  text_add(out, "program %s for %s (needs %s)\n", str(&v, h->model), str(&v, h->target), str(&v, h->cpu_features));
  text_add(out,
           "batch %" PRId64 ", time %" PRId64 "; bytes: persistent %" PRIu64 ", arena %" PRIu64 ", scratch %" PRIu64
           " a thread\n",
           h->batch, h->time, h->persistent_bytes, h->arena_bytes, h->scratch_bytes);
  for (uint32_t i = 0; i < h->lists.n; i++) {
    const ProgramList *l = &v.lists[i];
    text_add(out, "\nlist %s: %u steps\n", str(&v, l->name), l->nsteps);
    for (uint32_t s = l->step; s < l->step + l->nsteps; s++) print_step(&v, s, l->step, out);
  }
  text_add(out, "\nbuffers\n");
  for (uint32_t i = 0; i < h->buffers.n; i++) {
    const ProgramBuffer *b = &v.buffers[i];
    text_add(out, "  %-5s %12" PRIu64 " +%-10" PRIu64 " %s: %s[", kind[b->kind], b->offset, b->bytes, str(&v, b->name),
             dtype_name[b->dtype]);
    for (int k = 0; k < b->rank; k++) text_add(out, "%s%" PRId64, k ? ", " : "", b->dim[k]);
    text_add(out, "]%s%s\n", b->source ? " from " : "", str(&v, b->source));
  }
  text_add(out, "\nkernels\n");
  for (uint32_t i = 0; i < h->kernels.n; i++) {
    const ProgramKernel *k = &v.kernels[i];
    text_add(out, "  %-24s %.4g flops, %.4g bytes", str(&v, k->name), k->flops, k->bytes);
    if (k->line) text_add(out, "   # %s:%u", str(&v, k->file), k->line);
    text_add(out, "\n");
  }
}
