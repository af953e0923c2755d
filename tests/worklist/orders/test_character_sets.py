"""Names arrive as they left the RIS, whatever it writes in."""

import pytest

from tests.worklist.orders.messages import Worklist, orm, value

KOREAN_DESIGNATION = b"\x1b$)C"


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        ("8859/1", "latin-1", "Müller^Søren"),
        ("8859/2", "iso8859-2", "Dvořák^Łukasz"),
        ("8859/5", "iso8859-5", "Иванов^Пётр"),
        ("8859/7", "iso8859-7", "Διονυσιος^Άννα"),
        ("8859/8", "iso8859-8", "שרון^דבורה"),
        ("8859/15", "iso8859-15", "Žižek^Œuvre€"),
        ("UNICODE UTF-8", "utf-8", "Müller^Łukasz Пётр 太郎"),
        ("GB 18030-2000", "gb18030", "王^小东"),
        ("BIG-5", "big5", "王^小東"),
        ("KS X 1001", "euc_kr", "김^희중"),
        ("~ISO IR87", "iso2022_jp", "山田^太郎"),
        ("ISO IR14~ISO IR87", "iso2022_jp", "山田^太郎"),
        ("WINDOWS-1251", "cp1251", "Иванов^Пётр"),
    ],
)
def test_names_arrive_as_they_left(worklist: Worklist, declared: str, codec: str, name: str) -> None:
    text = orm(pid=f"PID|1||4711||{name}|||M").replace("UNICODE UTF-8", declared)
    worklist.send(text.encode(codec))
    assert value(worklist.item, "PatientName") == name


def test_korean_with_its_designation(worklist: Worklist) -> None:
    text = orm(pid="PID|1||4711||Hong^Gildong^^^^^L^A~@洪^@吉洞^^^^^L^I~@홍^@길동^^^^^L^P")
    body = text.replace("UNICODE UTF-8", "~KS X 1001").encode("euc_kr").replace(b"@", KOREAN_DESIGNATION)
    worklist.send(body)
    assert value(worklist.item, "PatientName") == "Hong^Gildong=洪^吉洞=홍^길동"


def test_japanese_in_three_representations(worklist: Worklist) -> None:
    text = orm(pid="PID|1||4711||Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P")
    worklist.send(text.replace("UNICODE UTF-8", "~ISO IR87").encode("iso2022_jp"))
    assert value(worklist.item, "PatientName") == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_hexadecimal_escapes_are_of_the_declared_character_set(worklist: Worklist) -> None:
    worklist.send(orm(pid="PID|1||4711||M\\XFC\\ller^J").replace("UNICODE UTF-8", "8859/1").encode("latin-1"))
    assert value(worklist.item, "PatientName") == "Müller^J"
    worklist.send(orm("NW", pid="PID|1||4711||M\\XC3BC\\hle^J", ordered="20260301090000"))
    assert value(worklist.item, "PatientName") == "Mühle^J"
