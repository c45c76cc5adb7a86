/* Cutting the textual form of graphs into tokens (ir/lex.h). Comments run from '#' to the end of the line; one that
 * follows a token is kept with it, for it may hold the place in the model that a node came from. */
#include "ir/lex.h"

#include <string.h>

static bool digit(char c) {
  return c >= '0' && c <= '9';
}

static bool letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool word(char c) {
  return letter(c) || digit(c) || c == '.';
}

/* Every scan stops at the NUL behind the text. */
static uint32_t scan_number(const char *s, uint32_t i) {
  if (s[i] == '-') i++;
  if (strncmp(s + i, "inf", 3) == 0 && !word(s[i + 3])) return i + 3;
  while (digit(s[i])) i++;
  if (s[i] == '.') i++;
  while (digit(s[i])) i++;
  if ((s[i] == 'e' || s[i] == 'E') && (digit(s[i + 1]) || ((s[i + 1] == '-' || s[i + 1] == '+') && digit(s[i + 2])))) {
    i += 2;
    while (digit(s[i])) i++;
  }
  return i;
}

void lex(Arena *a, Diags *d, uint32_t file, Tokens *out) {
  const Source src = d->sources[file - 1];
  const char *s = src.text;
  uint32_t line = 1, start = 0; /* start: of the line */
  bool first = true;
  Token *last = NULL;
  if (src.n > 256u << 20) {
    diag_error(d, (Span){file, 0, 0}, "larger than 256 MiB");
    PUSH(a, out->t, out->n, out->cap, (Token){0});
    return;
  }
  uint32_t n = (uint32_t)src.n, i = 0;
  while (i < n) {
    char c = s[i];
    if (c == '\n') {
      line++;
      start = ++i;
      first = true;
      last = NULL;
      continue;
    }
    if (c == ' ' || c == '\t' || c == '\r') {
      i++;
      continue;
    }
    uint32_t j = i + 1;
    if (c == '#') {
      const char *stop = memchr(s + i, '\n', n - i);
      j = stop ? (uint32_t)(stop - s) : n;
      if (last) last->comment = i, last->ncomment = j - i;
      i = j;
      continue;
    }
    Token t = {.first = first, .start = i, .line = line, .col = i - start + 1};
    Span at = {file, line, t.col};
    if (letter(c)) {
      t.kind = TOK_NAME;
      while (word(s[j])) j++;
    } else if ((c == '%' || c == '@') && word(s[j])) {
      t.kind = c == '%' ? TOK_VALUE : TOK_GRAPH;
      t.start++;
      while (word(s[j])) j++;
    } else if (digit(c) || (c == '-' && (digit(s[j]) || s[j] == 'i'))) {
      t.kind = TOK_NUMBER;
      j = scan_number(s, i);
      if (j == i + 1 && c == '-') t.kind = TOK_MARK;
    } else if (c == '"') {
      t.kind = TOK_STRING;
      while (j < n && s[j] != '"' && s[j] != '\n') j += s[j] == '\\' && j + 1 < n && s[j + 1] != '\n' ? 2 : 1;
      if (j < n && s[j] == '"')
        j++;
      else
        diag_error(d, at, "this text has no closing quote on its line");
    } else if (c == '<' && s[j] == '=') {
      t.kind = TOK_BOUND;
      j++;
    } else if (memchr("(){}[],:=", c, 9)) {
      t.kind = TOK_MARK;
    } else {
      if (c > 0x20 && c < 0x7f)
        diag_error(d, at, "unexpected character '%c'", c);
      else
        diag_error(d, at, "unexpected byte 0x%02x", (unsigned char)c);
      i = j;
      continue;
    }
    t.n = j - t.start;
    first = false;
    PUSH(a, out->t, out->n, out->cap, t);
    last = &out->t[out->n - 1];
    i = j;
  }
  PUSH(a, out->t, out->n, out->cap, ((Token){.first = true, .start = n, .line = line, .col = n - start + 1}));
}

static int hex(char c) {
  if (digit(c)) return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *lex_string(Arena *a, const char *text, const Token *t, const char **err) {
  const char *s = text + t->start + 1, *end = text + t->start + t->n - 1;
  char *out = arena_alloc(a, t->n), *p = out;
  *err = NULL;
  while (s < end) {
    char c = *s++;
    if (c == '\\' && s < end) {
      c = *s++;
      if (c == 'n')
        c = '\n';
      else if (c == 't')
        c = '\t';
      else if (c == 'x' && end - s >= 2 && hex(s[0]) >= 0 && hex(s[1]) >= 0) {
        c = (char)(hex(s[0]) * 16 + hex(s[1]));
        s += 2;
      } else if (c != '"' && c != '\\') {
        *err = "unknown escape; there are \\n, \\t, \\\", \\\\ and \\xNN";
        return NULL;
      }
    }
    if (c == 0) {
      *err = "a text can not hold a zero byte";
      return NULL;
    }
    *p++ = c;
  }
  *p = 0;
  return out;
}
