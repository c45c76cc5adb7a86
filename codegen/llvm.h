/* Private to the LLVM back end: one module under construction. */
#ifndef INK_CODEGEN_LLVM_H
#define INK_CODEGEN_LLVM_H
#include "codegen/codegen.h"
#include <llvm-c/Core.h>
#include <llvm-c/DebugInfo.h>
#include <llvm-c/TargetMachine.h>

typedef struct Llvm {
  LLVMContextRef ctx;
  LLVMModuleRef mod;
  LLVMBuilderRef b;
  LLVMDIBuilderRef di;
  LLVMMetadataRef cu;
  const Target *target;
  LLVMTypeRef f32, bf16, i1, i8, i16, i32, i64, ptr, nothing;
  LLVMTypeRef kernel_type; /* KernelFn of include/ink/program.h */
} Llvm;

/* Emits one kernel as an internal function (llvm_kernel.c). */
LLVMValueRef llvm_kernel(Llvm *l, const Kernel *k);

/* Steps of llvm_compile() for any module (llvm.c): LLVM's machine of a target (NULL after errors), which the caller disposes of;
 * the module made one of that machine's; its check; its object file or text, appended to out. */
LLVMTargetMachineRef llvm_machine(const Target *t, Diags *d);
void llvm_set_machine(LLVMModuleRef mod, LLVMTargetMachineRef tm, const Target *t);
bool llvm_verify(LLVMModuleRef mod, Diags *d);
bool llvm_emit(LLVMModuleRef mod, LLVMTargetMachineRef tm, LlvmOutput kind, Diags *d, Text *out);
#endif
