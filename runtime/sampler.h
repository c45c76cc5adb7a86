/* Text from a model in training: the program's `sample` list, one token at a time. */
#ifndef RT_SAMPLER_H
#define RT_SAMPLER_H
#include "runtime/detokenize.h"
#include "runtime/inkrt.h"

bool sampler_possible(const Program *p);
/* Writes n tokens of text to out. The same weights and seed give the same text. names: NULL writes ids. */
bool sampler_run(Engine *e, const Detokenizer *names, int n, double temperature, uint64_t seed, FILE *out, Report *err);
#endif
