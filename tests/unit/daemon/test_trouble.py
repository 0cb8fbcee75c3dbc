"""What the daemon does when things happen at once, and when the kernel or the disk refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.unit.daemon.fake import Kernel, running, text, until

from pointsman.api.documents import ApplyRequest, OrderRequest, ReplaceRequest, Verb
from pointsman.api.operator import RefusedError
from pointsman.config import ConfigError, Problem
from pointsman.daemon import in_force, looking, repairs, steps
from pointsman.daemon.daemon import Daemon
from pointsman.daemon.events import Kind
from pointsman.health.engine import Change, Untried
from pointsman.kernel.errors import KernelError
from pointsman.model import NodeState, NodeStates
from pointsman.reconcile.state import AppliedState
from pointsman.reconcile.store import Trial

REFUSAL = KernelError("no")
Case = Callable[[Daemon], Awaitable[None]]


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(text())
    return path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "FIRST", 0.05)
    monkeypatch.setattr(in_force, "RETRY", 0.05)
    monkeypatch.setattr(looking, "FEED_EVERY", 0.05)


def play(kernel: Kernel, file: Path, case: Case) -> None:
    async def play_it() -> None:
        async with running(kernel, file) as daemon:
            await case(daemon)

    asyncio.run(play_it())


def verdict(daemon: Daemon, node: str, *, healthy: bool) -> None:
    daemon._report(Change("s", node, healthy, "a check", 0.0))


def said(daemon: Daemon, kind: Kind) -> list[str]:
    return [event.text for event in daemon.log.after(0) if event.kind == kind]


DRAIN, DISABLE = OrderRequest(verb=Verb.DRAIN), OrderRequest(verb=Verb.DISABLE)


def test_orders_that_come_at_once_hold_both(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        await asyncio.gather(daemon.order("a", "s", "n1", DRAIN), daemon.order("b", "s", "n2", DISABLE))
        assert {(each.node, each.who) for each in kernel.book.orders} == {("n1", "a"), ("n2", "b")}
        assert kernel.applied.states.exceptions == {
            ("s", "n1"): NodeState.DRAINING,
            ("s", "n2"): NodeState.DISABLED,
        }

    play(kernel, file, case)


def test_a_verdict_that_comes_during_an_apply_is_carried_out_behind_it(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        kernel.going.clear()
        applying = asyncio.create_task(
            daemon.apply("a", ApplyRequest(text=text("n1", "n2", "n3"), filename="f"))
        )
        await asyncio.sleep(0.05)
        verdict(daemon, "n1", healthy=False)
        await asyncio.sleep(0.05)
        kernel.going.set()
        await applying
        await until(lambda: kernel.applied.states.of("s", "n1") is NodeState.DOWN)
        assert "n3" in str(kernel.applied.text)

    play(kernel, file, case)


def test_an_order_about_a_node_that_a_reload_takes_away_meanwhile_is_refused(
    kernel: Kernel, file: Path
) -> None:
    async def case(daemon: Daemon) -> None:
        kernel.going.clear()
        file.write_text(text("n1"))
        reload = asyncio.create_task(daemon.reload("a"))
        await asyncio.sleep(0.05)
        order = asyncio.create_task(daemon.order("b", "s", "n2", DRAIN))
        await asyncio.sleep(0.05)
        kernel.going.set()
        await reload
        with pytest.raises(RefusedError, match="no node 'n2'"):
            await order
        assert kernel.book.orders == ()

    play(kernel, file, case)


@pytest.mark.parametrize("problem", [REFUSAL, OSError(28, "No space left on device")])
def test_an_order_whose_end_cannot_be_written_down_ends_all_the_same(
    kernel: Kernel, file: Path, problem: Exception
) -> None:
    async def case(daemon: Daemon) -> None:
        await daemon.order("a", "s", "n1", OrderRequest(verb=Verb.DISABLE, seconds=1))
        kernel.fails["write_orders"] = problem
        await until(lambda: said(daemon, Kind.FAILED))
        assert "written with the next order" in said(daemon, Kind.FAILED)[0]
        await until(lambda: kernel.applied.states == NodeStates())
        del kernel.fails["write_orders"]
        await daemon.order("a", "s", "n2", DRAIN)
        assert [order.node for order in kernel.book.orders] == ["n2"]

    play(kernel, file, case)


def test_counters_that_cannot_be_read_neither_end_the_daemon_nor_busy_it(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        kernel.fails["look"] = REFUSAL
        await daemon.order("a", "s", "n1", DRAIN)
        await asyncio.sleep(0.4)
        assert 1 <= kernel.calls.count("look") <= 8
        with pytest.raises(RefusedError) as refusal:
            await daemon.status()
        assert refusal.value.status == 500

    play(kernel, file, case)


def test_states_that_cannot_be_had_are_tried_again_until_nobody_wants_them(
    kernel: Kernel, file: Path
) -> None:
    async def case(daemon: Daemon) -> None:
        kernel.fails["change_states"] = REFUSAL
        verdict(daemon, "n1", healthy=False)
        await until(lambda: kernel.calls.count("change_states") >= 2)
        verdict(daemon, "n1", healthy=True)
        await asyncio.sleep(0.1)
        passes = 0
        effective = daemon._in_force.effective

        def counted(*arguments: object) -> object:
            nonlocal passes
            passes += 1
            return effective(*arguments)  # type: ignore[arg-type]

        daemon._in_force.effective = counted  # type: ignore[method-assign, assignment]
        await asyncio.sleep(0.3)
        assert passes < 5

    play(kernel, file, case)


@pytest.mark.parametrize(
    "problem", [REFUSAL, ConfigError("f", [Problem(1, "x", "y", "z")]), OSError(24, "Too many open files")]
)
def test_damage_that_cannot_be_mended_is_tried_again(
    kernel: Kernel, file: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    monkeypatch.setattr(repairs, "AUDIT_EVERY", 0.05)

    async def case(daemon: Daemon) -> None:
        kernel.fails["repair"] = problem
        daemon._repairs._audit_at = 0.0
        daemon._in_force.wake.set()
        await until(lambda: said(daemon, Kind.FAILED))
        await until(lambda: kernel.calls.count("repair") >= 2)

    play(kernel, file, case)


def test_going_back_is_tried_until_it_is_done(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        await daemon.apply("a", ApplyRequest(text=text("n1"), filename="f", confirm=1))
        kernel.fails["text"] = REFUSAL
        await until(lambda: said(daemon, Kind.FAILED))
        kernel.fails = {"apply": REFUSAL}
        await until(lambda: kernel.calls[-1] == "apply")
        assert kernel.on_trial is not None
        kernel.fails = {}
        await until(lambda: said(daemon, Kind.ROLLED_BACK))
        await until(lambda: kernel.on_trial is None)
        assert kernel.applied.text == text()

    play(kernel, file, case)


def test_a_refused_trial_leaves_the_one_before_it_on_trial(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        await daemon.apply("a", ApplyRequest(text=text("n1"), filename="f", confirm=50))
        first = kernel.on_trial
        kernel.fails["apply"] = REFUSAL
        with pytest.raises(RefusedError):
            await daemon.apply("a", ApplyRequest(text=text("n2"), filename="f", confirm=500))
        assert kernel.on_trial == first
        assert kernel.applied.text == text("n1")

    play(kernel, file, case)


def test_a_trial_goes_back_to_what_was_in_force_not_to_what_was_kept_last(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        kernel.fails["keep"] = KernelError("the disk is full")
        await daemon.apply("a", ApplyRequest(text=text("n1"), filename="f"))
        with pytest.raises(RefusedError, match="no configuration is kept to go back to"):
            await daemon.apply("a", ApplyRequest(text=text("n2"), filename="f", confirm=5))
        assert kernel.applied.text == text("n1")

    play(kernel, file, case)


def test_a_replacement_that_cannot_be_kept_is_undone(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        kernel.fails["write_orders"] = REFUSAL
        with pytest.raises(RefusedError):
            await daemon.replace("a", "s", "n1", ReplaceRequest(address=["10.0.0.9", "fd00::9"]))
        assert kernel.applied.replacements == {}
        kernel.fails = {}
        await daemon.replace("a", "s", "n1", ReplaceRequest(address=["10.0.0.9", "fd00::9"]))
        assert kernel.applied.replacements == {("s", "n1"): ("10.0.0.9", "fd00::9")}

    play(kernel, file, case)


def test_where_the_file_cannot_be_applied_the_last_configuration_serves(kernel: Kernel, file: Path) -> None:
    kernel.applied = AppliedState("f", text("n1"))
    real = kernel._now

    def picky(*arguments: object) -> object:
        if arguments[0].text == text():  # type: ignore[attr-defined]
            raise ConfigError("f", [Problem(1, "x", "cannot be", "y")])
        return real(*arguments)  # type: ignore[arg-type]

    kernel._now = picky  # type: ignore[method-assign, assignment]

    async def case(daemon: Daemon) -> None:
        assert kernel.applied.text == text("n1")
        assert "the last good configuration serves" in said(daemon, Kind.REFUSED)[0]

    play(kernel, file, case)


def test_a_file_that_cannot_be_applied_and_nothing_before_it_is_an_error(kernel: Kernel, file: Path) -> None:
    kernel.fails["apply"] = ConfigError("f", [Problem(1, "x", "cannot be", "y")])
    with pytest.raises(ConfigError):
        asyncio.run(Daemon(file, kernel).start())


def test_where_the_kernel_refuses_the_file_the_last_configuration_serves(kernel: Kernel, file: Path) -> None:
    """As with a data plane that the machine cannot carry."""
    kernel.applied = AppliedState("f", text("n1"))
    real = kernel._now

    def picky(*arguments: object) -> object:
        if arguments[0].text == text():  # type: ignore[attr-defined]
            raise REFUSAL
        return real(*arguments)  # type: ignore[arg-type]

    kernel._now = picky  # type: ignore[method-assign, assignment]

    async def case(daemon: Daemon) -> None:
        assert kernel.applied.text == text("n1")
        assert "the last good configuration serves" in said(daemon, Kind.REFUSED)[0]

    play(kernel, file, case)


def test_a_daemon_that_was_killed_over_a_trial_goes_on_with_it(kernel: Kernel, file: Path) -> None:
    kernel.applied = AppliedState("tried.toml", text("n1"))
    kernel.texts = {1: text()}
    kernel.on_trial = Trial(time.time() + 100, 1)

    async def case(daemon: Daemon) -> None:
        assert (kernel.applied.filename, kernel.applied.text) == ("tried.toml", text("n1"))
        assert daemon.is_on_trial
        await daemon.confirm("a")
        assert kernel.applied.text == text("n1")

    play(kernel, file, case)


def test_a_daemon_that_comes_back_when_a_trial_is_over_has_what_was_before(
    kernel: Kernel, file: Path
) -> None:
    """The file is the one that was tried; nothing else is in force for a moment."""
    file.write_text(text("n1"))
    kernel.applied = AppliedState(str(file), text("n1"))
    kernel.texts = {1: text()}
    kernel.on_trial = Trial(time.time() - 1, 1)

    async def case(daemon: Daemon) -> None:
        assert kernel.applied.text == text()
        await until(lambda: said(daemon, Kind.ROLLED_BACK))
        await until(lambda: kernel.on_trial is None)
        assert kernel.applied.text == text()

    play(kernel, file, case)


def test_a_reload_that_is_refused_for_a_trial_does_not_speak_ill_of_the_file(
    kernel: Kernel, file: Path
) -> None:
    async def case(daemon: Daemon) -> None:
        file.write_text(text("n1"))
        await daemon.apply("a", ApplyRequest(text=text("n1"), filename=str(file), confirm=50))
        with pytest.raises(RefusedError, match="on trial"):
            await daemon.reload("a")
        await daemon.confirm("a")
        assert daemon._configurations.stale == ""
        await daemon.apply("a", ApplyRequest(text=text("n2"), filename=str(file)))
        assert "was applied by a" in daemon._configurations.stale

    play(kernel, file, case)


def test_a_change_is_carried_to_its_end_though_who_asked_has_gone(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        kernel.going.clear()
        asking = asyncio.create_task(daemon.apply("a", ApplyRequest(text=text("n1"), filename="f")))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        kernel.going.set()
        await until(lambda: said(daemon, Kind.APPLIED))
        assert await daemon.configuration() == text("n1") == kernel.applied.text

    play(kernel, file, case)


def test_a_replacement_that_the_file_has_contradicted_does_not_come_back(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        await daemon.replace("a", "s", "n1", ReplaceRequest(address=["10.0.0.9", "fd00::9"], reason="newer"))
        (node,) = [each for each in (await daemon.status()).services[0].nodes if each.name == "n1"]
        assert node.why == "replaced by a: newer (the file says 10.0.0.1, fd00::1)"
        await daemon.reload("a")
        assert kernel.applied.replacements == {("s", "n1"): ("10.0.0.9", "fd00::9")}, "the file says the same"
        file.write_text(text().replace('10.0.0.1"', '10.0.0.7"'))
        await daemon.reload("a")
        assert kernel.applied.replacements == {}
        file.write_text(text())
        await daemon.reload("a")
        assert kernel.applied.replacements == {}
        assert kernel.book.replacements == ()

    play(kernel, file, case)


def test_a_trial_that_contradicts_a_replacement_gives_it_back_when_it_rolls_back(
    kernel: Kernel, file: Path
) -> None:
    async def case(daemon: Daemon) -> None:
        await daemon.replace("a", "s", "n1", ReplaceRequest(address=["10.0.0.9", "fd00::9"]))
        tried = text().replace('10.0.0.1"', '10.0.0.7"')
        await daemon.apply("a", ApplyRequest(text=tried, filename="f", confirm=1))
        assert kernel.applied.replacements == {}
        await until(lambda: said(daemon, Kind.ROLLED_BACK))
        assert kernel.applied.replacements == {("s", "n1"): ("10.0.0.9", "fd00::9")}
        await until(lambda: kernel.on_trial is None)
        assert daemon._configurations.stale == "", "the file is what is in force"
        assert [each.current for each in await daemon.history()].count(True) <= 1

    play(kernel, file, case)


def test_every_reload_is_told_of_also_one_that_is_refused(kernel: Kernel, file: Path) -> None:
    """Tokens and certificates are read again by it."""

    async def case(daemon: Daemon) -> None:
        told: list[bool] = []
        daemon.when_reloaded = lambda: told.append(True)
        await daemon.reload("a")
        file.write_text("?")
        with pytest.raises(RefusedError):
            await daemon.reload("a")
        assert len(told) == 2

    play(kernel, file, case)


@pytest.mark.parametrize("verb", ["reload", "restore", "confirm", "history"])
def test_whoever_asks_is_told_what_the_disk_refused(kernel: Kernel, file: Path, verb: str) -> None:
    async def case(daemon: Daemon) -> None:
        if verb == "confirm":
            await daemon.apply("a", ApplyRequest(text=text("n1"), filename="f", confirm=50))
        kernel.fails = {
            name: OSError(5, "Input/output error") for name in ("apply", "text", "kept", "write_trial")
        }
        asks: dict[str, Callable[[], Awaitable[object]]] = {
            "reload": lambda: daemon.reload("a"),
            "restore": lambda: daemon.restore("a", 1),
            "confirm": lambda: daemon.confirm("a"),
            "history": daemon.history,
        }
        with pytest.raises(RefusedError, match="Input/output error"):
            await asks[verb]()

    play(kernel, file, case)


def test_it_ends_when_asked_to_also_in_the_moment_that_something_comes(kernel: Kernel, file: Path) -> None:
    async def play_it() -> None:
        daemon = Daemon(file, kernel)
        daemon.engine.run = asyncio.Event().wait  # type: ignore[method-assign, assignment]
        await daemon.start()
        for _ in range(20):
            task = asyncio.create_task(daemon.run())
            await asyncio.sleep(0.01)
            daemon._in_force.wake.set()
            await asyncio.sleep(0)  # the waiting is over, and the loop has not gone on yet
            task.cancel()
            async with asyncio.timeout(5):
                await asyncio.gather(task, return_exceptions=True)
        await daemon.close()

    asyncio.run(play_it())


def test_a_draining_node_that_goes_down_is_found_to_be_quiet(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        await daemon.order("me", "s", "n1", OrderRequest(verb=Verb.DRAIN))
        verdict(daemon, "n1", healthy=False)
        await until(lambda: kernel.applied.states.of("s", "n1") is NodeState.DOWN)
        await asyncio.sleep(0.6)
        found = await daemon.drained("s", "n1")
        assert found.state == "down"
        assert found.quiet >= 0.5
        assert found.order is not None
        assert found.order.verb is Verb.DRAIN
        await daemon.order("me", "s", "n1", OrderRequest(verb=Verb.ENABLE))
        found = await daemon.drained("s", "n1")
        assert (found.order, daemon._looking.feed_at) == (None, None)

    play(kernel, file, case)


def test_a_daemon_that_never_served_does_not_say_that_it_stopped(kernel: Kernel, tmp_path: Path) -> None:
    async def case() -> list[str]:
        daemon = Daemon(tmp_path / "nope.toml", kernel)
        with pytest.raises(ConfigError):
            await daemon.start()
        await daemon.close()
        return said(daemon, Kind.STOPPED)

    assert asyncio.run(case()) == []


def test_a_check_that_cannot_be_tried_is_an_event(kernel: Kernel, file: Path) -> None:
    async def case(daemon: Daemon) -> None:
        for reason in ("not tried: too many open files", None):
            daemon._untried(Untried("s", "n1", "udp 10.0.0.1:5683", reason))
        assert said(daemon, Kind.UNTRIED) == [
            "s/n1: udp 10.0.0.1:5683: not tried: too many open files; its verdict stays as it was",
            "s/n1: udp 10.0.0.1:5683: tried again",
        ]

    play(kernel, file, case)
