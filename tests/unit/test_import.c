/* config.json to a model file: every family's keys in their spellings, what is absent, what is refused and how it is said, and
 * that a config.json that we write is read as the model that wrote it. */
#include "frontend/frontend.h"
#include "frontend/import.h"
#include "ir/eval.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static Arena *a;
static Diags *d;
static void setup(void) {
  a = arena_new();
  d = diags_new(a);
}
static void teardown(void) {
  arena_free(a);
}
TestSuite(import, .init = setup, .fini = teardown);

static const char *rendered(void) {
  Text t = {0};
  diags_render(d, &t);
  const char *s = arena_strdup(a, t.n ? t.s : "");
  text_free(&t);
  return s;
}

static bool try(const char *config, const char *generation, Import *out) {
  ImportSource src = {.models = "models", .name = "a name", .weights = "/some/where"};
  src.config = diags_source(d, "config.json", config, strlen(config));
  if (generation) src.generation = diags_source(d, "generation_config.json", generation, strlen(generation));
  return import_config(a, d, &src, out);
}

/* Imported without a complaint, and the model that came of it. */
static Model *import(const char *config, const char *generation, Import *out) {
  cr_assert(try(config, generation, out), "%s\n%s", config, rendered());
  Model *m = model_load(a, d, "model.yaml", &(ModelOptions){.batch = 1, .models = "models", .text = out->text});
  cr_assert(m != NULL, "%s\n%s", out->text, rendered());
  return m;
}

static void has(const char *text, const char *part) {
  cr_assert(strstr(text, part) != NULL, "no \"%s\" in\n%s", part, text);
}

/* The config.json is refused, with this among the words. */
static void refused(const char *config, const char *words) {
  Import out;
  d = diags_new(a);
  cr_assert(not(try(config, NULL, &out)), "%s\n%s", config, out.text);
  has(rendered(), words);
}

#define SIZES                                                                                                          \
  "\"vocab_size\": 64, \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "                    \
  "\"intermediate_size\": 48, \"max_position_embeddings\": 128"
#define LLAMA "{\"architectures\": [\"LlamaForCausalLM\"], " SIZES

Test(import, absent_keys_have_the_published_meaning) {
  Import out;
  Model *m = import(LLAMA "}", NULL, &out);
  cr_assert(eq(str, (char *)out.base, "llama.yaml"));
  cr_assert(eq(str, (char *)m->name, "a-name"));
  cr_assert(eq(str, (char *)m->weights, "/some/where"));
  cr_assert(eq(int, out.nunmapped, 0));
  has(m->config_json, "\"num_key_value_heads\": 4");
  has(m->config_json, "\"head_dim\": 8");
  has(m->config_json, "\"rms_norm_eps\": 1e-06");
  has(m->config_json, "\"rope_theta\": 10000");
  has(m->config_json, "\"tie_word_embeddings\": false");
  has(m->config_json, "\"rope_type\": \"default\"");
  cr_assert(strstr(m->config_json, "rope_scaling") == NULL);
  cr_assert(strstr(m->config_json, "bos_token_id") == NULL, "the model's own, which the file does not give");
  cr_assert(m->generation_config_json == NULL);
  has(m->effective, "lm_head.weight");
  cr_assert(strstr(m->effective, "/some/where") == NULL, "where the weights lie says nothing of the model");
  cr_assert(eq(int, m->nparams, 3 + 2 * 9), "an untied head, no biases");
}

Test(import, values_and_null) {
  Import out;
  Model *m = import(
      LLAMA ", \"num_key_value_heads\": 2, \"head_dim\": null, \"rope_scaling\": null, \"rms_norm_eps\": 1e-5, "
            "\"tie_word_embeddings\": true, \"attention_bias\": true, \"mlp_bias\": true, \"eos_token_id\": [7, 9], "
            "\"torch_dtype\": \"bfloat16\", \"attention_dropout\": 0.0, \"pad_token_id\": -1}",
      "{\"eos_token_id\": [7, 9], \"temperature\": 0.6, \"do_sample\": true, \"transformers_version\": \"5\"}", &out);
  cr_assert(eq(int, out.nunmapped, 0));
  cr_assert(eq(int, m->nparams, 2 + 2 * (9 + 4 + 3)));
  has(m->config_json, "\"num_key_value_heads\": 2");
  has(m->config_json, "\"attention_bias\": true");
  has(m->config_json, "\"eos_token_id\": [\n    7,\n    9\n  ]");
  has(m->config_json, "\"attention_dropout\": 0.0");
  has(m->config_json, "\"torch_dtype\": \"float32\"");
  cr_assert(eq(str, (char *)m->generation_config_json,
               "{\n  \"eos_token_id\": [\n    7,\n    9\n  ],\n  \"temperature\": 0.6,\n  \"do_sample\": true\n}\n"));
}

/* All spellings of one scaling are one model. */
Test(import, rope_spellings) {
  static const char *const spelled[] = {
      LLAMA ", \"rope_theta\": 5e5, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}",
      LLAMA
      ", \"rope_theta\": 500000, \"rope_scaling\": {\"rope_type\": \"linear\", \"type\": \"linear\", \"factor\": 4.0}}",
      LLAMA ", \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 4.0, \"rope_theta\": 500000.0}}",
      LLAMA ", \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 4.0}, "
            "\"rope_parameters\": "
            "{\"rope_type\": \"linear\", \"factor\": 4.0, \"rope_theta\": 500000.0}}"};
  Import out;
  const char *first = NULL;
  for (int i = 0; i < LEN(spelled); i++) {
    Model *m = import(spelled[i], NULL, &out);
    if (!first) first = m->config_json;
    cr_assert(eq(str, (char *)m->config_json, (char *)first), "%s", spelled[i]);
    cr_assert(eq(int, out.nunmapped, 0));
  }
  has(first, "\"factor\": 4");
  has(first, "\"rope_type\": \"linear\"");
}

/* What a model writes is read as the model: the same config.json again, and the same graph. */
Test(import, written_and_read) {
  static const struct {
    const char *path, *set[4];
  } all[] = {{"models/gpt2.yaml", {"consts.tied=0", "consts.dropout=0.25"}},
             {"models/gpt2.yaml:350M", {"dims.ff=100"}},
             {"models/llama.yaml", {"consts.qkv_bias=1", "consts.mlp_bias=1", "consts.tied=0"}},
             {"models/llama.yaml:1B", {"consts.scaling=2", "consts.factor=32", "consts.old_ctx=1024"}},
             {"models/llama.yaml", {"consts.scaling=3", "consts.factor=4", "consts.attention_factor=1.5"}},
             {"models/llama.yaml", {"consts.scaling=1", "consts.factor=1.25"}},
             {"models/qwen2.yaml", {"consts.tied=0", "consts.sliding=1", "consts.size=77", "consts.full_layers=1"}},
             {"models/qwen3.yaml", {"dims.hd=64", "consts.qkv_bias=1"}},
             {"models/mistral.yaml", {"dims.hd=96", "consts.window=9"}},
             {"models/mixtral.yaml", {"dims.experts=3", "consts.topk=1"}},
             {"models/internlm2.yaml", {"consts.qkv_bias=1"}},
             {"models/internlm3.yaml", {"consts.mlp_bias=1"}}};
  for (int i = 0; i < LEN(all); i++) {
    const char *sets[5] = {"dims.layers=2"};
    int n = 1;
    while (n < 5 && all[i].set[n - 1]) sets[n] = all[i].set[n - 1], n++;
    Model *m = model_load(a, d, all[i].path, &(ModelOptions){.sets = sets, .nsets = n, .batch = 1, .models = "models"});
    cr_assert(m != NULL, "%s", rendered());
    Import out;
    Model *again = import(m->config_json, m->generation_config_json, &out);
    cr_assert(eq(int, out.nunmapped, 0), "%s: %s", all[i].path, out.nunmapped ? out.unmapped[0] : "");
    cr_assert(eq(str, (char *)again->config_json, (char *)m->config_json), "%s", all[i].path);
    cr_assert(eq(str, (char *)again->generation_config_json, (char *)m->generation_config_json), "%s", all[i].path);
    Text one = {0}, two = {0};
    again->mod->name = m->mod->name;
    module_print(m->mod, false, &one);
    module_print(again->mod, false, &two);
    cr_assert(eq(str, two.s, one.s), "%s", all[i].path);
    text_free(&one), text_free(&two);
  }
}

Test(import, unmapped_keys_are_named) {
  Import out;
  import(LLAMA ", \"logit_scale\": 0.5, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"mscale\": 1.0}, "
               "\"nothing\": null, "
               "\"odd\\u001b\\n# key\": {\"x\": [1, 2]}, \"use_cache\": true}",
         NULL, &out);
  cr_assert(eq(int, out.nunmapped, 3));
  cr_assert(eq(str, (char *)out.unmapped[0], "logit_scale: 0.5"));
  cr_assert(eq(str, (char *)out.unmapped[1], "rope_scaling.mscale: 1.0"));
  cr_assert(eq(str, (char *)out.unmapped[2], "odd\\u001B\\n# key: {\"x\":[1,2]}"));
  has(out.text, "# not mapped: logit_scale: 0.5\n");
  Text many = {0};
  text_add(&many, LLAMA);
  for (int i = 0; i < 300; i++) text_add(&many, ", \"key%d\": 1", i);
  text_add(&many, "}");
  import(many.s, NULL, &out);
  text_free(&many);
  cr_assert(eq(int, out.nunmapped, 200));
  cr_assert(eq(str, (char *)out.unmapped[199], "(and more)"));
}

Test(import, refusals) {
  refused("{}", "names no architecture");
  refused("[1]", "no JSON object");
  refused("{\"a\": 1, \"a\": 2}", "no JSON");
  refused("{\"architectures\": [\"LlamaForCausalLN\"]}", "did you mean LlamaForCausalLM?");
  refused("{\"architectures\": [\"T5ForConditionalGeneration\"]}", "known are GPT2LMHeadModel");
  refused("{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"other\"}", "of model_type 'other'");
  refused("{\"architectures\": [\"LlamaForCausalLM\"]}", "there is no 'hidden_size', which llama.yaml needs");
  refused(LLAMA ", \"hidden_act\": \"gelu\"}", "hidden_act is \"gelu\"; llama.yaml takes silu alone");
  refused(LLAMA ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2.0}}",
          "rope_scaling.type is \"dynamic\"; llama.yaml takes default, linear, llama3, yarn");
  refused(LLAMA ", \"rope_scaling\": {\"rope_type\": \"linear\"}}", "there is no 'rope_scaling.factor'");
  refused(LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"high_freq_factor\": 4.0}}",
          "low_freq_factor");
  refused(LLAMA ", \"rope_scaling\": 4}", "rope_scaling is 4; llama.yaml takes an object");
  refused(LLAMA ", \"rope_theta\": 1, \"rope_parameters\": {\"rope_theta\": 2}}", "by rope_theta it is 1");
  refused(LLAMA ", \"rope_theta\": \"10000\"}", "takes a number");
  refused(LLAMA ", \"tie_word_embeddings\": 1}", "takes true or false");
  refused(LLAMA ", \"partial_rotary_factor\": 0.5}", "partial_rotary_factor is 0.5; llama.yaml takes 1.0 alone");
  refused(LLAMA ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]}", "takes full_attention alone");
  refused(LLAMA ", \"head_dim\": 1e300}", "out of the range");
  refused(LLAMA ", \"num_key_value_heads\": 1.5}", "not an integer");
  refused("{\"architectures\": [\"MistralForCausalLM\"], " SIZES
          ", \"num_key_value_heads\": 4, \"sliding_window\": \"big\"}",
          "sliding_window");
  refused("{\"architectures\": [\"Qwen2ForCausalLM\"], " SIZES
          ", \"use_sliding_window\": true, \"max_window_layers\": 1, \"layer_types\": [\"full_attention\", "
          "\"full_attention\"]}",
          "layer_types is \"full_attention\"; qwen2.yaml takes sliding_attention");
  refused("{\"architectures\": [\"GPT2LMHeadModel\"], \"vocab_size\": 64, \"n_positions\": 8, \"n_ctx\": 9, "
          "\"n_embd\": 8, \"n_layer\": 1, "
          "\"n_head\": 1}",
          "n_ctx is 9 here, by n_positions it is 8");
  refused("{\"architectures\": [\"GPT2LMHeadModel\"], \"scale_attn_by_inverse_layer_idx\": true, \"vocab_size\": 64, "
          "\"n_positions\": 8, "
          "\"n_embd\": 8, \"n_layer\": 1, \"n_head\": 1}",
          "takes false alone");
  const char *text = arena_printf(a, LLAMA ", \"x\": %s%s}", "[[[[[[[[[[[[[[[[[", "]]]]]]]]]]]]]]]]]");
  refused(text, "nested deeper than 16 levels");
}

/* The router's choice: the largest, of equal ones the first; their probabilities make 1. */
Test(import, experts_are_chosen_as_published) {
  static const double p[][5] = {
      {.1, .4, .05, .3, .15}, {.2, .2, .2, .2, .2}, {.1, .3, .3, .3, 0}, {0, 0, 1, 0, 0}, {.3, .1, .3, .2, .1}};
  static const double want[][5] = {
      {0, 4. / 7, 0, 3. / 7, 0}, {.5, .5, 0, 0, 0}, {0, .5, .5, 0, 0}, {0, 0, 1, 0, 0}, {.5, 0, .5, 0, 0}};
  static const char text[] = "base: mixtral.yaml\n"
                             "dims: {vocab: 5, experts: 5, ctx: 5, d: 32, heads: 4, kv: 2}\n"
                             "consts: {tied: 1}\n"
                             "hf: ~\n"
                             "params: {embed: {shape: [vocab, experts]}, norm: ~}\n"
                             "blocks: {layer: ~}\n"
                             "forward: |\n  logits = route(lookup(embed, tokens))\n"
                             "loss: sum(logits)\n";
  Model *m = model_load(a, d, "route.yaml", &(ModelOptions){.batch = 1, .models = "models", .text = text});
  cr_assert(m != NULL, "%s", rendered());
  const Graph *g = m->mod->graphs[0];
  Tensor in[3], out[2];
  cr_assert(eq(int, g->ninputs, 3));
  for (int i = 0; i < 3; i++) {
    in[i] = tensor_new(a, val_type(g, g->inputs[i].val), EVAL_EXACT);
    for (int k = 0; k < 25; k++)
      if (i < 2 && k < 5)
        tensor_set(&in[i], EVAL_EXACT, k, k);
      else if (i == 2)
        tensor_set(&in[i], EVAL_EXACT, k, p[k / 5][k % 5]);
  }
  cr_assert(graph_eval(g, EVAL_EXACT, in, NULL, 0, a, out, d), "%s", rendered());
  const Tensor *logits = strcmp(g->outputs[0].name, "logits") ? &out[1] : &out[0];
  for (int k = 0; k < 25; k++) {
    double got = tensor_get(logits, EVAL_EXACT, k);
    cr_assert(lt(dbl, fabs(got - want[k / 5][k % 5]), 1e-6), "row %d, expert %d: %g", k / 5, k % 5, got);
  }
}
