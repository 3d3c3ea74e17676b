"""A mail server on the loopback with the SMTP commands that an alert needs."""

import socket
import threading
import time
from contextlib import suppress
from typing import Any


class MailServer:
    """A mail server that fails at the step `fails_at`, in the way `how`."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.fails_at = ""
        self.how = ""
        self.takes = 0
        """How many mails it accepts before it fails."""
        self.rejected = ""
        """The address of a recipient that it rejects."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                self._speak(connection)

    def _speak(self, connection: socket.socket) -> None:
        file = connection.makefile("rwb")
        answers = {"EHLO": "250 here", "QUIT": "221 bye", "DATA": "354 go on"}
        self._say(file, "220 here")
        for line in file:
            verb = line.split()[0].upper().decode()
            if verb == "RCPT" and self.rejected and self.rejected in line.decode():
                self._say(file, "550 5.1.1 not there")
                continue
            if not self._answer(file, verb.lower(), answers.get(verb, "250 fine")) or verb == "QUIT":
                return
            if verb == "DATA" and self.fails_at != "data":
                self.mails.append(b"".join(iter(file.readline, b".\r\n")))
                if not self._answer(file, "text", "250 taken"):
                    return

    def _answer(self, file: Any, step: str, line: str) -> bool:
        """Respond, unless the server fails at this step; return whether the connection stays open."""
        if step != self.fails_at or len(self.mails) < self.takes:
            self._say(file, line)
            return True
        if self.how == "hang":
            time.sleep(3)
        elif self.how != "reset":
            self._say(file, self.how)
        return self.how != "reset"

    def _say(self, file: Any, line: str) -> None:
        file.write(f"{line}\r\n".encode())
        file.flush()

    def close(self) -> None:
        self._listener.close()

    def url(self, more: str = "") -> str:
        to = "to=ops@example.org&from=prefect@example.org"
        return f"mailto://127.0.0.1:{self.port}/?{to}&{more}"
