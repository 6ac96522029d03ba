"""Django's PostgreSQL backend, but for how it finds out at each request that a kept connection still lives.

Django asks the server ("SELECT 1"), a round trip before every request. A server that ended a connection has closed its
socket, and a closed socket is readable; so a look at the socket tells, and only a readable one is worth the question.
"""

from __future__ import annotations

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def is_usable(self) -> bool:
        """Whether the connection answers; the server is asked only if something waits to be read."""
        if self.connection is None or self.connection.closed:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        return not poll.poll(0) or super().is_usable()
