/* Index rules of contractions: "btd,hed->bthe". One parser for the verifier, the evaluator, autodiff, cost and lowering.
 *
 * Letters a to z, each at most once per operand and in the result; letters in both operands and not in the result are
 * summed. Refused: a letter of the result that no operand has, and a letter that stands in one operand alone and not
 * in the result (that is a sum, written as one). */
#ifndef INK_IR_RULE_H
#define INK_IR_RULE_H
#include "ir/type.h"

enum { CHAIN = 4096 }; /* products or terms after which a chain starts again (docs/numerics.md) */

typedef struct Rule {
  int na, nb, no; /* letters of the operands and of the result */
  char a[MAX_RANK], b[MAX_RANK], out[MAX_RANK];
} Rule;

/* On an error returns false and points *err at a constant text. */
bool rule_parse(const char *text, Rule *r, const char **err);
/* Index of c among n letters, or -1. */
int rule_find(const char *letters, int n, char c);
/* Is c summed: in both operands and not in the result. */
bool rule_summed(const Rule *r, char c);
/* The text of a rule: a, b, out may be rearranged (autodiff turns a rule around). Room: 3 * MAX_RANK + 4. */
void rule_text(const Rule *r, char *out);
#endif
