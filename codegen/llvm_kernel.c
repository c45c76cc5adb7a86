/* Kernel IR to LLVM IR, instruction by instruction. Vectors stay as explicit as they are in Kernel IR; nothing is left
 * to the vectorizer, and no fast-math flag is ever set, so the arithmetic is the kernel's own.
 *
 * Loops become: guard (lo < hi) -> body with phis for the index and every carried value -> exit with phis that choose
 * between the initial and the last values. */
#include "codegen/llvm.h"
#include <stdio.h>
#include <string.h>

/* Carried values of one loop: the most are 12 reductions of 64 lanes in vectors of 4 (lower_row.c). */
enum { MAX_ITER = 256, MAX_DEPTH = 32 };

typedef struct Loop {
  uint32_t ins; /* its `for` or `if` instruction */
  LLVMBasicBlockRef guard, body, exit;
  LLVMValueRef index;
  LLVMValueRef next[MAX_ITER]; /* yielded values */
  int niter;
} Loop;

typedef struct Emit {
  Llvm *l;
  const Kernel *k;
  LLVMValueRef fn;
  LLVMValueRef *v;   /* by KV */
  LLVMValueRef *buf; /* base pointers */
  LLVMValueRef *results;
  Loop loop[MAX_DEPTH];
  int depth;
  bool streams; /* has stores past the caches */
} Emit;

static LLVMTypeRef vec(LLVMTypeRef t, int lanes) {
  return lanes == 1 ? t : LLVMVectorType(t, (unsigned)lanes);
}
static LLVMValueRef c64(Llvm *l, int64_t x) {
  return LLVMConstInt(l->i64, (uint64_t)x, 1);
}

static LLVMValueRef splat_const(LLVMValueRef c, int lanes) {
  if (lanes == 1) return c;
  LLVMValueRef all[KIR_LANES];
  for (int i = 0; i < lanes; i++) all[i] = c;
  return LLVMConstVector(all, (unsigned)lanes);
}
static LLVMValueRef fconst(Llvm *l, double x, int lanes) {
  return splat_const(LLVMConstReal(l->f32, x), lanes);
}
static LLVMValueRef iconst(Llvm *l, uint32_t x, int lanes) {
  return splat_const(LLVMConstInt(l->i32, x, 0), lanes);
}

static LLVMValueRef splat(Llvm *l, LLVMValueRef x, int lanes) {
  if (lanes == 1) return x;
  LLVMTypeRef vt = LLVMVectorType(LLVMTypeOf(x), (unsigned)lanes);
  LLVMValueRef one = LLVMBuildInsertElement(l->b, LLVMGetPoison(vt), x, LLVMConstInt(l->i32, 0, 0), "");
  return LLVMBuildShuffleVector(l->b, one, LLVMGetPoison(vt), LLVMConstNull(LLVMVectorType(l->i32, (unsigned)lanes)),
                                "");
}

static LLVMValueRef iota(Llvm *l, int lanes) {
  LLVMValueRef all[KIR_LANES];
  for (int i = 0; i < lanes; i++) all[i] = LLVMConstInt(l->i32, (uint64_t)i, 0);
  return lanes == 1 ? all[0] : LLVMConstVector(all, (unsigned)lanes);
}

/* The lower or upper halves of a, a + step, a + 2 step, ... */
static LLVMValueRef index_word(Llvm *l, LLVMValueRef a, LLVMValueRef step, int64_t upper, int lanes) {
  LLVMTypeRef type = upper ? l->i64 : l->i32, vt = vec(type, lanes);
  if (!upper) a = LLVMBuildTrunc(l->b, a, l->i32, ""), step = LLVMBuildTrunc(l->b, step, l->i32, "");
  LLVMValueRef lane = LLVMBuildZExt(l->b, iota(l, lanes), vt, "");
  LLVMValueRef x = LLVMBuildAdd(l->b, splat(l, a, lanes), LLVMBuildMul(l->b, lane, splat(l, step, lanes), ""), "");
  if (!upper) return x;
  x = LLVMBuildLShr(l->b, x, splat(l, c64(l, 32), lanes), "");
  return LLVMBuildTrunc(l->b, x, vec(l->i32, lanes), "");
}

/* Mask of the first n lanes, n any index. */
static LLVMValueRef first_lanes(Llvm *l, LLVMValueRef n, int lanes) {
  LLVMValueRef big = LLVMBuildICmp(l->b, LLVMIntSLT, n, c64(l, KIR_LANES), "");
  LLVMValueRef n32 = LLVMBuildTrunc(l->b, LLVMBuildSelect(l->b, big, n, c64(l, KIR_LANES), ""), l->i32, "");
  return LLVMBuildICmp(l->b, LLVMIntSLT, iota(l, lanes), splat(l, n32, lanes), "");
}

static LLVMValueRef intrinsic(Llvm *l, const char *name, LLVMTypeRef *over, int nover, LLVMValueRef *args, int nargs) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  LLVMValueRef fn = LLVMGetIntrinsicDeclaration(l->mod, id, over, (size_t)nover);
  LLVMTypeRef ft = LLVMIntrinsicGetType(l->ctx, id, over, (size_t)nover);
  return LLVMBuildCall2(l->b, ft, fn, args, (unsigned)nargs, "");
}

static LLVMTypeRef element_type(Emit *e, int buf) {
  DType dt = e->k->bufs[buf].dt;
  return dt == DT_bf16 ? e->l->i16 : dt == DT_i8 ? e->l->i8 : e->l->f32;
}

static LLVMValueRef address(Emit *e, int buf, LLVMValueRef at) {
  return LLVMBuildInBoundsGEP2(e->l->b, element_type(e, buf), e->buf[buf], &at, 1, "");
}

static LLVMValueRef as_bool(Emit *e, LLVMValueRef f, int lanes) {
  return LLVMBuildFCmp(e->l->b, LLVMRealUNE, f, fconst(e->l, 0, lanes), "");
}

static LLVMValueRef compare(Emit *e, LLVMRealPredicate p, LLVMValueRef a, LLVMValueRef b, int lanes) {
  Llvm *l = e->l;
  return LLVMBuildSelect(l->b, LLVMBuildFCmp(l->b, p, a, b, ""), fconst(l, 1, lanes), fconst(l, 0, lanes), "");
}

static LLVMBasicBlockRef block(Emit *e, const char *name) {
  return LLVMAppendBasicBlockInContext(e->l->ctx, e->fn, name);
}

/* Turns of a loop that is dealt out: the first is the thread's by its number, further ones follow a count that the threads of the
 * call share. Every thread asks once in vain, so the last to ask leaves 0 behind for the next call. */
static LLVMValueRef turn_at(Emit *e, const KIns *i, LLVMValueRef turn) {
  Llvm *l = e->l;
  return LLVMBuildNSWAdd(l->b, e->v[i->a], LLVMBuildNSWMul(l->b, turn, c64(l, i->imm), ""), "");
}

static LLVMValueRef next_turn(Emit *e, const KIns *i) {
  Llvm *l = e->l;
  LLVMValueRef count = LLVMGetParam(e->fn, 5);
  LLVMValueRef n = LLVMBuildNSWSub(l->b, e->v[i->b], e->v[i->a], "");
  n = LLVMBuildUDiv(l->b, LLVMBuildNSWAdd(l->b, n, c64(l, i->imm - 1), ""), c64(l, i->imm), "");
  LLVMValueRef taken =
      LLVMBuildAtomicRMW(l->b, LLVMAtomicRMWBinOpAdd, count, c64(l, 1), LLVMAtomicOrderingMonotonic, 0);
  LLVMBasicBlockRef last = block(e, "last"), then = block(e, "then");
  LLVMValueRef after = LLVMBuildNSWAdd(l->b, taken, c64(l, 1), "");
  LLVMBuildCondBr(l->b, LLVMBuildICmp(l->b, LLVMIntEQ, after, n, ""), last, then);
  LLVMPositionBuilderAtEnd(l->b, last);
  LLVMValueRef reset = LLVMBuildStore(l->b, c64(l, 0), count);
  LLVMSetOrdering(reset, LLVMAtomicOrderingMonotonic);
  LLVMSetAlignment(reset, 8);
  LLVMBuildBr(l->b, then);
  LLVMPositionBuilderAtEnd(l->b, then);
  return turn_at(e, i, LLVMBuildNSWAdd(l->b, LLVMGetParam(e->fn, 3), taken, ""));
}

static void open_loop(Emit *e, uint32_t n) {
  Llvm *l = e->l;
  const KIns *i = &e->k->ins[n];
  Loop *lp = &e->loop[e->depth++];
  memset(lp, 0, sizeof *lp);
  lp->ins = n;
  lp->guard = LLVMGetInsertBlock(l->b);
  lp->body = block(e, i->op == K_if ? "then" : "loop");
  lp->exit = block(e, "after");
  LLVMValueRef from = i->op == K_deal ? turn_at(e, i, LLVMGetParam(e->fn, 2)) : e->v[i->a];
  LLVMValueRef go = i->op == K_if ? LLVMBuildICmp(l->b, LLVMIntNE, e->v[i->a], c64(l, 0), "")
                                  : LLVMBuildICmp(l->b, LLVMIntSLT, from, e->v[i->b], "");
  LLVMBuildCondBr(l->b, go, lp->body, lp->exit);
  LLVMPositionBuilderAtEnd(l->b, lp->body);
  if (i->op == K_if) return;
  lp->index = e->v[n + 1] = LLVMBuildPhi(l->b, l->i64, "");
  LLVMAddIncoming(lp->index, &from, &lp->guard, 1);
  for (uint32_t j = n + 1; j < (uint32_t)e->k->nins && e->k->ins[j].op == K_iter; j++, lp->niter++) {
    const KIns *it = &e->k->ins[j];
    LLVMValueRef phi = LLVMBuildPhi(l->b, it->index ? l->i64 : vec(l->f32, it->lanes), "");
    LLVMAddIncoming(phi, &e->v[it->a], &lp->guard, 1);
    e->v[j + 1] = phi;
  }
}

static void close_loop(Emit *e) {
  Llvm *l = e->l;
  Loop *lp = &e->loop[--e->depth];
  const KIns *i = &e->k->ins[lp->ins];
  if (i->op == K_if) {
    LLVMBuildBr(l->b, lp->exit);
    LLVMPositionBuilderAtEnd(l->b, lp->exit);
    return;
  }
  LLVMValueRef next = i->op == K_deal ? next_turn(e, i) : LLVMBuildNSWAdd(l->b, lp->index, c64(l, i->imm), "");
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(l->b);
  LLVMValueRef more = LLVMBuildICmp(l->b, LLVMIntSLT, next, e->v[i->b], "");
  LLVMBuildCondBr(l->b, more, lp->body, lp->exit);
  LLVMAddIncoming(lp->index, &next, &latch, 1);
  LLVMPositionBuilderAtEnd(l->b, lp->exit);
  for (int j = 0; j < lp->niter; j++) {
    LLVMValueRef phi = e->v[lp->ins + 2 + (uint32_t)j];
    LLVMAddIncoming(phi, &lp->next[j], &latch, 1);
    LLVMValueRef out = LLVMBuildPhi(l->b, LLVMTypeOf(phi), "");
    LLVMAddIncoming(out, &e->v[e->k->ins[lp->ins + 1 + (uint32_t)j].a], &lp->guard, 1);
    LLVMAddIncoming(out, &lp->next[j], &latch, 1);
    e->results[lp->ins + 1 + (uint32_t)j] = out;
  }
}

/* Bits of a float vector and back. */
static LLVMValueRef to_bits(Emit *e, LLVMValueRef x, int lanes) {
  return LLVMBuildBitCast(e->l->b, x, vec(e->l->i32, lanes), "");
}
static LLVMValueRef from_bits(Emit *e, LLVMValueRef x, int lanes) {
  return LLVMBuildBitCast(e->l->b, x, vec(e->l->f32, lanes), "");
}

/* Lanes as they lie in memory: those of bf16 are upper halves, those of i8 lowest bytes. */
static LLVMValueRef from_memory(Emit *e, int buf, LLVMValueRef x, int lanes) {
  Llvm *l = e->l;
  DType dt = e->k->bufs[buf].dt;
  if (dt == DT_i8) return from_bits(e, LLVMBuildSExt(l->b, x, vec(l->i32, lanes), ""), lanes);
  if (dt != DT_bf16) return x;
  x = LLVMBuildZExt(l->b, x, vec(l->i32, lanes), "");
  return from_bits(e, LLVMBuildShl(l->b, x, iconst(l, 16, lanes), ""), lanes);
}
static LLVMValueRef to_memory(Emit *e, int buf, LLVMValueRef x, int lanes) {
  Llvm *l = e->l;
  DType dt = e->k->bufs[buf].dt;
  if (dt == DT_i8) return LLVMBuildTrunc(l->b, to_bits(e, x, lanes), vec(l->i8, lanes), "");
  if (dt != DT_bf16) return x;
  x = LLVMBuildLShr(l->b, to_bits(e, x, lanes), iconst(l, 16, lanes), "");
  return LLVMBuildTrunc(l->b, x, vec(l->i16, lanes), "");
}
static unsigned alignment(const Emit *e, int buf) {
  return (unsigned)dtype_bytes[e->k->bufs[buf].dt];
}

static LLVMValueRef load_at(Emit *e, int buf, LLVMValueRef at, int lanes) {
  LLVMValueRef x = LLVMBuildLoad2(e->l->b, vec(element_type(e, buf), lanes), address(e, buf, at), "");
  LLVMSetAlignment(x, alignment(e, buf));
  return from_memory(e, buf, x, lanes);
}

static void store_at(Emit *e, int buf, LLVMValueRef at, LLVMValueRef x, int lanes) {
  LLVMSetAlignment(LLVMBuildStore(e->l->b, to_memory(e, buf, x, lanes), address(e, buf, at)), alignment(e, buf));
}

/* A store that does not stay in the caches, nor reads its line first. Such stores must be aligned, which a block of memory need
 * not be, so it is asked each time: a branch that is always taken the same way. */
static void stream_at(Emit *e, int buf, LLVMValueRef at, LLVMValueRef x, int lanes) {
  Llvm *l = e->l;
  if (strcmp(l->target->arch, "x86_64") != 0 || lanes < 4 || e->k->bufs[buf].dt != DT_f32) {
    store_at(e, buf, at, x, lanes);
    return;
  }
  unsigned bytes = (unsigned)lanes * 4;
  LLVMBasicBlockRef past = block(e, "past"), through = block(e, "through"), then = block(e, "then");
  LLVMValueRef p = address(e, buf, at), place = LLVMBuildPtrToInt(l->b, p, l->i64, "");
  LLVMValueRef off = LLVMBuildAnd(l->b, place, c64(l, bytes - 1), "");
  LLVMBuildCondBr(l->b, LLVMBuildICmp(l->b, LLVMIntEQ, off, c64(l, 0), ""), past, through);
  LLVMPositionBuilderAtEnd(l->b, past);
  LLVMValueRef store = LLVMBuildStore(l->b, x, p);
  LLVMSetAlignment(store, bytes);
  LLVMMetadataRef one = LLVMValueAsMetadata(LLVMConstInt(l->i32, 1, 0));
  LLVMSetMetadata(store, LLVMGetMDKindIDInContext(l->ctx, "nontemporal", 11),
                  LLVMMetadataAsValue(l->ctx, LLVMMDNodeInContext2(l->ctx, &one, 1)));
  LLVMBuildBr(l->b, then);
  LLVMPositionBuilderAtEnd(l->b, through);
  store_at(e, buf, at, x, lanes);
  LLVMBuildBr(l->b, then);
  LLVMPositionBuilderAtEnd(l->b, then);
  e->streams = true;
}

static LLVMValueRef masked(Emit *e, const KIns *i, bool store) {
  Llvm *l = e->l;
  int lanes = store ? e->k->ins[i->b - 1].lanes : i->lanes;
  LLVMTypeRef over[2] = {vec(i->op == K_load_qn ? l->f32 : element_type(e, i->buf), lanes), l->ptr};
  LLVMValueRef p = address(e, i->buf, e->v[i->a]), align = LLVMConstInt(l->i32, alignment(e, i->buf), 0);
  LLVMValueRef m = first_lanes(l, e->v[store ? i->c : i->b], lanes);
  if (store)
    return intrinsic(l, "llvm.masked.store", over, 2,
                     (LLVMValueRef[]){to_memory(e, i->buf, e->v[i->b], lanes), p, align, m}, 4);
  LLVMValueRef none = LLVMConstNull(over[0]);
  LLVMValueRef x = intrinsic(l, "llvm.masked.load", over, 2, (LLVMValueRef[]){p, align, m, none}, 4);
  return i->op == K_load_qn ? x : from_memory(e, i->buf, x, lanes);
}

/* Half of the last place that stays is added, less one where that place is even: ties go to even. */
static LLVMValueRef nearest_half(Emit *e, LLVMValueRef x, int lanes) {
  Llvm *l = e->l;
  LLVMValueRef u = to_bits(e, x, lanes), nan = LLVMBuildFCmp(l->b, LLVMRealUNO, x, x, "");
  LLVMValueRef odd = LLVMBuildAnd(l->b, LLVMBuildLShr(l->b, u, iconst(l, 16, lanes), ""), iconst(l, 1, lanes), "");
  LLVMValueRef near = LLVMBuildAdd(l->b, LLVMBuildAdd(l->b, u, iconst(l, 0x7fff, lanes), ""), odd, "");
  LLVMValueRef quiet = LLVMBuildOr(l->b, u, iconst(l, 0x400000, lanes), "");
  u = LLVMBuildAnd(l->b, LLVMBuildSelect(l->b, nan, quiet, near, ""), iconst(l, 0xffff0000u, lanes), "");
  return from_bits(e, u, lanes);
}

/* x where `keep`, else a zero of its sign. */
static LLVMValueRef or_zero(Emit *e, LLVMValueRef keep, LLVMValueRef x, int lanes) {
  Llvm *l = e->l;
  LLVMValueRef bits = LLVMBuildSelect(l->b, keep, iconst(l, 0xffffffffu, lanes), iconst(l, 0x80000000u, lanes), "");
  return from_bits(e, LLVMBuildAnd(l->b, to_bits(e, x, lanes), bits, ""), lanes);
}

static LLVMValueRef not_below(Emit *e, LLVMValueRef x, double limit, int lanes) {
  Llvm *l = e->l;
  LLVMTypeRef ft = vec(l->f32, lanes);
  LLVMValueRef size = intrinsic(l, "llvm.fabs", &ft, 1, &x, 1);
  return LLVMBuildFCmp(l->b, LLVMRealUGE, size, fconst(l, limit, lanes), "");
}

/* The instruction takes subnormals for zeros by itself; without it they leave here. */
static LLVMValueRef pair(Emit *e, LLVMValueRef low, LLVMValueRef high, int lanes) {
  Llvm *l = e->l;
  if (!l->target->dpbf16) {
    low = or_zero(e, not_below(e, low, 0x1p-126, lanes), low, lanes);
    high = or_zero(e, not_below(e, high, 0x1p-126, lanes), high, lanes);
  }
  low = LLVMBuildLShr(l->b, to_bits(e, low, lanes), iconst(l, 16, lanes), "");
  high = LLVMBuildAnd(l->b, to_bits(e, high, lanes), iconst(l, 0xffff0000u, lanes), "");
  return from_bits(e, LLVMBuildOr(l->b, low, high, ""), lanes);
}

static LLVMValueRef half_of(Emit *e, LLVMValueRef pair, bool high, int lanes) {
  Llvm *l = e->l;
  LLVMValueRef u = to_bits(e, pair, lanes);
  u = high ? LLVMBuildAnd(l->b, u, iconst(l, 0xffff0000u, lanes), "") : LLVMBuildShl(l->b, u, iconst(l, 16, lanes), "");
  return from_bits(e, u, lanes);
}

static LLVMValueRef dot_pairs(Emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef sum, int lanes) {
  static const char *const names[] = {"llvm.x86.avx512bf16.dpbf16ps.128", "llvm.x86.avx512bf16.dpbf16ps.256",
                                      "llvm.x86.avx512bf16.dpbf16ps.512"};
  Llvm *l = e->l;
  if (l->target->dpbf16 && (lanes == 4 || lanes == 8 || lanes == 16)) {
    LLVMTypeRef pairs = vec(l->bf16, 2 * lanes);
    a = LLVMBuildBitCast(l->b, a, pairs, ""), b = LLVMBuildBitCast(l->b, b, pairs, "");
    return intrinsic(l, names[lanes / 8], NULL, 0, (LLVMValueRef[]){sum, a, b}, 3);
  }
  LLVMTypeRef ft = vec(l->f32, lanes);
  LLVMValueRef far = fconst(l, 0x1p64, lanes);
  for (int high = 1; high >= 0; high--) { /* each step once more, 2^64 times as large: did it become subnormal? */
    LLVMValueRef x = half_of(e, a, high, lanes), y = half_of(e, b, high, lanes);
    LLVMValueRef r = intrinsic(l, "llvm.fma", &ft, 1, (LLVMValueRef[]){x, y, sum}, 3);
    LLVMValueRef again[] = {LLVMBuildFMul(l->b, x, far, ""), y, LLVMBuildFMul(l->b, sum, far, "")};
    sum = or_zero(e, not_below(e, intrinsic(l, "llvm.fma", &ft, 1, again, 3), 0x1p-62, lanes), r, lanes);
  }
  return sum;
}

/* ---- bytes: integers, so that every way to the sum of four products is the same */

static LLVMValueRef part(Emit *e, LLVMValueRef x, int from, int lanes) {
  LLVMValueRef mask[KIR_LANES];
  for (int i = 0; i < lanes; i++) mask[i] = LLVMConstInt(e->l->i32, (uint64_t)(from + i), 0);
  return LLVMBuildShuffleVector(e->l->b, x, x, LLVMConstVector(mask, (unsigned)lanes), "");
}

static LLVMValueRef both(Emit *e, LLVMValueRef x, LLVMValueRef y, int lanes) {
  LLVMValueRef mask[KIR_LANES];
  for (int i = 0; i < 2 * lanes; i++) mask[i] = LLVMConstInt(e->l->i32, (uint64_t)i, 0);
  return LLVMBuildShuffleVector(e->l->b, x, y, LLVMConstVector(mask, (unsigned)(2 * lanes)), "");
}

/* Lanes that one vpmaddwd of the target takes. */
static int widest(const Target *t) {
  return strstr(t->require, "avx512bw") ? 16 : strstr(t->require, "avx2") ? 8 : 4;
}

/* Even and odd bytes as halves, which pmaddwd multiplies and adds up in i32: exact, where pmaddubsw saturates. */
static LLVMValueRef dot_halves(Emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef sum, int lanes) {
  static const char *const names[] = {"llvm.x86.sse2.pmadd.wd", "llvm.x86.avx2.pmadd.wd",
                                      "llvm.x86.avx512.pmaddw.d.512"};
  Llvm *l = e->l;
  LLVMTypeRef ht = vec(l->i16, 2 * lanes);
  LLVMValueRef all[KIR_LANES], eight;
  for (int i = 0; i < 2 * lanes; i++) all[i] = LLVMConstInt(l->i16, 8, 0);
  eight = LLVMConstVector(all, (unsigned)(2 * lanes));
  for (int i = 0; i < 2 * lanes; i++) all[i] = LLVMConstInt(l->i16, 255, 0);
  a = LLVMBuildBitCast(l->b, a, ht, ""), b = LLVMBuildBitCast(l->b, b, ht, "");
  LLVMValueRef two[2];
  for (int odd = 0; odd < 2; odd++) {
    LLVMValueRef x = odd ? LLVMBuildLShr(l->b, a, eight, "")
                         : LLVMBuildAnd(l->b, a, LLVMConstVector(all, (unsigned)(2 * lanes)), "");
    LLVMValueRef y = LLVMBuildAShr(l->b, odd ? b : LLVMBuildShl(l->b, b, eight, ""), eight, "");
    two[odd] = intrinsic(l, names[lanes / 8], NULL, 0, (LLVMValueRef[]){x, y}, 2);
  }
  return LLVMBuildAdd(l->b, sum, LLVMBuildAdd(l->b, two[0], two[1], ""), "");
}

/* a, b, sum: of i32. */
static LLVMValueRef dot_quads(Emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef sum, int lanes) {
  static const char *const names[] = {"llvm.x86.avx512.vpdpbusd.128", "llvm.x86.avx512.vpdpbusd.256",
                                      "llvm.x86.avx512.vpdpbusd.512"};
  Llvm *l = e->l;
  bool x86 = !strcmp(l->target->arch, "x86_64"), vnni = l->target->dpbusd > 0;
  int most = vnni ? l->target->dpbusd : widest(l->target);
  if (x86 && lanes > most) {
    LLVMValueRef half[2];
    for (int i = 0; i < 2; i++) {
      int from = i * lanes / 2;
      half[i] = dot_quads(e, part(e, a, from, lanes / 2), part(e, b, from, lanes / 2), part(e, sum, from, lanes / 2),
                          lanes / 2);
    }
    return both(e, half[0], half[1], lanes / 2);
  }
  if (x86 && lanes >= 4)
    return vnni ? intrinsic(l, names[lanes / 8], NULL, 0, (LLVMValueRef[]){sum, a, b}, 3)
                : dot_halves(e, a, b, sum, lanes);
  for (int i = 0; i < 4; i++) {
    LLVMValueRef up = iconst(l, (uint32_t)(24 - 8 * i), lanes), down = iconst(l, 24, lanes);
    LLVMValueRef x = LLVMBuildLShr(l->b, LLVMBuildShl(l->b, a, up, ""), down, "");
    LLVMValueRef y = LLVMBuildAShr(l->b, LLVMBuildShl(l->b, b, up, ""), down, "");
    sum = LLVMBuildAdd(l->b, sum, LLVMBuildMul(l->b, x, y, ""), "");
  }
  return sum;
}

static LLVMValueRef join(Emit *e, LLVMValueRef low, LLVMValueRef high, int64_t bits, int lanes) {
  Llvm *l = e->l;
  low = LLVMBuildAnd(l->b, to_bits(e, low, lanes), iconst(l, (1u << bits) - 1, lanes), "");
  high = LLVMBuildShl(l->b, to_bits(e, high, lanes), iconst(l, (uint32_t)bits, lanes), "");
  return from_bits(e, LLVMBuildOr(l->b, low, high, ""), lanes);
}

static void emit_ins(Emit *e, uint32_t n) {
  Llvm *l = e->l;
  const KIns *i = &e->k->ins[n];
  LLVMBuilderRef b = l->b;
  LLVMValueRef A = i->a ? e->v[i->a] : NULL, B = i->b ? e->v[i->b] : NULL, C = i->c ? e->v[i->c] : NULL;
  int lanes = i->lanes;
  LLVMTypeRef ft = vec(l->f32, lanes ? lanes : 1);
  LLVMValueRef r = NULL;
  switch ((KOp)i->op) {
  case K_iconst: r = c64(l, i->imm); break;
  case K_fconst: r = fconst(l, i->num, lanes); break;
  case K_param: {
    LLVMValueRef at = c64(l, i->imm);
    r = LLVMBuildLoad2(b, l->i64, LLVMBuildInBoundsGEP2(b, l->i64, LLVMGetParam(e->fn, 1), &at, 1, ""), "");
    break;
  }
  case K_thread: r = LLVMGetParam(e->fn, 2); break;
  case K_threads: r = LLVMGetParam(e->fn, 3); break;
  case K_iadd: r = LLVMBuildNSWAdd(b, A, B, ""); break;
  case K_isub: r = LLVMBuildNSWSub(b, A, B, ""); break;
  case K_imul: r = LLVMBuildNSWMul(b, A, B, ""); break;
  case K_idiv: r = LLVMBuildUDiv(b, A, B, ""); break;
  case K_imod: r = LLVMBuildURem(b, A, B, ""); break;
  case K_imin: r = LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntSLT, A, B, ""), A, B, ""); break;
  case K_imax: r = LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntSGT, A, B, ""), A, B, ""); break;
  case K_ilt: r = LLVMBuildZExt(b, LLVMBuildICmp(b, LLVMIntSLT, A, B, ""), l->i64, ""); break;
  case K_ieq: r = LLVMBuildZExt(b, LLVMBuildICmp(b, LLVMIntEQ, A, B, ""), l->i64, ""); break;
  case K_for:
  case K_deal:
  case K_if: open_loop(e, n); return;
  case K_iter: return; /* made with its loop */
  case K_yield:
    for (int j = 0; j < i->n; j++) e->loop[e->depth - 1].next[j] = e->v[i->list[j]];
    return;
  case K_result: r = e->results[i->a + (uint32_t)i->imm]; break;
  case K_end: close_loop(e); return;
  case K_load: r = load_at(e, i->buf, A, lanes); break;
  case K_load_n:
  case K_load_qn: r = masked(e, i, false); break;
  case K_load_q:
    r = LLVMBuildLoad2(b, ft, address(e, i->buf, A), "");
    LLVMSetAlignment(r, 1);
    break;
  case K_load_s:
    r = LLVMGetPoison(ft);
    for (int j = 0; j < lanes; j++) {
      LLVMValueRef at = LLVMBuildNSWAdd(b, A, LLVMBuildNSWMul(b, B, c64(l, j), ""), "");
      r = LLVMBuildInsertElement(b, r, load_at(e, i->buf, at, 1), LLVMConstInt(l->i32, (uint64_t)j, 0), "");
    }
    break;
  case K_load_i: {
    LLVMValueRef x = LLVMBuildLoad2(b, l->i32, address(e, i->buf, A), "");
    r = LLVMBuildSExt(b, x, l->i64, "");
    break;
  }
  case K_store: store_at(e, i->buf, A, B, e->k->ins[i->b - 1].lanes); return;
  case K_stream: stream_at(e, i->buf, A, B, e->k->ins[i->b - 1].lanes); return;
  case K_store_n: masked(e, i, true); return;
  case K_store_s:
    for (int j = 0; j < e->k->ins[i->b - 1].lanes; j++) {
      LLVMValueRef at = LLVMBuildNSWAdd(b, A, LLVMBuildNSWMul(b, C, c64(l, j), ""), "");
      store_at(e, i->buf, at, LLVMBuildExtractElement(b, B, LLVMConstInt(l->i32, (uint64_t)j, 0), ""), 1);
    }
    return;
  case K_prefetch: { /* no inbounds: it may point past the end */
    LLVMTypeRef t = element_type(e, i->buf);
    LLVMValueRef p = LLVMBuildGEP2(b, t, e->buf[i->buf], &A, 1, "");
    LLVMValueRef args[] = {p, LLVMConstInt(l->i32, i->imm != 0, 0), LLVMConstInt(l->i32, 3, 0),
                           LLVMConstInt(l->i32, 1, 0)};
    intrinsic(l, "llvm.prefetch", &l->ptr, 1, args, 4);
    return;
  }
  case K_splat: r = splat(l, A, lanes); break;
  case K_extract: r = LLVMBuildExtractElement(b, A, LLVMConstInt(l->i32, (uint64_t)i->imm, 0), ""); break;
  case K_shuffle: {
    LLVMValueRef m[KIR_LANES];
    for (int j = 0; j < lanes; j++) m[j] = LLVMConstInt(l->i32, i->mask[j], 0);
    r = LLVMBuildShuffleVector(b, A, B, LLVMConstVector(m, (unsigned)lanes), "");
    break;
  }
  case K_keep_n: r = LLVMBuildSelect(b, first_lanes(l, B, lanes), A, fconst(l, i->num, lanes), ""); break;
  case K_hot: {
    LLVMValueRef lane = LLVMBuildTrunc(b, LLVMBuildNSWSub(b, A, B, ""), l->i32, "");
    LLVMValueRef eq = LLVMBuildICmp(b, LLVMIntEQ, iota(l, lanes), splat(l, lane, lanes), "");
    r = LLVMBuildSelect(b, eq, fconst(l, 1, lanes), fconst(l, 0, lanes), "");
    break;
  }
  case K_word: r = from_bits(e, index_word(l, A, B, i->imm, lanes), lanes); break;
  case K_umul: r = from_bits(e, LLVMBuildMul(b, to_bits(e, A, lanes), to_bits(e, B, lanes), ""), lanes); break;
  case K_umulh: {
    LLVMTypeRef wide = vec(l->i64, lanes), word = vec(l->i32, lanes);
    LLVMValueRef x = LLVMBuildZExt(b, to_bits(e, A, lanes), wide, ""),
                 y = LLVMBuildZExt(b, to_bits(e, B, lanes), wide, "");
    x = LLVMBuildLShr(b, LLVMBuildMul(b, x, y, ""), splat(l, c64(l, 32), lanes), "");
    r = from_bits(e, LLVMBuildTrunc(b, x, word, ""), lanes);
    break;
  }
  case K_xor: r = from_bits(e, LLVMBuildXor(b, to_bits(e, A, lanes), to_bits(e, B, lanes), ""), lanes); break;
  case K_ult: {
    LLVMValueRef less = LLVMBuildICmp(b, LLVMIntULT, to_bits(e, A, lanes), to_bits(e, B, lanes), "");
    r = LLVMBuildSelect(b, less, fconst(l, 1, lanes), fconst(l, 0, lanes), "");
    break;
  }
  case K_nonneg:
    r = LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntSGE, A, c64(l, 0), ""), fconst(l, 1, 1), fconst(l, 0, 1), "");
    break;
  case K_fadd: r = LLVMBuildFAdd(b, A, B, ""); break;
  case K_fsub: r = LLVMBuildFSub(b, A, B, ""); break;
  case K_fmul: r = LLVMBuildFMul(b, A, B, ""); break;
  case K_fdiv: r = LLVMBuildFDiv(b, A, B, ""); break;
  case K_fneg: r = LLVMBuildFNeg(b, A, ""); break;
  case K_fma: r = intrinsic(l, "llvm.fma", &ft, 1, (LLVMValueRef[]){A, B, C}, 3); break;
  case K_flt: r = compare(e, LLVMRealOLT, A, B, lanes); break;
  case K_fle: r = compare(e, LLVMRealOLE, A, B, lanes); break;
  case K_fgt: r = compare(e, LLVMRealOGT, A, B, lanes); break;
  case K_fge: r = compare(e, LLVMRealOGE, A, B, lanes); break;
  case K_feq: r = compare(e, LLVMRealOEQ, A, B, lanes); break;
  case K_select: r = LLVMBuildSelect(b, as_bool(e, A, lanes), B, C, ""); break;
  case K_sqrt: r = intrinsic(l, "llvm.sqrt", &ft, 1, &A, 1); break;
  case K_fabs: r = intrinsic(l, "llvm.fabs", &ft, 1, &A, 1); break;
  case K_round: r = intrinsic(l, "llvm.rint", &ft, 1, &A, 1); break;
  case K_floor: r = intrinsic(l, "llvm.floor", &ft, 1, &A, 1); break;
  case K_pow2: {
    LLVMValueRef x = to_bits(e, LLVMBuildFAdd(b, A, fconst(l, 12582912.0, lanes), ""), lanes);
    x = LLVMBuildSub(b, x, iconst(l, 0x4B400000u - 127u, lanes), "");
    r = from_bits(e, LLVMBuildShl(b, x, iconst(l, 23, lanes), ""), lanes);
    break;
  }
  case K_exponent: {
    LLVMValueRef x = LLVMBuildLShr(b, to_bits(e, A, lanes), iconst(l, 23, lanes), "");
    x = LLVMBuildSub(b, LLVMBuildAnd(b, x, iconst(l, 255, lanes), ""), iconst(l, 127, lanes), "");
    r = LLVMBuildSIToFP(b, x, ft, "");
    break;
  }
  case K_mantissa: {
    LLVMValueRef x = LLVMBuildAnd(b, to_bits(e, A, lanes), iconst(l, 0x007fffffu, lanes), "");
    r = from_bits(e, LLVMBuildOr(b, x, iconst(l, 0x3f800000u, lanes), ""), lanes);
    break;
  }
  case K_tobf16: r = nearest_half(e, A, lanes); break;
  case K_pair: r = pair(e, A, B, lanes); break;
  case K_dpbf16: r = dot_pairs(e, A, B, C, lanes); break;
  case K_join: r = join(e, A, B, i->imm, lanes); break;
  case K_flip: r = from_bits(e, LLVMBuildXor(b, to_bits(e, A, lanes), iconst(l, 0x80808080u, lanes), ""), lanes); break;
  case K_dpbusd:
    r = from_bits(e, dot_quads(e, to_bits(e, A, lanes), to_bits(e, B, lanes), to_bits(e, C, lanes), lanes), lanes);
    break;
  case K_sub32: r = from_bits(e, LLVMBuildSub(b, to_bits(e, A, lanes), to_bits(e, B, lanes), ""), lanes); break;
  case K_tofloat: r = LLVMBuildSIToFP(b, to_bits(e, A, lanes), ft, ""); break;
  case K_toint: {
    LLVMValueRef x = intrinsic(l, "llvm.rint", &ft, 1, &A, 1);
    r = from_bits(e, intrinsic(l, "llvm.fptosi.sat", (LLVMTypeRef[]){vec(l->i32, lanes), ft}, 2, &x, 1), lanes);
    break;
  }
  case K_COUNT: break;
  }
  e->v[n + 1] = r;
}

static void attribute(Llvm *l, LLVMValueRef fn, const char *name, const char *value) {
  LLVMAddAttributeAtIndex(
      fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
      LLVMCreateStringAttribute(l->ctx, name, (unsigned)strlen(name), value, (unsigned)strlen(value)));
}

/* The subprogram that maps the kernel to its YAML line. */
static LLVMMetadataRef debug_scope(Llvm *l, const Kernel *k, LLVMValueRef fn) {
  const char *path = k->file ? k->file : "generated", *slash = strrchr(path, '/');
  const char *base = slash ? slash + 1 : path;
  size_t ndir = slash ? (size_t)(slash - path) : 0;
  LLVMMetadataRef file = LLVMDIBuilderCreateFile(l->di, base, strlen(base), path, ndir);
  LLVMMetadataRef type = LLVMDIBuilderCreateSubroutineType(l->di, file, NULL, 0, LLVMDIFlagZero);
  LLVMMetadataRef sp = LLVMDIBuilderCreateFunction(l->di, file, k->name, strlen(k->name), k->name, strlen(k->name),
                                                   file, k->line, type, 1, 1, k->line, LLVMDIFlagZero, 1);
  LLVMSetSubprogram(fn, sp);
  return sp;
}

LLVMValueRef llvm_kernel(Llvm *l, const Kernel *k) {
  Arena *tmp = arena_new();
  LLVMValueRef fn = LLVMAddFunction(l->mod, k->name, l->kernel_type);
  LLVMSetLinkage(fn, LLVMInternalLinkage);
  attribute(l, fn, "target-cpu", l->target->cpu);
  attribute(l, fn, "target-features", l->target->features);
  char width[16];
  snprintf(width, sizeof width, "%d", l->target->lanes * 32);
  attribute(l, fn, "prefer-vector-width", width);
  attribute(l, fn, "min-legal-vector-width", width);
  unsigned nounwind = LLVMGetEnumAttributeKindForName("nounwind", 8);
  LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                          LLVMCreateEnumAttribute(l->ctx, nounwind, 0));

  Emit e = {.l = l, .k = k, .fn = fn};
  e.v = NEW_ARRAY(tmp, LLVMValueRef, k->nins + 1);
  e.results = NEW_ARRAY(tmp, LLVMValueRef, k->nins + 1);
  e.buf = NEW_ARRAY(tmp, LLVMValueRef, k->nbufs + 1);
  LLVMMetadataRef scope = debug_scope(l, k, fn);
  LLVMPositionBuilderAtEnd(l->b, block(&e, "entry"));
  uint32_t line = k->line;
  LLVMSetCurrentDebugLocation2(l->b, LLVMDIBuilderCreateDebugLocation(l->ctx, line, 0, scope, NULL));
  for (int i = 0; i < k->nbufs; i++) {
    LLVMValueRef at = c64(l, k->bufs[i].kind == KBUF_SCRATCH ? k->bufs[i].offset : i);
    if (k->bufs[i].kind == KBUF_SCRATCH)
      e.buf[i] = LLVMBuildInBoundsGEP2(l->b, l->i8, LLVMGetParam(fn, 4), &at, 1, k->bufs[i].name);
    else
      e.buf[i] = LLVMBuildLoad2(l->b, l->ptr, LLVMBuildInBoundsGEP2(l->b, l->ptr, LLVMGetParam(fn, 0), &at, 1, ""),
                                k->bufs[i].name);
  }
  for (uint32_t n = 0; n < (uint32_t)k->nins; n++) {
    uint32_t at = k->ins[n].line ? k->ins[n].line : k->line;
    if (at != line) {
      line = at;
      LLVMSetCurrentDebugLocation2(l->b, LLVMDIBuilderCreateDebugLocation(l->ctx, line, 0, scope, NULL));
    }
    emit_ins(&e, n);
  }
  if (e.streams) LLVMBuildFence(l->b, LLVMAtomicOrderingSequentiallyConsistent, 0, ""); /* such stores know no order */
  LLVMBuildRetVoid(l->b);
  LLVMSetCurrentDebugLocation2(l->b, NULL);
  arena_free(tmp);
  return fn;
}
