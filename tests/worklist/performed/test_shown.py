"""To whom items were shown: added up, bounded, and no error for what is gone."""

from gateway.database import Database
from tests.support.worklists import add, item_attributes
from worklist import store
from worklist.performed import shown
from worklist.performed.shown import MAXIMUM_TITLES, Shown


def notes_of(database: Database, item: int) -> list[Shown]:
    with database.read() as connection:
        return shown.shown(connection, item)


def write(database: Database, *notes: tuple[int, Shown]) -> None:
    with database.write(lock=store.LOCK) as connection:
        shown.write(connection, notes)


def test_notes_add_up_and_go_with_their_item(database: Database) -> None:
    one, other = (add(database, item_attributes(number)).id for number in (1, 2))
    write(database, (one, Shown("CT1", 2, 50)), (other, Shown("CT1", 1, 50)), (4711, Shown("CT1", 1, 50)))
    write(database, (one, Shown("CT1", 3, 40)), (one, Shown("CT2", 1, 60)))
    assert notes_of(database, one) == [Shown("CT2", 1, 60), Shown("CT1", 5, 50)]
    assert notes_of(database, other) == [Shown("CT1", 1, 50)]
    with database.write(lock=store.LOCK) as connection:
        store.remove(connection, [one])
    assert notes_of(database, one) == []


def test_who_invents_ae_titles_does_not_fill_the_database(database: Database) -> None:
    one = add(database, item_attributes()).id
    write(database, *((one, Shown(f"AE{number}", 1, number)) for number in range(30)))
    write(database, *((one, Shown(f"AE{number}", 1, 100 + number)) for number in range(200)))
    notes = notes_of(database, one)
    assert len(notes) == MAXIMUM_TITLES
    assert {note.times for note in notes if int(note.calling_ae_title[2:]) < 30} == {2}
