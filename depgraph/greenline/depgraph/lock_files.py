"""Lock files: what was resolved, with the graph of who requires whom where the format has one.

Each function takes the text of one file and returns a `Manifest`. A malformed file raises `ManifestError`, or
whatever its parser or the first missing key raises; the caller turns any error into "cannot tell".
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from greenline.depgraph.manifest import (
    Edge,
    Manifest,
    ManifestError,
    canonical,
    collect,
    flatten,
    in_order,
    normalise,
    parse_requirement,
)

WORKSPACE_ROOT = "(workspace root)"
_ARCHIVES = (".whl", ".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz")


def read_uv_lock(text: str) -> Manifest:
    data = tomllib.loads(text)
    packages = data.pop("package", [])
    first_party = {
        normalise(package["name"])
        for package in packages
        if {"virtual", "editable", "directory"} & package["source"].keys()
    }
    data.pop("revision", None)  # a newer uv wrote more details; the format is the same
    workspace = data.get("manifest", {})
    # Members have entries of their own. The resolver's cut-off date shows in what it found.
    workspace.pop("members", None)
    for key in [key for key in data.get("options", {}) if key.startswith("exclude-newer")]:
        del data["options"][key]
    root_groups = {"": workspace.pop("requirements", []), **workspace.pop("dependency-groups", {})}
    edges = [edge for package in packages for edge in _uv_edges(normalise(package["name"]), package)]
    for group, required in root_groups.items():
        source = f"{WORKSPACE_ROOT}:{group}" if group else WORKSPACE_ROOT
        edges += [edge for item in required for edge in _uv_requirement(source, item)]
    own = {WORKSPACE_ROOT: canonical(root_groups)}
    for package in packages:
        if (name := normalise(package["name"])) in first_party:
            own[name] = canonical(package)
    return Manifest(
        entries=collect(
            (normalise(package["name"]), canonical(_with_short_files(package)))
            for package in packages
            if normalise(package["name"]) not in first_party
        ),
        settings={key: value for key, value in flatten(data).items() if value != "{}"},
        edges=frozenset(edges),
        closed=True,
        first_party=own,
        versions=_versions(packages),
    )


def _uv_edges(name: str, package: dict[str, Any]) -> Iterator[Edge]:
    for item in package.get("dependencies", []):
        yield from _uv_requirement(name, item)
    for extra, items in package.get("optional-dependencies", {}).items():
        for item in items:
            yield from _uv_requirement(f"{name}[{normalise(extra)}]", item)
    for group, items in package.get("dev-dependencies", {}).items():
        for item in items:
            yield from _uv_requirement(f"{name}:{group}", item)


def _uv_requirement(source: str, item: dict[str, Any]) -> Iterator[Edge]:
    name = normalise(item["name"])
    # A version or source is given where the lock holds several: which one is taken depends on the markers.
    details = {key: item[key] for key in ("marker", "version", "source") if key in item}
    condition = canonical(details) if details else ""
    yield Edge(source, name, condition)
    for extra in [*item.get("extra", []), *item.get("extras", [])]:
        yield Edge(source, f"{name}[{normalise(extra)}]", condition)


def read_poetry_lock(text: str) -> Manifest:
    data = tomllib.loads(text)
    packages = data.pop("package", [])
    data.get("metadata", {}).pop("content-hash", None)
    old_files = data.get("metadata", {}).pop("files", {})  # lock files before version 2
    entries: list[tuple[str, str]] = []
    edges: list[Edge] = []
    first_party: dict[str, str] = {}
    for package in packages:
        name = normalise(package["name"])
        for key in ("description", "python-versions"):
            package.pop(key, None)
        required = {normalise(key): value for key, value in package.pop("dependencies", {}).items()}
        edges += [Edge(name, target) for target in required]
        content = canonical([package, required, old_files.get(package["name"])])
        if package.get("source", {}).get("type") == "directory":
            first_party[name] = content
        else:
            entries.append((name, content))
    for extra, names in data.pop("extras", {}).items():
        entries += [(normalise(name.split(" ")[0].split("[")[0]), f"extra {extra}: {name}") for name in names]
    return Manifest(collect(entries), flatten(data), frozenset(edges), True, first_party, versions=_versions(packages))


def read_pdm_lock(text: str) -> Manifest:
    data = tomllib.loads(text)
    packages = data.pop("package", [])
    metadata = data.get("metadata", {})
    metadata.pop("content_hash", None)
    if "inherit_metadata" in metadata.get("strategy", []):
        metadata.pop("groups", None)  # each entry names its groups
    entries: list[tuple[str, str]] = []
    edges: list[Edge] = []
    first_party: dict[str, str] = {}
    for package in packages:
        name = normalise(package["name"])
        for key in ("summary", "requires_python"):
            package.pop(key, None)
        for line in package.get("dependencies", []):
            target = parse_requirement(line.removeprefix("-e "))
            if target is None:
                raise ManifestError(f"{name} requires {line!r}, which is not a requirement")
            if target.name != name:  # name[extra] requires name
                edges.append(Edge(name, target.name))
        if "path" in package and not package["path"].endswith(_ARCHIVES):
            first_party[name] = canonical(package)
        else:
            entries.append((name, canonical(_with_short_files(package))))
    return Manifest(collect(entries), flatten(data), frozenset(edges), True, first_party, versions=_versions(packages))


def read_pylock(text: str) -> Manifest:
    """pylock.toml (PEP 751). uv and pip write it without the graph; then ``closed`` is False."""
    data = tomllib.loads(text)
    packages = data.pop("packages", [])
    for key in ("created-by", "tool"):  # must not affect what is installed, says PEP 751
        data.pop(key, None)
    first_party: dict[str, str] = {}
    entries: list[tuple[str, str]] = []
    edges: list[Edge] = []
    for package in packages:
        name = normalise(package["name"])
        for key in ("tool", "attestation-identities"):
            package.pop(key, None)
        edges += [Edge(name, normalise(item["name"])) for item in package.get("dependencies", [])]
        if "directory" in package:
            first_party[name] = canonical(package)
        else:
            entries.append((name, canonical(_with_short_files(package))))
    return Manifest(
        collect(entries),
        flatten(data),
        frozenset(edges),
        bool(edges),
        first_party,
        versions=_versions(packages),
    )


def read_pipfile_lock(text: str) -> Manifest:
    data = json.loads(text)
    settings = data.pop("_meta", {})
    settings.pop("hash", None)
    entries: list[tuple[str, str]] = []
    first_party: dict[str, str] = {}
    versions: dict[str, str] = {}
    for section, packages in data.items():
        for key, package in packages.items():
            name = normalise(key)
            place = package.get("path", package.get("file", ""))
            if place and "://" not in place and not place.endswith(_ARCHIVES):
                first_party[name] = first_party.get(name, "") + canonical([section, package])
            else:
                entries.append((name, canonical([section, package])))
                versions[name] = package.get("version", "").lstrip("=")
    return Manifest(collect(entries), flatten(settings), first_party=first_party, versions=versions)


def read_conda_lock(text: str) -> Manifest:
    """conda-lock.yml. Its names are conda's, which sometimes differ from those of the Python index."""
    data = read_yaml(text)
    packages = data["package"]
    metadata = data.get("metadata", {})
    entries: list[tuple[str, str]] = []
    edges: list[Edge] = []
    for package in packages:
        name = normalise(package["name"])
        package.pop("url", None)  # the hash says it
        entries.append((name, canonical(package)))
        edges += [Edge(name, normalise(target)) for target in package.get("dependencies") or {}]
    settings = {key: in_order(metadata.get(key)) for key in ("channels", "platforms", "sources")}
    settings["version"] = in_order(data.get("version"))
    return Manifest(collect(entries), settings, frozenset(edges), True, versions=_versions(packages))


def read_yaml(text: str) -> Any:
    import yaml

    # The C loader is ten times faster, but not built everywhere.
    data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if not isinstance(data, dict):
        raise ManifestError("not a mapping")
    return data


def _with_short_files(package: dict[str, Any]) -> dict[str, Any]:
    """Drop what does not change the bytes of a file that has a hash: its address, size and date."""
    short = dict(package)
    for key in ("wheels", "files", "sdist"):
        if key in short:
            files = short[key] if isinstance(short[key], list) else [short[key]]
            short[key] = [_file(file) for file in files]
    return short


def _file(file: Any) -> Any:
    if not isinstance(file, dict) or not ({"hash", "hashes"} & file.keys()):
        return file
    names = [file[key] for key in ("name", "file", "filename", "url", "path") if key in file]
    return [names[0].split("#")[0].rsplit("/", 1)[-1], file.get("hash"), file.get("hashes")]


def _versions(packages: list[dict[str, Any]]) -> dict[str, str]:
    grouped = collect((normalise(package["name"]), str(package.get("version", ""))) for package in packages)
    return {name: " and ".join(sorted(found)) for name, found in grouped.items()}
