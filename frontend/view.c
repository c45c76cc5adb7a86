/* Where a parameter lies in a checkpoint: `hf:` views.
 *
 *   view  := name ('as' shape)? (slice | 'view' shape | '.T')*      name := text without blanks and '[', or in quotes
 *   shape := '[' extent, ... ']'                                    slice := '[' (lo? ':' hi? | index), ... ']'
 *
 * `as` gives the whole shape of the checkpoint tensor (else it is the parameter's own); slices, reshapes and .T then choose
 * a part of it. {i} in the name is the block's index; any other {x} counts over a leading axis of the parameter, a tensor
 * for each. Throughout, a view is a base and a list of (extent, stride) in elements of the checkpoint tensor, so it is one
 * affine map, read and written alike. At the end the view's axes are matched with the parameter's: each axis of one is one
 * or several neighbouring axes of the other (never several against several: that would be a forgotten .T).
 * view_check: the pieces of a tensor, as runs of consecutive elements, cover it without overlap and without gap. */
#include "frontend/build.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_LIMIT = 65536, RUN_LIMIT = 1 << 21, RUNS_LIMIT = 1 << 23 }; /* runs of a tensor, of all tensors */

typedef struct View {
  int rank;
  int64_t dim[2 * MAX_RANK], stride[2 * MAX_RANK], base;
} View;

typedef struct Cursor {
  Names *nm;
  Slice s;
  size_t at; /* in the slice */
  const Local *locals;
  int nlocals;
} Cursor;

static char peek(Cursor *c) {
  while (c->at < c->s.len && isspace((unsigned char)c->s.node->text[c->s.off + c->at])) c->at++;
  return c->at < c->s.len ? c->s.node->text[c->s.off + c->at] : 0;
}

static Span here(Cursor *c) {
  return slice_span(c->nm, c->s, c->at);
}

static bool word(Cursor *c, const char *w) {
  size_t n = strlen(w);
  peek(c);
  if (c->at + n > c->s.len || strncmp(c->s.node->text + c->s.off + c->at, w, n)) return false;
  char after = c->at + n < c->s.len ? c->s.node->text[c->s.off + c->at + n] : 0;
  if (isalnum((unsigned char)after) || after == '_') return false;
  c->at += n;
  return true;
}

/* What stands between the bracket here and the one that closes it. */
static bool brackets(Cursor *c, Slice *out) {
  if (peek(c) != '[') return diag_error(c->nm->diags, here(c), "expected '['");
  size_t start = ++c->at;
  for (int depth = 1; c->at < c->s.len; c->at++) {
    char x = c->s.node->text[c->s.off + c->at];
    depth += (x == '[' || x == '(') - (x == ']' || x == ')');
    if (!depth) {
      *out = (Slice){c->s.node, c->s.off + start, c->at - start};
      c->at++;
      return true;
    }
  }
  c->at = start - 1;
  return diag_error(c->nm->diags, here(c), "this bracket is never closed");
}

static bool parse_shape(Cursor *c, int64_t *dim, int *rank) {
  Slice all, *part;
  Span at = here(c);
  if (!brackets(c, &all)) return false;
  *rank = slice_split(c->nm->arena, all, &part);
  if (*rank < 1 || *rank > MAX_RANK)
    return diag_error(c->nm->diags, at, "a shape has 1 to %d axes, found %d", (int)MAX_RANK, *rank);
  double elements = 1;
  for (int i = 0; i < *rank; i++) {
    if (!names_integer(c->nm, part[i], "extent", c->locals, c->nlocals, 1, MAX_EXTENT, &dim[i])) return false;
    elements *= (double)dim[i];
  }
  return elements <= (double)MAX_ELEMENTS ||
         diag_error(c->nm->diags, at, "%.3g elements: more than a tensor can hold", elements);
}

static View dense(const int64_t *dim, int rank) {
  View v = {.rank = rank};
  int64_t stride = 1;
  for (int i = rank; i-- > 0;) v.dim[i] = dim[i], v.stride[i] = stride, stride *= dim[i];
  return v;
}

static bool apply_slice(Cursor *c, View *v) {
  Slice all, *part;
  Span at = here(c);
  if (!brackets(c, &all)) return false;
  int n = slice_split(c->nm->arena, all, &part);
  if (n > v->rank) return diag_error(c->nm->diags, at, "%d slices of %d axes", n, v->rank);
  View r = {.base = v->base};
  for (int i = 0; i < v->rank; i++) {
    int64_t lo = 0, hi = v->dim[i];
    bool one = false;
    if (i < n) {
      Slice s = part[i];
      const char *text = s.node->text + s.off, *colon = memchr(text, ':', s.len);
      size_t left = colon ? (size_t)(colon - text) : s.len;
      Slice a = slice_trim((Slice){s.node, s.off, left});
      Slice b = colon ? slice_trim((Slice){s.node, s.off + left + 1, s.len - left - 1}) : a;
      one = !colon;
      if ((a.len || one) && !names_integer(c->nm, a, "slice", c->locals, c->nlocals, 0, v->dim[i] - 1, &lo))
        return false;
      if (colon && b.len && !names_integer(c->nm, b, "slice", c->locals, c->nlocals, lo + 1, v->dim[i], &hi))
        return false;
    }
    r.base += lo * v->stride[i];
    if (one) continue;
    r.dim[r.rank] = hi - lo;
    r.stride[r.rank++] = v->stride[i];
  }
  *v = r;
  return true;
}

/* Neighbouring axes that are one run of equal steps become one axis. */
static View coalesce(const View *v) {
  View r = {.base = v->base};
  for (int i = 0; i < v->rank; i++) {
    if (v->dim[i] == 1) continue;
    if (r.rank && r.stride[r.rank - 1] == v->dim[i] * v->stride[i]) {
      r.dim[r.rank - 1] *= v->dim[i];
      r.stride[r.rank - 1] = v->stride[i];
    } else {
      r.dim[r.rank] = v->dim[i];
      r.stride[r.rank++] = v->stride[i];
    }
  }
  return r;
}

static bool apply_view(Cursor *c, View *v) {
  Span at = here(c);
  int64_t dim[MAX_RANK];
  int rank;
  if (!parse_shape(c, dim, &rank)) return false;
  View whole = coalesce(v), r = {.rank = rank, .base = v->base};
  int j = whole.rank - 1;
  int64_t left = j >= 0 ? whole.dim[j] : 1, stride = j >= 0 ? whole.stride[j] : 1;
  for (int i = rank; i-- > 0;) {
    r.dim[i] = dim[i];
    r.stride[i] = stride;
    if (dim[i] == 1) continue;
    if (left % dim[i])
      return diag_error(c->nm->diags, at, "the view's axis of %lld does not divide what is left of the tensor, %lld",
                        (long long)dim[i], (long long)left);
    left /= dim[i];
    stride *= dim[i];
    if (left == 1 && j > 0) left = whole.dim[--j], stride = whole.stride[j];
  }
  if (left != 1 || j > 0) return diag_error(c->nm->diags, at, "the view has fewer elements than the tensor");
  *v = r;
  return true;
}

static bool apply_transpose(Cursor *c, View *v, Span at) {
  if (v->rank != 2) return diag_error(c->nm->diags, at, ".T needs 2 axes, the view has %d", v->rank);
  int64_t d = v->dim[0], s = v->stride[0];
  v->dim[0] = v->dim[1], v->stride[0] = v->stride[1];
  v->dim[1] = d, v->stride[1] = s;
  return true;
}

/* ---- matching with the parameter */

typedef struct Match {
  int rank;
  int64_t dim[2 * MAX_RANK], pstride[2 * MAX_RANK], stride[2 * MAX_RANK]; /* innermost first */
} Match;

static void emit(Match *m, int64_t n, int64_t pstride, int64_t stride) {
  int k = m->rank - 1;
  if (k >= 0 && m->pstride[k] * m->dim[k] == pstride && m->stride[k] * m->dim[k] == stride) {
    m->dim[k] *= n;
    return;
  }
  m->dim[m->rank] = n;
  m->pstride[m->rank] = pstride;
  m->stride[m->rank++] = stride;
}

static bool match(View p, View v, Match *m) {
  int i = p.rank - 1, j = v.rank - 1;
  for (;;) {
    while (i >= 0 && p.dim[i] == 1) i--;
    while (j >= 0 && v.dim[j] == 1) j--;
    if (i < 0 || j < 0) return i < 0 && j < 0;
    if (p.dim[i] <= v.dim[j]) { /* one axis of the view, several of the parameter */
      int64_t left = v.dim[j], stride = v.stride[j];
      for (; left > 1; i--) {
        if (i < 0 || left % p.dim[i]) return false;
        if (p.dim[i] > 1) emit(m, p.dim[i], p.stride[i], stride);
        left /= p.dim[i];
        stride *= p.dim[i];
      }
      j--;
    } else {
      int64_t left = p.dim[i], stride = p.stride[i];
      for (; left > 1; j--) {
        if (j < 0 || left % v.dim[j]) return false;
        if (v.dim[j] > 1) emit(m, v.dim[j], stride, v.stride[j]);
        left /= v.dim[j];
        stride *= v.dim[j];
      }
      i--;
    }
  }
}

/* ---- names of tensors */

/* Replaces {i} by the block's index and the other braces by count[], in order; their number goes to *n. */
static const char *expand_name(Cursor *c, const char *name, const int64_t *count, int *n) {
  Text t = {0};
  *n = 0;
  for (const char *p = name; *p;) {
    const char *close = *p == '{' ? strchr(p, '}') : NULL;
    if (!close) {
      text_write(&t, p++, 1);
      continue;
    }
    const char *key = arena_strndup(c->nm->arena, p + 1, (size_t)(close - p - 1));
    bool local = false;
    for (int i = 0; i < c->nlocals && !local; i++)
      if ((local = !strcmp(c->locals[i].name, key))) text_add(&t, "%lld", (long long)c->locals[i].value);
    if (!local) text_add(&t, "%lld", count && *n < MAX_RANK ? (long long)count[*n] : 0LL), ++*n;
    p = close + 1;
  }
  const char *r = intern(t.n ? t.s : "");
  text_free(&t);
  return r;
}

/* The name, up to a blank or a bracket, or in quotes; a trailing .T is none of it. */
static bool parse_name(Cursor *c, const char **name, bool *transposed) {
  const char *text = c->s.node->text + c->s.off;
  *transposed = false;
  size_t start = 0, n = 0;
  if (peek(c) == '"') {
    start = 1;
    const char *close = c->s.len > 1 ? memchr(text + 1, '"', c->s.len - 1) : NULL;
    if (!close) return diag_error(c->nm->diags, here(c), "the name is not closed by '\"'");
    n = (size_t)(close - text - 1);
    c->at = n + 2;
  } else {
    while (n < c->s.len && !isspace((unsigned char)text[n]) && text[n] != '[') n++;
    c->at = n;
    if (n > 2 && !strncmp(text + n - 2, ".T", 2)) c->at = n -= 2;
  }
  if (!n || n > 512)
    return diag_error(c->nm->diags, slice_span(c->nm, c->s, 0),
                      "expected the name of a checkpoint tensor of at most 512 bytes");
  *name = arena_strndup(c->nm->arena, text + start, n);
  return true;
}

static bool parse_view(Cursor *c, Type t, int stacked, View *v, int64_t *hf_dim, int *hf_rank) {
  int64_t own[MAX_RANK];
  for (int i = stacked; i < t.rank; i++) own[i - stacked] = t.dim[i].n;
  bool given = word(c, "as");
  if (given) {
    if (!parse_shape(c, hf_dim, hf_rank)) return false;
  } else {
    *hf_rank = t.rank - stacked;
    size_t at = c->at;
    bool transposed = peek(c) == '.' && *hf_rank == 2;
    c->at = at;
    for (int i = 0; i < *hf_rank; i++) hf_dim[i] = own[transposed ? *hf_rank - 1 - i : i];
  }
  *v = dense(hf_dim, *hf_rank);
  for (char x; (x = peek(c));) {
    Span at = here(c);
    if ((x == '[' || x == 'v') && !given)
      return diag_error(c->nm->diags, at, "the part of a tensor needs the whole: name as [extent, ...], then its part");
    if (x == '[') {
      if (!apply_slice(c, v)) return false;
    } else if (word(c, "view")) {
      if (!apply_view(c, v)) return false;
    } else if (word(c, ".T")) {
      if (!apply_transpose(c, v, at)) return false;
    } else
      return diag_error(c->nm->diags, at, "expected a [slice], `view [...]` or .T");
  }
  return true;
}

static const char *view_text(Arena *a, const int64_t *dim, int rank) {
  int64_t n[MAX_RANK] = {0};
  for (int i = 0; i < rank && i < MAX_RANK; i++) n[i] = dim[i];
  return build_shape_text(a, type_make(DT_f32, rank < MAX_RANK ? rank : MAX_RANK, n));
}

bool view_resolve(Names *nm, const ParamSpec *s, const char *name, Type t, const Local *locals, int nlocals,
                  Piece **pieces, int *npieces, int *hf_rank) {
  YNode *text = s->hf ? s->hf : yaml_scalar(nm->arena, arena_printf(nm->arena, "\"%s\"", name), s->at);
  if (!yaml_expect(nm->diags, text, Y_SCALAR, "hf")) return false;
  if (text->len > BUILD_VIEW_LIMIT)
    return diag_error(nm->diags, text->at, "a view of more than %d characters", (int)BUILD_VIEW_LIMIT);
  Cursor c = {nm, slice_all(text), 0, locals, nlocals};
  const char *pattern = NULL;
  bool transposed;
  int stacked;
  if (!parse_name(&c, &pattern, &transposed)) return false;
  expand_name(&c, pattern, NULL, &stacked);
  if (stacked >= t.rank)
    return diag_error(nm->diags, s->hf->at, "the name counts over %d axes, the parameter has %d", stacked, t.rank);
  int64_t hf_dim[MAX_RANK] = {0}, count = 1, dims[MAX_RANK];
  View v;
  if (!parse_view(&c, t, stacked, &v, hf_dim, hf_rank)) return false;
  for (int i = 0; i < t.rank; i++) dims[i] = t.dim[i].n;
  View p = dense(dims, t.rank), inner = {.rank = t.rank - stacked};
  for (int i = 0; i < inner.rank; i++) inner.dim[i] = p.dim[stacked + i], inner.stride[i] = p.stride[stacked + i];
  Match m = {0};
  if (!match(inner, v, &m))
    return diag_error(nm->diags, slice_span(nm, c.s, 0), "the parameter's shape %s does not match the view's %s",
                      build_shape_text(nm->arena, t), view_text(nm->arena, v.dim, v.rank));
  if (!m.rank) emit(&m, 1, 1, 1);
  if (m.rank > MAX_RANK)
    return diag_error(nm->diags, slice_span(nm, c.s, 0), "the view needs more than %d axes", (int)MAX_RANK);
  for (int i = 0; i < stacked; i++) count *= dims[i];
  if (count > PIECE_LIMIT)
    return diag_error(nm->diags, slice_span(nm, c.s, 0), "a parameter of more than %d checkpoint tensors",
                      (int)PIECE_LIMIT);
  *pieces = NEW_ARRAY(nm->arena, Piece, count);
  *npieces = (int)count;
  for (int64_t k = 0; k < count; k++) {
    Piece *q = &(*pieces)[k];
    int64_t index[MAX_RANK] = {0}, rest = k;
    for (int i = stacked; i-- > 0;) index[i] = rest % dims[i], rest /= dims[i], q->start += index[i] * p.stride[i];
    int unused;
    q->tensor = expand_name(&c, pattern, index, &unused);
    q->hf_rank = *hf_rank;
    memcpy(q->hf_dim, hf_dim, sizeof hf_dim);
    q->base = v.base;
    q->rank = m.rank;
    for (int i = 0; i < m.rank; i++) {
      int from = m.rank - 1 - i;
      q->dim[i] = m.dim[from], q->pstride[i] = m.pstride[from], q->stride[i] = m.stride[from];
    }
  }
  return true;
}

/* ---- coverage */

typedef struct Part {
  const Piece *piece;
  const ModelParam *param;
} Part;

typedef struct Run {
  int64_t at, n;
  const ModelParam *param;
} Run;

static int compare_parts(const void *pa, const void *pb) {
  const Part *a = pa, *b = pb;
  int c = strcmp(a->piece->tensor, b->piece->tensor);
  return c ? c : a->param < b->param ? -1 : a->param > b->param ? 1 : a->piece < b->piece ? -1 : a->piece > b->piece;
}

static int compare_runs(const void *pa, const void *pb) {
  const Run *a = pa, *b = pb;
  return a->at < b->at ? -1 : a->at > b->at ? 1 : a->param < b->param ? -1 : a->param > b->param;
}

/* A piece's elements as runs: its axes by descending stride, merged; the innermost is the run if it has stride 1. */
static bool add_runs(Arena *a, const Part *part, Run **runs, int *n, int *cap) {
  const Piece *p = part->piece;
  View v = {.base = p->base, .rank = p->rank};
  for (int i = 0; i < p->rank; i++) {
    int k = i;
    for (; k > 0 && v.stride[k - 1] < p->stride[i]; k--) v.dim[k] = v.dim[k - 1], v.stride[k] = v.stride[k - 1];
    v.dim[k] = p->dim[i], v.stride[k] = p->stride[i];
  }
  v = coalesce(&v);
  int64_t len = 1, count = 1;
  if (v.rank && v.stride[v.rank - 1] == 1) len = v.dim[--v.rank];
  for (int i = 0; i < v.rank; i++)
    if ((count *= v.dim[i]) > RUN_LIMIT) return false;
  if (*n + count > RUN_LIMIT) return false;
  for (int64_t k = 0; k < count; k++) {
    Run r = {v.base, len, part->param};
    int64_t rest = k;
    for (int i = v.rank; i-- > 0;) r.at += rest % v.dim[i] * v.stride[i], rest /= v.dim[i];
    PUSH(a, *runs, *n, *cap, r);
  }
  return true;
}

static const char *element_text(Arena *a, const Piece *p, int64_t at) {
  int64_t index[MAX_RANK];
  for (int i = p->hf_rank; i-- > 0;) index[i] = at % p->hf_dim[i], at /= p->hf_dim[i];
  return view_text(a, index, p->hf_rank);
}

static bool check_tensor(Names *nm, Arena *scratch, const Part *part, int n, int64_t *budget) {
  const Piece *first = part[0].piece;
  int64_t total = 1;
  for (int i = 0; i < first->hf_rank; i++) total *= first->hf_dim[i];
  for (int i = 1; i < n; i++) {
    const Piece *p = part[i].piece;
    if (p->hf_rank != first->hf_rank || memcmp(p->hf_dim, first->hf_dim, sizeof p->hf_dim))
      return diag_error(nm->diags, part[i].param->span, "checkpoint tensor '%s' has shape %s here and %s in '%s'",
                        p->tensor, view_text(nm->arena, p->hf_dim, p->hf_rank),
                        view_text(nm->arena, first->hf_dim, first->hf_rank), part[0].param->name);
  }
  Run *runs = NULL;
  int nruns = 0, cap = 0;
  for (int i = 0; i < n; i++)
    if (!add_runs(scratch, &part[i], &runs, &nruns, &cap))
      return diag_error(nm->diags, part[i].param->span, "checkpoint tensor '%s' is too scattered",
                        part[i].piece->tensor);
  if ((*budget -= nruns) < 0)
    return diag_error(nm->diags, part[0].param->span, "the checkpoint tensors up to '%s' are too scattered",
                      first->tensor);
  qsort(runs, (size_t)nruns, sizeof *runs, compare_runs);
  int64_t at = 0;
  for (int i = 0; i <= nruns; i++) {
    int64_t next = i < nruns ? runs[i].at : total;
    if (next < at)
      return diag_error(nm->diags, runs[i].param->span, "element %s of checkpoint tensor '%s' is in both '%s' and '%s'",
                        element_text(nm->arena, first, next), first->tensor, runs[i - 1].param->name,
                        runs[i].param->name);
    if (next > at)
      return diag_error(nm->diags, (i < nruns ? runs[i].param : part[0].param)->span,
                        "element %s of checkpoint tensor '%s' %s is in no parameter",
                        element_text(nm->arena, first, at), first->tensor,
                        view_text(nm->arena, first->hf_dim, first->hf_rank));
    if (i < nruns) at = next + runs[i].n;
  }
  return true;
}

bool view_check(Names *nm, const ModelParam *params, int n) {
  Arena *scratch = arena_new();
  int count = 0, k = 0;
  for (int i = 0; i < n; i++) count += params[i].npieces;
  Part *part = NEW_ARRAY(scratch, Part, count + 1);
  for (int i = 0; i < n; i++)
    for (int j = 0; j < params[i].npieces; j++) part[k++] = (Part){&params[i].pieces[j], &params[i]};
  qsort(part, (size_t)count, sizeof *part, compare_parts);
  bool ok = true;
  int64_t budget = RUNS_LIMIT;
  for (int i = 0, end; i < count && budget >= 0; i = end) {
    for (end = i + 1; end < count && part[end].piece->tensor == part[i].piece->tensor;) end++;
    Arena *runs = arena_new();
    ok &= check_tensor(nm, runs, &part[i], end - i, &budget);
    arena_free(runs);
  }
  arena_free(scratch);
  return ok;
}
