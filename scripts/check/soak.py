#!/usr/bin/env python3
"""Mixed load on an artifact's server: good clients beside some that leave, stall and send rubbish.

usage: soak.py ARTIFACT [SECONDS]        (the standard library alone)

Good requests must all succeed, memory must not grow after the first minute, gauges must come back to zero, and SIGTERM
in the midst of streams must end them whole with exit status 0. Prints what it saw; exit status 1 when something of that is not so."""
import http.client, json, os, random, re, signal, socket, subprocess, sys, threading, time

artifact, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 600
server = subprocess.Popen([artifact, "serve", "--port", "0", "--header-timeout", "3", "--body-timeout", "3", "--write-timeout", "5",
                           "--idle-timeout", "5"], stderr=subprocess.PIPE, text=True)
for line in server.stderr:
    found = re.search(r"listening on http://127.0.0.1:(\d+)", line)
    if found:
        break
port = int(found.group(1))
threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
over, lock = threading.Event(), threading.Lock()
count, failed = {}, []


def note(kind, ok=True, why=""):
    with lock:
        count[kind] = count.get(kind, 0) + 1
        if not ok:
            failed.append(f"{kind}: {why}")


def ask(method, path, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    return c, c.getresponse()


def get(path):
    c, r = ask("GET", path)
    text = r.read().decode()
    c.close()
    return r.status, text


while get("/ready")[0] != 200:
    time.sleep(0.05)
model = json.loads(get("/v1/models")[1])["data"][0]["id"]


def prompt(rng):
    return [rng.randrange(3, 250) for _ in range(rng.randrange(1, 120))]


def good(seed):
    rng = random.Random(seed)
    while not over.is_set():
        kind = rng.choice(["text", "stream", "embed", "tokens", "several"])
        body = {"model": model, "prompt": prompt(rng), "max_tokens": rng.randrange(1, 60), "temperature": rng.choice([0, 0.8]), "seed": 1}
        path = "/v1/completions"
        if kind == "stream":
            body["stream"] = True
        if kind == "several":
            body["n"] = 3
        if kind == "embed":
            path, body = "/v1/embeddings", {"model": model, "input": prompt(rng)}
        if kind == "tokens":
            path, body = "/detokenize", {"model": model, "tokens": prompt(rng)}
        try:
            c, r = ask("POST", path, body)
            data = r.read()
            ok = r.status == 200 and (kind != "stream" or data.rstrip().endswith(b"data: [DONE]"))
            note(kind, ok, f"{r.status} {data[-200:]!r}")
            c.close()
        except OSError as e:
            note(kind, False, repr(e))
        time.sleep(0.03)


def leaver(seed):
    rng = random.Random(seed)
    while not over.is_set():
        try:
            c, r = ask("POST", "/v1/completions", {"model": model, "prompt": prompt(rng), "max_tokens": 300, "stream": True})
            r.read(rng.randrange(1, 400))
            c.sock.close() if c.sock else r.close()
            c.close()
            note("leaves")
        except OSError:
            pass
        time.sleep(0.1)


def staller(seed):
    rng = random.Random(seed)
    while not over.is_set():
        s = socket.create_connection(("127.0.0.1", port))
        how = rng.randrange(3)
        try:
            if how == 0:
                s.send(b"POST /v1/completions HTTP/1.1\r\nHost: local")
            elif how == 1:
                s.send(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{\"model\"")
            else:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                body = json.dumps({"model": model, "prompt": [5, 6, 7], "max_tokens": 400, "stream": True, "logprobs": 5}).encode()
                s.send(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(rng.random() * 8)
        except OSError:
            pass
        s.close()
        note("stalls")


def rubbish(seed):
    rng = random.Random(seed)
    while not over.is_set():
        try:
            s = socket.create_connection(("127.0.0.1", port), timeout=10)
            how = rng.randrange(4)
            if how == 0:
                s.send(rng.randbytes(rng.randrange(1, 5000)))
            elif how == 1:
                s.send(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 40000 + b"\r\n\r\n")
            else:
                body = rng.randbytes(200) if how == 2 else b'{"model":' + b"[" * 500
                s.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            s.recv(1000)
            s.close()
        except OSError:
            pass
        note("rubbish")
        time.sleep(0.1)


def memory():
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{server.pid}/status").read()).group(1)) / 1024


threads = [threading.Thread(target=f, args=(i,)) for i, f in enumerate([good] * 5 + [leaver] * 2 + [staller] * 3 + [rubbish] * 2)]
start = time.time()
for t in threads:
    t.start()
seen = []
while time.time() - start < seconds:
    time.sleep(min(10, max(0.1, seconds / 20)))
    seen.append(memory())
over.set()
for t in threads:
    t.join()
time.sleep(6)
gauges = [float(x) for x in re.findall(r"^inkstone_num_requests_(?:running|waiting)(?:\{[^}]*\})? (\S+)", get("/metrics")[1], re.M)]
files = len(os.listdir(f"/proc/{server.pid}/fd"))
early, late = max(seen[: max(1, len(seen) // 10)]), seen[-1]

whole = []


def last(i):
    c, r = ask("POST", "/v1/completions", {"model": model, "prompt": [5, 6, 7 + i], "max_tokens": 200, "stream": True, "ignore_eos": True})
    whole.append(r.read().rstrip().endswith(b"data: [DONE]"))


ends = [threading.Thread(target=last, args=(i,)) for i in range(4)]
for t in ends:
    t.start()
time.sleep(0.02)
server.send_signal(signal.SIGTERM)
for t in ends:
    t.join()
status = server.wait(60)
print(f"{time.time() - start:.0f} s:", ", ".join(f"{v} {k}" for k, v in sorted(count.items())))
print(f"failed: {len(failed)}", *failed[:3], sep="\n  ")
print(f"memory: {early:.1f} MiB at most in the first tenth, {late:.1f} at the end; open files at the end {files}; running and waiting {gauges}")
print(f"drain: {sum(whole)} of 4 streams whole, exit status {status}")
bad = failed or any(gauges) or late > early * 1.05 + 4 or status or sum(whole) != 4
sys.exit(1 if bad else 0)
