/* One LLVM module a program: all kernels, the program blob and the table of kernels, to an object file or to text.
 *
 * The pass list is short because Kernel IR is already in its final shape: unify (early-cse), hoist what loops repeat
 * (licm), tidy (instcombine); everything machine-dependent happens in the code generator. */
#include "codegen/llvm.h"
#include "ink/program.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <string.h>

static const char passes[] = "function(early-cse<memssa>,instcombine<no-verify-fixpoint>,loop-mssa(licm),early-cse)";

static void llvm_open(Llvm *l, const Target *t, const char *name) {
  l->target = t;
  l->ctx = LLVMContextCreate();
  l->mod = LLVMModuleCreateWithNameInContext(name, l->ctx);
  l->b = LLVMCreateBuilderInContext(l->ctx);
  l->di = LLVMCreateDIBuilder(l->mod);
  l->f32 = LLVMFloatTypeInContext(l->ctx);
  l->bf16 = LLVMBFloatTypeInContext(l->ctx);
  l->i1 = LLVMInt1TypeInContext(l->ctx);
  l->i8 = LLVMInt8TypeInContext(l->ctx);
  l->i16 = LLVMInt16TypeInContext(l->ctx);
  l->i32 = LLVMInt32TypeInContext(l->ctx);
  l->i64 = LLVMInt64TypeInContext(l->ctx);
  l->ptr = LLVMPointerTypeInContext(l->ctx, 0);
  l->nothing = LLVMVoidTypeInContext(l->ctx);
  l->kernel_type = LLVMFunctionType(l->nothing, (LLVMTypeRef[]){l->ptr, l->ptr, l->i64, l->i64, l->ptr, l->ptr}, 6, 0);
  LLVMMetadataRef file = LLVMDIBuilderCreateFile(l->di, name, strlen(name), "", 0);
  l->cu = LLVMDIBuilderCreateCompileUnit(l->di, LLVMDWARFSourceLanguageC99, file, "ink " INK_VERSION,
                                         strlen("ink " INK_VERSION), 1, "", 0, 0, "", 0, LLVMDWARFEmissionFull, 0, 0, 0,
                                         "", 0, "", 0);
  LLVMAddModuleFlag(l->mod, LLVMModuleFlagBehaviorWarning, "Debug Info Version", 18,
                    LLVMValueAsMetadata(LLVMConstInt(l->i32, LLVMDebugMetadataVersion(), 0)));
  LLVMAddModuleFlag(l->mod, LLVMModuleFlagBehaviorWarning, "Dwarf Version", 13,
                    LLVMValueAsMetadata(LLVMConstInt(l->i32, 4, 0)));
}

static void llvm_close(Llvm *l) {
  LLVMDisposeDIBuilder(l->di);
  LLVMDisposeBuilder(l->b);
  LLVMDisposeModule(l->mod);
  LLVMContextDispose(l->ctx);
}

static void emit_globals(Llvm *l, LLVMValueRef *fn, int n, const void *blob, size_t nblob) {
  LLVMValueRef bytes = LLVMConstStringInContext(l->ctx, blob, (unsigned)nblob, 1);
  LLVMValueRef g = LLVMAddGlobal(l->mod, LLVMTypeOf(bytes), "ink_program");
  LLVMSetInitializer(g, bytes);
  LLVMSetGlobalConstant(g, 1);
  LLVMSetAlignment(g, 64);
  LLVMValueRef table = LLVMConstArray(l->ptr, fn, (unsigned)n);
  g = LLVMAddGlobal(l->mod, LLVMTypeOf(table), "ink_kernels");
  LLVMSetInitializer(g, table);
  LLVMSetGlobalConstant(g, 1);
}

LLVMTargetMachineRef llvm_machine(const Target *t, Diags *d) {
  LLVMTargetRef ref;
  char *err = NULL;
  if (LLVMGetTargetFromTriple(t->triple, &ref, &err)) {
    diag_error(d, (Span){0}, "target %s: %s", t->name, err);
    LLVMDisposeMessage(err);
    return NULL;
  }
  return LLVMCreateTargetMachine(ref, t->triple, t->cpu, t->features, LLVMCodeGenLevelDefault, LLVMRelocPIC,
                                 LLVMCodeModelDefault);
}

void llvm_set_machine(LLVMModuleRef mod, LLVMTargetMachineRef tm, const Target *t) {
  LLVMSetTarget(mod, t->triple);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(tm);
  LLVMSetModuleDataLayout(mod, layout);
  LLVMDisposeTargetData(layout);
}

bool llvm_verify(LLVMModuleRef mod, Diags *d) {
  char *err = NULL;
  bool ok = !LLVMVerifyModule(mod, LLVMReturnStatusAction, &err);
  if (!ok) diag_error(d, (Span){0}, "LLVM refuses the module: %s", err);
  LLVMDisposeMessage(err);
  return ok;
}

bool llvm_emit(LLVMModuleRef mod, LLVMTargetMachineRef tm, LlvmOutput kind, Diags *d, Text *out) {
  char *err = NULL;
  if (kind == LLVM_TEXT) {
    char *text = LLVMPrintModuleToString(mod);
    text_write(out, text, strlen(text));
    LLVMDisposeMessage(text);
    return true;
  }
  LLVMMemoryBufferRef mb;
  if (LLVMTargetMachineEmitToMemoryBuffer(tm, mod, kind == LLVM_OBJECT ? LLVMObjectFile : LLVMAssemblyFile, &err,
                                          &mb)) {
    diag_error(d, (Span){0}, "LLVM code generation: %s", err);
    LLVMDisposeMessage(err);
    return false;
  }
  text_write(out, LLVMGetBufferStart(mb), LLVMGetBufferSize(mb));
  LLVMDisposeMemoryBuffer(mb);
  return true;
}

bool llvm_compile(const KModule *km, const Target *t, LlvmOutput kind, const char *kernel, const void *blob,
                  size_t nblob, Diags *d, Text *out) {
  LLVMTargetMachineRef tm = llvm_machine(t, d);
  if (!tm) return false;
  Llvm l = {0};
  llvm_open(&l, t, km->name);
  llvm_set_machine(l.mod, tm, t);

  Arena *tmp = arena_new();
  LLVMValueRef *fn = NEW_ARRAY(tmp, LLVMValueRef, km->n + 1);
  for (int i = 0; i < km->n; i++)
    if (!kernel || !strcmp(kernel, km->kernels[i]->name)) {
      fn[i] = llvm_kernel(&l, km->kernels[i]);
      if (!blob) LLVMSetLinkage(fn[i], LLVMExternalLinkage);
    }
  if (blob) emit_globals(&l, fn, km->n, blob, nblob);
  arena_free(tmp);
  LLVMDIBuilderFinalize(l.di);

  bool ok = llvm_verify(l.mod, d);
  if (ok) {
    LLVMPassBuilderOptionsRef po = LLVMCreatePassBuilderOptions();
    LLVMErrorRef e = LLVMRunPasses(l.mod, passes, tm, po);
    LLVMDisposePassBuilderOptions(po);
    if (e) {
      char *msg = LLVMGetErrorMessage(e);
      ok = diag_error(d, (Span){0}, "LLVM passes: %s", msg);
      LLVMDisposeErrorMessage(msg);
    }
  }
  ok = ok && llvm_emit(l.mod, tm, kind, d, out);
  LLVMDisposeTargetMachine(tm);
  llvm_close(&l);
  return ok;
}
