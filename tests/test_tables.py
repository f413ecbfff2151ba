"""A table of objects tells when it is not what was written."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.parquet import ParquetFile

from unetpipe.tables import count_rows, growing_table

ROWS = 3000


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "t.parquet"
    columns = {"series": ["a"] * ROWS, "id": np.arange(ROWS), "y_px": np.random.default_rng(0).normal(size=ROWS)}
    whole = pd.DataFrame(columns)
    with growing_table(path, whole[:0]) as rows:
        rows.append(whole)
    return path


def test_rows_are_counted(table):
    assert count_rows(table) == ROWS


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_any_page_is_found(table, share, bit):
    footer = int.from_bytes(table.read_bytes()[-8:-4], "little") + 8
    content = bytearray(table.read_bytes())
    place = 4 + int(share * (len(content) - footer - 4))  # behind the magic number, before the footer
    content[place] ^= 1 << bit
    harmed = table.with_name("harmed.parquet")
    harmed.write_bytes(content)
    with pytest.raises((OSError, ValueError)):
        count_rows(harmed)


def test_a_table_of_an_earlier_version_is_read_too(table, tmp_path):
    pd.read_parquet(table).to_parquet(tmp_path / "old.parquet")
    assert count_rows(tmp_path / "old.parquet") == ParquetFile(table).metadata.num_rows
