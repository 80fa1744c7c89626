"""Answers that try something, for the tests and the bar of the sandbox, each with the verdict that it deserves."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from flywheel.protocols import Verdict
from judges.sandbox.checker import ProgramItem
from tests import ROOT

FOLDERS = (ROOT, Path.home(), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/etc"), Path("/usr/lib"))
"""Where attacks try to write."""
TOKEN = f"flywheel-{secrets.token_hex(8)}"
"""The name of the files that they write."""
HONEST = "def f(x): return x + 1\n"
"""What would be right, if it were not for the attack."""


@dataclass(frozen=True)
class Attack:
    """`right`: it does no harm, and the answer passes; `end`: how the verdict's detail begins; else it fails somehow.

    FOLDERS, TOKEN and PORTS (of listeners) stand for their values. Limits alone do not hold attacks on `files`.
    """

    code: str
    end: str | None = None
    right: bool = False
    tests: str = "assert f(20) == 21"
    files: bool = False
    slow: bool = False

    def item(self, ports: list[int]) -> ProgramItem:
        """The answer with its tests."""
        values = {"FOLDERS": [str(folder) for folder in FOLDERS], "TOKEN": TOKEN, "PORTS": ports}
        code, tests = HONEST + dedent(self.code), self.tests
        for name, value in values.items():
            code, tests = code.replace(name, repr(value)), tests.replace(name, repr(value))
        return ProgramItem("", code, tests, None, True)

    def deserves(self, verdict: Verdict) -> bool:
        """Whether the verdict is the right one."""
        if self.right:
            return verdict == ("ok", 1.0, None)
        known = verdict.status == "timeout" or (verdict.status == "ok" and verdict.score == 0.0)
        return known and (self.end is None or str(verdict.detail).startswith(self.end))


TOO_MUCH = {
    "endless loop": Attack("while True: pass", slow=True),
    "endless sleep": Attack("import time; time.sleep(3600)", "no verdict within", slow=True),
    "a stopped process": Attack(
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "no verdict within", slow=True
    ),
    "deaf to signals": Attack(
        """
        import signal
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU):
            signal.signal(number, signal.SIG_IGN)
        while True: pass
        """,
        slow=True,
    ),
    "fork bomb": Attack("import os\nwhile True: os.fork()", "processes"),
    "patient fork bomb": Attack(
        """
        import os
        while True:
            try: os.fork()
            except OSError: pass
        """,
        slow=True,
    ),
    "threads": Attack(
        """
        import threading, time
        for _ in range(10_000): threading.Thread(target=time.sleep, args=(60,)).start()
        """,
        "RuntimeError: can't start new thread",
    ),
    "100 GB at once": Attack("x = bytearray(100 << 30)", "memory"),
    "memory bit by bit": Attack("x = []\nwhile True: x.append(bytearray(1 << 20))", "memory", slow=True),
    "memory in files": Attack("import os; os.memfd_create('x')", "PermissionError"),
    "10 GB of output": Attack("for _ in range(10_000): print('x' * 1_000_000)", "output"),
    "output in spite of errors": Attack(
        """
        import os, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        while True:
            try: os.write(1, bytes(1 << 20))
            except OSError: pass
        """,
        slow=True,
    ),
    "a file of a terabyte": Attack("open('x', 'wb').truncate(1 << 40)", "output"),
    "many files": Attack(
        """
        import itertools
        for number in itertools.count(): open(str(number), 'wb').write(bytes(1 << 20))
        """,
        "OSError: [Errno 28]",
        files=True,
    ),
    "a value of a gigabyte": Attack("def f(x): return ['x' * (1 << 20)] * 1000", slow=True),
    "a bottomless value": Attack(
        """
        def f(x):
            x = []
            x.append(x)
            return x
        """,
        "RecursionError",
    ),
    "a long integer": Attack("def f(x): return 7 ** 10 ** 5", "AssertionError"),
    "deep recursion": Attack(
        """
        import sys
        sys.setrecursionlimit(1 << 30)
        def f(x): return f(x) + 1
        """,
        slow=True,
    ),
    "deep recursion in C": Attack(
        """
        import sys
        sys.setrecursionlimit(1 << 30)
        class A:
            def __repr__(self): return repr(self)
        def f(x): return repr(A())
        """
    ),
    "deep source": Attack("f = " + "-" * 100_000 + "1"),
    "a crash": Attack("import ctypes; ctypes.string_at(0)", "its process ended with signal 11"),
}
FORGERIES = {
    "an early exit": Attack("import os; os._exit(0)", "its process ended with 0"),
    "an early exit when called": Attack("import os\ndef f(x): os._exit(0)", "its process ended with 0"),
    "sys.exit": Attack("import sys; sys.exit(0)", "RuntimeError: SystemExit"),
    "sys.exit when called": Attack("import sys\ndef f(x): sys.exit(0)", "RuntimeError: SystemExit"),
    "a printed verdict": Attack(
        """
        import os
        for file in range(64):
            for line in ('["ok", 1.0, null]', '["value", 21]', '{}', '["value", {"dict": [["f", 21]]}]'):
                try: os.write(file, line.encode() + b'\\n')
                except OSError: pass
        """
    ),
    "equal to everything": Attack(
        """
        class E:
            def __eq__(self, other): return True
        def f(x): return E()
        """,
        "AssertionError",
    ),
    "an integer equal to everything": Attack(
        """
        class E(int):
            def __eq__(self, other): return True
        def f(x): return E(0)
        """,
        "AssertionError",
    ),
    "a number near to everything": Attack(
        """
        class E(float):
            def __sub__(self, other): return 0.0
        def f(x): return E(0)
        """,
        "AssertionError",
        tests="assert abs(f(20) - 21) < 1e-6",
    ),
    "an object near to everything": Attack(
        """
        class E:
            def __sub__(self, other): return 0.0
        def f(x): return E()
        """,
        "TypeError",
        tests="assert abs(f(20) - 21) < 1e-6",
    ),
    "another abs": Attack(
        """
        def abs(x): return 0
        def f(x): return 0
        """,
        "AssertionError",
        tests="assert abs(f(20) - 21) < 1e-6",
    ),
    "another math": Attack(
        """
        class math:
            def isclose(*numbers): return True
        def f(x): return 0
        """,
        "AssertionError",
        tests="assert math.isclose(f(20), 21)",
    ),
    "patched builtins": Attack(
        """
        import builtins, json, operator
        builtins.AssertionError = builtins.Exception = ValueError
        builtins.abs = builtins.len = builtins.isinstance = operator.eq = lambda *x: True
        json.loads = lambda *a, **k: ['ok', 1.0, None]
        def f(x): return 0
        """
    ),
    "the end of a loop": Attack(
        "def f(x): raise StopIteration", "RuntimeError", tests="assert all(map(lambda x: f(x) == 21, [20]))"
    ),
    "a search for the tests": Attack(
        """
        import gc, os, sys
        def f(x):
            frame, seen = sys._getframe(), [repr(sys.argv), repr(os.environ)]
            while frame:
                seen += [repr(frame.f_locals)[:100_000]]
                frame = frame.f_back
            seen += [value for value in gc.get_objects() if isinstance(value, str)]
            for path in ('/proc/self/cmdline', '/proc/self/environ', f'/proc/{os.getppid()}/environ'):
                try: seen += [open(path, errors='ignore').read()]
                except OSError: pass
            return any('918273' in text for text in seen)
        """,
        "AssertionError",
        tests="assert f(20), 918273",
    ),
    "standard input": Attack("def f(x): return int(input())", "EOFError"),
    "the checker's own functions": Attack(
        "def f(g): return g.__globals__['__builtins__']", "KeyError", tests="assert f(lambda: 1)"
    ),
}
ESCAPES = {
    "killing the parent": Attack("import os; os.kill(os.getppid(), 9)", "PermissionError"),
    "killing everybody": Attack(
        """
        import os
        for process in {-1, 0, 1, os.getppid(), -os.getpgrp(), *range(2, 300)} - {os.getpid()}:
            try: os.kill(process, 9)
            except OSError: pass
        """,
        right=True,
    ),
    "a daemon": Attack(
        """
        import os, time
        if os.fork() == 0:
            if os.fork() == 0:
                os.closerange(0, 64)
                time.sleep(600)
            os._exit(0)
        """,
        right=True,
    ),
    "a session of its own": Attack("import os; os.fork() or os.setsid(); os.wait()"),
    "the network": Attack(
        """
        import socket
        for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
            for kind, port in zip((socket.SOCK_STREAM, socket.SOCK_DGRAM), PORTS):
                try:
                    line = socket.socket(family, kind)
                    line.connect((host, port))
                    line.send(b'x')
                except OSError: pass
        """,
        right=True,
    ),
    "the hypervisor": Attack("import socket; socket.socket(socket.AF_VSOCK)", "PermissionError"),
    "namespaces of its own": Attack(
        """
        import ctypes, platform
        libc = ctypes.CDLL(None)
        assert libc.unshare(0x10000000) == libc.mount(b'x', b'/', b'tmpfs', 0, None) == libc.chroot(b'/') == -1
        clone = {'x86_64': 56, 'aarch64': 220}[platform.machine()]
        assert libc.syscall(clone, 0x10000011, 0, 0, 0, 0) == -1
        """,
        right=True,
    ),
    "the limits of others": Attack(
        "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))", "PermissionError"
    ),
    "its own limits": Attack("import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "ValueError"),
    "writing": Attack(
        """
        import os
        for folder in FOLDERS:
            try:
                os.makedirs(folder, exist_ok=True)
                open(os.path.join(folder, TOKEN), 'w').write('x')
            except OSError: pass
        """,
        right=True,
        files=True,
    ),
    "reading": Attack(
        """
        import os
        def f(names): return [os.path.join(d, n) for d in FOLDERS for n in names if os.path.exists(os.path.join(d, n))]
        """,
        right=True,
        tests="assert f(['passwd', 'shadow', 'make.py', 'flywheel', '.' + TOKEN]) == []",
        files=True,
    ),
    "Python itself": Attack(
        """
        import json
        try: open(json.__file__, 'a').write('#')
        except OSError: json = None
        assert json is None
        """,
        right=True,
        files=True,
    ),
}
ATTACKS = {**TOO_MUCH, **FORGERIES, **ESCAPES}
