# SPDX-License-Identifier: MIT
"""peer.py ROLE ...: the other end of test_python_peer.c: multiprocessing.connection as it is in this Python.

    works                       exit status 0 if this Python can play at all; prints "modern" if it knows more than MD5
    listen ADDRESS KEY          print the address, accept one, and echo; "refused" if the client's key is wrong
    connect ADDRESS KEY         connect, and have messages of several sizes echoed
    digest ADDRESS KEY NAME     as listen, but ask for this digest, as a Python since 3.12 can
    answer ADDRESS KEY NAME     as connect, but answer with this digest
    inherit READ WRITE          echo over two descriptors that were inherited

An ADDRESS is "/path", "@abstract" or "host:port"; a KEY of "-" is none.  Exit status 3: the keys differ; 4: the other side has
hung up.
The echo ends with the connection.  The message "descriptor" announces one with send_handle(); its end of a pipe is written to, and
another one is sent back.
"""

import hashlib
import hmac
import os
import sys
import traceback
from multiprocessing import AuthenticationError, connection, reduction

SIZES = [0, 1, 100, 16384, 16385, 65536, 1000003, 64 << 20]


def address_of(text):
    if text.startswith("@"):
        return "\0" + text[1:]
    if text.startswith("/"):
        return text
    host, port = text.rsplit(":", 1)
    return host, int(port)


def text_of(address):
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}"
    if isinstance(address, bytes):
        address = address.decode()
    return "@" + address[1:] if address.startswith("\0") else address


def key_of(text):
    return None if text == "-" else text.encode()


def content(size):
    """What the messages consist of: cheap to make, and not the same everywhere."""
    block = hashlib.sha256(str(size).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


def take_descriptor(c):
    fd = reduction.recv_handle(c)
    os.write(fd, b"through the descriptor")
    os.close(fd)


def give_descriptor(c):
    read_end, write_end = os.pipe()
    reduction.send_handle(c, write_end, None)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        return file.read()


def echo(source, target):
    while True:
        try:
            message = source.recv_bytes()
        except EOFError:
            return
        if message == b"descriptor":
            take_descriptor(source)
            message = give_descriptor(target)
        target.send_bytes(message)


def have_echoed(c, sizes):
    for size in sizes:
        sent = content(size)
        c.send_bytes(sent)
        back = c.recv_bytes()
        if back != sent:
            sys.exit(f"{size} bytes came back as {len(back)} others")
    # Into a buffer, and one that comes too late to be asked for.
    c.send_bytes(b"0123456789")
    buffer = bytearray(16)
    if c.recv_bytes_into(buffer, 2) != 10 or buffer[2:12] != b"0123456789" or c.poll(0.01):
        sys.exit("recv_bytes_into or poll went wrong")


def swap_descriptors(c):
    c.send_bytes(b"descriptor")
    if give_descriptor(c) != b"through the descriptor":
        sys.exit("the descriptor was not what it should be")
    take_descriptor(c)
    c.recv_bytes()


# ---- the dialect of 3.12, by hand, where this Python is older ----


def ask(c, key, digest):
    if hasattr(connection, "_create_response"):
        return connection.deliver_challenge(c, key, digest)
    question = b"{" + digest.encode() + b"}" + os.urandom(40)
    c.send_bytes(b"#CHALLENGE#" + question)
    answer = c.recv_bytes(256)
    name, mac = answer[1:].split(b"}", 1)
    if answer[:1] != b"{" or not hmac.compare_digest(mac, hmac.new(key, question, name.decode()).digest()):
        c.send_bytes(b"#FAILURE#")
        raise AuthenticationError("the answer is wrong")
    return c.send_bytes(b"#WELCOME#")


def answer_with(c, key, digest):
    question = c.recv_bytes(256)
    if not question.startswith(b"#CHALLENGE#{sha256}"):
        sys.exit(f"a question of another kind: {question}")
    question = question[len(b"#CHALLENGE#") :]
    c.send_bytes(b"{" + digest.encode() + b"}" + hmac.new(key, question, digest).digest())
    if c.recv_bytes(256) != b"#WELCOME#":
        raise AuthenticationError("the answer was rejected")


# ---- the roles ----


def listen(address, key, digest=None):
    # Python's own socket in the file system is removed when the listener is closed.
    with connection.Listener(address_of(address), authkey=None if digest else key_of(key)) as listener:
        print(text_of(listener.address), flush=True)
        try:
            with listener.accept() as c:
                if digest:
                    ask(c, key_of(key), digest)
                    connection.answer_challenge(c, key_of(key))
                echo(c, c)
        except AuthenticationError:
            print("refused", flush=True)
            sys.exit(3)
        except EOFError:
            sys.exit(4)


def connect(address, key, digest=None):
    try:
        with connection.Client(address_of(address), authkey=None if digest else key_of(key)) as c:
            if digest:
                answer_with(c, key_of(key), digest)
                ask(c, key_of(key), digest)
            # The largest ones once for each family.
            have_echoed(c, SIZES[:6] if digest else SIZES[:7] if address.startswith("/") or key == "-" else SIZES)
            if not isinstance(address_of(address), tuple):
                swap_descriptors(c)
    except AuthenticationError:
        sys.exit(3)
    except (EOFError, ConnectionResetError):
        sys.exit(4)


def inherit(read_end, write_end):
    with connection.Connection(int(read_end), writable=False) as source:
        with connection.Connection(int(write_end), readable=False) as target:
            echo(source, target)


def works():
    print("modern" if hasattr(connection, "_create_response") else "old")


ROLES = {"works": works, "listen": listen, "connect": connect, "digest": listen, "answer": connect, "inherit": inherit}

if __name__ == "__main__":
    try:
        ROLES[sys.argv[1]](*sys.argv[2:])
    except Exception:  # pylint: disable=broad-except
        traceback.print_exc()
        sys.exit(1)
