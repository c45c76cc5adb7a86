/* How long a step takes, learned from steps: so that prompts get as much of one as a bound on its time leaves.
 *
 * The model is ms = a + b decodes + c prompt tokens, none of them negative, fitted to the latest 32 steps with prompt tokens and the
 * latest 32 without, by least squares of relative errors: so a step that took many times as long (another program had the
 * machine) counts little. What is left of error is a margin: the third largest of the latest 32 ratios of measured to
 * fitted. Between the tokens of two steps stands more than a step, and later prompt tokens look back further than the ones measured:
 * a twelfth of the bound is left for that. */
#ifndef SERVE_PACE_H
#define SERVE_PACE_H

enum { PACE_STEPS = 32 };

typedef struct PaceStep {
  double decodes, prompt, ms;
} PaceStep;

/* Zeroed: nothing is known yet. */
typedef struct Pace {
  PaceStep mixed[PACE_STEPS], plain[PACE_STEPS];
  unsigned nmixed, nplain; /* steps noted in all; the latest are kept */
} Pace;

void pace_note(Pace *p, int decodes, int prompt, double ms);

/* Prompt tokens, 1 to most, that a step with so many decodes may take and stay below bound ms. Where the decodes alone come near
 * the bound or over it, prompts may make the step a quarter longer than it is without them: they never stand still. Before
 * anything is known 16; never more than twice what was measured. */
int pace_room(const Pace *p, int decodes, double bound, int most);
#endif
