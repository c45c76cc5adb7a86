/* Private to contractions: what the loops (lower_contract.c) and the packing of operands (lower_pack.c) share. */
#ifndef INK_CODEGEN_LOWER_CONTRACT_H
#define INK_CODEGEN_LOWER_CONTRACT_H
#include "codegen/lower_tile.h"
#include "ir/rule.h"

typedef struct Operand {
  Val v;
  Space s;
  Cursor c;
} Operand;

typedef struct Letters { /* merged runs of letters of one class, outermost first */
  int n;
  char first[MAX_RANK];
  Dim dim[MAX_RANK][MAX_RANK];
  int ndim[MAX_RANK];
} Letters;

typedef struct Contract {
  Lower *lo;
  Kernel *k;
  const Node *node;
  Rule rule; /* after a possible swap: a has M, b has N */
  Operand a, b;
  Space out;
  Cursor oc;
  Letters M, N, K, batch;
  KV m, n, kk;            /* extents: all of M, last run of N, all of K */
  KV outer[2 * MAX_RANK]; /* indices of batch runs, then of N runs but the one along the lanes */
  int mr, nv, lanes, nr, mc, nc, mb, kc;
  int columns;    /* the run of N that is walked along the lanes; -1: none, a tile has one column */
  bool one_run;   /* all of K is one run of KC: C is a single tile */
  DType dt;       /* of the operands */
  int group;      /* k in a step: 2 for operands of bf16, 4 of i8, else 1 */
  bool odd;       /* the last step may have less */
  int A, B, C, T; /* scratch; B the weight's buffer where it is packed */
  int S;          /* scratch: of i8, by row of the block of A: what is to be taken off */
  bool packed;    /* B is, as panels of nr columns */
  bool a_ready;   /* all of A is, before the loops over columns */
} Contract;

KV contract_extent(Kernel *k, const Letters *l, int run);
/* Sets the cursor's index of the group that starts with a letter; of all runs of a class, from a flat index; of the loops outside. */
void contract_index(Cursor *c, const char *letters, int n, char first, KV x);
void contract_flat(Kernel *k, Cursor *c, const char *letters, int n, const Letters *l, KV flat);
void contract_outer(Contract *w, Cursor *c, const char *letters, int n);
KV contract_panels(Kernel *k, KV n, int r);        /* of r that hold n */
KV contract_steps(const Contract *w, KV k0, KV k); /* from k0 to k: of pairs or quads where operands are narrow */

/* ---- lower_pack.c: a block of an operand into scratch, in panels. */
typedef struct Pack {
  Contract *w;
  Operand *o;
  const char *letters;
  int nletters;
  bool is_b;
  KV x0, x1; /* rows (of A) or columns (of B) of the block */
  KV k0, k1;
  int buf, r; /* panel width */
} Pack;
void contract_pack(Pack *p);
void contract_sum_rows(Contract *w, KV rows, KV depth); /* of packed A, where bytes are multiplied: what dpbusd needs */
#endif
