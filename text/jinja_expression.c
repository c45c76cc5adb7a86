/* Tokens to expressions, with the precedences of Jinja2's parser: or, and, not, comparisons and `in`, + -, ~, * / // %, **,
 * signs, then suffixes, filters and tests.
 *
 * A left-to-right row of operands is one node, however long, so that only nesting costs depth; JINJA_NEST bounds that.
 * Must hold: a name of a filter or test that no table has is refused here. */
#include "text/jinja.h"

#include <stdio.h>
#include <string.h>

bool jinja_refuse(Parser *p, const Token *at, const char *fmt, ...) {
  if (p->failed) return false;
  va_list ap;
  va_start(ap, fmt);
  p->failed = true;
  const char *text = arena_vprintf(p->err->arena, fmt, ap);
  va_end(ap);
  return diag_error(p->err, (Span){p->file, at->line, at->col}, "%s", text);
}

bool jinja_is_name(const Token *t, const char *name) {
  return t->kind == T_NAME && t->n == strlen(name) && !memcmp(t->s, name, t->n);
}

bool jinja_is_op(const Token *t, const char *op) {
  return t->kind == T_OPERATOR && t->op[0] == op[0] && t->op[1] == op[1];
}

/* What a message says of a token. */
const char *jinja_describe(Parser *p, const Token *t) {
  switch ((TokenKind)t->kind) {
  case T_END: return "the end of the template";
  case T_DATA: return "text";
  case T_VARIABLE: return "'{{'";
  case T_VARIABLE_END: return "'}}'";
  case T_BLOCK: return "'{%'";
  case T_BLOCK_END: return "'%}'";
  case T_NAME: return arena_printf(p->arena, "'%.*s'", (int)(t->n < 60 ? t->n : 60), t->s);
  case T_STRING: return "a string";
  case T_INT:
  case T_FLOAT: return "a number";
  case T_OPERATOR: return arena_printf(p->arena, "'%.2s'", t->op);
  }
  return "?";
}

/* After a failure nothing is taken any more: the end of a tag is as good as any. */
static const Token *next(Parser *p) {
  const Token *t = p->at;
  if (t->kind != T_END) p->at++;
  return t;
}

bool jinja_skip_name(Parser *p, const char *name) {
  return jinja_is_name(p->at, name) && next(p);
}

bool jinja_skip_op(Parser *p, const char *op) {
  return jinja_is_op(p->at, op) && next(p);
}

void jinja_expect_op(Parser *p, const char *op) {
  if (!jinja_skip_op(p, op)) jinja_refuse(p, p->at, "expected '%s', found %s", op, jinja_describe(p, p->at));
}

bool jinja_enter(Parser *p) {
  return ++p->nest <= JINJA_NEST || jinja_refuse(p, p->at, "nested more than %d deep", JINJA_NEST);
}

Node *jinja_node(Parser *p, NodeKind kind, const Token *at) {
  Node *n = NEW(p->arena, Node);
  n->kind = (uint8_t)kind;
  n->line = at->line;
  n->col = at->col;
  n->name = -1;
  return n;
}

/* Suffixes nest to the left, without recursion here, but evaluation follows them down. */
static Node *around(Parser *p, NodeKind kind, const Token *at, Node *inner) {
  Node *n = jinja_node(p, kind, at);
  n->a = inner;
  n->depth = inner ? (uint16_t)(inner->depth + 1) : 0;
  if (n->depth > JINJA_NEST) jinja_refuse(p, at, "more than %d suffixes in a row", JINJA_NEST);
  return n;
}

/* Whether an array of n items that grew by arena_grow is full: at 0, 8, 16, 32 ... */
static bool full(int n) {
  return !n || (n >= 8 && !(n & (n - 1)));
}

void jinja_add_kid(Parser *p, Node *to, Node *kid) {
  int cap = to->n;
  if (full(to->n)) to->kids = arena_grow(p->arena, to->kids, sizeof *to->kids, to->n, &cap);
  to->kids[to->n++] = kid;
}

/* With the operator before it, of at most two characters. */
static void add_operand(Parser *p, Node *to, const char *op, Node *kid) {
  int cap = to->n;
  if (full(to->n)) to->ops = arena_grow(p->arena, to->ops, sizeof *to->ops, to->n, &cap);
  memcpy(to->ops[to->n], op, op[0] && op[1] ? 2 : 1);
  jinja_add_kid(p, to, kid);
}

Value jinja_known_string(const char *s, size_t n) {
  return (Value){.kind = V_STRING, .s = s, .n = n};
}

int jinja_name(Parser *p, const char *s, size_t n) {
  unsigned h = (unsigned)hash64(s, n) % NAME_BUCKETS;
  for (int i = p->buckets[h]; i >= 0; i = p->chain[i])
    if (p->names[i].n == n && !memcmp(p->names[i].s, s, n)) return i;
  int count = p->nnames;
  PUSH(p->arena, p->names, p->nnames, p->cap_names, jinja_known_string(s, n));
  PUSH(p->arena, p->chain, count, p->cap_chain, p->buckets[h]);
  return p->buckets[h] = p->nnames - 1;
}

static Node *constant(Parser *p, const Token *at, Value v) {
  Node *n = jinja_node(p, N_CONST, at);
  n->value = v;
  return n;
}

static Node *name_or_literal(Parser *p) {
  const Token *t = next(p);
  if (jinja_is_name(t, "true") || jinja_is_name(t, "True")) return constant(p, t, (Value){.kind = V_BOOL, .b = true});
  if (jinja_is_name(t, "false") || jinja_is_name(t, "False")) return constant(p, t, (Value){.kind = V_BOOL});
  if (jinja_is_name(t, "none") || jinja_is_name(t, "None")) return constant(p, t, NONE);
  Node *n = jinja_node(p, N_NAME, t);
  n->name = jinja_name(p, t->s, t->n);
  n->value = jinja_known_string(t->s, t->n);
  p->uses |= n->name == NAME_CALLER    ? USES_CALLER
             : n->name == NAME_KWARGS  ? USES_KWARGS
             : n->name == NAME_VARARGS ? USES_VARARGS
                                       : 0u;
  return n;
}

static Node *strings(Parser *p) {
  const Token *t = next(p);
  size_t n = t->n, at = 0;
  while (p->at->kind == T_STRING) n += next(p)->n; /* 'a' 'b' is one string */
  if (p->at == t + 1) return constant(p, t, jinja_known_string(t->s, t->n));
  char *all = arena_alloc(p->arena, n + 1);
  for (const Token *part = t; part < p->at; at += part++->n) memcpy(all + at, part->s, part->n);
  return constant(p, t, jinja_known_string(all, n));
}

static Node *list_or_dict(Parser *p) {
  const Token *t = next(p);
  bool dict = t->op[0] == '{';
  const char *end = dict ? "}" : "]";
  Node *n = jinja_node(p, dict ? N_DICT : N_LIST, t);
  while (!jinja_is_op(p->at, end) && !p->failed) {
    if (n->n) jinja_expect_op(p, ",");
    if (jinja_is_op(p->at, end)) break;
    jinja_add_kid(p, n, jinja_expression(p, true));
    if (!dict) continue;
    jinja_expect_op(p, ":");
    jinja_add_kid(p, n, jinja_expression(p, true));
  }
  jinja_expect_op(p, end);
  return n;
}

Node *jinja_primary(Parser *p) {
  const Token *t = p->at;
  switch (t->kind) {
  case T_NAME: return name_or_literal(p);
  case T_STRING: return strings(p);
  case T_INT: return constant(p, next(p), (Value){.kind = V_INT, .i = t->i});
  case T_FLOAT: return constant(p, next(p), (Value){.kind = V_FLOAT, .f = t->f});
  }
  if (jinja_is_op(t, "[") || jinja_is_op(t, "{")) return list_or_dict(p);
  if (!jinja_skip_op(p, "(")) {
    jinja_refuse(p, t, "expected an expression, found %s", jinja_describe(p, t));
    return constant(p, t, NONE);
  }
  Node *n;
  if (jinja_is_op(p->at, ")"))
    n = jinja_node(p, N_TUPLE, t);
  else
    n = jinja_tuple(p, true);
  jinja_expect_op(p, ")");
  return n;
}

static void add_arg(Parser *p, Node *to, Arg arg, int *cap) {
  PUSH(p->arena, to->args, to->nargs, *cap, arg);
}

/* (1, *more, name=2, **others) */
static void arguments(Parser *p, Node *to) {
  const Token *open = p->at;
  int cap = 0, stage = 0; /* 0: plain ones may come, 1: named ones, 2: nothing but what ** gives, 3: nothing */
  jinja_expect_op(p, "(");
  while (!jinja_is_op(p->at, ")") && !p->failed) {
    if (to->nargs) jinja_expect_op(p, ",");
    if (jinja_is_op(p->at, ")")) break;
    const Token *t = p->at;
    Arg arg = {ARG_PLAIN};
    int want = 0, after = 0;
    if (jinja_skip_op(p, "*")) {
      arg.kind = ARG_LIST, want = 1, after = 2;
    } else if (jinja_skip_op(p, "**")) {
      arg.kind = ARG_DICT, want = 2, after = 3;
    } else if (t->kind == T_NAME && jinja_is_op(t + 1, "=")) {
      arg.kind = ARG_NAMED, want = 2, after = stage < 1 ? 1 : stage;
      arg.name = jinja_known_string(t->s, t->n);
      p->at += 2;
    }
    if (stage > want) jinja_refuse(p, t, "an argument that cannot stand here");
    if (stage < after) stage = after;
    arg.value = jinja_expression(p, true);
    add_arg(p, to, arg, &cap);
  }
  if (!jinja_skip_op(p, ")")) jinja_refuse(p, open, "a call without its ')'");
}

/* [a] or [a:b:c] */
static Node *subscript(Parser *p, Node *in) {
  const Token *t = next(p);
  Node *part[3] = {NULL, NULL, NULL};
  int parts = 0;
  if (!jinja_is_op(p->at, ":")) part[0] = jinja_expression(p, true);
  while (parts < 2 && jinja_skip_op(p, ":")) {
    parts++;
    if (!jinja_is_op(p->at, ":") && !jinja_is_op(p->at, "]")) part[parts] = jinja_expression(p, true);
  }
  if (jinja_is_op(p->at, ",")) jinja_refuse(p, p->at, "several indices in one '[]' are not in the subset");
  jinja_expect_op(p, "]");
  Node *n = around(p, parts ? N_SLICE : N_ITEM, t, in);
  n->b = part[0];
  for (int i = 0; parts && i < 3; i++) jinja_add_kid(p, n, part[i]);
  return n;
}

static Node *call(Parser *p, Node *f) {
  static const char *const globals[] = {"lipsum", "cycler", "joiner"};
  const Token *t = p->at;
  Node *n = around(p, N_CALL, t, f);
  for (int i = 0; i < LEN(globals); i++)
    if (f->kind == N_NAME && jinja_is(f->value, globals[i]))
      jinja_refuse(p, t, "the function '%s' is not in the subset", globals[i]);
  if (f->kind == N_ATTR && !jinja_method_known(f->value.s, f->value.n))
    jinja_refuse(p, t, "the method '%.*s' is not in the subset", (int)f->value.n, f->value.s);
  arguments(p, n);
  return n;
}

Node *jinja_suffixes(Parser *p, Node *n) {
  while (!p->failed) {
    const Token *t = p->at;
    if (jinja_skip_op(p, ".")) {
      const Token *name = next(p);
      n = around(p, name->kind == T_INT ? N_ITEM : N_ATTR, t, n);
      if (name->kind == T_INT)
        n->b = constant(p, name, (Value){.kind = V_INT, .i = name->i});
      else if (name->kind == T_NAME)
        n->value = jinja_known_string(name->s, name->n);
      else
        jinja_refuse(p, name, "expected a name behind '.', found %s", jinja_describe(p, name));
    } else if (jinja_is_op(t, "[")) {
      n = subscript(p, n);
    } else if (jinja_is_op(t, "(")) {
      n = call(p, n);
    } else {
      break;
    }
  }
  return n;
}

/* map, select and the like name a filter or test in a string; one that is written down is looked up at once. */
static void check_named(Parser *p, const Node *n, const Token *at) {
  bool attr = jinja_is(n->value, "selectattr") || jinja_is(n->value, "rejectattr");
  bool test = attr || jinja_is(n->value, "select") || jinja_is(n->value, "reject"), filter = jinja_is(n->value, "map");
  if ((!test && !filter) || n->nargs <= attr || n->args[attr].kind != ARG_PLAIN) return;
  const Node *name = n->args[attr].value;
  if (name->kind != N_CONST || name->value.kind != V_STRING) return;
  Value v = name->value;
  if (!(test ? jinja_test(v.s, v.n) : jinja_filter(v.s, v.n)))
    jinja_refuse(p, at, "the %s '%.*s' is not in the subset", test ? "test" : "filter", (int)(v.n < 60 ? v.n : 60),
                 v.s);
}

Node *jinja_filters(Parser *p, Node *in, bool at) {
  while (!p->failed && (at || jinja_skip_op(p, "|"))) {
    const Token *t = next(p);
    at = false;
    in = around(p, N_FILTER, t, in);
    if (t->kind != T_NAME) {
      jinja_refuse(p, t, "expected a filter's name, found %s", jinja_describe(p, t));
      break;
    }
    in->value = jinja_known_string(t->s, t->n);
    in->row = jinja_filter(t->s, t->n);
    if (!in->row) jinja_refuse(p, t, "the filter %s is not in the subset", jinja_describe(p, t));
    if (jinja_is_op(p->at, "(")) arguments(p, in);
    check_named(p, in, t);
  }
  return in;
}

static Node *test(Parser *p, Node *in) {
  next(p); /* is */
  bool negated = jinja_skip_name(p, "not");
  const Token *t = next(p);
  Node *n = around(p, N_TEST, t, in);
  if (t->kind != T_NAME) {
    jinja_refuse(p, t, "expected a test's name, found %s", jinja_describe(p, t));
    return n;
  }
  n->value = jinja_known_string(t->s, t->n);
  n->row = jinja_test(t->s, t->n);
  if (!n->row) jinja_refuse(p, t, "the test %s is not in the subset", jinja_describe(p, t));
  const Token *a = p->at;
  if (jinja_is_op(a, "(")) {
    arguments(p, n);
  } else if ((a->kind >= T_NAME && a->kind <= T_FLOAT && !jinja_is_name(a, "else") && !jinja_is_name(a, "or") &&
              !jinja_is_name(a, "and")) ||
             jinja_is_op(a, "[") || jinja_is_op(a, "{")) {
    if (jinja_is_name(a, "is")) jinja_refuse(p, a, "tests cannot be chained with 'is'");
    int cap = 0;
    if (jinja_enter(p)) add_arg(p, n, (Arg){ARG_PLAIN, MISSING, jinja_suffixes(p, jinja_primary(p))}, &cap);
    p->nest--;
  }
  return negated ? around(p, N_NOT, t, n) : n;
}

static Node *unary(Parser *p, bool filters) {
  const Token *t = p->at;
  Node *n;
  if (!jinja_enter(p)) {
    n = constant(p, t, NONE);
  } else if (jinja_is_op(t, "-") || jinja_is_op(t, "+")) {
    next(p);
    n = around(p, t->op[0] == '-' ? N_NEGATE : N_PLUS, t, unary(p, false));
  } else {
    n = jinja_primary(p);
  }
  n = jinja_suffixes(p, n);
  while (filters && !p->failed) {
    if (jinja_is_op(p->at, "|"))
      n = jinja_filters(p, n, false);
    else if (jinja_is_name(p->at, "is"))
      n = test(p, n);
    else if (jinja_is_op(p->at, "("))
      n = call(p, n);
    else
      break;
  }
  p->nest--;
  return n;
}

static Node *unary_filtered(Parser *p) {
  return unary(p, true);
}

/* A row of operands: one node with the operator before each of its kids but the first. */
static Node *row(Parser *p, NodeKind kind, const char *const *ops, int nops, Node *(*operand)(Parser *)) {
  Node *first = operand(p), *n = NULL;
  while (!p->failed) {
    int k = 0;
    while (k < nops && !jinja_is_op(p->at, ops[k])) k++;
    if (k == nops) break;
    if (!n) add_operand(p, n = jinja_node(p, kind, p->at), "", first);
    next(p);
    add_operand(p, n, ops[k], operand(p));
  }
  return n ? n : first;
}

static Node *power(Parser *p) {
  return row(p, N_MATH, (const char *const[]){"**"}, 1, unary_filtered);
}
static Node *product(Parser *p) {
  return row(p, N_MATH, (const char *const[]){"*", "/", "//", "%"}, 4, power);
}
static Node *concat(Parser *p) {
  return row(p, N_CONCAT, (const char *const[]){"~"}, 1, product);
}
static Node *sum(Parser *p) {
  return row(p, N_MATH, (const char *const[]){"+", "-"}, 2, concat);
}

/* `in` and `not in` are the operators "i" and "n". */
static Node *compare(Parser *p) {
  static const char *const ops[] = {"==", "!=", "<", "<=", ">", ">="};
  Node *first = sum(p), *n = NULL;
  while (!p->failed) {
    char op[3] = "";
    for (int i = 0; i < LEN(ops); i++)
      if (jinja_is_op(p->at, ops[i])) strcpy(op, ops[i]);
    if (jinja_is_name(p->at, "in")) strcpy(op, "i");
    bool not_in = jinja_is_name(p->at, "not") && jinja_is_name(p->at + 1, "in");
    if (not_in) strcpy(op, "n");
    if (!op[0]) break;
    if (!n) add_operand(p, n = jinja_node(p, N_COMPARE, p->at), "", first);
    p->at += not_in ? 2 : 1;
    add_operand(p, n, op, sum(p));
  }
  return n ? n : first;
}

static Node *not_(Parser *p) {
  const Token *t = p->at;
  if (!jinja_skip_name(p, "not")) return compare(p);
  Node *n = jinja_node(p, N_NOT, t);
  n->a = jinja_enter(p) ? not_(p) : constant(p, t, NONE);
  p->nest--;
  return n;
}

static Node *logic(Parser *p, bool or) {
  Node *first = or ? logic(p, false) : not_(p), *n = NULL;
  for (const Token *t = p->at; jinja_skip_name(p, or ? "or" : "and") && !p->failed; t = p->at) {
    if (!n) jinja_add_kid(p, n = jinja_node(p, or ? N_OR : N_AND, t), first);
    jinja_add_kid(p, n, or ? logic(p, false) : not_(p));
  }
  return n ? n : first;
}

Node *jinja_expression(Parser *p, bool choose) {
  const Token *t = p->at;
  if (!jinja_enter(p)) {
    p->nest--;
    return constant(p, t, NONE);
  }
  Node *n = logic(p, true);
  for (t = p->at; choose && !p->failed && jinja_skip_name(p, "if"); t = p->at) {
    n = around(p, N_CHOOSE, t, n);
    n->b = logic(p, true);
    n->c = jinja_skip_name(p, "else") ? jinja_expression(p, true) : NULL;
  }
  p->nest--;
  return n;
}

Node *jinja_tuple(Parser *p, bool choose) {
  const Token *t = p->at;
  Node *n = jinja_expression(p, choose);
  if (!jinja_is_op(p->at, ",")) return n;
  Node *tuple = jinja_node(p, N_TUPLE, t);
  jinja_add_kid(p, tuple, n);
  while (jinja_skip_op(p, ",") && !p->failed) {
    if (p->at->kind == T_VARIABLE_END || p->at->kind == T_BLOCK_END || jinja_is_op(p->at, ")")) break;
    jinja_add_kid(p, tuple, jinja_expression(p, choose));
  }
  return tuple;
}
