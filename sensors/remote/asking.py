"""Asking a store: whatever goes wrong is told as a StoreError, in words and without credentials."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from sensors.remote.store import ChangedError, StoreError


@dataclass(frozen=True)
class Asking:
    """How the troubles of one store are told."""

    where: str
    """Its URL."""
    secrets: frozenset[str] = frozenset()

    @contextmanager
    def __call__(self, *, let_through: tuple[type[Exception], ...] = ()) -> Generator[None]:
        """Do what is inside; raises StoreError for what it raises, unless it is to be let through."""
        try:
            yield
        except (StoreError, ChangedError, *let_through):
            raise
        except Exception as error:  # noqa: BLE001 - each library has its own; whatever it is, the files are safe
            raise self.told(error) from None  # its traceback may quote what was sent

    def told(self, error: Exception) -> StoreError:
        """Return what is told of an error."""
        said = " ".join(str(error).split()) or type(error).__name__
        for secret in self.secrets:
            said = said.replace(secret, "***")
        return StoreError(f"{self.where}: {self._why(error)} ({said:.300})")

    @staticmethod
    def _why(error: Exception) -> str:
        names = {one.__name__ for one in type(error).__mro__}
        if "HostKeyNotVerifiable" in names:
            return (
                "the server's key is not known, so it may be another one; compare its fingerprint"
                " (`ssh-keygen -lf` on the server), then add the key to known_hosts with `ssh-keyscan`"
            )
        if names & {"PermissionError", "PermissionDenied", "NoCredentialsError", "SFTPPermissionDenied"}:
            return "it does not let us in or refuses what is needed; check the credentials and permissions"
        if "FileNotFoundError" in names:
            return "there is no such bucket or folder; make it, or set another `url`"
        if names & {"TimeoutError", "FSTimeoutError"}:
            return "it does not answer in time"
        return "it cannot be reached, or refuses; it is tried again"
