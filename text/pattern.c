/* Compiling and matching. The JIT is used where it works; a match that outgrows its stack is done again without it, and one
 * that takes more than a bounded number of steps is an error. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"
#include "text/memory.h"

#include <pcre2.h>

enum { STEPS = 200000, DEPTH = 20000, HEAP_KIB = 32 * 1024, JIT_STACK = 1 << 20 };

struct Pattern {
  pcre2_code *code;
  bool jit;
};

struct PatternWork {
  pcre2_match_data *match;
  pcre2_match_context *context;
  pcre2_jit_stack *stack;
};

Pattern *pattern_new(const char *s, size_t n, PatternDialect dialect, const char *where, Diags *err) {
  Text re = {0};
  if (!pattern_translate(s, n, dialect, where, &re, err)) {
    text_free(&re);
    return NULL;
  }
  Pattern *p = memory_zeroed(1, sizeof *p);
  pcre2_compile_context *context = pcre2_compile_context_create(NULL);
  if (!context) abort();
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
  pcre2_set_parens_nest_limit(context, 100);
  uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C |
                     (dialect == PATTERN_ONIGURUMA ? PCRE2_MULTILINE : PCRE2_DOLLAR_ENDONLY);
  int code = 0;
  PCRE2_SIZE at = 0;
  p->code = pcre2_compile((PCRE2_SPTR)re.s, re.n, options, &code, &at, context);
  pcre2_compile_context_free(context);
  if (!p->code) {
    PCRE2_UCHAR why[128];
    pcre2_get_error_message(code, why, sizeof why);
    diag_error(err, (Span){0}, "%s: the pattern '%.*s' is not understood: %s", where, (int)(n < 200 ? n : 200), s,
               (char *)why);
    text_free(&re);
    pattern_free(p);
    return NULL;
  }
  text_free(&re);
  p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0; /* without it: the same matches, slower */
  return p;
}

void pattern_free(Pattern *p) {
  if (!p) return;
  pcre2_code_free(p->code);
  free(p);
}

PatternWork *pattern_work_new(void) {
  PatternWork *w = memory_zeroed(1, sizeof *w);
  w->match = pcre2_match_data_create(1, NULL);
  w->context = pcre2_match_context_create(NULL);
  if (!w->match || !w->context) abort();
  pcre2_set_depth_limit(w->context, DEPTH);
  pcre2_set_heap_limit(w->context, HEAP_KIB);
  w->stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK, NULL);
  if (w->stack) pcre2_jit_stack_assign(w->context, NULL, w->stack);
  return w;
}

void pattern_work_free(PatternWork *w) {
  if (!w) return;
  pcre2_match_data_free(w->match);
  pcre2_match_context_free(w->context);
  if (w->stack) pcre2_jit_stack_free(w->stack);
  free(w);
}

int pattern_find(const Pattern *p, PatternWork *w, const char *text, size_t n, size_t from, size_t *start, size_t *end,
                 Diags *err) {
  size_t left = n - from;
  uint32_t steps = STEPS + 4 * (uint32_t)(left < 1u << 28 ? left : 1u << 28);
  pcre2_set_match_limit(w->context, steps);
  PCRE2_SPTR s = (PCRE2_SPTR)text;
  int k = PCRE2_ERROR_JIT_STACKLIMIT;
  if (p->jit) k = pcre2_jit_match(p->code, s, n, from, PCRE2_NO_UTF_CHECK, w->match, w->context);
  if (k == PCRE2_ERROR_JIT_STACKLIMIT)
    k = pcre2_match(p->code, s, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, w->match, w->context);
  if (k == PCRE2_ERROR_NOMATCH) return 0;
  if (k < 0) {
    PCRE2_UCHAR why[128];
    pcre2_get_error_message(k, why, sizeof why);
    diag_error(err, (Span){0}, "a pattern of the tokenizer fails on the text: %s", (char *)why);
    return -1;
  }
  PCRE2_SIZE *o = pcre2_get_ovector_pointer(w->match);
  *start = o[0], *end = o[1];
  if (*end < *start) *start = *end; /* \K within a look-ahead */
  return 1;
}
