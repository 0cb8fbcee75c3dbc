from __future__ import annotations

from pointsman.plan.identity import ByIdentity, forget_beyond, remembered


def test_results_of_objects_that_are_gone_are_forgotten_once_there_are_more_than_that() -> None:
    made: list[list[int]] = []

    @remembered(1000)
    def compiled(key: ByIdentity[list[int]]) -> int:
        made.append(key.value)
        return len(key.value)

    stays = [1]
    for _ in range(3):
        compiled(ByIdentity(stays))
    compiled(ByIdentity([2]))
    assert len(made) == 2
    forget_beyond(2)
    compiled(ByIdentity(stays))
    assert len(made) == 2
    forget_beyond(1)
    compiled(ByIdentity(stays))
    assert len(made) == 3
