/* Chat templates: what transformers makes of conversations by the templates of tests/golden/chat, byte for byte; what is refused
 * and where; bounds. The goldens come from scripts/check/make_chat_goldens.py. */
#include "text/chat.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static Arena *arena;
static Diags *err;
static void setup(void) {
  arena = arena_new();
  err = diags_new(arena);
}
static void teardown(void) {
  arena_free(arena);
}
TestSuite(chat, .init = setup, .fini = teardown);

#define FOLDER "tests/golden/chat/"

static json_t *load(const char *path) {
  json_error_t e;
  json_t *j = json_load_file(path, JSON_ALLOW_NUL, &e);
  cr_assert(j != NULL, "%s:%d: %s", path, e.line, e.text);
  return j;
}

static ChatTemplate *open_file(const char *path) {
  char *text = NULL;
  size_t n = 0, k;
  FILE *in = fopen(path, "rb"), *out = open_memstream(&text, &n);
  char block[4096];
  cr_assert(in != NULL, "%s is not there", path);
  while ((k = fread(block, 1, sizeof block, in)) > 0) fwrite(block, 1, k, out);
  fclose(in);
  fclose(out);
  ChatTemplate *t = chat_open(text, n, err);
  cr_assert(t != NULL, "%s: %s", path, err->n ? err->list[0].text : "no word");
  free(text);
  return t;
}

/* One conversation against one golden. */
static void check(const char *family, const ChatTemplate *t, const json_t *c, const json_t *want) {
  const char *name = json_string_value(json_object_get(c, "name"));
  json_t *generation = json_object_get(c, "generation"),
         *vars = json_pack("{s:s,s:s,s:s}", "bos_token", "<s>", "eos_token", "</s>", "unk_token", "x");
  if (json_object_get(c, "variables")) json_object_update(vars, json_object_get(c, "variables"));
  Diags *why = diags_new(arena);
  Text out = {0};
  text_write(&out, "before|", 7); /* the prompt is appended */
  bool ok = chat_render(t, json_object_get(c, "messages"), json_object_get(c, "tools"), vars,
                        !json_is_false(generation), &out, why);
  const char *error = why->n ? why->list[0].text : "";
  if (json_is_string(want)) {
    cr_assert(ok, "%s, %s: %s", family, name, error);
    cr_assert(out.n == 7 + json_string_length(want) && !memcmp(out.s + 7, json_string_value(want), out.n - 7),
              "%s, %s:\n%s\nwant\n%s", family, name, out.s + 7, json_string_value(want));
  } else {
    const char *raised = json_string_value(json_object_get(want, "raised"));
    cr_assert(ok == false && why->n == 1, "%s, %s: not refused:\n%s", family, name, out.s);
    cr_assert(out.n == 7, "%s, %s: something is left of what failed", family, name);
    cr_assert(raised == NULL || !strcmp(raised, error), "%s, %s: '%s', want '%s'", family, name, error, raised);
    cr_assert(why->list[0].at.line > 0 || !json_array_size(json_object_get(c, "messages")), "%s, %s: no line", family,
              name);
  }
  text_free(&out);
  json_decref(vars);
}

Test(chat, goldens) {
  DIR *d = opendir(FOLDER);
  json_t *conversations = load(FOLDER "conversations.json");
  int families = 0;
  for (struct dirent *e; (e = readdir(d));) {
    char path[600], *dot = strstr(e->d_name, ".jinja");
    if (!dot) continue;
    snprintf(path, sizeof path, FOLDER "%s", e->d_name);
    ChatTemplate *t = open_file(path);
    snprintf(path, sizeof path, FOLDER "%.*s.json", (int)(dot - e->d_name), e->d_name);
    json_t *goldens = load(path);
    cr_assert(json_array_size(goldens) == json_array_size(conversations), "%s: not one golden a conversation", path);
    for (size_t i = 0; i < json_array_size(goldens); i++)
      check(e->d_name, t, json_array_get(conversations, i), json_array_get(goldens, i));
    json_decref(goldens);
    chat_free(t);
    families++;
  }
  cr_assert(families >= 17, "only %d templates", families);
  json_decref(conversations);
  closedir(d);
}

/* Of ../shared, where it is. */
Test(chat, a_tokenizers_own) {
  const char *path = "../shared/data/tokenizers/hf-small/tokenizer_config.json";
  FILE *f = fopen(path, "rb");
  if (!f) cr_skip_test("%s is not there", path);
  fclose(f);
  json_t *config = load(path), *source = json_object_get(config, "chat_template");
  ChatTemplate *t = chat_open(json_string_value(source), json_string_length(source), err);
  json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", "Hi");
  Text out = {0};
  cr_assert(t && chat_render(t, messages, NULL, config, true, &out, err));
  cr_assert(eq(str, out.s, "<|begin_of_text|>user\nHi<|end_of_text|>assistant\n"));
  text_free(&out);
  chat_free(t);
  json_decref(messages);
  json_decref(config);
}

/* What a template writes, or "line:col: error". With `variables`, JSON. Valid to the end of the test. */
static const char *say_with(const char *source, const char *variables) {
  Diags *d = diags_new(arena);
  ChatTemplate *t = chat_open(source, strlen(source), d);
  json_t *vars = variables ? json_loads(variables, 0, NULL) : NULL,
         *messages = json_pack("[{s:s,s:n}]", "role", "user", "content");
  Text out = {0};
  bool ok = t && chat_render(t, messages, NULL, vars, true, &out, d);
  const char *said = ok ? arena_strdup(arena, out.s)
                        : arena_printf(arena, "%u:%u: %s", d->list[0].at.line, d->list[0].at.col, d->list[0].text);
  cr_assert(ok || d->n == 1);
  text_free(&out);
  chat_free(t);
  json_decref(vars);
  json_decref(messages);
  return said;
}
static const char *say(const char *source) {
  return say_with(source, NULL);
}
#define SAYS(source, want) cr_assert(eq(str, (char *)say(source), (char *)(want)))

Test(chat, python_s_words) {
  SAYS("{{ [1, 2.0, 1e16, 1e-5, none, true, 'a\"b', \"it's\", 'é\\n', (1,), {}, {'k': [undef]}] }}",
       "[1, 2.0, 1e+16, 1e-05, None, True, 'a\"b', \"it's\", 'é\\n', (1,), {}, {'k': [Undefined]}]");
  SAYS("{{ undef }}|{{ none }}|{{ 7 // -2 }}|{{ -7 % 3 }}|{{ 2 ** 10 }}|{{ 1 / 4 }}|{{ 'ab' * 2 ~ 1 }}",
       "|None|-4|2|1024|0.25|abab1");
  SAYS("{{ 1 < 2 < 3 }} {{ 1 == 1.0 == true }} {{ 'a' in 'cat' }} {{ 3 not in [1, 2] }}", "True True True True");
  SAYS("{{ 'straße'|upper }} {{ 'ÀÉ'|lower }} {{ \"it's a-b\"|title }} {{ \"it's\".title() }}",
       "STRASSE àé It's A-B It'S");
  SAYS("{{ 'hello'[::-1] }} {{ 'héllo'[1] }} {{ [1,2,3][-2:] }} {{ 'a,b,c'.split(',', 1) }}",
       "olleh é [2, 3] ['a', 'b,c']");
  SAYS("{{ {'b': 1, 'a': '<é\\n\"'}|tojson }} {{ [1.0, []]|tojson(indent=1) }}",
       "{\"b\": 1, \"a\": \"<é\\n\\\"\"} [\n 1.0,\n []\n]");
  SAYS("{{ 'xyz' | sort(reverse=true) }}{{ ['b', 'C', 'a'] | sort | join }}", "['z', 'y', 'x']abC");
}

Test(chat, whitespace) {
  SAYS("a\n  {% if true %}\n b\n  {% endif %}\nc\n", "a\n b\nc");
  SAYS("a\n  {%- if true -%}\n b\n  {%+ endif +%}\nc\n\n", "ab\n  \nc\n");
  SAYS("a {# x #}\nb {{- ' c ' -}} \n d{% raw %}{{ x }}{% endraw %}\n", "a b c d{{ x }}");
}

Test(chat, iterators_are_used_up) {
  SAYS("{% set it = [1, 2]|select %}{{ it|list }}{{ it|list }}{{ 'yes' if []|select }}", "[1, 2][]yes");
  SAYS("{% for x in [3, 1, 2] if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ' ' if not loop.last }}{% endfor "
       "%}",
       "1/2:3 2/2:2");
}

Test(chat, scopes) {
  SAYS("{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 5 %}{% endfor %}{{ x }}", "111");
  SAYS("{% set n = namespace(x=0) %}{% for i in range(4) %}{% if i == 3 %}{% break %}{% endif %}{% set n.x = n.x + i "
       "%}{% endfor %}{{ n.x }}",
       "3");
  SAYS("{% macro f(a, b=a ~ '!') %}{{ a }}{{ b }}{{ varargs }}{% endmacro %}{{ f(1) }}{{ f(1, 2, 3) }}", "11!()12(3,)");
}

Test(chat, the_date) {
  char want[64], again[64];
  const char *got;
  do { /* midnight may come between */
    time_t now = time(NULL);
    strftime(want, sizeof want, "%d %b %Y", localtime(&now));
    got = say("{{ strftime_now('%d %b %Y') }}");
    now = time(NULL);
    strftime(again, sizeof again, "%d %b %Y", localtime(&now));
  } while (strcmp(want, again));
  cr_assert(eq(str, (char *)got, want));
  SAYS("{{ strftime_now('%Q') }}", "1:16: strftime_now: the format is not in the subset");
}

Test(chat, refused_when_opened) {
  static const char *const cases[][2] = {
      {"a\n{{ x|rot13 }}", "2:6: the filter 'rot13' is not in the subset"},
      {"{{ x is prime }}", "1:9: the test 'prime' is not in the subset"},
      {"{{ l|map('rot13') }}", "1:6: the filter 'rot13' is not in the subset"},
      {"{{ l|selectattr('a', 'prime') }}", "1:6: the test 'prime' is not in the subset"},
      {"\n\n  {% include 'x' %}", "3:6: the tag 'include' is not in the subset"},
      {"{% for x in y recursive %}{% endfor %}", "1:15: recursive loops are not in the subset"},
      {"{{ x.encode('utf8') }}", "1:12: the method 'encode' is not in the subset"},
      {"{{ messages.append(1) }}", "1:19: the method 'append' is not in the subset"},
      {"{{ cycler(1) }}", "1:10: the function 'cycler' is not in the subset"},
      {"{% if x %}\n{% for y in z %}", "2:15: this is not ended by 'else'"},
      {"{% endif %}", "1:4: 'endif' without its beginning"},
      {"{% break %}", "1:4: 'break' outside of a loop"},
      {"{{ x", "1:1: a tag without its end: '}}'"},
      {"{{ 'x }}", "1:4: a string without its end"},
      {"{# x", "1:1: a comment without its end: '#}'"},
      {"{{ 99999999999999999999 }}", "1:4: a whole number beyond 64 bits"},
      {"{{ (1] }}", "1:6: a bracket that nothing opened"},
      {"{{ 1 + }}", "1:8: expected an expression, found '}}'"},
      {"\xff", "1:1: a byte that is no UTF-8"},
  };
  for (int i = 0; i < LEN(cases); i++) cr_expect(eq(str, (char *)say(cases[i][0]), (char *)cases[i][1]));
}

Test(chat, refused_when_rendered) {
  static const char *const cases[][2] = {
      {"{{ a.b }}", "1:5: 'a' is undefined"},
      {"{{ {}.a.b }}", "1:8: a value of type dict has no attribute 'a'"},
      {"\n{{ raise_exception('my words: %s') }}", "2:19: my words: %s"},
      {"{{ 1 + 'a' }}", "1:8: '+' between int and str"},
      {"{{ 1 // 0 }}", "1:9: division by zero"},
      {"{{ 9223372036854775807 + 1 }}", "1:26: a whole number beyond 64 bits"},
      {"{{ [1]|select }}", "1:1: a value of type iterator cannot be written; `| list` makes a list of it"},
      {"{% for x in 3 %}{% endfor %}", "1:4: 'int' is not iterable"},
      {"{{ {}.__class__ }}", "1:6: names that begin with '__' are not in the subset"},
      {"{{ undef|tojson }}", "1:10: tojson: a value of type Undefined is no JSON"},
      {"{{ '%s' % 1 }}", "1:11: formatting by '%' is not in the subset"},
  };
  for (int i = 0; i < LEN(cases); i++) cr_expect(eq(str, (char *)say(cases[i][0]), (char *)cases[i][1]));
}

/* Hostile templates end soon, by an error. */
Test(chat, bounds, .timeout = 120) {
  static const char *const cases[][2] = {
      {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "more than"},
      {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "deep"},
      {"{{ 'x' * 999999999999 }}", "a text of more than"},
      {"{{ 'x' * 9223372036854775807 * 2 }}", "a text of more than"},
      {"{% set n = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
       "a text of more than"},
      {"{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}", "bytes"},
      {"{% set n = namespace(s=[]) %}{% for i in range(9999) %}{% set n.s = [n.s] %}{% endfor %}{{ n.s }}", "nested"},
      {"{% set n = namespace(s=[]) %}{% for i in range(50) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s|tojson }}",
       "text"},
      {"{% set n = namespace(s=[], t=[]) %}{% for i in range(50) %}{% set n.s = [n.s, n.s] %}{% set n.t = [n.t, n.t] "
       "%}{% endfor %}{{ n.s == n.t }}",
       "steps"},
      {"{% for a in range(99999) %}{% for b in range(99) %}{{ 'xxxxxxxxxxxxxxxx' }}{% endfor %}{% endfor %}", "than"},
      {"{{ range(100001) }}", "more than 100000 numbers"},
      {"{{ range(-9223372036854775807, 9223372036854775807, 2) }}", "more than 100000 numbers"},
      {"{{ 'a'.replace('', 'x' * 60000000) }}", "a text of more than"},
  };
  for (int i = 0; i < LEN(cases); i++) {
    const char *said = say(cases[i][0]);
    cr_expect(strstr(said, cases[i][1]) != NULL && strchr(said, ':'), "%s: %.200s", cases[i][0], said);
  }
}

/* Deep nesting of a template and of a request's values. */
Test(chat, depth) {
  static const char *const open[] = {"(", "[", "-", "not ", "{% if x %}", "{'a':", "x if x else ", "f(", "x["};
  for (int i = 0; i < LEN(open); i++) {
    Text t = {0};
    if (*open[i] != '{' || open[i][1] != '%') text_add(&t, "{{ ");
    for (int k = 0; k < 50000; k++) text_add(&t, "%s", open[i]);
    text_add(&t, " }}");
    const char *said = say(t.s);
    cr_expect(strstr(said, "deep") != NULL, "%s: %.200s", open[i], said);
    text_free(&t);
  }
  Text t = {0};
  text_add(&t, "{{ x");
  for (int k = 0; k < 50000; k++) text_add(&t, ".a");
  text_add(&t, " }}");
  cr_expect(strstr(say(t.s), "in a row") != NULL);
  t.n = 0;
  text_add(&t, "{{ 0");
  for (int k = 0; k < 50000; k++) text_add(&t, "+1");
  text_add(&t, " }}");
  cr_expect(eq(str, (char *)say(t.s), "50000"));
  t.n = 0;
  for (int k = 0; k < 1000; k++) text_add(&t, "[");
  for (int k = 0; k < 1000; k++) text_add(&t, "]");
  const char *vars = arena_printf(arena, "{\"x\": %s}", t.s);
  cr_expect(eq(str, (char *)say_with("{{ y }}", vars), ""), "a variable that nothing names is not looked at");
  cr_expect(strstr(say_with("{{ x }}", vars), "nested more than") != NULL);
  text_free(&t);
}

/* The other interfaces' ways to say "nothing" are not the template's. */
Test(chat, messages_as_they_come) {
  SAYS("{{ messages[0] }}{{ tools }}{{ documents }}{{ add_generation_prompt }}", "{'role': 'user'}NoneNoneTrue");
}

/* One template, many renderings; nothing of one stays. */
Test(chat, rendered_again) {
  const char *source =
      "{% set n = namespace(x=[]) %}{% set n.x = n.x + messages %}{{ n.x|length }}{% set messages = [] %}";
  ChatTemplate *t = chat_open(source, strlen(source), err);
  json_t *messages = json_pack("[{}, {}]");
  Text out = {0};
  for (int i = 0; i < 3; i++) cr_assert(chat_render(t, messages, NULL, NULL, false, &out, err));
  cr_assert(eq(str, out.s, "222"));
  cr_assert(chat_render(t, NULL, NULL, NULL, false, &out, err) == false);
  cr_assert(eq(str, out.s, "222"));
  text_free(&out);
  json_decref(messages);
  chat_free(t);
}
