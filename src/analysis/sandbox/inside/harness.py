"""Runs inside the walls: starts the program as its own process, watches it from outside that process, hands back files.

In: one JSON object on standard input (folder, files, program, limits, filter, env). Out: JSON lines on standard output:
started, parsed, ended. The program has no descriptor of this process, cannot trace it, and is judged by what is seen
of it from here: exit status, seconds, output, files. Only the standard library; nothing of the program is imported.
"""

import base64
import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import stat
import sys
import time

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 1, 4, 38, 22, 2
TAIL = 4_000
RESULT_BYTES, CHART_BYTES = 4_000_000, 4_000_000
PNG = b"\x89PNG\r\n\x1a\n"


def main():
    spec = json.load(sys.stdin)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # the program is the same user: it must not look into this process
    folders = {name: os.path.join(spec["folder"], name) for name in ("work", "home", "inside", "result", "matplotlib")}
    for path in folders.values():
        os.makedirs(path, exist_ok=True)
    for name, data in spec["files"].items():
        with open(os.path.join(spec["folder"], name), "wb") as file:
            file.write(base64.b64decode(data))
    program = os.path.join(folders["work"], "program.py")
    source = base64.b64decode(spec["program"])
    with open(program, "wb") as file:
        file.write(source)
    limit(spec["limits"])
    if spec["filter"]:
        confine(libc, base64.b64decode(spec["filter"]))
    say(event="started")
    try:
        compile(source, program, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        say(event="parsed", ok=False, error=f"{type(error).__name__}: {error}"[:300])
        return
    say(event="parsed", ok=True)
    ended = Run(spec, program, libc).watch(folders)
    if ended["status"] == 0 and not ended["stopped"]:
        ended["result"] = text(folders["result"], "frame.json")
        chart, written = picture(folders["work"], program), True
        if not chart:
            chart, written = picture(folders["result"], program), False
        ended |= {"chart": base64.b64encode(chart).decode(), "chart_written": bool(chart) and written}
    say(event="ended", **ended)


def say(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def limit(limits):
    """Hard limits that the program inherits; without privileges nobody inside can raise them again."""
    for name, value in (("AS", limits["memory_bytes"]), ("FSIZE", limits["file_bytes"]), ("CORE", 0), ("NOFILE", 256)):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    if limits["own_user"]:  # where the user is shared with others, the wall itself counts processes
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"], limits["processes"]))


def confine(libc, instructions):
    """Install the system-call filter, for this process and all that it starts."""

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    program = Filter(len(instructions) // 8, instructions)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the system-call filter was refused")


def apart(libc):
    """A Landlock domain of the program's own: the kernel then lets it look into no process outside that domain.

    The domain forbids one thing that nobody does anyway (to make a block device). Without Landlock nothing happens.
    """
    handled = ctypes.c_uint64(1 << 11)
    ruleset = libc.syscall(444, ctypes.byref(handled), 8, 0)
    if ruleset >= 0:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.syscall(446, ruleset, 0)
        os.close(ruleset)


class Run:
    """The program's process: started here, watched until it ends or is stopped."""

    def __init__(self, spec, program, libc):
        self.spec, self.program, self.libc = spec, program, libc

    def watch(self, folders):
        limits = self.spec["limits"]
        readers = self.start()
        start, looked = time.monotonic(), time.monotonic()
        tails, spoken, status, stopped, used = {fd: b"" for fd in readers}, 0, None, "", 0.0
        names = dict(zip(readers, ("stdout", "stderr"), strict=True))
        while status is None and not stopped:
            for fd in select.select(list(readers), [], [], 0.02)[0]:
                data = os.read(fd, 65_536)
                spoken += len(data)
                tails[fd] = (tails[fd] + data)[-TAIL:]
                if not data:
                    readers.remove(fd)
            status, used = self.reap()
            now = time.monotonic()
            if status is not None:
                break
            if now - start > limits["seconds"]:
                stopped = f"it was still running after {limits['seconds']:g} s"
            elif spoken > limits["output_bytes"]:
                stopped = f"it printed more than {limits['output_bytes'] >> 20} MiB"
            elif now - looked > 0.2:
                looked = now
                if count(self.spec["folder"], limits["files"]) >= limits["files"]:
                    stopped = f"it made more than {limits['files']} files"
        seconds = time.monotonic() - start
        self.end()
        for fd in readers:  # what stands in the pipes; somebody who still holds them is not waited for
            os.set_blocking(fd, False)
            for _ in range(1024):
                try:
                    data = os.read(fd, 65_536)
                except BlockingIOError:
                    break
                if not data:
                    break
                tails[fd] = (tails[fd] + data)[-TAIL:]
        said = {names[fd]: base64.b64encode(data).decode() for fd, data in tails.items()}
        cpu = bool(status) and status < 0 and used >= limits["cpu_s"] - 0.1
        return {"status": -1 if status is None else status, "stopped": stopped, "seconds": seconds, "cpu": cpu, **said}

    def start(self):
        """Fork and exec; returns the reading ends of its standard output and error."""
        out, err = os.pipe(), os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(125)
                seconds = self.spec["limits"]["cpu_s"]
                # The first limit names the reason (SIGXCPU); a program that ignores it meets the second.
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out[1], 1)
                os.dup2(err[1], 2)
                os.closerange(3, 256)
                apart(self.libc)
                os.chdir(os.path.dirname(self.program))
                os.execve(sys.executable, [sys.executable, "-B", self.program], self.spec["env"])
            finally:
                os._exit(126)
        os.close(out[1])
        os.close(err[1])
        return [out[0], err[0]]

    def reap(self):
        """(exit status or minus the signal, CPU seconds) of the program once it has ended, (None, 0); orphans too."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return None, 0.0
            if pid == 0:
                return None, 0.0
            if pid == self.pid:
                return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime

    def end(self):
        """Everything that the program started is ended before its files are read."""
        if os.getpid() == 1:
            send(-1)
        send(-self.pid)


def send(pid):
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def count(folder, most):
    """Files and folders below, up to `most`; where the file system counts its own, that number."""
    try:
        below = os.statvfs(folder)
        if below.f_blocks * below.f_frsize <= 1 << 30 and below.f_files:
            return below.f_files - below.f_ffree
    except OSError:
        pass
    found = 0
    for _, folders, files in os.walk(folder):
        found += len(folders) + len(files)
        if found >= most:
            break
    return found


def text(folder, name):
    data = regular(os.path.join(folder, name), RESULT_BYTES)
    return data.decode("utf-8", "replace")


def picture(folder, program):
    """The PNG file written last; links, devices, pipes and what is no PNG do not count."""
    found = []
    for at, (base, _, names) in enumerate(os.walk(folder)):
        for name in names[:1_000]:
            path = os.path.join(base, name)
            if name.lower().endswith(".png") and path != program:
                try:
                    found.append((os.lstat(path).st_mtime, path))
                except OSError:
                    continue
        if at > 100:
            break
    for _, path in sorted(found, reverse=True)[:20]:
        data = regular(path, CHART_BYTES)
        if data.startswith(PNG):
            return data
    return b""


def regular(path, most):
    """Content of a regular file of one name and at most that size; else nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1 or not 0 < state.st_size <= most:
            return b""
        return file.read(most)


if __name__ == "__main__":
    main()
