/* Parser of the model language: recursive descent over the tokens of lex.c (grammar in lang.h). A wrong line is reported
 * once and skipped up to its end; the function or block it opens is skipped with it. */
#include "frontend/lang.h"
#include <string.h>

typedef struct Parser {
  Arena *arena;
  Diags *diags;
  const Token *t;
  int depth;
  bool ok;
} Parser;

static const char *describe(Parser *p) {
  switch (p->t->kind) {
  case TOK_NUM: return "a number";
  case TOK_NAME: return arena_printf(p->arena, "'%s'", p->t->text);
  case TOK_STR: return "a text";
  case TOK_CHAR: return arena_printf(p->arena, "'%c'", p->t->c);
  case TOK_NEWLINE: return "the end of the line";
  case TOK_INDENT: return "an indented line";
  case TOK_DEDENT: return "the end of the block";
  default: return "the end";
  }
}

/* Reports and returns NULL. The lexer may have had its word on this line already: once is enough. */
static void *fail(Parser *p, const char *expected) {
  p->ok = false;
  for (int i = 0; i < p->diags->n; i++)
    if (p->diags->list[i].at.file == p->t->at.file && p->diags->list[i].at.line == p->t->at.line) return NULL;
  p->ok = diag_error(p->diags, p->t->at, "expected %s, found %s", expected, describe(p));
  return NULL;
}

static bool is_char(const Parser *p, char c) {
  return p->t->kind == TOK_CHAR && p->t->c == c;
}

static bool is_word(const Parser *p, const char *word) {
  return p->t->kind == TOK_NAME && !strcmp(p->t->text, word);
}

static bool take(Parser *p, char c) {
  if (!is_char(p, c)) return false;
  p->t++;
  return true;
}

static bool want(Parser *p, char c) {
  char text[] = {'\'', c, '\'', 0};
  return take(p, c) || fail(p, text);
}

static Ast *ast_new(Parser *p, AstKind kind, Span at) {
  Ast *a = NEW(p->arena, Ast);
  a->kind = kind;
  a->at = at;
  return a;
}

static Ast *parse_expr(Parser *p);

/* Items up to the closing bracket; with keywords for a call. */
static bool parse_items(Parser *p, Ast *into, char closing, bool keywords) {
  int cap = 0, nkeys = 0, cap_keys = 0;
  if (take(p, closing)) return true;
  do {
    if (is_char(p, closing)) break; /* a comma may close the list */
    const char *key = NULL;
    if (keywords && p->t->kind == TOK_NAME && p->t[1].kind == TOK_CHAR && p->t[1].c == ':') {
      key = p->t->text;
      p->t += 2;
    } else if (nkeys && into->key[nkeys - 1]) {
      return fail(p, "an argument with a keyword, as the one before it has");
    }
    Ast *item = parse_expr(p);
    if (!item) return false;
    PUSH(p->arena, into->arg, into->n, cap, item);
    PUSH(p->arena, into->key, nkeys, cap_keys, key);
  } while (take(p, ','));
  return take(p, closing) || fail(p, closing == ')' ? "',' or ')'" : "',' or ']'");
}

static Ast *parse_name(Parser *p) {
  Ast *a = ast_new(p, AST_NAME, p->t->at);
  a->name = p->t++->text;
  if (is_char(p, '[')) {
    p->t++;
    if (!(a->index = parse_expr(p)) || !want(p, ']')) return NULL;
    if (!is_char(p, '(')) return fail(p, "'(': only a block has an index, and it is called");
  }
  if (take(p, '(')) {
    a->kind = AST_CALL;
    if (!parse_items(p, a, ')', true)) return NULL;
  }
  return a;
}

static Ast *parse_atom(Parser *p) {
  Ast *a;
  switch (p->t->kind) {
  case TOK_NUM:
    a = ast_new(p, AST_NUM, p->t->at);
    a->num = p->t++->num;
    return a;
  case TOK_STR:
    a = ast_new(p, AST_STR, p->t->at);
    a->name = p->t++->text;
    return a;
  case TOK_NAME: return parse_name(p);
  default: break;
  }
  if (is_char(p, '[')) {
    a = ast_new(p, AST_LIST, p->t++->at);
    return parse_items(p, a, ']', false) ? a : NULL;
  }
  if (take(p, '(')) {
    a = parse_expr(p);
    return a && want(p, ')') ? a : NULL;
  }
  return fail(p, "a value");
}

static Ast *parse_unary(Parser *p) {
  if (!is_char(p, '-')) return parse_atom(p);
  int minus = 0; /* --x is x; a long run of signs costs no stack */
  Span at = p->t->at;
  while (take(p, '-')) minus++;
  Ast *x = parse_atom(p);
  if (!x || minus % 2 == 0) return x;
  Ast *a = ast_new(p, AST_NEG, at);
  a->name = "neg";
  a->arg = NEW_ARRAY(p->arena, Ast *, 1);
  a->arg[0] = x;
  a->n = 1;
  return a;
}

static Ast *binary(Parser *p, const Token *op, Ast *x, Ast *y) {
  Ast *a = ast_new(p, AST_BINARY, op->at);
  a->name = op->c == '+' ? "add" : op->c == '-' ? "sub" : op->c == '*' ? "mul" : "div";
  a->arg = NEW_ARRAY(p->arena, Ast *, 2);
  a->arg[0] = x;
  a->arg[1] = y;
  a->n = 2;
  return a;
}

/* Left-associative chains are limited too: the tree is walked by recursion. */
static Ast *parse_chain(Parser *p, const char *ops, Ast *(*operand)(Parser *)) {
  Ast *x = operand(p);
  for (int length = 1; x && p->t->kind == TOK_CHAR && strchr(ops, p->t->c); length++) {
    if (length == 1000) return fail(p, "fewer than 1000 operations in a row");
    const Token *op = p->t++;
    Ast *y = operand(p);
    x = y ? binary(p, op, x, y) : NULL;
  }
  return x;
}

static Ast *parse_product(Parser *p) {
  return parse_chain(p, "*/", parse_unary);
}

static Ast *parse_expr(Parser *p) {
  if (p->depth == LANG_DEPTH_LIMIT) return fail(p, "an expression nested less deeply");
  p->depth++;
  Ast *a = parse_chain(p, "+-", parse_product);
  p->depth--;
  return a;
}

static bool parse_stmt(Parser *p, Stmt *out);

/* Skips to the first token of the next statement, past an indented block that belongs to this one. */
static void skip_stmt(Parser *p) {
  if (p->t->kind != TOK_INDENT) {
    while (p->t->kind != TOK_NEWLINE && p->t->kind != TOK_END) p->t++;
    if (p->t->kind == TOK_NEWLINE) p->t++;
  }
  if (p->t->kind != TOK_INDENT) return;
  int depth = 0;
  do {
    depth += (p->t->kind == TOK_INDENT) - (p->t->kind == TOK_DEDENT);
    p->t++;
  } while (depth && p->t->kind != TOK_END);
}

static Code parse_stmts(Parser *p) {
  Code c = {0};
  int cap = 0;
  while (p->t->kind != TOK_DEDENT && p->t->kind != TOK_END) {
    Stmt s = {0};
    if (parse_stmt(p, &s))
      PUSH(p->arena, c.stmt, c.n, cap, s);
    else
      do skip_stmt(p);
      while (is_word(p, "else")); /* belongs to what was skipped */
  }
  return c;
}

static bool parse_suite(Parser *p, Code *out) {
  if (!want(p, ':')) return false;
  if (p->t->kind != TOK_NEWLINE) {
    out->stmt = NEW(p->arena, Stmt);
    out->n = 1;
    return parse_stmt(p, out->stmt);
  }
  p->t++;
  if (p->t->kind != TOK_INDENT) return fail(p, "an indented block");
  p->t++;
  *out = parse_stmts(p);
  if (p->t->kind == TOK_DEDENT) p->t++;
  return true;
}

static bool end_line(Parser *p) {
  if (p->t->kind != TOK_NEWLINE) return fail(p, "the end of the line");
  p->t++;
  return true;
}

/* A suite one level deeper. */
static bool parse_body(Parser *p, Stmt **body, int *n) {
  Code c;
  if (p->depth == LANG_DEPTH_LIMIT) return fail(p, "loops and conditions nested less deeply");
  p->depth++;
  bool ok = parse_suite(p, &c);
  p->depth--;
  *body = c.stmt;
  *n = c.n;
  return ok;
}

static bool parse_for(Parser *p, Stmt *out) {
  out->kind = STMT_FOR;
  p->t++;
  if (p->t->kind != TOK_NAME) return fail(p, "a loop variable");
  out->name = p->t++->text;
  if (!is_word(p, "in")) return fail(p, "'in'");
  p->t++;
  return (out->expr = parse_expr(p)) && parse_body(p, &out->body, &out->nbody);
}

static bool parse_if(Parser *p, Stmt *out) {
  out->kind = STMT_IF;
  p->t++;
  if (!(out->expr = parse_expr(p)) || !parse_body(p, &out->body, &out->nbody)) return false;
  if (!is_word(p, "else")) return true;
  p->t++;
  return parse_body(p, &out->other, &out->nother);
}

static bool parse_stmt(Parser *p, Stmt *out) {
  out->at = p->t->at;
  if (p->t->kind == TOK_INDENT) return fail(p, "a statement at the same indentation as the line above");
  if (p->t->kind != TOK_NAME) return fail(p, "a statement: NAME = ..., return ..., for ... in ... or if ...");
  if (is_word(p, "for")) return parse_for(p, out);
  if (is_word(p, "if")) return parse_if(p, out);
  if (is_word(p, "else")) return fail(p, "a statement: no 'if' stands above");
  if (is_word(p, "return")) {
    out->kind = STMT_RETURN;
    p->t++;
  } else {
    out->kind = STMT_ASSIGN;
    out->name = p->t++->text;
    if (!want(p, '=')) return false;
  }
  return (out->expr = parse_expr(p)) && end_line(p);
}

bool lang_parse(Arena *a, Diags *d, YNode *text, Code *out) {
  Token *tokens;
  int n;
  bool lexed = lang_lex(a, d, text, true, &tokens, &n);
  if (!tokens) return false;
  Parser p = {a, d, tokens, 0, lexed};
  if (p.t->kind == TOK_INDENT) p.t++; /* the whole text may be indented */
  *out = parse_stmts(&p);
  while (p.t->kind == TOK_DEDENT) p.t++;
  if (p.t->kind != TOK_END && p.ok) fail(&p, "the indentation of the first line");
  return p.ok;
}

bool lang_parse_expr(Arena *a, Diags *d, YNode *text, Ast **out) {
  Token *tokens;
  int n;
  bool lexed = lang_lex(a, d, text, false, &tokens, &n);
  if (!tokens) return false;
  Parser p = {a, d, tokens, 0, lexed};
  *out = parse_expr(&p);
  if (*out && p.t->kind != TOK_END) fail(&p, "the end of the expression");
  return p.ok;
}

static bool parse_function(Parser *p, Func *f) {
  f->at = p->t->at;
  if (!is_word(p, "def")) return fail(p, "'def'");
  p->t++;
  if (p->t->kind != TOK_NAME) return fail(p, "the function's name");
  f->name = p->t++->text;
  if (!want(p, '(')) return false;
  int cap = 0;
  while (p->t->kind == TOK_NAME) {
    for (int i = 0; i < f->nargs; i++)
      if (f->arg[i] == p->t->text) return fail(p, "each argument once");
    if (f->nargs == LANG_ARGS_LIMIT) return fail(p, "at most 64 arguments");
    PUSH(p->arena, f->arg, f->nargs, cap, p->t->text);
    p->t++;
    if (!take(p, ',')) break;
  }
  return want(p, ')') && parse_suite(p, &f->body);
}

bool lang_parse_functions(Arena *a, Diags *d, YNode *text, bool prelude, Funcs *into) {
  Token *tokens;
  int n;
  bool lexed = lang_lex(a, d, text, true, &tokens, &n);
  if (!tokens) return false;
  Parser p = {a, d, tokens, 0, lexed};
  if (p.t->kind == TOK_INDENT) p.t++;
  while (p.t->kind != TOK_END) {
    if (p.t->kind == TOK_DEDENT) {
      p.t++;
      continue;
    }
    Func f = {.prelude = prelude};
    if (into->n == LANG_FUNCTION_LIMIT)
      return diag_error(d, p.t->at, "more than %d functions", (int)LANG_FUNCTION_LIMIT);
    if (parse_function(&p, &f))
      PUSH(a, into->func, into->n, into->cap, f);
    else
      skip_stmt(&p);
  }
  return p.ok;
}
