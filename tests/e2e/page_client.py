# Drives Chromium over its debugging pipe (descriptors 3 and 4, messages ended by NUL): see tests/e2e/page.
import json
import os
import subprocess
import sys
import time

browser, profile, url = sys.argv[1:]
to_browser, from_us = os.pipe()
to_us, from_browser = os.pipe()


def descriptors():
    os.dup2(to_browser, 103)  # out of the way first: the pipes' own numbers may be 3 and 4
    os.dup2(from_browser, 104)
    os.dup2(103, 3)
    os.dup2(104, 4)


process = subprocess.Popen(
    [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server", "--disable-background-networking",
     "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
    preexec_fn=descriptors, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.close(to_browser)
os.close(from_browser)

waiting, events, count, session = b"", [], 0, None


def receive():
    global waiting
    while b"\0" not in waiting:
        piece = os.read(to_us, 65536)
        if not piece:
            sys.exit("the browser ended")
        waiting += piece
    message, waiting = waiting.split(b"\0", 1)
    return json.loads(message)


def call(method, **params):
    global count
    count += 1
    message = {"id": count, "method": method, "params": params}
    if session:
        message["sessionId"] = session
    os.write(from_us, json.dumps(message).encode() + b"\0")
    while True:
        m = receive()
        if m.get("id") == count:
            assert "error" not in m, m
            return m["result"]
        events.append(m)


def value(expression):
    r = call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
    assert "exceptionDetails" not in r, r
    return r["result"].get("value")


def until(expression, seconds=20):
    end = time.time() + seconds
    while not value(expression):
        assert time.time() < end, (expression, value("document.body.innerText"), value("document.getElementById('status').textContent"))
        time.sleep(0.05)


def key(name, code, text="", shift=False):
    common = dict(key=name, code=name, windowsVirtualKeyCode=code, modifiers=8 if shift else 0)
    call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
    call("Input.dispatchKeyEvent", type="keyUp", **common)


def write(text):
    call("Input.insertText", text=text)


try:
    target = call("Target.createTarget", url="about:blank")["targetId"]
    session = call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        call(domain + ".enable")
    call("Page.navigate", url=url)
    until("document.readyState == 'complete' && document.getElementById('status')?.textContent == 'Ready.'")
    assert value("document.title") == "fake"
    assert value("document.activeElement.id") == "ask", "the question has no focus"

    value("document.getElementById('temperature').value = 0")  # or the made-up model begins elsewhere
    # Asked by keys; written as it comes.
    write("Grüße <b>✓</b>")
    key("Enter", 13, "\r")
    until("document.querySelectorAll('article').length == 2")
    until("document.querySelectorAll('article p')[1].textContent.length > 3")
    assert value("document.getElementById('send').disabled"), "the answer did not come as a stream"
    until("!document.getElementById('send').disabled")
    said = value("document.querySelectorAll('article p')[1].textContent")
    assert "Grüße <b>✓</b>" in said, said
    assert value("document.querySelectorAll('article b').length") == 0, "text was taken for markup"
    assert "tokens in" in value("document.getElementById('status').textContent")

    # Stopped by Escape; the conversation goes on with what was said.
    write("a long question, " * 20)
    key("Enter", 13, "\r")
    until("document.querySelectorAll('article').length == 4 && document.querySelectorAll('article p')[3].textContent.length > 3")
    key("Escape", 27)
    until("document.getElementById('status').textContent == 'Stopped.'")
    assert not value("document.getElementById('send').disabled")

    # Shift and Enter begin a line; an error is shown.
    write("raise")
    key("Enter", 13, "\r", shift=True)
    assert value("document.getElementById('ask').value") == "raise\n"
    key("Enter", 13, "\r")
    until("document.querySelector('article.error') != null")
    assert "told to refuse" in value("document.querySelector('article.error p').textContent")

    # Every control can be reached by Tab, and has a name.
    value("document.querySelector('details').open = true, document.getElementById('ask').focus(), document.getElementById('ask').blur(), 0")
    seen = set()
    for _ in range(40):
        key("Tab", 9)
        seen.add(value("document.activeElement.id || document.activeElement.tagName"))
    missing = {"model", "key", "system", "temperature", "tokens", "ask", "send", "clear", "log", "SUMMARY"} - seen
    assert not missing, missing
    names = [n for n in call("Accessibility.getFullAXTree")["nodes"] if n.get("role", {}).get("value") in ("button", "textbox", "combobox", "spinbutton")]
    assert names and all(n["name"]["value"] for n in names), names

    # Nothing from elsewhere, and nothing that the page's policy or a script complains of.
    value("0")
    for e in events:
        if e.get("method") == "Network.requestWillBeSent":
            where = e["params"]["request"]["url"]
            assert where.startswith((url, "about:", "data:")), where
        assert e.get("method") != "Runtime.exceptionThrown", e
        if e.get("method") == "Log.entryAdded":
            entry = e["params"]["entry"]
            if entry["level"] in ("verbose", "info"):
                continue
            assert entry["source"] == "network" and "400" in entry["text"], entry
    # An inline script is not run.
    assert value("(() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); return window.ran ?? 0 })()") == 0
    print("the page works")
finally:
    process.kill()
    process.wait()
