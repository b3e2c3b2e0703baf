"""What every store must do. A backend's own tests call ``check_store``, or each of ``CHECKS`` by itself.

Needs no test framework: a failed check raises ``AssertionError``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, TypeAlias

from antiphon.store import (
    DuplicateResponse,
    Selection,
    Store,
    StoreUnavailable,
    UnknownCursor,
)
from antiphon.testing.check_conversations import CONVERSATION_CHECKS
from antiphon.testing.check_deliveries import DELIVERY_CHECKS
from antiphon.testing.check_runs import RUN_CHECKS
from antiphon.testing.records import PROJECT, STRANGER, a_record, an_item
from antiphon.wire import Id

OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[Store]]
"""Each call gives an empty store of its own, and closes it in the end, closed already or not."""

Check: TypeAlias = Callable[[Store], Awaitable[None]]

__all__ = ["CHECKS", "PROJECT", "STRANGER", "Check", "OpenStore", "a_record", "an_item", "check_store", "history_ids"]


async def history_ids(store: Store, id: Id, project: str = PROJECT) -> list[Id] | None:
    """The ids of a history's items."""
    found = await store.items.load_history(project, id)
    return None if found is None else [item.id for item in found]


async def check_store(open_store: OpenStore) -> None:
    """Run every check, each on a store of its own.

    Raises:
        AssertionError: the store does not keep a promise; its text begins with the check's name.
    """
    for check in CHECKS:
        try:
            async with open_store() as store:
                await check(store)
        except AssertionError as error:
            raise AssertionError(f"{check.__name__}: {error}") from error


async def gives_back_what_was_committed(store: Store) -> None:
    """Byte for byte, in order; the input is not part of ``get``."""
    kept = a_record("r1", input=["i1", "i2"], output=["o1", "o2", "o3"])
    await store.responses.commit(kept)
    found = await store.responses.get(PROJECT, "r1")
    assert found is not None, "a committed response is missing"
    assert found.doc == kept.doc, "the document changed"
    assert list(found.output) == list(kept.output), "the output changed"
    assert list(found.input) == [], "get must not carry the input"
    envelope = (found.id, found.project, found.created_at, found.status, found.model)
    assert envelope == ("r1", PROJECT, 1_700_000_000, "completed", "test-model"), envelope
    assert found.previous_response_id is None


async def keeps_a_response_without_items(store: Store) -> None:
    """Empty is not missing."""
    await store.responses.commit(a_record("r1", input=[], output=[]))
    found = await store.responses.get(PROJECT, "r1")
    assert found is not None and list(found.output) == []
    assert await store.items.load_history(PROJECT, "r1") == []
    page = await store.items.read_input(PROJECT, "r1", after=None, limit=5, order="asc")
    assert page is not None and list(page.items) == [] and not page.has_more


async def knows_nothing_of_a_missing_response(store: Store) -> None:
    """Missing is None, and False to ``delete``."""
    await _assert_missing(store, PROJECT, "r1")


async def hides_one_project_from_another(store: Store) -> None:
    """A stranger is answered as if there were nothing, and changes nothing."""
    await store.responses.commit(a_record("r1"))
    await _assert_missing(store, STRANGER, "r1")
    assert await history_ids(store, "r1") == ["r1_in", "r1_out"], "a stranger's delete had an effect"


async def never_mixes_projects_in_a_chain(store: Store) -> None:
    """A link to a stranger's response contributes nothing, and does not keep it."""
    await store.responses.commit(a_record("r1"))
    await store.responses.commit(a_record("r2", project=STRANGER, previous="r1"))
    assert await history_ids(store, "r2", STRANGER) == ["r2_in", "r2_out"]
    assert await store.responses.delete(PROJECT, "r1")
    await _assert_removed(store, "r1")


async def refuses_an_id_twice(store: Store) -> None:
    """The first stays as it was."""
    await store.responses.commit(a_record("r1"))
    for project in (PROJECT, STRANGER):
        try:
            await store.responses.commit(a_record("r1", project=project, input=["other"], output=[]))
        except DuplicateResponse:
            continue
        raise AssertionError("an id was taken twice")
    assert await history_ids(store, "r1") == ["r1_in", "r1_out"]


async def lets_one_bad_commit_fail_alone(store: Store) -> None:
    """Commits that arrive together do not share their fate."""
    await store.responses.commit(a_record("r5"))
    commits = [store.responses.commit(a_record(f"r{n}")) for n in range(10)]
    results = await asyncio.gather(*commits, return_exceptions=True)
    assert isinstance(results.pop(5), DuplicateResponse), "the bad commit did not fail"
    assert results == [None] * 9, results
    for n in range(10):
        assert await history_ids(store, f"r{n}") == [f"r{n}_in", f"r{n}_out"]


async def pages_through_the_input(store: Store) -> None:
    """Both ways, to the end, without gap or repetition; the output is not listed."""
    ids = [f"i{n}" for n in range(7)]
    await store.responses.commit(a_record("r1", input=ids))
    assert await _list_pages(store, "r1", "asc", limit=3) == [ids[:3], ids[3:6], ids[6:]]
    ids.reverse()
    assert await _list_pages(store, "r1", "desc", limit=3) == [ids[:3], ids[3:6], ids[6:]]
    exact = await store.items.read_input(PROJECT, "r1", after=None, limit=7, order="asc")
    assert exact is not None and not exact.has_more, "has_more at the very end"
    behind = await store.items.read_input(PROJECT, "r1", after="i0", limit=7, order="desc")
    assert behind is not None and not behind.items and not behind.has_more, "something behind the last"


async def refuses_an_unknown_cursor(store: Store) -> None:
    """An output item's id, another response's and a stranger's are unknown as well."""
    await store.responses.commit(a_record("r1"))
    await store.responses.commit(a_record("r2", previous="r1"))
    for after in ("nothing", "r1_out", "r2_in"):
        try:
            await store.items.read_input(PROJECT, "r1", after=after, limit=5, order="asc")
        except UnknownCursor:
            continue
        raise AssertionError(f"{after} is not an input item of r1")
    assert await store.items.read_input(STRANGER, "r1", after="nothing", limit=5, order="asc") is None


async def ends_paging_where_an_id_repeats(store: Store) -> None:
    """A caller may send an item twice; paging must not go round in circles."""
    await store.responses.commit(a_record("r1", input=["a", "b", "a", "c"]))
    await _list_pages(store, "r1", "asc", limit=1)
    await _list_pages(store, "r1", "desc", limit=1)


async def tells_the_whole_history(store: Store) -> None:
    """Oldest first, input before output; one branch does not see the other."""
    await store.responses.commit(a_record("r1", input=["a", "b"], output=["c", "d"]))
    await store.responses.commit(a_record("r2", previous="r1"))
    await store.responses.commit(a_record("r3", previous="r1", input=["a"]))
    await store.responses.commit(a_record("r4", previous="r2", output=[]))
    assert await history_ids(store, "r4") == ["a", "b", "c", "d", "r2_in", "r2_out", "r4_in"]
    assert await history_ids(store, "r3") == ["a", "b", "c", "d", "a", "r3_out"]
    found = await store.items.load_history(PROJECT, "r1")
    assert found == [an_item(id) for id in "abcd"], "items came back changed"


async def walks_a_long_chain(store: Store) -> None:
    """A thousand turns are no special case; nor is deleting all of them."""
    ids = [f"r{n:04}" for n in range(1000)]
    for previous, id in zip([None, *ids], ids, strict=False):
        await store.responses.commit(a_record(id, previous=previous))
    expected = [f"{id}_{side}" for id in ids for side in ("in", "out")]
    assert await history_ids(store, ids[-1]) == expected
    for id in ids:
        assert await store.responses.delete(PROJECT, id)
    await _assert_removed(store, ids[0])


async def takes_a_missing_parent_as_none(store: Store) -> None:
    """The parent may have been removed while its child was being answered."""
    await store.responses.commit(a_record("r2", previous="r1"))
    assert await history_ids(store, "r2") == ["r2_in", "r2_out"]


async def hides_what_was_deleted(store: Store) -> None:
    """Once, for good, and for every method."""
    await store.responses.commit(a_record("r1"))
    assert await store.responses.delete(PROJECT, "r1")
    await _assert_missing(store, PROJECT, "r1")


async def keeps_what_a_child_needs(store: Store) -> None:
    """A hidden response goes on in its children's history, and goes with the last of them."""
    await store.responses.commit(a_record("r1"))
    await store.responses.commit(a_record("r2", previous="r1"))
    await store.responses.commit(a_record("r3", previous="r1"))
    assert await store.responses.delete(PROJECT, "r1")
    await _assert_missing(store, PROJECT, "r1")
    assert await history_ids(store, "r2") == ["r1_in", "r1_out", "r2_in", "r2_out"]
    assert await store.responses.delete(PROJECT, "r2")
    await _assert_taken(store, "r1")
    assert await history_ids(store, "r3") == ["r1_in", "r1_out", "r3_in", "r3_out"]
    assert await store.responses.delete(PROJECT, "r3")
    for id in ("r1", "r2", "r3"):
        await _assert_removed(store, id)


async def stops_removing_at_a_visible_response(store: Store) -> None:
    """Deleting a leaf takes the hidden ones above it, up to the first that is visible."""
    for previous, id in ((None, "r1"), ("r1", "r2"), ("r2", "r3"), ("r3", "r4")):
        await store.responses.commit(a_record(id, previous=previous))
    for id in ("r3", "r2", "r4"):
        assert await store.responses.delete(PROJECT, id)
    assert await history_ids(store, "r1") == ["r1_in", "r1_out"]
    for id in ("r2", "r3", "r4"):
        await _assert_removed(store, id)


async def reads_its_own_writes(store: Store) -> None:
    """What ``commit`` and ``delete`` returned from is seen by every read that follows, under load as well."""

    async def live(id: Id) -> None:
        await store.responses.commit(a_record(id))
        assert await store.responses.get(PROJECT, id) is not None, "a commit is not seen"
        assert await store.responses.delete(PROJECT, id)
        assert await store.responses.get(PROJECT, id) is None, "a delete is not seen"

    await asyncio.gather(*(live(f"r{n}") for n in range(200)))


async def purges_the_oldest_first(store: Store) -> None:
    """In steps, by time and then in the order they came, whoever's they are; what is younger stays."""
    for id, created_at in (("r1", 30), ("r2", 10), ("r3", 20), ("r4", 10), ("r5", 40)):
        await store.responses.commit(a_record(id, created_at=created_at, project=STRANGER if id == "r3" else PROJECT))
    before = Selection(before=40)
    assert await store.retention.purge(before, 2) == 2
    assert await _visible(store) == ["r1", "r3", "r5"], "not the oldest went"
    assert await store.retention.purge(before, 1) == 1
    assert await _visible(store) == ["r1", "r5"]
    assert [await store.retention.purge(before, 5), await store.retention.purge(before, 5)] == [1, 0]
    assert await _visible(store) == ["r5"], "before does not include the moment itself"
    assert [await store.retention.purge(Selection(), 5), await store.retention.purge(Selection(), 5)] == [1, 0]
    for id in ("r1", "r2", "r4", "r5"):
        await _assert_removed(store, id)


async def purges_an_project_a_user_or_a_key(store: Store) -> None:
    """All that is said must hold; a quote in a name is only a letter."""
    await store.responses.commit(a_record("r1", user="u1"))
    await store.responses.commit(a_record("r2", user="u'2"))
    await store.responses.commit(a_record("r3", user="u1", project=STRANGER))
    await store.responses.commit(a_record("r4"))
    await store.responses.commit(a_record("r5", key_id="k1"))
    assert await store.retention.purge(Selection(user="u'2"), 9) == 1
    assert await store.retention.purge(Selection(user="nobody"), 9) == 0
    assert await store.retention.purge(Selection(user="u1", project=STRANGER, before=0), 9) == 0
    assert await store.retention.purge(Selection(user="u1", project=STRANGER), 9) == 1
    assert await _visible(store) == ["r1", "r4", "r5"]
    assert [await store.retention.purge(Selection(key_id=id), 9) for id in ("k2", "k1")] == [0, 1]
    assert await store.retention.purge(Selection(project=PROJECT), 9) == 2
    assert await _visible(store) == []


async def purging_breaks_no_chain(store: Store) -> None:
    """What continues a purged response keeps its whole history, and takes it along in the end."""
    await store.responses.commit(a_record("r1", created_at=10))
    await store.responses.commit(a_record("r2", previous="r1", created_at=20))
    await store.responses.commit(a_record("r3", previous="r2", created_at=30))
    assert await store.retention.purge(Selection(before=30), 9) == 2
    await _assert_missing(store, PROJECT, "r2")
    assert await history_ids(store, "r3") == ["r1_in", "r1_out", "r2_in", "r2_out", "r3_in", "r3_out"]
    assert await store.retention.purge(Selection(), 9) == 1
    for id in ("r1", "r2", "r3"):
        await _assert_removed(store, id)


async def lists_whole_records(store: Store) -> None:
    """Of all projects, in the order of their ids, input and output with them; nothing that is hidden."""
    kept = [
        a_record("r1", input=["a", "b"], output=["c"]),
        a_record("r2", project=STRANGER, input=[], output=[]),
        a_record("r4", previous="r3", output=["d", "e"]),
    ]
    for record in (kept[2], a_record("r3", previous="r1"), kept[0], kept[1]):
        await store.responses.commit(record)
    assert await store.responses.delete(PROJECT, "r3")
    first = await store.retention.read_records(after=None, limit=2)
    rest = await store.retention.read_records(after=first[-1].id, limit=2)
    assert [*first, *rest] == kept, "records came back changed, or in another order"
    assert await store.retention.read_records(after="r4", limit=2) == []


async def tells_its_size(store: Store) -> None:
    """More content is more bytes; what was purged is none, and can be given back."""
    empty = (await store.read_stats()).used_bytes
    for n in range(50):
        await store.responses.commit(a_record(f"r{n}", output=[f"o{n}_{m}" for m in range(50)]))
    full = (await store.read_stats()).used_bytes
    assert full > empty
    while await store.retention.purge(Selection(), 20):
        pass
    assert (await store.read_stats()).used_bytes < full, "purging frees nothing"
    while await store.retention.shrink(0):
        pass
    stats = await store.read_stats()
    assert (stats.writes, stats.reads) in ((0, 0), (0, 1)), "somebody still waits"
    await store.responses.commit(a_record("r1"))
    assert await _visible(store) == ["r1"], "shrinking broke the store"


async def refuses_when_closed(store: Store) -> None:
    """With ``StoreUnavailable``; closing twice is harmless."""
    await store.responses.commit(a_record("r1"))
    await store.close()
    await store.close()
    for attempt in (
        store.responses.commit(a_record("r2")),
        store.responses.get(PROJECT, "r1"),
        store.responses.delete(PROJECT, "r1"),
    ):
        try:
            await attempt
        except StoreUnavailable:
            continue
        raise AssertionError("a closed store answered")


CHECKS: tuple[Check, ...] = (
    gives_back_what_was_committed,
    keeps_a_response_without_items,
    knows_nothing_of_a_missing_response,
    hides_one_project_from_another,
    never_mixes_projects_in_a_chain,
    refuses_an_id_twice,
    lets_one_bad_commit_fail_alone,
    pages_through_the_input,
    refuses_an_unknown_cursor,
    ends_paging_where_an_id_repeats,
    tells_the_whole_history,
    walks_a_long_chain,
    takes_a_missing_parent_as_none,
    hides_what_was_deleted,
    keeps_what_a_child_needs,
    stops_removing_at_a_visible_response,
    reads_its_own_writes,
    purges_the_oldest_first,
    purges_an_project_a_user_or_a_key,
    purging_breaks_no_chain,
    lists_whole_records,
    tells_its_size,
    refuses_when_closed,
    *CONVERSATION_CHECKS,
    *RUN_CHECKS,
    *DELIVERY_CHECKS,
)
"""Every promise of ``Store``, one function each."""


async def _list_pages(store: Store, id: Id, order: Literal["asc", "desc"], limit: int) -> list[list[Id]]:
    pages: list[list[Id]] = []
    after: Id | None = None
    while len(pages) < 100:
        page = await store.items.read_input(PROJECT, id, after=after, limit=limit, order=order)
        assert page is not None, "the response went away"
        pages.append([item.id for item in page.items])
        if not page.has_more:
            return pages
        after = pages[-1][-1]
    raise AssertionError("paging does not end")


async def _visible(store: Store) -> list[Id]:
    return [record.id for record in await store.retention.read_records(after=None, limit=100)]


async def _assert_missing(store: Store, project: str, id: Id) -> None:
    assert await store.responses.get(project, id) is None, f"{id} is visible"
    assert await store.items.read_input(project, id, after=None, limit=5, order="asc") is None, f"{id} lists items"
    assert await store.items.load_history(project, id) is None, f"{id} has a history"
    assert not await store.responses.delete(project, id), f"{id} can be deleted"


async def _assert_removed(store: Store, id: Id) -> None:
    """Nothing of it is left: its id is free, and is left so."""
    try:
        await store.responses.commit(a_record(id))
    except DuplicateResponse:
        raise AssertionError(f"{id} is needed by nobody, and still kept") from None
    assert await store.responses.delete(PROJECT, id)


async def _assert_taken(store: Store, id: Id) -> None:
    try:
        await store.responses.commit(a_record(id))
    except DuplicateResponse:
        return
    raise AssertionError(f"{id} was removed, though a child needs it")
