/* Programs against the graphs that they came from.
 *
 * Made-up regions with made-up kernels: every region computes the same kind of integer sum, and its name says which of its
 * outputs may or must be written over which input. Random graphs of calls, loops, reshapes, states and outputs are turned
 * into a program; the program's steps are then run over memory as the runtime would, kernels that promise nothing about
 * aliasing clear their outputs first, and the outputs must be those of the graph, taken as pure values. */
#include "codegen/program.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 4, TURNS = 3, BIG = SMALL * TURNS };

/* ---- regions: "r7.mn" has two inputs and one output; letters say output by output, input by input: m may, M must, n none */

static RegionAlias fake_alias(const Graph *r, int output, int input) {
  const char *dot = strchr(r->name, '.');
  if (r->name[0] != 'r' || !dot) return REGION_NONE;
  char c = dot[1 + output * r->ninputs + input];
  return c == 'M' ? REGION_MUST : c == 'm' ? REGION_MAY : REGION_NONE;
}

static bool fake_region(const Graph *r, const Target *t, KModule *into, Lowered *out) {
  (void)t;
  *out = (Lowered){.kernel = kmodule_add(into, r->name), .scratch = 64, .flops = 1, .bytes = 1};
  return true;
}

static int32_t element(const char *region, int output, int input, int32_t x) {
  if (!strncmp(region, "copy", 4)) return x;
  return (int32_t)((uint32_t)x * (uint32_t)(2 + input + 3 * output) + (uint32_t)atoi(region + 1));
}

/* ---- the graph as pure values */

static void pure(const Graph *g, int32_t *const *in, int32_t **out, Arena *a) {
  int32_t **val = NEW_ARRAY(a, int32_t *, g->nvals);
  for (int i = 0; i < g->ninputs; i++) val[g->inputs[i].val] = in[i];
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (n->op == OP_reshape) {
      val[n->res] = val[n->args[0]];
      continue;
    }
    const Graph *c = module_find(g->mod, node_attr(n, "fn")->str);
    for (int o = 0; o < n->nres; o++)
      val[n->res + (Val)o] = NEW_ARRAY(a, int32_t, type_elements(g->types[n->res + (Val)o]));
    if (strcmp(c->region, "loop")) {
      for (int o = 0; o < n->nres; o++)
        for (int64_t x = 0; x < type_elements(g->types[n->res]); x++) {
          uint32_t sum = 0;
          for (int k = 0; k < n->nargs; k++) sum += (uint32_t)element(c->name, o, k, val[n->args[k]][x]);
          val[n->res + (Val)o][x] = (int32_t)sum;
        }
      continue;
    }
    int32_t **cin = NEW_ARRAY(a, int32_t *, c->ninputs), **cout = NEW_ARRAY(a, int32_t *, c->noutputs);
    int64_t turns = node_attr(n, "count")->i;
    for (int k = 0; k < n->nargs; k++) cin[k] = val[n->args[k]];
    for (int64_t turn = 0; turn < turns; turn++) {
      int32_t **now = NEW_ARRAY(a, int32_t *, c->ninputs);
      for (int k = 0; k < n->nargs; k++) {
        bool sliced = type_elements(c->types[c->inputs[k].val]) < type_elements(g->types[n->args[k]]);
        now[k] = cin[k] + (sliced ? turn * type_elements(c->types[c->inputs[k].val]) : 0);
      }
      pure(c, now, cout, a);
      for (int o = 0; o < c->noutputs; o++) { /* an output may be an input, which the next lines overwrite */
        size_t bytes = sizeof(int32_t) * (size_t)type_elements(c->types[c->outputs[o].val]);
        cout[o] = memcpy(arena_alloc(a, bytes), cout[o], bytes);
      }
      for (int o = 0; o < c->noutputs; o++) {
        int64_t part = type_elements(c->types[c->outputs[o].val]);
        bool stacked = part < type_elements(g->types[n->res + (Val)o]);
        memcpy(val[n->res + (Val)o] + (stacked ? turn * part : 0), cout[o], sizeof(int32_t) * (size_t)part);
        for (int k = 0; k < c->ninputs; k++)
          if (c->inputs[k].name == c->outputs[o].name) cin[k] = val[n->res + (Val)o];
      }
    }
  }
  for (int o = 0; o < g->noutputs; o++) out[o] = val[g->outputs[o].val];
}

/* ---- the program over memory */

typedef struct Machine {
  const unsigned char *blob;
  const ProgramHeader *h;
  char *persistent, *arena;
  Module *mod;
} Machine;

#define ROWS(m, T, table) ((const T *)(const void *)((m)->blob + (m)->h->table.at))

static int32_t *address(Machine *m, uint32_t arg, int64_t index) {
  const ProgramArg *a = &ROWS(m, ProgramArg, args)[arg];
  const ProgramBuffer *b = &ROWS(m, ProgramBuffer, buffers)[a->buffer];
  char *base = b->kind == BUF_TEMP ? m->arena : b->kind == BUF_CONST ? (char *)(uintptr_t)m->blob : m->persistent;
  return (int32_t *)(void *)(base + b->offset + a->offset + a->stride * index);
}

static void kernel_run(Machine *m, const ProgramStep *s, int64_t index) {
  const char *name = (const char *)m->blob + ROWS(m, ProgramKernel, kernels)[s->kernel].name;
  const Graph *r = module_find(m->mod, name);
  int nin = r ? r->ninputs : 1, nout = r ? r->noutputs : 1;
  int64_t n = r ? type_elements(r->types[r->outputs[0].val]) : strtoll(strrchr(name, '.') + 1, NULL, 10);
  cr_assert(eq(int, (int)s->nargs, nin + nout));
  int32_t *at[8] = {0};
  for (int i = 0; i < nin + nout; i++) at[i] = address(m, s->args + (uint32_t)i, index);
  for (int o = 0; o < nout; o++)
    for (int i = 0; i < nin; i++) {
      RegionAlias alias = r ? fake_alias(r, o, i) : REGION_NONE;
      if (alias == REGION_MUST) cr_assert(eq(ptr, at[nin + o], at[i]));
    }
  bool clear[8]; /* an output that shares no input's place is garbage until it is written */
  for (int o = 0; o < nout; o++) {
    clear[o] = true;
    for (int i = 0; i < nin; i++)
      clear[o] = clear[o] && !(r && fake_alias(r, o, i) != REGION_NONE && at[nin + o] == at[i]);
    for (int64_t x = 0; clear[o] && x < n; x++) at[nin + o][x] = -77;
  }
  for (int64_t x = 0; x < n; x++) {
    uint32_t sum[4] = {0};
    for (int o = 0; o < nout; o++)
      for (int i = 0; i < nin; i++) sum[o] += (uint32_t)element(name, o, i, at[i][x]);
    for (int o = 0; o < nout; o++) at[nin + o][x] = (int32_t)sum[o];
  }
}

static void list_run(Machine *m, uint32_t list, int64_t index) {
  const ProgramList *l = &ROWS(m, ProgramList, lists)[list];
  for (uint32_t i = l->step; i < l->step + l->nsteps; i++) {
    const ProgramStep *s = &ROWS(m, ProgramStep, steps)[i];
    if (s->kind == STEP_CALL) {
      kernel_run(m, s, index);
      continue;
    }
    for (int64_t k = 0; k < ROWS(m, ProgramInt, ints)[s->count].c; k++) list_run(m, s->kernel, k);
  }
}

/* ---- random modules */

static uint64_t seed;
static int draw(int n) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int)((seed >> 33) % (uint64_t)n);
}

static Type of(int64_t n) {
  return type_make(DT_f32, 1, &n);
}

static const char *name_of(Module *m, const char *stem, int i) {
  return intern(arena_printf(m->arena, "%s%d", stem, i));
}

static Graph *random_region(Module *m, int number, int64_t n) {
  int nin = draw(4), nout = nin ? 1 + draw(2) : 1;
  char code[16] = "";
  bool used[3] = {0};
  for (int o = 0; o < nout; o++) {
    int must = nin && draw(3) == 0 ? draw(nin) : -1;
    if (must >= 0 && used[must]) must = -1;
    if (must >= 0) used[must] = true;
    for (int i = 0; i < nin; i++) code[o * nin + i] = i == must ? 'M' : "mmn"[draw(3)];
  }
  Graph *r = graph_new(m, intern(arena_printf(m->arena, "r%d.%s", number, code)));
  r->region = intern("map");
  Val in[3];
  for (int i = 0; i < nin; i++) in[i] = graph_input(r, name_of(m, "x", i), IN_DATA, of(n), (Span){0});
  Type t = of(n);
  Attr zeros = attr_str("expr", "0");
  if (!nin) graph_output(r, intern("y0"), graph_add(r, OP_table, NULL, 0, &zeros, 1, &t, (Span){0}));
  for (int o = 0; o < nout && nin; o++)
    graph_output(r, name_of(m, "y", o), graph_ew(r, OP_add, in[0], in[o % nin], 0, (Span){0}));
  return r;
}

typedef struct Pool {
  Val v[64];
  int n;
} Pool;

static void add_calls(Module *m, Graph *g, Pool *p, int64_t n, int calls, int *number) {
  for (int i = 0; i < calls; i++) {
    Graph *r = random_region(m, (*number)++, n);
    Val args[3];
    for (int k = 0; k < r->ninputs; k++) args[k] = p->v[draw(p->n)];
    Attr fn = attr_str("fn", r->name);
    Val v = graph_add(g, OP_call, args, r->ninputs, &fn, 1, NULL, (Span){0});
    for (int o = 0; o < r->noutputs && p->n < 60; o++) p->v[p->n++] = v + (Val)o;
    if (draw(4) == 0 && p->n < 60) {
      Type two = type_make(DT_f32, 2, (int64_t[]){2, n / 2});
      Val flat = graph_add(g, OP_reshape, &v, 1, NULL, 0, &two, (Span){0});
      Type one = of(n);
      p->v[p->n++] = graph_add(g, OP_reshape, &flat, 1, NULL, 0, &one, (Span){0});
    }
  }
}

static Graph *random_loop(Module *m, int *number) {
  Pool p = {0};
  int first = *number;
  Graph *g = graph_new(m, name_of(m, "loop", first)); /* regions come after: the module's order is not what is tested */
  g->region = intern("loop");
  for (int i = 0; i < 3; i++) p.v[p.n++] = graph_input(g, name_of(m, "in", i), IN_DATA, of(SMALL), (Span){0});
  add_calls(m, g, &p, SMALL, 1 + draw(4), number);
  graph_output(g, intern("in0"), p.v[draw(p.n)]);
  if (draw(2)) graph_output(g, intern("in1"), p.v[draw(p.n)]);
  graph_output(g, intern("out"), p.v[draw(p.n)]);
  return g;
}

static Graph *random_main(Module *m, int *number) {
  Pool small = {0}, big = {0};
  Graph *g = graph_new(m, intern("main"));
  for (int i = 0; i < 4; i++) {
    InputKind kind = i < 1 ? IN_DATA : i < 2 ? IN_PARAM : IN_STATE;
    small.v[small.n++] = graph_input(g, name_of(m, "s", i), kind, of(SMALL), (Span){0});
    big.v[big.n++] = graph_input(g, name_of(m, "b", i), kind, of(BIG), (Span){0});
  }
  for (int i = 0; i < 4; i++) {
    add_calls(m, g, &small, SMALL, draw(4), number);
    add_calls(m, g, &big, BIG, draw(4), number);
    if (draw(2) || small.n > 50 || big.n > 50) continue;
    Graph *c = random_loop(m, number);
    bool carried1 = graph_find_output(c, "in1") != NULL;
    Val args[3] = {small.v[draw(small.n)], carried1 || draw(2) ? small.v[draw(small.n)] : big.v[draw(big.n)],
                   big.v[draw(big.n)]};
    Attr attrs[2] = {attr_str("fn", c->name), attr_int("count", TURNS)};
    Val v = graph_add(g, OP_call, args, 3, attrs, 2, NULL, (Span){0});
    for (int o = 0; o < c->noutputs; o++) {
      Pool *to = type_elements(g->types[v + (Val)o]) == BIG ? &big : &small;
      to->v[to->n++] = v + (Val)o;
    }
  }
  for (int i = 1; i < 4; i++) {
    if (draw(4)) graph_output(g, name_of(m, "s", i), small.v[draw(small.n)]);
    if (draw(4)) graph_output(g, name_of(m, "b", i), big.v[draw(big.n)]);
  }
  graph_output(g, intern("result"), small.v[draw(small.n)]);
  graph_output(g, intern("same"), small.v[draw(small.n)]);
  return g;
}

static void check_round(uint64_t s) {
  seed = s;
  int number = 0;
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  Module *m = module_new(a, d, "random");
  Graph *g = random_main(m, &number);
  Target target = {.name = "fake", .require = ""};
  Lowering lowering = {fake_region, NULL, fake_alias};
  ProgramSpec spec = {.model = "random", .text = "x"};
  ProgramReport report;
  Text blob = {0};
  KModule *km = kmodule_new(a, "random");
  bool ok = program_build(m, &spec, &target, &lowering, km, d, &blob, &report);
  if (!ok) cr_fail("round %lu: %s", (unsigned long)s, d->n ? d->list[0].text : "no program");

  unsigned char *copy = aligned_alloc(64, (blob.n + 63) / 64 * 64);
  memcpy(copy, blob.s, blob.n);
  Machine machine = {.blob = copy, .h = (const ProgramHeader *)(const void *)copy, .mod = m};
  machine.persistent = arena_alloc(a, (size_t)report.persistent + 64);
  machine.arena = arena_alloc(a, (size_t)report.arena + 64);
  memset(machine.arena, 0x55, (size_t)report.arena);
  int32_t **in = NEW_ARRAY(a, int32_t *, g->ninputs), **want = NEW_ARRAY(a, int32_t *, g->noutputs);
  for (int i = 0; i < g->ninputs; i++) {
    int64_t n = type_elements(g->types[g->inputs[i].val]);
    in[i] = NEW_ARRAY(a, int32_t, n);
    for (int64_t x = 0; x < n; x++) in[i][x] = draw(1000);
    for (uint32_t b = 0; b < machine.h->buffers.n; b++) {
      const ProgramBuffer *row = &ROWS(&machine, ProgramBuffer, buffers)[b];
      if (row->kind != BUF_TEMP && !strcmp((const char *)copy + row->name, g->inputs[i].name))
        memcpy(machine.persistent + row->offset, in[i], sizeof(int32_t) * (size_t)n);
    }
  }
  pure(g, in, want, a);
  list_run(&machine, 0, 0);
  for (int o = 0; o < g->noutputs; o++) {
    int found = 0;
    for (uint32_t b = 0; b < machine.h->buffers.n; b++) {
      const ProgramBuffer *row = &ROWS(&machine, ProgramBuffer, buffers)[b];
      if (row->kind == BUF_TEMP || strcmp((const char *)copy + row->name, g->outputs[o].name)) continue;
      found++;
      size_t n = (size_t)type_elements(g->types[g->outputs[o].val]);
      if (memcmp(machine.persistent + row->offset, want[o], sizeof(int32_t) * n)) {
        Text t = {0};
        graph_print(g, false, &t);
        program_list_text(copy, &t);
        cr_fail("round %lu: output %s differs\n%s", (unsigned long)s, g->outputs[o].name, t.s);
      }
    }
    cr_assert(eq(int, found, 1));
  }
  for (int i = 0; i < g->ninputs; i++) { /* what has no next value stays */
    if (graph_find_output(g, g->inputs[i].name)) continue;
    for (uint32_t b = 0; b < machine.h->buffers.n; b++) {
      const ProgramBuffer *row = &ROWS(&machine, ProgramBuffer, buffers)[b];
      if (row->kind != BUF_TEMP && !strcmp((const char *)copy + row->name, g->inputs[i].name))
        cr_assert(eq(int, memcmp(machine.persistent + row->offset, in[i], (size_t)row->bytes), 0));
    }
  }
  free(copy);
  text_free(&blob);
  arena_free(a);
}

Test(program, random_graphs_compute_what_they_say) {
  /* ROUND=n: that one alone, to look into it. */
  uint64_t one = getenv("ROUND") ? strtoull(getenv("ROUND"), NULL, 10) : 0;
  for (uint64_t s = one ? one : 1; s <= (one ? one : 1500); s++) check_round(s);
}

/* ---- single facts */

static Arena *arena;
static Diags *diags;
static ProgramReport report;

static const ProgramHeader *build(const char *text, Text *blob) {
  arena = arena_new();
  diags = diags_new(arena);
  uint32_t file = diags_source(diags, "test.ir", text, strlen(text));
  (void)file;
  Module *m = module_parse(arena, diags, file);
  if (!m) cr_fail("%s", diags->list[0].text);
  Target target = {.name = "fake", .require = ""};
  Lowering lowering = {fake_region, NULL, fake_alias};
  ProgramSpec spec = {.model = "test", .text = "text"};
  if (!program_build(m, &spec, &target, &lowering, kmodule_new(arena, "k"), diags, blob, &report)) return NULL;
  return (const ProgramHeader *)(const void *)blob->s;
}

static char *listing(const char *text) {
  Text blob = {0}, out = {0};
  const ProgramHeader *h = build(text, &blob);
  if (!h) cr_fail("%s", diags->list[0].text);
  program_list_text(h, &out);
  text_free(&blob);
  return out.s;
}

#define MAP1(name) "region map @" name "(%x: f32[4] data) {\n  %1 = neg %x : f32[4]\n  return y=%1\n}\n"

Test(program, a_state_is_updated_in_place) {
  char *t = listing("module \"m\"\n" MAP1("r1.m") "graph @micro(%acc: f32[4] state) {\n"
                                                  "  %1 = call %acc {fn=\"r1.m\"} : f32[4]\n  return acc=%1\n}\n");
  cr_assert(ne(ptr, strstr(t, "r1.m acc -> acc   # test.ir:7\n"), NULL), "%s", t);
  cr_assert(eq(i64, report.copies, 0));
  cr_assert(eq(i64, report.arena, 0));
}

Test(program, a_kernel_that_reads_around_gets_a_copy) {
  char *t = listing("module \"m\"\n" MAP1("r1.n") "graph @micro(%acc: f32[4] state) {\n"
                                                  "  %1 = call %acc {fn=\"r1.n\"} : f32[4]\n  return acc=%1\n}\n");
  cr_assert(ne(ptr, strstr(t, "copy.f32.4 micro.%2 -> acc   # test.ir:"), NULL), "%s", t);
  cr_assert(eq(i64, report.copies, 1));
}

Test(program, equal_regions_are_one_kernel_and_temporaries_share) {
  listing("module \"m\"\n" MAP1("r1.n") "graph @micro(%x: f32[4] data) {\n  %1 = call %x {fn=\"r1.n\"} : f32[4]\n"
                                        "  %2 = call %1 {fn=\"r1.n\"} : f32[4]\n  %3 = call %2 {fn=\"r1.n\"} : f32[4]\n"
                                        "  %4 = call %3 {fn=\"r1.n\"} : f32[4]\n  return y=%4\n}\n");
  cr_assert(eq(int, report.kernels, 1));
  cr_assert(eq(int, report.steps, 4));
  cr_assert(eq(i64, report.arena, 128)); /* three temporaries of 16 bytes in two slots of 64 */
  cr_assert(eq(i64, report.sum_temp, 48));
}

Test(program, tables_are_evaluated) {
  Text blob = {0};
  const ProgramHeader *h = build("module \"m\"\nregion map @r1.nn(%x: f32[2, 3] data, %t: f32[2, 3] data) {\n"
                                 "  %1 = add %x, %t : f32[2, 3]\n  return y=%1\n}\n"
                                 "graph @micro(%x: f32[2, 3] data) {\n"
                                 "  %1 = table {expr=\"10 * i + j\"} : f32[2, 3]\n"
                                 "  %2 = call %x, %1 {fn=\"r1.nn\"} : f32[2, 3]\n  return y=%2\n}\n",
                                 &blob);
  if (!h) cr_fail("%s", diags->list[0].text);
  const ProgramBuffer *b = (const ProgramBuffer *)(const void *)(blob.s + h->buffers.at);
  int seen = 0;
  for (uint32_t i = 0; i < h->buffers.n; i++) {
    if (b[i].kind != BUF_CONST) continue;
    seen++;
    float v[6], want[6] = {0, 1, 2, 10, 11, 12};
    memcpy(v, blob.s + b[i].offset, sizeof v);
    cr_assert(eq(int, memcmp(v, want, sizeof v), 0));
    cr_assert(eq(u64, b[i].offset % 64, 0));
  }
  cr_assert(eq(int, seen, 1));
  text_free(&blob);
}

Test(program, an_op_outside_of_a_region_is_named) {
  Text blob = {0};
  const ProgramHeader *h =
      build("module \"m\"\ngraph @micro(%x: f32[4] data) {\n  %1 = neg %x : f32[4]\n  return y=%1\n}\n", &blob);
  cr_assert(eq(ptr, (void *)(uintptr_t)h, NULL));
  cr_assert(ne(ptr, strstr(diags->list[0].text, "neg stands in graph 'micro'"), NULL));
}
