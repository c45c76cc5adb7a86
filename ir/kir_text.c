/* Kernel IR as text, both ways. Operands print in the order of the row in kir.def, so one printer and one parser serve
 * every operation; loops, conditions and carried values have a shape of their own.
 *
 *   kernel @contract.0 "gpt2.yaml":31 (in x0: f32, out y0: f32, scratch A: f32[98312], param T) {
 *     %1 = thread
 *     for %2 = 0 to 512 step 8 {
 *       iter %3 = %1 : f32x8
 *       %4 = load x0, %2 : f32x8
 *       yield %4
 *     }
 *     %5 = result %2, 0 : f32x8
 *   }
 *
 * Values are numbered in order when printed; a parsed kernel may use any numbers. Index constants stand where they are used. */
#include "ir/kir.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void print_type(const KIns *i, Text *out) {
  if (i->index || !i->lanes) return;
  text_add(out, i->lanes == 1 ? " : f32" : " : f32x%d", i->lanes);
}

/* An operand: index constants stand where they are used. */
static void print_value(const Kernel *k, const uint32_t *number, KV v, Text *out) {
  const KIns *i = &k->ins[v - 1];
  if (i->op == K_iconst)
    text_add(out, "%" PRId64, i->imm);
  else
    text_add(out, "%%%" PRIu32, number[v]);
}

static bool spec(const char *s, size_t n, const char *word) {
  return strlen(word) == n && !strncmp(s, word, n);
}

static void print_operands(const Kernel *k, const uint32_t *number, const KIns *i, Text *out) {
  const char *s = kop_info[i->op].operands;
  KV v[3] = {i->a, i->b, i->c};
  int nv = 0;
  const char *sep = " ";
  while (*s) {
    size_t n = strcspn(s, " ");
    if (spec(s, n, "imm"))
      text_add(out, "%s%" PRId64, sep, i->imm);
    else if (spec(s, n, "num"))
      text_add(out, "%s%.9g", sep, i->num);
    else if (spec(s, n, "buf"))
      text_add(out, "%s%s", sep, k->bufs[i->buf].name);
    else if (spec(s, n, "mask")) {
      for (int j = 0; j < i->lanes; j++) text_add(out, j ? " %d" : ", [%d", i->mask[j]);
      text_add(out, "]");
    } else {
      text_add(out, "%s", sep);
      print_value(k, number, v[nv++], out);
    }
    sep = ", ";
    s += n;
    while (*s == ' ') s++;
  }
}

static void print_kernel(const Kernel *k, Text *out) {
  text_add(out, "kernel @%s ", k->name);
  if (k->file) text_add(out, "\"%s\":%" PRIu32 " ", k->file, k->line);
  text_add(out, "(");
  const char *sep = "";
  for (int i = 0; i < k->nbufs; i++, sep = ", ") {
    const KBuf *b = &k->bufs[i];
    text_add(out, "%s%s %s: %s", sep,
             b->kind == KBUF_IN    ? "in"
             : b->kind == KBUF_OUT ? "out"
                                   : "scratch",
             b->name, dtype_name[b->dt]);
    if (b->kind == KBUF_SCRATCH) text_add(out, "[%" PRId64 "]", b->n);
  }
  for (int i = 0; i < k->nparams; i++, sep = ", ") text_add(out, "%sparam %s", sep, k->params[i]);
  text_add(out, ") {\n");
  uint32_t *number = calloc((size_t)k->nins + 1, sizeof *number), next = 0;
  if (!number) abort();
  int depth = 1;
  for (int n = 0; n < k->nins; n++) {
    const KIns *i = &k->ins[n];
    if (i->op == K_iconst) continue;
    if (i->lanes) number[n + 1] = ++next;
    if (i->op == K_end) depth--;
    text_add(out, "%*s", 2 * depth, "");
    switch ((KOp)i->op) {
    case K_for:
    case K_deal:
      text_add(out, "%s %%%" PRIu32 " = ", kop_info[i->op].name, next);
      print_value(k, number, i->a, out);
      text_add(out, " to ");
      print_value(k, number, i->b, out);
      text_add(out, " step %" PRId64 " {", i->imm);
      depth++;
      break;
    case K_if:
      text_add(out, "if ");
      print_value(k, number, i->a, out);
      text_add(out, " {");
      depth++;
      break;
    case K_end: text_add(out, "}"); break;
    case K_iter:
      text_add(out, "iter %%%" PRIu32 " = ", next);
      print_value(k, number, i->a, out);
      print_type(i, out);
      break;
    case K_yield:
      text_add(out, "yield");
      for (int j = 0; j < i->n; j++) {
        text_add(out, j ? ", " : " ");
        print_value(k, number, i->list[j], out);
      }
      break;
    default:
      if (i->lanes) text_add(out, "%%%" PRIu32 " = ", next);
      text_add(out, "%s", kop_info[i->op].name);
      print_operands(k, number, i, out);
      print_type(i, out);
    }
    text_add(out, "\n");
  }
  text_add(out, "}\n");
  free(number);
}

void kmodule_print(const KModule *km, const char *only, Text *out) {
  const char *gap = "";
  for (int i = 0; i < km->n; i++) {
    if (only && strcmp(only, km->kernels[i]->name)) continue;
    text_add(out, "%s", gap);
    print_kernel(km->kernels[i], out);
    gap = "\n";
  }
}

/* ---- parsing: by hand over bytes; every error names its line */

typedef struct Parse {
  const char *s, *start;
  Diags *d;
  uint32_t file;
  Kernel *k;
  KV *num; /* by written number: value */
  int64_t nnum;
  int open[64], depth;
} Parse;

static Span here(const Parse *p) {
  Span at = {p->file, 1, 1};
  for (const char *c = p->start; c < p->s; c++)
    if (*c == '\n')
      at.line++, at.col = 1;
    else
      at.col++;
  return at;
}

static void blank(Parse *p) {
  while (*p->s == ' ' || *p->s == '\n' || *p->s == '\t' || *p->s == '#')
    if (*p->s == '#')
      p->s += strcspn(p->s, "\n");
    else
      p->s++;
}

static bool word_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

static bool take(Parse *p, const char *t) {
  blank(p);
  size_t n = strlen(t);
  if (strncmp(p->s, t, n) || (word_char(t[n - 1]) && word_char(p->s[n]))) return false;
  p->s += n;
  return true;
}

static bool need(Parse *p, const char *t) {
  return take(p, t) || diag_error(p->d, here(p), "expected '%s'", t);
}

static const char *word(Parse *p) {
  blank(p);
  size_t n = 0;
  while (word_char(p->s[n])) n++;
  if (!n) {
    diag_error(p->d, here(p), "expected a name");
    return NULL;
  }
  const char *w = internn(p->s, n);
  p->s += n;
  return w;
}

static bool integer(Parse *p, int64_t lo, int64_t hi, int64_t *out) {
  blank(p);
  char *end;
  long long v = strtoll(p->s, &end, 10);
  if (end == p->s) return diag_error(p->d, here(p), "expected an integer");
  if (v < lo || v > hi) return diag_error(p->d, here(p), "%lld is out of range [%" PRId64 ", %" PRId64 "]", v, lo, hi);
  p->s = end;
  *out = v;
  return true;
}

enum { MAX_NUMBER = 1 << 24 };

static KV append(Parse *p, KIns i);

static bool value(Parse *p, KV *out) {
  int64_t n;
  blank(p);
  if (*p->s != '%') {
    if (!integer(p, INT64_MIN, INT64_MAX, &n)) return false;
    *out = append(p, (KIns){.op = K_iconst, .lanes = 1, .index = true, .imm = n});
    return true;
  }
  if (!need(p, "%") || !integer(p, 1, MAX_NUMBER, &n)) return false;
  if (n >= p->nnum || !p->num[n]) return diag_error(p->d, here(p), "%%%" PRId64 " is not defined before", n);
  *out = p->num[n];
  return true;
}

static bool define(Parse *p, int64_t n, KV v) {
  if (n >= p->nnum) {
    int64_t cap = p->nnum ? p->nnum : 256;
    while (cap <= n) cap *= 2;
    KV *grown = NEW_ARRAY(p->k->arena, KV, cap);
    if (p->nnum) memcpy(grown, p->num, sizeof(KV) * (size_t)p->nnum);
    p->num = grown;
    p->nnum = cap;
  }
  if (p->num[n]) return diag_error(p->d, here(p), "%%%" PRId64 " is defined twice", n);
  p->num[n] = v;
  return true;
}

static bool parse_type(Parse *p, KIns *i) {
  if (!take(p, ":")) {
    i->lanes = 1;
    i->index = true;
    return true;
  }
  int64_t lanes = 1;
  blank(p);
  if (strncmp(p->s, "f32", 3)) return diag_error(p->d, here(p), "expected a type: f32 or f32xN");
  p->s += 3;
  if (*p->s == 'x') {
    p->s++;
    if (!integer(p, 2, KIR_LANES, &lanes)) return false;
  }
  i->lanes = (uint8_t)lanes;
  return true;
}

static KV append(Parse *p, KIns i) {
  PUSH(p->k->arena, p->k->ins, p->k->nins, p->k->cap_ins, i);
  return (KV)p->k->nins;
}

static bool parse_operands(Parse *p, KIns *i, uint8_t *mask, int *nmask) {
  KV *v[3] = {&i->a, &i->b, &i->c};
  int nv = 0, n_op = 0;
  for (const char *s = kop_info[i->op].operands; *s;) {
    size_t n = strcspn(s, " ");
    if (n_op++ && !need(p, ",")) return false;
    if (spec(s, n, "imm")) {
      if (!integer(p, INT64_MIN, INT64_MAX, &i->imm)) return false;
    } else if (spec(s, n, "num")) {
      blank(p);
      char *end;
      i->num = strtod(p->s, &end);
      if (end == p->s) return diag_error(p->d, here(p), "expected a number");
      p->s = end;
    } else if (spec(s, n, "buf")) {
      const char *w = word(p);
      int b = 0;
      while (w && b < p->k->nbufs && p->k->bufs[b].name != w) b++;
      if (!w || b == p->k->nbufs) return w ? diag_error(p->d, here(p), "there is no buffer '%s'", w) : false;
      i->buf = (uint16_t)b;
    } else if (spec(s, n, "mask")) {
      if (!need(p, "[")) return false;
      while (!take(p, "]")) {
        int64_t m;
        if (*nmask == KIR_LANES) return diag_error(p->d, here(p), "more than %d lanes", KIR_LANES);
        if (!integer(p, 0, 2 * KIR_LANES - 1, &m)) return false;
        mask[(*nmask)++] = (uint8_t)m;
      }
    } else if (!value(p, v[nv++])) {
      return false;
    }
    s += n;
    while (*s == ' ') s++;
  }
  return true;
}

static bool no_result(KOp op) {
  return op == K_store || op == K_store_n || op == K_store_s || op == K_stream || op == K_prefetch;
}

static bool parse_op(Parse *p, int64_t number) {
  const char *w = word(p);
  if (!w) return false;
  KIns i = {0};
  while (i.op < K_COUNT && strcmp(kop_info[i.op].name, w)) i.op++;
  if (i.op == K_COUNT || i.op == K_for || i.op == K_deal || i.op == K_if || i.op == K_end || i.op == K_yield ||
      i.op == K_iter)
    return diag_error(p->d, here(p), "unknown operation '%s'", w);
  uint8_t mask[KIR_LANES];
  int nmask = 0;
  if (!parse_operands(p, &i, mask, &nmask)) return false;
  if (no_result((KOp)i.op) != (number == 0))
    return diag_error(p->d, here(p), number ? "%s has no result" : "%s has a result: write %%N = ...", w);
  if (number && !parse_type(p, &i)) return false;
  if (nmask) {
    if (nmask != i.lanes) return diag_error(p->d, here(p), "%d lanes in the mask, %d in the type", nmask, i.lanes);
    i.mask = memcpy(NEW_ARRAY(p->k->arena, uint8_t, nmask), mask, (size_t)nmask);
  }
  if (i.op == K_result) { /* names its loop; carried values follow it */
    if (p->k->ins[i.a - 1].op != K_for) return diag_error(p->d, here(p), "result: the operand is not a loop");
  }
  KV v = append(p, i);
  return number ? define(p, number, v) : true;
}

static bool parse_line(Parse *p) {
  Arena *a = p->k->arena;
  int64_t n;
  bool deal = take(p, "deal");
  if (deal || take(p, "for")) {
    KIns i = {.op = deal ? K_deal : K_for, .lanes = 1, .index = true};
    if (p->depth == LEN(p->open)) return diag_error(p->d, here(p), "loops are nested deeper than %d", LEN(p->open));
    if (!need(p, "%") || !integer(p, 1, MAX_NUMBER, &n) || !need(p, "=") || !value(p, &i.a) || !need(p, "to") ||
        !value(p, &i.b) || !need(p, "step") || !integer(p, 1, INT64_MAX, &i.imm) || !need(p, "{"))
      return false;
    p->open[p->depth++] = p->k->nins;
    return define(p, n, append(p, i));
  }
  if (take(p, "if")) {
    KIns i = {.op = K_if};
    if (p->depth == LEN(p->open)) return diag_error(p->d, here(p), "loops are nested deeper than %d", LEN(p->open));
    if (!value(p, &i.a) || !need(p, "{")) return false;
    p->open[p->depth++] = p->k->nins;
    append(p, i);
    return true;
  }
  if (take(p, "iter")) {
    KIns i = {.op = K_iter};
    if (!need(p, "%") || !integer(p, 1, MAX_NUMBER, &n) || !need(p, "=") || !value(p, &i.a) || !parse_type(p, &i))
      return false;
    return define(p, n, append(p, i));
  }
  if (take(p, "yield")) {
    KV *list = NULL, v;
    int nlist = 0, cap = 0;
    blank(p);
    if (*p->s == '%' || *p->s == '-' || (*p->s >= '0' && *p->s <= '9')) do {
        if (!value(p, &v)) return false;
        PUSH(a, list, nlist, cap, v);
      } while (take(p, ","));
    append(p, (KIns){.op = K_yield, .list = list, .n = nlist});
    return true;
  }
  if (take(p, "%")) return integer(p, 1, MAX_NUMBER, &n) && need(p, "=") && parse_op(p, n);
  return parse_op(p, 0);
}

static bool parse_head(Parse *p) {
  blank(p);
  if (*p->s == '"') {
    size_t n = strcspn(p->s + 1, "\"\n");
    int64_t line;
    p->k->file = internn(p->s + 1, n);
    p->s += n + 1;
    if (!need(p, "\"") || !need(p, ":") || !integer(p, 0, INT32_MAX, &line)) return false;
    p->k->line = (uint32_t)line;
  }
  if (!need(p, "(")) return false;
  if (take(p, ")")) return need(p, "{");
  do {
    if (take(p, "param")) {
      const char *w = word(p);
      if (!w) return false;
      PUSH(p->k->arena, p->k->params, p->k->nparams, p->k->cap_params, w);
      continue;
    }
    KBufKind kind = take(p, "in") ? KBUF_IN : take(p, "out") ? KBUF_OUT : KBUF_SCRATCH;
    if (kind == KBUF_SCRATCH && !need(p, "scratch")) return false;
    const char *name = word(p), *dt = name && need(p, ":") ? word(p) : NULL;
    DType t;
    int64_t n = 0;
    if (!dt) return false;
    if (p->k->nbufs > UINT16_MAX) return diag_error(p->d, here(p), "more than %d buffers", UINT16_MAX + 1);
    if (!dtype_parse(dt, &t)) return diag_error(p->d, here(p), "unknown dtype '%s'", dt);
    if (kind == KBUF_SCRATCH) {
      if (!need(p, "[") || !integer(p, 1, (int64_t)1 << 32, &n) || !need(p, "]")) return false;
      k_scratch(p->k, name, t, n);
    } else {
      k_buf(p->k, name, t, kind);
    }
  } while (take(p, ","));
  return need(p, ")") && need(p, "{");
}

KModule *kmodule_parse(Arena *a, Diags *d, uint32_t file) {
  const Source *src = &d->sources[file - 1];
  KModule *km = kmodule_new(a, src->path);
  Parse p = {.s = src->text, .start = src->text, .d = d, .file = file};
  for (blank(&p); *p.s; blank(&p)) {
    if (!need(&p, "kernel") || !need(&p, "@")) return NULL;
    const char *name = word(&p);
    if (!name) return NULL;
    p.k = kmodule_add(km, name);
    p.num = NULL;
    p.nnum = p.depth = 0;
    if (!parse_head(&p)) return NULL;
    for (;;) {
      if (!take(&p, "}")) {
        if (!parse_line(&p)) return NULL;
        continue;
      }
      if (!p.depth) break;
      append(&p, (KIns){.op = K_end});
      p.depth--;
    }
    if (!kernel_verify(p.k, d)) return NULL;
  }
  return km;
}
