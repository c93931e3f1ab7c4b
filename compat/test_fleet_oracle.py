"""The oracle of the fleet is looked at itself: it sees each thing that may never be, and is silent about what may."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from fleet_oracle import BOUND, KEPT_AFTER, LIFE_LEFT, Credential, Oracle

ONE, OTHER = "i-00000000000000001", "i-00000000000000002"


def credential(key: str = "ASIA1", expires: float = 1e9, seen: float = 1.0) -> Credential:
    return Credential(key, "secret", "token", expires, seen)


def generation(machine: str = ONE, secret: str = "s") -> dict:
    given = {"access_key_id": "ASIA1", "secret_access_key": secret, "session_token": "t"}
    return {"instance": machine, "boot_generation": 1, "issued_at": 0, "expires_at": 9, "v1": given, "v2": given}


def one_machine() -> Oracle:
    oracle = Oracle()
    oracle.launched(0.0, ONE, 0)
    return oracle


def end(oracle: Oracle, kind: str, at: float, run: str = "a0") -> None:
    oracle.may_change(at - 0.5, ONE)
    oracle.ended(at, ONE, kind, run)


def let_in(oracle: Oracle, sent: float, run: str, status: int = 200, held: Credential | None = None) -> None:
    oracle.answered(ONE, held or credential(), sent, sent + 0.1, run, status, "")


def looked(oracle: Oracle, at: float, run: int, killed: float, held: Credential | None, wall: float = 0.0) -> None:
    oracle.looked(ONE, at, at + 0.1, (run, killed), held, "no credential: 404", wall)


def ended(oracle: Oracle) -> None:
    end(oracle, "terminated", 10.0)


def stopped(oracle: Oracle) -> None:
    end(oracle, "stopped", 10.0)


def evicted(oracle: Oracle) -> None:
    oracle.evicted(1.0, 0, 0.5, "a0")


def ended_at_another(after: float) -> Callable[[Oracle], None]:
    return in_turn(ended, lambda oracle: let_in(oracle, 10.0 + after, "b0"))


def epochs(*found: dict[int, str]) -> Callable[[Oracle], None]:
    """Somebody asks, and later asks again."""
    return lambda oracle: [oracle.epochs(2.0 * turn, 2.0 * turn + 1, one) for turn, one in enumerate(found)]


def begun_again_with_the_old(oracle: Oracle) -> None:
    end(oracle, "stopped", 10.0)
    oracle.may_begin(11.0, ONE)
    oracle.begun_again(12.0, ONE)
    let_in(oracle, 30.0, "b0")


def refused_after_a_restart(oracle: Oracle) -> None:
    end(oracle, "stopped", 10.0)
    oracle.may_begin(11.0, ONE)
    oracle.begun_again(12.0, ONE)
    new = credential("ASIA2", seen=13.0)
    let_in(oracle, 14.0, "b0", held=new)
    let_in(oracle, 15.0, "b0", 403, held=new)


def let_in_by_one_who_has_not_heard(oracle: Oracle) -> None:
    """It has begun again, and the credential of before is let in by one server, and refused by another."""
    old = credential(seen=1.0)
    end(oracle, "stopped", 10.0)
    oracle.may_begin(11.0, ONE)
    oracle.begun_again(12.0, ONE)
    let_in(oracle, 12.5, "b0", held=old)
    let_in(oracle, 12.6, "a0", 403, held=old)


def released(after: float) -> Callable[[Oracle], None]:
    """Released, with a credential that is let in, and then without."""

    def do(oracle: Oracle) -> None:
        end(oracle, "quarantined", 10.0)
        oracle.may_begin(11.0, ONE)
        oracle.begun_again(12.0, ONE)
        new = credential("ASIA2", seen=13.0)
        let_in(oracle, 14.0, "b0", held=new)
        looked(oracle, 10.0 + after, 0, 0.0, new)
        looked(oracle, 11.0 + after, 0, 0.0, None)

    return do


def later() -> Credential:
    """What was seen after all that happens at ten seconds."""
    return credential("ASIA3", seen=13.0)


def refused_after_it_was_let_in(oracle: Oracle) -> None:
    new = later()
    let_in(oracle, 14.0, "b0", held=new)
    let_in(oracle, 15.0, "b0", 403, held=new)


def revoked(oracle: Oracle) -> None:
    oracle.may_revoke(9.5)
    oracle.revoked(10.0, "a0")


def wide(host: int | None) -> Callable[[Oracle], None]:
    """A host's machines, or all, are put into quarantine."""

    def do(oracle: Oracle) -> None:
        oracle.may_be_wide(9.5, host)
        oracle.is_wide(10.0, "a0")

    return do


def unwide(oracle: Oracle) -> None:
    oracle.may_be_wide_no_more(11.0)
    oracle.is_wide_no_more(12.0)


def let_in_other(oracle: Oracle, sent: float) -> None:
    oracle.answered(OTHER, credential("ASIA4"), sent, sent + 0.1, "b0", 200, "")


def given(machine: str, sent: float, run: str = "b0", secret: str = "s") -> Callable[[Oracle], None]:
    return lambda oracle: oracle.given(0, sent, sent, run, [generation(machine, secret)])


def in_turn(*steps: Callable[[Oracle], object]) -> Callable[[Oracle], None]:
    def all_of(oracle: Oracle) -> None:
        for step in steps:
            step(oracle)

    return all_of


def lost_over_a_crash(held_for: float) -> Callable[[Oracle], None]:
    return in_turn(
        lambda oracle: looked(oracle, 1.0, 0, 0.0, credential()),
        lambda oracle: looked(oracle, 5.0 + held_for, 1, 1.1 + held_for, None),
    )


BROKEN = {
    "let in after the bound": (ended_at_another(BOUND + 0.1), "terminated since"),
    "let in by who ended it": (in_turn(ended, lambda o: let_in(o, 10.1, "a0")), "let in"),
    "let in with a credential of before": (begun_again_with_the_old, "credential of before"),
    "refused and never changed": (lambda o: let_in(o, 5.0, "a0", 403), "is refused"),
    "refused after it was let in": (refused_after_a_restart, "is refused"),
    "taken for another": (lambda o: o.is_itself(1.0, ONE, f"arn:…/{OTHER}"), "is taken for"),
    "launched twice": (lambda o: o.launched(2.0, ONE, 1), "has the id of another"),
    "on two hosts": (lambda o: o.lists(1.0, 3, [ONE]), "which is on host 0"),
    "given to another host": (lambda o: o.given(4, 1.0, 1.0, "a0", [generation()]), "host 4 is given a credential"),
    "given after its end": (in_turn(stopped, given(ONE, 10.2 + BOUND)), "given a credential"),
    "given after an eviction": (in_turn(evicted, given(OTHER, 1.2 + BOUND)), "is evicted"),
    "two different bytes": (in_turn(given(ONE, 1.0), given(ONE, 2.0, secret="x")), "servers disagree"),
    "lost by a host": (
        in_turn(lambda o: looked(o, 1.0, 0, 0.0, credential()), lambda o: looked(o, 2.0, 0, 0.0, None)),
        "no credential any more",
    ),
    "lost after a release": (released(5.0), "no credential any more"),
    "let in after a revocation": (in_turn(revoked, lambda o: let_in(o, 10.1 + BOUND, "b0")), "epoch is revoked since"),
    "let in by who revoked": (in_turn(revoked, lambda o: let_in(o, 10.1, "a0")), "epoch is revoked since"),
    "refused with what came after a revocation": (in_turn(revoked, refused_after_it_was_let_in), "is refused"),
    "let in while all are in quarantine": (in_turn(wide(None), lambda o: let_in(o, 10.1 + BOUND, "b0")), "quarantined"),
    "let in while its host is in quarantine": (in_turn(wide(0), lambda o: let_in(o, 10.1, "a0")), "quarantined"),
    "launched into a quarantine": (
        in_turn(wide(0), lambda o: o.launched(11.0, OTHER, 0), lambda o: let_in_other(o, 11.1 + BOUND)), "quarantined"
    ),
    "let in with what was before a quarantine": (
        in_turn(wide(0), unwide, lambda o: let_in(o, 30.0, "b0")), "credential of before"
    ),
    "lost over a crash": (lost_over_a_crash(KEPT_AFTER + 0.1), "no credential any more"),
    "little life left": (lambda o: looked(o, 1.0, 0, 0.0, credential(expires=LIFE_LEFT + 9), wall=10.0), "3599 s left"),
    "an epoch that goes back": (
        epochs({1: "sealing", 2: "acknowledged"}, {1: "sealing", 2: "published"}),
        "epoch 2 went back",
    ),
    "an epoch that is lost": (
        epochs({1: "sealing", 2: "published"}, {1: "sealing"}),
        "epoch 2 went back",
    ),
}  # fmt: skip

WHOLE = {
    "let in at the bound": ended_at_another(BOUND),
    "let in by another run": in_turn(ended, lambda o: let_in(o, 10.1, "a1")),
    "sent before the end": in_turn(ended, lambda o: let_in(o, 9.9, "a0")),
    "put off": lambda o: let_in(o, 5.0, "a0", 503),
    "put off, since it was slow": lambda o: let_in(o, 5.0, "a0", 408),
    "refused after its end": in_turn(ended, lambda o: let_in(o, 10.1, "a0", 403)),
    "refused while it is ended": in_turn(lambda o: o.may_change(4.0, ONE), lambda o: let_in(o, 3.9, "a0", 403)),
    "refused after another has not heard": let_in_by_one_who_has_not_heard,
    "a change that may come late": in_turn(
        stopped, lambda o: o.may_come_late(ONE), given(ONE, 20.0, "b0")
    ),
    "let in at the bound of a revocation": in_turn(revoked, lambda o: let_in(o, 10.0 + BOUND, "b0")),
    "refused while somebody revokes": in_turn(lambda o: o.may_revoke(9.5), lambda o: let_in(o, 9.6, "b0", 403)),
    "refused after a revocation": in_turn(revoked, lambda o: let_in(o, 20.0, "b0", 403)),
    "let in with what came after a revocation": in_turn(revoked, lambda o: let_in(o, 20.0, "a0", held=later())),
    "lost by a revocation": in_turn(
        lambda o: looked(o, 1.0, 0, 0.0, credential()), revoked, lambda o: looked(o, 11.0, 0, 0.0, None)
    ),
    "let in while another host is in quarantine": in_turn(wide(1), lambda o: let_in(o, 20.0, "a0")),
    "let in after a quarantine of many": in_turn(wide(None), unwide, lambda o: let_in(o, 30.0, "b0", held=later())),
    "launched before it is certain": in_turn(
        lambda o: o.may_be_wide(9.5, None), lambda o: o.launched(9.6, OTHER, 0), lambda o: let_in_other(o, 9.7)
    ),
    "lost over a crash, just given": lost_over_a_crash(KEPT_AFTER - 0.1),
    "life enough": lambda o: looked(o, 1.0, 0, 0.0, credential(expires=LIFE_LEFT + 10), wall=10.0),
    "the same bytes": in_turn(given(ONE, 1.0), given(ONE, 2.0)),
    "given at the bound": in_turn(stopped, given(ONE, 10.0 + BOUND)),
    "an epoch that goes on": epochs({1: "sealing", 2: "published"}, {1: "retired", 2: "sealing", 3: "published"}),
    "an answer that is older": in_turn(
        lambda o: o.epochs(1, 4, {1: "sealing"}), lambda o: o.epochs(2, 5, {1: "published"})
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_the_oracle_sees_what_is_broken(name: str):
    do, said = BROKEN[name]
    oracle = one_machine()
    do(oracle)
    assert any(re.search(said, line) for line in oracle.violations), oracle.violations or "it says nothing"


@pytest.mark.parametrize("name", WHOLE)
def test_the_oracle_is_silent_about_what_is_whole(name: str):
    oracle = one_machine()
    WHOLE[name](oracle)
    assert not oracle.violations
