/* The commands of an artifact: `ARTIFACT COMMAND [options]`. One table of commands (main.c), and in each command's file one table
 * of its options, which reads them, checks their bounds and prints the help.
 *
 * Results go to standard output, all else to standard error. Exit status: 0 done, 1 failed, 2 the command line is wrong,
 * 130 stopped by Ctrl-C. */
#ifndef ARTIFACT_COMMAND_H
#define ARTIFACT_COMMAND_H
#include "ink/base.h"
#include "ink/program.h"
#include "runtime/report.h"

enum { STATUS_DONE, STATUS_FAILED, STATUS_USAGE, STATUS_STOPPED = 130 };

typedef enum { OPT_FLAG, OPT_TEXT, OPT_INT, OPT_NUM, OPT_LIST } OptKind;

enum { TEXTS = 64 };
typedef struct TextList { /* OPT_LIST: may be given often */
  const char *v[TEXTS];
  int n;
} TextList;

/* A row of a command's table: the value goes to `at` in the command's own struct: bool, const char *, int, double, TextList. What
 * stands there before is the default. */
typedef struct Opt {
  const char *name, *value; /* "--top-k"; what follows it, for the help */
  OptKind kind;
  size_t at;
  double low, high; /* of INT and NUM */
  const char *doc;
} Opt;

typedef struct CommandInfo CommandInfo;

/* What a command is given: the artifact's own file and program, and the words behind its name. */
typedef struct Call {
  const char *self; /* as it was started, for messages */
  const char *path; /* of the artifact */
  const unsigned char *blob;
  const KernelFn *kernels;
  const CommandInfo *info;
  int argc;
  char **argv;
} Call;

struct CommandInfo {
  const char *name, *usage, *summary; /* usage without "ARTIFACT NAME " */
  const char *doc;                    /* paragraphs of its help */
  const Opt *opts;
  int nopts;
  int operands; /* words that are no options, exactly so many */
  int (*run)(const Call *c);
  void (*help)(Text *out); /* further options; NULL: none */
};

extern const CommandInfo command_generate, command_chat, command_eval, command_batch, command_bench, command_serve,
    command_weights;
extern const CommandInfo *const command_table[];
extern const int command_count;

/* ---- options.c */
/* Reads argv by the table into `into`; operand[]: c->info->operands words. other: asked about options that the table does not have,
 * without their dashes: 1 taken, 0 unknown, -1 wrong, with a message; NULL: there are none. */
bool options_read(const Call *c, void *into, const char **operand,
                  int (*other)(void *into, const char *name, const char *value, Report *err), Report *err);
void command_help(const char *self, const CommandInfo *c, Text *out);

/* ---- say.c */
/* Prints the report's lines on standard error, each with the words before it, and empties it. */
void say(const char *before, Report *r);
/* Prints what is wrong, empties the report. Returns the status. */
int fail(Report *err, int status);
/* Ctrl-C: asked for since interrupts_catch. The second one ends the process. */
void interrupts_catch(void);
bool interrupted(void);
void interrupts_clear(void);

extern const char artifact_licenses[]; /* licenses.c: beside runtime/licenses.c */
#endif
