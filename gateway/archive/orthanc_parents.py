"""What stands over Orthanc's series and instances, fetched in bulk and once."""

from __future__ import annotations

from gateway.archive.interface import Level
from gateway.archive.orthanc_resources import OrthancResources, Resource


class Parents:
    """What stands over the entities of one query."""

    def __init__(self, resources: OrthancResources) -> None:
        self._resources = resources
        self._series: dict[str, Resource] = {}
        self._studies: dict[str, Resource] = {}

    def fetch(self, level: Level, top: int, page: list[Resource]) -> None:
        """Have at hand what `tags` needs for `page`."""
        below = page
        if level is Level.IMAGE and top < Level.IMAGE.value:
            below = self._add(Level.SERIES, {resource["ParentSeries"] for resource in page}, self._series)
        if level.value > Level.STUDY.value and top < Level.SERIES.value:
            self._add(Level.STUDY, {resource["ParentStudy"] for resource in below}, self._studies)

    def tags(self, level: Level, top: int, resource: Resource) -> dict[Level, dict[str, str]] | None:
        """Orthanc's main tags of an entity and of what is over it, up to `top`; None if that is gone."""
        tags = {level: resource["MainDicomTags"]}
        if level is Level.IMAGE and top < Level.IMAGE.value:
            series = self._series.get(resource["ParentSeries"])
            if series is None:
                return None
            tags[Level.SERIES] = series["MainDicomTags"]
            resource = series
        if level.value > Level.STUDY.value and top < Level.SERIES.value:
            study = self._studies.get(resource["ParentStudy"])
            if study is None:
                return None
            tags[Level.STUDY] = study["MainDicomTags"]
            resource = study
        if level is not Level.PATIENT and top == Level.PATIENT.value:
            tags[Level.PATIENT] = resource["PatientMainDicomTags"]
        return tags

    def _add(self, level: Level, identifiers: set[str], known: dict[str, Resource]) -> list[Resource]:
        missing = sorted(identifiers - known.keys())
        known.update((resource["ID"], resource) for resource in self._resources.bulk(level, missing))
        return [known[identifier] for identifier in identifiers if identifier in known]
