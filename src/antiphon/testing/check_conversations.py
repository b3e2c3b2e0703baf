"""What every store must do with conversations, and with the lists for people. A part of ``check_store``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from antiphon.store import (
    ConversationLocked,
    DuplicateItem,
    DuplicateResponse,
    Selection,
    Store,
    StoreUnavailable,
    UnknownConversation,
    UnknownCursor,
)
from antiphon.testing.records import NOW, PROJECT, STRANGER, a_conversation, a_record, an_item
from antiphon.wire import Id
from antiphon.wire.queries import ListQuery


async def keeps_a_conversation(store: Store) -> None:
    """As it was made, with its items in order and byte for byte; metadata is replaced whole."""
    made = a_conversation("c1", metadata={"topic": "naïve 漢字", "b": ""})
    await store.conversations.create(made, [an_item(id) for id in "ab"])
    assert await store.conversations.get(PROJECT, "c1") == made
    assert await store.conversations.load_history(PROJECT, "c1") == [an_item(id) for id in "ab"], (
        "items came back changed"
    )
    changed = await store.conversations.update(PROJECT, "c1", {"a": "1"})
    assert changed == a_conversation("c1", metadata={"a": "1"}) == await store.conversations.get(PROJECT, "c1")


async def hides_a_conversation_from_strangers(store: Store) -> None:
    """A stranger is answered as if there were nothing, and changes nothing."""
    await store.conversations.create(a_conversation("c1"), [an_item("a")])
    await _assert_missing(store, STRANGER, "c1")
    await _assert_missing(store, PROJECT, "c2")
    assert await conversation_ids(store, "c1") == ["a"]


async def appends_in_order(store: Store) -> None:
    """Items of calls and of responses, one after the other; a response's input before its output."""
    await store.conversations.create(a_conversation("c1"), [an_item("z")])
    await store.conversations.append(PROJECT, "c1", [an_item(id) for id in "yx"], NOW)
    await store.responses.commit(a_record("r1", conversation="c1"))
    await store.conversations.append(PROJECT, "c1", [], NOW)
    await store.conversations.append(PROJECT, "c1", [an_item("w")], NOW)
    assert await conversation_ids(store, "c1") == ["z", "y", "x", "r1_in", "r1_out", "w"]
    found = await store.responses.get(PROJECT, "r1")
    assert found is not None and found.conversation_id == "c1"
    assert await store.conversations.get_item(PROJECT, "c1", "r1_out") == an_item("r1_out")
    assert await store.conversations.get_item(PROJECT, "c1", "nothing") is None


async def refuses_an_item_twice(store: Store) -> None:
    """In one call or in two, by whatever way; nothing of what was refused is there."""
    await store.conversations.create(a_conversation("c1"), [an_item("a")])
    await _assert_refused(store.conversations.append(PROJECT, "c1", [an_item("b"), an_item("a")], NOW), DuplicateItem)
    await _assert_refused(store.conversations.append(PROJECT, "c1", [an_item("b"), an_item("b")], NOW), DuplicateItem)
    await _assert_refused(store.responses.commit(a_record("r1", conversation="c1", input=["b", "a"])), DuplicateItem)
    await _assert_refused(store.conversations.create(a_conversation("c2"), [an_item("b"), an_item("b")]), DuplicateItem)
    assert await store.responses.get(PROJECT, "r1") is None
    assert await store.conversations.get(PROJECT, "c2") is None
    assert await conversation_ids(store, "c1") == ["a"]


async def refuses_to_add_to_nothing(store: Store) -> None:
    """A conversation that is missing, deleted or a stranger's takes nothing, and the response is not kept."""
    for id in ("c1", "c2"):
        await store.conversations.create(a_conversation(id), [])
    assert await store.conversations.delete(PROJECT, "c2")
    for project, id in ((STRANGER, "c1"), (PROJECT, "c2"), (PROJECT, "c3")):
        await _assert_refused(store.conversations.append(project, id, [an_item("a")], NOW), UnknownConversation)
        record = a_record("r1", project=project, conversation=id)
        await _assert_refused(store.responses.commit(record), UnknownConversation)
        assert await store.responses.get(project, "r1") is None
    assert await conversation_ids(store, "c1") == []


async def refuses_a_response_twice_in_a_conversation(store: Store) -> None:
    """The conversation gets nothing from the second."""
    await store.conversations.create(a_conversation("c1"), [])
    await store.responses.commit(a_record("r1"))
    await _assert_refused(store.responses.commit(a_record("r1", conversation="c1")), DuplicateResponse)
    assert await conversation_ids(store, "c1") == []


async def pages_through_a_conversation(store: Store) -> None:
    """Both ways, to the end, also where items were taken out; behind the place of one that is no more, too."""
    ids = [f"i{n}" for n in range(8)]
    await store.conversations.create(a_conversation("c1"), [an_item(id) for id in ids])
    assert await store.conversations.remove_item(PROJECT, "c1", "i3")
    ids.remove("i3")
    assert await _list_pages(store, "c1", "asc") == [ids[:3], ids[3:6], ids[6:]]
    ids.reverse()
    assert await _list_pages(store, "c1", "desc") == [ids[:3], ids[3:6], ids[6:]]
    up = await store.conversations.read_items(PROJECT, "c1", after="i3", limit=2, order="asc")
    down = await store.conversations.read_items(PROJECT, "c1", after="i3", limit=2, order="desc")
    assert up is not None and [item.id for item in up.items] == ["i4", "i5"]
    assert down is not None and [item.id for item in down.items] == ["i2", "i1"]
    await store.conversations.create(a_conversation("c2"), [an_item("i0")])
    for after in ("i3", "nothing"):
        unknown = store.conversations.read_items(PROJECT, "c2", after=after, limit=3, order="asc")
        await _assert_refused(unknown, UnknownCursor)
    assert await _empty_by_pages(store, "c1") == ["i0", "i1", "i2", "i4", "i5", "i6", "i7"]


async def takes_an_item_out_of_one_list_only(store: Store) -> None:
    """What a response holds stays with it; the item's place is given to no other."""
    await store.conversations.create(a_conversation("c1"), [an_item("a")])
    await store.responses.commit(a_record("r1", conversation="c1"))
    for id in ("r1_out", "a"):
        assert await store.conversations.remove_item(PROJECT, "c1", id)
        assert not await store.conversations.remove_item(PROJECT, "c1", id), "removed twice"
    assert await conversation_ids(store, "c1") == ["r1_in"]
    found = await store.responses.get(PROJECT, "r1")
    assert found is not None and [item.id for item in found.output] == ["r1_out"]
    await store.conversations.append(PROJECT, "c1", [an_item("a"), an_item("r1_out")], NOW)
    assert await conversation_ids(store, "c1") == ["r1_in", "a", "r1_out"]


async def keeps_a_conversation_without_its_responses(store: Store) -> None:
    """Deleting a response takes nothing from its conversation."""
    await store.conversations.create(a_conversation("c1"), [])
    await store.responses.commit(a_record("r1", conversation="c1"))
    await store.responses.commit(a_record("r2", conversation="c1"))
    assert await store.responses.delete(PROJECT, "r1")
    assert await conversation_ids(store, "c1") == ["r1_in", "r1_out", "r2_in", "r2_out"]
    assert await store.responses.get(PROJECT, "r1") is None
    await store.responses.commit(a_record("r1", input=["other"]))


async def tells_the_history_of_a_branch_off_a_conversation(store: Store) -> None:
    """A response in a conversation has what was said before it in front, and nothing that came later."""
    await store.conversations.create(a_conversation("c1"), [an_item("a")])
    await store.responses.commit(a_record("r1", conversation="c1"))
    await store.responses.commit(a_record("r2", conversation="c1"))
    await store.responses.commit(a_record("r3", previous="r1"))
    await store.conversations.append(PROJECT, "c1", [an_item("z")], NOW)
    assert await _history(store, "r2") == ["a", "r1_in", "r1_out", "r2_in", "r2_out"]
    assert await _history(store, "r3") == ["a", "r1_in", "r1_out", "r3_in", "r3_out"]
    assert await store.conversations.remove_item(PROJECT, "c1", "a")
    assert await store.conversations.remove_item(PROJECT, "c1", "z")
    await store.conversations.append(PROJECT, "c1", [an_item("y")], NOW)
    assert await _history(store, "r3") == ["r1_in", "r1_out", "r3_in", "r3_out"]


async def purging_leaves_conversations_whole(store: Store) -> None:
    """Responses have their time; what was said in a conversation stays until it is deleted."""
    await store.conversations.create(a_conversation("c1"), [an_item("a")])
    await store.conversations.create(a_conversation("c2"), [an_item("b")])
    await store.responses.commit(a_record("r1", conversation="c1"))
    await store.responses.commit(a_record("r2", conversation="c2"))
    assert await store.conversations.delete(PROJECT, "c2")
    kept = await store.retention.read_records(after=None, limit=5)
    assert [record.conversation_id for record in kept] == ["c1", "c2"]
    assert await store.retention.purge(Selection(), 9) == 2
    assert await conversation_ids(store, "c1") == ["a", "r1_in", "r1_out"]
    await _assert_removed(store, "c2")


async def hides_a_deleted_conversation(store: Store) -> None:
    """Once, for good; the responses go on with what was said in it, and it is removed with the last of them."""
    await store.conversations.create(a_conversation("c1"), [an_item("a")])
    await store.responses.commit(a_record("r1", conversation="c1"))
    await store.responses.commit(a_record("r2", conversation="c1"))
    assert await store.conversations.delete(PROJECT, "c1")
    await _assert_missing(store, PROJECT, "c1")
    assert await store.responses.delete(PROJECT, "r1")
    assert await _history(store, "r2") == ["a", "r1_in", "r1_out", "r2_in", "r2_out"]
    assert await store.responses.delete(PROJECT, "r2")
    await _assert_removed(store, "c1")


async def removes_a_conversation_that_nobody_needs(store: Store) -> None:
    """At once when no response continued it."""
    await store.conversations.create(a_conversation("c1"), [an_item("a")])
    assert await store.conversations.delete(PROJECT, "c1")
    await _assert_removed(store, "c1")


async def finds_referenced_items(store: Store) -> None:
    """Those of the project's visible responses and conversations, however many times they are held."""
    await store.conversations.create(a_conversation("c1"), [an_item("a")])
    await store.conversations.create(a_conversation("c2", project=STRANGER), [an_item("b")])
    await store.responses.commit(a_record("r1", conversation="c1"))
    await store.responses.commit(a_record("r2", previous="r1", input=["a"]))
    ids = ["a", "b", "r1_in", "r2_out", "nothing", "a"]
    found = {id: an_item(id) for id in ("a", "r1_in", "r2_out")}
    assert await store.items.find(PROJECT, ids) == found
    assert await store.items.find(STRANGER, ids) == {"b": an_item("b")}
    assert await store.items.find(PROJECT, []) == {}
    assert await store.conversations.delete(PROJECT, "c1")
    assert await store.items.find(PROJECT, ids) == found, "the responses hold them"
    assert await store.responses.delete(PROJECT, "r1")
    found.pop("r1_in")
    assert await store.items.find(PROJECT, ids) == found, "a deleted response's item was found"
    assert await store.responses.delete(PROJECT, "r2")
    assert await store.items.find(PROJECT, ids) == {}


async def lets_one_write_at_a_time(store: Store) -> None:
    """A lock is refused while another is held, released once and for all, and only its own."""
    first = await store.conversations.lock(PROJECT, "c1")
    await _assert_refused(store.conversations.lock(PROJECT, "c1"), ConversationLocked)
    others = [await store.conversations.lock(PROJECT, "c2"), await store.conversations.lock(STRANGER, "c1")]
    await first.release()
    second = await store.conversations.lock(PROJECT, "c1")
    await first.release()
    await _assert_refused(store.conversations.lock(PROJECT, "c1"), ConversationLocked)
    for claim in (second, *others):
        await claim.release()


async def lets_many_append_at_once(store: Store) -> None:
    """Places are given once, even to those who hold no lock."""
    await store.conversations.create(a_conversation("c1"), [])
    await asyncio.gather(
        *(store.conversations.append(PROJECT, "c1", [an_item(f"a{n}"), an_item(f"b{n}")], NOW) for n in range(50))
    )
    found = await conversation_ids(store, "c1")
    assert sorted(found) == sorted(f"{side}{n}" for n in range(50) for side in "ab"), found
    assert all(found[n + 1] == found[n].replace("a", "b") for n in range(0, 100, 2)), found


async def knows_what_is_idle(store: Store) -> None:
    """Of all projects, the longest idle first: used is what was made, continued, or added to."""
    for n, (id, project) in enumerate(
        (("c1", PROJECT), ("c2", STRANGER), ("c3", PROJECT), ("c4", PROJECT), ("c5", PROJECT))
    ):
        await store.conversations.create(a_conversation(id, project=project, created_at=NOW + n), [])
    assert [each.id for each in await store.retention.find_idle(9)] == ["c1", "c2", "c3", "c4", "c5"]
    await store.conversations.append(PROJECT, "c1", [an_item("a")], NOW + 9)
    await store.responses.commit(a_record("r1", conversation="c3", created_at=NOW + 8))
    await store.conversations.append(PROJECT, "c5", [an_item("a")], NOW + 1)
    assert await store.conversations.delete(PROJECT, "c4")
    used = [(each.id, each.project, each.used_at - NOW) for each in await store.retention.find_idle(9)]
    assert used == [("c2", STRANGER, 1), ("c5", PROJECT, 4), ("c3", PROJECT, 8), ("c1", PROJECT, 9)], used
    assert [each.id for each in await store.retention.find_idle(2)] == ["c2", "c5"]
    found = await store.conversations.get(PROJECT, "c3")
    assert found is not None and (found.created_at, found.used_at) == (NOW + 2, NOW + 8)


async def lists_responses(store: Store) -> None:
    """By time and id, both ways, in pages, with their output and without input; filters all hold."""
    for n, (status, model) in enumerate([("completed", "m1"), ("incomplete", "m1"), ("completed", "m2")] * 3):
        metadata = {"n": str(n % 2), 'a"\\/.$[é': "x"}
        await store.responses.commit(
            a_record(f"r{n}", created_at=NOW + n // 2, status=status, model=model, metadata=metadata)
        )
    await store.responses.commit(a_record("r_other", project=STRANGER))
    await store.responses.commit(a_record("r_gone"))
    assert await store.responses.delete(PROJECT, "r_gone")
    newest = [f"r{n}" for n in range(8, -1, -1)]
    assert await _list_ids(store) == newest
    assert await _list_ids(store, order="asc") == newest[::-1]
    assert await _list_ids(store, model="m1", status="completed") == ["r6", "r3", "r0"]
    assert await _list_ids(store, created_after=NOW, created_before=NOW + 3) == ["r5", "r4", "r3", "r2"]
    assert await _list_ids(store, metadata={"n": "1", 'a"\\/.$[é': "x"}) == ["r7", "r5", "r3", "r1"]
    assert await _list_ids(store, metadata={"n": "1", "m": "1"}) == []
    first = (await store.responses.read_page(PROJECT, ListQuery(limit=1))).found[0]
    assert (list(first.input), list(first.output)) == ([], [an_item("r8_out")])
    assert first.doc == a_record("r8", metadata={"n": "0", 'a"\\/.$[é': "x"}).doc
    for after in ("r_other", "nothing"):
        await _assert_refused(store.responses.read_page(PROJECT, ListQuery(after=after)), UnknownCursor)
    assert await store.responses.delete(PROJECT, "r4")
    assert await _list_ids(store, after="r4") == ["r3", "r2", "r1", "r0"]
    assert await _list_ids(store, after="r4", order="asc") == ["r5", "r6", "r7", "r8"]
    await _assert_refused(store.responses.read_page(STRANGER, ListQuery(after="r4")), UnknownCursor)


async def lists_conversations(store: Store) -> None:
    """The same for conversations."""
    for n in range(5):
        made = a_conversation(f"c{n}", created_at=NOW + n // 2, metadata={"n": str(n % 2)})
        await store.conversations.create(made, [an_item(f"i{n}")])
    await store.conversations.create(a_conversation("c_other", project=STRANGER), [])
    await store.conversations.create(a_conversation("c_gone"), [])
    assert await store.conversations.delete(PROJECT, "c_gone")
    page = await store.conversations.read_page(PROJECT, ListQuery(limit=3))
    assert ([each.id for each in page.found], page.has_more) == (["c4", "c3", "c2"], True)
    page = await store.conversations.read_page(PROJECT, ListQuery(limit=3, after="c2"))
    assert ([each.id for each in page.found], page.has_more) == (["c1", "c0"], False)
    page = await store.conversations.read_page(
        PROJECT, ListQuery(order="asc", metadata={"n": "0"}, created_after=NOW, model="passed over")
    )
    assert list(page.found) == [
        a_conversation("c2", created_at=NOW + 1, metadata={"n": "0"}),
        a_conversation("c4", created_at=NOW + 2, metadata={"n": "0"}),
    ]
    for after in ("c_other", "nothing"):
        await _assert_refused(store.conversations.read_page(PROJECT, ListQuery(after=after)), UnknownCursor)
    assert await store.conversations.delete(PROJECT, "c3")
    page = await store.conversations.read_page(PROJECT, ListQuery(after="c3"))
    assert [each.id for each in page.found] == ["c2", "c1", "c0"]
    await _assert_refused(store.conversations.read_page(STRANGER, ListQuery(after="c3")), UnknownCursor)


async def refuses_conversations_when_closed(store: Store) -> None:
    """With ``StoreUnavailable``."""
    await store.conversations.create(a_conversation("c1"), [])
    await store.close()
    for attempt in (
        store.conversations.append(PROJECT, "c1", [], NOW),
        store.conversations.get(PROJECT, "c1"),
        store.responses.read_page(PROJECT, ListQuery()),
    ):
        await _assert_refused(attempt, StoreUnavailable)


CONVERSATION_CHECKS: tuple[Callable[[Store], Awaitable[None]], ...] = (
    keeps_a_conversation,
    hides_a_conversation_from_strangers,
    appends_in_order,
    refuses_an_item_twice,
    refuses_to_add_to_nothing,
    refuses_a_response_twice_in_a_conversation,
    pages_through_a_conversation,
    takes_an_item_out_of_one_list_only,
    keeps_a_conversation_without_its_responses,
    tells_the_history_of_a_branch_off_a_conversation,
    purging_leaves_conversations_whole,
    hides_a_deleted_conversation,
    removes_a_conversation_that_nobody_needs,
    finds_referenced_items,
    lets_one_write_at_a_time,
    lets_many_append_at_once,
    knows_what_is_idle,
    lists_responses,
    lists_conversations,
    refuses_conversations_when_closed,
)
"""Every promise of ``ConversationStore``, and of lists, one function each."""


async def conversation_ids(store: Store, id: Id) -> list[Id]:
    """The ids of a visible conversation's items."""
    found = await store.conversations.load_history(PROJECT, id)
    assert found is not None, f"{id} is missing"
    return [item.id for item in found]


async def _history(store: Store, id: Id) -> list[Id] | None:
    found = await store.items.load_history(PROJECT, id)
    return None if found is None else [item.id for item in found]


async def _list_ids(store: Store, **asked: Any) -> list[Id]:
    """All ids, in pages of two."""
    ids: list[Id] = []
    query = ListQuery(limit=2, **asked)
    while len(ids) < 100:
        page = await store.responses.read_page(PROJECT, query)
        ids += [record.id for record in page.found]
        if not page.has_more:
            return ids
        query = msgspec.structs.replace(query, after=ids[-1])
    raise AssertionError("paging does not end")


async def _list_pages(store: Store, id: Id, order: Literal["asc", "desc"]) -> list[list[Id]]:
    pages: list[list[Id]] = []
    after: Id | None = None
    while len(pages) < 100:
        page = await store.conversations.read_items(PROJECT, id, after=after, limit=3, order=order)
        assert page is not None, "the conversation went away"
        pages.append([item.id for item in page.items])
        if not page.has_more:
            return pages
        after = pages[-1][-1]
    raise AssertionError("paging does not end")


async def _empty_by_pages(store: Store, id: Id) -> list[Id]:
    """What is seen by who removes the items of each page before asking for the next."""
    seen: list[Id] = []
    after: Id | None = None
    while True:
        page = await store.conversations.read_items(PROJECT, id, after=after, limit=2, order="asc")
        assert page is not None
        for item in page.items:
            assert await store.conversations.remove_item(PROJECT, id, item.id)
            seen.append(item.id)
        if not page.has_more:
            return seen
        after = page.items[-1].id


async def _assert_refused(attempt: Awaitable[object], kind: type[Exception]) -> None:
    try:
        await attempt
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


async def _assert_missing(store: Store, project: str, id: Id) -> None:
    assert await store.conversations.get(project, id) is None, f"{id} is visible"
    assert await store.conversations.read_items(project, id, after=None, limit=5, order="asc") is None, (
        f"{id} lists items"
    )
    assert await store.conversations.load_history(project, id) is None, f"{id} has a history"
    assert await store.conversations.get_item(project, id, "a") is None, f"{id} shows an item"
    assert await store.conversations.update(project, id, {"x": "y"}) is None, f"{id} can be changed"
    assert not await store.conversations.remove_item(project, id, "a"), f"{id} gives up an item"
    assert not await store.conversations.delete(project, id), f"{id} can be deleted"


async def _assert_removed(store: Store, id: Id) -> None:
    """Nothing of it is left: its id is free, and is left so."""
    await store.conversations.create(a_conversation(id), [])
    assert await conversation_ids(store, id) == []
    assert await store.conversations.delete(PROJECT, id)
