"""The options that say where documents are, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter, validators

if TYPE_CHECKING:
    from offramp.data.document import Document
    from offramp.data.documents import Documents


@Parameter(name="*", group=Group("The data", sort_key=3))
@dataclass(frozen=True)
class Data:
    """Texts of your own.

    Parameters
    ----------
    data
        A .jsonl, .json, .csv, .tsv, .parquet or text file, a folder of them, or a data set of the Hugging Face hub:
        hf:OWNER/NAME[:CONFIG[:SPLIT]].
    field
        The field, or column, that holds the text.
    id_field
        The field that names each document; where there is none, file and line do. '' reads none.
    max_documents
        Read no more than so many, the first ones.
    """

    data: str
    field: str = "text"
    id_field: str = "id"
    max_documents: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None

    def read(self, at_most: int | None = None) -> list[Document]:
        """The documents as texts, no more than `at_most` where the user did not say. Raises as `read_documents`."""
        from offramp.data.reading import read_documents

        limit = self.max_documents or at_most
        return read_documents(self.data, field=self.field, id_field=self.id_field, limit=limit)

    def load(
        self, encode: Callable[[str], list[int]], max_tokens: int = 4_000_000, seed: int = 0
    ) -> Documents:
        """The documents as token ids for training. Raises as `load_documents` does."""
        from offramp.data.documents import load_documents

        return load_documents(
            self.data,
            encode,
            max_tokens,
            seed=seed,
            field=self.field,
            id_field=self.id_field,
            max_documents=self.max_documents,
        )
