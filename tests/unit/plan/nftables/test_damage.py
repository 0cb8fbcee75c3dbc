from __future__ import annotations

from pathlib import Path

from pointsman.plan.nftables.damage import damage, rules_listed
from pointsman.plan.nftables.ruleset import Chain, Ruleset

LISTING = """\
table inet pointsman {
	set applied {
		type mark
	}

	chain entry {
		type filter hook prerouting priority raw; policy accept;
		ip daddr . udp dport vmap @entries
	}

	chain sent_cid4 {
		notrack
		accept
	}
}
"""
RULESET = Ruleset(
    {},
    {
        "entry": Chain(
            "entry", ("ip daddr . udp dport vmap @entries",), "type filter hook prerouting priority raw;"
        ),
        "sent_cid4": Chain("sent_cid4", ("notrack", "accept")),
    },
)


def test_a_table_as_it_was_made_is_whole() -> None:
    assert list(damage(RULESET, LISTING)) == []


def test_a_flushed_chain_and_a_missing_one_are_told() -> None:
    without = LISTING.replace("\t\tnotrack\n\t\taccept\n", "").replace("chain entry", "chain other")
    assert list(damage(RULESET, without)) == [
        "chain inet pointsman entry is gone",
        "chain inet pointsman sent_cid4 has 0 rules in place of 2",
    ]


def test_another_ones_rule_in_a_chain_of_ours_is_told() -> None:
    more = LISTING.replace("\t\tnotrack\n", "\t\tdrop\n\t\tnotrack\n")
    assert list(damage(RULESET, more)) == ["chain inet pointsman sent_cid4 has 3 rules in place of 2"]


def test_lines_of_sets_are_no_rules() -> None:
    golden = (Path(__file__).parents[3] / "golden/rulesets/coaps.nft").read_text()
    found = rules_listed(golden)
    assert len(found) > 10
    assert "applied" not in found
