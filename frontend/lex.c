/* Tokens of the model language. Indentation becomes INDENT and DEDENT tokens (as in Python): a stack holds the open
 * widths. Inside brackets lines do not end. What must hold: every INDENT has its DEDENT, and the last token is END. */
#include "frontend/lang.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Lexer {
  Arena *arena;
  Diags *diags;
  YNode *node;
  const char *s; /* the rest of the text */
  const char *line_start;
  int line;
  Token *token;
  int n, cap;
  bool block, ok;
  int indent[LANG_DEPTH_LIMIT];
  int depth;
  Span bracket[LANG_DEPTH_LIMIT];
  char closing[LANG_DEPTH_LIMIT];
  int brackets;
} Lexer;

static Span here(Lexer *l, const char *p) {
  return yaml_line(l->arena, l->diags, l->node, l->line, (int)(p - l->line_start));
}

static Token *add(Lexer *l, TokenKind kind, Span at) {
  Token t = {.kind = kind, .at = at};
  PUSH(l->arena, l->token, l->n, l->cap, t);
  return &l->token[l->n - 1];
}

static void next_line(Lexer *l) {
  l->line++;
  l->line_start = ++l->s;
}

static void lex_number(Lexer *l) {
  const char *p = l->s;
  Span at = here(l, p);
  while (isdigit((unsigned char)*p)) p++;
  if (*p == '.') p++;
  while (isdigit((unsigned char)*p)) p++;
  if (*p == 'e' || *p == 'E') {
    const char *e = p + 1;
    if (*e == '+' || *e == '-') e++;
    if (isdigit((unsigned char)*e)) {
      while (isdigit((unsigned char)*e)) e++;
      p = e;
    }
  }
  if (isalpha((unsigned char)*p) || *p == '_' || *p == '.') {
    l->ok = diag_error(l->diags, at, "a number ends in '%c'", *p);
    while (isalnum((unsigned char)*p) || *p == '_' || *p == '.') p++;
    add(l, TOK_NUM, at);
  } else {
    char *text = arena_strndup(l->arena, l->s, (size_t)(p - l->s));
    Token *t = add(l, TOK_NUM, at);
    t->num = strtod(text, NULL);
    if (!isfinite(t->num)) l->ok = diag_error(l->diags, at, "the number %.40s is too large", text);
  }
  l->s = p;
}

static void lex_string(Lexer *l) {
  const char *p = l->s + 1;
  Span at = here(l, l->s);
  while (*p && *p != '"' && *p != '\n') p++;
  Token *t = add(l, TOK_STR, at);
  t->text = arena_strndup(l->arena, l->s + 1, (size_t)(p - l->s - 1));
  if (*p != '"') l->ok = diag_error(l->diags, at, "the text is not closed by '\"' on its line");
  l->s = *p == '"' ? p + 1 : p;
}

static void lex_char(Lexer *l) {
  char c = *l->s;
  Span at = here(l, l->s);
  if (c == '(' || c == '[') {
    if (l->brackets == LANG_DEPTH_LIMIT) {
      l->ok = diag_error(l->diags, at, "brackets nested deeper than %d", (int)LANG_DEPTH_LIMIT);
    } else {
      l->bracket[l->brackets] = at;
      l->closing[l->brackets++] = c == '(' ? ')' : ']';
    }
  } else if (c == ')' || c == ']') {
    if (!l->brackets)
      l->ok = diag_error(l->diags, at, "'%c' closes nothing", c);
    else if (l->closing[--l->brackets] != c)
      l->ok = diag_error(l->diags, at, "found '%c', expected '%c' for the bracket on line %u", c,
                         l->closing[l->brackets], l->bracket[l->brackets].line);
  } else if (!strchr("+-*/,:=", c)) {
    if ((unsigned char)c < 0x80 && isprint((unsigned char)c))
      l->ok = diag_error(l->diags, at, "unexpected character '%c'", c);
    else
      l->ok = diag_error(l->diags, at, "unexpected byte 0x%02X", (unsigned char)c);
    l->s++;
    while (((unsigned char)*l->s & 0xC0) == 0x80) l->s++;
    return;
  }
  add(l, TOK_CHAR, at)->c = c;
  l->s++;
}

/* The rest of a line (of several, within brackets). */
static void lex_line(Lexer *l) {
  for (;;) {
    char c = *l->s;
    if (c == ' ' || c == '\t' || c == '\r')
      l->s++;
    else if (c == '#') {
      while (*l->s && *l->s != '\n') l->s++;
    } else if (!c)
      return;
    else if (c == '\n') {
      if (!l->brackets && l->block) return;
      next_line(l);
    } else if (isdigit((unsigned char)c) || (c == '.' && isdigit((unsigned char)l->s[1])))
      lex_number(l);
    else if (isalpha((unsigned char)c) || c == '_') {
      const char *p = l->s;
      while (isalnum((unsigned char)*p) || *p == '_') p++;
      add(l, TOK_NAME, here(l, l->s))->text = internn(l->s, (size_t)(p - l->s));
      l->s = p;
    } else if (c == '"')
      lex_string(l);
    else
      lex_char(l);
    if (l->brackets == LANG_DEPTH_LIMIT && !l->ok) return;
  }
}

static bool measure_indent(Lexer *l) {
  const char *p = l->s;
  while (*p == ' ') p++;
  int width = (int)(p - l->s);
  if (*p == '\t') {
    l->ok = diag_error(l->diags, here(l, p), "a tab in the indentation; use spaces");
    while (*p == ' ' || *p == '\t') p++;
  }
  l->s = p;
  Span at = here(l, p);
  int top = l->depth ? l->indent[l->depth - 1] : 0;
  if (width > top) {
    if (l->depth == LANG_DEPTH_LIMIT)
      return diag_error(l->diags, at, "indented deeper than %d levels", (int)LANG_DEPTH_LIMIT);
    l->indent[l->depth++] = width;
    add(l, TOK_INDENT, at);
    return true;
  }
  while (width < top) {
    add(l, TOK_DEDENT, at);
    l->depth--;
    top = l->depth ? l->indent[l->depth - 1] : 0;
    if (width > top) {
      l->ok = diag_error(l->diags, at, "the indentation matches no line above");
      break;
    }
  }
  return true;
}

bool lang_lex(Arena *a, Diags *d, YNode *node, bool block, Token **out, int *n) {
  Lexer *l = NEW(a, Lexer);
  *l = (Lexer){
      .arena = a, .diags = d, .node = node, .s = node->text, .line_start = node->text, .block = block, .ok = true};
  *out = NULL;
  while (*l->s) {
    const char *p = l->s;
    while (*p == ' ' || *p == '\t' || *p == '\r') p++;
    if (*p == '#')
      while (*p && *p != '\n') p++;
    if (*p == '\n' || !*p) { /* nothing on this line */
      l->s = p;
      if (*p) next_line(l);
      continue;
    }
    if (block && !measure_indent(l)) return false;
    lex_line(l);
    if (l->brackets) {
      if (l->brackets < LANG_DEPTH_LIMIT || l->ok)
        diag_error(d, l->bracket[l->brackets - 1], "this bracket is never closed");
      return false;
    }
    if (block) add(l, TOK_NEWLINE, here(l, l->s));
    if (*l->s) next_line(l);
  }
  Span end = here(l, l->s);
  while (l->depth--) add(l, TOK_DEDENT, end);
  add(l, TOK_END, end);
  *out = l->token;
  *n = l->n;
  return l->ok;
}
