/* A compiled program as the runtime sees it: the blob of ink/program.h, opened and checked once.
 *
 * program_open() checks magic, version, every table and every index in it, so the rest of the runtime indexes without
 * checks. The Program borrows the blob: it must outlive it. */
#ifndef RT_PROGRAM_H
#define RT_PROGRAM_H
#include "ink/program.h"
#include "runtime/report.h"

typedef struct Program {
  const unsigned char *blob;
  const ProgramHeader *h;
  const KernelFn *kernels;
  const ProgramBuffer *buffers;
  const ProgramParam *params;
  const ProgramPiece *pieces;
  const ProgramKernel *kernel_info;
  const ProgramStep *steps;
  const ProgramArg *args;
  const ProgramInt *ints;
  const ProgramList *lists;
  const ProgramSymbol *symbols;
  const ProgramSetting *settings;
  const ProgramFile *files;
  const ProgramPlace *places;
  int nbuffers, nparams, npieces, nkernels, nsteps, nargs, nints, nlists, nsymbols, nsettings, nfiles, nplaces;
} Program;

bool program_open(Program *p, const unsigned char *blob, const KernelFn *kernels, Report *err);
const char *program_string(const Program *p, uint32_t at); /* "" for 0 */
int program_buffer(const Program *p, const char *name);    /* index, or -1 */
int program_source(const Program *p, const char *source);  /* first DATA buffer fed by it, or -1 */
int program_list(const Program *p, const char *name);      /* index, or -1 */
int64_t buffer_elements(const ProgramBuffer *b);
int dtype_size(int dtype); /* 0 for a code that program.h does not name */
const char *dtype_text(int dtype);

enum { DTYPE_F32, DTYPE_BF16, DTYPE_F64, DTYPE_I32, DTYPE_I8, DTYPE_F8E4M3 }; /* as in ink/program.h */
#endif
