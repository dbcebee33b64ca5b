"""Runs a command in a terminal of its own (a pty): terminal.py ROWS COLUMNS COMMAND...

What it shows goes to stdout. Lines of stdin say what the user does: `size ROWS COLUMNS`, or `keys TEXT`. At the end stderr says
whether the terminal's settings are what they were; the exit code is the command's.
"""

import fcntl
import os
import select
import signal
import struct
import sys
import termios

rows, columns, *command = sys.argv[1:]
leader, follower = os.openpty()


def resize(rows: str, columns: str) -> None:
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(columns), 0, 0))


resize(rows, columns)
before = termios.tcgetattr(follower)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(follower, termios.TIOCSCTTY, 0)
    for stream in (0, 1, 2):
        os.dup2(follower, stream)
    os.execvp(command[0], command)

sources = [leader, 0]
code = None
while True:
    ready, _, _ = select.select(sources, [], [], 0.05)
    if leader in ready:
        os.write(1, os.read(leader, 1 << 16))
    if 0 in ready:
        said = os.read(0, 1 << 16).decode()
        if said == "":
            sources.remove(0)
        for line in said.splitlines():
            what, *more = line.split(" ")
            if what == "size":
                resize(*more)
                os.kill(child, signal.SIGWINCH)
            elif what == "keys":
                os.write(leader, more[0].encode())
    if code is None:
        ended, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if ended else None
    elif not ready:
        break
sys.stderr.write("restored" if termios.tcgetattr(follower) == before else "changed")
sys.exit(code if code >= 0 else 128 - code)
