"""Figures and their text: what Prometheus reads, and that nothing grows without end."""

from antiphon.store import StoreStats
from antiphon.telemetry.meter import Meter, ResponseTimer
from antiphon.telemetry.metrics import (
    Counter,
    Histogram,
    Reading,
    render_families,
)
from antiphon.telemetry.traces import attributes
from antiphon.wire.response import InputDetails, OutputDetails, Response, UsageTotal


def test_the_text_of_each_kind() -> None:
    counter = Counter("hits_total", "Hits.", ("path", "status"))
    counter.add(1, "/a", "200")
    counter.add(2, "/a", "200")
    counter.add(1, 'say "hi"\\\n', "500")
    histogram = Histogram("wait_seconds", "Waits.", (0.1, 1.0))
    for figure in (0.1, 0.5, 3.0):
        histogram.observe(figure)
    assert render_families([counter, histogram, Reading("size_bytes", "Size.", 7)]).decode() == (
        "# HELP hits_total Hits.\n"
        "# TYPE hits_total counter\n"
        'hits_total{path="/a",status="200"} 3\n'
        'hits_total{path="say \\"hi\\"\\\\\\n",status="500"} 1\n'
        "# HELP wait_seconds Waits.\n"
        "# TYPE wait_seconds histogram\n"
        'wait_seconds_bucket{le="0.1"} 1\n'
        'wait_seconds_bucket{le="1"} 2\n'
        'wait_seconds_bucket{le="+Inf"} 3\n'
        "wait_seconds_sum 3.6\n"
        "wait_seconds_count 3\n"
        "# HELP size_bytes Size.\n"
        "# TYPE size_bytes gauge\n"
        "size_bytes 7\n"
    )


def test_labels_are_bounded() -> None:
    counter = Counter("hits_total", "Hits.", ("who",), series_max=3)
    for n in range(1000):
        counter.add(1, f"w{n}")
    counter.add(1, "w0")
    assert [counter.get(f"w{n}") for n in range(4)] == [2, 1, 1, 0]
    assert counter.get("other") == 997
    assert len(list(counter.lines())) == 4


def a_timer(meter: Meter) -> ResponseTimer:
    timer = ResponseTimer(meter)
    timer.started, timer.requested, timer.first_delta, timer.finished, timer.ended = 10.0, 10.5, 12.0, 20.0, 20.25
    return timer


def test_overhead_is_what_the_model_does_not_take() -> None:
    timer = a_timer(Meter())
    assert timer.overhead_s == 0.75
    timer.requested = timer.finished = 0.0
    assert timer.overhead_s == 10.25


def test_a_response_is_counted_once_however_it_ends() -> None:
    meter = Meter()
    usage = UsageTotal(3, InputDetails(), 4, OutputDetails(), 7)
    done = a_timer(meter)
    done.response = Response(id="r", created_at=0, model="m", status="incomplete", usage=usage)
    meter.record(done)
    for error in (ValueError(), KeyboardInterrupt()):
        try:
            with ResponseTimer(meter):
                raise error
        except BaseException as raised:
            assert raised is error
    assert {status: meter.responses.get(status) for status in ("incomplete", "failed", "cancelled", "completed")} == {
        "incomplete": 1,
        "failed": 1,
        "cancelled": 1,
        "completed": 0,
    }
    assert (meter.tokens.get("input"), meter.tokens.get("output")) == (3, 4)
    assert (meter.time_to_first_token.count, meter.duration.count, meter.overhead.count) == (1, 3, 1)


def test_every_family_is_named_once_and_by_the_rules() -> None:
    groups = Histogram("antiphon_store_group_size", "Groups.", (1, 2))
    text = Meter().render(StoreStats(used_bytes=1, groups=groups), streams=0, requests=0).decode()
    kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    assert len(kinds) == text.count("# TYPE") == 19
    for name, kind in kinds.items():
        assert name.startswith("antiphon_")
        assert name.endswith("_total") == (kind == "counter"), name


def test_a_trace_says_what_helped_calls() -> None:
    timer = a_timer(Meter())
    assert "antiphon.tool_help" not in attributes(timer)
    timer.note_helps(["shown_in_words", "arguments_mended", "shown_in_words"])
    assert attributes(timer)["antiphon.tool_help"] == ["arguments_mended", "shown_in_words"]
