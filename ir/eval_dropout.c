/* dropout of the evaluator. Whether an element stays is a comparison of whole numbers, so both modes drop the same ones. */
#include "ink/philox.h"
#include "ir/eval_inner.h"

#include <math.h>

uint32_t dropout_limit(double rate) {
  double x = nearbyint(rate * 0x1p32);
  return x >= 0x1p32 ? UINT32_MAX : (uint32_t)x;
}

bool eval_dropout(Eval *e) {
  double rate = node_attr(e->n, "rate")->num;
  uint32_t limit = dropout_limit(rate), key[2], stream;
  for (int i = 0; i < 2; i++) key[i] = (uint32_t)((const int32_t *)e->arg[1 + i].data)[0];
  stream = (uint32_t)((const int32_t *)e->arg[3].data)[0];
  uint64_t seed = (uint64_t)key[1] << 32 | key[0];
  int64_t n = type_elements(e->out->type);
  float scale = (float)(1 / (1 - rate));
  for (int64_t i = 0; i < n; i++) {
    if (philox(seed, stream, (uint64_t)i).v[0] < limit)
      tensor_set(e->out, e->mode, i, 0);
    else if (e->mode == EVAL_EXACT)
      ((float *)e->out->data)[i] = ((const float *)e->arg[0].data)[i] * scale;
    else
      ((double *)e->out->data)[i] = ((const double *)e->arg[0].data)[i] / (1 - rate);
  }
  return true;
}
