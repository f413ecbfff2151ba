"""What a JSON Schema has against a value, in sentences that say what to do."""

import difflib
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

SCHEMAS = Path(__file__).parents[1] / "workflow" / "schemas"
LARGEST = sys.float_info.max
TYPES = Draft202012Validator.TYPE_CHECKER
STRICT = {
    "number": lambda _, value: TYPES.is_type(value, "number") and abs(value) <= LARGEST,  # NaN is within any limits
    "integer": lambda _, value: TYPES.is_type(value, "integer") and isinstance(value, int),  # 60.0 is one to JSON
}
Validator = extend(Draft202012Validator, type_checker=TYPES.redefine_many(STRICT))


def check_schema(content: dict, schema: str) -> Iterator[str]:
    """What a JSON Schema has against a value; unknown keys with the nearest right one."""
    errors = sorted(_validator(schema).iter_errors(content), key=lambda error: list(map(str, error.path)))
    for error in errors:
        place = ".".join(str(step) for step in error.absolute_path)
        if error.validator == "additionalProperties":
            yield from _unknown_keys(place, error)
        elif error.validator == "required":
            absent = [key for key in error.validator_value if key not in error.instance]
            yield f"{place + ': ' if place else ''}{', '.join(absent)} missing"
        elif error.validator == "pattern":
            yield f"{place}: {error.instance!r} may have letters, digits, dots, dashes and underscores only"
        elif error.validator == "anyOf":
            yield f"{place}: {error.instance!r} is neither {' nor '.join(map(_named, error.validator_value))}"
        else:
            yield f"{place}: {error.message}{_advice(error)}"


@cache  # a sheet has a row for each of thousands of slides
def _validator(schema: str):
    return Validator(load_schema(schema))


def load_schema(schema: str) -> dict:
    """The JSON Schema of "config", or of a row of "samples"."""
    return yaml.safe_load((SCHEMAS / f"{schema}.schema.yaml").read_text())


def _named(option: dict) -> str:
    """One of several kinds of value that a key may have."""
    if "const" in option:
        return str(option["const"])
    return f"an {option['type']} of at least {option['minimum']}" if "minimum" in option else f"a {option['type']}"


def _advice(error) -> str:
    """YAML takes 1e-3 for text: its numbers have a dot."""
    if error.validator == "type" and error.validator_value == "number" and isinstance(error.instance, str):
        with suppress(ValueError):
            return f"; write {float(error.instance)!r}"
    return ""


def _unknown_keys(place: str, error) -> Iterator[str]:
    known = error.schema.get("properties", {})
    for key in sorted(set(map(str, error.instance)) - set(known)):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        advice = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(known)}"
        yield f"unknown key {place + '.' if place else ''}{key}; {advice}"
