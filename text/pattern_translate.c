/* A pattern of Oniguruma or Rust as one of PCRE2 that matches the same.
 *
 * What differs, with PCRE2_UTF and PCRE2_UCP set:
 *     \s         Unicode's White_Space; PCRE2 counts U+180E, too
 *     \w         letters, marks, digits and connectors; PCRE2 10.42 knows letters, numbers and _
 *     \b         by that \w
 *     \p{Han}    the script; PCRE2 takes script extensions
 *     {n,m}+     in Ruby's syntax a repeated repetition, not a possessive one; {,m} is {0,m}
 *     (?m        in Ruby's syntax: . matches line ends, which PCRE2 calls s
 *     $          in Rust the text's end alone, in Ruby a line's end: by options of the compilation
 *     \h \uHHHH  a hexadecimal digit, a code point in Ruby's syntax
 * A class within a class, set operations and whatever else is not listed here is refused by name. */
#include "text/memory.h"
#include "text/pattern.h"

#include <ctype.h>
#include <string.h>

#define SPACE "\\p{Z}\\t-\\r\\x{85}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define JOINERS "\\x{200c}\\x{200d}"                     /* which Rust counts as parts of words, */
#define FRACTIONS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}" /* and which Oniguruma does, but not in a class */

enum { DEPTH_MOST = 100 };

typedef struct Translation {
  const char *s, *end, *where;
  PatternDialect dialect;
  Text *out;
  Diags *err;
  size_t atom;             /* where the last atom begins in out */
  size_t open[DEPTH_MOST]; /* where the open groups do */
  int depth;
} Translation;

static bool refuse(const Translation *t, const char *what, size_t n) {
  return diag_error(t->err, (Span){0}, "%s: a pattern uses %.*s, which is not supported", t->where,
                    (int)(n < 40 ? n : 40), what);
}

/* The name of a property without case, spaces, _ and -. */
static void fold(const char *s, size_t n, char *out, size_t cap) {
  size_t k = 0;
  for (size_t i = 0; i < n && k + 1 < cap; i++)
    if (isalnum((unsigned char)s[i]) || s[i] == '&') out[k++] = (char)tolower((unsigned char)s[i]);
  out[k] = 0;
}

/* General categories by their long names, and properties that are no scripts. */
static const char *const properties[][2] = {{"letter", "L"},
                                            {"mark", "M"},
                                            {"number", "N"},
                                            {"punctuation", "P"},
                                            {"symbol", "S"},
                                            {"separator", "Z"},
                                            {"other", "C"},
                                            {"uppercaseletter", "Lu"},
                                            {"lowercaseletter", "Ll"},
                                            {"titlecaseletter", "Lt"},
                                            {"modifierletter", "Lm"},
                                            {"otherletter", "Lo"},
                                            {"nonspacingmark", "Mn"},
                                            {"spacingmark", "Mc"},
                                            {"enclosingmark", "Me"},
                                            {"decimalnumber", "Nd"},
                                            {"letternumber", "Nl"},
                                            {"othernumber", "No"},
                                            {"connectorpunctuation", "Pc"},
                                            {"dashpunctuation", "Pd"},
                                            {"openpunctuation", "Ps"},
                                            {"closepunctuation", "Pe"},
                                            {"initialpunctuation", "Pi"},
                                            {"finalpunctuation", "Pf"},
                                            {"otherpunctuation", "Po"},
                                            {"mathsymbol", "Sm"},
                                            {"currencysymbol", "Sc"},
                                            {"modifiersymbol", "Sk"},
                                            {"othersymbol", "So"},
                                            {"spaceseparator", "Zs"},
                                            {"lineseparator", "Zl"},
                                            {"paragraphseparator", "Zp"},
                                            {"control", "Cc"},
                                            {"format", "Cf"},
                                            {"surrogate", "Cs"},
                                            {"privateuse", "Co"},
                                            {"unassigned", "Cn"},
                                            {"alphabetic", "Alphabetic"},
                                            {"alpha", "Alphabetic"},
                                            {"whitespace", "White_Space"},
                                            {"space", "White_Space"},
                                            {"uppercase", "Uppercase"},
                                            {"upper", "Uppercase"},
                                            {"lowercase", "Lowercase"},
                                            {"lower", "Lowercase"},
                                            {"digit", "Nd"},
                                            {"any", "Any"},
                                            {"emoji", "Emoji"},
                                            {"emojipresentation", "Emoji_Presentation"},
                                            {"emojimodifier", "Emoji_Modifier"},
                                            {"extendedpictographic", "Extended_Pictographic"},
                                            {"ideographic", "Ideographic"},
                                            {"dash", "Dash"}};

/* \p or \P; t->s is behind that letter. */
static bool property(Translation *t, bool negated) {
  const char *s = t->s, *from = s - 2;
  size_t n = 1;
  if (s == t->end) return refuse(t, from, 2);
  if (*s == '{') {
    const char *close = memchr(s, '}', (size_t)(t->end - s));
    if (!close) return refuse(t, from, 3);
    n = (size_t)(close - ++s);
    t->s = close + 1;
  } else {
    t->s++;
  }
  size_t whole = (size_t)(t->s - from);
  if (n && *s == '^') negated = !negated, s++, n--;
  bool script = false;
  for (const char *const *k = (const char *const[]){"Script=", "sc=", "script=", NULL}; *k; k++)
    if (n > strlen(*k) && !memcmp(s, *k, strlen(*k))) s += strlen(*k), n -= strlen(*k), script = true;
  for (size_t i = 0; i < n; i++)
    if (!isalnum((unsigned char)s[i]) && !strchr(" _-&", s[i])) return refuse(t, from, whole);
  if (!n || n > 60) return refuse(t, from, whole);
  char name[64];
  fold(s, n, name, sizeof name);
  char p = negated ? 'P' : 'p';
  bool general = !strcmp(name, "l&") || (strlen(name) <= 2 && strchr("clmnpsz", name[0]));
  if (!script && general) {
    text_add(t->out, "\\%c{%c%s}", p, toupper((unsigned char)name[0]), name + 1);
    return true;
  }
  for (int i = 0; !script && i < LEN(properties); i++) {
    if (strcmp(properties[i][0], name)) continue;
    text_add(t->out, "\\%c{%s}", p, properties[i][1]);
    return true;
  }
  text_add(t->out, "\\%c{sc:%s}", p, name);
  return true;
}

/* A code point of `most` hexadecimal digits, at least `least`. */
static bool code_point(Translation *t, const char *from, int least, int most, bool braced) {
  unsigned long v = 0;
  int k = 0;
  for (; k < most && t->s < t->end && isxdigit((unsigned char)*t->s); k++, t->s++)
    v = v * 16 +
        (unsigned long)(isdigit((unsigned char)*t->s) ? *t->s - '0' : tolower((unsigned char)*t->s) - 'a' + 10);
  bool ok = k >= least && v < 0x110000 && !(v >= 0xd800 && v < 0xe000);
  if (braced) ok = ok && t->s < t->end && *t->s++ == '}';
  if (!ok || (!braced && most == 2 && v > 0x7f)) return refuse(t, from, (size_t)(t->s - from));
  text_add(t->out, "\\x{%lx}", v);
  return true;
}

/* An escape, t->s behind the backslash; `within` a class. */
static bool escape(Translation *t, bool within) {
  const char *from = t->s - 1;
  if (t->s == t->end) return refuse(t, "a lone backslash", 16);
  char c = *t->s++;
  bool rust = t->dialect == PATTERN_RUST;
  const char *joiners = rust ? JOINERS : within ? "" : FRACTIONS;
  switch (c) {
  case 's': text_add(t->out, within ? "%s" : "[%s]", SPACE); return true;
  case 'S': text_add(t->out, within ? "\\P{White_Space}" : "[^" SPACE "]"); return true;
  case 'w': text_add(t->out, within ? "%s%s" : "[%s%s]", WORD, joiners); return true;
  case 'W':
    if (within) return refuse(t, "\\W within a class", 17);
    text_add(t->out, "[^%s%s]", WORD, joiners);
    return true;
  case 'd': text_add(t->out, "\\p{Nd}"); return true;
  case 'D': text_add(t->out, "\\P{Nd}"); return true;
  case 'p': return property(t, false);
  case 'P': return property(t, true);
  case 'b':
  case 'B':
    if (within) return refuse(t, from, 2);
    text_add(t->out,
             c == 'b' ? "(?:(?<=[%s%s])(?![%s%s])|(?<![%s%s])(?=[%s%s]))"
                      : "(?:(?<=[%s%s])(?=[%s%s])|(?<![%s%s])(?![%s%s]))",
             WORD, joiners, WORD, joiners, WORD, joiners, WORD, joiners);
    return true;
  case 'h':
  case 'H':
    if (rust || (within && c == 'H')) return refuse(t, from, 2);
    text_add(t->out, within ? "0-9A-Fa-f" : c == 'h' ? "[0-9A-Fa-f]" : "[^0-9A-Fa-f]");
    return true;
  case 'x':
    if (t->s < t->end && *t->s == '{') return t->s++, code_point(t, from, 1, 8, true);
    return code_point(t, from, rust ? 2 : 1, 2, false);
  case 'u':
    if (t->s < t->end && *t->s == '{') return t->s++, code_point(t, from, 1, 8, true);
    return code_point(t, from, 4, 4, false);
  case 'A':
  case 'z':
  case 'R':
  case 'X':
  case 'K':
  case 'Z':
    if (within || (rust && c != 'A' && c != 'z')) return refuse(t, from, 2);
    text_add(t->out, "\\%c", c);
    return true;
  }
  if (strchr("rntfae", c)) {
    text_add(t->out, "\\%c", c);
    return true;
  }
  if (c == 'v') {
    text_add(t->out, "\\x0b");
    return true;
  }
  if (c >= '1' && c <= '9' && !within) {
    text_add(t->out, "(?:\\%c)", c); /* so that a digit behind it stays one */
    return true;
  }
  if (isalnum((unsigned char)c)) return refuse(t, from, 2);
  if ((unsigned char)c < 0x80) text_add(t->out, "\\");
  text_write(t->out, &c, 1);
  return true;
}

/* [...]; t->s behind the bracket. */
static bool class(Translation *t) {
  const char *from = t->s - 1;
  text_add(t->out, "[");
  if (t->s < t->end && *t->s == '^') text_write(t->out, t->s++, 1);
  for (bool first = true;; first = false) {
    if (t->s == t->end) return refuse(t, "a class without its end", 23);
    char c = *t->s++;
    size_t left = (size_t)(t->end - t->s);
    if (c == ']' && !first) break;
    if (c == ']') return refuse(t, from, (size_t)(t->s - from)); /* empty, or a bracket: engines differ */
    if (c == '[') return refuse(t, "a class within a class", 22);
    if (left && *t->s == c && (c == '&' || (t->dialect == PATTERN_RUST && (c == '-' || c == '~'))))
      return refuse(t, "an operation on classes", 23);
    if (c == '\\') {
      if (!escape(t, true)) return false;
    } else {
      text_write(t->out, &c, 1);
    }
  }
  text_add(t->out, "]");
  return true;
}

/* (?...; t->s behind the question mark. Flags and kinds of groups. */
static bool group_kind(Translation *t) {
  const char *from = t->s - 2;
  size_t left = (size_t)(t->end - t->s);
  for (const char *const *k = (const char *const[]){":", "=", "!", ">", "<=", "<!", NULL}; *k; k++) {
    size_t n = strlen(*k);
    if (left < n || memcmp(t->s, *k, n)) continue;
    text_add(t->out, "?%s", *k);
    t->s += n;
    return true;
  }
  text_add(t->out, "?");
  for (; t->s < t->end && *t->s != ')' && *t->s != ':'; t->s++) {
    bool rust = t->dialect == PATTERN_RUST;
    if (!strchr(rust ? "ims-" : "im-", *t->s)) return refuse(t, from, (size_t)(t->s + 1 - from));
    text_add(t->out, "%c", *t->s == 'm' && !rust ? 's' : *t->s);
  }
  if (t->s == t->end) return refuse(t, from, (size_t)(t->s - from));
  text_write(t->out, t->s, 1);
  if (*t->s++ == ')') t->depth--;
  return true;
}

/* {n}, {n,}, {,m}, {n,m}; false: a literal brace. */
static bool interval(const char *s, const char *end, const char **behind, bool *fixed, bool *from_none) {
  const char *p = s + 1, *first = p, *comma = NULL;
  for (; p < end && *p != '}'; p++) {
    if (*p == ',' && !comma)
      comma = p;
    else if (!isdigit((unsigned char)*p) || p - s > 12)
      return false;
  }
  if (p == end || p == first || (comma == first && p == first + 1)) return false;
  *behind = p + 1;
  *fixed = !comma;
  *from_none = comma == first;
  return true;
}

static void insert(Text *out, size_t at, const char *s) {
  size_t n = strlen(s), tail = out->n - at;
  text_write(out, s, n);
  memmove(out->s + at + n, out->s + at, tail);
  memcpy(out->s + at, s, n);
}

static bool repetition(Translation *t) {
  const char *from = t->s, *behind;
  bool fixed = false, from_none = false, ruby = t->dialect == PATTERN_ONIGURUMA;
  if (*t->s != '{') {
    text_write(t->out, t->s++, 1);
    if (t->s < t->end && (*t->s == '?' || *t->s == '+')) text_write(t->out, t->s++, 1);
  } else if (interval(t->s, t->end, &behind, &fixed, &from_none)) {
    if (from_none && !ruby) return refuse(t, from, (size_t)(behind - from));
    text_add(t->out, "{%s%.*s", from_none ? "0" : "", (int)(behind - from - 1), from + 1);
    t->s = behind;
    if (t->s < t->end && *t->s == '?') {
      if (fixed && ruby) return refuse(t, from, (size_t)(t->s + 1 - from));
      text_write(t->out, t->s++, 1);
    } else if (t->s < t->end && *t->s == '+' && !ruby) {
      text_write(t->out, t->s++, 1);
    }
  } else {
    t->atom = t->out->n;
    text_add(t->out, "\\{");
    t->s++;
    return true;
  }
  if (t->s < t->end &&
      (strchr("*+?", *t->s) || (*t->s == '{' && interval(t->s, t->end, &behind, &fixed, &from_none)))) {
    insert(t->out, t->atom, "(?:"); /* a repetition of a repetition */
    text_add(t->out, ")");
  }
  return true;
}

static bool step(Translation *t) {
  char c = *t->s;
  if (strchr("*+?{", c) && c) return repetition(t);
  t->s++;
  if (c == ')') {
    if (!t->depth) return refuse(t, "a ) without its (", 17);
    t->atom = t->open[--t->depth];
    text_write(t->out, &c, 1);
    return true;
  }
  if ((unsigned char)c < 0x80 || (unsigned char)c >= 0xc0) t->atom = t->out->n; /* of a character all bytes */
  if (c == '(') {
    if (t->depth == DEPTH_MOST) return refuse(t, "more than 100 groups within each other", 38);
    t->open[t->depth++] = t->out->n;
    text_write(t->out, &c, 1);
    if (t->s < t->end && *t->s == '?') return t->s++, group_kind(t);
    if (t->s < t->end && *t->s == '*') return refuse(t, "(*", 2);
    return true;
  }
  if (c == '[') return class(t);
  if (c == '\\') return escape(t, false);
  text_write(t->out, &c, 1);
  return true;
}

bool pattern_translate(const char *s, size_t n, PatternDialect dialect, const char *where, Text *out, Diags *err) {
  Translation t = {.s = s, .end = s + n, .where = where, .dialect = dialect, .out = out, .err = err};
  if (n > PATTERN_LONGEST)
    return diag_error(err, (Span){0}, "%s: a pattern of more than %d bytes", where, PATTERN_LONGEST);
  text_add(out, "%s", "");
  while (t.s < t.end) {
    if (!step(&t)) return false;
    if (out->n > 16 * PATTERN_LONGEST) return refuse(&t, "too many repetitions of repetitions", 35);
  }
  return true;
}
