"""The scripts that run on the Mac: POSIX sh, nothing to install there."""

from importlib.resources import files


def script(name: str) -> str:
    """The text of one script of this folder."""
    return (files(__name__) / name).read_text(encoding="utf-8")


def function(name: str) -> str:
    """A file of this folder as a function that another script calls: put_file.sh as put_file."""
    return f"{name}() {{\n{script(f'{name}.sh')}}}\n"
