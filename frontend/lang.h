/* The model language: lexer and parser, from the text of a YAML scalar to statements. Meaning is given by build.c.
 *
 *   block  := stmt*                       stmt := NAME '=' expr | 'return' expr | 'for' NAME 'in' expr ':' suite
 *                                               | 'if' expr ':' suite ('else' ':' suite)?
 *   suite  := stmt on the same line | an indented block
 *   funcs  := ('def' NAME '(' NAME, ... ')' ':' suite)*
 *   expr   := prod (('+'|'-') prod)*      prod := unary (('*'|'/') unary)*      unary := '-' unary | atom
 *   atom   := number | "text" | NAME | NAME ('[' expr ']')? '(' arg, ... ')' | '[' expr, ... ']' | '(' expr ')'
 *   arg    := (NAME ':')? expr
 *
 * A line ends a statement except within brackets; '#' starts a comment. Errors go to the Diags, one a line at most, and
 * parsing goes on with the next line. */
#ifndef INK_FRONTEND_LANG_H
#define INK_FRONTEND_LANG_H
#include "frontend/yaml.h"

enum {
  LANG_DEPTH_LIMIT = 64, /* of nested expressions, and of nested blocks */
  LANG_FUNCTION_LIMIT = 1000,
  LANG_ARGS_LIMIT = 64, /* arguments of a function or block */
};

typedef enum AstKind { AST_NUM, AST_NAME, AST_STR, AST_LIST, AST_CALL, AST_BINARY, AST_NEG } AstKind;

typedef struct Ast Ast;
struct Ast {
  AstKind kind;
  Span at;          /* of a binary operation: its operator */
  const char *name; /* NAME, CALL: interned. STR: the text. BINARY, NEG: the op's name in ops.def */
  double num;
  Ast *index;       /* CALL: of `block[index](...)`, else NULL */
  Ast **arg;        /* operands, list items, call arguments */
  const char **key; /* CALL: keyword of each argument, NULL for positional ones */
  int n;
};

typedef enum StmtKind { STMT_ASSIGN, STMT_RETURN, STMT_FOR, STMT_IF } StmtKind;

typedef struct Stmt Stmt;
struct Stmt {
  StmtKind kind;
  Span at;
  const char *name;   /* assigned name or loop variable */
  Ast *expr;          /* value, the count of a loop, or a condition */
  Stmt *body, *other; /* FOR, IF; IF: what else */
  int nbody, nother;
};

typedef struct Code {
  Stmt *stmt;
  int n;
} Code;

typedef struct Func {
  const char *name;
  const char **arg;
  int nargs;
  Code body;
  Span at;
  bool prelude; /* ink's own: errors and spans inside it belong to its caller */
} Func;

typedef struct Funcs {
  Func *func;
  int n, cap;
} Funcs;

bool lang_parse(Arena *a, Diags *d, YNode *text, Code *out);
bool lang_parse_expr(Arena *a, Diags *d, YNode *text, Ast **out);
bool lang_parse_functions(Arena *a, Diags *d, YNode *text, bool prelude, Funcs *into); /* appends */

/* ---- lex.c */
typedef enum TokenKind { TOK_NUM, TOK_NAME, TOK_STR, TOK_CHAR, TOK_NEWLINE, TOK_INDENT, TOK_DEDENT, TOK_END } TokenKind;

typedef struct Token {
  TokenKind kind;
  char c;           /* CHAR: one of + - * / ( ) [ ] , : = */
  const char *text; /* NAME interned, STR */
  double num;
  Span at;
} Token;

/* All tokens, closed by TOK_END; `block`: with NEWLINE, INDENT and DEDENT. False after errors; *out is NULL if they leave no
 * tokens to go on with. */
bool lang_lex(Arena *a, Diags *d, YNode *text, bool block, Token **out, int *n);
#endif
