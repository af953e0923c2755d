"""What has not been delivered yet, found by what queries ask for without a look at all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.deliveries import Wanted
from gateway.spool import Delivery

# Fields of Wanted, and of a delivery. A SOP Instance UID is that of few deliveries, but there are as many of them.
_FIELDS: Final = (
    ("series_instance_uids", "series_instance_uid"),
    ("study_instance_uids", "study_instance_uid"),
    ("accession_numbers", "accession_number"),
    ("patient_ids", "patient_id"),
)


class Pending:
    """Deliveries by path."""

    def __init__(self) -> None:
        self._all: dict[Path, Delivery] = {}
        self._by_field: dict[str, dict[str, dict[Path, Delivery]]] = {of: {} for _wanted, of in _FIELDS}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, path: object) -> bool:
        return path in self._all

    def get(self, path: Path) -> Delivery | None:
        """The delivery of a path."""
        return self._all.get(path)

    def add(self, delivery: Delivery) -> None:
        """One more."""
        self._all[delivery.path] = delivery
        for field, by_value in self._by_field.items():
            by_value.setdefault(getattr(delivery, field).strip(), {})[delivery.path] = delivery

    def remove(self, path: Path) -> None:
        """Delivered, failed or withdrawn."""
        delivery = self._all.pop(path)
        for field, by_value in self._by_field.items():
            value = getattr(delivery, field).strip()
            del by_value[value][path]
            if not by_value[value]:
                del by_value[value]

    def matching(self, wanted: Wanted) -> Iterator[Delivery]:
        """All that a query could match."""
        return filter(wanted.may_be, self._candidates(wanted))

    def _candidates(self, wanted: Wanted) -> Iterable[Delivery]:
        for wanted_field, field in _FIELDS:
            if values := getattr(wanted, wanted_field):
                by_value = self._by_field[field]
                # of what is not known the value could be any
                return [one for value in (*values, "") for one in by_value.get(value, {}).values()]
        return self._all.values()
