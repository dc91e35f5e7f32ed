"""launchctl: hands its words to the practice launchd, answers as it says. Run as a script, stdlib only."""

import json
import os
import socket
import sys


def main() -> int:
    root, argv = sys.argv[1], sys.argv[2:]
    request = json.dumps({"argv": argv, "cwd": os.getcwd()}).encode() + b"\n"  # noqa: PTH109 - pathlib takes 10 ms
    answer = b""
    with socket.socket(socket.AF_UNIX) as launchd:
        os.chdir(os.path.join(root, "run"))  # noqa: PTH118 - relative: a socket's path is short
        try:
            launchd.connect("launchd.sock")
        except OSError:
            sys.stderr.write("the practice launchd does not run; start it: rollout lab up\n")
            return 1
        launchd.sendall(request)
        while part := launchd.recv(65536):
            answer += part
    code, out, err = json.loads(answer or '[1, "", "the practice launchd went away\\n"]')
    sys.stdout.write(out)
    sys.stderr.write(err)
    return int(code)


sys.exit(main())
