/* The command line: one Command a subcommand, whose one table of options drives parsing, help and suggestions.
 *
 * Only here are errors printed and exit statuses chosen: 0 done, 1 the input is wrong or the work failed (diagnostics on
 * stderr), 2 the command line is wrong. */
#ifndef INK_CLI_CLI_H
#define INK_CLI_CLI_H
#include "ink/base.h"

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE };

typedef struct Option {
  const char *name; /* "--set", "-o" */
  const char *arg;  /* what follows it, for the help: "KEY=VALUE"; NULL: nothing does */
  bool many;        /* may stand more than once */
  const char *doc;
} Option;

typedef struct Args Args;

typedef struct Command {
  const char *name, *usage; /* usage without "ink NAME " */
  const char *summary;      /* a line of `ink help` */
  const char *doc;          /* paragraphs of `ink help NAME` */
  const Option *options;
  int noptions;
  int operands;        /* how many arguments that are no options */
  bool asks_for;       /* --for must be given: the program's purpose is the user's to say */
  const char *pass_on; /* not NULL: words after the operands that no option knows are kept for this program */
  int (*run)(Args *a);
} Command;

/* A parsed command line; lives in its arena. */
struct Args {
  Arena *arena;
  const Command *command;
  const char *operand[4];
  int noperands;
  struct {
    const Option *option;
    const char *value; /* "" for options without one */
  } * given;
  int ngiven, cap_given;
  const char **rest; /* passed on */
  int nrest, cap_rest;
};

extern const Command cmd_build, cmd_train, cmd_tune, cmd_dump, cmd_diff, cmd_opt, cmd_bisect, cmd_data, cmd_machine,
    cmd_import, cmd_inspect, cmd_serve;
extern const Command *const commands[];
extern const int command_count;

/* ---- args.c. false: an error was printed. */
bool args_parse(Arena *a, const Command *c, int argc, char **argv, Args *out);
const char *args_get(const Args *a, const char *option); /* the last value given, or NULL */
const char *args_at(const Args *a, const char *option,
                    int index); /* of an option that may stand often; NULL past the last */
/* A whole number from 1 to high; `missing` when the option is not there. false: an error was printed. */
bool args_count(const Args *a, const char *option, int64_t high, int64_t missing, int64_t *out);
void help_command(const Command *c);

/* ---- files.c */
void cli_error(const char *fmt, ...) PRINTF(1, 2); /* "ink: ..." on stderr */
/* Prints the diagnostics, if there are any. Returns EXIT_FAILED. */
int cli_diags(const Diags *d);
/* Text to the file, or to stdout when path is NULL. false: an error was printed. */
bool cli_write(const char *path, const char *text, size_t n);
bool cli_make_parents(Arena *a, const char *path); /* folders above path; errno on failure */
const char *cli_bytes(Arena *a, int64_t bytes);    /* "1.5 GiB" */
#endif
