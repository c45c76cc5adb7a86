/* The verifier finds every broken invariant that its head lists, in modules that were damaged after they were built;
 * shape inference of the builders; rules; cost. */
#include "ir/graph.h"
#include "ir/rule.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

static Arena *a;
static Diags *d;
static Module *m;
static Graph *g;
static Val x, w, ids;
static const Span nowhere;

/* x: f32[B=4, T=8, d=16], w: f32[ff=32, d=16], ids: i32[4, 8]; nodes: 0 silu x, 1 contract, 2 attend-free sum */
static void setup(void) {
  a = arena_new();
  d = diags_new(a);
  m = module_new(a, d, "m");
  g = graph_new(m, "g");
  Type tx = type_make(DT_f32, 3, (int64_t[]){4, 8, 16}), tw = type_make(DT_f32, 2, (int64_t[]){32, 16});
  tx.dim[0].name = intern("B");
  tx.dim[1].name = intern("T");
  tx.dim[2].name = tw.dim[1].name = intern("d");
  tw.dim[0].name = intern("ff");
  x = graph_input(g, "x", IN_DATA, tx, nowhere);
  w = graph_input(g, "w", IN_PARAM, tw, nowhere);
  ids = graph_input(g, "ids", IN_DATA, type_make(DT_i32, 2, (int64_t[]){4, 8}), nowhere);
  Val h = graph_ew(g, OP_silu, x, 0, 0, nowhere);
  Val y = graph_contract(g, "btd,fd->btf", h, w, nowhere);
  graph_output(g, "y", graph_sum(g, y, 2, (int64_t[]){1, 2}, nowhere));
}
static void teardown(void) {
  arena_free(a);
}
TestSuite(verify, .init = setup, .fini = teardown);

static void said(const char *text) {
  Text t = {0};
  diags_render(d, &t);
  if (!t.s || !strstr(t.s, text)) cr_fail("expected '%s', got:\n%s", text, t.s ? t.s : "nothing");
  text_free(&t);
}

static void refused(const char *text) {
  cr_assert(not(module_verify(m)), "accepted, should say '%s'", text);
  said(text);
}

Test(verify, accepts_what_was_built) {
  cr_assert(module_verify(m));
  cr_assert(zero(int, d->n));
}

Test(verify, graph_names) {
  g->name = intern("two words");
  refused("'two words' is no name for a graph");
}
Test(verify, graph_twice) {
  graph_new(m, "g");
  refused("two graphs are named g");
}
Test(verify, mesh) {
  m->naxes = 2;
  m->mesh[0] = (MeshAxis){intern("tp"), 2};
  m->mesh[1] = (MeshAxis){intern("tp"), 0};
  refused("mesh: two axes are named tp");
  said("mesh: axis 1 has no proper name or size");
}
Test(verify, ring) {
  Graph *h = graph_new(m, "h"), *k = graph_new(m, "k");
  Attr to_h = attr_str("fn", "h"), to_k = attr_str("fn", "k");
  graph_add(h, OP_call, NULL, 0, &to_k, 1, NULL, nowhere);
  cr_assert(module_verify(m)); /* the callee may stand later */
  graph_add(k, OP_call, NULL, 0, &to_h, 1, NULL, nowhere);
  refused("@h: calls itself, directly or through others");
}
Test(verify, region_calls) {
  Graph *h = graph_new(m, "h");
  h->region = "map";
  Graph *k = graph_new(m, "k");
  (void)k;
  Attr to_k = attr_str("fn", "k");
  graph_add(h, OP_call, NULL, 0, &to_k, 1, NULL, nowhere);
  cr_assert(eq(int, h->nnodes, 1));
  refused("a region calls nothing");
}
Test(verify, definition) {
  g->def[g->nodes[1].res] = 0;
  refused("node 1 (contract) does not define its results");
}
Test(verify, input_definition) {
  g->inputs[1].val = x;
  refused("input 1 does not define its value");
}
Test(verify, numbers_without_definition) {
  g->nnodes--;
  refused("definitions");
}
Test(verify, order) {
  Node t = g->nodes[0];
  g->nodes[0] = g->nodes[1];
  g->nodes[1] = t;
  refused("node 0 (contract)");
}
Test(verify, use_before_definition) {
  g->nodes[0].args[0] = g->nodes[1].res;
  refused("operand 1 of node 0 (silu) is not defined before");
}
Test(verify, no_op) {
  g->nodes[0].op = OP_NONE;
  refused("node 0 has no op");
}
Test(verify, type_of_result) {
  g->types[g->nodes[1].res].dim[2].n = 31;
  refused("contract: result 1 is recorded as f32[B=4, T=8, ff=31], but it is f32[B=4, T=8, ff=32]");
}
Test(verify, dtype_of_operand) {
  g->types[w].dt = DT_bf16;
  refused("contract: the second operand is bf16, expected f32");
}
Test(verify, extent) {
  g->types[x].dim[0].n = 0;
  refused("extent 0 of dim 0");
}
Test(verify, elements) {
  for (int i = 0; i < 3; i++) g->types[x].dim[i].n = MAX_EXTENT;
  refused("more than 2^46 elements");
}
Test(verify, rank) {
  g->types[x].rank = 7;
  refused("7 dims; the limit is 6");
}
Test(verify, symbol_without_name) {
  g->types[ids].dim[0].sym = true;
  refused("a symbolic extent without a name");
}
Test(verify, symbols_with_two_bounds) {
  Type t = g->types[ids];
  t.dim[0].sym = true;
  t.dim[0].name = intern("N");
  graph_input(g, "p", IN_DATA, t, nowhere);
  cr_assert(module_verify(m));
  t.dim[0].n = 5;
  graph_input(g, "q", IN_DATA, t, nowhere);
  refused("N is bounded by 5 here and by 4 before");
}
Test(verify, offsets_later) {
  Type t = type_make(DT_f32, 1, (int64_t[]){64});
  t.dim[0].seg = (Val)g->nvals + 1;
  graph_input(g, "p", IN_DATA, t, nowhere);
  graph_input(g, "off", IN_DATA, type_make(DT_i32, 1, (int64_t[]){9}), nowhere);
  refused("the offsets of dim 0 are not defined before");
}
Test(verify, offsets_of_an_input_are_an_input) {
  Type off = type_make(DT_i32, 1, (int64_t[]){9});
  Attr e = attr_str("expr", "i * 8");
  Type t = type_make(DT_f32, 1, (int64_t[]){64});
  t.dim[0].seg = graph_add(g, OP_table, NULL, 0, &e, 1, &off, nowhere);
  graph_input(g, "p", IN_DATA, t, nowhere);
  refused("the offsets of input p are no input");
}
Test(verify, offsets_dtype) {
  Type t = type_make(DT_f32, 1, (int64_t[]){64});
  t.dim[0].seg = x;
  graph_input(g, "p", IN_DATA, t, nowhere);
  refused("expected i32 with one dim");
}
Test(verify, placement_without_mesh) {
  g->types[x].dim[0].axis = 1;
  refused("dim 0 is split over an axis that the mesh does not have");
}
Test(verify, partial_without_mesh) {
  g->types[x].partial = 2;
  refused("partial over an axis that the mesh does not have");
}
Test(verify, attribute_gone) {
  g->nodes[1].nattrs = 0;
  refused("contract: needs the attribute 'rule'");
}
Test(verify, attribute_unknown) {
  g->nodes[1].attrs[0].name = intern("ruel");
  refused("contract: unknown attribute 'ruel'");
  said("did you mean 'rule'?");
}
Test(verify, input_names) {
  g->inputs[0].name = intern("7x");
  refused("'7x' is no name for an input");
}
Test(verify, input_twice) {
  g->inputs[0].name = g->inputs[1].name;
  refused("two inputs are named w");
}
Test(verify, output_names) {
  g->outputs[0].name = intern("a b");
  refused("'a b' is no name for an output");
}
Test(verify, output_twice) {
  graph_output(g, "y", x);
  refused("two outputs are named y");
}
Test(verify, output_value) {
  g->outputs[0].val = 99;
  refused("output y is not a value");
}
Test(verify, next_value_of_a_param) {
  graph_output(g, "w", x);
  refused("output w is f32[B=4, T=8, d=16], the input of that name f32[ff=32, d=16]");
}
Test(verify, span) {
  g->nodes[0].span = (Span){3, 1, 1};
  refused("a span in a source that is not known");
}
Test(verify, span_instance) {
  g->nodes[0].span = (Span){.in = intern("layer 3")};
  refused("'layer 3' is no instance for a span");
}

/* ---- building */

Test(verify, sum_of_any_axes) {
  Type t = type_make(DT_f32, 5, (int64_t[]){2, 3, 4, 5, 6});
  Val v = graph_input(g, "v", IN_DATA, t, nowhere);
  int before = g->nnodes;
  Val s = graph_sum(g, v, 3, (int64_t[]){4, 1, 3}, nowhere); /* trailing 3, 4; then 1 */
  cr_assert(eq(int, g->nnodes, before + 2));
  cr_assert(type_eq(g->types[s], type_make(DT_f32, 2, (int64_t[]){2, 4})));
  cr_assert(eq(int, node_attr(&g->nodes[before], "axes")->n, 2));
  cr_assert(eq(u32, graph_sum(g, v, 0, NULL, nowhere), v));
  s = graph_sum(g, v, 5, (int64_t[]){0, 1, 2, 3, 4}, nowhere);
  cr_assert(eq(int, g->types[s].rank, 0));
  cr_assert(module_verify(m));
  cr_assert(zero(u32, graph_sum(g, v, 2, (int64_t[]){1, 1}, nowhere)));
  said("sum: axis 1 is given twice of f32[2, 3, 4, 5, 6]");
}

Test(verify, an_error_is_said_once) {
  Val bad = graph_ew(g, OP_add, x, w, 0, nowhere);
  cr_assert(zero(u32, bad));
  cr_assert(zero(u32, graph_ew(g, OP_exp, bad, 0, 0, nowhere)));
  cr_assert(zero(u32, graph_sum(g, bad, 1, (int64_t[]){0}, nowhere)));
  cr_assert(eq(int, d->n, 1));
  said("add: x has [B=4, T=8, d=16], y has [ff=32, d=16]: 3 dims against 2");
}

Test(verify, names_of_dims_come_from_either_operand) {
  Val v = graph_input(g, "v", IN_DATA, type_make(DT_f32, 3, (int64_t[]){4, 8, 16}), nowhere);
  Type t = g->types[graph_ew(g, OP_add, v, x, 0, nowhere)];
  cr_assert(eq(str, (char *)t.dim[2].name, "d"));
  t = g->types[graph_contract(g, "btd,btd->btd", v, x, nowhere)];
  cr_assert(eq(str, (char *)t.dim[0].name, "B"));
}

Test(verify, calls_in_turn) {
  Graph *h = graph_new(m, "h"); /* a: f32[8, 16], acc: f32 -> acc, norm: f32[8] */
  Val p = graph_input(h, "a", IN_DATA, type_make(DT_f32, 2, (int64_t[]){8, 16}), nowhere);
  Val acc = graph_input(h, "acc", IN_STATE, type_scalar(DT_f32), nowhere);
  Val n = graph_sum(h, p, 1, (int64_t[]){1}, nowhere);
  graph_output(h, "norm", n);
  graph_output(h, "acc", graph_ew(h, OP_add, acc, graph_sum(h, n, 1, (int64_t[]){0}, nowhere), 0, nowhere));
  Val zero = graph_const(g, 0, nowhere);
  Attr at[] = {attr_str("fn", "h"), attr_int("count", 4)};
  Val r = graph_add(g, OP_call, (Val[]){x, zero}, 2, at, 2, NULL, nowhere); /* x: 4 slices along B */
  cr_assert(not(zero(u32, r)));
  cr_assert(type_eq(g->types[r], type_make(DT_f32, 1, (int64_t[]){32})));
  cr_assert(type_eq(g->types[r + 1], type_scalar(DT_f32)));
  Type want[] = {type_make(DT_f32, 2, (int64_t[]){4, 8}), type_scalar(DT_f32)};
  r = graph_add(g, OP_call, (Val[]){x, zero}, 2, at, 2, want, nowhere);
  cr_assert(type_eq(g->types[r], want[0]));
  cr_assert(eq(dbl, node_flops(g, val_node(g, r)), 4 * (128. + 8 + 1)));
  cr_assert(module_verify(m));
  at[1] = attr_int("count", 3);
  cr_assert(zero(u32, graph_add(g, OP_call, (Val[]){x, zero}, 2, at, 2, NULL, nowhere)));
  said("input a of @h is f32[8, 16], the operand is f32[B=4, T=8, d=16], neither that nor count slices of it");
}

/* ---- rules and cost */

Test(verify, rule_text_is_its_inverse) {
  static const char *const good[] = {"btd,hed->bthe", "ij,jk->ik", "a,b->ba", ",->", "a,->a", "abcdef,abcdef->"};
  for (int i = 0; i < LEN(good); i++) {
    Rule r;
    const char *err;
    char s[3 * MAX_RANK + 4];
    cr_assert(rule_parse(good[i], &r, &err), "%s: %s", good[i], err);
    rule_text(&r, s);
    cr_assert(eq(str, s, (char *)good[i]));
  }
  Rule r;
  const char *err;
  cr_assert(rule_parse("btd,hed->bthe", &r, &err));
  cr_assert(rule_summed(&r, 'd'));
  cr_assert(not(rule_summed(&r, 'b')));
  cr_assert(eq(int, rule_find(r.out, r.no, 'h'), 2));
}

static Graph *alone(void) {
  return graph_new(g->mod, intern("alone"));
}

Test(verify, cost_of_a_region) {
  Graph *h = alone(); /* 12 rows of a table of 1000 rows, added to: the rest of the table is not read */
  Val table = graph_input(h, "table", IN_DATA, type_make(DT_f32, 2, (int64_t[]){1000, 16}), nowhere);
  Val at = graph_input(h, "at", IN_DATA, type_make(DT_i32, 1, (int64_t[]){12}), nowhere);
  Val rows = graph_add(h, OP_gather, (Val[]){table, at}, 2, NULL, 0, NULL, nowhere);
  graph_output(h, "y", graph_ew(h, OP_add, rows, rows, 0, nowhere));
  cr_assert(eq(dbl, region_flops(h), 12. * 16));
  cr_assert(eq(dbl, region_bytes(h), 4. * (12 + 2 * 12 * 16)));
  graph_output(h, "z", graph_ew(h, OP_neg, table, 0, 0, nowhere)); /* now all of it is */
  cr_assert(eq(dbl, region_bytes(h), 4. * (12 + 1000 * 16 + 12 * 16 + 1000 * 16)));

  h = alone(); /* of the table three rows change: they are read and written, and what is added is read */
  table = graph_input(h, "table", IN_DATA, type_make(DT_f32, 2, (int64_t[]){1000, 16}), nowhere);
  at = graph_input(h, "at", IN_DATA, type_make(DT_i32, 1, (int64_t[]){3}), nowhere);
  Val add = graph_input(h, "add", IN_DATA, type_make(DT_f32, 2, (int64_t[]){3, 16}), nowhere);
  graph_output(h, "y", graph_add(h, OP_scatter_add, (Val[]){table, at, add}, 3, NULL, 0, NULL, nowhere));
  cr_assert(eq(dbl, region_bytes(h), 4. * (3 + 3 * 3 * 16)));

  h = alone(); /* under the mask: 1 + 2 + .. + 8 of 8 x 8 pairs */
  Val q = graph_input(h, "q", IN_DATA, type_make(DT_f32, 4, (int64_t[]){2, 8, 4, 16}), nowhere);
  Attr how[] = {attr_int("causal", 1), attr_num("scale", 0.25)};
  graph_output(h, "y", graph_add(h, OP_attend, (Val[]){q, q, q}, 3, how, 2, NULL, nowhere));
  cr_assert(eq(dbl, region_flops(h), 4. * 2 * 4 * 16 * 36));
  Attr near[] = {how[0], how[1], attr_int("window", 3)}; /* 1 + 2 + 3 + 3 + .. */
  h = alone();
  q = graph_input(h, "q", IN_DATA, type_make(DT_f32, 4, (int64_t[]){2, 8, 4, 16}), nowhere);
  graph_output(h, "y", graph_add(h, OP_attend, (Val[]){q, q, q}, 3, near, 3, NULL, nowhere));
  cr_assert(eq(dbl, region_flops(h), 4. * 2 * 4 * 16 * 21));
  how[0] = attr_int("causal", 0);
  h = alone();
  q = graph_input(h, "q", IN_DATA, type_make(DT_f32, 4, (int64_t[]){2, 8, 4, 16}), nowhere);
  graph_output(h, "y", graph_add(h, OP_attend, (Val[]){q, q, q}, 3, how, 2, NULL, nowhere));
  cr_assert(eq(dbl, region_flops(h), 4. * 2 * 4 * 16 * 64));
}

Test(verify, cost) {
  cr_assert(eq(dbl, node_flops(g, &g->nodes[1]), 2. * 4 * 8 * 16 * 32));
  cr_assert(eq(dbl, node_bytes(g, &g->nodes[1]), 4. * (4 * 8 * 16 + 32 * 16 + 4 * 8 * 32)));
  cr_assert(eq(dbl, node_flops(g, &g->nodes[0]), 13. * 4 * 8 * 16)); /* a / (1 + exp(-a)): /, +, exp as 10, - */
  Val q = graph_input(g, "q", IN_DATA, type_make(DT_bf16, 4, (int64_t[]){2, 8, 4, 16}), nowhere);
  Val k = graph_input(g, "k", IN_DATA, type_make(DT_bf16, 4, (int64_t[]){2, 32, 2, 16}), nowhere);
  Attr at[] = {attr_int("causal", 0), attr_num("scale", 0.25)};
  Val o = graph_add(g, OP_attend, (Val[]){q, k, k}, 3, at, 2, NULL, nowhere);
  cr_assert(eq(dbl, node_flops(g, val_node(g, o)), 4. * 2 * 4 * 8 * 32 * 16));
  Val grad = graph_add(g, OP_attend_grad, (Val[]){q, k, k, o, o + 1, o}, 6, at, 2, NULL, nowhere);
  cr_assert(eq(dbl, node_flops(g, val_node(g, grad)), 10. * 2 * 4 * 8 * 32 * 16));
  cr_assert(eq(i64, type_bytes(g->types[q]), 2048));
}

/* ---- the op table */

Test(verify, op_names) {
  for (int i = 1; i < OP_COUNT; i++) {
    cr_assert(eq(int, op_find(op_info[i].name), i));
    cr_assert(not(zero(sz, strlen(op_info[i].doc))));
  }
  cr_assert(eq(int, op_find("none"), OP_NONE));
  cr_assert(eq(int, op_find(""), OP_NONE));
}

/* INK_BLESS=1 writes the page anew. */
Test(verify, docs_ops_is_the_table) {
  Text t = {0};
  uint32_t file;
  ops_doc(&t);
  if (getenv("INK_BLESS")) cr_assert(file_write_atomic("docs/ops.md", t.s, t.n));
  cr_assert(diags_read(d, "docs/ops.md", 1 << 20, &file), "cannot read docs/ops.md");
  cr_assert(eq(str, t.s, (char *)d->sources[file - 1].text));
  text_free(&t);
}
