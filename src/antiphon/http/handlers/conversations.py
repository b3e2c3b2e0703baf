"""The handlers of ``/v1/conversations``. They carry; they decide nothing."""

from __future__ import annotations

from antiphon.http.exchange import Exchange
from antiphon.http.listing import (
    apply_include,
    item_list,
    item_page,
    list_page,
)
from antiphon.store import Conversation
from antiphon.wire.conversation import (
    ConversationDeleted,
    ConversationList,
    ConversationObject,
    changed_conversation,
    new_conversation,
    new_items,
)
from antiphon.wire.queries import ListQuery, PageQuery, read_query


async def create_conversation(exchange: Exchange) -> None:
    """``POST /v1/conversations``."""
    engine = exchange.engine
    params = new_conversation(await exchange.json(optional=True), engine.ids, strict=engine.config.strict)
    exchange.name_ignored(params.ignored)
    await exchange.reply(_object(await engine.conversations.create(exchange.project, params)))


async def list_conversations(exchange: Exchange) -> None:
    """``GET /v1/conversations``: newest first (not in the official API)."""
    page = await exchange.engine.conversations.list(exchange.project, read_query(exchange.query, ListQuery))
    await exchange.reply(list_page(ConversationList, page, _object))


async def retrieve_conversation(exchange: Exchange) -> None:
    """``GET /v1/conversations/{conversation_id}``."""
    await exchange.reply(_object(await exchange.engine.conversations.retrieve(exchange.project, _id(exchange))))


async def update_conversation(exchange: Exchange) -> None:
    """``POST /v1/conversations/{conversation_id}``."""
    engine = exchange.engine
    params = changed_conversation(await exchange.json(), strict=engine.config.strict)
    exchange.name_ignored(params.ignored)
    changed = await engine.conversations.update(exchange.project, _id(exchange), params.metadata)
    await exchange.reply(_object(changed))


async def delete_conversation(exchange: Exchange) -> None:
    """``DELETE /v1/conversations/{conversation_id}``."""
    await exchange.engine.conversations.delete(exchange.project, _id(exchange))
    await exchange.reply(ConversationDeleted(_id(exchange)))


async def create_items(exchange: Exchange) -> None:
    """``POST /v1/conversations/{conversation_id}/items``."""
    engine, query = exchange.engine, read_query(exchange.query, PageQuery)
    params = new_items(await exchange.json(), engine.ids, strict=engine.config.strict)
    exchange.name_ignored(params.ignored)
    items = await engine.conversations.add(exchange.project, _id(exchange), params.items)
    await exchange.reply(item_list(items, query, has_more=False))


async def list_items(exchange: Exchange) -> None:
    """``GET /v1/conversations/{conversation_id}/items``."""
    query = read_query(exchange.query, PageQuery)
    page = await exchange.engine.conversations.items(exchange.project, _id(exchange), query)
    await exchange.reply(item_page(page, query))


async def retrieve_item(exchange: Exchange) -> None:
    """``GET /v1/conversations/{conversation_id}/items/{item_id}``."""
    query = read_query(exchange.query, PageQuery)
    item_id = exchange.params["item_id"]
    item = await exchange.engine.conversations.item(exchange.project, _id(exchange), item_id)
    await exchange.reply(apply_include(item, query))


async def delete_item(exchange: Exchange) -> None:
    """``DELETE /v1/conversations/{conversation_id}/items/{item_id}``."""
    item_id = exchange.params["item_id"]
    await exchange.reply(_object(await exchange.engine.conversations.remove(exchange.project, _id(exchange), item_id)))


def _id(exchange: Exchange) -> str:
    return exchange.params["conversation_id"]


def _object(conversation: Conversation) -> ConversationObject:
    return ConversationObject(id=conversation.id, created_at=conversation.created_at, metadata=conversation.metadata)
