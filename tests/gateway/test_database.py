"""Connections to PostgreSQL."""

import socket

from gateway.database import connect_postgresql
from tests.support.postgresql import PostgreSql


def test_a_server_that_is_gone_without_a_word_is_noticed(postgresql: PostgreSql) -> None:
    database = connect_postgresql(postgresql.database())
    with database.read() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=socket.dup(driver.fileno())) as transport:
            assert transport.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            idle_s = transport.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            between_s = transport.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            assert idle_s + 3 * between_s <= 30
    database.close()
