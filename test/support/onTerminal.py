"""Runs a command on a terminal of 80 columns and 24 rows, and copies what it writes to stdout.

PTY_ANSWERS, texts with a tab between them, are typed one after the other, each once a new question mark has appeared.
"""

import fcntl
import os
import pty
import struct
import sys
import termios
import time

answers = [answer for answer in os.environ.get("PTY_ANSWERS", "").split("\t") if answer]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execvp(sys.argv[1], sys.argv[1:])
asked = b""
while True:
    try:
        output = os.read(terminal, 65536)
    except OSError:
        break
    if not output:
        break
    os.write(1, output)
    asked += output
    if answers and b"?" in asked:
        asked = b""
        time.sleep(0.3)
        os.write(terminal, answers.pop(0).encode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
