"""Files that cannot be read or are not TOML: one problem each, never a traceback."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from pointsman.config import ConfigError, Problem, load, parse
from pointsman.config.document import Document
from pointsman.config.loading import LARGEST_FILE

SMALL = """\
[gateway]
name = "edge-1"
hash_seed = 1
[[service]]
name = "coap"
protocol = "udp"
listen = ["192.0.2.10:5683"]
node = [{ name = "n1", address = "10.0.0.11" }, { name = "n2", address = "10.0.0.12" }]
"""


def problem_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "g")
    assert len(caught.value.problems) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\na = 2\n", "g:2: not TOML: a key is given twice; each key once in its table"),
        (
            "[a]\n\n[a]\n",
            "g:3: not TOML: a table is declared twice; [table] once, or [[table]] if there are many",
        ),
        ("\nprotocol = dtls\n", 'g:2: not TOML: no TOML value; text in quotes: "dtls"'),
        (
            "listen = 192.0.2.10:5684\n",
            'g:1: not TOML: more on the line than a value; text in quotes: "192.0.2.10:5684"',
        ),
        ('name = "edge\n\n', "g:1: not TOML: the line ends within quotes; quotes at both ends of a text"),
        ("[gateway]\nname\n", "g:2: not TOML: a key without a value; key = value"),
        ("a = [1,\n2\n", "g:2: not TOML: an array without its end; ] at the end of an array"),
        ("[gateway\n", "g:1: not TOML: expected ']' at the end of a table declaration; see https://toml.io"),
        (f"a = 1\nb = {'9' * 5000}", "g:2: an integer is too long; at most 64 bits"),
        (
            f"a = 1\nb = [\n{'[' * 5000}",
            "g:3: arrays or tables are nested too deeply; three levels are all that is needed",
        ),
        ("a = 1\nb = '\ud800'", "g:2: not UTF-8 text; save the file as UTF-8"),
    ],
)
def test_text_that_is_not_toml_is_one_problem_with_its_line(text: str, line: str) -> None:
    assert problem_of(text) == line


def test_what_tomllib_refuses_without_a_place_is_on_the_last_line() -> None:
    assert problem_of("a = 1\nb = '''\n\n").startswith("g:3: not TOML:")


@pytest.mark.parametrize("bits", ["0x" + "f" * 5000, "0b" + "1" * 20000])
def test_huge_integers_are_problems_like_others(bits: str) -> None:
    for key in ("weight", "id", "port"):
        text = SMALL.replace('name = "n1"', f'name = "n1", {key} = {bits}')
        assert problem_of(text).startswith("g:8: service coap, node n1: ")
    assert problem_of(f"{SMALL}flow_timeout = {bits}").startswith(
        "g:9: service coap: flow_timeout of 20000 bits"
    )


def test_a_deep_dotted_key_is_an_unknown_key() -> None:
    deep = ".".join(["a"] * 3000) + " = 1\n"
    assert tomllib.loads(deep)
    assert problem_of(deep + SMALL) == "g:1: unknown key a; known here: " + ", ".join(Document.model_fields)


def test_a_file_is_loaded_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    loaded = load(path)
    assert loaded.filename == str(path)
    assert loaded.gateway == parse(SMALL, "g").gateway
    assert loaded.text.count("\n") == 8
    assert loaded.line_of("coap") == 4


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value).removeprefix(str(path))


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    directory_loop = tmp_path / "loop"
    directory_loop.symlink_to(directory_loop)
    assert (
        refusal(tmp_path / "none.toml") == ": cannot be read: no such file or directory; a readable TOML file"
    )
    assert refusal(tmp_path) == ": cannot be read: is a directory; a readable TOML file"
    assert refusal(directory_loop).startswith(": cannot be read: too many levels of symbolic links")
    assert refusal(tmp_path / ("x" * 300)) == ": cannot be read: file name too long; a readable TOML file"
    assert refusal(Path("a\0b")) == ": is no file name; a readable TOML file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.toml"
    path.write_text(SMALL)
    path.chmod(0)
    assert refusal(path) == ": cannot be read: permission denied; a readable TOML file"


def test_bytes_that_are_not_utf8_have_their_line(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    for data, line in ((b"a = 1\nb = '\xff'\n", 2), (SMALL.encode("utf-16"), 1)):
        path.write_bytes(data)
        assert refusal(path) == f":{line}: not UTF-8 text; save the file as UTF-8"


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    assert refusal(Path("/dev/zero")) == f": the file is too large; at most {LARGEST_FILE >> 20} MiB"


def test_a_problem_renders_what_it_has() -> None:
    assert Problem(12, "service coaps, node n3", "id 300 is out of range", "0..255 (8 bits)").render(
        "g.toml"
    ) == ("g.toml:12: service coaps, node n3: id 300 is out of range; 0..255 (8 bits)")
    assert Problem(0, "", "cannot be read", "").render("g.toml") == "g.toml: cannot be read"


def test_problems_are_sorted_by_line_and_not_repeated() -> None:
    first, second = Problem(9, "", "b", ""), Problem(10, "", "a", "")
    assert ConfigError("g", [second, first, second]).problems == (first, second)
