/* Source to tokens, with whitespace control settled: what a parser sees as data is written as it is.
 *
 * As transformers sets Jinja2 up: a line end behind a block or comment goes (trim_blocks), blanks from a line's start to a
 * block or comment go (lstrip_blocks); `-` on either side strips all whitespace, `+` strips none; one line end at the
 * source's end goes. Must hold: after an error the tokens are not used. */
#include "text/jinja.h"
#include "text/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct Lexer {
  Arena *arena;
  const char *s; /* whole source */
  size_t n, at;
  Token *tokens;
  int count, cap;
  Diags *err;
  uint32_t file;
  size_t counted; /* lines are counted up to here */
  uint32_t line;
  size_t line_start;
} Lexer;

static void place(Lexer *l, size_t at, uint32_t *line, uint32_t *col) {
  for (; l->counted < at; l->counted++)
    if (l->s[l->counted] == '\n') l->line++, l->line_start = l->counted + 1;
  *line = l->line;
  *col = (uint32_t)(at - l->line_start) + 1;
}

static bool refuse(Lexer *l, size_t at, const char *text) {
  Span span = {l->file, 0, 0};
  place(l, at, &span.line, &span.col);
  return diag_error(l->err, span, "%s", text);
}

static Token *add(Lexer *l, TokenKind kind, size_t at) {
  Token t = {.kind = (uint8_t)kind};
  place(l, at, &t.line, &t.col);
  PUSH(l->arena, l->tokens, l->count, l->cap, t);
  return &l->tokens[l->count - 1];
}

static int space_at(const Lexer *l, size_t at) {
  uint32_t cp;
  int k = at < l->n ? utf8_next((const unsigned char *)l->s + at, l->n - at, &cp) : 0;
  return k > 0 && jinja_space(cp) ? k : 0;
}

static size_t skip_space(const Lexer *l, size_t at) {
  for (int k; (k = space_at(l, at)) > 0;) at += (size_t)k;
  return at;
}

static bool all_space(const Lexer *l, size_t from, size_t to) {
  return skip_space(l, from) >= to;
}

static bool has(const Lexer *l, size_t at, const char *text) {
  size_t n = strlen(text);
  return at + n <= l->n && !memcmp(l->s + at, text, n);
}

/* Data from..to before a tag with this sign; blanks: the tag takes those of its line. */
static void add_data(Lexer *l, size_t from, size_t to, char sign, bool blanks) {
  if (sign == '-') {
    Value v = jinja_strip(jinja_string(l->s + from, to - from), MISSING, STRIP_RIGHT);
    to = from + v.n;
  } else if (sign != '+' && blanks) {
    size_t line = to;
    while (line > from && l->s[line - 1] != '\n') line--;
    if ((line > from || from == 0 || l->s[from - 1] == '\n') && all_space(l, line, to)) to = line;
  }
  if (to == from) return;
  Token *t = add(l, T_DATA, from);
  t->s = l->s + from;
  t->n = to - from;
}

/* Behind the end of a block or a comment, whose two characters stand at `end`; minus: it is written `-%}`. */
static size_t after_end(const Lexer *l, size_t end, char sign) {
  end += 2;
  if (sign == '-') return skip_space(l, end);
  return end < l->n && l->s[end] == '\n' && sign != '+' ? end + 1 : end;
}

static bool comment(Lexer *l, size_t open, size_t start) {
  const char *end = start < l->n ? memmem(l->s + start, l->n - start, "#}", 2) : NULL;
  if (!end) return refuse(l, open, "a comment without its end: '#}'");
  size_t at = (size_t)(end - l->s);
  l->at = after_end(l, at, at > start ? l->s[at - 1] : 0);
  return true;
}

/* {% raw %} at `at`, with the sign read: where its text starts. 0: it is none. */
static size_t raw_start(const Lexer *l, size_t at) {
  at = skip_space(l, at);
  if (!has(l, at, "raw")) return 0;
  at = skip_space(l, at + 3);
  return has(l, at, "-%}") ? skip_space(l, at + 3) : has(l, at, "%}") ? at + 2 : 0;
}

static bool raw(Lexer *l, size_t open, size_t start) {
  for (size_t at = start; at + 2 <= l->n; at++) {
    if (!has(l, at, "{%")) continue;
    char sign = at + 2 < l->n && (l->s[at + 2] == '-' || l->s[at + 2] == '+') ? l->s[at + 2] : 0;
    size_t end = skip_space(l, at + 2 + (sign != 0));
    if (!has(l, end, "endraw")) continue;
    end = skip_space(l, end + 6);
    char close = has(l, end, "-%}") ? '-' : has(l, end, "+%}") ? '+' : 0;
    if (!close && !has(l, end, "%}")) continue;
    add_data(l, start, at, sign, true);
    l->at = after_end(l, end + (close != 0), close);
    return true;
  }
  return refuse(l, open, "a raw block without its end: '{% endraw %}'");
}

static int digit(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : 99;
}

/* One escape of Python behind its backslash at s[*i], to `out`. false: not to be read. */
static bool unescape(const char *s, size_t n, size_t *i, Text *out) {
  static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
  char c = s[(*i)++];
  const char *plain = c ? strchr(from, c) : NULL;
  if (plain) return text_write(out, to + (plain - from), 1), true;
  if (c == '\n') return true; /* the line goes on */
  if (c == 'N') return false; /* a character by its name */
  int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  uint32_t cp = 0;
  if (digits) {
    for (int k = 0; k < digits; k++, (*i)++) {
      if (*i >= n || digit(s[*i]) > 15 || cp >> 24) return false;
      cp = cp << 4 | (uint32_t)digit(s[*i]);
    }
  } else if (digit(c) < 8) {
    cp = (uint32_t)digit(c);
    for (int k = 0; k < 2 && *i < n && digit(s[*i]) < 8; k++) cp = cp << 3 | (uint32_t)digit(s[(*i)++]);
  } else {
    text_write(out, "\\", 1); /* no escape: both stay */
    text_write(out, &c, 1);
    return true;
  }
  if (cp >= UTF8_MAX || (cp >= 0xd800 && cp < 0xe000)) return false;
  char bytes[4];
  text_write(out, bytes, (size_t)utf8_put(cp, bytes));
  return true;
}

static bool string(Lexer *l) {
  size_t start = l->at, end = start + 1;
  char quote = l->s[start];
  bool plain = true;
  while (end < l->n && l->s[end] != quote) {
    plain = plain && l->s[end] != '\\';
    end += l->s[end] == '\\' ? 2 : 1;
  }
  if (end >= l->n) return refuse(l, start, "a string without its end");
  Token *t = add(l, T_STRING, start);
  t->s = l->s + start + 1;
  t->n = end - start - 1;
  l->at = end + 1;
  if (plain) return true;
  Text out = {0};
  text_write(&out, "", 0);
  for (size_t i = 0; i < t->n;) {
    if (t->s[i] != '\\') {
      text_write(&out, t->s + i++, 1);
      continue;
    }
    i++;
    if (unescape(t->s, t->n, &i, &out)) continue;
    text_free(&out);
    return refuse(l, start, "a string with an escape that is not in the subset");
  }
  t->s = arena_strndup(l->arena, out.s, out.n);
  t->n = out.n;
  text_free(&out);
  return true;
}

/* Digits of a base with single underscores between them, from `at`; digits go to out. */
static size_t digits(const Lexer *l, size_t at, int base, Text *out) {
  size_t end = at;
  while (end < l->n) {
    bool bar = l->s[end] == '_' && end > at && end + 1 < l->n;
    if (digit(l->s[end + bar]) >= base) break;
    text_write(out, l->s + end + bar, 1);
    end += 1 + (size_t)bar;
  }
  return end;
}

static bool number(Lexer *l) {
  size_t start = l->at, end;
  Text out = {0};
  text_write(&out, "", 0);
  char second = start + 1 < l->n ? l->s[start + 1] | 32 : 0;
  int base = l->s[start] != '0' ? 10 : second == 'x' ? 16 : second == 'o' ? 8 : second == 'b' ? 2 : 10;
  bool real = false;
  end = digits(l, start + (base == 10 ? 0 : 2), base, &out);
  bool bad = base != 10 && end == start + 2;
  bool item = start > 0 && l->s[start - 1] == '.'; /* a.1.2 is no fraction */
  if (base == 10 && !item) {
    size_t before = out.n, more;
    if (end < l->n && l->s[end] == '.') {
      text_write(&out, ".", 1);
      more = digits(l, end + 1, 10, &out);
      if (more > end + 1)
        end = more, real = true;
      else
        out.n = before, out.s[before] = 0;
    }
    if (end < l->n && (l->s[end] | 32) == 'e') {
      size_t e = end + 1;
      before = out.n;
      text_write(&out, "e", 1);
      if (e < l->n && (l->s[e] == '-' || l->s[e] == '+')) text_write(&out, l->s + e++, 1);
      more = digits(l, e, 10, &out);
      if (more > e)
        end = more, real = true;
      else
        out.n = before, out.s[before] = 0;
    }
  }
  if (base == 10 && !real && out.n > 1 && out.s[0] == '0') bad = strspn(out.s, "0") != out.n; /* 007 */
  Token *t = add(l, real ? T_FLOAT : T_INT, start);
  errno = 0;
  if (real)
    t->f = strtod(out.s, NULL);
  else
    t->i = strtoll(out.s, NULL, base);
  bool large = !real && errno == ERANGE;
  text_free(&out);
  l->at = end;
  if (bad) return refuse(l, start, "not a number");
  return !large || refuse(l, start, "a whole number beyond 64 bits");
}

static bool name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
}

/* The tokens of a tag up to its end. */
static bool tag(Lexer *l, size_t open, bool block) {
  char brackets[JINJA_NEST];
  int nest = 0;
  for (;;) {
    l->at = skip_space(l, l->at);
    size_t at = l->at;
    if (at >= l->n) return refuse(l, open, block ? "a tag without its end: '%}'" : "a tag without its end: '}}'");
    char c = l->s[at];
    if (!nest) {
      bool sign = c == '-' || (block && c == '+');
      if (has(l, at + sign, block ? "%}" : "}}")) {
        add(l, block ? T_BLOCK_END : T_VARIABLE_END, at);
        l->at = block || sign ? after_end(l, at + sign, sign ? c : 0) : at + 2;
        return true;
      }
    }
    if (c == '\'' || c == '"') {
      if (!string(l)) return false;
    } else if (c >= '0' && c <= '9') {
      if (!number(l)) return false;
    } else if (name_char(c)) {
      Token *t = add(l, T_NAME, at);
      while (l->at < l->n && name_char(l->s[l->at])) l->at++;
      t->s = l->s + at;
      t->n = l->at - at;
    } else {
      static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
      Token *t = add(l, T_OPERATOR, at);
      for (int i = 0; i < LEN(two) && !t->op[0]; i++)
        if (has(l, at, two[i])) memcpy(t->op, two[i], 2);
      if (!t->op[0]) {
        if (!c || !strchr("+-/*%~[](){}><=.:|,;", c))
          return refuse(l, at,
                        (unsigned char)c >= 0x80 ? "names are of ASCII letters here" : "a character that no tag has");
        t->op[0] = c;
      }
      l->at += t->op[1] ? 2 : 1;
      if (strchr("[({", c)) {
        if (nest == JINJA_NEST) return refuse(l, at, "brackets are nested too deep");
        brackets[nest++] = c == '(' ? ')' : (char)(c + 2);
      } else if (strchr("])}", c) && (!nest || brackets[--nest] != c)) {
        return refuse(l, at, "a bracket that nothing opened");
      }
    }
  }
}

static bool lex(Lexer *l) {
  while (l->at < l->n) {
    size_t from = l->at, at = from;
    while (at + 1 < l->n && !(l->s[at] == '{' && strchr("{%#", l->s[at + 1]))) at++;
    if (at + 1 >= l->n) {
      add_data(l, from, l->n, '+', false);
      break;
    }
    char kind = l->s[at + 1];
    char sign = at + 2 < l->n && (l->s[at + 2] == '-' || l->s[at + 2] == '+') ? l->s[at + 2] : 0;
    size_t start = at + 2 + (sign != 0), raw_at = kind == '%' ? raw_start(l, start) : 0;
    add_data(l, from, at, sign, kind != '{');
    if (kind == '#') {
      if (!comment(l, at, start)) return false;
    } else if (raw_at) {
      if (!raw(l, at, raw_at)) return false;
    } else {
      add(l, kind == '%' ? T_BLOCK : T_VARIABLE, at);
      l->at = start;
      if (!tag(l, at, kind == '%')) return false;
    }
  }
  add(l, T_END, l->n);
  return true;
}

Token *jinja_lex(Arena *a, const char *source, size_t n, Diags *err, uint32_t file, int *count) {
  Lexer l = {.arena = a, .s = source, .n = n, .err = err, .file = file, .line = 1};
  for (size_t i = 0; i < n;) {
    uint32_t cp;
    int k = utf8_next((const unsigned char *)source + i, n - i, &cp);
    if (k <= 0 || !cp) return refuse(&l, i, cp ? "a byte that is no UTF-8" : "a NUL byte"), NULL;
    i += (size_t)k;
  }
  if (!lex(&l)) return NULL;
  *count = l.count;
  return l.tokens;
}
