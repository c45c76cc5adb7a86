/* The interpreter of templates behind text/chat.h: what its files share.
 *
 *     jinja_lex.c        source to tokens, where whitespace control is settled
 *     jinja_parse.c      tokens to statements; jinja_expression.c: to expressions
 *     jinja_value.c      values: truth, equality, order; jinja_print.c: as Python and JSON write them
 *     jinja_string.c     what Python's str can do, on UTF-8
 *     jinja_operator.c   operators, attributes, items, slices
 *     jinja_eval.c       expressions and calls; jinja_run.c: statements, loops and macros
 *     jinja_filters.c, jinja_sequences.c, jinja_tests.c, jinja_methods.c, jinja_functions.c: tables, one row each
 *
 * The model is Python's Jinja2 as transformers sets it up. Values do not change once they are made, but for namespaces.
 *
 * Errors: the first one stays in Run and everything after it is void. A function that fails records it and returns
 * whatever it has; loops ask jinja_step(), which says false from then on. So code may go on with a value that is not what it
 * wanted, never with one that is not there. Memory is an arena that dies with the rendering. */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H
#include "ink/base.h"

#include <jansson.h>

enum {
  JINJA_SOURCE = 1 << 20,  /* bytes of a template */
  JINJA_NEST = 100,        /* statements, expressions and suffixes within each other in a template */
  JINJA_DEPTH = 1000,      /* the same when it runs: macros in macros */
  JINJA_VALUES = 64,       /* lists within lists */
  JINJA_RANGE = 100000,    /* numbers of a range(), as in Jinja2's sandbox */
  JINJA_STEPS = 10000000,  /* nodes evaluated, items and every 64 bytes touched */
  JINJA_OUTPUT = 16 << 20, /* bytes written, what is caught in blocks and macros too */
  JINJA_MEMORY = 256 << 20 /* bytes of values */
};

/* ---- values */
typedef enum ValueKind {
  V_MISSING, /* no value at all: an argument that was not given, a name that is not bound; never seen by a template */
  V_UNDEFINED,
  V_NONE,
  V_BOOL,
  V_INT,
  V_FLOAT,
  V_STRING,
  V_LIST,
  V_DICT,
  V_NAMESPACE,
  V_LOOP,
  V_MACRO,
  V_FUNCTION,
  V_METHOD
} ValueKind;

typedef struct Value Value;
typedef struct Run Run;
typedef struct Node Node;

typedef enum ListType { L_LIST, L_TUPLE, L_RANGE, L_KEYS, L_VALUES, L_ITEMS, L_ITERATOR } ListType;
typedef struct List {
  ListType type;
  Value *v;
  int n, cap;
  int used; /* of an iterator: items that are gone */
} List;

typedef struct Pair Pair;
typedef struct Dict {
  Pair *v;
  int n, cap;
} Dict;

struct Value {
  uint8_t kind; /* ValueKind */
  bool safe;    /* a string out of `safe` or `escape`: Python's Markup */
  union {
    bool b;
    int64_t i;
    double f;
    const char *s; /* n bytes of UTF-8; of what is undefined: why, n bytes */
    List *list;
    Dict *dict; /* of a namespace too */
    struct Loop *loop;
    struct Macro *macro;
    const struct Row *row; /* a function */
    struct Method *method;
  };
  size_t n;
};
struct Pair {
  Value key, value;
};

/* An argument list that is bound to nothing yet. */
typedef struct Args {
  Value *v;
  int n;
  Pair *named;
  int nnamed;
} Args;

/* A filter, test, method or function. params: its names in order, "sep maxsplit"; "-" is one that cannot be named; NULL: it
 * looks at the whole list itself. a[i] is V_MISSING where nothing was given. */
typedef struct Row {
  const char *name;
  Value (*call)(Run *r, Value self, const Value *a, const Args *all);
  const char *params;
  int required;
} Row;
enum { ROW_PARAMS = 5 };

typedef struct Method {
  Value self;
  const Row *row; /* NULL: Python has it, this subset has not */
  const char *name;
} Method;

/* ---- syntax */
typedef enum TokenKind {
  T_END,
  T_DATA,
  T_VARIABLE, /* {{ */
  T_VARIABLE_END,
  T_BLOCK, /* {% */
  T_BLOCK_END,
  T_NAME,
  T_STRING,
  T_INT,
  T_FLOAT,
  T_OPERATOR
} TokenKind;

typedef struct Token {
  uint8_t kind; /* TokenKind */
  char op[2];   /* an operator's characters */
  uint32_t line, col;
  const char *s; /* data, name, string */
  size_t n;
  int64_t i;
  double f;
} Token;

typedef enum NodeKind {
  N_CONST,
  N_NAME,
  N_LIST,  /* kids */
  N_TUPLE, /* kids */
  N_DICT,  /* kids: key, value, key, value */
  N_ATTR,  /* a.text */
  N_ITEM,  /* a[b] */
  N_SLICE, /* a[kids]: start, stop, step, NULL where left out */
  N_CALL,
  N_FILTER, /* a is NULL in a filter block */
  N_TEST,
  N_NOT,
  N_NEGATE,
  N_PLUS,
  N_AND,     /* kids */
  N_OR,      /* kids */
  N_COMPARE, /* kids, ops[i] before kids[i] */
  N_MATH,    /* likewise, from left to right */
  N_CONCAT,  /* kids */
  N_CHOOSE,  /* a if b else c, c may be NULL */
  /* statements, chained by next */
  N_DATA,
  N_OUTPUT, /* a */
  N_IF,     /* kids: test, body, test, body ...; a test that is NULL: else */
  N_FOR,    /* a target, b what, c `if`; body, other */
  N_SET,    /* a target, b value */
  N_CATCH,  /* {% set a %}body{% endset %}; b: filters or NULL */
  N_WITH,   /* kids: target, value, ... ; body */
  N_MACRO,  /* params, body */
  N_CALLER, /* {% call %}: a the call, params and body of caller() */
  N_FILTERED,
  N_SCOPE, /* {% generation %} */
  N_BREAK,
  N_CONTINUE
} NodeKind;

typedef enum ArgKind { ARG_PLAIN, ARG_NAMED, ARG_LIST, ARG_DICT } ArgKind;
typedef struct Arg {
  ArgKind kind;
  Value name;
  Node *value;
} Arg;

typedef struct Param {
  int name;
  Value text;     /* the name as a string */
  Node *fallback; /* NULL: undefined */
} Param;

enum { USES_CALLER = 1, USES_KWARGS = 2, USES_VARARGS = 4 };
struct Node {
  uint8_t kind; /* NodeKind */
  uint8_t uses; /* macros: USES_ */
  uint16_t depth;
  uint32_t line, col;
  int name;    /* number of a name; -1 */
  Value value; /* constant; text of data, attribute, name */
  Node *a, *b, *c, *body, *other, *next;
  Node **kids;
  char (*ops)[2];
  int n;
  Arg *args;
  int nargs;
  Param *params;
  int nparams;
  const Row *row; /* filter, test */
};

/* Names that have a meaning of their own come first in every template. */
enum { NAME_LOOP, NAME_CALLER, NAME_KWARGS, NAME_VARARGS, NAMES_KNOWN };

typedef struct Template {
  Arena *arena;
  const char *source; /* line ends are \n */
  size_t n;
  Node *body;
  const Value *names; /* by number */
  int nnames;
} Template;

/* NULL or false after an error. */
Token *jinja_lex(Arena *a, const char *source, size_t n, Diags *err, uint32_t file, int *count);
bool jinja_parse(Template *t, const Token *tokens, Diags *err, uint32_t file);

typedef struct Parser {
  Arena *arena;
  const Token *at;
  Diags *err;
  uint32_t file;
  bool failed;
  int nest, loops; /* loops: for statements around, within this macro */
  unsigned uses;   /* of the macro around */
  Value *names;
  int nnames, cap_names;
  int *buckets; /* hash of names, chained in chain[]; -1 ends */
  int *chain;
  int cap_chain;
} Parser;
enum { NAME_BUCKETS = 1024 };

/* jinja_expression.c. All give a node that may be walked, even after a failure. */
Node *jinja_node(Parser *p, NodeKind kind, const Token *at);
Node *jinja_expression(Parser *p, bool choose);    /* choose: `a if b else c` may stand here */
Node *jinja_tuple(Parser *p, bool choose);         /* an expression, or several with commas */
Node *jinja_primary(Parser *p);                    /* a name, a literal, brackets */
Node *jinja_filters(Parser *p, Node *in, bool at); /* |f|g(1); at: the first one's name stands here without its bar */
Node *jinja_suffixes(Parser *p, Node *n);          /* .a[b](c) */
int jinja_name(Parser *p, const char *s, size_t n);
Value jinja_known_string(const char *s, size_t n);
bool jinja_refuse(Parser *p, const Token *at, const char *fmt, ...) PRINTF(3, 4);
bool jinja_is_name(const Token *t, const char *name);
bool jinja_is_op(const Token *t, const char *op);
void jinja_expect_op(Parser *p, const char *op);
bool jinja_skip_name(Parser *p, const char *name);
bool jinja_skip_op(Parser *p, const char *op);
void jinja_add_kid(Parser *p, Node *to, Node *kid);
const char *jinja_describe(Parser *p, const Token *t);
bool jinja_enter(Parser *p); /* one level deeper; false: too deep. Left by p->nest-- in either case */

/* ---- running */
typedef struct Var {
  struct Var *next;
  int name;
  Value v;
} Var;
typedef struct Scope {
  struct Scope *up; /* NULL: the template's own names, Run.globals */
  Var *vars;
} Scope;

typedef struct Macro {
  const Node *node;
  Scope *scope; /* where it was defined */
  const char *name;
} Macro;

typedef struct Loop {
  List *items;
  int at;   /* index in `kept` of the current item */
  int next; /* index in `items` of what is not looked at yet */
  List kept;
  const Node *node; /* its `if`, NULL: none */
  Scope *scope;     /* around the loop */
  int depth;
  Value changed; /* what changed() saw last; V_MISSING */
} Loop;

struct Run {
  const Template *t;
  Arena *arena;
  Text *out;
  Text tmp; /* strings under construction, a stack as `out` is */
  const Node *at;
  Value *globals; /* by number of name */
  size_t steps, memory, start;
  int depth, values;
  Diags *err;
  bool failed;
};

Value jinja_fail(Run *r, const char *fmt, ...) PRINTF(2, 3); /* gives something undefined */
bool jinja_step(Run *r, size_t n);                           /* false: no more; the error is recorded */
void *jinja_alloc(Run *r, size_t bytes);                     /* zeroed */
bool jinja_room(Run *r, size_t bytes, size_t times);         /* whether a string of so many bytes may be made */

/* jinja_run.c, jinja_eval.c */
void jinja_run(Run *r, Scope *s, const Node *body);
Value jinja_eval(Run *r, Scope *s, const Node *n);
Value jinja_call(Run *r, Value f, const Args *args);
Value jinja_call_row(Run *r, const Row *row, const char *what, Value self, const Args *args);
Value jinja_call_macro(Run *r, const Macro *m, const Args *args);
Args jinja_args(Run *r, Scope *s, const Arg *args, int n);
Value jinja_lookup(Run *r, const Scope *s, int name);
void jinja_bind(Run *r, Scope *s, int name, Value v);
Value jinja_loop_attr(Run *r, Loop *l, const char *name);
bool jinja_loop_next(Run *r, Loop *l, int index); /* whether there is an item of this index */

/* jinja_value.c */
#define MISSING ((Value){.kind = V_MISSING})
#define NONE ((Value){.kind = V_NONE})
Value jinja_bool(bool b);
Value jinja_int(int64_t i);
Value jinja_float(double f);
Value jinja_string(const char *s, size_t n); /* not copied */
Value jinja_copy(Run *r, const char *s, size_t n);
Value jinja_taken(Run *r, size_t start); /* what was written to r->tmp from start on, which ends there again */
Value jinja_undefined(Run *r, const char *fmt, ...) PRINTF(2, 3);
Value jinja_list(Run *r, ListType type, List **list);
void jinja_push(Run *r, List *l, Value v);
Value jinja_dict(Run *r, Dict **d);
void jinja_put(Run *r, Dict *d, Value key, Value v);
const Value *jinja_get(Run *r, const Dict *d, Value key);  /* NULL: no such key */
const Value *jinja_get_text(const Dict *d, const char *s); /* by a plain string */
Value jinja_from_json(Run *r, const json_t *j);
bool jinja_is(Value v, const char *text); /* a string of these characters */
bool jinja_truth(Value v);
bool jinja_equal(Run *r, Value a, Value b);
int jinja_order(Run *r, Value a, Value b, const char *op); /* below, at or above 0; fails on what has no order */
bool jinja_number(Value v, int64_t *i, double *f);         /* bool, int: *i and *f; float: *f alone. false: no number */
bool jinja_whole(Value v, int64_t *i);                     /* a bool or an int */
List *jinja_items(Run *r, Value v);                        /* what a loop over it sees; an iterator is used up */
const char *jinja_type(Value v);                           /* Python's name */
bool jinja_iterable(Value v);
int64_t jinja_length(Value v); /* -1: has none */

/* jinja_print.c: appended to t */
void jinja_print(Run *r, Text *t, Value v); /* Python's str() */
void jinja_repr(Run *r, Text *t, Value v);
typedef struct JsonStyle {
  bool ascii, sort;
  Value indent, item, colon; /* strings; indent V_MISSING: on one line */
} JsonStyle;
void jinja_json(Run *r, Text *t, Value v, const JsonStyle *style, int level);
void jinja_print_float(Text *t, double f);
Value jinja_text(Run *r, Value v); /* str() as a value */

/* jinja_string.c. Indices count characters. */
bool jinja_space(uint32_t cp);
int64_t jinja_chars(const char *s, size_t n);
size_t jinja_offset(const char *s, size_t n, int64_t chars); /* bytes of so many characters, at most n */
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
Value jinja_strip(Value s, Value chars, unsigned sides); /* chars V_MISSING or none: whitespace */
typedef enum Case { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_WORDS } Case;
Value jinja_case(Run *r, Value s, Case c);
bool jinja_has_case(Value s, bool upper); /* isupper(), islower() */
Value jinja_replace(Run *r, Value s, Value old, Value new, int64_t most);
Value jinja_split(Run *r, Value s, Value by, int64_t most, bool right);
Value jinja_lines(Run *r, Value s, bool ends);
Value jinja_join(Run *r, Value by, const List *items, bool strict); /* strict: only strings */
const char *jinja_find(Value s, Value what);                        /* NULL: not in it */
const char *jinja_rfind(Run *r, Value s, Value what);
Value jinja_escape(Run *r, Value s);
bool jinja_parse_int(Value s, int base, int64_t *i); /* Python's int(); false: none, or too large */
bool jinja_parse_float(Value s, double *f);

/* jinja_operator.c */
Value jinja_math(Run *r, const char op[2], Value a, Value b);
bool jinja_compare(Run *r, const char op[2], Value a, Value b);
bool jinja_in(Run *r, Value a, Value b);
Value jinja_attr(Run *r, Value v, Value name); /* v.name */
Value jinja_item(Run *r, Value v, Value key);  /* v[key] */
Value jinja_slice(Run *r, Value v, Value start, Value stop, Value step);

/* The tables. A test's value is a bool. */
const Row *jinja_filter(const char *s, size_t n); /* NULL: unknown, as below */
const Row *jinja_test(const char *s, size_t n);
const Row *jinja_function(const char *s, size_t n);
Value jinja_method(Run *r, Value self, Value name); /* V_MISSING: Python has none of this name either */
bool jinja_method_known(const char *s, size_t n);   /* of any type */
extern const Row jinja_text_filters[], jinja_sequence_filters[];
const Row *jinja_row(const Row *rows, const char *s, size_t n); /* the end of a table has no name */
#endif
