"""plutil: the verbs a runbook uses (-lint, -convert, -extract, -p). Run as a script, stdlib only."""

import json
import plistlib
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    verbs = {"-lint": lint, "-convert": convert, "-extract": extract, "-p": show}
    words = [word for word in argv if word not in ("--", "-s")]
    if not words or words[0] not in verbs:
        sys.stderr.write("plutil: [command_option] [other_options] file...\n")
        return 1
    return verbs[words[0]](words[1:])


def read(name: str) -> object:
    return plistlib.loads(sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes())


def lint(names: list[str]) -> int:
    wrong = 0
    for name in names:
        try:
            read(name)
            sys.stdout.write(f"{name}: OK\n")
        except FileNotFoundError:
            wrong = 1
            sys.stderr.write(f"{name}: file does not exist or is not readable or is not a regular file\n")
        except Exception as error:  # noqa: BLE001 - expat, plistlib and the file system raise what they like
            wrong = 1
            sys.stdout.write(f"{name}: {error}\n")
    return wrong


def convert(words: list[str]) -> int:
    form, *rest = words
    return _write(read(rest[-1]), form, rest)


def extract(words: list[str]) -> int:
    keys, form, *rest = words
    value = read(rest[-1])
    for key in keys.split("."):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError, ValueError):
            sys.stderr.write(f"{rest[-1]}: Could not extract value, error: No value at that key path\n")
            return 1
    return _write(value, form, rest)


def show(words: list[str]) -> int:
    sys.stdout.write(json.dumps(read(words[-1]), indent=2, default=str) + "\n")
    return 0


def _write(value: object, form: str, rest: list[str]) -> int:
    if form == "raw":
        data = f"{str(value).lower() if isinstance(value, bool) else value}\n".encode()
    elif form == "json":
        data = json.dumps(value, default=str).encode()
    else:
        kind = plistlib.FMT_BINARY if form == "binary1" else plistlib.FMT_XML
        data = plistlib.dumps(value, fmt=kind)  # type: ignore[arg-type]
    target = rest[rest.index("-o") + 1] if "-o" in rest else rest[-1]
    if target == "-" or form == "raw":
        sys.stdout.buffer.write(data)
    else:
        Path(target).write_bytes(data)
    return 0


sys.exit(main(sys.argv[1:]))
