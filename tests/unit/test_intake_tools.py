"""Tools and tool_choice: every form in use becomes the API's own, and what cannot be done is said."""

import pytest

from antiphon.assembly import make_toolbox
from antiphon.intake import Defaults, Plan, plan
from antiphon.models import Function, ToolChoice
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.strict import refusal


def planned(**members: object) -> Plan:
    body = {"model": "m", "input": "hi"} | members
    return plan(body, defaults=Defaults(), ids="{}_1".format, now=1)


def refused(**members: object) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as error:
        planned(**members)
    return error.value.code, error.value.param


def strict_object(**properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


LOOSE: Json = {"type": "object", "properties": {"a": {"type": "string"}}}
STRICT = strict_object(a={"type": "string"})
F: Json = {"type": "function", "name": "f", "parameters": LOOSE}
G: Json = {"type": "function", "name": "g", "parameters": STRICT}
WEB: Json = {"type": "web_search"}


def test_nested_functions_become_flat():
    made = planned(tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": LOOSE}}])
    assert made.response.tools == [
        {"type": "function", "name": "f", "description": "d", "parameters": LOOSE, "strict": False}
    ]
    assert made.prompt.functions == (Function("f", "d", LOOSE, False),)


def test_the_body_is_not_changed():
    body = {"model": "m", "input": {"role": "user", "content": "x"}, "tools": [{"type": "function", "function": F}]}
    copy = {**body, "tools": [{**body["tools"][0]}]}  # pyright: ignore
    plan(body, defaults=Defaults(), ids="{}_1".format, now=1)
    assert body == copy


@pytest.mark.parametrize(
    ("given", "parameters", "echoed"),
    [(None, STRICT, True), (None, LOOSE, False), (True, STRICT, True), (False, STRICT, False), (None, None, False)],
)
def test_strict(given: bool | None, parameters: Json | None, echoed: bool):
    made = planned(tools=[{"type": "function", "name": "f", "parameters": parameters, "strict": given}])
    assert made.response.tools[0]["strict"] is echoed
    assert made.prompt.functions[0].strict is echoed


@pytest.mark.parametrize(
    ("tool", "code", "param"),
    [
        ({"type": "function"}, "missing_required_parameter", "tools[0].name"),
        ({"type": "function", "function": {}}, "missing_required_parameter", "tools[0].name"),
        ({"type": "function", "name": "a b"}, "invalid_value", "tools[0].name"),
        ({"type": "function", "name": "a\n"}, "invalid_value", "tools[0].name"),
        ({"type": "function", "name": "a" * 129}, "string_above_max_length", "tools[0].name"),
        ({"type": "function", "name": "f", "parameters": []}, "invalid_type", "tools[0].parameters"),
        ({**F, "parameters": {"type": "string"}}, "invalid_function_parameters", "tools[0].parameters"),
        ({**F, "strict": True}, "invalid_function_parameters", "tools[0].parameters"),
        ({}, "missing_required_parameter", "tools[0].type"),
        ({"type": "mcp"}, "missing_required_parameter", "tools[0].server_label"),
        ({"type": "file_search"}, "unsupported_value", "tools[0].type"),
        ({"type": "file_search", "vector_store_ids": ["vs_1"]}, "unsupported_value", "tools[0].type"),
        ({"type": "computer"}, "unsupported_value", "tools[0].type"),
        (
            {"type": "computer_use", "display_width_px": 1024, "display_height_px": 768, "display_number": 1},
            "unsupported_value",
            "tools[0].type",
        ),
        ({"type": "apply_patch"}, "unsupported_value", "tools[0].type"),
    ],
)
def test_refused_tools(tool: Json, code: str, param: str):
    assert refused(tools=[tool]) == (code, param)


def test_a_type_that_no_document_knows_is_named_and_shown_as_it_came_unless_strict():
    tool = {"type": "teleport", "to": "moon\n"}
    made = planned(tools=[F, tool])
    assert made.ignored == ("tools[1]:teleport",)
    assert made.response.tools[1] == tool
    assert planned(tools=[{"type": "ü" * 999}]).ignored[0].isascii()
    with pytest.raises(InvalidRequest) as error:
        body = {"model": "m", "input": "hi", "tools": [F, tool]}
        plan(body, defaults=Defaults(strict=True), ids="{}_1".format, now=1)
    assert (error.value.code, error.value.param) == ("invalid_value", "tools[1].type")


def test_what_is_unknown_of_tools_that_came_along_is_named_too_unless_strict():
    space = {"type": "namespace", "name": "n", "description": "d", "tools": [{**F, "x": 1}, WEB, {"type": "custom"}]}
    unknown = [{"type": "teleport"}, {**G, "bogus": 1}, {"type": "function"}, space]
    more = {"type": "additional_tools", "role": "developer"}

    def asked(*tools: Json, strict: bool = False) -> Plan:
        said = {"type": "message", "role": "user", "content": "hi"}
        body = {"model": "m", "input": [said, {**more, "tools": [F, *tools]}]}
        return plan(body, defaults=Defaults(strict=strict, toolbox=make_toolbox()), ids="{}_1".format, now=1)

    made = asked(*unknown)
    assert made.ignored == (
        "input[1].tools[2].bogus",
        "input[1].tools[4].tools[0].x",
        "input[1].tools[1]:teleport",
        "input[1].tools[3]:function",
        "input[1].tools[4].tools[1]:web_search",
    )
    assert [function.name for function in made.prompt.functions] == ["f", "g", "n__f"]
    assert asked(G).ignored == asked(G, strict=True).ignored == ()
    for tool, code, member in zip(
        unknown,
        ("invalid_value", "unknown_parameter", "missing_required_parameter", "unknown_parameter"),
        ("type", "bogus", "name", "tools[0].x"),
        strict=True,
    ):
        with pytest.raises(InvalidRequest) as error:
            asked(tool, strict=True)
        assert (error.value.code, error.value.param) == (code, f"input[1].tools[1].{member}")


def test_tools_of_a_namespace_are_checked_where_they_stand():
    nested = {"type": "namespace", "name": "n", "description": "d"}
    bad = {"type": "function", "name": "f", "parameters": {"type": "string"}}
    for tools, code, place in (
        ([{"type": "function"}], "missing_required_parameter", "tools[0].name"),
        ([F, bad], "invalid_function_parameters", "tools[1].parameters"),
        ([{"type": "custom", "name": "a b"}], "invalid_value", "tools[0].name"),
    ):
        assert refused(tools=[{**nested, "tools": tools}]) == (code, f"tools[0].{place}")
    some = [WEB, {**F, "bogus": 1}, {"type": "function", "function": {"name": "g"}}]
    made = planned(tools=[{**nested, "tools": some}])
    assert made.ignored == ("tools[0].tools[1].bogus", "tools[0].tools[0]:web_search")
    assert [function.name for function in made.prompt.functions] == ["n__f", "n__g"]
    for tool, code, member in ((WEB, "invalid_value", "type"), ({**F, "bogus": 1}, "unknown_parameter", "bogus")):
        with pytest.raises(InvalidRequest) as error:
            body = {"model": "m", "input": "hi", "tools": [{**nested, "tools": [tool]}]}
            plan(body, defaults=Defaults(strict=True), ids="{}_1".format, now=1)
        assert (error.value.code, error.value.param) == (code, f"tools[0].tools[0].{member}")


@pytest.mark.parametrize(
    ("tool", "member"),
    [
        ({"type": "custom", "name": "c", "format": {"type": "ebnf"}}, "format.type"),
        (
            {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "x", "definition": ""}},
            "format.syntax",
        ),
        ({"type": "shell", "environment": {"type": "moon"}}, "environment.type"),
    ],
)
def test_values_that_no_tool_has_are_refused(tool: Json, member: str):
    assert refused(tools=[tool]) == ("invalid_value", f"tools[0].{member}")


def test_names_are_unique():
    assert refused(tools=[F, F]) == ("invalid_value", "tools[1].name")
    space = {"type": "namespace", "name": "n", "description": "d", "tools": [F, G, F]}
    assert refused(tools=[F, space]) == ("invalid_value", "tools[1].tools[2].name")


def test_an_agents_kit_is_accepted_and_only_functions_are_offered():
    kit: list[Json] = [
        WEB,
        F,
        {"type": "namespace", "name": "n", "description": "d", "tools": [G]},
        {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}},
        {"type": "image_generation"},
        {"type": "local_shell"},
        {"type": "tool_search"},
    ]
    made = planned(tools=kit)
    assert [tool["type"] for tool in made.response.tools] == [tool["type"] for tool in kit]
    assert [function.name for function in made.prompt.functions] == ["f", "n__g"]


def test_secrets_of_mcp_are_not_echoed():
    made = planned(
        tools=[
            {
                "type": "mcp",
                "server_label": "s",
                "server_url": "https://user:secret@host.example/secret?key=secret",
                "headers": {"x": "secret"},
                "authorization": "secret",
            }
        ]
    )
    assert "secret" not in str(made.response.tools)
    assert made.response.tools[0]["server_url"] == "https://host.example/<redacted>"


FORCED = {"type": "function", "name": "f"}


@pytest.mark.parametrize(
    ("choice", "echo", "meaning"),
    [
        (None, "auto", ToolChoice()),
        ("auto", "auto", ToolChoice()),
        ("none", "none", ToolChoice("none")),
        ("required", "required", ToolChoice("required")),
        (FORCED, FORCED, ToolChoice("required", ("f",))),
        ({"type": "function", "function": {"name": "f"}}, FORCED, ToolChoice("required", ("f",))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [FORCED, WEB]},
            {"type": "allowed_tools", "mode": "required", "tools": [FORCED, WEB]},
            ToolChoice("required", ("f",)),
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            {"type": "allowed_tools", "mode": "auto", "tools": [FORCED]},
            ToolChoice("auto", ("f",)),
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [WEB]},
            {"type": "allowed_tools", "mode": "auto", "tools": [WEB]},
            ToolChoice("none"),
        ),
    ],
)
def test_choices(choice: object, echo: object, meaning: ToolChoice):
    made = planned(tools=[F, G, WEB], tool_choice=choice)
    assert made.prompt.tool_choice == meaning
    assert made.response.tool_choice == echo


def test_a_call_may_be_required_of_tools_that_came_along():
    brought = {"type": "additional_tools", "role": "developer", "tools": [F]}
    made = planned(input=[brought, {"role": "user", "content": "x"}], tool_choice="required")
    assert made.prompt.tool_choice == ToolChoice("required")


NAMESPACE: Json = {"type": "namespace", "name": "n", "description": "d", "tools": [F, {"type": "custom", "name": "c"}]}


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ({"type": "namespace", "name": "n"}, ("n__f", "n__c")),
        ({"type": "function", "name": "n__f"}, ("n__f",)),
        ({"type": "function", "name": "f"}, ("n__f",)),
        ({"type": "custom", "name": "c"}, ("n__c",)),
        ({"type": "function", "name": "g"}, ("g",)),
    ],
)
def test_tools_of_a_namespace_and_deferred_ones_can_be_allowed(allowed: Json, names: tuple[str, ...]):
    tools = [NAMESPACE, {**G, "defer_loading": True}, {"type": "tool_search", "execution": "client"}]
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [allowed]}
    made = plan(
        {"model": "m", "input": "hi", "tools": tools, "tool_choice": choice},
        defaults=Defaults(toolbox=make_toolbox()),
        ids="{}_1".format,
        now=1,
    )
    assert made.prompt.tool_choice == ToolChoice("auto", names)


def test_an_allowed_tool_may_say_of_which_namespace_it_is():
    def names(*allowed: Json) -> tuple[str, ...]:
        choice = {"type": "allowed_tools", "mode": "auto", "tools": [*allowed]}
        body = {"model": "m", "input": "hi", "tools": [NAMESPACE, F], "tool_choice": choice}
        made = plan(body, defaults=Defaults(toolbox=make_toolbox()), ids="{}_1".format, now=1)
        return made.prompt.tool_choice.names

    assert names({**F, "namespace": "n"}) == ("n__f",)
    assert names(F) == ("f",)
    assert names({"type": "custom", "name": "c", "namespace": "n"}) == ("n__c",)
    assert names({"type": "custom", "name": "c", "namespace": "other"}) == ()
    for absent in ({**F, "namespace": "other"}, {**F, "namespace": "n", "name": "c"}):
        with pytest.raises(InvalidRequest, match="not found"):
            names(absent)


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tool_choice": "sometimes"}, "invalid_value", "tool_choice"),
        ({"tool_choice": FORCED}, "invalid_value", "tool_choice"),
        ({"tool_choice": "required", "tools": [WEB]}, "unsupported_value", "tool_choice"),
        ({"tool_choice": {"type": "function"}, "tools": [F]}, "missing_required_parameter", "tool_choice.name"),
        ({"tool_choice": {"type": "web_search"}, "tools": [WEB]}, "unsupported_value", "tool_choice"),
        ({"tool_choice": {"type": "web_search_preview"}}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "file_search"}}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "apply_patch"}}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "computer_use"}}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "custom", "name": "c"}}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "mcp", "server_label": "s"}}, "invalid_value", "tool_choice"),
        (
            {"tool_choice": {"type": "mcp", "server_label": "s"}, "tools": [{"type": "mcp", "server_label": "s"}]},
            "unsupported_value",
            "tool_choice",
        ),
        (
            {"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]}},
            "missing_required_parameter",
            "tool_choice.tools[0].name",
        ),
        (
            {"tools": [WEB], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [WEB]}},
            "unsupported_value",
            "tool_choice",
        ),
    ],
)
def test_refused_choices(members: Json, code: str, param: str):
    assert refused(**members) == (code, param)


def deep(levels: int) -> Json:
    schema: Json = {"type": "string"}
    for _ in range(levels):
        schema = strict_object(a=schema)
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        strict_object(),
        deep(11),
        strict_object(a={"type": ["string", "null"], "format": "date-time"}, b={"enum": [1, 2]}),
        strict_object(a={"anyOf": [STRICT, {"type": "null"}]}),
        strict_object(a={"type": "array", "items": STRICT, "minItems": 1}),
        strict_object(a={"type": "string", "default": "x"}),
        {**strict_object(a={"$ref": "#/$defs/n"}), "$defs": {"n": strict_object(next={"$ref": "#"})}},
    ],
    ids=str,
)
def test_inside_the_strict_subset(schema: Json):
    assert refusal(schema) is None


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({}, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'."),
        ({"anyOf": [STRICT]}, "got 'type: \"anyOf\"'"),
        (LOOSE, "In context=(), 'additionalProperties' is required to be supplied and to be false."),
        ({**STRICT, "required": []}, "Missing 'a'."),
        ({**STRICT, "required": ["a", "b"]}, "Extra required key 'b' supplied."),
        ({**STRICT, "allOf": []}, "'allOf' is not permitted."),
        (strict_object(a={"type": "string", "not": {}}), "In context=('properties', 'a'), 'not' is not"),
        (strict_object(a={"type": "array"}), "array schema missing items."),
        (strict_object(a={"type": "thing"}), "'type' must be one of"),
        (strict_object(a={"description": "x"}), "schema must have a 'type' key."),
        (strict_object(a={"type": "string", "format": "color"}), "'color' is not a valid format."),
        (strict_object(a={"$ref": "http://example"}), "'$ref' must point into the same schema."),
        (strict_object(a=LOOSE), "In context=('properties', 'a'), 'additionalProperties'"),
        (strict_object(a={"type": "string", "enum": "x"}), "'enum' is malformed."),
        (strict_object(a={"type": "string", "enum": [str(i) for i in range(1001)]}), "1000 enum values"),
        (strict_object(a={"type": "string", "enum": ["x" * 60 + str(i) for i in range(251)]}), "15000 characters"),
        (strict_object(**{f"p{i}": {"type": "string"} for i in range(5001)}), "5000 object properties"),
        (deep(12), "10 levels of nesting"),
        (deep(3000), "10 levels of nesting"),
        ({**STRICT, "properties": {"a": 5}}, "schema must be an object."),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, str) else "",
)
def test_outside_the_strict_subset(schema: Json, why: str):
    assert why in (refusal(schema) or "")


def test_a_schema_nested_beyond_all_reason_is_refused() -> None:
    schema: Json = {"type": "string"}
    for _ in range(60):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(InvalidRequest) as caught:
        planned(tools=[{"type": "function", "name": "f", "parameters": schema}])
    assert (caught.value.code, caught.value.param) == ("invalid_function_parameters", "tools[0].parameters")
