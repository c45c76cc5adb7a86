/* The op table as data: op_info, the lookup by name, and the page docs/ops.md made from it. */
#include "ir/infer.h"

#include <stdio.h>
#include <string.h>

const OpInfo op_info[OP_COUNT] = {
    [OP_NONE] = {.name = "none", .attrs = "", .doc = ""},
#define EW1(name, value, da, doc) [OP_##name] = {#name, 1, 1, "", true, value, {da}, doc},
#define EW2(name, value, da, db, doc) [OP_##name] = {#name, 2, 1, "", true, value, {da, db}, doc},
#define EW3(name, value, da, db, dc, doc) [OP_##name] = {#name, 3, 1, "", true, value, {da, db, dc}, doc},
#define OP(name, nargs, nres, attrs, doc) [OP_##name] = {#name, nargs, nres, attrs, false, NULL, {NULL}, doc},
#include "ir/ops.def"
};

OpKind op_find(const char *name) {
  for (int i = OP_NONE + 1; i < OP_COUNT; i++)
    if (strcmp(op_info[i].name, name) == 0) return (OpKind)i;
  return OP_NONE;
}

/* "axes:ints inverse:int?" */
int op_attrs(OpKind op, AttrSpec out[MAX_ATTRS]) {
  static const char *const kinds[] = {[ATTR_INT] = "int", [ATTR_NUM] = "num", [ATTR_STR] = "str", [ATTR_INTS] = "ints"};
  int n = 0;
  for (const char *s = op_info[op].attrs; *s && n < MAX_ATTRS;) {
    size_t name = strcspn(s, ":"), all = strcspn(s, " ");
    AttrSpec *a = &out[n++];
    *a = (AttrSpec){.name = internn(s, name), .optional = s[all - 1] == '?'};
    size_t len = all - name - 1 - (a->optional ? 1 : 0);
    for (int k = 0; k < LEN(kinds); k++)
      if (strlen(kinds[k]) == len && memcmp(kinds[k], s + name + 1, len) == 0) a->kind = k;
    s += all + (s[all] == ' ');
  }
  return n;
}

static void cell(Text *out, const char *s) { /* '|' ends a table cell in Markdown, even in code */
  text_add(out, "`");
  for (; *s; s++) text_add(out, *s == '|' ? "\\|" : "%c", *s);
  text_add(out, "`");
}

void ops_doc(Text *out) {
  text_add(out, "# Ops\n\nMade from `ir/ops.def`, and a test holds the two together. Shapes and types: "
                "[ir.md](ir.md); orders of\nsummation: [numerics.md](numerics.md).\n\n");
  text_add(out, "## Elementwise\n\nOperands a, b, c have the result's shape or rank 0, and its dtype. y is the result, "
                "dy its gradient; `0.` means that none\nflows. Comparisons give 1 or 0.\n\n"
                "| op | value | gradients of the operands | |\n|---|---|---|---|\n");
  for (int i = OP_NONE + 1; i < OP_COUNT; i++) {
    const OpInfo *o = &op_info[i];
    if (!o->ew) continue;
    text_add(out, "| `%s` | ", o->name);
    cell(out, o->value);
    text_add(out, " | ");
    for (int k = 0; k < o->nargs; k++) {
      text_add(out, k ? ", " : "");
      cell(out, o->d[k]);
    }
    text_add(out, " | %s |\n", o->doc);
  }
  text_add(out, "\n## Others\n\n| op | operands | results | attributes | |\n|---|---|---|---|---|\n");
  for (int i = OP_NONE + 1; i < OP_COUNT; i++) {
    const OpInfo *o = &op_info[i];
    if (o->ew) continue;
    text_add(out, "| `%s` | ", o->name);
    text_add(out, o->nargs < 0 ? "any | " : "%d | ", o->nargs);
    text_add(out, o->nres < 0 ? "any | " : "%d | ", o->nres);
    AttrSpec a[MAX_ATTRS];
    int n = op_attrs((OpKind)i, a);
    static const char *const kind[] = {"integer", "number", "text", "integers"};
    for (int k = 0; k < n; k++)
      text_add(out, "%s`%s` (%s%s)", k ? ", " : "", a[k].name, kind[a[k].kind], a[k].optional ? ", optional" : "");
    text_add(out, " | %s |\n", o->doc);
  }
}
