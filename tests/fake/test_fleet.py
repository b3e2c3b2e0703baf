"""Several upstreams on real sockets: who is asked for what, and what happens when one of them dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from scripted_upstream import Answer, Upstream, failure, finish, plain, sse, text, usage

from antiphon.assembly import CannotOpen, open_engine
from antiphon.config import Config, ConfigError, load
from antiphon.models import Prompt, fleet, roster
from antiphon.models.chat.upstream import upstream_models
from antiphon.models.fleet import FleetRoster, Member
from antiphon.testing.serving import serving

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
LISTED = plain({"object": "list", "data": [{"id": "qwen", "max_model_len": 4096}]})
HI = sse(text("Hi"), finish(), usage(5, 1))


class Fleet:
    """Upstreams that all say ``Hi``, a client of the server in front of them, and who was asked."""

    def __init__(self, upstreams: list[Upstream], members: list[Member], client: AsyncOpenAI) -> None:
        self.upstreams = upstreams
        self.members = members
        self.client = client

    def asked(self) -> list[int]:
        """How many answers each upstream was asked for."""
        return [sum(asked.path == CHAT for asked in upstream.asked) for upstream in self.upstreams]

    async def ask(self, input: Any, **members: Any) -> tuple[int, Any]:
        """Which of them answered, and the response."""
        before = self.asked()
        response = await self.client.responses.create(model="qwen", input=input, **members)
        assert response.output_text == "Hi"
        (place,) = [place for place, (old, new) in enumerate(zip(before, self.asked(), strict=True)) if new > old]
        return place, response

    async def until(self, place: int, *, away: bool) -> None:
        for _ in range(1000):
            if self.members[place].is_away is away:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it never came about")


@asynccontextmanager
async def fleet_of(count: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(fleet, "PROBE_S", 0.02)
    monkeypatch.setattr(roster, "_ASK_AGAIN_S", 0.0)
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(Upstream()) for _ in range(count)]
        members: list[Member] = []
        for number, upstream in enumerate(upstreams):
            upstream.fixed |= {MODELS: LISTED, CHAT: HI}
            models = upstream_models(upstream.url, key="", only="", aliases={}, connections_max=9, options={})
            members.append(Member(f"upstream {number}", models))
        whole = FleetRoster(members)
        stack.push_async_callback(whole.close)
        url = await stack.enter_async_context(serving(roster=whole))
        client = await stack.enter_async_context(AsyncOpenAI(base_url=url, api_key="none", max_retries=0))
        yield Fleet(upstreams, members, client)


async def test_a_context_stays_with_one_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet_of(3, monkeypatch) as here:
        for number in range(6):
            first = f"chain {number}"
            home, response = await here.ask(first, instructions="Be brief.")
            for turn in range(2):
                place, response = await here.ask(f"turn {turn}", previous_response_id=response.id)
                assert place == home
            carried: Any = [{"role": "user", "content": first}, {"role": "assistant", "content": "Hi"}]
            assert (await here.ask([*carried, {"role": "user", "content": "x"}], store=False))[0] == home
        assert all(here.asked()), "one has all there is to do"
        for number in range(4):
            homes = {
                (await here.ask(f"{number} {turn}", prompt_cache_key=f"key {number}", store=False))[0]
                for turn in range(3)
            }
            conversation = await here.client.conversations.create()
            places = {(await here.ask(f"{number} {turn}", conversation=conversation.id))[0] for turn in range(3)}
            assert len(homes) == len(places) == 1


async def test_one_that_dies_in_the_middle_is_left_out_until_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet_of(3, monkeypatch) as here:
        home, response = await here.ask("hello")
        dying = here.upstreams[home]
        held = asyncio.Event()
        dying.fixed[CHAT] = Answer(steps=(*sse(text("He")).steps[:1], held))
        stream = await here.client.responses.create(
            model="qwen", input="go on", previous_response_id=response.id, stream=True
        )
        with pytest.raises(openai.APIError):
            async for event in stream:
                if event.type == "response.output_text.delta":
                    await dying.stop()
        assert here.members[home].is_away
        place, response = await here.ask("go on", previous_response_id=response.id)
        assert place != home
        assert (await here.ask("go on", previous_response_id=response.id))[0] == place

        dying.fixed[CHAT] = HI
        await dying.start()
        await here.until(home, away=False)
        assert (await here.ask("go on", previous_response_id=response.id))[0] == home


@pytest.mark.parametrize(
    "dead",
    [Answer(status=0), Answer(steps=("cut",)), failure(503, "Loading model"), failure(429, "slow down"), None],
    ids=["closes", "accepts and closes", "loads", "is busy", "is not there"],
)
async def test_what_was_not_begun_goes_to_the_next_one(monkeypatch: pytest.MonkeyPatch, dead: Answer | None) -> None:
    async with fleet_of(2, monkeypatch) as here:
        home, _ = await here.ask("hello")
        if dead is None:
            await here.upstreams[home].stop()
        else:
            here.upstreams[home].fixed[CHAT] = dead
        other = 1 - home
        before = here.asked()[other]
        response = await here.client.responses.create(model="qwen", input="hello")
        assert (response.output_text, here.asked()[other]) == ("Hi", before + 1)


async def test_a_prompt_that_breaks_one_does_not_go_round(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet_of(2, monkeypatch) as here:
        home, _ = await here.ask("hello")
        here.upstreams[home].fixed[CHAT] = failure(500, "CUDA error")
        before = here.asked()
        with pytest.raises(openai.InternalServerError):
            await here.client.responses.create(model="qwen", input="hello")
        assert here.asked()[1 - home] == before[1 - home] and not here.members[home].is_away


async def test_all_of_them_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet_of(2, monkeypatch) as here:
        await here.ask("hello")
        for upstream in here.upstreams:
            await upstream.stop()
        for _ in range(2):
            with pytest.raises(openai.InternalServerError) as caught:
                await here.client.responses.create(model="qwen", input="hello")
            assert caught.value.code == "unavailable"
        await here.upstreams[1].start()
        await here.until(1, away=False)
        assert (await here.ask("hello"))[0] == 1


async def test_a_model_that_only_one_of_them_has(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet_of(2, monkeypatch) as here:
        here.upstreams[1].fixed[MODELS] = plain({"data": [{"id": "rare"}]})
        names = [model.id async for model in here.client.models.list()]
        assert names == ["qwen", "rare"]
        with pytest.raises(openai.BadRequestError) as caught:
            await here.client.responses.create(model="nobody", input="x")
        assert caught.value.code == "model_not_found"
        await here.upstreams[1].stop()
        with pytest.raises(openai.InternalServerError):
            await here.client.responses.create(model="rare", input="x")
        with pytest.raises(openai.InternalServerError):
            await here.client.responses.create(model="rare", input="x")


def test_which_one_is_asked_depends_on_the_key_and_the_names_alone() -> None:
    def homes(names: list[str]) -> dict[int, str]:
        return {key: max(names, key=lambda name: fleet.rank(str(key), name)) for key in range(300)}

    three, two = homes(["a", "b", "c"]), homes(["b", "a"])
    assert {name: list(three.values()).count(name) for name in "abc"}.keys() == {"a", "b", "c"}
    assert min(list(three.values()).count(name) for name in "abc") > 60
    assert all(two[key] == home for key, home in three.items() if home != "c"), "a key moved whose server lives"


def test_a_crowded_one_is_passed_over_where_no_key_says_otherwise() -> None:
    members = [Member(name, FleetRoster([Member("", None)])) for name in "ab"]  # type: ignore[arg-type]
    model = fleet.FleetModel([(member, None) for member in members])  # type: ignore[misc]
    said = {"type": "message", "role": "user", "content": "hi"}
    free, keyed = Prompt(items=(said,)), Prompt(items=(said,), cache_key="k")
    for prompt, stays in ((free, False), (keyed, True)):
        home = model.rank_members(prompt)[0][0]
        home.working = 100
        assert (model.rank_members(prompt)[0][0] is home) is stays
        for member in members:
            member.working = 100
        assert model.rank_members(prompt)[0][0] is home, "all of them are crowded"
        for member in members:
            member.working = 0


async def test_upstreams_in_the_settings() -> None:
    config = load({}, {"ANTIPHON_UPSTREAM": "http://a/v1", "ANTIPHON_UPSTREAMS": "http://b/v1/, http://a/v1"})
    assert list(config.upstream_urls) == ["http://a/v1", "http://b/v1"]
    for wrong in ({"upstreams": ["http://a/v1"]}, {"upstream": "http://a/v1", "upstreams": ["b"]}):
        with pytest.raises(ConfigError):
            Config(**wrong)  # type: ignore[arg-type]
    async with Upstream() as one, Upstream() as other:
        for upstream in (one, other):
            upstream.fixed[MODELS] = LISTED
        config = Config(store="memory", upstream=one.url, upstreams=[other.url], prices={})
        async with open_engine(config, None) as engine:
            assert list(await engine.roster.names()) == ["qwen"]
            assert one.asked and other.asked
        with pytest.raises(CannotOpen):
            async with open_engine(Config(store="memory", upstream=one.url, upstream_options={"x": 1}), None):
                pass
