"""Config, schema, signatures and rules say the same."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

from unetpipe.augment import Augmentation
from unetpipe.ingest import ingest
from unetpipe.label import write_objects
from unetpipe.mask import write_mask
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.revisions import REVISIONS
from unetpipe.score import write_scores
from unetpipe.train import train
from unetpipe.truth import write_truth
from unetpipe.weights import write_weights

ROOT = Path(__file__).parents[1]
SCHEMA = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
DEFAULTS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
MACHINE = {
    "sample",
    "samples",
    "workers",
    "threads",
    "memory",
    "minutes",
    "device",
    "devices",
    "part",
    "store",
    "validation",
    "fold",
    "inside",
    "roi",
    "networks",
    "like",
    "groups",
}  # not of the config
SHARED = {"dimensions"}  # of several sections, so it stands above them
JOBS = {
    "ingest": ingest,
    "truth": write_truth,
    "mask": write_mask,
    "weights": write_weights,
    "train": train,
    "predict": predict_part,
    "label": write_objects,
    "score": write_scores,
}


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in MACHINE | SHARED}


@pytest.mark.parametrize("section", JOBS)
def test_schema_config_and_signature_agree(section):
    expected = set(keywords(JOBS[section]))
    assert set(SCHEMA["properties"][section]["properties"]) == expected
    assert set(SCHEMA["properties"][section]["required"]) == expected
    assert set(DEFAULTS[section]) == expected


def test_augmentation_agrees():
    assert DEFAULTS["train"]["augment"] == Augmentation()._asdict()
    assert set(SCHEMA["properties"]["train"]["properties"]["augment"]["properties"]) == set(Augmentation._fields)


def test_publishing_takes_what_the_parts_take():
    assert set(keywords(predict_part)) == {*keywords(publish_probabilities), "parts"}


def test_every_section_is_a_job():
    assert set(SCHEMA["properties"]) - {"samples", "data", "network"} - SHARED == set(JOBS)


def test_every_rule_carries_its_revision():
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    found = dict(re.findall(r"\nrule (\w+):.*?revision=REVISIONS\[\"(\w+)\"\]", rules, flags=re.DOTALL))
    assert found == {name: name.removesuffix("_part") for name in found}
    assert set(found.values()) == set(REVISIONS)


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*/config.yaml")), ids=lambda path: path.parent.name)
def test_examples_change_only_known_keys(path):
    for section, value in yaml.safe_load(path.read_text()).items():
        assert section in DEFAULTS
        if isinstance(value, dict):
            assert set(value) <= set(DEFAULTS[section])
