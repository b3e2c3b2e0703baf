"""Golden streams: model deltas in, the exact bytes a client reads out.

A case is a folder with ``deltas.json`` (deltas, and the request's limit of calls) and ``stream.sse``. After a
deliberate change, write them anew with ``ANTIPHON_GOLDEN=write``, and read the difference before committing it.
"""

import os
from pathlib import Path

import msgspec
import pytest

from antiphon.assembler import Assembler
from antiphon.cli.check_stream import check_stream
from antiphon.http.sse import frame
from antiphon.models import Call, Finish, Reasoning, Refusal, Text, Usage
from antiphon.run import end_response
from antiphon.testing import CountingIds
from antiphon.tools.sampled import CallRules
from antiphon.wire import Json
from antiphon.wire.response import Response
from antiphon.writer import Writer

CASES = sorted(path.parent for path in Path(__file__).parent.glob("streams/*/deltas.json"))
KINDS = {"text": Text, "reasoning": Reasoning, "refusal": Refusal, "call": Call, "finish": Finish}


def played(case: Json) -> bytes:
    out: list[bytes] = []
    ids = CountingIds()
    writer = Writer(lambda event: out.append(frame(event, obfuscate=case.get("obfuscate", False))), ids)
    writer.start(Response(id=ids("resp"), created_at=1_700_000_000, model="m"))
    assembler = Assembler(writer, ids, CallRules(calls_max=case.get("calls_max")))
    for delta in case["deltas"]:
        ((kind, fields),) = delta.items()
        if kind == "finish" and "usage" in fields:
            fields = fields | {"usage": Usage(**fields["usage"])}
        assembler.feed([KINDS[kind](**fields)])
    assembler.end()
    assert assembler.finish is not None
    writer.end(end_response(writer.state.response, assembler.finish, assembler.finish.usage, 1_700_000_001))
    return b"".join(out)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_golden(case: Path) -> None:
    stream = played(msgspec.json.decode((case / "deltas.json").read_bytes()))
    if os.environ.get("ANTIPHON_GOLDEN") == "write":
        (case / "stream.sse").write_bytes(stream)
    assert stream == (case / "stream.sse").read_bytes()
    assert check_stream(stream).findings == []
