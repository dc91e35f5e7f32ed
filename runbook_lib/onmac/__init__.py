"""The scripts that run on the Mac: POSIX sh, nothing to install there."""

from importlib.resources import files


def script(name: str) -> str:
    """The text of one script of this folder."""
    return (files(__name__) / name).read_text(encoding="utf-8")


def function(name: str) -> str:
    """A file of this folder as a function that another script calls: put_file.sh as put_file."""
    return f"{name}() {{\n{script(f'{name}.sh')}}}\n"


def program(name: str) -> str:
    """A JavaScript file of this folder with those it needs before it, for the gateway's own Node on standard input."""
    needed = ("json5_text.js", "gateway_secrets.js", "gateway_paths.js")
    return "\n".join(script(file) for file in (*needed, name))
