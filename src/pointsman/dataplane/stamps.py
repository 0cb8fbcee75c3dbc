"""What a table of ours says that it was made from, in the comment of an element of one of its sets."""

from __future__ import annotations

from pointsman.kernel.nft import Nft, NftError


def read_stamp(nft: Nft, table: str, name: str) -> str | None:
    """The comment in the set ``name``; "" where there is none, None where there is no such set."""
    try:
        found = nft.listing(f"list set {table} {name}")
    except NftError as problem:
        if "No such file" in str(problem):
            return None
        raise
    for element in found[0]["set"].get("elem", []):
        if isinstance(element, dict):
            return str(element["elem"].get("comment", ""))
    return ""
