/* YAML with positions: a tree whose every node knows where it stands in its file.
 *
 * The tree is what libyaml's events say, without its types: a scalar is text, and who reads it decides what it means.
 * Aliases share the node they name, so a tree is a DAG; its size counted with every alias expanded is limited, and no
 * node contains itself. Keys of a mapping are scalars, interned, and distinct. Refused with an error at the place: bad
 * UTF-8, an empty file, tags, a second document, duplicate keys, merge keys, and all that exceeds the limits below. */
#ifndef INK_FRONTEND_YAML_H
#define INK_FRONTEND_YAML_H
#include "ink/base.h"

#define YAML_FILE_LIMIT ((size_t)4 << 20) /* bytes */
enum { YAML_DEPTH_LIMIT = 64, YAML_NODE_LIMIT = 100000 };

typedef enum YKind { Y_SCALAR, Y_SEQ, Y_MAP } YKind;
typedef struct YNode YNode;

typedef struct YPair {
  YNode *key, *value;
} YPair;

struct YNode {
  YKind kind;
  bool quoted;  /* written in quotes: a string whatever it looks like */
  bool literal; /* written as a | block */
  Span at;
  const char *text; /* scalars: NUL-terminated, no NUL within */
  size_t len;
  YNode **item; /* sequences: n */
  YPair *pair;  /* mappings: n, in the order of the file */
  int n, cap;
  int weight;  /* nodes below and this one, aliases expanded */
  Span *lines; /* scalars: where each line of the text stands; made by yaml_line */
  int nlines;
};

/* An error at the first byte of a source of d that is not UTF-8. */
bool yaml_check_utf8(Diags *d, uint32_t file);
/* The root of a source of d; NULL after errors. */
YNode *yaml_parse(Arena *a, Diags *d, uint32_t file);
/* Reads the file first. */
YNode *yaml_load(Arena *a, Diags *d, const char *path);
/* The same of text in memory; `name` stands where a file's path would in diagnostics. */
YNode *yaml_text(Arena *a, Diags *d, const char *name, const char *text);
/* A scalar made here and not in a file; `at` is the place of its first byte. */
YNode *yaml_scalar(Arena *a, const char *text, Span at);

/* The value under a key, NULL if it is absent (or if the node is no mapping). */
YNode *yaml_get(const YNode *map, const char *key);
/* Where byte `col` of line `line` of a scalar's text stands in its file (both 0-based). Exact for plain and quoted
 * scalars of one line and for literal blocks; for others the start of the scalar. */
Span yaml_line(Arena *a, const Diags *d, YNode *scalar, int line, int col);
Span yaml_offset(Arena *a, const Diags *d, YNode *scalar, size_t offset);

/* Errors "KEY has no key 'x'" with a suggestion for each key of the map that is not in the list. */
bool yaml_check_keys(Diags *d, const YNode *map, const char *what, const char *const *keys, int nkeys);
/* An error unless the node is of the kind: "dims: expected a mapping, found a list". */
bool yaml_expect(Diags *d, const YNode *n, YKind kind, const char *what);
const char *yaml_kind_name(YKind kind);

/* YAML text of the tree: keys in order, one style for everything, so that equal trees give equal texts. */
void yaml_write(const YNode *n, Text *out);
#endif
