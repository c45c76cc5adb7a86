/* A model's YAML from bytes that choose: the grammar fuzzer gives those that libFuzzer makes, tests/random pseudo-random ones. */
#ifndef INK_TESTS_FUZZ_GRAMMAR_H
#define INK_TESTS_FUZZ_GRAMMAR_H
#include "ink/base.h"

void grammar_model(const uint8_t *data, size_t size, Text *out);
#endif
