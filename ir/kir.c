/* Building Kernel IR. Every builder appends one instruction; index arithmetic on constants folds and x+0, x*1, x*0
 * vanish, so lowerings can be written for the general case and still print a tight loop. Constants are kept per
 * kernel only where they are asked for: LLVM unifies them. */
#include "ir/kir.h"
#include <assert.h>
#include <string.h>

const KOpInfo kop_info[K_COUNT] = {
#define K(name, operands, doc) {#name, operands, doc},
#include "ir/kir.def"
};

KModule *kmodule_new(Arena *a, const char *name) {
  KModule *km = NEW(a, KModule);
  km->arena = a;
  km->name = intern(name);
  return km;
}

Kernel *kmodule_add(KModule *km, const char *name) {
  Kernel *k = NEW(km->arena, Kernel);
  k->arena = km->arena;
  k->name = intern(name);
  PUSH(km->arena, km->kernels, km->n, km->cap, k);
  return k;
}

int kmodule_find(const KModule *km, const char *kernel) {
  for (int i = 0; i < km->n; i++)
    if (!strcmp(km->kernels[i]->name, kernel)) return i;
  return -1;
}

static KV put(Kernel *k, KIns ins) {
  PUSH(k->arena, k->ins, k->nins, k->cap_ins, ins);
  return (KV)k->nins;
}

int k_buf(Kernel *k, const char *name, DType dt, KBufKind kind) {
  KBuf b = {.name = intern(name), .dt = dt, .kind = kind};
  PUSH(k->arena, k->bufs, k->nbufs, k->cap_bufs, b);
  return k->nbufs - 1;
}

int k_scratch(Kernel *k, const char *name, DType dt, int64_t n) {
  KBuf b = {.name = intern(name), .dt = dt, .kind = KBUF_SCRATCH, .n = n, .offset = k->scratch};
  k->scratch = (k->scratch + n * dtype_bytes[dt] + 63) & ~(int64_t)63;
  PUSH(k->arena, k->bufs, k->nbufs, k->cap_bufs, b);
  return k->nbufs - 1;
}

KV k_ic(Kernel *k, int64_t v) {
  return put(k, (KIns){.op = K_iconst, .lanes = 1, .index = true, .imm = v});
}

KV k_fc(Kernel *k, double v, int lanes) {
  return put(k, (KIns){.op = K_fconst, .lanes = (uint8_t)lanes, .num = (float)v});
}

KV k_param(Kernel *k, const char *symbol) {
  symbol = intern(symbol);
  int i = 0;
  while (i < k->nparams && k->params[i] != symbol) i++;
  if (i == k->nparams) PUSH(k->arena, k->params, k->nparams, k->cap_params, symbol);
  return put(k, (KIns){.op = K_param, .lanes = 1, .index = true, .imm = i});
}

KV k_op0(Kernel *k, KOp op) {
  return put(k, (KIns){.op = (uint8_t)op, .lanes = 1, .index = true});
}

bool k_const(const Kernel *k, KV v, int64_t *out) {
  const KIns *i = &k->ins[v - 1];
  if (i->op != K_iconst) return false;
  *out = i->imm;
  return true;
}

KV k_i2(Kernel *k, KOp op, KV a, KV b) {
  int64_t x = 0, y = 0;
  bool ca = k_const(k, a, &x), cb = k_const(k, b, &y);
  if (ca && cb) switch (op) {
    case K_iadd: return k_ic(k, x + y);
    case K_isub: return k_ic(k, x - y);
    case K_imul: return k_ic(k, x * y);
    case K_idiv: return k_ic(k, x / y);
    case K_imod: return k_ic(k, x % y);
    case K_imin: return k_ic(k, x < y ? x : y);
    case K_imax: return k_ic(k, x > y ? x : y);
    case K_ilt: return k_ic(k, x < y);
    case K_ieq: return k_ic(k, x == y);
    default: break;
    }
  if (cb && y == 0 && (op == K_iadd || op == K_isub)) return a;
  if (ca && x == 0 && op == K_iadd) return b;
  if (cb && y == 1 && (op == K_imul || op == K_idiv)) return a;
  if (ca && x == 1 && op == K_imul) return b;
  if (cb && y == 1 && op == K_imod) return k_ic(k, 0);
  if (((ca && x == 0) || (cb && y == 0)) && op == K_imul) return k_ic(k, 0);
  return put(k, (KIns){.op = (uint8_t)op, .lanes = 1, .index = true, .a = a, .b = b});
}

KV k_f(Kernel *k, KOp op, KV a, KV b, KV c) {
  return put(k, (KIns){.op = (uint8_t)op, .lanes = k->ins[a - 1].lanes, .a = a, .b = b, .c = c});
}

KV k_for(Kernel *k, KV lo, KV hi, int64_t step) {
  return put(k, (KIns){.op = K_for, .lanes = 1, .index = true, .a = lo, .b = hi, .imm = step});
}

KV k_deal(Kernel *k, KV lo, KV hi, int64_t step) {
  return put(k, (KIns){.op = K_deal, .lanes = 1, .index = true, .a = lo, .b = hi, .imm = step});
}

KV k_iter(Kernel *k, KV init) {
  const KIns *i = &k->ins[init - 1];
  return put(k, (KIns){.op = K_iter, .lanes = i->lanes, .index = i->index, .a = init});
}

void k_yield(Kernel *k, const KV *v, int n) {
  KV *list = NEW_ARRAY(k->arena, KV, n ? n : 1);
  if (n) memcpy(list, v, sizeof(KV) * (size_t)n);
  put(k, (KIns){.op = K_yield, .list = list, .n = n});
}

void k_end(Kernel *k) {
  put(k, (KIns){.op = K_end});
}

KV k_result(Kernel *k, KV loop, int i) {
  const KIns *it = &k->ins[loop + (uint32_t)i]; /* iter operations follow their loop */
  return put(k, (KIns){.op = K_result, .lanes = it->lanes, .index = it->index, .a = loop, .imm = i});
}

void k_if(Kernel *k, KV cond) {
  put(k, (KIns){.op = K_if, .a = cond});
}

KV k_load(Kernel *k, int buf, KV at, int lanes) {
  return put(k, (KIns){.op = K_load, .lanes = (uint8_t)lanes, .buf = (uint16_t)buf, .a = at});
}

KV k_load_n(Kernel *k, int buf, KV at, KV n, int lanes) {
  int64_t c;
  if (k_const(k, n, &c) && c >= lanes) return k_load(k, buf, at, lanes);
  return put(k, (KIns){.op = K_load_n, .lanes = (uint8_t)lanes, .buf = (uint16_t)buf, .a = at, .b = n});
}

KV k_load_s(Kernel *k, int buf, KV at, KV stride, int lanes) {
  int64_t c;
  if (lanes == 1 || (k_const(k, stride, &c) && c == 1)) return k_load(k, buf, at, lanes);
  return put(k, (KIns){.op = K_load_s, .lanes = (uint8_t)lanes, .buf = (uint16_t)buf, .a = at, .b = stride});
}

KV k_load_q(Kernel *k, int buf, KV at, KV n, int lanes) {
  return put(k, (KIns){.op = n ? K_load_qn : K_load_q, .lanes = (uint8_t)lanes, .buf = (uint16_t)buf, .a = at, .b = n});
}

KV k_load_i(Kernel *k, int buf, KV at) {
  return put(k, (KIns){.op = K_load_i, .lanes = 1, .index = true, .buf = (uint16_t)buf, .a = at});
}

void k_store(Kernel *k, int buf, KV at, KV v) {
  put(k, (KIns){.op = K_store, .buf = (uint16_t)buf, .a = at, .b = v});
}

void k_stream(Kernel *k, int buf, KV at, KV v) {
  put(k, (KIns){.op = K_stream, .buf = (uint16_t)buf, .a = at, .b = v});
}

void k_prefetch(Kernel *k, int buf, KV at, bool write) {
  put(k, (KIns){.op = K_prefetch, .buf = (uint16_t)buf, .a = at, .imm = write});
}

void k_store_n(Kernel *k, int buf, KV at, KV v, KV n) {
  int64_t c;
  if (k_const(k, n, &c) && c >= k_lanes(k, v))
    k_store(k, buf, at, v);
  else
    put(k, (KIns){.op = K_store_n, .buf = (uint16_t)buf, .a = at, .b = v, .c = n});
}

void k_store_s(Kernel *k, int buf, KV at, KV v, KV stride) {
  int64_t c;
  if (k_lanes(k, v) == 1 || (k_const(k, stride, &c) && c == 1))
    k_store(k, buf, at, v);
  else
    put(k, (KIns){.op = K_store_s, .buf = (uint16_t)buf, .a = at, .b = v, .c = stride});
}

KV k_splat(Kernel *k, KV v, int lanes) {
  if (k_lanes(k, v) == lanes) return v;
  assert(k_lanes(k, v) == 1);
  const KIns *i = &k->ins[v - 1];
  if (i->op == K_fconst) return k_fc(k, i->num, lanes);
  return put(k, (KIns){.op = K_splat, .lanes = (uint8_t)lanes, .a = v});
}

KV k_extract(Kernel *k, KV v, int lane) {
  if (k_lanes(k, v) == 1) return v;
  return put(k, (KIns){.op = K_extract, .lanes = 1, .a = v, .imm = lane});
}

KV k_shuffle(Kernel *k, KV a, KV b, const uint8_t *mask, int lanes) {
  uint8_t *m = NEW_ARRAY(k->arena, uint8_t, lanes);
  memcpy(m, mask, (size_t)lanes);
  return put(k, (KIns){.op = K_shuffle, .lanes = (uint8_t)lanes, .a = a, .b = b, .mask = m});
}

KV k_keep_n(Kernel *k, KV v, KV n, double other) {
  int64_t c;
  if (k_const(k, n, &c) && c >= k_lanes(k, v)) return v;
  return put(k, (KIns){.op = K_keep_n, .lanes = k->ins[v - 1].lanes, .a = v, .b = n, .num = other});
}

KV k_join(Kernel *k, KV low, KV high, int bits) {
  return put(k, (KIns){.op = K_join, .lanes = k->ins[low - 1].lanes, .a = low, .b = high, .imm = bits});
}

KV k_hot(Kernel *k, KV target, KV column, int lanes) {
  return put(k, (KIns){.op = K_hot, .lanes = (uint8_t)lanes, .a = target, .b = column});
}

KV k_word(Kernel *k, KV index, KV stride, int upper, int lanes) {
  return put(k, (KIns){.op = K_word, .lanes = (uint8_t)lanes, .a = index, .b = stride, .imm = upper});
}

KV k_nonneg(Kernel *k, KV index) {
  return put(k, (KIns){.op = K_nonneg, .lanes = 1, .a = index});
}
