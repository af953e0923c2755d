"""Whatever arrives, the listener goes on, and every frame is answered or its connection closed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.mllp import CR, FS, VT, Sender, code_of, enclosed, order
from tests.worklist.hl7.listening import RunningListener, configuration_of

EXAMPLES = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

MESSAGES = [
    order("1"),
    order("2", name="MÜLLER^JÜRGEN", msh18="UNICODE UTF-8"),
    order("3", msh12="2.3", rest="ZDS|1.2.3^100^Application^DICOM"),
    order("4", msh15="AL", msh16="AL"),
    order("5", msh9="ORM^ZZE", rest="OBX|1|NM|29463-7^WEIGHT^LN||70|kg"),
]
PIECES = st.sampled_from([VT, FS, CR, b"\n", b"|", b"^", b"~", b"\\", b"&", b"\0", b"\xff", b"MSH|", b"\\X", b"\x1b$B"])


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningListener]:
    directory: Path = tmp_path_factory.mktemp("fuzzed")
    with RunningListener(configuration_of(directory, MaximumMessageSize=8192)) as listener:
        yield listener
        assert not listener.log.keys_of("connection closed by an error of our own")
        assert not listener.log.keys_of("messages are not acknowledged by an error of our own")
        assert not listener.log.keys_of("a message is not acknowledged by an error of our own")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real message with a few bytes of it cut out, put in or replaced."""
    message = bytearray(draw(st.sampled_from(MESSAGES)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(message)))
        end = start + draw(st.sampled_from([0, 0, 1, 2, 30]))
        message[start:end] = draw(PIECES | st.binary(max_size=4)) * draw(st.sampled_from([1, 1, 1, 3, 500]))
    return bytes(message)


def still_works(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        assert code_of(sender.ask(order("well"))) == "AA"


@EXAMPLES
@given(st.binary(max_size=2000) | st.lists(PIECES | st.binary(max_size=10), max_size=60).map(b"".join))
def test_bytes(fuzzed: RunningListener, data: bytes) -> None:
    with Sender(fuzzed.port) as sender:
        sender.send(data)
    still_works(fuzzed)


@EXAMPLES
@given(mutated().map(lambda message: message.replace(VT, b"").replace(FS, b"")))
def test_mutated_messages_in_frames_are_answered(fuzzed: RunningListener, message: bytes) -> None:
    with Sender(fuzzed.port) as sender:
        sender.send(enclosed(message) + enclosed(order("after")))
        answers = []
        while b"|after" not in (answer := sender.receive() or b"|after"):
            answers.append(answer)
        # None, where MSH-15 and MSH-16 came out so that none is wanted. The mutation may have changed the delimiters.
        assert len(answers) <= 2
        assert all(answer.startswith(b"MSH") and b"\rMSA" in answer for answer in answers)


@EXAMPLES
@given(mutated())
def test_mutated_streams(fuzzed: RunningListener, message: bytes) -> None:
    with Sender(fuzzed.port) as sender:
        sender.send(enclosed(message))
    still_works(fuzzed)
