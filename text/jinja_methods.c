/* Methods of strings, lists, dicts and loops, a row each.
 *
 * Python's attributes that this subset has not are known by name, too: there `x.encode is defined` is true, and a key of that
 * name is not what `x.encode` gives. Calling one is refused. Those that would change a value are as undefined as the sandbox
 * of Jinja2 makes them. */
#include "text/jinja.h"

#include <string.h>

#define METHOD(name) static Value name(Run *r, Value v, const Value *a, const Args *all)

static bool given(Value v) {
  return v.kind != V_MISSING && v.kind != V_NONE;
}

static Value plain(Value s) {
  s.safe = false;
  return s;
}

/* Whether the arguments 0 .. n are strings. */
static bool strings(Run *r, const Value *a, int n) {
  for (int i = 0; i < n; i++)
    if (a[i].kind != V_STRING) return jinja_fail(r, "the argument is a string, not %s", jinja_type(a[i])), false;
  return true;
}

static Value stripped(Run *r, Value v, const Value *a, unsigned sides) {
  if (given(a[0]) && !strings(r, a, 1)) return v;
  return jinja_strip(v, a[0], sides);
}
METHOD(strip_) {
  return stripped(r, v, a, STRIP_LEFT | STRIP_RIGHT);
}
METHOD(lstrip_) {
  return stripped(r, v, a, STRIP_LEFT);
}
METHOD(rstrip_) {
  return stripped(r, v, a, STRIP_RIGHT);
}

METHOD(upper_) {
  return jinja_case(r, v, CASE_UPPER);
}
METHOD(lower_) {
  return jinja_case(r, v, CASE_LOWER);
}
METHOD(title_) {
  return jinja_case(r, v, CASE_TITLE);
}
METHOD(capitalize_) {
  return jinja_case(r, v, CASE_CAPITAL);
}

static int64_t count_of(Run *r, Value v, int64_t otherwise) {
  int64_t n = otherwise;
  if (v.kind != V_MISSING && !jinja_whole(v, &n)) jinja_fail(r, "a whole number is asked for, not %s", jinja_type(v));
  return n;
}

static Value split(Run *r, Value v, const Value *a, bool right) {
  if (given(a[0]) && !strings(r, a, 1)) return v;
  int64_t most = count_of(r, a[1], -1);
  return jinja_split(r, v, a[0], most, right);
}
METHOD(split_) {
  return split(r, v, a, false);
}
METHOD(rsplit_) {
  return split(r, v, a, true);
}
METHOD(splitlines_) {
  return jinja_lines(r, v, a[0].kind != V_MISSING && jinja_truth(a[0]));
}

METHOD(replace_) {
  if (!strings(r, a, 2)) return v;
  int64_t most = count_of(r, a[2], -1);
  return jinja_replace(r, v, a[0], a[1], most);
}

METHOD(join_) {
  List *items = jinja_items(r, a[0]);
  return jinja_join(r, v, items, true);
}

static Value ends(Run *r, Value v, const Value *a, bool start) {
  Value one[1] = {a[0]};
  List l = {L_TUPLE, one, 1, 1, 0}, *any = a[0].kind == V_LIST && a[0].list->type == L_TUPLE ? a[0].list : &l;
  if (!strings(r, any->v, any->n)) return v;
  for (int i = 0; i < any->n && jinja_step(r, 1); i++) {
    Value e = any->v[i];
    if (e.n <= v.n && (!e.n || !memcmp(start ? v.s : v.s + v.n - e.n, e.s, e.n))) return jinja_bool(true);
  }
  return jinja_bool(false);
}
METHOD(startswith_) {
  return ends(r, v, a, true);
}
METHOD(endswith_) {
  return ends(r, v, a, false);
}

METHOD(removeprefix_) {
  if (!strings(r, a, 1) || v.n < a[0].n || memcmp(v.s, a[0].s, a[0].n)) return v;
  return jinja_string(v.s + a[0].n, v.n - a[0].n);
}
METHOD(removesuffix_) {
  if (!strings(r, a, 1) || v.n < a[0].n || memcmp(v.s + v.n - a[0].n, a[0].s, a[0].n)) return v;
  return jinja_string(v.s, v.n - a[0].n);
}

static Value position(Run *r, Value v, const Value *a, bool right) {
  if (!strings(r, a, 1) || !jinja_step(r, v.n / 64)) return v;
  const char *at = right ? jinja_rfind(r, v, a[0]) : jinja_find(v, a[0]);
  return jinja_int(at ? jinja_chars(v.s, (size_t)(at - v.s)) : -1);
}
METHOD(find_) {
  return position(r, v, a, false);
}
METHOD(rfind_) {
  return position(r, v, a, true);
}
METHOD(index_) {
  Value at = position(r, v, a, false);
  return r->failed || at.i >= 0 ? at : jinja_fail(r, "index: the text is not in it");
}

METHOD(count_) {
  int64_t n = 0;
  if (!strings(r, a, 1)) return v;
  if (!a[0].n) return jinja_int(jinja_chars(v.s, v.n) + 1);
  for (const char *at; (at = jinja_find(v, a[0])) && jinja_step(r, 1); n++) {
    v.n -= (size_t)(at - v.s) + a[0].n;
    v.s = at + a[0].n;
  }
  return jinja_int(n);
}

/* (before, separator, after), of the first or the last. */
static Value partition(Run *r, Value v, const Value *a, bool right) {
  List *l;
  Value list = jinja_list(r, L_TUPLE, &l), empty = jinja_string("", 0);
  if (!strings(r, a, 1)) return v;
  if (!a[0].n) return jinja_fail(r, "partition: the separator is empty");
  const char *at = right ? jinja_rfind(r, v, a[0]) : jinja_find(v, a[0]);
  size_t before = at ? (size_t)(at - v.s) : 0, after = before + a[0].n;
  jinja_push(r, l, at ? jinja_string(v.s, before) : right ? empty : v);
  jinja_push(r, l, at ? plain(a[0]) : empty);
  jinja_push(r, l, at ? jinja_string(v.s + after, v.n - after) : right ? v : empty);
  return list;
}
METHOD(partition_) {
  return partition(r, v, a, false);
}
METHOD(rpartition_) {
  return partition(r, v, a, true);
}

METHOD(isspace_) {
  return jinja_bool(v.n && !jinja_strip(v, MISSING, STRIP_LEFT).n);
}
METHOD(isupper_) {
  return jinja_bool(jinja_has_case(v, true));
}
METHOD(islower_) {
  return jinja_bool(jinja_has_case(v, false));
}

METHOD(list_index) {
  for (int i = 0; i < v.list->n && jinja_step(r, 1); i++)
    if (jinja_equal(r, v.list->v[i], a[0])) return jinja_int(i);
  return jinja_fail(r, "index: the item is not in it");
}
METHOD(list_count) {
  int64_t n = 0;
  for (int i = 0; i < v.list->n && jinja_step(r, 1); i++) n += jinja_equal(r, v.list->v[i], a[0]);
  return jinja_int(n);
}

/* ---- dicts */

static Value view(Run *r, Value v, ListType type) {
  List *l, *pair;
  Value list = jinja_list(r, type, &l);
  for (int i = 0; i < v.dict->n && jinja_step(r, 1); i++) {
    Pair p = v.dict->v[i];
    Value both = NONE;
    if (type == L_ITEMS) {
      both = jinja_list(r, L_TUPLE, &pair);
      jinja_push(r, pair, p.key);
      jinja_push(r, pair, p.value);
    }
    jinja_push(r, l, type == L_ITEMS ? both : type == L_KEYS ? p.key : p.value);
  }
  return list;
}
METHOD(items_) {
  return view(r, v, L_ITEMS);
}
METHOD(keys_) {
  return view(r, v, L_KEYS);
}
METHOD(values_) {
  return view(r, v, L_VALUES);
}
METHOD(get_) {
  if (a[0].kind == V_DICT || (a[0].kind == V_LIST && a[0].list->type == L_LIST))
    return jinja_fail(r, "unhashable type: '%s'", jinja_type(a[0]));
  const Value *item = jinja_get(r, v.dict, a[0]);
  return item ? *item : a[1].kind == V_MISSING ? NONE : a[1];
}
METHOD(copy_) {
  return v; /* nobody can tell them apart: neither changes */
}

/* ---- loops */

METHOD(cycle_) {
  if (!all->n || all->nnamed) return jinja_fail(r, "cycle asks for items");
  return all->v[v.loop->at % all->n];
}
METHOD(changed_) {
  List *l;
  Value now = jinja_list(r, L_TUPLE, &l);
  if (all->nnamed) return jinja_fail(r, "changed has no named arguments");
  for (int i = 0; i < all->n && jinja_step(r, 1); i++) jinja_push(r, l, all->v[i]);
  bool changed = v.loop->changed.kind == V_MISSING || !jinja_equal(r, v.loop->changed, now);
  if (changed) v.loop->changed = now;
  return jinja_bool(changed);
}

static const Row of_string[] = {
    {"capitalize", capitalize_, "", 0},
    {"count", count_, "-", 1},
    {"endswith", endswith_, "-", 1},
    {"find", find_, "-", 1},
    {"index", index_, "-", 1},
    {"islower", islower_, "", 0},
    {"isspace", isspace_, "", 0},
    {"isupper", isupper_, "", 0},
    {"join", join_, "-", 1},
    {"lower", lower_, "", 0},
    {"lstrip", lstrip_, "-", 0},
    {"partition", partition_, "-", 1},
    {"removeprefix", removeprefix_, "-", 1},
    {"removesuffix", removesuffix_, "-", 1},
    {"replace", replace_, "- - -", 2},
    {"rfind", rfind_, "-", 1},
    {"rpartition", rpartition_, "-", 1},
    {"rsplit", rsplit_, "sep maxsplit", 0},
    {"rstrip", rstrip_, "-", 0},
    {"split", split_, "sep maxsplit", 0},
    {"splitlines", splitlines_, "keepends", 0},
    {"startswith", startswith_, "-", 1},
    {"strip", strip_, "-", 0},
    {"title", title_, "", 0},
    {"upper", upper_, "", 0},
    {NULL},
};
static const Row of_list[] = {
    {"count", list_count, "-", 1},
    {"index", list_index, "-", 1},
    {NULL},
};
static const Row of_dict[] = {
    {"copy", copy_, "", 0}, {"get", get_, "- -", 1},    {"items", items_, "", 0},
    {"keys", keys_, "", 0}, {"values", values_, "", 0}, {NULL},
};
static const Row of_loop[] = {
    {"changed", changed_, NULL, 0},
    {"cycle", cycle_, NULL, 0},
    {NULL},
};

/* What else Python has, by type, between blanks. */
static const char more_string[] = " casefold center encode expandtabs format format_map isalnum isalpha isascii "
                                  "isdecimal isdigit isidentifier isnumeric "
                                  "isprintable istitle ljust maketrans rindex rjust swapcase translate zfill ";
static const char more_list[] = " copy ";
static const char more_dict[] = " fromkeys ";
static const char more_number[] = " as_integer_ratio bit_count bit_length conjugate denominator from_bytes fromhex hex "
                                  "imag is_integer numerator real to_bytes ";
static const char unsafe_list[] = " append clear extend insert pop remove reverse sort ";
static const char unsafe_dict[] = " clear pop popitem setdefault update ";

static bool listed(const char *names, Value name) {
  for (const char *at = names; name.n && (at = memmem(at, strlen(at), name.s, name.n)); at++)
    if (at[-1] == ' ' && at[name.n] == ' ') return true;
  return false;
}

Value jinja_method(Run *r, Value self, Value name) {
  bool changeable = self.kind == V_LIST && self.list->type == L_LIST;
  bool row_like = self.kind == V_LIST && self.list->type <= L_RANGE;
  const Row *rows = self.kind == V_STRING ? of_string
                    : row_like            ? of_list
                    : self.kind == V_DICT ? of_dict
                    : self.kind == V_LOOP ? of_loop
                                          : NULL;
  const char *more = self.kind == V_STRING                         ? more_string
                     : changeable                                  ? more_list
                     : self.kind == V_DICT                         ? more_dict
                     : self.kind >= V_BOOL && self.kind <= V_FLOAT ? more_number
                                                                   : "";
  const char *unsafe = changeable ? unsafe_list : self.kind == V_DICT ? unsafe_dict : "";
  const Row *row = rows ? jinja_row(rows, name.s, name.n) : NULL;
  if (*unsafe && listed(unsafe, name))
    return jinja_undefined(r, "the method '%.*s' would change a %s, which templates cannot", (int)name.n, name.s,
                           jinja_type(self));
  if (!row && !(*more && listed(more, name))) return MISSING;
  if (more == more_number)
    return jinja_fail(r, "the attribute '%.*s' of numbers is not in the subset", (int)name.n, name.s);
  if (self.kind == V_STRING && self.safe) return jinja_fail(r, "methods of a safe string are not in the subset");
  Method *m = jinja_alloc(r, sizeof *m);
  *m = (Method){self, row, jinja_copy(r, name.s, name.n).s};
  return (Value){.kind = V_METHOD, .method = m};
}

bool jinja_method_known(const char *s, size_t n) {
  const Row *const tables[] = {of_string, of_list, of_dict, of_loop};
  for (int i = 0; i < LEN(tables); i++)
    if (jinja_row(tables[i], s, n)) return true;
  return false;
}
