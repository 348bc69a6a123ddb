#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the example prefork, asks it for all that it has, well and badly, kills its workers and itself, and puts load on it.

    test_prefork.py prefork PROGRAM
"""

import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from test_examples import check, left_over, main, run

WAIT = 20  # seconds that anything may take on a machine that is busy


def until(what, condition):
    end = time.monotonic() + WAIT
    while not condition():
        check(what, time.monotonic() < end)
        time.sleep(0.01)
    print(f"ok: {what}", flush=True)


class Server:
    """The program in a session of its own; it is asked to end, and looked after, at the end of a `with`."""

    def __init__(self, program, *arguments, code=0):
        self.command, self.code = [program, "--port", "0", "--workers", "2", *arguments], code

    def __enter__(self):
        self.err = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.err, start_new_session=True)
        line = self.process.stdout.readline().decode()
        match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\n", line)
        check("it tells its address", match, line)
        self.port = int(match[1])
        return self

    def __exit__(self, kind, _value, _trace):
        if kind is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
        elif self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(timeout=WAIT)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            code = "nothing: it hangs"
        self.process.stdout.close()
        self.err.seek(0)
        self.said = self.err.read().decode()
        self.err.close()
        if kind is None:
            check(f"it ends with {self.code}", code == self.code, f"{code}\n{self.said}")
            self.wait_for_all()

    def wait_for_all(self):
        end = time.monotonic() + WAIT
        while (rest := left_over(self.process.pid)) and time.monotonic() < end:
            for pid, (_, state, parent, _) in rest.items():
                if state == "Z" and parent == os.getpid():
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.005)
        check("no process is left", not rest, str(rest))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT)

    def client(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)

    def is_deaf(self):
        try:
            self.connect().close()
        except ConnectionError:
            return True
        return False

    def get(self, path, method="GET"):
        client = self.client()
        try:
            client.request(method, path)
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def stats(self):
        return json.loads(self.get("/stats")[1])

    def is_ready(self):
        return all(worker["pid"] > 0 for worker in self.stats()["workers"])

    def sum(self, figure):
        return sum(worker[figure] for worker in self.stats()["workers"])

    def descriptors(self):
        return {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in left_over(self.process.pid) | {self.process.pid: 0}}


def read_all(connection):
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionResetError:
        data += b"<reset>"
    return data


# ---- what it serves ----


def content(directory, chance):
    files = {
        "index.html": b"<p>home",
        "sub/index.html": b"<p>below",
        "sub/a name with %41 and spaces.txt": b"odd name",
        "empty.css": b"",
        "large.bin": chance.randbytes(3_000_000),
        **{f"small/{i}.txt": chance.randbytes(chance.randint(1, 5000)) for i in range(40)},
    }
    for name, data in files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
    os.symlink("/etc/passwd", os.path.join(directory, "link.txt"))
    os.mkfifo(os.path.join(directory, "fifo"))
    return files


def test_content(program, directory, files):
    with Server(program, directory) as server:
        client = server.client()
        for name, data in files.items():
            client.request("GET", "/" + name.replace("%", "%25").replace(" ", "%20") + "?query=1")
            answer = client.getresponse()
            check(f"/{name}", answer.status == 200 and answer.read() == data, str(answer.status))
        for path, data in (("/", b"<p>home"), ("/sub/", b"<p>below"), ("http://some.where/sub/", b"<p>below")):
            client.request("GET", path)
            check(f"{path} is an index", client.getresponse().read() == data)
        client.request("HEAD", "/large.bin")
        answer = client.getresponse()
        told = answer.getheader("Content-Length")
        check("HEAD tells the size, and has no body", told == "3000000" and answer.read() == b"", str(told))
        for path in ("/nothing", "/sub", "/link.txt", "/fifo", "/../etc/passwd", "/%2e%2e/etc/passwd", "/index.html/"):
            client.request("GET", path)
            answer = client.getresponse()
            check(f"{path} is not found", answer.status == 404 and answer.read() == b"404 Not Found\n", str(answer.status))
        check("all of it over one connection", server.sum("connections") == 2, str(server.stats()))
        client.close()


def test_pipeline(program, directory, files, chance):
    names = [chance.choice([n for n in files if n.startswith("small")]) for _ in range(200)]
    requests = b"".join(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for name in names)
    requests += b"GET / HTTP/1.0\r\n\r\n"  # the last: then the connection is closed
    with Server(program, directory) as server, server.connect() as connection:

        def send():
            at = 0
            while at < len(requests):
                size = chance.randint(1, 2000)
                connection.sendall(requests[at : at + size])
                at += size

        thread = threading.Thread(target=send)
        thread.start()
        data = read_all(connection)
        thread.join()
    bodies = b"".join(files[name] for name in names) + files["index.html"]
    heads = re.findall(rb"HTTP/1\.1 200 OK\r\n", data)
    check("200 requests in pieces of any size, 201 answers", len(heads) == 201, str(len(heads)))
    rest = re.sub(rb"HTTP/1\.1 200 OK\r\n(?:[^\r\n]+\r\n)+\r\n", b"", data)
    check("in their order", rest == bodies, f"{len(rest)} {len(bodies)}")


# ---- what it does not serve ----

HOST = b"Host: x\r\n"
BAD = {
    b"nonsense\r\n\r\n": 400,
    b"GET\r\n\r\n": 400,
    b"GET /\r\n\r\n": 400,
    b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,  # no Host
    b"GET / HTTP/1.1\r\n" + 2 * HOST + b"\r\n": 400,
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b" folded: x\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"a: \0\r\n\r\n": 400,
    b"GET / HTTP/1.1\n" + HOST + b"\r\n\r\n": 400,
    b"GET index.html HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET * HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET http://x HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET /% HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET /%4 HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET /%zz HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET /%00 HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET /a%0ab HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET / HTTP/1.1 x\r\n" + HOST + b"\r\n": 400,
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc": 405,
    b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n": 405,
    b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc": 413,
    b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 413,
    b"GET /" + 2000 * b"a" + b" HTTP/1.1\r\n" + HOST + b"\r\n": 414,
    b"GET /" + 100_000 * b"a" + b" HTTP/1.1\r\n" + HOST + b"\r\n": 414,
    b"GET / HTTP/1.1\r\n" + HOST + b"a: " + 8192 * b"b" + b"\r\n\r\n": 431,
    b"GET / HTTP/1.1\r\n" + HOST + 20_000 * b"a: b\r\n" + b"\r\n": 431,
    b"GET / HTTP/2.0\r\n" + HOST + b"\r\n": 505,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
    bytes(range(256)) * 40: 414,
}


def test_bad_input(program, directory, chance):
    with Server(program, directory) as server:
        for request, status in BAD.items():
            with server.connect() as connection:
                connection.sendall(request)
                data = read_all(connection)
            what = f"{request[:60]}... is {status}, and the end of the connection"
            right = data.startswith(f"HTTP/1.1 {status} ".encode()) and b"\r\nConnection: close\r\n" in data
            check(what, right and data.endswith(f"\r\n\r\n{status} ".encode() + data.partition(b"\r\n")[0][13:] + b"\n"), data)
        valid = b"GET /small/1.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for _ in range(300):
            broken = bytearray(valid)
            for _ in range(chance.randint(1, 3)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            with server.connect() as connection:
                connection.sendall(broken)
                connection.shutdown(socket.SHUT_WR)
                data = read_all(connection)
            check("random damage is answered, or is no whole request", data == b"" or data.startswith(b"HTTP/1.1 "), data)
        check("nobody died of it", server.stats()["deaths"] == 0, str(server.stats()))


def test_slow_clients(program, directory):
    with Server(program, directory, "--timeout", "1000") as server:
        silent, half, drip, deaf = (server.connect() for _ in range(4))
        half.sendall(b"GET / HTTP/1.1\r\nHo")
        deaf.sendall(3 * b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        end = time.monotonic() + WAIT
        drip.settimeout(0.02)
        drip.sendall(b"GET / HTTP/1.1\r\n")
        while not data and time.monotonic() < end:
            try:
                drip.sendall(b"a")
                data = drip.recv(1000)
            except TimeoutError:
                pass
        check("bytes that drip in do not keep it waiting", data.startswith(b"HTTP/1.1 408 "), data)
        data = read_all(half)
        check("half a request: 408", data.startswith(b"HTTP/1.1 408 ") and b"Connection: close" in data, data)
        check("none at all: the end without a word", read_all(silent) == b"")
        for connection in (silent, half, drip):
            connection.close()
        until("whoever does not read is dropped", lambda: server.sum("open") == 1)  # the one that asks
        deaf.close()


def test_broken_pipes(program, directory):
    with Server(program, directory) as server:
        until("both workers are ready", server.is_ready)
        before = server.descriptors()
        for i in range(60):
            connection = server.connect()
            connection.sendall(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            if i % 3:
                connection.recv(1000)
            if i % 2:  # by a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        until("all of them are gone", lambda: server.sum("open") == 1)
        check("nobody died of it", server.stats()["deaths"] == 0, str(server.stats()))
        # What was there before may have been one more: the connection that asked whether they are ready.
        until("no descriptor is left", lambda: all(n <= before[pid] for pid, n in server.descriptors().items()))


# ---- deaths ----


def test_crashes(program, directory, scratch):
    log = os.path.join(scratch, "log")
    asked = 0
    with Server(program, "--allow-crash", "--log", log, directory) as server:
        until("both workers are ready", server.is_ready)
        before = server.descriptors()[server.process.pid]
        base = server.sum("requests")
        for i in range(20):
            with server.connect() as connection:
                connection.sendall(b"GET /crash HTTP/1.1\r\nHost: x\r\n\r\n")
                check("a crash is the end of its connection", read_all(connection) in (b"", b"<reset>"))
            for name in ("/", "/small/1.txt"):
                check("the next is served", server.get(name)[0] == 200)
                asked += 1
        until("each death is counted", lambda: server.stats()["deaths"] >= 20)
        until("so is each birth", lambda: server.stats()["births"] >= 22)
        figures = server.stats()
        check("and none twice", (figures["deaths"], figures["births"]) == (20, 22), str(figures))
        check("and the connections that went", figures["lost_connections"] >= 20, str(figures))
        check("what the dead have done is not forgotten", server.sum("requests") >= base + asked, str(figures))

        until("both workers are ready again", server.is_ready)
        victim = server.stats()["workers"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        until("one killed from outside is replaced", lambda: server.stats()["workers"][0]["pid"] not in (victim, 0))
        os.kill(server.stats()["workers"][0]["pid"], signal.SIGTERM)
        until("one that was terminated, too", lambda: server.stats()["deaths"] == 22)
        until("the parent has no descriptor more", lambda: server.descriptors()[server.process.pid] == before)
    with open(log, encoding="ascii") as file:
        lines = file.read().splitlines()
    form = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ worker [01] "(GET) (/\S*)" (200) (\d+)')
    check("the lines of the log are whole", all(map(form.fullmatch, lines)), str(lines[:50]))
    served = sum('"GET /small/1.txt" 200' in line for line in lines)
    check("and none is missing, not even a dead one's", served == 20, f"{served}")
    check("the deaths are told", server.said.count("has died with -11, and") == 20, server.said)
    check("the sums are told", re.search(r"^prefork: 24 workers, 22 died, and \d+ conn", server.said, re.M), server.said)


def test_ends(program, directory, files):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Server(program, "--grace", "15000", "--timeout", "15000", directory) as server:
            idle, slow, half = (server.connect() for _ in range(3))
            slow.sendall(20 * b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")  # more than the kernel keeps for it
            data = slow.recv(1000)
            half.sendall(b"GET / HT")
            until("all three are accepted", lambda: server.sum("open") == 4)
            server.process.send_signal(number)
            until("nobody listens any more", server.is_deaf)
            check("who is idle is let go", read_all(idle) == b"")
            half.sendall(b"TP/1.1\r\nHost: x\r\n\r\n")
            check("a request that had begun is answered", b"Connection: close\r\n\r\n<p>home" in (rest := read_all(half)), rest)
            data += read_all(slow)
            bodies = re.sub(rb"HTTP/1\.1 200 OK\r\n(?:[^\r\n]+\r\n)+\r\n", b"", data)
            number = len(bodies) // len(files["large.bin"])
            check("answers are finished, but not all begun", bodies == number * files["large.bin"] and number < 20, str(number))
            server.process.wait(timeout=WAIT)
            for connection in (idle, slow, half):
                connection.close()
        check("nobody was cut off", "prefork: 0 connections cut off" in server.said, server.said)

    with Server(program, "--grace", "200", directory) as server, server.connect() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(20 * b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        stuck.recv(1000)
        server.process.terminate()
        server.process.wait(timeout=WAIT)
    check("who does not take its answer is cut off", "prefork: 1 connections cut off" in server.said, server.said)

    with Server(program, directory, code=-signal.SIGKILL) as server:
        until("both workers are ready", server.is_ready)
        server.process.kill()


def test_options(program, directory):
    out, err, _ = run([program, "--help"])
    check("--help tells the options", out.startswith("usage: prefork") and "--allow-crash" in out and err == "", out + err)
    bad = [["--bad"], ["--workers", "0"], ["--workers", "65"], ["--port", "x"], ["--port", "65536"], ["a", "b"], ["--timeout", "0"]]
    bad += [["--port", "0", os.path.join(directory, "nowhere")], ["--port", "0", "--host", "300.300.300.300"]]
    bad += [["--port", "0", "--log", os.path.join(directory, "nowhere/log")]]
    for arguments in bad:
        _, err, _ = run([program, *arguments], code=2)
        check(f"{arguments} is refused", err != "", err)
    with Server(program) as server:
        _, err, _ = run([program, "--port", str(server.port)], code=2)
        check("so is a port that is taken", "in use" in err, err)
        check("without a directory there is a page", b"It works" in server.get("/")[1])
        check("/crash is not found unless it is allowed", server.get("/crash")[0] == 404)


# ---- load ----


def load_by_python(server, count, clients):
    def ask(number):
        client = server.client()
        for _ in range(number):
            client.request("GET", "/")
            answer = client.getresponse()
            if answer.status != 200 or answer.read() != b"<p>home":
                wrong.append(answer.status)
        client.close()

    wrong = []
    threads = [threading.Thread(target=ask, args=(count // clients,)) for _ in range(clients)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(f"{clients} Python clients get {count} right answers", not wrong, str(wrong[:10]))
    return count / (time.monotonic() - start)


def load_by_ab(server, count, *arguments):
    command = ["ab", "-q", *arguments, "-n", str(count), f"http://127.0.0.1:{server.port}/"]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout.decode()
    figures = dict(re.findall(r"^([A-Z][\w -]+): +([\d.]+)", out, re.M))
    right = (figures["Complete requests"], figures["Failed requests"]) == (str(count), "0") and "Non-2xx" not in out
    check(f"ab {' '.join(arguments)} gets {count} right answers", right, out)
    return float(figures["Requests per second"])


def test_load(program, directory):
    with Server(program, "--log", "/dev/null", directory) as server:
        print(f"Python, 4 clients, kept alive: {load_by_python(server, 2000, 4):.0f} requests/s")
        if shutil.which("ab"):
            print(f"ab, 16 clients, kept alive: {load_by_ab(server, 50000, '-k', '-c', '16'):.0f} requests/s")
            print(f"ab, 16 clients, a connection each: {load_by_ab(server, 5000, '-c', '16'):.0f} requests/s")
        if shutil.which("curl"):
            command = ["curl", "-s", "-f", f"http://127.0.0.1:{server.port}/small/[0-39].txt", "-o", "/dev/null"]
            check("curl is content", subprocess.run(command, check=False, timeout=WAIT).returncode == 0)
        check("nobody died of it", server.stats()["deaths"] == 0, str(server.stats()))
        sums = server.sum("requests")
        until("no connection is left", lambda: server.sum("open") == 1)
    check("every request is in the books", sums >= 2000, str(sums))


def test_load_with_crashes(program, directory, files):
    """Clients ask on while workers crash under them: what is lost is a connection, never an answer that is wrong."""
    lost, wrong = [], []

    def ask(names):
        client = server.client()
        for name in names:
            while True:
                try:
                    client.request("GET", "/" + name)
                    answer = client.getresponse()
                    if (answer.status, answer.read()) != (200, files[name]):
                        wrong.append(name)
                    break
                except (ConnectionError, http.client.HTTPException):
                    lost.append(name)
                    client.close()  # the next request opens another
        client.close()

    small = [name for name in files if name.startswith("small")]
    with Server(program, "--allow-crash", directory) as server:
        threads = [threading.Thread(target=ask, args=(10 * small,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            with server.connect() as connection:
                connection.sendall(b"GET /crash HTTP/1.1\r\nHost: x\r\n\r\n")
                read_all(connection)
        for thread in threads:
            thread.join()
        check(f"{40 * len(small)} right answers while 20 workers crash", not wrong, str(wrong[:10]))
        until("all deaths are counted", lambda: server.stats()["deaths"] >= 20)
        # That of each crash is among them.  Who was not accepted yet has lost nothing: the socket is everybody's.
        deaths, gone = (server.stats()[figure] for figure in ("deaths", "lost_connections"))
        check(f"{len(lost)} connections were lost, no more than were counted", deaths == 20 and len(lost) + 20 <= gone, f"{gone}")


def test_prefork(program):
    seed = int(os.environ.get("BROOD_TEST_SEED", "5"))
    print(f"seed {seed}")
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        directory = os.path.join(scratch, "content")
        os.mkdir(directory)
        files = content(directory, chance)
        test_options(program, directory)
        test_content(program, directory, files)
        test_pipeline(program, directory, files, chance)
        test_bad_input(program, directory, chance)
        test_slow_clients(program, directory)
        test_broken_pipes(program, directory)
        test_crashes(program, directory, scratch)
        test_ends(program, directory, files)
        test_load(program, directory)
        test_load_with_crashes(program, directory, files)
    sys.stdout.flush()


if __name__ == "__main__":
    main(globals())
