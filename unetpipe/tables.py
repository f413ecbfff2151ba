"""Tables of objects: Parquet that is written as it grows, and CSV."""

import gzip
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from unetpipe.manifest import replacing

KEPT = 100_000  # rows that are collected before they are written
TABLES = 256  # of a few rows each, before they become one


class Rows:
    """The rows of a Parquet file that is being written.

    Attributes
    ----------
    counts : Counter
        Rows of each series.
    """

    def __init__(self, file: ParquetWriter, empty: pd.DataFrame):
        self.file, self.empty = file, empty
        self.counts, self.kept = Counter[str](), list[pd.DataFrame]()
        self.waiting = 0

    def append(self, table: pd.DataFrame) -> None:
        """Add a table; columns that it lacks are empty."""
        self.counts.update(table.series)
        self.kept.append(table)
        self.waiting += len(table)
        if self.waiting >= KEPT:
            self.write()
        elif len(self.kept) >= TABLES:
            self.kept = [pd.concat(self.kept)]

    def write(self) -> None:
        """Write what was collected as a group of rows."""
        whole = pd.concat([self.empty, *self.kept])[list(self.empty)].astype(self.empty.dtypes)
        self.file.write_table(pa.Table.from_pandas(whole, self.file.schema, preserve_index=False))
        self.kept.clear()
        self.waiting = 0


def count_rows(path: str | Path) -> int:
    """Rows of a table, every page of which is read and compared with its checksum.

    Raises
    ------
    OSError, ValueError
        If it is not whole.
    """
    return sum(batch.num_rows for batch in ParquetFile(path, page_checksum_verification=True).iter_batches())


@contextmanager
def growing_table(path: str | Path, empty: pd.DataFrame) -> Iterator[Rows]:
    """A Parquet file, with checksums of its pages, that appears when the block ends without an error.

    Parameters
    ----------
    path : path
    empty : DataFrame
        Its columns and their types, without rows.
    """
    schema = pa.Schema.from_pandas(empty, preserve_index=False)
    with replacing(path) as aside, ParquetWriter(aside, schema, write_page_checksum=True) as file:
        rows = Rows(file, empty)
        yield rows
        rows.write()


def write_csv(table: str | Path, output: str | Path) -> None:
    """Write a Parquet table as gzip-packed CSV, a group of rows at a time; unknown values are empty."""
    with replacing(output) as aside, open(aside, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        file = ParquetFile(table)
        packed.write(file.schema_arrow.empty_table().to_pandas().to_csv(index=False, lineterminator="\n").encode())
        for rows in file.iter_batches():
            packed.write(rows.to_pandas().to_csv(index=False, header=False, lineterminator="\n").encode())
