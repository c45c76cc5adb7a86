/* A parameter's shape, initialiser and decay, from their texts (its place in checkpoints: view.c).
 *
 *   init:  zeros | ones | const(x) | normal(std) | normal(mean, std) | uniform(low, high)     default normal(0.02)
 *   decay: true | false          default: the checkpoint tensor has two axes or more, so matrices decay, vectors don't */
#include "frontend/build.h"
#include <string.h>

bool param_type(Names *nm, YNode *shape, DType dt, const Local *locals, int nlocals, Type *out) {
  if (!yaml_expect(nm->diags, shape, Y_SEQ, "shape")) return false;
  if (!shape->n || shape->n > MAX_RANK)
    return diag_error(nm->diags, shape->at, "a shape has 1 to %d axes, found %d", (int)MAX_RANK, shape->n);
  *out = (Type){.dt = dt, .rank = shape->n};
  bool ok = true;
  double elements = 1;
  for (int i = 0; i < shape->n; i++) {
    bool good = yaml_expect(nm->diags, shape->item[i], Y_SCALAR, "extent") &&
                names_dim(nm, slice_all(shape->item[i]), locals, nlocals, &out->dim[i]);
    if (good) elements *= (double)out->dim[i].n;
    ok &= good;
  }
  if (ok && elements > (double)MAX_ELEMENTS)
    return diag_error(nm->diags, shape->at, "%.3g elements: more than a tensor can hold", elements);
  return ok;
}

typedef struct InitRow {
  const char *name;
  InitKind kind;
  int least, most; /* arguments */
} InitRow;

static const InitRow init_row[] = {
    {"zeros", INIT_ZEROS, 0, 0},   {"ones", INIT_ONES, 0, 0},       {"const", INIT_CONST, 1, 1},
    {"normal", INIT_NORMAL, 1, 2}, {"uniform", INIT_UNIFORM, 2, 2},
};

static const InitRow *find_init(Names *nm, Slice s, const char *name) {
  const char *all[LEN(init_row)];
  for (int i = 0; i < LEN(init_row); i++) {
    all[i] = init_row[i].name;
    if (!strcmp(name, all[i])) return &init_row[i];
  }
  const char *near = near_miss(name, all, LEN(all));
  diag_hint(nm->diags, slice_span(nm, s, 0),
            near ? arena_printf(nm->arena, "did you mean '%s'?", near)
                 : "expected zeros, ones, const(x), normal(std), normal(mean, std) or uniform(low, high)",
            "unknown initialiser '%.60s'", name);
  return NULL;
}

bool param_init(Names *nm, YNode *text, const Local *locals, int nlocals, ModelParam *p) {
  if (!text) {
    p->init = INIT_NORMAL;
    p->init_b = 0.02;
    return true;
  }
  if (!yaml_expect(nm->diags, text, Y_SCALAR, "init")) return false;
  if (text->len > BUILD_VIEW_LIMIT)
    return diag_error(nm->diags, text->at, "an initialiser of more than %d characters", (int)BUILD_VIEW_LIMIT);
  Slice s = slice_all(text), args = {text, s.off, 0};
  const char *all = slice_text(nm, s), *open = strchr(all, '(');
  size_t n = open ? (size_t)(open - all) : s.len;
  const InitRow *row = find_init(nm, s, slice_text(nm, slice_trim((Slice){text, s.off, n})));
  if (!row) return false;
  if (open) {
    if (s.node->text[s.off + s.len - 1] != ')')
      return diag_error(nm->diags, slice_span(nm, s, s.len - 1), "expected ')' at the end of the initialiser");
    args = (Slice){text, s.off + n + 1, s.len - n - 2};
  }
  Slice *part;
  int count = slice_split(nm->arena, args, &part);
  if (count < row->least || count > row->most)
    return diag_error(nm->diags, slice_span(nm, s, 0), "%s takes %d%s arguments, got %d", row->name, row->least,
                      row->most > row->least ? " or 2" : "", count);
  double x[2] = {0};
  for (int i = 0; i < count; i++)
    if (!names_number(nm, part[i], locals, nlocals, &x[i])) return false;
  p->init = row->kind;
  p->init_a = row->kind == INIT_NORMAL && count == 1 ? 0 : x[0];
  p->init_b = row->kind == INIT_NORMAL && count == 1 ? x[0] : x[1];
  if (row->kind == INIT_NORMAL && p->init_b < 0)
    return diag_error(nm->diags, slice_span(nm, s, 0), "the standard deviation %g is negative", p->init_b);
  if (row->kind == INIT_UNIFORM && p->init_a > p->init_b)
    return diag_error(nm->diags, slice_span(nm, s, 0), "the range %g to %g is empty", p->init_a, p->init_b);
  return true;
}

bool param_resolve(Names *nm, const ParamSpec *s, Type t, const Local *locals, int nlocals, ModelParam *p) {
  int hf_rank = t.rank;
  bool ok = param_init(nm, s->init, locals, nlocals, p);
  ok &= view_resolve(nm, s, p->name, t, locals, nlocals, &p->pieces, &p->npieces, &hf_rank);
  p->decay = hf_rank >= 2;
  if (!s->decay) return ok;
  if (!yaml_expect(nm->diags, s->decay, Y_SCALAR, "decay")) return false;
  p->decay = !strcmp(s->decay->text, "true");
  if (!p->decay && strcmp(s->decay->text, "false"))
    return diag_error(nm->diags, s->decay->at, "decay is true or false, not '%.40s'", s->decay->text);
  return ok;
}
