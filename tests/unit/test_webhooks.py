"""Webhooks without a network: who is told of what, which endpoints are refused, signatures, addresses, pauses."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from antiphon.net.ssrf import is_public
from antiphon.store.deliveries import Delivery
from antiphon.testing import CountingIds
from antiphon.testing.records import a_record
from antiphon.webhooks import dispatcher as dispatcher
from antiphon.webhooks import outbox as webhooks
from antiphon.webhooks.outbox import (
    Endpoint,
    Outbox,
    endpoints,
    new_secret,
)

SECRET = new_secret()
URL = "https://example.com/hook"


def configured(**more: Any) -> Endpoint:
    (endpoint,) = endpoints([{"url": URL, "secret": SECRET, **more}])
    return endpoint


def outbox_of(*told: Endpoint) -> Outbox:
    return Outbox(told, CountingIds(), lambda: 5.5)


def delivery() -> Delivery:
    return outbox_of(configured()).deliveries(a_record("resp_1"))[0]


def test_the_official_sdk_verifies_the_signature() -> None:
    import time

    now = int(time.time())
    body = webhooks.body(delivery())
    headers = webhooks.headers("wh_1", body, configured().keys, now)
    client = OpenAI(api_key="none", base_url="http://127.0.0.1:1", webhook_secret=SECRET)
    event = client.webhooks.unwrap(body, headers)
    assert (event.type, event.object, event.data.id) == ("response.completed", "event", "resp_1")  # type: ignore[union-attr]
    assert (event.id[:4], event.created_at) == ("evt_", 5)
    for wrong in (headers | {"webhook-id": "wh_2"}, headers | {"webhook-timestamp": str(now + 1)}):
        with pytest.raises(InvalidWebhookSignatureError):
            client.webhooks.unwrap(body, wrong)
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(body, headers, secret=new_secret())


def test_while_a_secret_is_replaced_both_verify() -> None:
    import time

    old, new = new_secret(), new_secret()
    body = webhooks.body(delivery())
    headers = webhooks.headers("wh_1", body, configured(secret=[new, old]).keys, int(time.time()))
    client = OpenAI(api_key="none", base_url="http://127.0.0.1:1")
    for secret in (old, new):
        client.webhooks.verify_signature(body, headers, secret=secret)


def test_each_endpoint_is_told_of_what_it_wants() -> None:
    everything = configured()
    (failures,) = endpoints([{"url": f"{URL}/f", "secret": SECRET, "events": ["response.failed"]}])
    (mine,) = endpoints([{"url": f"{URL}/m", "secret": SECRET, "project": "mine"}])
    (unnamed,) = endpoints([{"url": f"{URL}/d", "secret": SECRET, "project": "default"}])
    outbox = outbox_of(everything, failures, mine, unnamed)

    def told(**record: Any) -> list[str]:
        return [each.endpoint.removeprefix(URL) for each in outbox.deliveries(a_record("resp_1", **record))]

    assert told(project="mine") == ["", "/m"]
    assert told(project="", status="failed") == ["", "/f", "/d"]
    assert told(project="other", status="cancelled") == [""]


def test_the_event_is_one_and_the_deliveries_are_several() -> None:
    (other,) = endpoints([{"url": f"{URL}/2", "secret": SECRET}])
    first, second = outbox_of(configured(), other).deliveries(a_record("resp_1", status="incomplete"))
    assert first.event_id == second.event_id and first.id != second.id
    assert (first.type, first.created_at, first.due_at) == ("response.incomplete", 5, 5)
    assert webhooks.body(first) == webhooks.body(second)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"url": "http://example.com/", "secret": SECRET}, "unless private = true"),
        ({"url": "ftp://example.com/", "secret": SECRET, "private": True}, "begin with https"),
        ({"url": "https:///hook", "secret": SECRET}, "name a host"),
        ({"url": "https://example.com:port/", "secret": SECRET}, "cannot be read"),
        ({"url": "https://me:hush@example.com/", "secret": SECRET}, "a user or a password"),
        ({"url": URL, "secret": "whsec_hush"}, "base64 of 16 bytes or more"),
        ({"url": URL, "secret": SECRET.removeprefix("whsec_")}, "base64 of 16 bytes or more"),
        ({"url": URL, "secret": ["whsec_aHVzaA=="]}, "base64 of 16 bytes or more"),
        ({"url": URL, "secret": []}, "1 to 4 secrets"),
        ({"url": URL, "secret": SECRET, "events": ["hush"]}, "events are response.completed"),
        ({"url": URL, "secret": SECRET, "event": []}, "nothing but url, secret, events, project, private"),
        ({"url": URL}, "missing required field `secret`"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused_and_no_secret_told(table: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        endpoints([table])
    assert "hush" not in str(caught.value) and SECRET not in str(caught.value)


def test_endpoints_are_told_apart_by_their_urls() -> None:
    with pytest.raises(ValueError, match="same URL"):
        endpoints([{"url": URL, "secret": SECRET}, {"url": URL, "secret": new_secret()}])
    with pytest.raises(ValueError, match="a list"):
        endpoints(7)
    with pytest.raises(ValueError, match="an endpoint: Expected `object`"):
        endpoints([7])
    with pytest.raises(ValueError, match="a list"):
        endpoints({"url": URL, "secret": SECRET})


def test_an_endpoint_does_not_show_its_secret() -> None:
    endpoint = configured()
    assert str(endpoint.keys[0]) not in repr(endpoint) and "keys" not in repr(endpoint)
    assert webhooks.hide_query("https://example.com/a?token=hush") == "https://example.com/a?…"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.0.0.8",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1", "2001::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "2002:7f00:1::", "2002:a00:1::1", "::ffff:0:127.0.0.1", "localhost", "",
    ],
)  # fmt: skip
def test_what_only_some_can_reach_is_not_public(host: str) -> None:
    assert not is_public(host)


@pytest.mark.parametrize("host", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_what_everybody_can_reach_is_public(host: str) -> None:
    assert is_public(host)


def test_pauses_grow_to_about_three_days_in_all() -> None:
    pauses = [dispatcher.pause_s(attempts, 0.5) for attempts in range(1, dispatcher.ATTEMPTS_MAX)]
    assert pauses[:4] == [5, 15, 45, 135] and pauses[-1] == 6 * 3600
    assert all(before <= after for before, after in pairwise(pauses))
    assert 2.5 * 86400 < sum(pauses) < 3.5 * 86400
    assert dispatcher.pause_s(1, 0.0) == 3.75 and dispatcher.pause_s(1, 1.0) == 6.25


def test_the_body_is_what_the_sdk_knows() -> None:
    from openai.types.webhooks import ResponseCompletedWebhookEvent

    told = msgspec.json.decode(webhooks.body(delivery()))
    assert ResponseCompletedWebhookEvent.model_validate(told, strict=True).model_dump() == told
