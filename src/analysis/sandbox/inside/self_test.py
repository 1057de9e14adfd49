# ruff: noqa: F821, SIM105, SIM115
# Behind a wall: try what must not work, within the first seconds of the wall's life. CANARY: a file outside; OUTSIDE: a
# process outside. The result is what held.
import ctypes
import json
import os
import signal
import socket
import sys

broken = []
libc = ctypes.CDLL(None, use_errno=True)


def must_fail(name, attempt):
    try:
        if attempt() is not False:
            broken.append(name)
    except Exception:
        pass


def processes(limit=40):
    children = []
    try:
        while len(children) < limit:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def tcp():
    try:
        socket.create_connection(("192.0.2.1", 53), timeout=0.5)
    except TimeoutError:  # nobody answers there, and the question was asked
        return True


def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"x", ("127.0.0.1", 9))
        return not os.path.exists("/proc/net/route") or "\n" in open("/proc/net/route").read().strip()


must_fail("a file outside can be read", lambda: open(CANARY).read())
must_fail("packages can be written", lambda: open(os.path.join(os.path.dirname(json.__file__), "x"), "w"))
try:
    open(CANARY, "a").write("changed")  # looked at from outside: a private /tmp may well have a file of that name
except OSError:
    pass
must_fail("TCP goes out", tcp)
must_fail("UDP goes out", udp)
must_fail("a process outside can be signalled", lambda: OUTSIDE > 100 and os.kill(OUTSIDE, 0))
must_fail("the harness's memory can be read", lambda: open(f"/proc/{os.getppid()}/mem", "rb").read(1))
for number in range(16):
    path = f"{('/proc', '/dev/fd/../..')[number % 2]}/{os.getppid()}/fd/{number // 2}"
    must_fail("the harness's report can be written", lambda path=path: open(path, "w"))
    must_fail("the harness's task can be read", lambda path=path: open(path))
must_fail("memory escapes in memfd", lambda: libc.syscall({"x86_64": 319}.get(os.uname().machine, 279), b"x", 0) >= 0)
must_fail("namespaces can be made", lambda: libc.unshare(0x10000000) == 0)
must_fail("the limit on processes does not hold", processes)

import matplotlib.font_manager  # noqa: E402

folder = matplotlib.get_cachedir()
fonts = {name: open(os.path.join(folder, name)).read() for name in os.listdir(folder) if name.startswith("fontlist")}
with open(os.path.join(os.environ["SANDBOX_RESULT"], "frame.json"), "w") as file:
    json.dump({"held": not broken, "broken": ", ".join(broken), "fonts": fonts}, file)
sys.stdout.flush()
os._exit(0)
