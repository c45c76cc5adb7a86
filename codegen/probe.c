/* The multiply-add loop comes from Kernel IR; the others are written in LLVM's text, since no kernel needs what they need (stores
 * around the caches, sums that nobody reads) and their instructions must be exactly those, unchanged by any pass.
 *
 * What must hold: loads are used, or the code generator drops them; accumulators are as many as hide an instruction's latency
 * and fit the registers. */
#include "codegen/probe.h"
#include "codegen/llvm.h"
#include <llvm-c/IRReader.h>
#include <string.h>

enum { TURNS = 1 << 15, READ_SUMS = 8, READ_STREAMS = 4, COPY_VECTORS = 4, VECTOR_BYTES = 64 };
_Static_assert(PROBE_GRAIN >= READ_SUMS * 16 && PROBE_GRAIN >= COPY_VECTORS * 16,
               "a turn of a loop is within the grain");

static const char *const names[PROBE_COUNT] = {"peak",       "probe_bf16", "probe_int8",
                                               "probe_read", "probe_copy", "probe_copy_nt"};

/* Accumulators of a loop in registers, as lower_peak() has them. */
static int sums_of(const Target *t) {
  return t->registers >= 32 ? 24 : 12;
}

const char *probe_lacks(const Target *t, Probe p) {
  if (p == PROBE_BF16 && !(t->lanes == 16 && target_has(t, "avx512bf16"))) return "no avx512bf16";
  bool vnni = t->lanes == 16 ? target_has(t, "avx512vnni") : t->lanes == 8 && target_has(t, "avxvnni");
  if (p == PROBE_INT8 && !vnni) return t->lanes == 16 ? "no avx512vnni" : "no avxvnni";
  return NULL;
}

/* ---- LLVM's text. Every function has the type of a kernel. */

static void open_function(Text *o, const char *name) {
  text_add(o,
           "define void @%s(ptr %%buf, ptr %%ints, i64 %%thread, i64 %%threads, ptr %%scratch) #0 {\nentry:\n"
           "  %%x = load ptr, ptr %%buf\n",
           name);
}

/* acc = dot(acc, a, b), `sums` of them side by side. type: of the accumulators; arg: of a and b. */
static void dot(Text *o, const char *name, const char *intrinsic, const char *type, const char *arg, const char *add,
                int sums) {
  text_add(o, "declare %s @%s(%s, %s, %s)\n", type, intrinsic, type, arg, arg);
  open_function(o, name);
  text_add(o, "  %%a = load %s, ptr %%x, align 64\n", arg);
  text_add(o, "  %%pb = getelementptr i8, ptr %%x, i64 %d\n  %%b = load %s, ptr %%pb, align 64\n", VECTOR_BYTES, arg);
  for (int i = 0; i < sums; i++)
    text_add(o, "  %%p%d = getelementptr i8, ptr %%x, i64 %d\n  %%s%d = load %s, ptr %%p%d, align 64\n", i,
             VECTOR_BYTES * (2 + i), i, type, i);
  text_add(o, "  br label %%loop\nloop:\n  %%t = phi i64 [0, %%entry], [%%t1, %%loop]\n");
  for (int i = 0; i < sums; i++) text_add(o, "  %%c%d = phi %s [%%s%d, %%entry], [%%d%d, %%loop]\n", i, type, i, i);
  for (int i = 0; i < sums; i++)
    text_add(o, "  %%d%d = call %s @%s(%s %%c%d, %s %%a, %s %%b)\n", i, type, intrinsic, type, i, arg, arg);
  text_add(o, "  %%t1 = add i64 %%t, 1\n  %%more = icmp ult i64 %%t1, %d\n", TURNS);
  text_add(o, "  br i1 %%more, label %%loop, label %%end\nend:\n");
  for (int i = 1; i < sums; i++)
    text_add(o, "  %%e%d = %s %s %%%c%d, %%d%d\n", i, add, type, i == 1 ? 'd' : 'e', i - 1, i);
  text_add(o, "  %%py = getelementptr i8, ptr %%x, i64 %d\n", VECTOR_BYTES * (2 + sums));
  text_add(o, "  store %s %%e%d, ptr %%py, align 64\n  ret void\n}\n", type, sums - 1);
}

/* ints[1] times over ints[0] floats, in streams of %part floats side by side; the body follows, where %at counts within a stream. */
static void open_walk(Text *o, const char *name, int streams) {
  open_function(o, name);
  text_add(o,
           "  %%pp = getelementptr ptr, ptr %%buf, i64 1\n  %%y = load ptr, ptr %%pp\n"
           "  %%n = load i64, ptr %%ints\n  %%pt = getelementptr i64, ptr %%ints, i64 1\n"
           "  %%times = load i64, ptr %%pt\n  %%part = udiv i64 %%n, %d\n  br label %%turn\nturn:\n"
           "  %%t = phi i64 [0, %%entry], [%%t1, %%turned]\n",
           streams);
}

static void close_walk(Text *o, int step) {
  text_add(o, "  %%next = add i64 %%at, %d\n  %%more = icmp ult i64 %%next, %%part\n", step);
  text_add(o, "  br i1 %%more, label %%body, label %%turned\nturned:\n  %%t1 = add i64 %%t, 1\n"
              "  %%again = icmp ult i64 %%t1, %%times\n  br i1 %%again, label %%turn, label %%end\nend:\n");
}

static void read_all(Text *o, int lanes) {
  open_walk(o, names[PROBE_READ], READ_STREAMS);
  for (int i = 0; i < READ_SUMS; i++)
    text_add(o, "  %%s%d = phi <%d x float> [zeroinitializer, %%entry], [%%d%d, %%turned]\n", i, lanes, i);
  text_add(o, "  br label %%body\nbody:\n  %%at = phi i64 [0, %%turn], [%%next, %%body]\n");
  for (int i = 0; i < READ_SUMS; i++)
    text_add(o, "  %%c%d = phi <%d x float> [%%s%d, %%turn], [%%d%d, %%body]\n", i, lanes, i, i);
  for (int i = 0; i < READ_SUMS; i++) {
    int stream = i / (READ_SUMS / READ_STREAMS), vector = i % (READ_SUMS / READ_STREAMS);
    text_add(o, "  %%o%d = mul i64 %%part, %d\n  %%h%d = add i64 %%at, %%o%d\n", i, stream, i, i);
    text_add(o, "  %%i%d = add i64 %%h%d, %d\n  %%p%d = getelementptr float, ptr %%x, i64 %%i%d\n", i, i,
             vector * lanes, i, i);
    text_add(o, "  %%v%d = load <%d x float>, ptr %%p%d, align %d\n", i, lanes, i, lanes * 4);
    text_add(o, "  %%d%d = fadd <%d x float> %%c%d, %%v%d\n", i, lanes, i, i);
  }
  close_walk(o, READ_SUMS / READ_STREAMS * lanes);
  for (int i = 1; i < READ_SUMS; i++)
    text_add(o, "  %%e%d = fadd <%d x float> %%%c%d, %%d%d\n", i, lanes, i == 1 ? 'd' : 'e', i - 1, i);
  text_add(o, "  store <%d x float> %%e%d, ptr %%y, align %d\n  ret void\n}\n", lanes, READ_SUMS - 1, lanes * 4);
}

/* fence: behind stores around the caches, which x86 does not order by itself; NULL: none. */
static void copy_all(Text *o, const char *name, int lanes, bool around, const char *fence) {
  open_walk(o, name, 1);
  text_add(o, "  br label %%body\nbody:\n  %%at = phi i64 [0, %%turn], [%%next, %%body]\n");
  for (int i = 0; i < COPY_VECTORS; i++) {
    text_add(o, "  %%i%d = add i64 %%at, %d\n  %%p%d = getelementptr float, ptr %%x, i64 %%i%d\n", i, i * lanes, i, i);
    text_add(o, "  %%v%d = load <%d x float>, ptr %%p%d, align %d\n", i, lanes, i, lanes * 4);
  }
  for (int i = 0; i < COPY_VECTORS; i++)
    text_add(o,
             "  %%q%d = getelementptr float, ptr %%y, i64 %%i%d\n  store <%d x float> %%v%d, ptr %%q%d, align %d%s\n",
             i, i, lanes, i, i, lanes * 4, around ? ", !nontemporal !0" : "");
  close_walk(o, COPY_VECTORS * lanes);
  if (fence) text_add(o, "  call void @%s()\n", fence);
  text_add(o, "  ret void\n}\n");
  if (fence) text_add(o, "declare void @%s()\n", fence);
}

static void write_text(Text *o, const Target *t) {
  int lanes = t->lanes, sums = sums_of(t);
  if (!probe_lacks(t, PROBE_BF16))
    dot(o, names[PROBE_BF16], "llvm.x86.avx512bf16.dpbf16ps.512", "<16 x float>", "<32 x bfloat>", "fadd", sums);
  if (!probe_lacks(t, PROBE_INT8)) {
    const char *type = lanes == 16 ? "<16 x i32>" : "<8 x i32>";
    dot(o, names[PROBE_INT8], lanes == 16 ? "llvm.x86.avx512.vpdpbusd.512" : "llvm.x86.avx512.vpdpbusd.256", type, type,
        "add", sums);
  }
  read_all(o, lanes);
  copy_all(o, names[PROBE_COPY], lanes, false, NULL);
  copy_all(o, names[PROBE_COPY_NT], lanes, true, strncmp(t->triple, "x86_64", 6) ? NULL : "llvm.x86.sse.sfence");
  text_add(o, "!0 = !{i32 1}\n");
  text_add(o,
           "attributes #0 = { nounwind \"target-cpu\"=\"%s\" \"target-features\"=\"%s\" \"prefer-vector-width\"=\"%d\" "
           "\"min-legal-vector-width\"=\"%d\" }\n",
           t->cpu, t->features, lanes * 32, lanes * 32);
}

static bool compile_text(Diags *d, const Target *t, const Text *text, Text *object) {
  LLVMTargetMachineRef tm = llvm_machine(t, d);
  if (!tm) return false;
  LLVMContextRef ctx = LLVMContextCreate();
  /* The reader wants the 0 behind the text, which is not counted, and takes the buffer over. */
  LLVMMemoryBufferRef bytes = LLVMCreateMemoryBufferWithMemoryRangeCopy(text->s, text->n, "probes");
  LLVMModuleRef mod = NULL;
  char *err = NULL;
  bool ok = true;
  if (LLVMParseIRInContext(ctx, bytes, &mod, &err)) {
    ok = diag_error(d, (Span){0}, "LLVM refuses the probes: %s", err);
    LLVMDisposeMessage(err);
  } else {
    llvm_set_machine(mod, tm, t);
    ok = llvm_verify(mod, d) && llvm_emit(mod, tm, LLVM_OBJECT, d, object);
    LLVMDisposeModule(mod);
  }
  LLVMContextDispose(ctx);
  LLVMDisposeTargetMachine(tm);
  return ok;
}

bool probes_load(Diags *d, const Target *t, ProbeSet *out) {
  memset(out, 0, sizeof *out);
  Arena *tmp = arena_new();
  KModule *km = kmodule_new(tmp, "peak");
  Lowered low;
  Text text = {0}, object[2] = {{0}};
  write_text(&text, t);
  bool ok = lower_peak(t, km, &low, &out->probe[PROBE_FMA].ops) &&
            llvm_compile(km, t, LLVM_OBJECT, NULL, NULL, 0, d, &object[0]) && compile_text(d, t, &text, &object[1]);
  for (int i = 0; i < 2 && ok; i++) ok = (out->jit[i] = jit_load(d, &object[i])) != NULL;
  for (int i = 0; i < PROBE_COUNT && ok; i++)
    if (!probe_lacks(t, (Probe)i)) {
      out->probe[i].fn = (KernelFn)(uintptr_t)jit_symbol(out->jit[i == PROBE_FMA ? 0 : 1], d, names[i]);
      ok = out->probe[i].fn != NULL;
    }
  double sums = sums_of(t);
  out->probe[PROBE_BF16].ops = 2 * 2 * sums * t->lanes * TURNS;
  out->probe[PROBE_INT8].ops = 2 * 4 * sums * t->lanes * TURNS;
  out->probe[PROBE_READ].bytes = 4;
  out->probe[PROBE_COPY].bytes = out->probe[PROBE_COPY_NT].bytes = 8;
  text_free(&text), text_free(&object[0]), text_free(&object[1]);
  arena_free(tmp);
  if (!ok) probes_free(out);
  return ok;
}

void probes_free(ProbeSet *s) {
  jit_free(s->jit[0]);
  jit_free(s->jit[1]);
  memset(s, 0, sizeof *s);
}
