/* The sections of a model file: from mappings to what the builder works on. Keys are checked against what a section may
 * hold, texts are parsed, and whatever can be checked without the graph is checked here (a table's or a parameter's
 * expressions even if nothing uses them), so that the errors of all sections come in one run. */
#include "frontend/reader.h"
#include <string.h>

static const char prelude_text[] =
#include "frontend/prelude.def"
    ;

bool read_has_time(const Reader *r) {
  const YNode *inputs = yaml_get(r->root, "inputs");
  for (int i = 0; inputs && inputs->kind == Y_MAP && i < inputs->n; i++) {
    const YNode *from = yaml_get(inputs->pair[i].value, "from");
    static const char *const timed[] = {"tokens", "targets", "positions"};
    for (int k = 0; k < LEN(timed); k++)
      if (from && from->kind == Y_SCALAR && !strcmp(from->text, timed[k])) return true;
  }
  return false;
}

static bool check_size(Reader *r, const YNode *map, const char *what) {
  if (map->n <= BUILD_NAME_LIMIT) return true;
  return r->ok = diag_error(r->diags, map->at, "%s: more than %d names", what, (int)BUILD_NAME_LIMIT);
}

/* The section as a mapping; NULL if it is absent or wrong. */
static YNode *section(Reader *r, const char *name) {
  YNode *n = yaml_get(r->root, name);
  if (!n) return NULL;
  if (n->kind == Y_SCALAR && !n->len) return NULL; /* `tables:` with nothing below it */
  if (yaml_expect(r->diags, n, Y_MAP, name)) return check_size(r, n, name) ? n : NULL;
  r->ok = false;
  return NULL;
}

static void read_numbers(Reader *r, const char *name, bool dim) {
  int errors = r->diags->n;
  YNode *map = section(r, name);
  for (int i = 0; map && i < map->n; i++)
    names_add(&r->names, map->pair[i].key->text, map->pair[i].value, map->pair[i].key->at, dim);
  if (r->diags->n > errors) r->names.broken = true, r->ok = false;
}

/* ---- inputs */

typedef struct SourceRow {
  const char *name;
  DType dt;
  int rank; /* of the default shape: B, or B and T; 0: there is none */
} SourceRow;

static const SourceRow source_row[] = {{"tokens", DT_i32, 2},
                                       {"targets", DT_i32, 2},
                                       {"positions", DT_i32, 1},
                                       {"images", DT_f32, 0},
                                       {"labels", DT_i32, 1}};

static const SourceRow *find_source(Reader *r, YNode *from) {
  const char *all[LEN(source_row)];
  for (int i = 0; i < LEN(source_row); i++) {
    all[i] = source_row[i].name;
    if (!strcmp(all[i], from->text)) return &source_row[i];
  }
  const char *near = near_miss(from->text, all, LEN(all));
  diag_hint(r->diags, from->at,
            near ? arena_printf(r->arena, "did you mean '%s'?", near)
                 : "expected tokens, targets, positions, images or labels",
            "unknown source '%.60s'", from->text);
  return NULL;
}

/* tokens and targets are i32[B, T], labels i32[B], positions i32[T] unless the file says otherwise. */
static bool read_input(Reader *r, YPair p, InputSpec *in) {
  static const char *const keys[] = {"shape", "dtype", "from"};
  if (!yaml_expect(r->diags, p.value, Y_MAP, "an input")) return false;
  bool ok = yaml_check_keys(r->diags, p.value, "an input", keys, LEN(keys));
  YNode *shape = yaml_get(p.value, "shape"), *dtype = yaml_get(p.value, "dtype"), *from = yaml_get(p.value, "from");
  if (!from) return diag_error(r->diags, p.key->at, "input '%s' has no 'from': what feeds it?", p.key->text);
  if (!yaml_expect(r->diags, from, Y_SCALAR, "from")) return false;
  const SourceRow *row = find_source(r, from);
  if (!row) return false;
  DType dt = row->dt;
  if (dtype && !(dtype->kind == Y_SCALAR && dtype_parse(dtype->text, &dt)))
    return diag_error(r->diags, dtype->at, "unknown dtype; expected f32 or i32");
  if (dt != row->dt) return diag_error(r->diags, dtype->at, "%s are %s", row->name, dtype_name[row->dt]);
  *in = (InputSpec){.name = p.key->text, .source = intern(row->name), .at = p.key->at};
  if (shape) return param_type(&r->names, shape, dt, NULL, 0, &in->type) && ok;
  if (!row->rank) return diag_error(r->diags, p.key->at, "input '%s' needs a shape", p.key->text);
  YNode list = {.kind = Y_SEQ, .at = p.key->at, .n = row->rank};
  bool positions = !strcmp(row->name, "positions");
  YNode *item[] = {yaml_scalar(r->arena, positions ? "T" : "B", p.key->at), yaml_scalar(r->arena, "T", p.key->at)};
  list.item = item;
  return param_type(&r->names, &list, dt, NULL, 0, &in->type) && ok;
}

static void read_inputs(Reader *r) {
  YNode *map = section(r, "inputs");
  if (!map || !map->n) {
    if (!map && !yaml_get(r->root, "inputs")) r->ok = diag_error(r->diags, r->root->at, "the model has no inputs");
    return;
  }
  r->b.input = NEW_ARRAY(r->arena, InputSpec, map->n + 1); /* one more for positions, see builtins.c */
  for (int i = 0; i < map->n; i++) {
    if (read_input(r, map->pair[i], &r->b.input[r->b.ninputs]))
      r->b.ninputs++;
    else
      r->ok = false;
  }
}

/* ---- tables, parameters, functions, blocks */

static bool is_identifier(const char *s) {
  if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || *s == '_')) return false;
  return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] == 0;
}

/* Now, for a table that nothing uses is never made. */
static bool check_table(Reader *r, const TableSpec *t) {
  TableInfo info;
  return table_info(&r->names, t, &info);
}

static bool check_where(Reader *r, const YNode *where) {
  enum { PARTS = 64 }; /* each is looked up in all */
  if (!where) return true;
  if (!yaml_expect(r->diags, where, Y_MAP, "where")) return false;
  if (where->n > PARTS) return diag_error(r->diags, where->at, "where: more than %d names", (int)PARTS);
  bool ok = true;
  for (int i = 0; i < where->n; i++) {
    const char *name = where->pair[i].key->text;
    ok &= yaml_expect(r->diags, where->pair[i].value, Y_SCALAR, name);
    if (names_find(&r->names, name))
      ok = diag_error(r->diags, where->pair[i].key->at, "'%s' is also a dimension or a constant", name);
    if (!is_identifier(name) || (strlen(name) == 1 && *name >= 'i' && *name <= 'l'))
      ok = diag_error(r->diags, where->pair[i].key->at,
                      "'%s' is not a name for a part: letters, digits and _, not i to l", name);
  }
  return ok;
}

static void read_tables(Reader *r) {
  static const char *const keys[] = {"shape", "value", "dtype", "where"};
  YNode *map = section(r, "tables");
  if (!map) return;
  r->b.table = NEW_ARRAY(r->arena, TableSpec, map->n + 1);
  for (int i = 0; i < map->n; i++) {
    YPair p = map->pair[i];
    bool ok = yaml_expect(r->diags, p.value, Y_MAP, "a table") &&
              yaml_check_keys(r->diags, p.value, "a table", keys, LEN(keys));
    TableSpec t = {.name = p.key->text,
                   .at = p.key->at,
                   .shape = yaml_get(p.value, "shape"),
                   .value = yaml_get(p.value, "value"),
                   .dtype = yaml_get(p.value, "dtype"),
                   .where = yaml_get(p.value, "where")};
    if (ok && (!t.shape || !t.value))
      ok = diag_error(r->diags, p.key->at, "table '%s' needs a shape and a value", t.name);
    if (ok) ok = yaml_expect(r->diags, t.value, Y_SCALAR, "value") && check_where(r, t.where);
    if (ok) ok = check_table(r, &t);
    if (ok) r->b.table[r->b.ntables++] = t;
    r->ok &= ok;
  }
}

/* Now, so that its errors come with those of other sections; of a block's parameter as if for index 0. */
static bool check_param(Reader *r, const ParamSpec *s, bool block) {
  Local local = {"i", 0};
  Type t;
  ModelParam p = {.name = s->name, .span = s->at};
  if (param_type(&r->names, s->shape, DT_f32, &local, block, &t))
    return param_resolve(&r->names, s, t, &local, block, &p);
  param_init(&r->names, s->init, &local, block, &p);
  return false;
}

static bool read_params(Reader *r, YNode *map, bool block, ParamSpec **out, int *n) {
  static const char *const keys[] = {"shape", "init", "decay", "hf", "when"};
  bool all = true;
  *n = 0;
  if (!check_size(r, map, "params")) return false;
  *out = NEW_ARRAY(r->arena, ParamSpec, map->n + 1);
  for (int i = 0; i < map->n; i++) {
    YPair p = map->pair[i];
    bool ok = yaml_expect(r->diags, p.value, Y_MAP, "a parameter") &&
              yaml_check_keys(r->diags, p.value, "a parameter", keys, LEN(keys));
    if (!is_identifier(p.key->text))
      ok = diag_error(r->diags, p.key->at, "'%s' is not a name: letters, digits and _ only", p.key->text);
    ParamSpec s = {p.key->text,
                   p.key->at,
                   yaml_get(p.value, "shape"),
                   yaml_get(p.value, "init"),
                   yaml_get(p.value, "decay"),
                   yaml_get(p.value, "hf")};
    if (ok && !names_when(&r->names, yaml_get(p.value, "when"), &ok)) {
      PUSH(r->arena, r->b.left_out, r->b.nleft_out, r->b.cap_left_out, s.name);
      continue;
    }
    if (ok && !s.shape) ok = diag_error(r->diags, p.key->at, "parameter '%s' has no shape", s.name);
    if (ok) ok = check_param(r, &s, block);
    if (ok) (*out)[(*n)++] = s;
    all &= ok;
  }
  return all;
}

static bool is_reserved(const char *name) {
  OpKind op = op_find(name);
  return builtin_find(name) || (op != OP_NONE && op_info[op].ew);
}

static bool has_return(const Stmt *s, int n) {
  for (int i = 0; i < n; i++)
    if (s[i].kind == STMT_RETURN || has_return(s[i].body, s[i].nbody) || has_return(s[i].other, s[i].nother))
      return true;
  return false;
}

static void read_functions(Reader *r) {
  uint32_t file = diags_source(r->diags, "prelude", prelude_text, sizeof prelude_text - 1);
  YNode *prelude = yaml_scalar(r->arena, prelude_text, (Span){file, 1, 1});
  Funcs *fs = &r->b.funcs;
  r->ok &= lang_parse_functions(r->arena, r->diags, prelude, true, fs);
  int ours = fs->n;
  YNode *text = yaml_get(r->root, "functions");
  if (!text) return;
  if (!yaml_expect(r->diags, text, Y_SCALAR, "functions"))
    r->ok = false;
  else
    r->ok &= lang_parse_functions(r->arena, r->diags, text, false, fs);
  for (int i = ours; i < fs->n; i++) {
    if (is_reserved(fs->func[i].name))
      r->ok = diag_error(r->diags, fs->func[i].at, "'%s' is built in and can't be redefined", fs->func[i].name);
    if (!has_return(fs->func[i].body.stmt, fs->func[i].body.n))
      r->ok = diag_error(r->diags, fs->func[i].at, "'%s' returns nothing", fs->func[i].name);
    for (int k = 0; k < i; k++) {
      if (fs->func[k].name != fs->func[i].name || (k >= ours && fs->func[k].nargs != fs->func[i].nargs)) continue;
      r->ok = diag_error(r->diags, fs->func[i].at,
                         k < ours ? "'%s' is built in and can't be redefined"
                                  : "'%s' with as many arguments is there already",
                         fs->func[i].name);
      break;
    }
  }
}

static bool read_args(Reader *r, YNode *args, Block *k) {
  if (!args) {
    k->arg = NEW_ARRAY(r->arena, const char *, 1);
    k->arg[0] = intern("x");
    k->nargs = 1;
    return true;
  }
  if (!yaml_expect(r->diags, args, Y_SEQ, "args")) return false;
  if (args->n > LANG_ARGS_LIMIT) return diag_error(r->diags, args->at, "more than %d arguments", (int)LANG_ARGS_LIMIT);
  k->arg = NEW_ARRAY(r->arena, const char *, args->n + 1);
  for (int i = 0; i < args->n; i++) {
    if (!yaml_expect(r->diags, args->item[i], Y_SCALAR, "an argument")) return false;
    if (!is_identifier(args->item[i]->text))
      return diag_error(r->diags, args->item[i]->at, "'%.60s' is not a name", args->item[i]->text);
    k->arg[k->nargs++] = intern(args->item[i]->text);
  }
  return true;
}

static bool check_block_name(Reader *r, const Block *k) {
  if (!is_identifier(k->name))
    return diag_error(r->diags, k->at, "'%s' is not a name: letters, digits and _ only", k->name);
  if (is_reserved(k->name))
    return diag_error(r->diags, k->at, "block '%s' has the name of a built-in function", k->name);
  for (int f = 0; f < r->b.funcs.n; f++)
    if (r->b.funcs.func[f].name == k->name)
      return diag_error(r->diags, k->at, "block '%s' has the name of a function", k->name);
  return true;
}

static bool read_block_code(Reader *r, YNode *forward, Block *k) {
  if (!forward) return diag_error(r->diags, k->at, "block '%s' has no forward", k->name);
  if (!yaml_expect(r->diags, forward, Y_SCALAR, "forward") || !lang_parse(r->arena, r->diags, forward, &k->body))
    return false;
  return has_return(k->body.stmt, k->body.n) || diag_error(r->diags, k->at, "block '%s' returns nothing", k->name);
}

static void read_blocks(Reader *r) {
  static const char *const keys[] = {"args", "params", "forward"};
  YNode *map = section(r, "blocks");
  if (!map) return;
  r->b.block = NEW_ARRAY(r->arena, Block, map->n + 1);
  for (int i = 0; i < map->n; i++) {
    YPair p = map->pair[i];
    Block k = {.name = p.key->text, .at = p.key->at};
    if (!yaml_expect(r->diags, p.value, Y_MAP, "a block")) {
      r->ok = false;
      continue;
    }
    YNode *params = yaml_get(p.value, "params");
    bool ok = yaml_check_keys(r->diags, p.value, "a block", keys, LEN(keys));
    ok &= check_block_name(r, &k);
    ok &= read_args(r, yaml_get(p.value, "args"), &k);
    if (params)
      ok &= yaml_expect(r->diags, params, Y_MAP, "params") && read_params(r, params, true, &k.param, &k.nparams);
    ok &= read_block_code(r, yaml_get(p.value, "forward"), &k);
    k.param_used = NEW_ARRAY(r->arena, bool, k.nparams + 1);
    if (ok) r->b.block[r->b.nblocks++] = k;
    r->ok &= ok;
  }
}

/* One name, one meaning: dims, consts, inputs, tables and parameters share a scope. */
static void check_names(Reader *r) {
  typedef struct Named {
    const char *name, *what;
    Span at;
  } Named;
  Named *all = NULL;
  int n = 0, cap = 0;
  for (int i = 0; i < r->b.ninputs; i++) {
    Named x = {r->b.input[i].name, "an input", r->b.input[i].at};
    PUSH(r->arena, all, n, cap, x);
  }
  for (int i = 0; i < r->b.ntables; i++) {
    Named x = {r->b.table[i].name, "a table", r->b.table[i].at};
    PUSH(r->arena, all, n, cap, x);
  }
  for (int i = 0; i < r->b.nparams && n < 5000; i++) {
    Named x = {r->b.param[i].name, "a parameter", r->b.param[i].at};
    PUSH(r->arena, all, n, cap, x);
  }
  for (int i = 0; i < n; i++) {
    const Number *num = names_find(&r->names, all[i].name);
    if (!is_identifier(all[i].name))
      r->ok = diag_error(r->diags, all[i].at, "'%s' is not a name: letters, digits and _ only", all[i].name);
    if (num)
      r->ok = diag_error(r->diags, all[i].at, "'%s' is also %s", all[i].name, num->dim ? "a dimension" : "a constant");
    for (int k = 0; k < i; k++)
      if (all[k].name == all[i].name) {
        r->ok = diag_error(r->diags, all[i].at, "'%s' is also %s", all[i].name, all[k].what);
        break;
      }
  }
}

static void read_code(Reader *r) {
  static const char *const keys[] = {"forward", "loss"};
  for (int i = 0; i < 2; i++) {
    YNode *text = yaml_get(r->root, keys[i]);
    if (!text)
      r->ok = diag_error(r->diags, r->root->at, "the model has no '%s'", keys[i]);
    else if (!yaml_expect(r->diags, text, Y_SCALAR, keys[i]))
      r->ok = false;
    else
      r->ok &=
          i ? lang_parse_expr(r->arena, r->diags, text, &r->loss) : lang_parse(r->arena, r->diags, text, &r->forward);
  }
}

void read_dims(Reader *r) {
  read_numbers(r, "dims", true);
  read_numbers(r, "consts", false);
}

void read_sections(Reader *r) {
  read_inputs(r);
  read_tables(r);
  YNode *params = section(r, "params");
  if (params) r->ok &= read_params(r, params, false, &r->b.param, &r->b.nparams);
  read_functions(r);
  read_blocks(r);
  read_code(r);
  check_names(r);
}
