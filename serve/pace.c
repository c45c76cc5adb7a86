/* The fit: normal equations of three unknowns, solved by coordinate descent, which keeps them from being negative and does not mind
 * that steps may all have had the same number of decodes. */
#include "serve/pace.h"
#include <string.h>

enum { FIRST = 16, ROUNDS = 200, UNKNOWNS = 3, ALL = 2 * PACE_STEPS };

void pace_note(Pace *p, int decodes, int prompt, double ms) {
  if (!(ms > 0)) return;
  PaceStep s = {decodes, prompt, ms};
  if (prompt)
    p->mixed[p->nmixed++ % PACE_STEPS] = s;
  else
    p->plain[p->nplain++ % PACE_STEPS] = s;
}

static double fitted(const double k[UNKNOWNS], const PaceStep *s) {
  return k[0] + k[1] * s->decodes + k[2] * s->prompt;
}

static void fit(const PaceStep *steps, int n, double k[UNKNOWNS]) {
  double m[UNKNOWNS][UNKNOWNS] = {{0}}, v[UNKNOWNS] = {0};
  for (int i = 0; i < n; i++) {
    double x[UNKNOWNS] = {1, steps[i].decodes, steps[i].prompt}, w = 1 / (steps[i].ms * steps[i].ms);
    for (int a = 0; a < UNKNOWNS; a++) {
      v[a] += w * x[a] * steps[i].ms;
      for (int b = 0; b < UNKNOWNS; b++) m[a][b] += w * x[a] * x[b];
    }
  }
  for (int round = 0; round < ROUNDS; round++)
    for (int a = UNKNOWNS - 1; a >= 0; a--) {
      double left = v[a];
      for (int b = 0; b < UNKNOWNS; b++)
        if (b != a) left -= m[a][b] * k[b];
      k[a] = m[a][a] > 0 && left > 0 ? left / m[a][a] : 0;
    }
}

/* The third largest ratio of measured to fitted time; while steps are few, the second or the largest. */
static double margin_of(const double k[UNKNOWNS], const PaceStep *s, int n) {
  double top[3] = {1, 1, 1};
  for (int i = 0; i < n; i++) {
    double r = fitted(k, &s[i]) > 0 ? s[i].ms / fitted(k, &s[i]) : 1;
    for (int j = 0; j < 3; j++)
      if (r > top[j]) {
        double t = top[j];
        top[j] = r;
        r = t;
      }
  }
  double m = top[n > 8 ? 2 : n > 4 ? 1 : 0];
  return m < 3 ? m : 3;
}

int pace_room(const Pace *p, int decodes, double bound, int most) {
  int mixed = p->nmixed < PACE_STEPS ? (int)p->nmixed : PACE_STEPS;
  int plain = p->nplain < PACE_STEPS ? (int)p->nplain : PACE_STEPS, n = mixed + plain;
  if (!mixed) return most < FIRST ? most : FIRST;
  PaceStep steps[ALL];
  memcpy(steps, p->mixed, sizeof(*steps) * (size_t)mixed);
  memcpy(steps + mixed, p->plain, sizeof(*steps) * (size_t)plain);
  double k[UNKNOWNS] = {0}, largest = FIRST / 2;
  fit(steps, n, k);
  for (int i = 0; i < mixed; i++)
    if (steps[i].prompt > largest) largest = steps[i].prompt;
  double alone = k[0] + k[1] * decodes, margin = margin_of(k, steps, mixed);
  double aim = bound * (1 - 1. / 12) / margin;
  if (aim < 1.25 * alone) aim = 1.25 * alone;
  double room = 2 * largest;
  if (k[2] > 0 && (aim - alone) / k[2] < room) room = (aim - alone) / k[2];
  return room < 1 ? 1 : room > most ? most : (int)room;
}
