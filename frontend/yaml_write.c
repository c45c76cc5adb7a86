/* Trees back to YAML text, in one fixed style: mappings as blocks, lists of scalars in brackets, texts of several lines
 * as literal blocks. The text parses to an equal tree, and equal trees give equal texts: builds hash it. */
#include "frontend/yaml.h"
#include <ctype.h>
#include <string.h>

static bool is_plain(const YNode *n) {
  if (n->quoted || !n->len) return false;
  for (size_t i = 0; i < n->len; i++) {
    unsigned char c = (unsigned char)n->text[i];
    if (!isalnum(c) && !strchr("_.+-/*^()= ", c)) return false;
  }
  unsigned char first = (unsigned char)n->text[0];
  return n->text[n->len - 1] != ' ' && (isalnum(first) || first == '_' || first == '(' ||
                                        (first == '-' && n->len > 1 && n->text[1] != ' ' && n->text[1] != '-') ||
                                        (first == '.' && n->len > 1 && isdigit((unsigned char)n->text[1])));
}

/* The character at s, its length in *len; what is not UTF-8 counts as one of a byte. */
static uint32_t next_char(const char *s, size_t n, int *len) {
  const unsigned char *u = (const unsigned char *)s;
  int k = u[0] >= 0xF0 ? 4 : u[0] >= 0xE0 ? 3 : u[0] >= 0xC0 ? 2 : 1;
  *len = (size_t)k <= n ? k : 1;
  uint32_t c = *len == 1 ? u[0] : u[0] & (0xFFu >> (k + 1));
  for (int i = 1; i < *len; i++) c = c << 6 | (u[i] & 0x3F);
  return c;
}

/* Of n bytes at s the length of the next character if YAML takes it as it is (and a terminal too), else 0: controls and what
 * breaks lines need an escape. */
static int as_it_is(const char *s, size_t n) {
  int len = text_printable(s, n), unused;
  uint32_t c = len ? next_char(s, n, &unused) : 0;
  return c == 0xFEFF || c == 0xFFFE || c == 0xFFFF ? 0 : len;
}

static void write_quoted(const char *s, size_t n, Text *out) {
  text_add(out, "\"");
  for (size_t i = 0; i < n;) {
    int len = as_it_is(s + i, n - i);
    if (len && s[i] != '"' && s[i] != '\\') {
      text_write(out, s + i, (size_t)len);
    } else {
      uint32_t c = next_char(s + i, n - i, &len);
      if (c == '"' || c == '\\')
        text_add(out, "\\%c", (int)c);
      else if (c == '\n')
        text_add(out, "\\n");
      else
        text_add(out, c > 0xFF ? "\\u%04X" : "\\x%02X", c);
    }
    i += (size_t)len;
  }
  text_add(out, "\"");
}

static bool is_block(const YNode *n) {
  if (n->quoted || !memchr(n->text, '\n', n->len)) return false;
  for (size_t i = 0, len; i < n->len; i += len) {
    len = n->text[i] == '\n' ? 1 : (size_t)as_it_is(n->text + i, n->len - i);
    if (!len) return false;
  }
  return n->text[0] != ' ' && n->text[0] != '\n' && n->text[n->len - 1] == '\n' &&
         (n->len < 2 || n->text[n->len - 2] != '\n');
}

static void write_scalar(const YNode *n, int indent, Text *out) {
  if (is_plain(n)) {
    text_write(out, n->text, n->len);
  } else if (is_block(n)) {
    int in = indent ? indent : 2; /* a document that is nothing else stands in, too */
    text_add(out, "|");
    for (const char *s = n->text; *s;) {
      const char *e = strchr(s, '\n');
      text_add(out, "\n");
      if (e > s) text_add(out, "%*s", in, ""), text_write(out, s, (size_t)(e - s));
      s = e + 1;
    }
  } else {
    write_quoted(n->text, n->len, out);
  }
}

/* Keys stand on one line; YAML wants a long one announced. */
static void write_key(const YNode *n, int indent, Text *out) {
  enum { SIMPLE = 1000 }; /* 1024 characters, says YAML 1.1 */
  Text t = {0};
  if (is_plain(n))
    text_write(&t, n->text, n->len);
  else
    write_quoted(n->text, n->len, &t);
  text_add(out, t.n > SIMPLE ? "? %s\n%*s:" : "%s:", t.s, indent, "");
  text_free(&t);
}

static bool is_flow(const YNode *n) {
  for (int i = 0; i < n->n; i++) {
    const YNode *child = n->kind == Y_SEQ ? n->item[i] : n->pair[i].value;
    if (child->kind != Y_SCALAR || is_block(child)) return false;
  }
  return n->kind == Y_SEQ || !n->n;
}

static void write_node(const YNode *n, int indent, Text *out);

static void write_child(const YNode *n, int indent, Text *out) {
  if (n->kind == Y_SCALAR || is_flow(n)) {
    text_add(out, " ");
    write_node(n, indent + 2, out);
    text_add(out, "\n");
  } else {
    text_add(out, "\n");
    write_node(n, indent + 2, out);
  }
}

static void write_node(const YNode *n, int indent, Text *out) {
  if (n->kind == Y_SCALAR) {
    write_scalar(n, indent, out);
  } else if (is_flow(n)) {
    text_add(out, n->kind == Y_SEQ ? "[" : "{");
    for (int i = 0; i < n->n; i++) {
      if (i) text_add(out, ", ");
      write_scalar(n->item[i], 0, out);
    }
    text_add(out, n->kind == Y_SEQ ? "]" : "}");
  } else {
    for (int i = 0; i < n->n; i++) {
      text_add(out, "%*s", indent, "");
      if (n->kind == Y_SEQ)
        text_add(out, "-");
      else
        write_key(n->pair[i].key, indent, out);
      write_child(n->kind == Y_SEQ ? n->item[i] : n->pair[i].value, indent, out);
    }
  }
}

void yaml_write(const YNode *n, Text *out) {
  write_node(n, 0, out);
  if (n->kind == Y_SCALAR || is_flow(n)) text_add(out, "\n");
}
