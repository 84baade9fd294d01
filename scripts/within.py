#!/usr/bin/env python3
"""Runs a test binary so that it ends: each test has a deadline and all together have one.

usage: scripts/within.py TEST_BINARY [ARGUMENT ...]     (cargo does: .cargo/config.toml)

What passes its deadline is named, and the binary is killed with every process that it has started. Environment:
  WEIR_TEST_LIMIT_S   of one test (default 300; 0: no deadlines). WEIR_SOAK=1 makes it 3600.
  WEIR_SUITE_LIMIT_S  of all tests of the binary (default 1500; with WEIR_SOAK=1 14400)
"""
import os
import re
import selectors
import signal
import subprocess
import sys
import time

SOAK = os.environ.get("WEIR_SOAK") == "1"
TEST_LIMIT_S = float(os.environ.get("WEIR_TEST_LIMIT_S") or (3600 if SOAK else 300))
SUITE_LIMIT_S = float(os.environ.get("WEIR_SUITE_LIMIT_S") or (14400 if SOAK else 1500))
# libtest says this of a test that is still running.
WARNED_AFTER_S = 60
SLOW = re.compile(rb"test (\S+)(?: - should panic)? has been running for over \d+ seconds")
ENDED = re.compile(rb"test (\S+)(?: - should panic)? \.\.\. (?:ok|FAILED|ignored)")
# With one thread libtest writes the name first and the result after the test.
BEGUN = re.compile(rb"test (\S+)(?: - should panic)? \.\.\. ?$")
FAILED_EXIT_CODE = 124


def descendants(pid):
    """All processes below one, the deepest last."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(name))
    found = [pid]
    for known in found:
        found += children.get(known, [])
    return found


def kill(pid):
    # Stopped first: a process that starts others while it is looked at would get some of them away.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in descendants(pid):
            try:
                os.kill(process, number)
            except OSError:
                pass


class Watch:
    """Reads what libtest says, and knows from it what is running."""

    def __init__(self):
        self.begun = time.monotonic()
        self.line = b""
        self.slow = {}
        self.line_since = self.begun

    def read(self, data):
        *lines, rest = (self.line + data).split(b"\n")
        for line in lines:
            if slow := SLOW.search(line):
                self.slow[slow[1]] = time.monotonic() - WARNED_AFTER_S
            elif ended := ENDED.search(line):
                self.slow.pop(ended[1], None)
        if rest != self.line:
            self.line_since = time.monotonic()
        self.line = rest[-4096:]

    def overdue(self):
        """What has passed a deadline; None: nothing."""
        now = time.monotonic()
        running = dict(self.slow)
        if begun := BEGUN.search(self.line):
            running.setdefault(begun[1], self.line_since)
        late = sorted(name.decode() for name, since in running.items() if now - since > TEST_LIMIT_S)
        if late:
            return f"not over after {TEST_LIMIT_S:.0f} s: {', '.join(late)}"
        if now - self.begun > SUITE_LIMIT_S:
            names = ", ".join(sorted(name.decode() for name in running)) or "tests that began less than a minute ago"
            return f"the tests of this binary together took more than {SUITE_LIMIT_S:.0f} s; still running: {names}"
        return None


def main():
    child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
    interrupted = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: interrupted.append(number))
    watch, selector = Watch(), selectors.DefaultSelector()
    selector.register(child.stdout, selectors.EVENT_READ)
    is_open = True
    while is_open or child.poll() is None:
        # Somebody whom a test left behind may hold the pipe: when the binary has ended, so has its output.
        if child.poll() is not None and not selector.select(0):
            break
        for _ in selector.select(0.2 if is_open else 0):
            data = os.read(child.stdout.fileno(), 65536)
            if not data:
                is_open = False
                selector.unregister(child.stdout)
                break
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            watch.read(data)
        if not is_open:
            try:
                child.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
        reason = f"ended by signal {interrupted[0]}" if interrupted else watch.overdue()
        if reason and child.poll() is None:
            kill(child.pid)
            child.wait()
            print(f"\nerror: {os.path.basename(sys.argv[1])}: {reason}", file=sys.stderr, flush=True)
            return FAILED_EXIT_CODE
    code = child.wait()
    if code < 0:
        print(f"\nerror: {os.path.basename(sys.argv[1])} was ended by signal {-code}", file=sys.stderr, flush=True)
        return 128 - code
    return code


if __name__ == "__main__":
    sys.exit(main())
