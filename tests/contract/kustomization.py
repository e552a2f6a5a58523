"""The part of kustomize that our overlays use, strict: a patch without a target, or a path that is missing, raises.

It exists so that the overlays are checked where neither kustomize nor kubectl is installed; where kubectl is, a test
compares the two. Supported: namespace, resources, images, patches (RFC 6902 lists, and `$patch: delete`) with a
`target` by kind and name, both regular expressions. Anything else in a kustomization raises.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
_KEYS = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}


class OverlayError(Exception):
    """The kustomization does not apply."""


def render(folder: Path) -> list[Manifest]:
    """All manifests of the kustomization in `folder`, overlays applied.

    Raises:
        OverlayError: a key we do not know, a patch that selects nothing, or an operation that does not apply.
    """
    return render_text((folder / "kustomization.yaml").read_text(), folder)


def render_text(text: str, folder: Path) -> list[Manifest]:
    """As `render`, for the text of a kustomization whose paths are relative to `folder`."""
    kustomization = yaml.safe_load(text)
    if unknown := set(kustomization) - _KEYS:
        raise OverlayError(f"{folder}: keys {sorted(unknown)} are not supported by this check; extend it first")
    manifests: list[Manifest] = []
    for resource in kustomization.get("resources", []):
        path = (folder / resource).resolve()
        if path.is_file() and not path.is_relative_to(folder.resolve()):
            raise OverlayError(f"{folder}: {resource} is a file of another kustomization, which kustomize refuses")
        manifests += render(path) if path.is_dir() else load(path)
    for image in kustomization.get("images", []):
        _set_image(manifests, image, folder)
    for patch in kustomization.get("patches", []):
        manifests = _patch(manifests, patch, folder)
    for manifest in manifests:
        if "namespace" in kustomization:
            _set_namespace(manifest, kustomization["namespace"])
    return manifests


def load(path: Path) -> list[Manifest]:
    """The manifests of one YAML file."""
    return [manifest for manifest in yaml.safe_load_all(path.read_text()) if manifest is not None]


def _set_namespace(manifest: Manifest, namespace: str) -> None:
    if manifest["kind"] == "Namespace":
        manifest["metadata"]["name"] = namespace
    else:
        manifest["metadata"]["namespace"] = namespace


def _set_image(manifests: list[Manifest], image: dict[str, str], folder: Path) -> None:
    changed = 0
    for manifest in manifests:
        for container in manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            name, _, tag = container["image"].rpartition(":")
            if name == image["name"]:
                container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"
                changed += 1
    if not changed:
        raise OverlayError(f"{folder}: no container uses the image {image['name']}")


def _patch(manifests: list[Manifest], patch: dict[str, Any], folder: Path) -> list[Manifest]:
    target = patch["target"]
    if unknown := set(target) - {"kind", "name"}:
        raise OverlayError(f"{folder}: target keys {sorted(unknown)} are not supported by this check")
    chosen = [m for m in manifests if _selects(target, m)]
    if not chosen:
        raise OverlayError(f"{folder}: nothing is selected by {target}")
    body = yaml.safe_load(patch["patch"])
    if isinstance(body, dict):
        if body.get("$patch") != "delete":
            raise OverlayError(f"{folder}: use RFC 6902 operations; the merge patch for {target} is not supported")
        return [m for m in manifests if m not in chosen]
    for manifest in chosen:
        for operation in body:
            _apply(manifest, operation)
    return manifests


def _selects(target: dict[str, str], manifest: Manifest) -> bool:
    kind, name = target.get("kind", ".*"), target.get("name", ".*")
    return bool(re.fullmatch(kind, manifest["kind"]) and re.fullmatch(name, manifest["metadata"]["name"]))


def _apply(manifest: Manifest, operation: dict[str, Any]) -> None:
    """One RFC 6902 operation, in place."""
    path = operation["path"]
    where = f"{manifest['kind']}/{manifest['metadata']['name']}: {operation['op']} {path}"
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    node: Any = manifest
    for part in parents:
        node = _child(node, part, where)
    if operation["op"] == "add":
        value = copy.deepcopy(operation["value"])
        if isinstance(node, list):
            node.insert(len(node) if last == "-" else int(last), value)
        else:
            node[last] = value
        return
    present = _child(node, last, where)
    key: Any = int(last) if isinstance(node, list) else last
    if operation["op"] == "replace":
        node[key] = copy.deepcopy(operation["value"])
    elif operation["op"] == "remove":
        del node[key]
    elif operation["op"] == "test":
        if present != operation["value"]:
            raise OverlayError(f"{where}: expected {operation['value']!r}, found {present!r}")
    else:
        raise OverlayError(f"{where}: unknown operation")


def _child(node: Any, part: str, where: str) -> Any:
    try:
        return node[int(part)] if isinstance(node, list) else node[part]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise OverlayError(f"{where}: {part!r} does not exist") from error
