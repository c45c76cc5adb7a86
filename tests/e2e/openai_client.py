# What the openai package makes of the server: see tests/e2e/openai.
import sys

import openai
from openai import OpenAI

url = sys.argv[1]
client = OpenAI(base_url=url + "/v1", api_key="secret-key", max_retries=0, timeout=30)


def raises(kind, call, **want):
    try:
        call()
    except kind as e:
        for k, v in want.items():
            assert getattr(e, k) == v, (k, getattr(e, k), v)
        return e
    raise AssertionError(f"{kind.__name__} was not raised")


# models
assert [m.id for m in client.models.list()] == ["fake", "org/fake"]
assert client.models.retrieve("fake").owned_by == "inkstone"
assert client.models.retrieve("org/fake").id == "org/fake"
raises(openai.NotFoundError, lambda: client.models.retrieve("other"), code="model_not_found", status_code=404)

# completions
r = client.completions.create(model="fake", prompt="Grüße, \"wörld\" \U0001f600", temperature=0, max_tokens=64)
assert r.choices[0].text == "Grüße, \"wörld\" \U0001f600" and r.choices[0].finish_reason == "stop", r
assert r.usage.prompt_tokens + r.usage.completion_tokens == r.usage.total_tokens
r = client.completions.create(model="fake", prompt=["one", "two"], n=2, temperature=0, logprobs=3, echo=True, max_tokens=2)
assert [c.index for c in r.choices] == [0, 1, 2, 3]
assert r.choices[2].text.startswith("two")
for c in r.choices:
    assert len(c.logprobs.tokens) == len(c.logprobs.token_logprobs) == len(c.logprobs.top_logprobs) == len(c.logprobs.text_offset) == 6
    assert c.logprobs.token_logprobs[0] is None
r = client.completions.create(model="fake", prompt=[[104, 105], [106]], temperature=0, stop=["i"], seed=3, logit_bias={"97": -100})
assert [c.text for c in r.choices] == ["h", "j"]
text, usage = "", None
for chunk in client.completions.create(model="fake", prompt="streamed ✓", temperature=0, stream=True, stream_options={"include_usage": True}):
    if chunk.choices:
        text += chunk.choices[0].text
    else:
        usage = chunk.usage
assert text == "streamed ✓" and usage.completion_tokens == 13, (text, usage)

# chat
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi ✓"}]}]
said = "system\nBe brief.\nuser\nHi ✓\nassistant\n"
r = client.chat.completions.create(model="fake", messages=messages, temperature=0, logprobs=True, top_logprobs=2)
assert r.choices[0].message.content == said and r.choices[0].message.role == "assistant", r
assert r.choices[0].finish_reason == "stop"
assert bytes(b for t in r.choices[0].logprobs.content for b in t.bytes if len(t.bytes) == 1).decode() == said
assert all(len(t.top_logprobs) == 2 for t in r.choices[0].logprobs.content)
chunks = list(client.chat.completions.create(model="fake", messages=messages, temperature=0, n=2, stream=True, stream_options={"include_usage": True}))
for i in range(2):
    own = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == i]
    assert own[0].delta.role == "assistant"
    assert "".join(c.delta.content or "" for c in own) == said
    assert [c.finish_reason for c in own if c.finish_reason] == ["stop"]
assert chunks[-1].usage.completion_tokens == 2 * r.usage.completion_tokens
r = client.chat.completions.create(model="fake", messages=messages, temperature=0, max_completion_tokens=3, extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "chat_template_kwargs": {"mark": "M"}})
assert r.choices[0].finish_reason == "length" and r.usage.completion_tokens == 3
tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
r = client.chat.completions.create(model="fake", messages=messages, temperature=0, tools=[tool])
assert r.choices[0].message.content.startswith("1 tools\n")

# A stream that is left: the server goes on with others.
stream = client.chat.completions.create(model="fake", messages=messages, stream=True)
next(iter(stream))
stream.close()

# embeddings: the package asks for base64 by itself
r = client.embeddings.create(model="fake", input=["hi", "there"])
for d in r.data:
    assert len(d.embedding) == 8 and abs(sum(x * x for x in d.embedding) - 1) < 1e-5
f = client.embeddings.create(model="fake", input="hi", encoding_format="float")
assert max(abs(a - b) for a, b in zip(f.data[0].embedding, r.data[0].embedding)) < 1e-6

# errors
raises(openai.AuthenticationError, lambda: OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0).models.list(), code="invalid_api_key")
raises(openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-x", messages=messages), code="model_not_found", param="model")
e = raises(openai.BadRequestError, lambda: client.chat.completions.create(model="fake", messages=messages, temperature=9), param="temperature")
assert "temperature" in e.message
raises(openai.BadRequestError, lambda: client.chat.completions.create(model="fake", messages=messages, max_tokens=10**6), code="context_length_exceeded")
raises(openai.BadRequestError, lambda: client.chat.completions.create(model="fake", messages=messages, response_format={"type": "json_object"}), param="response_format")
raises(openai.BadRequestError, lambda: client.completions.create(model="fake", prompt="a", suffix="b"), param="suffix")
raises(openai.BadRequestError, lambda: client.embeddings.create(model="fake", input="a", dimensions=2), param="dimensions")
raises(openai.NotFoundError, lambda: client.images.generate(prompt="a"), code="unknown_url")
print("all as the package expects")
