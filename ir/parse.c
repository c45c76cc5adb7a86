/* Text to graphs: the reverse of print.c; the grammar stands in docs/ir.md.
 *
 * A graph may call one that stands later in the text, and a call's types come from the callee. So the heads are found
 * first, every graph gets its place in the module, and a body is parsed before the first call of it is. Each node is
 * inferred anew and compared with the type that is written.
 *
 * All errors of a text in one run: after one the parser goes on at the next line; the results of a bad node are known
 * as bad, and what uses them is passed over without a word. Must hold on any input: no recursion but along calls
 * (at most CALL_DEPTH), counts checked against their arrays. */
#include "ir/infer.h"
#include "ir/lex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CALL_DEPTH = 200, NODE_VALUES = 65536, BAD = 0 };

/* From interned names to numbers: open addressing by pointer. */
typedef struct Map {
  const char **key;
  uint32_t *val;
  int n, size; /* size: a power of two, or 0 */
} Map;

typedef struct Body {
  Graph *g;
  const char *name;
  int head; /* token after the opening parenthesis; 0: it had errors */
  int end;  /* its closing brace */
  enum { WAITING, OPEN, DONE } state;
} Body;

typedef struct Parser {
  Module *m;
  Diags *d;
  Arena *tmp;
  const char *text;
  uint32_t file;
  Tokens tok;
  int at; /* current token */
  Body *bodies;
  int nbodies, cap_bodies, depth;
  Map by_name; /* graph -> 1 + index in bodies */
  Map paths;   /* path -> source number */
  /* of the graph being parsed */
  Graph *g;
  Map vals;
} Parser;

static uint32_t *map_slot(Arena *a, Map *m, const char *key) {
  if (m->n * 2 >= m->size) {
    Map wide = {.size = m->size ? m->size * 2 : 64};
    wide.key = NEW_ARRAY(a, const char *, wide.size);
    wide.val = NEW_ARRAY(a, uint32_t, wide.size);
    for (int i = 0; i < m->size; i++)
      if (m->key[i]) *map_slot(a, &wide, m->key[i]) = m->val[i];
    *m = wide;
  }
  uint32_t mask = (uint32_t)m->size - 1, i = (uint32_t)(((uintptr_t)key >> 4) * 0x9e3779b1u) & mask;
  while (m->key[i] && m->key[i] != key) i = (i + 1) & mask;
  if (!m->key[i]) {
    m->key[i] = key;
    m->val[i] = UINT32_MAX;
    m->n++;
  }
  return &m->val[i];
}

/* UINT32_MAX: not there. */
static uint32_t map_get(const Map *m, const char *key) {
  if (!m->size) return UINT32_MAX;
  uint32_t mask = (uint32_t)m->size - 1, i = (uint32_t)(((uintptr_t)key >> 4) * 0x9e3779b1u) & mask;
  while (m->key[i] && m->key[i] != key) i = (i + 1) & mask;
  return m->key[i] ? m->val[i] : UINT32_MAX;
}

/* ---- tokens */

static const Token *peek(const Parser *p) {
  return &p->tok.t[p->at];
}

static const Token *next(Parser *p) {
  const Token *t = peek(p);
  if (t->kind != TOK_END) p->at++;
  return t;
}

static Span span_of(const Parser *p, const Token *t) {
  return (Span){p->file, t->line, t->col};
}

static const char *token_text(const Parser *p, const Token *t) {
  return internn(p->text + t->start, t->n);
}

static bool is(const Parser *p, const Token *t, const char *s) {
  return (t->kind == TOK_MARK || t->kind == TOK_NAME) && t->n == strlen(s) && memcmp(p->text + t->start, s, t->n) == 0;
}

static bool accept(Parser *p, const char *s) {
  if (!is(p, peek(p), s)) return false;
  p->at++;
  return true;
}

static const char *shown(const Parser *p, const Token *t) {
  if (t->kind == TOK_END) return "the end of the text";
  int n = t->n > 40 ? 40 : (int)t->n;
  const char *sign = t->kind == TOK_VALUE ? "%" : t->kind == TOK_GRAPH ? "@" : "";
  return arena_printf(p->tmp, "'%s%.*s%s'", sign, n, p->text + t->start, t->n > 40 ? "..." : "");
}

static bool unexpected(Parser *p, const char *what) {
  return diag_error(p->d, span_of(p, peek(p)), "expected %s, not %s", what, shown(p, peek(p)));
}

static bool expect(Parser *p, const char *s) {
  if (accept(p, s)) return true;
  return unexpected(p, arena_printf(p->tmp, "'%s'", s));
}

static bool unknown(Parser *p, const Token *t, const char *what, const char *const *names, int n) {
  const char *near = near_miss(token_text(p, t), names, n);
  return diag_hint(p->d, span_of(p, t), near ? arena_printf(p->tmp, "did you mean '%s'?", near) : NULL, "unknown %s %s",
                   what, shown(p, t));
}

static bool parse_int(Parser *p, int64_t *out) {
  const Token *t = peek(p);
  const char *s = p->text + t->start;
  if (t->kind != TOK_NUMBER) return unexpected(p, "an integer");
  for (uint32_t i = s[0] == '-'; i < t->n; i++)
    if (s[i] < '0' || s[i] > '9') return unexpected(p, "an integer");
  errno = 0;
  *out = strtoll(s, NULL, 10);
  if (errno) return diag_error(p->d, span_of(p, t), "%s does not fit in 64 bits", shown(p, t));
  p->at++;
  return true;
}

static bool parse_num(Parser *p, double *out) {
  const Token *t = peek(p);
  if (t->kind != TOK_NUMBER && !is(p, t, "inf") && !is(p, t, "nan")) return unexpected(p, "a number");
  *out = strtod(arena_strndup(p->tmp, p->text + t->start, t->n), NULL);
  p->at++;
  return true;
}

static bool parse_name(Parser *p, const char *what, const char **out) {
  if (peek(p)->kind != TOK_NAME) return unexpected(p, what);
  *out = token_text(p, next(p));
  return true;
}

/* ---- types */

static bool parse_axis(Parser *p, const Token *t, int *out) {
  const char *names[MAX_AXES];
  for (int i = 0; i < p->m->naxes; i++) {
    names[i] = p->m->mesh[i].name;
    if (names[i] == token_text(p, t)) {
      *out = i;
      return true;
    }
  }
  return unknown(p, t, "mesh axis", names, p->m->naxes);
}

static bool parse_dim(Parser *p, Dim *d) {
  *d = (Dim){0};
  if (peek(p)->kind == TOK_NAME) {
    d->name = token_text(p, next(p));
    if (peek(p)->kind == TOK_BOUND) {
      d->sym = true;
      p->at++;
    } else if (!accept(p, "=")) {
      return unexpected(p, "'=' with an extent or '<=' with a bound");
    }
  }
  if (!parse_int(p, &d->n)) return false;
  if (accept(p, "by")) {
    const Token *t = peek(p);
    if (t->kind != TOK_VALUE) return unexpected(p, "the value that holds the offsets");
    uint32_t v = map_get(&p->vals, token_text(p, t));
    if (v == UINT32_MAX) return diag_error(p->d, span_of(p, t), "%s is not defined before", shown(p, t));
    if (v == BAD) return false;
    d->seg = v;
    p->at++;
  }
  if (peek(p)->kind == TOK_GRAPH) { /* @tp */
    int axis;
    if (!parse_axis(p, next(p), &axis)) return false;
    d->axis = (uint8_t)(axis + 1);
  }
  return true;
}

static bool parse_type(Parser *p, Type *t) {
  const Token *head = peek(p);
  *t = (Type){0};
  if (head->kind != TOK_NAME) return unexpected(p, "a type");
  if (!dtype_parse(token_text(p, head), &t->dt)) return unknown(p, head, "dtype", dtype_name, DT_COUNT);
  p->at++;
  if (accept(p, "[")) {
    do {
      if (t->rank == MAX_RANK) return diag_error(p->d, span_of(p, peek(p)), "more than %d dims", (int)MAX_RANK);
      if (!parse_dim(p, &t->dim[t->rank])) return false;
      t->rank++;
    } while (accept(p, ","));
    if (!expect(p, "]")) return false;
  }
  if (accept(p, "panels")) {
    int64_t split, panel;
    if (!expect(p, "(") || !parse_int(p, &split) || !expect(p, ",") || !parse_int(p, &panel) || !expect(p, ")"))
      return false;
    t->split = split > 0 && split < MAX_RANK ? (int)split : -1; /* what is out of range is type_check's to say */
    t->panel = panel > 0 && panel <= 256 ? (int)panel : -1;
  }
  if (accept(p, "partial")) {
    if (!expect(p, "(")) return false;
    do {
      int axis;
      if (peek(p)->kind != TOK_NAME) return unexpected(p, "a mesh axis");
      const Token *a = next(p);
      if (!parse_axis(p, a, &axis)) return false;
      if (t->partial >> axis & 1) return diag_error(p->d, span_of(p, a), "mesh axis %s is given twice", shown(p, a));
      t->partial |= 1u << axis;
    } while (accept(p, ","));
    if (!expect(p, ")")) return false;
  }
  return type_check(p->g, *t, (Val)p->g->nvals, span_of(p, head), "type");
}

/* ---- nodes */

/* "# gpt2.yaml:24", "# gpt2.yaml:24:9" or either with an instance (" layer.3") behind token `last` gives the place in the
 * model; else `at` stays. */
static Span comment_span(Parser *p, const Token *last, Span at) {
  const char *s = p->text + last->comment + 1, *end = s + last->ncomment - 1, *in = NULL;
  if (last->ncomment < 4) return at;
  while (s < end && (*s == ' ' || *s == '\t')) s++;
  while (s < end && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) end--;
  const char *w = end; /* the last word */
  while (w > s && w[-1] != ' ') w--;
  if (w > s + 1 && w[-2] >= '0' && w[-2] <= '9' && span_in_ok(internn(w, (size_t)(end - w)))) {
    in = internn(w, (size_t)(end - w));
    end = w - 1;
  }
  uint32_t num[2];
  int n = 0;
  while (n < 2) { /* numbers from the end, each after a colon */
    const char *q = end;
    while (q > s && q[-1] >= '0' && q[-1] <= '9' && end - q < 9) q--;
    if (q == end || q - s < 2 || q[-1] != ':') break;
    num[n++] = (uint32_t)strtoul(q, NULL, 10);
    end = q - 1;
  }
  if (n == 0 || num[n - 1] == 0) return at;
  uint32_t *file = map_slot(p->tmp, &p->paths, internn(s, (size_t)(end - s)));
  if (*file == UINT32_MAX) *file = diags_source(p->d, internn(s, (size_t)(end - s)), "", 0);
  return n == 2 ? (Span){*file, num[1], num[0], in} : (Span){*file, num[0], 0, in};
}

static bool parse_ints(Parser *p, Attr *a) {
  if (!expect(p, "[")) return false;
  if (accept(p, "]")) return true;
  do {
    if (a->n == MAX_RANK) return diag_error(p->d, span_of(p, peek(p)), "more than %d integers", (int)MAX_RANK);
    if (!parse_int(p, &a->ints[a->n])) return false;
    a->n++;
  } while (accept(p, ","));
  return expect(p, "]");
}

static bool parse_attr(Parser *p, OpKind op, Attr *a) {
  AttrSpec spec[MAX_ATTRS];
  int n = op_attrs(op, spec);
  const Token *t = peek(p);
  const char *names[MAX_ATTRS];
  *a = (Attr){0};
  if (!parse_name(p, "the name of an attribute", &a->name)) return false;
  int k = 0;
  for (int i = 0; i < n; i++) names[i] = spec[i].name;
  while (k < n && spec[k].name != a->name) k++;
  if (k == n) return unknown(p, t, arena_printf(p->tmp, "attribute of %s:", op_info[op].name), names, n);
  if (!expect(p, "=")) return false;
  switch (spec[k].kind) {
  case ATTR_INT: a->kind = ATTR_INT; return parse_int(p, &a->i);
  case ATTR_NUM: a->kind = ATTR_NUM; return parse_num(p, &a->num);
  case ATTR_INTS: a->kind = ATTR_INTS; return parse_ints(p, a);
  default: break;
  }
  a->kind = ATTR_STR;
  t = peek(p);
  if (t->kind != TOK_STRING) return unexpected(p, "a text in quotes");
  const char *err, *s = lex_string(p->tmp, p->text, t, &err);
  if (!s) return diag_error(p->d, span_of(p, t), "%s", err);
  a->str = intern(s);
  p->at++;
  return true;
}

static bool define(Parser *p, const Token *t, Val v) {
  uint32_t *slot = map_slot(p->tmp, &p->vals, token_text(p, t));
  if (*slot != UINT32_MAX) return diag_error(p->d, span_of(p, t), "%s is defined twice", shown(p, t));
  *slot = v;
  return true;
}

static bool parse_body(Parser *p, Body *b);

/* The callee's outputs must be known before a call of it is inferred. */
static bool callee_ready(Parser *p, const char *fn, Span at) {
  uint32_t k = map_get(&p->by_name, fn);
  if (k == UINT32_MAX) return true; /* infer_call says so */
  Body *b = &p->bodies[k - 1];
  if (b->state == OPEN) return diag_error(p->d, at, "@%s calls itself, directly or through others", fn);
  if (b->state == DONE) return true;
  if (p->depth == CALL_DEPTH) return diag_error(p->d, at, "calls nested deeper than %d", (int)CALL_DEPTH);
  int here = p->at;
  Graph *g = p->g;
  Map vals = p->vals;
  p->vals = (Map){0};
  parse_body(p, b);
  p->at = here;
  p->g = g;
  p->vals = vals;
  return true;
}

/* What one statement gathers; reused from node to node. */
typedef struct Statement {
  const Token **results;
  Val *args;
  Type *types;
  int nresults, cap_results, nargs, cap_args, ntypes, cap_types;
  bool bad_operand;
} Statement;

static bool parse_operands(Parser *p, Statement *s) {
  if (peek(p)->kind != TOK_VALUE) return true;
  do {
    const Token *t = peek(p);
    if (t->kind != TOK_VALUE) return unexpected(p, "a value");
    if (s->nargs == NODE_VALUES) return diag_error(p->d, span_of(p, t), "too many operands");
    uint32_t v = map_get(&p->vals, token_text(p, t));
    if (v == UINT32_MAX) return diag_error(p->d, span_of(p, t), "%s is not defined before", shown(p, t));
    if (v == BAD) s->bad_operand = true;
    PUSH(p->tmp, s->args, s->nargs, s->cap_args, (Val)v);
    p->at++;
  } while (accept(p, ","));
  return true;
}

/* From the op on. Returns the first result, 0 after an error. */
static bool parse_op(Parser *p, Statement *s, Val *res) {
  const Token *t = peek(p);
  Span at = span_of(p, t);
  Attr attrs[MAX_ATTRS];
  int nattrs = 0;
  if (t->kind != TOK_NAME) return unexpected(p, "an op");
  OpKind op = op_find(token_text(p, t));
  if (op == OP_NONE) {
    const char *names[OP_COUNT];
    for (int i = 1; i < OP_COUNT; i++) names[i - 1] = op_info[i].name;
    return unknown(p, t, "op", names, OP_COUNT - 1);
  }
  p->at++;
  if (!parse_operands(p, s)) return false;
  if (accept(p, "{")) {
    do {
      if (nattrs == MAX_ATTRS) return diag_error(p->d, span_of(p, peek(p)), "too many attributes");
      if (!parse_attr(p, op, &attrs[nattrs])) return false;
      nattrs++;
    } while (accept(p, ","));
    if (!expect(p, "}")) return false;
  }
  if (s->nresults) {
    if (!expect(p, ":")) return false;
    for (int i = 0; i < s->nresults; i++) {
      Type type;
      if (i && !expect(p, ",")) return false;
      if (!parse_type(p, &type)) return false;
      PUSH(p->tmp, s->types, s->ntypes, s->cap_types, type);
    }
  }
  const Token *last = &p->tok.t[p->at - 1];
  if (!peek(p)->first && !is(p, peek(p), "}")) return unexpected(p, "the end of the line");
  if (s->bad_operand) return false;
  if (op_info[op].nres >= 0 && op_info[op].nres != s->nresults)
    return diag_error(p->d, at, "%s has %d result%s, not %d", op_info[op].name, op_info[op].nres,
                      op_info[op].nres == 1 ? "" : "s", s->nresults);
  if (op == OP_call)
    for (int i = 0; i < nattrs; i++) {
      if (attrs[i].kind != ATTR_STR) continue;
      if (!callee_ready(p, attrs[i].str, at)) return false;
      const Graph *callee = module_find(p->m, attrs[i].str);
      if (callee && callee->noutputs != s->nresults) {
        uint32_t k = map_get(&p->by_name, callee->name);
        if (k != UINT32_MAX && p->bodies[k - 1].head == 0) return false; /* its own errors are on the list */
        return diag_error(p->d, at, "@%s has %d outputs, not %d", callee->name, callee->noutputs, s->nresults);
      }
    }
  int nodes = p->g->nnodes;
  Val v = graph_add(p->g, op, s->args, s->nargs, attrs, nattrs, s->nresults ? s->types : NULL, at);
  if (p->g->nnodes == nodes) return false;
  p->g->nodes[nodes].span = comment_span(p, last, at);
  for (int i = 0; i < s->nresults; i++) {
    Type *found = &p->g->types[v + (Val)i];
    if (!type_eq(*found, s->types[i]))
      return diag_error(p->d, at, "%s: the type written is %s, but it is %s", op_info[op].name,
                        type_text(p->g, s->types[i]), type_text(p->g, *found));
    *found = s->types[i]; /* with the names of constant extents as they were written */
  }
  *res = v;
  return true;
}

static bool parse_statement(Parser *p, Statement *s) {
  s->nresults = s->nargs = s->ntypes = 0;
  s->bad_operand = false;
  if (peek(p)->kind == TOK_VALUE) {
    do {
      if (peek(p)->kind != TOK_VALUE) return unexpected(p, "a value");
      if (s->nresults == NODE_VALUES) return diag_error(p->d, span_of(p, peek(p)), "too many results");
      PUSH(p->tmp, s->results, s->nresults, s->cap_results, next(p));
    } while (accept(p, ","));
    if (!expect(p, "=")) {
      for (int i = 0; i < s->nresults; i++) define(p, s->results[i], BAD);
      return false;
    }
  }
  Val v = BAD;
  bool ok = parse_op(p, s, &v);
  for (int i = 0; i < s->nresults; i++) ok = define(p, s->results[i], v ? v + (Val)i : BAD) && ok;
  return ok;
}

static bool parse_return(Parser *p) {
  if (is(p, peek(p), "}")) return true;
  do {
    const char *name;
    if (!parse_name(p, "the name of an output", &name) || !expect(p, "=")) return false;
    const Token *t = peek(p);
    if (t->kind != TOK_VALUE) return unexpected(p, "a value");
    uint32_t v = map_get(&p->vals, token_text(p, t));
    if (v == UINT32_MAX) return diag_error(p->d, span_of(p, t), "%s is not defined before", shown(p, t));
    p->at++;
    if (v != BAD) graph_output(p->g, name, v);
  } while (accept(p, ","));
  return true;
}

static bool parse_input(Parser *p) {
  const Token *name = peek(p);
  Type t;
  if (name->kind != TOK_VALUE) return unexpected(p, "an input, %name");
  if (p->text[name->start] >= '0' && p->text[name->start] <= '9')
    return diag_error(p->d, span_of(p, name), "the name of an input can not start with a digit");
  p->at++;
  if (!expect(p, ":") || !parse_type(p, &t)) return false;
  const Token *k = peek(p);
  if (k->kind != TOK_NAME) return unexpected(p, "data, param or state");
  InputKind kind = IN_DATA;
  while (kind <= IN_STATE && !is(p, k, input_kind_name[kind])) kind++;
  if (kind > IN_STATE) return unknown(p, k, "kind of input", input_kind_name, IN_STATE + 1);
  p->at++;
  bool nodecay = kind == IN_PARAM && is(p, peek(p), "nodecay");
  if (nodecay) k = next(p);
  const Token *last = is(p, peek(p), ",") ? peek(p) : k;
  Val v = graph_input(p->g, token_text(p, name), kind, t, comment_span(p, last, span_of(p, name)));
  if (nodecay) p->g->inputs[p->g->ninputs - 1].decay = false;
  return define(p, name, v);
}

/* On to the next line that can begin a statement, or to the end of the body. */
static void skip_statement(Parser *p, int end) {
  for (; p->at < end; p->at++)
    if (peek(p)->first && (peek(p)->kind == TOK_VALUE || peek(p)->kind == TOK_NAME)) return;
}

static bool parse_nodes(Parser *p, int end) {
  Statement s = {0};
  bool ok = true;
  for (;;) {
    const Token *t = peek(p);
    if (p->at >= end) return ok ? unexpected(p, "a node or return") : false;
    if (accept(p, "return")) {
      ok = parse_return(p) && ok;
      if (ok) return expect(p, "}");
      return false;
    }
    if (!parse_statement(p, &s)) {
      ok = false;
      if (peek(p) == t) p->at++;
      skip_statement(p, end);
    }
  }
}

static bool parse_body(Parser *p, Body *b) {
  bool ok = true;
  p->at = b->head;
  p->g = b->g;
  p->vals = (Map){0};
  p->depth++;
  b->state = OPEN;
  if (!accept(p, ")")) {
    do ok = parse_input(p);
    while (ok && accept(p, ","));
    ok = ok && expect(p, ")");
  }
  ok = ok && expect(p, "{") && parse_nodes(p, b->end);
  b->state = DONE;
  if (!ok) b->head = 0;
  p->depth--;
  return ok;
}

/* ---- modules */

/* "graph @name(" or "region kind @name(": notes the graph, goes behind its closing brace. */
static bool parse_head(Parser *p) {
  const char *kind = NULL;
  if (accept(p, "region")) {
    if (!parse_name(p, "what kernel the region becomes", &kind)) return false;
  } else if (!accept(p, "graph")) {
    return unexpected(p, "'graph' or 'region'");
  }
  const Token *t = peek(p);
  if (t->kind != TOK_GRAPH) return unexpected(p, "the name of the graph, @name");
  p->at++;
  if (!expect(p, "(")) return false;
  const char *name = token_text(p, t);
  uint32_t *slot = map_slot(p->tmp, &p->by_name, name);
  if (*slot != UINT32_MAX) diag_error(p->d, span_of(p, t), "graph @%s is defined twice", name);
  Body b = {.g = graph_new(p->m, name), .name = name, .head = p->at};
  b.g->region = kind;
  int depth = 0; /* of braces; attributes are the only ones inside. A missing one is found when the body is parsed. */
  for (; peek(p)->kind != TOK_END; p->at++) {
    depth += is(p, peek(p), "{") ? 1 : is(p, peek(p), "}") ? -1 : 0;
    if (depth == 0 && is(p, peek(p), "}")) break;
    if (peek(p)->first && (is(p, peek(p), "graph") || is(p, peek(p), "region"))) break;
  }
  b.end = p->at;
  PUSH(p->tmp, p->bodies, p->nbodies, p->cap_bodies, b);
  *slot = (uint32_t)p->nbodies;
  accept(p, "}");
  return true;
}

static bool parse_mesh(Parser *p) {
  Module *m = p->m;
  if (!expect(p, "(")) return false;
  do {
    const Token *t = peek(p);
    MeshAxis axis;
    int64_t n;
    if (!parse_name(p, "a mesh axis", &axis.name) || !expect(p, "=") || !parse_int(p, &n)) return false;
    if (n < 1 || n > 1 << 20)
      return diag_error(p->d, span_of(p, t), "a mesh axis has 1 to 2^20 places, not %lld", (long long)n);
    if (m->naxes == MAX_AXES) return diag_error(p->d, span_of(p, t), "more than %d mesh axes", (int)MAX_AXES);
    for (int i = 0; i < m->naxes; i++)
      if (m->mesh[i].name == axis.name)
        return diag_error(p->d, span_of(p, t), "mesh axis %s is given twice", shown(p, t));
    axis.n = (int)n;
    m->mesh[m->naxes++] = axis;
  } while (accept(p, ","));
  return expect(p, ")");
}

static bool parse_compute(Parser *p) {
  for (DType dt = DT_f32; dt <= DT_bf16; dt++)
    if (accept(p, dtype_name[dt])) return p->m->compute = dt, true;
  return unexpected(p, "f32 or bf16");
}

static bool parse_module(Parser *p) {
  const char *err, *name;
  if (!expect(p, "module")) return false;
  const Token *t = peek(p);
  if (t->kind != TOK_STRING) return unexpected(p, "the name of the module in quotes");
  if (!(name = lex_string(p->tmp, p->text, t, &err))) return diag_error(p->d, span_of(p, t), "%s", err);
  p->m->name = intern(name);
  p->at++;
  if (accept(p, "compute") && !parse_compute(p)) return false;
  if (accept(p, "mesh") && !parse_mesh(p)) return false;
  while (peek(p)->kind != TOK_END)
    if (!parse_head(p)) return false;
  for (int i = 0; i < p->nbodies; i++)
    if (p->bodies[i].state == WAITING) parse_body(p, &p->bodies[i]);
  return true;
}

Module *module_parse(Arena *a, Diags *d, uint32_t file) {
  int before = d->n + d->dropped;
  Parser p = {.d = d, .tmp = arena_new(), .file = file, .m = module_new(a, d, "")};
  for (int i = d->nsources; i > 0; i--) *map_slot(p.tmp, &p.paths, intern(d->sources[i - 1].path)) = (uint32_t)i;
  lex(p.tmp, d, file, &p.tok);
  p.text = d->sources[file - 1].text;
  parse_module(&p);
  arena_free(p.tmp);
  return d->n + d->dropped == before ? p.m : NULL;
}
