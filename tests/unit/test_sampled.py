"""Which calls of a sample stand."""

import json

from antiphon.models import Call
from antiphon.testing import CountingIds
from antiphon.tools.apply_patch import ApplyPatchTool
from antiphon.tools.invented import Transcript
from antiphon.tools.sampled import CallRules, SampledCalls
from antiphon.tools.toolbox import Toolbox


def test_a_tool_that_is_called_by_its_type_stays_beside_others() -> None:
    offers = Toolbox([], [ApplyPatchTool()]).offers([{"type": "apply_patch"}, {"type": "function", "name": "f"}])
    rules = CallRules(offers=offers, whole=True, repairs=True, transcript=Transcript([]))
    patch = "*** Begin Patch\n*** Delete File: a.txt\n*** End Patch"
    calls = SampledCalls(rules, CountingIds())
    for key, (name, arguments) in enumerate([("apply_patch", json.dumps({"input": patch})), ("f", "{}"), ("g", "{}")]):
        calls.take(Call(key, name, arguments))
    assert [item["type"] for item in calls.end(cut=False, astray=False)] == ["apply_patch_call", "function_call"]
    assert calls.helps == ["undeclared"]
