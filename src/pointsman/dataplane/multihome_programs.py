"""The programs of multihomed servers, pinned in a folder of this network namespace, with one in it for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from importlib import resources
from pathlib import Path

from pointsman.kernel import bpffs, cgroups, iproute
from pointsman.kernel.bpf import Map, Object, unpin
from pointsman.kernel.bpf_cgroup import CgroupLink, attach_cgroup, cgroup_number
from pointsman.kernel.bpf_library import BpfError
from pointsman.kernel.errors import KernelError
from pointsman.plan.multihome import Attachment
from pointsman.plan.multihome_abi import MAPS, PROGRAMS, UPLINK, port_words

OBJECT = "multihome.bpf.o"


def object_path() -> Path:
    """The compiled programs; raise BpfError where this installation has none."""
    path = Path(str(resources.files("pointsman") / "programs" / OBJECT))
    if not path.exists():
        raise BpfError(
            f"{path} is missing: this installation has no compiled programs; `make programs` builds them"
        )
    return path


class Programs:
    """What stands in the folder, and how it becomes what is wanted."""

    def __init__(self, folder: str) -> None:
        self._name = folder

    def changes(self, wanted: Iterable[Attachment]) -> list[str]:
        """What ``become`` would change, one line each."""
        there, lines = self._servers(), []
        for each in wanted:
            stands = there.pop(each.name, None)
            if stands is None:
                lines.append(f"multihome {each.name}: programs on the control group {each.cgroup}: new")
            elif not _holds(stands, each):
                lines.append(
                    f"multihome {each.name}: programs on the control group {each.cgroup}: attached anew"
                )
            elif not _filled(stands, each):
                lines.append(f"multihome {each.name}: ports or uplinks changed")
        return [*lines, *(f"multihome {name}: programs removed" for name in there)]

    def become(self, wanted: Iterable[Attachment]) -> None:
        """Attach what is missing beside what stands, then take away what is too much; raise KernelError."""
        there, right = self._servers(), []
        for each in wanted:
            stands = there.get(each.name)
            if stands is None or not _holds(stands, each):
                right.append(self._attach(each, anew=stands))
            else:
                if not _filled(stands, each):
                    with Map.from_pin(stands / "ports") as ports, Map.from_pin(stands / "uplinks") as uplinks:
                        _fill(ports, uplinks, each)
                right.append(stands)
        root = bpffs.existing(self._name)
        if root is None:
            return
        for folder in list(root.iterdir()):
            if folder not in right:
                _remove(folder)
        if not right:
            bpffs.remove(root)

    def _servers(self) -> dict[str, Path]:
        """The folder of each server; the newest, where a process was killed between two."""
        root = bpffs.existing(self._name)
        if root is None:
            return {}
        found = sorted((int(path.name.rpartition("-")[2]), path) for path in root.iterdir())
        return {path.name.rpartition("-")[0]: path for _, path in found}

    def _attach(self, wanted: Attachment, anew: Path | None) -> Path:
        cgroup = cgroups.found(wanted.cgroup)
        if cgroup is None:
            raise KernelError(
                f"multihome {wanted.name}: there is no control group {wanted.cgroup}; start the server first"
            )
        root = bpffs.folder(self._name)
        number = int(anew.name.rpartition("-")[2]) + 1 if anew is not None else 1
        folder = root / f"{wanted.name}-{number}"
        with ExitStack() as stack:
            compiled = stack.enter_context(Object.open(object_path()))
            compiled.load()
            maps = {name: stack.enter_context(compiled.map(name)) for name in MAPS}
            _fill(maps["ports"], maps["uplinks"], wanted)
            try:
                folder.mkdir(mode=0o700)
                (folder / _digest()).mkdir()
                for name, own in maps.items():
                    own.pin(folder / name)
                for name, attach_type in PROGRAMS.items():
                    program = stack.enter_context(compiled.program(name))
                    link = stack.enter_context(attach_cgroup(program, cgroup, attach_type))
                    link.pin(folder / name)
            except (KernelError, OSError) as problem:
                with suppress(KernelError, OSError):
                    _remove(folder)
                if isinstance(problem, OSError):
                    raise BpfError(f"cannot make {folder}: {problem.strerror}") from None
                raise
        return folder


def _holds(folder: Path, wanted: Attachment) -> bool:
    """Whether this version's programs are all there, on the control group as it is now."""
    cgroup = cgroups.found(wanted.cgroup)
    if cgroup is None or not (folder / _digest()).is_dir():
        return False
    if any(not (folder / name).exists() for name in MAPS):
        return False
    try:
        for name in PROGRAMS:
            with CgroupLink.from_pin(folder / name) as link:
                if link.cgroup != cgroup_number(cgroup):
                    return False
    except BpfError:
        return False
    return True


def _filled(folder: Path, wanted: Attachment) -> bool:
    with Map.from_pin(folder / "ports") as ports, Map.from_pin(folder / "uplinks") as uplinks:
        content = dict(ports.items_batch())
        there = dict(uplinks.items_batch())
    words = port_words(wanted.ports)
    return there == _uplinks(wanted) and all(
        content.get(_key(index)) == word for index, word in enumerate(words)
    )


def _fill(ports: Map, uplinks: Map, wanted: Attachment) -> None:
    words = port_words(wanted.ports)
    ports.update_batch(b"".join(_key(index) for index in range(len(words))), b"".join(words), len(words))
    interfaces = _uplinks(wanted)
    for key in list(uplinks.keys()):
        if key not in interfaces:
            uplinks.delete(key)
    for key, value in interfaces.items():
        uplinks.update(key, value)


def _uplinks(wanted: Attachment) -> dict[bytes, bytes]:
    links = iproute.links()
    return {_key(links[name].index): UPLINK.pack(name.encode()) for name in wanted.uplinks if name in links}


def _key(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _digest() -> str:
    return f"version-{hashlib.blake2b(object_path().read_bytes(), digest_size=6).hexdigest()}"


def _remove(folder: Path) -> None:
    for pin in folder.iterdir():
        if pin.is_dir():
            pin.rmdir()
        else:
            unpin(pin)
    folder.rmdir()
