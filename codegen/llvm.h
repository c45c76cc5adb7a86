/* Private to the LLVM back end: one module under construction. */
#ifndef INK_CODEGEN_LLVM_H
#define INK_CODEGEN_LLVM_H
#include "ir/kir.h"
#include "ir/target.h"
#include <llvm-c/Core.h>
#include <llvm-c/DebugInfo.h>

typedef struct Llvm {
  LLVMContextRef ctx;
  LLVMModuleRef mod;
  LLVMBuilderRef b;
  LLVMDIBuilderRef di;
  LLVMMetadataRef cu;
  const Target *target;
  LLVMTypeRef f32, i1, i8, i16, i32, i64, ptr, nothing;
  LLVMTypeRef kernel_type; /* KernelFn of include/ink/program.h */
} Llvm;

/* Emits one kernel as an internal function (llvm_kernel.c). */
LLVMValueRef llvm_kernel(Llvm *l, const Kernel *k);
#endif
