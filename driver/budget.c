/* The memory budget (`memory` of the training specification): what the program will take is planned, and what is too much traded.
 *
 * How: the budget is of all that the report promises: what stays (parameters, gradients, moments), the arena, scratch of one thread a
 * core of the machine that compiles, constants. A plan of the module as it is says what of that is no matter of choice; the pass
 * remat gets the rest as its limit. It knows what is alive at once, not how well that packs; what a plan of its module is over, the
 * limit loses, until it fits. When the least that the pass can do is still too much, that is the error.
 *
 * Must hold: a program that is built keeps to its budget as long as it runs with no more threads than cores. */
#include "driver/compile.h"
#include "passes/live.h"
#include <inttypes.h>

enum { TURNS = 8, SHOWN = 3 };

static bool plan(Compile *c, Module *m, ProgramReport *r) {
  static const Lowering cpu = {lower_region, lower_peak, region_alias};
  ProgramSpec spec = {.model = c->model->name, .text = ""};
  Text blob = {0};
  bool ok = program_build(m, &spec, &c->target, &cpu, kmodule_new(c->arena, "plan"), c->diags, &blob, r);
  text_free(&blob);
  return ok;
}

/* What a step computes, and with how many calls. */
static double step_flops(const Module *m, int *calls) {
  static const char *const names[] = {"micro", "update"};
  double sum = 0;
  *calls = 0;
  for (int k = 0; k < LEN(names); k++) {
    const Graph *g = module_find(m, names[k]);
    for (int i = 0; g && i < g->nnodes; i++) {
      sum += node_flops(g, &g->nodes[i]);
      *calls += g->nodes[i].op == OP_call;
    }
  }
  return sum;
}

/* The largest values that are there when most is: "f32[4, 256, 3072] (36.0 MiB, models/gpt2.yaml:69 layer.3)". */
static const char *largest(Compile *c, const Module *m) {
  Arena *a = arena_new();
  const Graph *g = NULL;
  Profile p = {0};
  for (int i = 0; i < m->ngraphs; i++) {
    if (m->graphs[i]->region) continue;
    Live live = live_new(m->graphs[i], a);
    Profile q = live_graph(&live, a);
    if (!g || q.peak > p.peak) p = q, g = m->graphs[i];
  }
  Text t = {0};
  Span last = {0};
  for (int shown = 0; shown < SHOWN;) {
    Stay *most = NULL;
    for (int i = 0; i < p.nstays; i++)
      if (p.stays[i].begin <= p.at && p.stays[i].end >= p.at && (!most || p.stays[i].bytes > most->bytes))
        most = &p.stays[i];
    if (!most || most->bytes <= 0) break;
    const Node *n = val_node(g, most->root);
    Span at = n->nplaces ? n->places[most->root - n->res] : n->span;
    most->bytes = -most->bytes; /* looked at */
    if (shown && last.file == at.file && last.line == at.line && last.in == at.in)
      continue; /* a sum and what it becomes */
    last = at;
    text_add(&t, "%s%s", shown++ ? ", " : "", dtype_name[g->types[most->root].dt]);
    shape_print(g, g->types[most->root], &t);
    text_add(&t, " of %.1f MiB", (double)-most->bytes / (1 << 20));
    if (at.file)
      text_add(&t, " (%s:%u%s%s)", c->diags->sources[at.file - 1].path, at.line, at.in ? " " : "", at.in ? at.in : "");
  }
  const char *text = arena_strdup(c->arena, t.s ? t.s : "");
  text_free(&t);
  arena_free(a);
  return text;
}

static int64_t mib_up(int64_t bytes) {
  return (bytes + (1 << 20) - 1) >> 20;
}

static bool too_much(Compile *c, const Module *m, const ProgramReport *r, const char *budget) {
  int64_t all = program_memory(r, c->target.cores);
  const char *names = largest(c, m);
  const char *hint =
      arena_printf(c->arena, "%s%s%sa smaller micro_batch (--batch) or seq needs less; global_batch stays what it is",
                   *names ? "the largest values that are there at once: " : "", names, *names ? "; " : "");
  return diag_hint(
      c->diags, (Span){0}, hint,
      "memory: %s is too little: this program needs at least %" PRId64 "MiB with %d threads, of them %" PRId64
      "MiB for what stays (parameters, gradients, moments, data) and %" PRId64 "MiB for what a step computes",
      budget, mib_up(all), c->target.cores, mib_up(r->persistent), mib_up(all - r->persistent));
}

Module *budget_run(Compile *c, const PassInfo *remat) {
  const char *text = c->train.value[train_key("memory")];
  int64_t budget;
  if (!train_bytes(text, &budget) || !budget) return remat->run(c->module, &c->target);
  Target *t = &c->target;
  Module *m = c->module;
  ProgramReport r;
  if (!plan(c, m, &r)) return NULL;
  int64_t limit = r.arena, over = program_memory(&r, t->cores) - budget;
  int64_t before = program_memory(&r, t->cores);
  int calls_before, calls;
  double flops = step_flops(m, &calls_before);
  for (int turn = 1; over > 0 && limit > 1 && turn <= TURNS; turn++) {
    limit = turn < TURNS && limit > over ? limit - over : 1;
    t->memory = limit;
    if (!(m = remat->run(c->module, t)) || !plan(c, m, &r)) return NULL;
    over = program_memory(&r, t->cores) - budget;
  }
  if (over > 0) return too_much(c, m, &r, text), NULL;
  double more = step_flops(m, &calls) - flops;
  c->traded = (Traded){before - program_memory(&r, t->cores), flops, more, calls - calls_before};
  return m;
}
