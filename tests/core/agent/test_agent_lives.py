"""Lives and sessions are counted, so that what comes late is known for what it is."""

from __future__ import annotations

from mesosctl.core.machine import Started
from mesosctl.protocol.messages.agent import RegisterAgent
from tests.core.agent.conftest import Bench


def opened(bench: Bench) -> tuple[int, int]:
    (hello,) = bench.took(RegisterAgent)
    return hello.life, hello.opening


def test_each_start_is_a_life_and_each_session_an_opening(bench: Bench) -> None:
    """The life is on disk before the master hears of it: a life that said nothing counts, too."""
    bench.do(Started())
    assert bench.register().life == 1
    bench.cut_master()
    bench.advance(2.0)
    assert opened(bench) == (1, 2)
    bench.restart()
    bench.messages.clear()
    assert bench.tables["meta"]["agent"]["life"] == 2
    bench.restart()
    assert opened(bench) == (3, 1)
