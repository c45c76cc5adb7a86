/* What Python's str can do, on UTF-8: indices and lengths count characters, whitespace is Unicode's as Python has it.
 *
 * Case maps a character to a character (Unicode's simple mappings) and ß to SS. Must hold: valid UTF-8 in, valid UTF-8 out. */
#include "text/jinja.h"
#include "text/utf8.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool jinja_space(uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool inside(char c) {
  return ((unsigned char)c & 0xc0) == 0x80;
}

/* The character at s and its length. */
static uint32_t char_at(const char *s, size_t n, size_t *len) {
  uint32_t cp = 0;
  int k = utf8_next((const unsigned char *)s, n, &cp);
  *len = k > 0 ? (size_t)k : 1;
  return cp;
}

/* The character that ends at s + n, n > 0. */
static uint32_t char_before(const char *s, size_t n, size_t *len) {
  size_t at = n - 1;
  while (at && inside(s[at])) at--;
  return char_at(s + at, *len = n - at, &(size_t){0});
}

int64_t jinja_chars(const char *s, size_t n) {
  int64_t k = 0;
  for (size_t i = 0; i < n; i++) k += !inside(s[i]);
  return k;
}

size_t jinja_offset(const char *s, size_t n, int64_t chars) {
  size_t i = 0;
  for (; i < n; i++)
    if (!inside(s[i]) && chars-- <= 0) break;
  return i;
}

static bool stripped(const char *c, size_t len, uint32_t cp, Value chars) {
  return chars.kind == V_STRING ? memmem(chars.s, chars.n, c, len) != NULL : jinja_space(cp);
}

Value jinja_strip(Value s, Value chars, unsigned sides) {
  size_t len;
  while ((sides & STRIP_LEFT) && s.n) {
    uint32_t cp = char_at(s.s, s.n, &len);
    if (!stripped(s.s, len, cp, chars)) break;
    s.s += len;
    s.n -= len;
  }
  while ((sides & STRIP_RIGHT) && s.n) {
    uint32_t cp = char_before(s.s, s.n, &len);
    if (!stripped(s.s + s.n - len, len, cp, chars)) break;
    s.n -= len;
  }
  return s;
}

static bool cased(uint32_t c) {
  utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

/* What ends a word, and does not belong to the next one, in the filter `title`. */
static bool word_break(uint32_t c) {
  return jinja_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

static void put_case(Text *out, uint32_t c, Case how) {
  char bytes[4];
  if (c == 0xdf && how != CASE_LOWER) {
    text_write(out, how == CASE_UPPER ? "SS" : "Ss", 2);
    return;
  }
  utf8proc_int32_t to = (utf8proc_int32_t)c;
  to = how == CASE_UPPER ? utf8proc_toupper(to) : how == CASE_LOWER ? utf8proc_tolower(to) : utf8proc_totitle(to);
  text_write(out, bytes, (size_t)utf8_put((uint32_t)to, bytes));
}

Value jinja_case(Run *r, Value s, Case c) {
  size_t start = r->tmp.n, len;
  bool first = true; /* the next character starts a word */
  if (!jinja_step(r, s.n / 8)) return s;
  for (size_t i = 0; i < s.n; i += len) {
    uint32_t cp = char_at(s.s + i, s.n - i, &len);
    bool up = c == CASE_UPPER || (first && c != CASE_LOWER);
    put_case(&r->tmp, cp, !up ? CASE_LOWER : c == CASE_UPPER || c == CASE_WORDS ? CASE_UPPER : CASE_TITLE);
    first = c == CASE_WORDS ? word_break(cp) : c == CASE_TITLE ? !cased(cp) : false;
  }
  return jinja_taken(r, start);
}

bool jinja_has_case(Value s, bool upper) {
  bool any = false;
  size_t len;
  for (size_t i = 0; i < s.n; i += len) {
    uint32_t cp = char_at(s.s + i, s.n - i, &len);
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);
    if (k == UTF8PROC_CATEGORY_LT || k == (upper ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU)) return false;
    any = any || k == (upper ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
  }
  return any;
}

const char *jinja_find(Value s, Value what) {
  return what.n ? memmem(s.s, s.n, what.s, what.n) : s.s;
}

/* Compares at every place from the end on, and counts that. */
const char *jinja_rfind(Run *r, Value s, Value what) {
  size_t last = s.n >= what.n ? s.n - what.n + 1 : 0, at = last;
  const char *found = NULL;
  while (!found && at-- > 0)
    if (!what.n || !memcmp(s.s + at, what.s, what.n)) found = s.s + at;
  return jinja_step(r, (last - (found ? at : 0)) / 16 * (1 + what.n / 64)) ? found : NULL;
}

Value jinja_replace(Run *r, Value s, Value old, Value new, int64_t most) {
  size_t start = r->tmp.n, at = 0, len;
  if (most < 0) most = INT64_MAX;
  if (!jinja_step(r, s.n / 64)) return s;
  while (most > 0 && jinja_step(r, 1) && jinja_room(r, r->tmp.n - start + s.n + new.n, 1)) {
    if (!old.n) { /* between all characters, and at both ends */
      text_write(&r->tmp, new.s, new.n);
      most--;
      if (at == s.n) break;
      char_at(s.s + at, s.n - at, &len);
      text_write(&r->tmp, s.s + at, len);
      at += len;
      continue;
    }
    const char *found = at < s.n ? memmem(s.s + at, s.n - at, old.s, old.n) : NULL;
    if (!found) break;
    text_write(&r->tmp, s.s + at, (size_t)(found - s.s) - at);
    text_write(&r->tmp, new.s, new.n);
    at = (size_t)(found - s.s) + old.n;
    most--;
  }
  text_write(&r->tmp, s.s + at, s.n - at);
  return jinja_taken(r, start);
}

static void turn(List *l) {
  for (int i = 0, k = l->n - 1; i < k; i++, k--) {
    Value v = l->v[i];
    l->v[i] = l->v[k];
    l->v[k] = v;
  }
}

/* By runs of whitespace: none at the ends. */
static void split_space(Run *r, Value s, int64_t most, bool right, List *out) {
  size_t len;
  for (s = jinja_strip(s, MISSING, right ? STRIP_RIGHT : STRIP_LEFT); s.n && jinja_step(r, 1);
       s = jinja_strip(s, MISSING, right ? STRIP_RIGHT : STRIP_LEFT)) {
    if (most-- <= 0) {
      jinja_push(r, out, jinja_strip(s, MISSING, right ? STRIP_LEFT : 0));
      if (!right) out->v[out->n - 1] = jinja_strip(s, MISSING, 0);
      return;
    }
    size_t i = right ? s.n : 0;
    if (right) {
      while (i && !jinja_space(char_before(s.s, i, &len))) i -= len;
      jinja_push(r, out, jinja_string(s.s + i, s.n - i));
      s.n = i;
    } else {
      while (i < s.n && !jinja_space(char_at(s.s + i, s.n - i, &len))) i += len;
      jinja_push(r, out, jinja_string(s.s, i));
      s.s += i;
      s.n -= i;
    }
  }
}

Value jinja_split(Run *r, Value s, Value by, int64_t most, bool right) {
  List *out;
  Value list = jinja_list(r, L_LIST, &out);
  if (most < 0) most = INT64_MAX;
  s.safe = false;
  if (!jinja_step(r, s.n / 64)) return list;
  if (by.kind != V_STRING) {
    split_space(r, s, most, right, out);
  } else if (!by.n) {
    return jinja_fail(r, "split: the separator is empty");
  } else {
    for (const char *at; most > 0 && (at = right ? jinja_rfind(r, s, by) : jinja_find(s, by)) && jinja_step(r, 1);
         most--) {
      size_t before = (size_t)(at - s.s), after = before + by.n;
      if (right) {
        jinja_push(r, out, jinja_string(s.s + after, s.n - after));
        s.n = before;
      } else {
        jinja_push(r, out, jinja_string(s.s, before));
        s.s += after;
        s.n -= after;
      }
    }
    jinja_push(r, out, s);
  }
  if (right) turn(out);
  return list;
}

static bool line_end(uint32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

Value jinja_lines(Run *r, Value s, bool ends) {
  List *out;
  Value list = jinja_list(r, L_LIST, &out);
  size_t from = 0, len;
  for (size_t i = 0; i < s.n;) {
    uint32_t cp = char_at(s.s + i, s.n - i, &len);
    size_t end = i;
    i += len;
    if (!line_end(cp)) continue;
    if (cp == '\r' && i < s.n && s.s[i] == '\n') i++;
    if (!jinja_step(r, 1)) return list;
    jinja_push(r, out, jinja_string(s.s + from, (ends ? i : end) - from));
    from = i;
  }
  if (from < s.n) jinja_push(r, out, jinja_string(s.s + from, s.n - from));
  return list;
}

Value jinja_join(Run *r, Value by, const List *items, bool strict) {
  size_t start = r->tmp.n;
  for (int i = 0; i < items->n && jinja_step(r, 1); i++) {
    if (strict && items->v[i].kind != V_STRING)
      jinja_fail(r, "join: item %d is %s, not str", i, jinja_type(items->v[i]));
    if (i) text_write(&r->tmp, by.s, by.n);
    jinja_print(r, &r->tmp, items->v[i]);
    jinja_room(r, r->tmp.n - start, 1);
  }
  return jinja_taken(r, start);
}

Value jinja_escape(Run *r, Value s) {
  size_t start = r->tmp.n;
  if (s.safe) return s;
  for (size_t i = 0; i < s.n; i++) {
    char c = s.s[i];
    const char *as = c == '&'    ? "&amp;"
                     : c == '<'  ? "&lt;"
                     : c == '>'  ? "&gt;"
                     : c == '"'  ? "&#34;"
                     : c == '\'' ? "&#39;"
                                 : NULL;
    text_write(&r->tmp, as ? as : &s.s[i], as ? strlen(as) : 1);
  }
  Value v = jinja_taken(r, start);
  v.safe = true;
  return v;
}

/* Without blanks around and underscores between digits, NUL-terminated in out[size]. false: too long, or underscores elsewhere. */
static bool plain_number(Value s, char *out, size_t size) {
  s = jinja_strip(s, MISSING, STRIP_LEFT | STRIP_RIGHT);
  size_t k = 0;
  if (!s.n) return false;
  for (size_t i = 0; i < s.n; i++) {
    if ((unsigned char)s.s[i] >= 0x80 || k + 1 >= size || !s.s[i]) return false;
    if (s.s[i] == '_') {
      if (!i || i + 1 >= s.n || !isalnum((unsigned char)s.s[i - 1]) || !isalnum((unsigned char)s.s[i + 1]))
        return false;
      continue;
    }
    out[k++] = s.s[i];
  }
  out[k] = 0;
  return true;
}

bool jinja_parse_int(Value s, int base, int64_t *i) {
  char text[400], *end;
  if (!plain_number(s, text, sizeof text)) return false;
  char *at = text + (text[0] == '-' || text[0] == '+');
  bool minus = text[0] == '-';
  int marked = at[0] != '0' ? 0 : (at[1] | 32) == 'x' ? 16 : (at[1] | 32) == 'o' ? 8 : (at[1] | 32) == 'b' ? 2 : 0;
  if (marked && (base == marked || base == 0)) at += 2, base = marked;
  if (base == 0) {
    base = 10;
    if (at[0] == '0' && strspn(at, "0") != strlen(at)) return false;
  }
  if (!isalnum((unsigned char)*at)) return false;
  char copy[400];
  copy[0] = minus ? '-' : '+';
  strcpy(copy + 1, at);
  if (base == 16 && (copy[2] | 32) == 'x') return false; /* 0x0x1 */
  errno = 0;
  *i = strtoll(copy, &end, base);
  return !*end && errno != ERANGE;
}

bool jinja_parse_float(Value s, double *f) {
  char text[400], *end;
  if (!plain_number(s, text, sizeof text)) return false;
  for (const char *c = text; *c; c++)
    if (*c == 'x' || *c == 'X' || *c == '(') return false; /* C reads these, Python does not */
  *f = strtod(text, &end);
  return !*end;
}
