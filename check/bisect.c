/* From a module with a fault to the least that shows it.
 *
 *   find     check_module in a child process; as each stage begins, the module that it starts from is left in shared
 *            memory as text, so it is known whatever becomes of the child
 *   narrow   the question becomes that stage alone, asked of that module: a pass and its input, a program and its
 *            fused graphs; a kernel's region alone, with several sets of values; of code generation, the region
 *            that shows it
 *   shrink   (shrink.c) while the narrow question has the same answer
 *
 * What narrowing loses (a fault that needs what came before) is asked of the whole. Where a fault is may move while its
 * module shrinks (map.3 becomes map.0); of what kind it is may not, nor the words of the compiler's own errors. */
#include "check/check.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { TEXT_ROOM = 1 << 28 };

typedef struct Capture { /* in shared memory */
  size_t n;              /* 0: nothing, or too long */
  char text[TEXT_ROOM];
} Capture;

typedef struct Find {
  const Check *c;
  Capture *capture; /* NULL: not asked for */
  const Module *last;
} Find;

static void enter(void *ctx, const char *stage, const Module *m) {
  Find *f = ctx;
  if (f->c->enter) f->c->enter(f->c->enter_ctx, stage, m);
  if (!f->capture || f->last == m || !strcmp(stage, "evaluation")) return;
  Text t = {0};
  module_print(m, true, &t);
  f->capture->n = 0;
  if (t.n < TEXT_ROOM) {
    memcpy(f->capture->text, t.s, t.n + 1);
    f->capture->n = t.n;
  }
  f->last = m;
  text_free(&t);
}

static bool find(const Module *m, const Check *c, double patience, Capture *capture, Fault *f) {
  Find x = {.c = c, .capture = capture};
  Check watched = *c;
  watched.enter = enter;
  watched.enter_ctx = &x;
  return check_apart(m, &watched, patience, f);
}

int module_nodes(const Module *m) {
  int n = 0;
  for (int i = 0; i < m->ngraphs; i++) n += m->graphs[i]->nnodes;
  return n;
}

/* ---- the same fault? */

/* The next word of a diagnostic: letters alone, since numbers, names and quoted texts change while a module shrinks. */
static const char *word(const char *s, size_t *n) {
  for (;;) {
    while (*s && !isalpha((unsigned char)*s) && !strchr("'%@\"", *s)) s++;
    if (*s == '\'' || *s == '"') {
      const char *close = strchr(s + 1, *s);
      s = close ? close + 1 : s + strlen(s);
      continue;
    }
    *n = 0;
    if (*s == '%' || *s == '@') {
      while (*s && !isspace((unsigned char)*s)) s++;
      continue;
    }
    while (isalpha((unsigned char)s[*n])) ++*n;
    if (!isdigit((unsigned char)s[*n]) && s[*n] != '=' && s[*n] != '.') return s;
    while (*s && !isspace((unsigned char)*s)) s++;
  }
}

/* The first line of what the compiler said, from "error:" on, word by word. */
static bool same_words(const char *a, const char *b) {
  const char *x = strstr(a, "error:"), *y = strstr(b, "error:");
  char line[2][400];
  snprintf(line[0], sizeof line[0], "%.*s", (int)strcspn(x ? x : a, "\n"), x ? x : a);
  snprintf(line[1], sizeof line[1], "%.*s", (int)strcspn(y ? y : b, "\n"), y ? y : b);
  const char *s = line[0], *t = line[1];
  for (;;) {
    size_t n, k;
    s = word(s, &n);
    t = word(t, &k);
    if (n != k || memcmp(s, t, n)) return false;
    if (!n) return true;
    s += n;
    t += k;
  }
}

static bool same_fault(const Fault *f, const Fault *was) {
  if (f->kind != was->kind || f->said != was->said) return false;
  if (f->kind == FAULT_PASS && strcmp(f->where, was->where)) return false;
  return !f->said || same_words(f->text, was->text);
}

/* ---- narrowing */

static const char *only_of(Arena *a, const char *stage) {
  if (!strcmp(stage, "text") || !strcmp(stage, "gradients") || !strncmp(stage, "pass ", 5))
    return arena_strdup(a, stage);
  return "program";
}

/* The region `name` in a module of its own, with all that it calls. NULL: there is none. */
static Module *region_alone(const Module *m, const char *name, Arena *a) {
  const Graph *g = module_find(m, name);
  if (!g || !g->region) return NULL;
  Text t = {0};
  text_add(&t, "module \"%s\"\n\n", m->name);
  graph_print(g, true, &t);
  Module *alone = module_reread(a, diags_new(a), t.s);
  text_free(&t);
  return alone && module_verify(alone) ? alone : NULL;
}

/* A hang must not be waited for at every step: no pass takes a third of a second beside the evaluator, machine code may. */
static double patience_for(const Bisect *b, const Check *c) {
  if (b->first.kind != FAULT_HANG) return b->patience;
  return c->only && !strncmp(c->only, "pass ", 5) ? 0.3 : 2;
}

/* The question c of m, if it has the same answer: then b has both. */
static bool accept(Bisect *b, Module *m, const Check *c) {
  Fault f;
  if (!m || check_apart(m, c, patience_for(b, c), &f) || !same_fault(&f, &b->first)) return false;
  b->least = m;
  b->question = *c;
  b->fault = f;
  return true;
}

/* Values that might show a fault of a kernel away from its graph. */
static bool narrow_kernel(Bisect *b, const Module *fused, const Check *c, Arena *a) {
  Check n = *c;
  if (strncmp(b->first.stage, "kernel ", 7)) return false;
  Module *m = region_alone(fused, b->first.stage + 7, a);
  n.only = NULL;
  n.values.given = NULL;
  for (int i = 0; m && i < 4; i++) {
    n.values.seed = c->values.seed + (uint64_t)(i / 2);
    n.values.special = i % 2 ? !c->values.special : c->values.special;
    if (accept(b, m, &n)) return true;
  }
  return false;
}

/* The region whose kernel cannot be made. */
static bool narrow_lowering(Bisect *b, const Module *fused, const Check *c, Arena *a) {
  Check n = *c;
  n.only = NULL;
  n.values.given = NULL;
  for (int i = 0; !strncmp(b->first.stage, "code generation", 15) && i < fused->ngraphs; i++) {
    const Graph *g = fused->graphs[i];
    if (g->region && strcmp(g->region, "loop") && accept(b, region_alone(fused, g->name, a), &n)) return true;
  }
  return false;
}

static void narrow(Bisect *b, const Module *m, const Module *at, const Check *c, Arena *a) {
  Check n = *c;
  n.enter = NULL;
  b->least = (Module *)(uintptr_t)m;
  b->question = n;
  b->fault = b->first;
  if (at) {
    b->nodes[0] = module_nodes(at);
    n.only = only_of(a, b->first.stage);
    n.round = b->first.kind != FAULT_PROGRAM && b->first.kind != FAULT_KERNEL; /* text is not the question */
    if (narrow_kernel(b, at, &n, a) || narrow_lowering(b, at, &n, a)) return;
    Check made_up = n; /* a file that needs no other is better */
    made_up.values.given = NULL;
    Module *copy = (Module *)(uintptr_t)at;
    if (n.values.given && accept(b, copy, &made_up)) return;
    accept(b, copy, &n);
  }
}

/* ---- shrinking */

static bool still(void *ctx, const Module *m) {
  const Bisect *b = ctx;
  Fault f;
  return !check_apart(m, &b->question, patience_for(b, &b->question), &f) && same_fault(&f, &b->fault);
}

bool bisect_module(const Module *m, const Check *c, Arena *a, Bisect *b) {
  Capture *capture =
      mmap(NULL, sizeof *capture, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (capture == MAP_FAILED) capture = NULL;
  b->least = NULL;
  b->nodes[0] = b->nodes[1] = module_nodes(m);
  bool ok = find(m, c, b->patience, capture, &b->first);
  if (!ok && b->first.kind != FAULT_INPUT) {
    Module *at =
        capture && capture->n ? module_reread(a, diags_new(a), arena_strndup(a, capture->text, capture->n)) : NULL;
    narrow(b, m, b->budget > 0 && at && module_verify(at) ? at : NULL, c, a);
    if (c->enter && b->budget > 0) c->enter(c->enter_ctx, "shrinking", b->least);
    Module *least = b->budget <= 0 ? NULL : shrink_module(b->least, a, b->budget, still, b);
    Fault f;
    if (least && least != b->least && !check_apart(least, &b->question, patience_for(b, &b->question), &f) &&
        same_fault(&f, &b->fault))
      b->least = least, b->fault = f;
    b->nodes[1] = module_nodes(b->least);
  }
  if (capture) munmap(capture, sizeof *capture);
  return ok;
}
