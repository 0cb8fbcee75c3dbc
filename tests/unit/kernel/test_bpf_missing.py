"""Without libbpf, or with one that is too old, everything can be imported and one line says what is wrong."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pointsman.kernel import bpf, bpf_attach, bpf_library
from pointsman.kernel.errors import KernelError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    bpf_library.library.cache_clear()
    yield
    bpf_library.library.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    monkeypatch.setattr(bpf_library, "_open", lambda: library)


def old(major: int = 1, without: str = "") -> SimpleNamespace:
    names = {name: SimpleNamespace() for name in bpf_library._FUNCTIONS if name != without}

    class Version:
        def __call__(self) -> int:
            return major

    return SimpleNamespace(**{**names, "libbpf_major_version": Version()})


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf_library, "NAME", "libbpf-that-nobody-has.so.1")

    with pytest.raises(KernelError) as caught:
        bpf.Object.open(Path("any.o"))

    assert str(caught.value) == "libbpf-that-nobody-has.so.1 is not installed (Debian: apt install libbpf1)"
    assert caught.value.__cause__ is None


def test_its_name_is_that_of_libbpf_1() -> None:
    assert bpf_library.NAME == "libbpf.so.1"


def test_a_missing_library_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> ctypes.CDLL:
        raise OSError("no such file")

    monkeypatch.setattr(bpf_library, "_open", missing)
    for call in (lambda: bpf_attach.xdp_on(1), lambda: bpf_attach.xdp_on(1), bpf.possible_cpus):
        with pytest.raises(bpf.BpfError, match="not installed"):
            call()


def test_an_old_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, old(major=0))

    with pytest.raises(bpf.BpfError, match=r"^libbpf\.so\.1 is too old: libbpf 1\.0 or later is needed$"):
        bpf.possible_cpus()


def test_a_library_without_a_function_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, old(without="bpf_link_create"))

    with pytest.raises(bpf.BpfError, match=r"it has no bpf_link_create; libbpf 1\.0 or later"):
        bpf.possible_cpus()


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "run as root"), (2, "No such file"), (524, "not supported by this kernel")],
)
def test_an_errno_becomes_words(number: int, words: str) -> None:
    with pytest.raises(bpf.BpfError, match=words) as caught:
        bpf_library.check(-number, "what was tried")
    assert caught.value.number == number
    assert bpf_library.check(number, "what was tried") == number


def test_a_refusal_tells_the_verifiers_last_words() -> None:
    said = (
        "libbpf: prog 'bad': BPF program load failed: Permission denied\n"
        "libbpf: prog 'bad': -- BEGIN PROG LOAD LOG --\n"
        "0: R1=ctx(off=0,imm=0)\n; return 1;\n2: (61) r0 = *(u32 *)(r2 +0)\nR2 invalid mem access 'scalar'\n"
        "processed 3 insns (limit 1000000) max_states_per_insn 0 total_states 0\n"
        "-- END PROG LOAD LOG --\nlibbpf: failed to load object 'bad.o'\n"
    )

    words = bpf._refusal(said, 13)

    assert words.endswith(
        "the verifier says of bad: 2: (61) r0 = *(u32 *)(r2 +0) / R2 invalid mem access 'scalar'"
    )


def test_a_refusal_without_a_verifiers_log_tells_libbpfs_first_words() -> None:
    assert bpf._refusal("libbpf: map 'm': failed to create\nlibbpf: failed to load\n", 22) == (
        "Invalid argument (map 'm': failed to create)"
    )
    assert bpf._refusal("", 22) == "Invalid argument"
