/* Object files into this process: the linker half of LLVM's ORC, without files or a C compiler.
 *
 * Used where a compiled program is run by the process that compiled it: the C API's programs in memory, `ink bisect`, tests of
 * random programs. What they run is the object file that a build would link, byte for byte.
 * Must hold: an object refers to nothing but itself and what the C library has (memcpy, memset). */
#include "codegen/jit.h"
#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <stdlib.h>

struct Jit {
  LLVMOrcLLJITRef lljit;
};

static bool failed(Diags *d, const char *what, LLVMErrorRef e) {
  char *text = LLVMGetErrorMessage(e);
  diag_error(d, (Span){0}, "%s: %s", what, text);
  LLVMDisposeErrorMessage(text);
  return false;
}

static bool load(Jit *j, Diags *d, const Text *object) {
  LLVMErrorRef e = LLVMOrcCreateLLJIT(&j->lljit, NULL);
  if (e) return failed(d, "no linker for machine code in memory", e);
  LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(j->lljit);
  LLVMOrcDefinitionGeneratorRef process;
  e = LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(&process, LLVMOrcLLJITGetGlobalPrefix(j->lljit), NULL, NULL);
  if (e) return failed(d, "no symbols of this process", e);
  LLVMOrcJITDylibAddGenerator(lib, process);
  LLVMMemoryBufferRef bytes = LLVMCreateMemoryBufferWithMemoryRangeCopy(object->s, object->n, "program");
  e = LLVMOrcLLJITAddObjectFile(j->lljit, lib, bytes);
  return e ? failed(d, "the object file does not load", e) : true;
}

Jit *jit_load(Diags *d, const Text *object) {
  Jit *j = calloc(1, sizeof *j);
  if (!j) {
    diag_error(d, (Span){0}, "out of memory");
    return NULL;
  }
  if (load(j, d, object)) return j;
  jit_free(j);
  return NULL;
}

void *jit_symbol(Jit *j, Diags *d, const char *name) {
  LLVMOrcExecutorAddress at = 0;
  LLVMErrorRef e = LLVMOrcLLJITLookup(j->lljit, &at, name);
  if (e) failed(d, name, e);
  return e ? NULL : (void *)(uintptr_t)at;
}

void jit_free(Jit *j) {
  if (!j) return;
  if (j->lljit) LLVMConsumeError(LLVMOrcDisposeLLJIT(j->lljit));
  free(j);
}
