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

static void write_quoted(const char *s, size_t n, Text *out) {
  text_add(out, "\"");
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)s[i];
    if (c == '"' || c == '\\')
      text_add(out, "\\%c", c);
    else if (c == '\n')
      text_add(out, "\\n");
    else if (c < 0x20 || c == 0x7F)
      text_add(out, "\\x%02X", c);
    else
      text_write(out, &s[i], 1);
  }
  text_add(out, "\"");
}

static bool is_block(const YNode *n) {
  if (n->quoted || !memchr(n->text, '\n', n->len)) return false;
  for (size_t i = 0; i < n->len; i++) {
    unsigned char c = (unsigned char)n->text[i];
    if (c < 0x20 && c != '\n') return false;
  }
  return n->text[0] != ' ' && n->text[0] != '\n' && n->text[n->len - 1] == '\n' &&
         (n->len < 2 || n->text[n->len - 2] != '\n');
}

static void write_scalar(const YNode *n, int indent, Text *out) {
  if (is_plain(n)) {
    text_write(out, n->text, n->len);
  } else if (is_block(n)) {
    text_add(out, "|");
    for (const char *s = n->text; *s;) {
      const char *e = strchr(s, '\n');
      text_add(out, "\n");
      if (e > s) text_add(out, "%*s", indent, ""), text_write(out, s, (size_t)(e - s));
      s = e + 1;
    }
  } else {
    write_quoted(n->text, n->len, out);
  }
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
        write_scalar(n->pair[i].key, indent + 2, out), text_add(out, ":");
      write_child(n->kind == Y_SEQ ? n->item[i] : n->pair[i].value, indent, out);
    }
  }
}

void yaml_write(const YNode *n, Text *out) {
  write_node(n, 0, out);
  if (n->kind == Y_SCALAR || is_flow(n)) text_add(out, "\n");
}
