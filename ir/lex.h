/* Inside of ir/: tokens of the textual form of graphs. The whole text is cut at once; a token is 32 bytes. */
#ifndef INK_IR_LEX_H
#define INK_IR_LEX_H
#include "ink/base.h"

typedef enum TokenKind {
  TOK_END,
  TOK_NAME,   /* layer.0.wq: letters, digits, '_' and '.', not a digit first */
  TOK_VALUE,  /* %wte, %12; start is after the sign */
  TOK_GRAPH,  /* @micro; likewise */
  TOK_NUMBER, /* 12, -0.5, 1e-05, -inf */
  TOK_STRING, /* with its quotes and escapes */
  TOK_BOUND,  /* <= */
  TOK_MARK,   /* one of ( ) { } [ ] , : = */
} TokenKind;

typedef struct Token {
  uint8_t kind;
  bool first; /* on its line */
  uint32_t start, n;
  uint32_t line, col;
  uint32_t comment, ncomment; /* the comment that ends the token's line, when no other token stands between */
} Token;

typedef struct Tokens {
  Token *t; /* the last one is TOK_END */
  int n, cap;
} Tokens;

/* Errors (unknown characters, open strings) go to d; the tokens around them are kept. */
void lex(Arena *a, Diags *d, uint32_t file, Tokens *out);
/* The text of a string token without quotes and escapes; NULL with *err when an escape is wrong. */
char *lex_string(Arena *a, const char *text, const Token *t, const char **err);
#endif
