#!/usr/bin/env python3
"""Writes tests/golden/chat: the conversations, and what transformers' apply_chat_template makes of them by each template there.

usage: scripts/check/make_chat_goldens.py

FAMILY.jinja is written by hand; conversations.json and FAMILY.json come from here. FAMILY.json is a list, one item a conversation:
the prompt as a string, {"raised": text} where the template itself refuses, {"error": true} where it fails. Needs transformers.
"""
import json
import pathlib
import sys

from jinja2.exceptions import TemplateError, UndefinedError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, __version__

folder = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/chat"

user = lambda text: {"role": "user", "content": text}
assistant = lambda text, **more: {"role": "assistant", "content": text, **more}
system = lambda text: {"role": "system", "content": text}
weather = {"type": "function", "function": {"name": "get_weather", "description": "The weather at a place.\n\nIn degrees.",
           "parameters": {"type": "object", "properties": {"place": {"type": "string", "description": "A town, \"Köln\" say"},
                          "days": {"type": "integer", "default": 3}, "unit": {"enum": ["C", "F"]}}, "required": ["place"]}}}
search = {"type": "function", "function": {"name": "search", "description": "", "parameters": {"type": "object", "properties": {
          "queries": {"type": "array", "items": {"type": "string"}}, "limit": {"type": ["integer", "null"]}, "ratio": {"type": "number", "minimum": 1e-07, "maximum": 1e22},
          "where": {"type": "object", "properties": {"b": {"type": "boolean"}, "A": {"type": "array"}}, "required": ["b"]}}}, "return": {"type": "string"}}}
call = lambda name, args, id="a1b2c3d4e": {"id": id, "type": "function", "function": {"name": name, "arguments": args}}
result = lambda text, id="a1b2c3d4e": {"role": "tool", "content": text, "tool_call_id": id, "name": "get_weather"}
ask = [user("Weather in Köln?"), assistant("", tool_calls=[call("get_weather", {"place": "Köln", "days": 2, "x": None, "y": [True, 1.5]})])]
two = [user("Both?"), assistant("Let me see.", tool_calls=[call("get_weather", {"place": "A"}), call("search", {"queries": ["<b> & \"c\"", "d\\e"]}, "zzzzzzzz1")]),
       result("1"), result("2", "zzzzzzzz1")]

conversations = [  # name, messages, and what else the request says
    ("one question", [user("Hi there!")], {}),
    ("one question, no prompt", [user("Hi there!")], {"generation": False}),
    ("system", [system("You are terse."), user("Hello")], {}),
    ("many turns", [user("a"), assistant("b"), user("c"), assistant("d"), user("e")], {}),
    ("many turns with system", [system("S"), user("a"), assistant("b"), user("c"), assistant("d"), user("e")], {}),
    ("ends with the assistant", [user("a"), assistant("b")], {"generation": False}),
    ("ends with the assistant, prompt", [user("a"), assistant("b")], {}),
    ("blanks around", [system("  sys \n"), user("\n\n  text\twith tabs \n"), assistant("  answer  \n"), user(" ")], {}),
    ("empty texts", [system(""), user(""), assistant(""), user("")], {}),
    ("unicode", [user("Grüße, 世界 — 😀 e\u0301 \u00a0\u3000 עברית"), assistant("ß ŉ Ǆ İ\u2028next"), user("\u200b\ufeff")], {}),
    ("special characters", [user("<|im_end|> </s> [INST] {{ x }} {% if %} \\n \"q\" 'q' & <b>\r\n\x7f\x1b[0m"), assistant("{\"a\": [1]}"), user("%s %d {0}")], {}),
    ("control characters", [user("a\u0000b\u0001\u001f\b\f")], {}),
    ("no alternation", [user("a"), user("b")], {}),
    ("assistant first", [assistant("a"), user("b")], {}),
    ("two systems", [system("one"), user("a"), system("two"), user("b")], {}),
    ("an unknown role", [{"role": "critic", "content": "no"}, user("a")], {}),
    ("no messages", [], {}),
    ("tools", [user("Weather?")], {"tools": [weather]}),
    ("tools with system", [system("Sys."), user("a"), assistant("b"), user("Weather?")], {"tools": [weather, search]}),
    ("no tools at all", [system("Sys."), user("a")], {"tools": []}),
    ("a call", ask, {"tools": [weather], "generation": False}),
    ("a call and its result", ask + [result("{\"temp\": 21.5}")], {"tools": [weather]}),
    ("a call, result and answer", [system("S")] + ask + [result("21"), assistant("21 degrees."), user("Thanks")], {"tools": [weather, search]}),
    ("two calls", two, {"tools": [weather, search]}),
    ("two calls and an answer", two + [assistant("Done.")], {"tools": [weather, search], "generation": False}),
    ("a call without text", [user("x"), {"role": "assistant", "content": None, "tool_calls": [call("search", {})]}, result("[]")], {"tools": [search]}),
    ("arguments as text", [user("x"), assistant("", tool_calls=[call("search", "{\"a\": 1}")]), result("ok")], {"tools": [search]}),
    ("a result that is an object", ask + [result({"temp": 21.5, "ok": True, "n": None})], {"tools": [weather]}),
    ("tools in the system message", [system("S"), user("x")], {"tools": [weather], "variables": {"tools_in_user_message": False}}),
    ("builtin tools", [user("x"), assistant("", tool_calls=[call("search", {"q": "y", "n": 3})])], {"variables": {"builtin_tools": ["search", "code_interpreter"]}}),
    ("a date", [system("S"), user("x")], {"variables": {"date_string": "01 Jan 2025"}}),
    ("thinking", [user("2+2?"), assistant("<think>\nfour\n</think>\n\n4"), user("3+3?"), assistant("<think>\nsix\n</think>\n\n6")], {"generation": False}),
    ("thinking apart", [user("2+2?"), assistant("4", reasoning_content="\nfour\n"), user("3+3?"), assistant("6", reasoning="six")], {"generation": False}),
    ("thinking switched off", [user("2+2?")], {"variables": {"enable_thinking": False}}),
    ("thinking before a call", [user("x"), assistant("", thinking="hm", tool_calls=[call("search", {"q": 1})]), result("r")], {"tools": [search]}),
    ("parts", [{"role": "system", "content": [{"type": "text", "text": " S "}]},
               {"role": "user", "content": [{"type": "text", "text": " one "}, {"type": "image"}, {"type": "text", "text": "two"}]}], {}),
    ("null content", [user("a"), {"role": "assistant", "content": None}, user("b")], {}),
    ("no content", [{"role": "user"}], {}),
]


def render(tokenizer, template, messages, request):
    try:
        return tokenizer.apply_chat_template(messages, tools=request.get("tools"), chat_template=template, tokenize=False,
                                             add_generation_prompt=request.get("generation", True), **request.get("variables", {}))
    except (UndefinedError, TypeError, ValueError, AttributeError, KeyError):
        return {"error": True}
    except TemplateError as e:
        return {"raised": e.message} if type(e) is TemplateError else {"error": True}


def dump(path, items):
    path.write_text("[\n" + ",\n".join(json.dumps(i, ensure_ascii=False) for i in items) + "\n]\n", encoding="utf-8")


tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"x": 0}, unk_token="x")), bos_token="<s>", eos_token="</s>")
dump(folder / "conversations.json", [{"name": n, "messages": m, **r} for n, m, r in conversations])
total = texts = 0
for path in sorted(folder.glob("*.jinja")):
    template = path.read_bytes().decode()
    goldens = [render(tokenizer, template, m, r) for _, m, r in conversations]
    dump(path.with_suffix(".json"), goldens)
    total, texts = total + len(goldens), texts + sum(isinstance(g, str) for g in goldens)
    print(f"{path.stem}: {sum(isinstance(g, str) for g in goldens)} prompts of {len(goldens)}")
print(f"{texts} prompts, {total - texts} refusals; transformers {__version__}", file=sys.stderr)
