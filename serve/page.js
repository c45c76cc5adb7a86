// The chat page: keeps the conversation, sends it whole, and shows the answer as it is written. Text is only ever set as text.
"use strict";
const $ = (id) => document.getElementById(id);
const messages = [];
let running = null;

const headers = () => {
  const h = { "Content-Type": "application/json" };
  if ($("key").value) h.Authorization = "Bearer " + $("key").value;
  return h;
};

function show(kind, title, text) {
  const log = $("log");
  const article = document.createElement("article");
  const heading = document.createElement("h2");
  const body = document.createElement("p");
  article.className = kind;
  heading.textContent = title;
  body.textContent = text;
  article.append(heading, body);
  log.append(article);
  log.scrollTop = log.scrollHeight;
  return body;
}

async function fail(response) {
  let text = response.status + " " + response.statusText;
  try {
    text = (await response.json()).error.message;
  } catch {}
  throw new Error(text);
}

// The data of each event of a stream.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

async function models() {
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (!response.ok) await fail(response);
    const { data } = await response.json();
    $("model").replaceChildren(...data.map((m) => new Option(m.id)));
    $("title").textContent = document.title = data[0].id;
    $("status").textContent = "Ready.";
  } catch (e) {
    $("status").textContent = "The server says: " + e.message;
  }
}

async function answer() {
  const asked = messages.slice();
  if ($("system").value) asked.unshift({ role: "system", content: $("system").value });
  const body = { model: $("model").value, messages: asked, stream: true, stream_options: { include_usage: true } };
  if ($("temperature").value !== "") body.temperature = Number($("temperature").value);
  if ($("tokens").value !== "") body.max_completion_tokens = Number($("tokens").value);
  running = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  $("status").textContent = "Writing ...";
  $("log").setAttribute("aria-busy", "true"); // read out whole, not word by word
  const started = performance.now();
  const place = show("assistant", "Model", "");
  let text = "";
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST", headers: headers(), body: JSON.stringify(body), signal: running.signal,
    });
    if (!response.ok) await fail(response);
    for await (const data of events(response)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      const piece = chunk.choices[0]?.delta?.content;
      if (piece) {
        const log = $("log");
        const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        text += piece;
        place.textContent = text;
        if (follow) log.scrollTop = log.scrollHeight;
      }
      if (chunk.usage) {
        const seconds = (performance.now() - started) / 1000;
        $("status").textContent = `${chunk.usage.completion_tokens} tokens in ${seconds.toFixed(1)} s`;
      }
    }
  } catch (e) {
    if (e.name === "AbortError") {
      $("status").textContent = "Stopped.";
    } else {
      place.parentElement.className = "error";
      place.textContent = text + (text ? "\n" : "") + e.message;
      $("status").textContent = "Error.";
    }
  }
  if (text) messages.push({ role: "assistant", content: text });
  running = null;
  $("log").removeAttribute("aria-busy");
  $("send").disabled = false;
  $("stop").disabled = true;
}

$("form").addEventListener("submit", (e) => {
  e.preventDefault();
  const text = $("ask").value.trim();
  if (!text || running) return;
  $("ask").value = "";
  messages.push({ role: "user", content: text });
  show("user", "You", text);
  answer();
});
$("ask").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
    e.preventDefault();
    $("form").requestSubmit();
  }
});
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape") running?.abort();
});
$("stop").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  running?.abort();
  messages.length = 0;
  $("log").replaceChildren();
  $("ask").focus();
});
$("key").addEventListener("change", models);
models();
