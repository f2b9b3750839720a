"""A client that sends any bytes and parses answers strictly, without knowing what to expect."""

import re
import socket
from dataclasses import dataclass

PATIENCE = 4
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\x00-\x08\x0a-\x1f\x7f]*")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")


class Stuck(Exception):
    """The answer is not HTTP, or nothing came."""


@dataclass(frozen=True)
class Answer:
    """One final answer. `complete`: its end was marked by length, chunk or, where there is neither, the connection's end."""

    version: bytes
    status: int
    fields: dict
    body: bytes
    complete: bool

    @property
    def says_close(self):
        connection = self.fields.get("connection", "").lower()
        return "close" in connection or (self.version == b"HTTP/1.0" and "keep-alive" not in connection)


class Wire:
    def __init__(self, port):
        self.port = port
        self.received = b""
        self.connect()

    def connect(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.ahead = b""
        self.ended = False

    def reconnect(self):
        self.close()
        self.connect()

    def close(self):
        self.socket.close()

    def send(self, data):
        """A server that has refused the request may close before all of it is sent. Its answer can still be read."""
        try:
            self.socket.sendall(data)
        except TimeoutError:
            raise Stuck("it stopped reading") from None
        except OSError:
            pass

    def half_close(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.ended = True

    def more(self):
        """Whether anything more came before the end. A reset is an end."""
        if self.ended:
            return False
        try:
            data = self.socket.recv(1 << 20)
        except TimeoutError:
            raise Stuck("it left the client waiting" if not self.ahead else f"it stopped behind {self.ahead[-40:]!r}") from None
        except OSError:
            data = b""
        self.ended = not data
        self.ahead += data
        self.received += data
        return bool(data)

    def until(self, text):
        while text not in self.received:
            if not self.more():
                raise Stuck("it closed the connection instead")

    def expect_end(self):
        while self.more():
            pass
        if self.ahead:
            raise Stuck(f"behind the answer came {self.ahead[:40]!r}")

    def take(self, length):
        taken, self.ahead = self.ahead[:length], self.ahead[length:]
        return taken

    def take_line(self):
        while b"\r\n" not in self.ahead:
            if not self.more():
                return None
        return self.take(self.ahead.index(b"\r\n") + 2)[:-2]

    def answer(self, to_head=False):
        """Reads one final answer; interim ones before it are skipped."""
        while (answer := self.any_answer(to_head)).status < 200:
            pass
        return answer

    def any_answer(self, to_head):
        line = self.take_line()
        if line is None:
            raise Stuck(f"it closed the connection{' behind ' + repr(self.ahead[:40]) if self.ahead else ' without an answer'}")
        if not (matched := STATUS_LINE.fullmatch(line)):
            raise Stuck(f"no status line: {line[:60]!r}")
        status = int(matched[1])
        fields = self.fields()
        bodiless = to_head or status < 200 or status in (204, 304)
        body, complete = (b"", True) if bodiless else self.body(fields)
        return Answer(line[:8], status, fields, body, complete)

    def fields(self):
        fields = {}
        while line := self.take_line():
            if not (matched := FIELD.fullmatch(line)):
                raise Stuck(f"no field line: {line[:60]!r}")
            name, value = matched[1].decode().lower(), matched[2].decode("latin-1")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        if line is None:
            raise Stuck("the head was cut")
        return fields

    def body(self, fields):
        """(the body, whether it is complete)"""
        if "transfer-encoding" in fields:
            if "content-length" in fields:
                raise Stuck("the answer has both a length and a transfer coding")
            return self.chunks()
        if "content-length" in fields:
            if not re.fullmatch(r"[0-9]+", fields["content-length"]):
                raise Stuck(f"no length: {fields['content-length']}")
            length = int(fields["content-length"])
            while len(self.ahead) < length and self.more():
                pass
            return (body := self.take(length)), len(body) == length
        while self.more():
            pass
        return self.take(len(self.ahead)), True

    def chunks(self):
        body = b""
        while (line := self.take_line()) is not None:
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", line):
                raise Stuck(f"no chunk size: {line[:40]!r}")
            size = int(line, 16)
            if size == 0:
                return body, self.take_line() == b""
            while len(self.ahead) < size + 2 and self.more():
                pass
            body += self.take(size)
            if self.take(2) != b"\r\n":
                return body, False
        return body, False
