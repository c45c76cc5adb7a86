/* YAML with positions: from libyaml's events to a tree (yaml.h says what is refused).
 *
 * The parser runs on an explicit stack of open collections, so depth costs no C stack. libyaml counts characters; spans
 * count bytes: a cursor walks the text once, forward, and turns the one into the other, as events come in file order.
 * What must hold: an anchor is known only once its node is complete, so that no node contains itself. */
#include "frontend/yaml.h"
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct Anchor {
  const char *name;
  YNode *node;
} Anchor;

typedef struct Open { /* a collection that is being read */
  YNode *node;
  YNode *key; /* mappings: the key that waits for its value */
  const char *anchor;
} Open;

typedef struct Loader {
  Arena *arena;
  Diags *diags;
  uint32_t file;
  const char *text;
  size_t n;
  size_t chars, bytes; /* the cursor: characters and bytes passed */
  uint32_t line;
  size_t line_start;
  Open open[YAML_DEPTH_LIMIT];
  int depth;
  Anchor *anchors;
  int nanchors, cap_anchors;
  int nodes, expanded;
  YNode *root;
  bool ok;
} Loader;

static Span span_at(Loader *l, size_t chars) {
  if (chars < l->chars) l->chars = l->bytes = l->line_start = 0, l->line = 0;
  while (l->chars < chars && l->bytes < l->n) {
    if (l->text[l->bytes] == '\n') l->line++, l->line_start = l->bytes + 1;
    l->bytes++;
    while (l->bytes < l->n && ((unsigned char)l->text[l->bytes] & 0xC0) == 0x80) l->bytes++;
    l->chars++;
  }
  return (Span){l->file, l->line + 1, (uint32_t)(l->bytes - l->line_start) + 1};
}

static Span span_of_byte(const Diags *d, uint32_t file, size_t at) {
  const Source *src = &d->sources[file - 1];
  Span s = {file, 1, 1};
  for (size_t i = 0; i < at && i < src->n; i++) {
    if (src->text[i] == '\n')
      s.line++, s.col = 1;
    else
      s.col++;
  }
  return s;
}

/* Length of the UTF-8 sequence at p, 0 if it is not one (overlong forms and surrogates are not). */
static int utf8_length(const unsigned char *p, size_t n) {
  if (p[0] < 0x80) return 1;
  int len = p[0] >= 0xC2 && p[0] < 0xE0 ? 2 : p[0] >= 0xE0 && p[0] < 0xF0 ? 3 : p[0] >= 0xF0 && p[0] < 0xF5 ? 4 : 0;
  if (!len || n < (size_t)len) return 0;
  for (int i = 1; i < len; i++)
    if ((p[i] & 0xC0) != 0x80) return 0;
  if (p[0] == 0xE0 && p[1] < 0xA0) return 0;
  if (p[0] == 0xED && p[1] >= 0xA0) return 0;
  if (p[0] == 0xF0 && p[1] < 0x90) return 0;
  if (p[0] == 0xF4 && p[1] >= 0x90) return 0;
  return len;
}

bool yaml_check_utf8(Diags *d, uint32_t file) {
  const Source *src = &d->sources[file - 1];
  for (size_t i = 0; i < src->n;) {
    int len = utf8_length((const unsigned char *)src->text + i, src->n - i);
    if (!len)
      return diag_error(d, span_of_byte(d, file, i), "byte 0x%02X is not valid UTF-8", (unsigned char)src->text[i]);
    i += (size_t)len;
  }
  return true;
}

const char *yaml_kind_name(YKind kind) {
  return kind == Y_SCALAR ? "a single value" : kind == Y_SEQ ? "a list" : "a mapping";
}

static YNode *node_new(Loader *l, YKind kind, Span at) {
  if (++l->nodes > YAML_NODE_LIMIT) {
    l->ok = diag_error(l->diags, at, "more than %d values in one file", (int)YAML_NODE_LIMIT);
    return NULL;
  }
  YNode *n = NEW(l->arena, YNode);
  n->kind = kind;
  n->at = at;
  n->weight = 1;
  return n;
}

static const char *anchor_name(const yaml_event_t *e) {
  const yaml_char_t *s = e->type == YAML_SCALAR_EVENT           ? e->data.scalar.anchor
                         : e->type == YAML_SEQUENCE_START_EVENT ? e->data.sequence_start.anchor
                                                                : e->data.mapping_start.anchor;
  return s ? intern((const char *)s) : NULL;
}

static bool check_tag(Loader *l, const yaml_event_t *e, Span at) {
  const yaml_char_t *tag = e->type == YAML_SCALAR_EVENT           ? e->data.scalar.tag
                           : e->type == YAML_SEQUENCE_START_EVENT ? e->data.sequence_start.tag
                                                                  : e->data.mapping_start.tag;
  if (!tag) return true;
  return l->ok = diag_error(l->diags, at, "tags such as '%s' have no meaning here", (const char *)tag);
}

/* A complete node goes to where it belongs: the root, the open list, or the open mapping as key or value. */
static bool attach(Loader *l, YNode *n, bool alias) {
  if (!l->depth) {
    l->root = n;
    return true;
  }
  Open *o = &l->open[l->depth - 1];
  if (o->node->kind == Y_SEQ) {
    PUSH(l->arena, o->node->item, o->node->n, o->node->cap, n);
  } else if (!o->key) {
    if (n->kind != Y_SCALAR || alias) return l->ok = diag_error(l->diags, n->at, "a key must be a plain name");
    if (!strcmp(n->text, "<<") && !n->quoted)
      return l->ok =
                 diag_hint(l->diags, n->at, "write `base:` to build on another file", "merge keys are not supported");
    n->text = intern(n->text);
    o->key = n;
    return true;
  } else {
    YPair p = {o->key, n};
    PUSH(l->arena, o->node->pair, o->node->n, o->node->cap, p);
    o->node->weight++;
    o->key = NULL;
  }
  o->node->weight += n->weight;
  if (o->node->weight > YAML_NODE_LIMIT)
    return l->ok = diag_error(l->diags, n->at, "with its aliases expanded the file has more than %d values",
                              (int)YAML_NODE_LIMIT);
  return true;
}

static void define_anchor(Loader *l, const char *name, YNode *n) {
  if (!name) return;
  Anchor a = {name, n};
  PUSH(l->arena, l->anchors, l->nanchors, l->cap_anchors, a);
}

static int compare_keys(const void *pa, const void *pb) {
  const YPair *a = *(const YPair *const *)pa, *b = *(const YPair *const *)pb;
  if (a->key->text != b->key->text) return (uintptr_t)a->key->text < (uintptr_t)b->key->text ? -1 : 1;
  return a < b ? -1 : a > b;
}

static void check_duplicates(Loader *l, const YNode *map) {
  const YPair **sorted = NEW_ARRAY(l->arena, const YPair *, map->n + 1);
  for (int i = 0; i < map->n; i++) sorted[i] = &map->pair[i];
  qsort(sorted, (size_t)map->n, sizeof *sorted, compare_keys);
  for (int i = 1; i < map->n; i++) {
    const YNode *first = sorted[i - 1]->key, *second = sorted[i]->key;
    if (first->text == second->text)
      l->ok = diag_error(l->diags, second->at, "key '%s' is already there, on line %u", second->text, first->at.line);
  }
}

static bool on_scalar(Loader *l, const yaml_event_t *e, Span at) {
  YNode *n = node_new(l, Y_SCALAR, at);
  if (!n) return false;
  n->text = arena_strndup(l->arena, (const char *)e->data.scalar.value, e->data.scalar.length);
  n->len = e->data.scalar.length;
  n->literal = e->data.scalar.style == YAML_LITERAL_SCALAR_STYLE;
  n->quoted = e->data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE ||
              e->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE;
  if (memchr(n->text, 0, n->len)) return l->ok = diag_error(l->diags, at, "a NUL character within a value");
  define_anchor(l, anchor_name(e), n);
  return attach(l, n, false);
}

static bool on_alias(Loader *l, const yaml_event_t *e, Span at) {
  const char *name = intern((const char *)e->data.alias.anchor);
  for (int i = l->nanchors; i-- > 0;) {
    if (l->anchors[i].name != name) continue;
    l->expanded += l->anchors[i].node->weight;
    if (l->expanded > YAML_NODE_LIMIT)
      return l->ok = diag_error(l->diags, at, "aliases expand to more than %d values", (int)YAML_NODE_LIMIT);
    return attach(l, l->anchors[i].node, true);
  }
  for (int i = 0; i < l->depth; i++)
    if (l->open[i].anchor == name) return l->ok = diag_error(l->diags, at, "'%s' contains itself", name);
  return l->ok = diag_error(l->diags, at, "alias of an unknown anchor '%s'", name);
}

static bool on_start(Loader *l, const yaml_event_t *e, Span at) {
  if (l->depth == YAML_DEPTH_LIMIT)
    return l->ok = diag_error(l->diags, at, "nested deeper than %d levels", (int)YAML_DEPTH_LIMIT);
  if (l->depth && l->open[l->depth - 1].node->kind == Y_MAP && !l->open[l->depth - 1].key)
    return l->ok = diag_error(l->diags, at, "a key must be a plain name");
  YNode *n = node_new(l, e->type == YAML_SEQUENCE_START_EVENT ? Y_SEQ : Y_MAP, at);
  if (!n) return false;
  l->open[l->depth++] = (Open){n, NULL, anchor_name(e)};
  return true;
}

static bool on_end(Loader *l) {
  Open *o = &l->open[--l->depth];
  if (o->node->kind == Y_MAP) check_duplicates(l, o->node);
  define_anchor(l, o->anchor, o->node);
  return attach(l, o->node, false);
}

/* One event; false stops the reading. */
static bool on_event(Loader *l, const yaml_event_t *e) {
  Span at = span_at(l, e->start_mark.index);
  switch (e->type) {
  case YAML_SCALAR_EVENT: return check_tag(l, e, at) && on_scalar(l, e, at);
  case YAML_ALIAS_EVENT: return on_alias(l, e, at);
  case YAML_SEQUENCE_START_EVENT:
  case YAML_MAPPING_START_EVENT: return check_tag(l, e, at) && on_start(l, e, at);
  case YAML_SEQUENCE_END_EVENT:
  case YAML_MAPPING_END_EVENT: return on_end(l);
  case YAML_DOCUMENT_START_EVENT:
    if (l->root) return l->ok = diag_error(l->diags, at, "a second document: a file holds one");
    return true;
  default: return true;
  }
}

static void report_syntax(Loader *l, const yaml_parser_t *p) {
  const char *what = p->problem ? p->problem : "not YAML";
  Span at = p->error == YAML_READER_ERROR ? span_of_byte(l->diags, l->file, p->problem_offset)
                                          : span_at(l, p->problem_mark.index);
  if (p->context)
    diag_error(l->diags, at, "%s: %s", p->context, what);
  else
    diag_error(l->diags, at, "%s", what);
  l->ok = false;
}

YNode *yaml_parse(Arena *a, Diags *d, uint32_t file) {
  const Source *s = &d->sources[file - 1];
  Loader *l = NEW(a, Loader);
  *l = (Loader){.arena = a, .diags = d, .file = file, .text = s->text, .n = s->n, .ok = true};
  if (s->n > YAML_FILE_LIMIT) {
    diag_error(d, (Span){file, 1, 1}, "the file is larger than %zu bytes", YAML_FILE_LIMIT);
    return NULL;
  }
  if (!yaml_check_utf8(d, file)) return NULL;
  yaml_parser_t parser;
  if (!yaml_parser_initialize(&parser)) {
    diag_error(d, (Span){file, 1, 1}, "out of memory");
    return NULL;
  }
  yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&parser, (const unsigned char *)s->text, s->n);
  for (bool more = true; more;) {
    yaml_event_t event;
    if (!yaml_parser_parse(&parser, &event)) {
      report_syntax(l, &parser);
      break;
    }
    more = on_event(l, &event) && event.type != YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
  }
  yaml_parser_delete(&parser);
  if (l->ok && !l->root) l->ok = diag_error(d, (Span){file, 1, 1}, "the file is empty");
  return l->ok ? l->root : NULL;
}

YNode *yaml_load(Arena *a, Diags *d, const char *path) {
  uint32_t file;
  return diags_read(d, path, YAML_FILE_LIMIT, &file) ? yaml_parse(a, d, file) : NULL;
}

YNode *yaml_text(Arena *a, Diags *d, const char *name, const char *text) {
  size_t n = strlen(text);
  bool fits = n <= YAML_FILE_LIMIT;
  uint32_t file = diags_source(d, name, fits ? text : "", fits ? n : 0);
  if (!fits) diag_error(d, (Span){file, 0, 0}, "larger than the limit of %zu bytes", YAML_FILE_LIMIT);
  return fits ? yaml_parse(a, d, file) : NULL;
}

YNode *yaml_scalar(Arena *a, const char *text, Span at) {
  YNode *n = NEW(a, YNode);
  n->kind = Y_SCALAR;
  n->text = arena_strdup(a, text);
  n->len = strlen(text);
  n->at = at;
  n->weight = 1;
  return n;
}

YNode *yaml_get(const YNode *map, const char *key) {
  if (!map || map->kind != Y_MAP) return NULL;
  key = intern(key);
  for (int i = 0; i < map->n; i++)
    if (map->pair[i].key->text == key) return map->pair[i].value;
  return NULL;
}

static const char *line_end(const char *s) {
  const char *e = strchr(s, '\n');
  return e ? e : s + strlen(s);
}

/* A literal block keeps its lines, less the indentation: the lengths of the line in the file and in the text differ by it. */
static void find_lines(Arena *a, const Diags *d, YNode *n) {
  int count = 1;
  for (size_t i = 0; i < n->len; i++) count += n->text[i] == '\n';
  n->lines = NEW_ARRAY(a, Span, count);
  n->nlines = count;
  for (int i = 0; i < count; i++) n->lines[i] = n->at;
  if (!n->at.file) return;
  const Source *s = &d->sources[n->at.file - 1];
  if (!n->literal) {
    if (n->quoted) n->lines[0].col++;
    return;
  }
  const char *file_line = s->text;
  for (uint32_t i = 0; i < n->at.line && *file_line; i++) {
    file_line = line_end(file_line);
    if (*file_line) file_line++;
  }
  const char *line = n->text;
  for (int i = 0; i < count; i++) {
    const char *e = line_end(line), *fe = line_end(file_line);
    size_t len = (size_t)(e - line), flen = (size_t)(fe - file_line);
    if (flen && fe[-1] == '\r') flen--;
    n->lines[i].line = n->at.line + 1 + (uint32_t)i;
    n->lines[i].col = 1 + (uint32_t)(flen >= len ? flen - len : 0);
    line = *e ? e + 1 : e;
    file_line = *fe ? fe + 1 : fe;
  }
}

Span yaml_line(Arena *a, const Diags *d, YNode *n, int line, int col) {
  if (!n->lines) find_lines(a, d, n);
  if (line >= n->nlines) line = n->nlines - 1;
  Span s = n->lines[line];
  if (n->literal || n->nlines == 1) s.col += (uint32_t)col;
  return s;
}

Span yaml_offset(Arena *a, const Diags *d, YNode *n, size_t offset) {
  int line = 0;
  size_t start = 0;
  for (size_t i = 0; i < offset && i < n->len; i++)
    if (n->text[i] == '\n') line++, start = i + 1;
  return yaml_line(a, d, n, line, (int)(offset - start));
}

bool yaml_check_keys(Diags *d, const YNode *map, const char *what, const char *const *keys, int nkeys) {
  bool ok = true;
  for (int i = 0; i < map->n; i++) {
    const YNode *key = map->pair[i].key;
    bool known = false;
    for (int k = 0; k < nkeys && !known; k++) known = !strcmp(key->text, keys[k]);
    if (known) continue;
    const char *near = near_miss(key->text, keys, nkeys);
    ok = diag_hint(d, key->at, near ? arena_printf(d->arena, "did you mean '%s'?", near) : NULL, "%s has no key '%s'",
                   what, key->text);
  }
  return ok;
}

bool yaml_expect(Diags *d, const YNode *n, YKind kind, const char *what) {
  if (n->kind == kind) return true;
  return diag_error(d, n->at, "%s: expected %s, found %s", what, yaml_kind_name(kind), yaml_kind_name(n->kind));
}
