"""`mmcli methods|imputers|encoders`: what there is, and the options of one."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, Field

from mmcli.errors import RequestError
from mmcli.imputers import IMPUTERS
from mmcli.methods import METHODS
from mmcli.stages import catalogue


def test_options_of_typed_settings():
    class Made(BaseModel):
        width: int = Field(32, ge=1, description="Width.")
        rate: float = Field(0.5, gt=0, lt=1, description="Rate.")
        kind: Literal["a", "b"] = Field("a", description="Kind.")
        limit: int | None = Field(None, description="Limit.")

    assert catalogue.options(Made) == [
        {"option": "width", "values": "integer >= 1", "default": 32, "meaning": "Width."},
        {"option": "rate", "values": "number > 0 < 1", "default": 0.5, "meaning": "Rate."},
        {"option": "kind", "values": "a | b", "default": "a", "meaning": "Kind."},
        {"option": "limit", "values": "integer | none", "default": None, "meaning": "Limit."},
    ]


def test_imputers_lists_all_and_the_options_of_one():
    outcome = catalogue.imputers()
    assert [row["name"] for row in outcome.rows] == IMPUTERS.names()
    assert all(row["what"] for row in outcome.rows)
    one = catalogue.imputers("mice")
    assert {row["option"]: row["default"] for row in one.rows}["rounds"] == 2
    assert "Chained equations" in one.message
    assert "no options" in catalogue.imputers("mean").message


def test_methods_lists_all_with_their_command_and_documents_every_option():
    outcome = catalogue.methods()
    assert [row["name"] for row in outcome.rows] == METHODS.names()
    for row in outcome.rows:
        assert row["what"] and row["command"]
        options = catalogue.methods(row["name"]).rows
        assert options and all(option["meaning"] for option in options)


def test_encoders_lists_all_and_the_options_of_one():
    outcome = catalogue.encoders()
    assert {"statistics", "resnet3d_18"} <= {row["name"] for row in outcome.rows}
    one = catalogue.encoders("resnet3d_18")
    assert "stem_z_stride" in {row["option"] for row in one.rows} and "MedicalNet" in one.message


@pytest.mark.parametrize("what,name", [("methods", "atention"), ("imputers", "mcie"), ("encoders", "statistic")])
def test_unknown_names_say_which_was_meant(what, name):
    with pytest.raises(RequestError, match="did you mean"):
        getattr(catalogue, what)(name)
