/* Tests, a row each: `x is defined`. */
#include "text/jinja.h"

#include <math.h>
#include <string.h>

#define TEST(name) static Value name(Run *r, Value v, const Value *a, const Args *all)
#define IS(name, condition)                                                                                            \
  TEST(name) {                                                                                                         \
    return jinja_bool(condition);                                                                                      \
  }

static bool is_number(Value v) {
  return v.kind == V_BOOL || v.kind == V_INT || v.kind == V_FLOAT;
}

IS(defined_, v.kind != V_UNDEFINED)
IS(undefined_, v.kind == V_UNDEFINED)
IS(none_, v.kind == V_NONE)
IS(boolean_, v.kind == V_BOOL)
IS(true_, v.kind == V_BOOL && v.b)
IS(false_, v.kind == V_BOOL && !v.b)
IS(integer_, v.kind == V_INT)
IS(float_, v.kind == V_FLOAT)
IS(number_, is_number(v))
IS(string_, v.kind == V_STRING)
IS(mapping_, v.kind == V_DICT)
IS(iterable_, jinja_iterable(v) || v.kind == V_LOOP)
IS(sequence_,
   v.kind == V_STRING || v.kind == V_DICT || v.kind == V_UNDEFINED || (v.kind == V_LIST && v.list->type <= L_RANGE))
IS(callable_,
   v.kind == V_MACRO || v.kind == V_FUNCTION || v.kind == V_METHOD || v.kind == V_LOOP || v.kind == V_UNDEFINED)
IS(escaped_, v.kind == V_STRING && v.safe)
IS(lower_, jinja_has_case(jinja_text(r, v), false))
IS(upper_, jinja_has_case(jinja_text(r, v), true))
IS(in_, jinja_in(r, v, a[0]))
IS(eq_, jinja_equal(r, v, a[0]))
IS(ne_, !jinja_equal(r, v, a[0]))
IS(lt_, jinja_compare(r, "<", v, a[0]))
IS(le_, jinja_compare(r, "<=", v, a[0]))
IS(gt_, jinja_compare(r, ">", v, a[0]))
IS(ge_, jinja_compare(r, ">=", v, a[0]))
IS(odd_, jinja_equal(r, jinja_math(r, "%", v, jinja_int(2)), jinja_int(1)))
IS(even_, jinja_equal(r, jinja_math(r, "%", v, jinja_int(2)), jinja_int(0)))
IS(divisibleby_, jinja_equal(r, jinja_math(r, "%", v, a[0]), jinja_int(0)))

static bool hashable(Run *r, Value v) {
  bool bad = v.kind == V_DICT || (v.kind == V_LIST && v.list->type == L_LIST);
  if (bad) jinja_fail(r, "unhashable type: '%s'", jinja_type(v));
  return !bad;
}
IS(filter_, hashable(r, v) && v.kind == V_STRING && jinja_filter(v.s, v.n) != NULL)
IS(test_, hashable(r, v) && v.kind == V_STRING && jinja_test(v.s, v.n) != NULL)

/* Python's `is`: told of what there is once; of numbers and strings it is an accident. */
TEST(sameas_) {
  Value other = a[0];
  bool plain = is_number(v) || v.kind == V_STRING;
  if (v.kind != other.kind) return jinja_bool(false);
  if (v.kind == V_NONE) return jinja_bool(true);
  if (v.kind == V_BOOL) return jinja_bool(v.b == other.b);
  if (plain || v.kind == V_UNDEFINED || v.kind == V_METHOD)
    return jinja_fail(r, "sameas of two values of type %s is not in the subset", jinja_type(v));
  return jinja_bool(v.list == other.list);
}

static const Row tests[] = {
    {"!=", ne_, "-", 1},
    {"<", lt_, "-", 1},
    {"<=", le_, "-", 1},
    {"==", eq_, "-", 1},
    {">", gt_, "-", 1},
    {">=", ge_, "-", 1},
    {"boolean", boolean_, "", 0},
    {"callable", callable_, "", 0},
    {"defined", defined_, "", 0},
    {"divisibleby", divisibleby_, "num", 1},
    {"eq", eq_, "-", 1},
    {"equalto", eq_, "-", 1},
    {"escaped", escaped_, "", 0},
    {"even", even_, "", 0},
    {"false", false_, "", 0},
    {"filter", filter_, "", 0},
    {"float", float_, "", 0},
    {"ge", ge_, "-", 1},
    {"greaterthan", gt_, "-", 1},
    {"gt", gt_, "-", 1},
    {"in", in_, "seq", 1},
    {"integer", integer_, "", 0},
    {"iterable", iterable_, "", 0},
    {"le", le_, "-", 1},
    {"lessthan", lt_, "-", 1},
    {"lower", lower_, "", 0},
    {"lt", lt_, "-", 1},
    {"mapping", mapping_, "", 0},
    {"ne", ne_, "-", 1},
    {"none", none_, "", 0},
    {"number", number_, "", 0},
    {"odd", odd_, "", 0},
    {"sameas", sameas_, "other", 1},
    {"sequence", sequence_, "", 0},
    {"string", string_, "", 0},
    {"test", test_, "", 0},
    {"true", true_, "", 0},
    {"undefined", undefined_, "", 0},
    {"upper", upper_, "", 0},
    {NULL},
};

const Row *jinja_test(const char *s, size_t n) {
  return jinja_row(tests, s, n);
}
