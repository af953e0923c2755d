"""Which responses are sent together."""

from scp.response_batch import MAXIMUM_BATCH_BYTES, MAXIMUM_PAUSE_S, ResponseBatch


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def sent(batch: ResponseBatch, responses: list[bytes]) -> list[bytes]:
    """What is sent of the responses before the end."""
    writes = []
    for response in responses:
        batch.add(response)
        if batch.is_due:
            writes.append(batch.take())
    return writes


def test_the_first_response_is_sent_alone_and_then_more_than_before() -> None:
    batch = ResponseBatch(Clock())
    assert sent(batch, [b"."] * 20) == [b".", b"..", b"....", b"........"]
    assert (batch.taken, batch.responses) == (15, 20)
    assert batch.take() == b"....."
    assert (batch.taken, batch.responses) == (20, 20)


def test_large_responses_do_not_pile_up() -> None:
    batch = ResponseBatch(Clock())
    writes = sent(batch, [bytes(MAXIMUM_BATCH_BYTES // 2)] * 40)
    assert max(map(len, writes)) <= MAXIMUM_BATCH_BYTES * 3 // 2
    assert len(batch.take()) <= MAXIMUM_BATCH_BYTES


def test_responses_that_are_slow_to_come_are_sent_as_they_come() -> None:
    clock = Clock()
    batch = ResponseBatch(clock)
    sent(batch, [b"."] * 7)
    for _ in range(3):
        clock.now += MAXIMUM_PAUSE_S * 1.01
        assert sent(batch, [b"."]) == [b"."]
        assert sent(batch, [b"."]) == []
        assert batch.take() == b"."


def test_what_is_cleared_is_not_sent() -> None:
    batch = ResponseBatch(Clock())
    sent(batch, [b"1", b"2"])
    batch.clear()
    assert (batch.take(), batch.taken, batch.responses) == (b"", 1, 1)
