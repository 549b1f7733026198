"""How masters are named: lists and places in ZooKeeper, and what is neither."""

from __future__ import annotations

import pytest

from mesosctl.cli.params import parse_masters
from mesosctl.errors import UsageError
from mesosctl.model.masters import ZkPlace, parse_zk, split_masters


def test_a_place_in_zookeeper() -> None:
    """Ports are completed, servers named once, and the text can be read back."""
    place = parse_zk("zk://h1:2182, h2,[::1]:99,h2:2181/mesos/ctl/")
    assert place == ZkPlace(("h1:2182", "h2:2181", "[::1]:99"), "/mesos/ctl")
    assert parse_zk(str(place)) == place
    assert parse_masters(" zk://h1/p ") == "zk://h1:2181/p"


@pytest.mark.parametrize(
    "text",
    [
        "zk://",
        "zk://h",
        "zk://h/",
        "zk:///p",
        "zk://h,/p",
        "zk://h:0/p",
        "zk://h:65536/p",
        "zk://h:x/p",
        "zk://user:pw@h/p",
        "zk://h/a//b",
        "zk://h/a/../b",
        "zk://h/zookeeper/x",
        "zk://h/\u00fc",
        "h/p",
    ],
)
def test_what_is_no_place_in_zookeeper(text: str) -> None:
    """A typing error must not become another path, hence another cluster."""
    with pytest.raises(UsageError):
        parse_zk(text)


def test_a_list_is_split_and_a_place_in_zookeeper_is_not() -> None:
    """The commas of one are not the commas of the other."""
    assert split_masters("tcp://a:1, tcp://b:2") == ("tcp://a:1", "tcp://b:2")
    assert split_masters("zk://a,b/p") == ("zk://a,b/p",)
    assert split_masters("") == ()
