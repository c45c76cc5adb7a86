/* The textual form of graphs: print and parse are inverse on tests/ir/text (every op, every feature of types), with
 * spans and without; tests/ir/text/bad.golden holds malformed texts and what is said of each.
 *
 * A case of the golden file: "=== name", the text, "---", the diagnostics. INK_BLESS=1 writes the file anew. */
#include "ir/graph.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Arena *a;
static Diags *d;
static void setup(void) {
  a = arena_new();
  d = diags_new(a);
}
static void teardown(void) {
  arena_free(a);
}
TestSuite(ir_text, .init = setup, .fini = teardown);

static void no_errors(const char *where) {
  Text t = {0};
  diags_render(d, &t);
  if (t.n) cr_fail("%s:\n%s", where, t.s);
  text_free(&t);
}

static Module *read_module(const char *path) {
  uint32_t file;
  diags_read(d, path, 1 << 20, &file);
  no_errors(path);
  Module *m = module_parse(a, d, file);
  no_errors(path);
  cr_assert(not(zero(ptr, m)));
  cr_assert(module_verify(m), "%s: not verified", path);
  return m;
}

static Module *parse_text(const char *s) {
  return module_parse(a, d, diags_source(d, "text.ir", s, strlen(s)));
}

Test(ir_text, print_of_parse_is_the_text) {
  glob_t g = {0};
  bool op_seen[OP_COUNT] = {false};
  cr_assert(zero(int, glob("tests/ir/text/*.ir", 0, NULL, &g)));
  for (size_t i = 0; i < g.gl_pathc; i++) {
    Module *m = read_module(g.gl_pathv[i]);
    Text t = {0};
    module_print(m, false, &t);
    const char *text = NULL; /* the source that was read, not one that a span comment named */
    for (int k = 0; k < d->nsources; k++)
      if (strcmp(d->sources[k].path, g.gl_pathv[i]) == 0 && d->sources[k].n) text = d->sources[k].text;
    cr_assert(eq(str, t.s, (char *)text));
    text_free(&t);
    for (int k = 0; k < m->ngraphs; k++)
      for (int n = 0; n < m->graphs[k]->nnodes; n++) op_seen[m->graphs[k]->nodes[n].op] = true;
  }
  globfree(&g);
  for (int i = 1; i < OP_COUNT; i++) cr_assert(op_seen[i], "no test text has the op %s", op_info[i].name);
}

Test(ir_text, spans_survive) {
  glob_t g = {0};
  cr_assert(zero(int, glob("tests/ir/text/*.ir", 0, NULL, &g)));
  for (size_t i = 0; i < g.gl_pathc; i++) {
    Text one = {0}, two = {0};
    module_print(read_module(g.gl_pathv[i]), true, &one);
    Module *m = parse_text(one.s);
    no_errors(g.gl_pathv[i]);
    module_print(m, true, &two);
    cr_assert(eq(str, one.s, two.s));
    text_free(&one);
    text_free(&two);
  }
  globfree(&g);
}

Test(ir_text, a_comment_gives_the_place_in_the_model) {
  Module *m = parse_text("module \"m\"\n"
                         "graph @g(%x: f32[2] data,   # models/a b.yaml:7\n  %y: f32[2] data) {\n"
                         "  %1 = neg %x : f32[2] # gpt2.yaml:24\n"
                         "  %2 = neg %1 : f32[2]   # gpt2.yaml:25:9\n"
                         "  # gpt2.yaml:26\n"
                         "  %3 = neg %2 : f32[2] # see 12:30 or so\n"
                         "  return y=%3\n}\n");
  no_errors("spans");
  const Graph *g = m->graphs[0];
  cr_assert(eq(str, (char *)d->sources[g->inputs[0].span.file - 1].path, "models/a b.yaml"));
  cr_assert(eq(u32, g->inputs[0].span.line, 7));
  cr_assert(eq(str, (char *)d->sources[g->nodes[0].span.file - 1].path, "gpt2.yaml"));
  cr_assert(eq(u32, g->nodes[0].span.line, 24));
  cr_assert(eq(u32, g->nodes[0].span.col, 0));
  cr_assert(eq(u32, g->nodes[1].span.file, g->nodes[0].span.file));
  cr_assert(eq(u32, g->nodes[1].span.col, 9));
  cr_assert(eq(u32, g->nodes[2].span.file, 1)); /* no place: the text itself */
  cr_assert(eq(u32, g->nodes[2].span.line, 7));
}

Test(ir_text, a_place_can_name_the_block_instance) {
  Module *m = parse_text("module \"m\"\n"
                         "graph @g(%x: f32[2] param   # a.yaml:7 layer.3\n) {\n"
                         "  %1 = neg %x : f32[2] # models/a b.yaml:24:9 layer.3/mlp.0\n"
                         "  %2 = neg %1 : f32[2]   # a.yaml:25\n"
                         "  %3 = neg %2 : f32[2] # a.yaml:26 3layers\n"
                         "  %4 = neg %3 : f32[2] # see a.yaml 26 head\n"
                         "  return y=%4\n}\n");
  no_errors("instances");
  cr_assert(module_verify(m));
  const Graph *g = m->graphs[0];
  cr_assert(eq(str, (char *)g->inputs[0].span.in, "layer.3"));
  cr_assert(eq(u32, g->inputs[0].span.line, 7));
  cr_assert(eq(str, (char *)d->sources[g->nodes[0].span.file - 1].path, "models/a b.yaml"));
  cr_assert(eq(ptr, (void *)g->nodes[0].span.in, (void *)intern("layer.3/mlp.0")));
  cr_assert(eq(u32, g->nodes[0].span.line, 24));
  cr_assert(eq(u32, g->nodes[0].span.col, 9));
  cr_assert(zero(ptr, (void *)g->nodes[1].span.in));
  cr_assert(eq(u32, g->nodes[1].span.line, 25));
  for (int i = 2; i < 4; i++) { /* neither is a place: the text itself */
    cr_assert(eq(u32, g->nodes[i].span.file, 1));
    cr_assert(zero(ptr, (void *)g->nodes[i].span.in));
  }
  Text one = {0}, two = {0};
  m->graphs[0]->nodes[2].span = m->graphs[0]->nodes[3].span = (Span){0};
  module_print(m, true, &one);
  cr_assert(strstr(one.s, ": f32[2]   # models/a b.yaml:24:9 layer.3/mlp.0\n") != NULL);
  cr_assert(strstr(one.s, "param   # a.yaml:7 layer.3\n") != NULL);
  Module *again = parse_text(one.s);
  again->graphs[0]->nodes[2].span = again->graphs[0]->nodes[3].span = (Span){0};
  module_print(again, true, &two);
  cr_assert(eq(str, one.s, two.s));
  text_free(&one);
  text_free(&two);
}

Test(ir_text, names_and_layout_are_free) {
  Module *m = parse_text(
      "module \"m\" graph @g(%x:f32[2]data){%h=neg %x:f32[2]\n%out = add %h,\n %x : f32 [ 2 ]\n return y = %out}");
  no_errors("layout");
  Text t = {0};
  module_print(m, false, &t);
  cr_assert(eq(str, t.s,
               "module \"m\"\n\ngraph @g(\n  %x: f32[2] data\n) {\n  %1 = neg %x : f32[2]\n"
               "  %2 = add %1, %x : f32[2]\n  return y=%2\n}\n"));
  text_free(&t);
}

Test(ir_text, inputs_made_late_print_first) {
  Module *m = module_new(a, d, "m");
  Graph *g = graph_new(m, "g");
  Val x = graph_input(g, "x", IN_DATA, type_scalar(DT_f32), (Span){0});
  Val y = graph_ew(g, OP_neg, x, 0, 0, (Span){0});
  Val z = graph_input(g, "z", IN_DATA, type_scalar(DT_f32), (Span){0});
  graph_output(g, "w", graph_ew(g, OP_add, y, z, 0, (Span){0}));
  Text t = {0}, again = {0};
  module_print(m, true, &t);
  cr_assert(eq(str, t.s,
               "module \"m\"\n\ngraph @g(\n  %x: f32 data,\n  %z: f32 data\n) {\n  %1 = neg %x : f32\n"
               "  %2 = add %1, %z : f32\n  return w=%2\n}\n"));
  Module *m2 = parse_text(t.s);
  no_errors("late input");
  module_print(m2, false, &again);
  cr_assert(eq(str, t.s, again.s));
  text_free(&t);
  text_free(&again);
}

Test(ir_text, numbers_keep_their_bits) {
  static const double value[] = {0.,        -0.,
                                 1.,        0.1,
                                 1. / 3,    1e300,
                                 5e-324,    123456789012345680.,
                                 -2.5,      1e22,
                                 1e23,      0x1p52,
                                 0x1p-1074, 3.4028234663852886e38};
  Module *m = module_new(a, d, "m");
  Graph *g = graph_new(m, "g");
  for (int i = 0; i < LEN(value); i++) graph_const(g, value[i], (Span){0});
  Text t = {0};
  module_print(m, false, &t);
  Module *m2 = parse_text(t.s);
  no_errors("numbers");
  for (int i = 0; i < LEN(value); i++) {
    double v = node_attr(&m2->graphs[0]->nodes[i], "value")->num;
    cr_assert(zero(int, memcmp(&v, &value[i], 8)), "%.17g became %.17g", value[i], v);
  }
  text_free(&t);
}

/* The examples in docs/ir.md are true: each block marked ir is a module, in the form in which it prints. */
Test(ir_text, the_page_is_true) {
  uint32_t file;
  int blocks = 0;
  cr_assert(diags_read(d, "docs/ir.md", 1 << 20, &file));
  for (const char *s = d->sources[file - 1].text; (s = strstr(s, "```ir\n")); blocks++) {
    s += strlen("```ir\n");
    char *block = arena_strndup(a, s, (size_t)(strstr(s, "```") - s));
    s += strlen(block) + 3; /* behind the closing fence */
    Module *m = parse_text(block);
    no_errors("docs/ir.md");
    cr_assert(module_verify(m));
    Text t = {0};
    module_print(m, false, &t);
    cr_assert(eq(str, t.s, block));
    text_free(&t);
  }
  cr_assert(eq(int, blocks, 2));
}

/* Parses any prefix and any damaged copy of a good text without a crash; every refusal says why. */
Test(ir_text, damage_is_refused_not_crashed_on) {
  uint32_t file;
  cr_assert(diags_read(d, "tests/ir/text/types.ir", 1 << 20, &file));
  char *s = strdup(d->sources[file - 1].text);
  size_t n = strlen(s);
  static const char junk[] = "%@[]{}(),:=\"<#9-z\n\\";
  uint32_t seed = 1;
  for (size_t i = 0; i < 3000; i++) {
    Arena *here = arena_new();
    Diags *dd = diags_new(here);
    char *copy = strdup(s);
    size_t len = n;
    if (i < n && i % 3 == 0) len = i;
    for (int k = 0; k < 3; k++) {
      seed = seed * 1664525 + 1013904223;
      copy[(seed >> 8) % n] = junk[(seed >> 3) % (sizeof junk - 1)];
    }
    Module *m = module_parse(here, dd, diags_source(dd, "damaged.ir", copy, len));
    cr_assert(eq(int, m == NULL, dd->n > 0));
    if (m && module_verify(m)) {
      Text t = {0}, u = {0};
      module_print(m, true, &t);
      Module *m2 = module_parse(here, dd, diags_source(dd, "again.ir", t.s, t.n));
      cr_assert(not(zero(ptr, m2)), "printed text does not parse:\n%s", t.s);
      module_print(m2, true, &u);
      cr_assert(eq(str, t.s, u.s));
      text_free(&t);
      text_free(&u);
    }
    Text out = {0};
    diags_render(dd, &out);
    text_free(&out);
    free(copy);
    arena_free(here);
  }
  free(s);
}

Test(ir_text, bad_texts) {
  const char *path = "tests/ir/text/bad.golden", *bless = getenv("INK_BLESS");
  uint32_t file;
  cr_assert(diags_read(d, path, 1 << 20, &file), "cannot read %s", path);
  const char *s = d->sources[file - 1].text;
  Text all = {0};
  int cases = 0, wrong = 0;
  while (strncmp(s, "=== ", 4) == 0) {
    const char *text = strchr(s, '\n') + 1, *rule = strncmp(text, "---\n", 4) == 0 ? text - 1 : strstr(text, "\n---\n");
    cr_assert(not(zero(ptr, (void *)rule)), "a case without ---");
    const char *want = rule + 5, *end = strstr(want, "=== "); /* no diagnostic holds "=== " */
    if (!end) end = want + strlen(want);
    Arena *here = arena_new();
    Diags *dd = diags_new(here);
    Module *m = module_parse(here, dd, diags_source(dd, "bad.ir", text, (size_t)(rule + 1 - text)));
    cr_assert(eq(int, m == NULL, dd->n > 0));
    if (m) cr_assert(not(module_verify(m)), "accepted: %.*s", (int)(text - s), s);
    Text got = {0};
    diags_render(dd, &got);
    if (got.n != (size_t)(end - want) || memcmp(got.s, want, got.n) != 0) {
      wrong++;
      if (!bless)
        fprintf(stderr, "%.*s--- expected\n%.*s--- got\n%s", (int)(text - s), s, (int)(end - want), want, got.s);
    }
    text_write(&all, s, (size_t)(rule + 5 - s));
    text_write(&all, got.s, got.n);
    text_free(&got);
    arena_free(here);
    cases++;
    s = end;
  }
  cr_assert(zero(chr, *s), "the golden file goes on with: %.40s", s);
  cr_assert(ge(int, cases, 50));
  if (bless)
    cr_assert(file_write_atomic(path, all.s, all.n));
  else
    cr_assert(eq(int, wrong, 0));
  text_free(&all);
}
