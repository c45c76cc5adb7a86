/* Small expression language, one parser for all of its uses: op rows and their derivatives (ops.def), math functions
 * (math.def), build-time tables and initialisers, integer dims of the model language.
 *
 *   expr := cond ('?' expr ':' expr)?    cond := sum (('<'|'>'|'<='|'>='|'==') sum)?
 *   sum := prod (('+'|'-') prod)*        prod := unary (('*'|'/'|'%') unary)*      unary := '-' unary | power
 *   power := atom ('^' unary)?           atom := number | name | name '(' expr, ... ')' | '(' expr ')'
 *
 * A parsed expression is a postorder array: the operands of step i are earlier steps; the last step is the value. Equal
 * steps are one step, so an expression is a DAG.
 *
 * Steps in f32, which the exact evaluator and the kernels share to the bit (each literal is rounded to f32 once):
 *   + - * / sqrt fma    IEEE, to nearest even; fma rounds once             abs, unary -   the sign bit alone
 *   < > <= >= ==        1. or 0.; 0. where an operand is NaN               c ? a : b      a where c != 0. (NaN counts), else b
 *   round, floor        to an integral value: ties to even (rint); down
 *   pow2(a)             bits(a + 12582912.) as i32, - 0x4B400000, + 127, << 23, as f32: 2^a for an integral a in [-126, 127];
 *                       anything else gives some bits and no trap (arithmetic wraps)
 *   exponent(a)         ((bits(a) >> 23) & 255) - 127, converted to f32
 *   mantissa(a)         (bits(a) & 0x007fffff) | 0x3f800000, as f32 */
#ifndef INK_IR_EXPR_H
#define INK_IR_EXPR_H
#include "ink/base.h"

typedef enum ExprOp {
  EX_NUM,
  EX_VAR, /* leaf: a literal; a variable by its index in the caller's name list */
  EX_ADD,
  EX_SUB,
  EX_MUL,
  EX_DIV,
  EX_MOD,
  EX_POW,
  EX_NEG,
  EX_LT,
  EX_GT,
  EX_LE,
  EX_GE,
  EX_EQ,
  EX_SELECT, /* args: c, a, b */
  EX_SQRT,
  EX_ABS,
  EX_FMA,
  EX_ROUND,
  EX_FLOOR, /* exactly rounded IEEE operations; ROUND to nearest even */
  EX_POW2,  /* 2^a for an integral a in [-126, 127], by its bits */
  EX_EXPONENT,
  EX_MANTISSA, /* a = mantissa * 2^exponent, mantissa in [1, 2), for finite normal a > 0; by bits */
  EX_CALL,     /* a function of math.def (exp, log, tanh, erf), or sin, cos, floor, ... in build-time expressions */
} ExprOp;

typedef enum MathFn {
#define FN(name, ...) FN_##name,
#include "ir/math.def"
  FN_sin,
  FN_cos,
  FN_COUNT /* sin and cos: build time only */
} MathFn;

typedef struct ExprStep {
  ExprOp op;
  int arg[3];   /* earlier steps */
  int n;        /* EX_VAR: index of the name; EX_CALL: MathFn */
  double num;   /* EX_NUM */
  uint32_t col; /* byte offset in the text, for diagnostics */
} ExprStep;

typedef struct Expr {
  ExprStep *step;
  int n;
} Expr;

enum { EXPR_MAX_STEPS = 1024 }; /* a longer text is refused */
int expr_arity(ExprOp op);      /* operands of a step: how many of arg[] count */

/* Names are matched against vars[nvars]. On an error returns false, with *err_col (byte offset) and *err (text) set. */
bool expr_parse(Arena *a, const char *text, const char *const *vars, int nvars, Expr *out, uint32_t *err_col,
                const char **err);

/* In double, functions by libm. */
double expr_eval(const Expr *e, const double *vars);
double expr_step(const ExprStep *s, double a, double b, double c); /* one step other than EX_VAR, from its operands */

/* With every EX_CALL replaced by its body from math.def: only exactly rounded steps remain, so float evaluation step by
 * step is the kernel's own arithmetic. Cached; the result lives for the process. */
const Expr *expr_exact(const char *text, const char *const *vars, int nvars);
/* The plain parse of a table text (ops.def), cached likewise; aborts if the text is wrong, for it is ours. */
const Expr *expr_table(const char *text, const char *const *vars, int nvars);
#endif
