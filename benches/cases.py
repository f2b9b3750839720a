"""Plays the cases of tests/cases against a server. The README there says what their keys mean."""

import contextlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from wire import Stuck, Wire

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "cases"
PING = b"GET / HTTP/1.1\r\nHost: ping\r\n\r\n"
OUTCOME = ("answers", "refused", "body", "body_length", "json", "lacks_json", "fields", "has", "lacks", "wire_has", "wire_lacks")
OTHER = ("name", "section", "request", "options", "own", "or")


class Failed(Exception):
    """What the server did instead."""


@dataclass(frozen=True)
class Case:
    """One case of one group; `outcomes` are dictionaries, the strictest first."""

    group: str
    name: str
    section: str
    steps: list
    options: tuple
    own: bool
    outcomes: list


def load():
    """All groups in the order of their files: {title: [Case, …]}."""
    groups = {}
    for path in sorted(FOLDER.glob("*.toml")):
        with path.open("rb") as file:
            text = tomllib.load(file)
        groups[text["title"]] = [case(text["title"], entry) for entry in text["case"]]
    return groups


def case(group, entry):
    for key in [*entry, *(key for outcome in entry.get("or", []) for key in outcome)]:
        if key not in OUTCOME and key not in OTHER:
            raise KeyError(f"{group}: {entry['name']}: no such key: {key}")
    request = entry["request"]
    first = {key: value for key, value in entry.items() if key in OUTCOME}
    return Case(
        group,
        entry["name"],
        entry["section"],
        [request] if isinstance(request, str) else request,
        tuple(entry.get("options", ())),
        entry.get("own", False),
        [first, *entry.get("or", [])],
    )


def play(case, port, strict):
    """Returns if the server does as the section says, else raises Failed. With `strict`, only the first outcome counts."""
    why = None
    for outcome in case.outcomes[:1] if strict else case.outcomes:
        try:
            return act(case, outcome, port)
        except (Failed, Stuck) as failure:
            why = why or failure
    raise Failed(str(why))


def act(case, outcome, port):
    expected = list(outcome.get("answers", []))
    with contextlib.closing(Wire(port)) as wire:
        last = None
        for step in case.steps:
            if isinstance(step, str):
                wire.send(step.encode("latin-1"))
            elif "repeat" in step:
                wire.send(step["repeat"].encode("latin-1") * step["times"])
            elif "until" in step:
                wire.until(step["until"].encode("latin-1"))
            elif "half_close" in step:
                wire.half_close()
            else:
                take(wire, expected.pop(0))
                wire.reconnect()
        for each in expected:
            last = take(wire, each) or last
        if "refused" in outcome:
            refusal(wire, outcome["refused"])
        elif "end" not in expected:
            goes_on(wire, last)
        inspect(wire, outcome, last)


def ping(port):
    """Whether the server still answers."""
    with contextlib.closing(Wire(port)) as wire:
        wire.send(PING)
        return wire.answer().body == b"hello"


def take(wire, expected):
    """Reads one answer and compares it with `200`, `"HEAD 200"` or `"cut"`; or expects the connection's end, for `"end"`."""
    if expected == "end":
        return wire.expect_end()
    answer = wire.answer(to_head=str(expected).startswith("HEAD"))
    status = 200 if expected == "cut" else int(str(expected).removeprefix("HEAD "))
    if answer.status != status:
        raise Failed(f"status {answer.status} instead of {status}")
    if answer.complete == (expected == "cut"):
        raise Failed("the answer looks whole" if expected == "cut" else "the answer was cut")
    return answer


def refusal(wire, statuses):
    answer = wire.answer()
    if answer.status not in statuses:
        raise Failed(f"status {answer.status} instead of {' or '.join(map(str, statuses))}")
    if "x-application" in answer.fields:
        raise Failed("the application was reached")
    wire.expect_end()


def goes_on(wire, last):
    """Checks that the connection can be used for one more request, unless the last answer said otherwise or was cut."""
    if not last.complete or last.says_close:
        return wire.expect_end()
    wire.send(PING)
    if wire.answer().body != b"hello":
        raise Failed("the next request was not answered rightly")


def inspect(wire, outcome, last):
    if "body" in outcome and last.body != outcome["body"].encode("latin-1"):
        raise Failed(f"body {last.body[:60]!r}")
    if "body_length" in outcome and len(last.body) != outcome["body_length"]:
        raise Failed(f"{len(last.body)} bytes of body")
    if "json" in outcome or "lacks_json" in outcome:
        inspect_json(last.body, outcome)
    for name, value in outcome.get("fields", {}).items():
        if (given := last.fields.get(name.lower(), "missing")) != value:
            # RFC 9110 §5.6: names of codings and connection options have no case.
            if name not in ("Connection", "Transfer-Encoding") or given.lower() != value:
                raise Failed(f"{name}: {given}")
    for name in outcome.get("has", []):
        if name.lower() not in last.fields:
            raise Failed(f"no {name}")
    for name in outcome.get("lacks", []):
        if name.lower() in last.fields:
            raise Failed(f"{name}: {last.fields[name.lower()]}")
    for text in outcome.get("wire_has", []):
        if text.encode("latin-1") not in wire.received:
            raise Failed(f"no {text!r}")
    for text in outcome.get("wire_lacks", []):
        if text.encode("latin-1") in wire.received:
            raise Failed(f"{text!r} was sent")


def inspect_json(body, outcome):
    try:
        seen = json.loads(body)
    except ValueError:
        raise Failed(f"body {body[:60]!r}") from None
    expected = outcome.get("json", {})
    if not isinstance(expected, dict):
        if seen != expected:
            raise Failed(f"{seen!r}")
        return
    for key, value in expected.items():
        if seen.get(key) != value:
            raise Failed(f"{key}: {seen.get(key)!r}")
    for key in outcome.get("lacks_json", []):
        if key in seen:
            raise Failed(f"{key}: {seen[key]!r}")
