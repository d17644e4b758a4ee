"""Who hears, of the clients of Dask distributed, which workers were lost; and which clients a pool takes."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from conftest import isolated

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.skipif(find_spec("distributed") is None, reason="no distributed"),
]


class OneLoop:
    """Calls at once."""

    def add_callback(self, function: Any, *arguments: Any) -> None:
        function(*arguments)


class OneClient:
    """What a watch needs of a client."""

    def __init__(self) -> None:
        self.loop = OneLoop()
        self.status = "running"
        self.scheduler_comm: object = object()
        self._event_handlers: dict[str, Any] = {}
        self.subscribed: list[Any] = []

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        self._event_handlers[topic] = handler
        self.subscribed.append(handler)

    def unsubscribe_topic(self, topic: str) -> None:
        assert topic in self._event_handlers
        self.subscribed.append(None)


def watch() -> None:
    """Who hears of lost workers."""
    from distributed.cfexecutor import ClientExecutor

    from fastproc import Pool
    from fastproc.pool import _dask
    from fastproc.pool._make_crew import make_link

    class Own(ClientExecutor):  # type: ignore[misc]
        pass

    client: Any = OneClient()
    client.scheduler = None
    client._asynchronous = False
    link = make_link(Own(client))
    assert isinstance(link, _dask.DaskLink)
    client._asynchronous = True
    with pytest.raises(TypeError, match=r"^executor: its client is asynchronous; use fastproc.aio.Pool"):
        Pool(executor=Own(client))
    assert isinstance(make_link(Own(client), True), _dask.DaskLink)

    watch = _dask._Watch()
    watch.join(client, link)
    watch.join(client, link)
    watch.renew(client)
    assert client.subscribed == [watch._on_event]
    # Another connection: the scheduler that begins knows of nothing.
    client.scheduler_comm = object()
    watch.renew(client)
    watch.renew(client)
    assert client.subscribed == [watch._on_event] * 2
    watch.leave(client)
    assert len(client.subscribed) == 2
    watch.leave(client)
    assert client.subscribed[2:] == [None]
    # The handler that was there before is there again, and one that was set meanwhile stays.
    client.subscribe_topic("all", first := print)
    watch.join(client, link)
    watch.leave(client)
    assert client.subscribed[3:] == [first, watch._on_event, first]
    watch.join(client, link)
    client.subscribe_topic("all", second := repr)
    watch.leave(client)
    assert client._event_handlers == {"all": second}
    # A collector of garbage may end a pool in the middle of anything; a closed client is asked nothing.
    with _dask._lock:
        watch.join(client, link)
        client.status = "closed"
        watch.leave(client)
    assert client._event_handlers["all"] == watch._on_event


def test_who_hears_of_lost_workers() -> None:
    """One handler for all pools of a client, renewed with its connection; the user's own is not lost."""
    isolated(watch)
