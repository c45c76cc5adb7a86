/* Graphs as text. The grammar stands in docs/ir.md; parse.c reads it.
 *
 * Values print as they are found by a reader: inputs by name, node results by their number in order of definition
 * (%1, %2, ...), whatever their internal number. So print(parse(print(m))) is print(m), byte for byte. Must hold:
 * numbers are written so that reading gives the same double. */
#include "ir/infer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void val_print(const Graph *g, Val v, Text *out) {
  if (v == 0 || v >= (Val)g->nvals) {
    text_add(out, "%%?");
    return;
  }
  const Input *in = val_input(g, v);
  if (in) {
    text_add(out, "%%%s", in->name);
    return;
  }
  int lo = 0, hi = g->ninputs; /* inputs defined before v take no number; their values rise */
  while (lo < hi) {
    int mid = (lo + hi) / 2;
    if (g->inputs[mid].val < v)
      lo = mid + 1;
    else
      hi = mid;
  }
  text_add(out, "%%%d", (int)v - lo);
}

static void dim_print(const Graph *g, Dim d, Text *out) {
  if (d.name) text_add(out, d.sym ? "%s<=" : "%s=", d.name);
  text_add(out, "%lld", (long long)d.n);
  if (d.seg) {
    text_add(out, " by ");
    val_print(g, d.seg, out);
  }
  if (d.axis) text_add(out, " @%s", d.axis <= g->mod->naxes ? g->mod->mesh[d.axis - 1].name : "?");
}

void shape_print(const Graph *g, Type t, Text *out) {
  if (t.rank <= 0 || t.rank > MAX_RANK) return;
  for (int i = 0; i < t.rank; i++) {
    text_add(out, i ? ", " : "[");
    dim_print(g, t.dim[i], out);
  }
  text_add(out, "]");
}

void type_print(const Graph *g, Type t, Text *out) {
  text_add(out, "%s", (unsigned)t.dt < DT_COUNT ? dtype_name[t.dt] : "?");
  shape_print(g, t, out);
  if (t.panel) text_add(out, " panels(%d, %d)", t.split, t.panel);
  if (!t.partial) return;
  const char *sep = " partial(";
  for (int i = 0; i < g->mod->naxes; i++)
    if (t.partial >> i & 1) {
      text_add(out, "%s%s", sep, g->mod->mesh[i].name);
      sep = ", ";
    }
  text_add(out, ")");
}

/* The fewest digits that read back as the same double. */
static void num_print(double v, Text *out) {
  if (isnan(v))
    text_add(out, "nan");
  else if (isinf(v))
    text_add(out, v < 0 ? "-inf" : "inf");
  else {
    char s[40];
    for (int digits = 1; digits <= 17; digits++) {
      snprintf(s, sizeof s, "%.*g", digits, v);
      if (strtod(s, NULL) == v) break;
    }
    text_add(out, "%s", s);
  }
}

static void str_print(const char *s, Text *out) {
  text_add(out, "\"");
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      text_add(out, "\\%c", c);
    else if (c == '\n')
      text_add(out, "\\n");
    else if (c == '\t')
      text_add(out, "\\t");
    else if (c < 0x20 || c == 0x7f)
      text_add(out, "\\x%02x", c);
    else
      text_add(out, "%c", c);
  }
  text_add(out, "\"");
}

static void attr_print(const Attr *a, Text *out) {
  text_add(out, "%s=", a->name);
  switch (a->kind) {
  case ATTR_INT: text_add(out, "%lld", (long long)a->i); break;
  case ATTR_NUM: num_print(a->num, out); break;
  case ATTR_STR: str_print(a->str, out); break;
  case ATTR_INTS:
    text_add(out, "[");
    for (int i = 0; i < a->n; i++) text_add(out, "%s%lld", i ? ", " : "", (long long)a->ints[i]);
    text_add(out, "]");
    break;
  }
}

/* "# gpt2.yaml:24", with the column "# gpt2.yaml:24:9", with the instance "# gpt2.yaml:24:9 layer.3". A path with a line
 * break would end the comment. */
static void span_print(const Graph *g, Span at, Text *out) {
  const Diags *d = g->mod->diags;
  if (at.file == 0 || at.file > (uint32_t)d->nsources || at.line == 0) return;
  const char *path = d->sources[at.file - 1].path;
  if (strpbrk(path, "\n\r")) return;
  text_add(out, "   # %s:%u", path, at.line);
  if (at.col) text_add(out, ":%u", at.col);
  if (at.in) text_add(out, " %s", at.in);
}

bool span_in_ok(const char *in) {
  if (!*in || (*in >= '0' && *in <= '9') || *in == '.' || *in == '/') return false;
  for (; *in; in++)
    if (!(*in >= '0' && *in <= '9') && !(*in >= 'a' && *in <= 'z') && !(*in >= 'A' && *in <= 'Z') &&
        !strchr("_./", *in))
      return false;
  return true;
}

static void node_print(const Graph *g, const Node *n, bool spans, Text *out) {
  text_add(out, "  ");
  for (int i = 0; i < n->nres; i++) {
    text_add(out, i ? ", " : "");
    val_print(g, n->res + (Val)i, out);
  }
  text_add(out, "%s%s", n->nres ? " = " : "", op_info[n->op].name);
  for (int i = 0; i < n->nargs; i++) {
    text_add(out, i ? ", " : " ");
    val_print(g, n->args[i], out);
  }
  for (int i = 0; i < n->nattrs; i++) {
    text_add(out, i ? ", " : " {");
    attr_print(&n->attrs[i], out);
  }
  text_add(out, n->nattrs ? "}" : "");
  for (int i = 0; i < n->nres; i++) {
    text_add(out, i ? ", " : " : ");
    type_print(g, g->types[n->res + (Val)i], out);
  }
  if (spans) span_print(g, n->span, out);
  text_add(out, "\n");
}

void graph_print(const Graph *g, bool spans, Text *out) {
  if (g->region)
    text_add(out, "region %s", g->region);
  else
    text_add(out, "graph");
  text_add(out, " @%s(", g->name);
  for (int i = 0; i < g->ninputs; i++) {
    const Input *in = &g->inputs[i];
    text_add(out, "%s  %%%s: ", i ? "" : "\n", in->name);
    type_print(g, g->types[in->val], out);
    text_add(out, " %s%s%s", input_kind_name[in->kind], in->kind == IN_PARAM && !in->decay ? " nodecay" : "",
             i < g->ninputs - 1 ? "," : "");
    if (spans) span_print(g, in->span, out);
    text_add(out, "\n");
  }
  text_add(out, ") {\n");
  for (int i = 0; i < g->nnodes; i++) node_print(g, &g->nodes[i], spans, out);
  text_add(out, "  return");
  for (int i = 0; i < g->noutputs; i++) {
    text_add(out, "%s%s=", i ? ", " : " ", g->outputs[i].name);
    val_print(g, g->outputs[i].val, out);
  }
  text_add(out, "\n}\n");
}

void module_print(const Module *m, bool spans, Text *out) {
  text_add(out, "module ");
  str_print(m->name, out);
  text_add(out, "\n");
  if (m->compute != DT_f32) text_add(out, "compute %s\n", dtype_name[m->compute]);
  for (int i = 0; i < m->naxes; i++)
    text_add(out, "%s%s=%d%s", i ? ", " : "mesh (", m->mesh[i].name, m->mesh[i].n, i == m->naxes - 1 ? ")\n" : "");
  for (int i = 0; i < m->ngraphs; i++) {
    text_add(out, "\n");
    graph_print(m->graphs[i], spans, out);
  }
}
