"""Open the store of a remote inbox; fsspec's filesystems are imported only here, when an inbox needs one."""

import logging
import os
from pathlib import Path
from typing import Any

from sensors.config.inboxes import Inbox
from sensors.config.remote_url import Address, export_credentials, resolved, secrets_in
from sensors.config.settings import surrounding
from sensors.remote.store import CONNECT_SECONDS, ErrorTranslator, Store, StoreError

RETRIES = 2
"""How often a library retries a request to an object store; after that the inbox waits and reports why."""
KEEPALIVE_SECONDS = 10


def open_store(inbox: Inbox) -> Store:
    """Open the store of an inbox that has a URL, without sending a request yet. Raises StoreError."""
    export_credentials()
    _quiet_libraries()
    address = Address.of(inbox.where)
    around = surrounding()
    options = resolved(inbox.options, around)
    asking = ErrorTranslator(inbox.where, secrets_in(inbox.options, around))
    with asking():  # an option that the filesystem does not know
        match address.scheme:
            case "s3":
                return _open_s3(address, options, asking)
            case "gs":
                return _open_gs(address, options, asking)
            case _:
                return _open_sftp(address, options, asking)


def _open_s3(address: Address, options: dict[str, Any], asking: ErrorTranslator) -> Store:
    from s3fs import S3FileSystem  # pyright: ignore[reportUnknownVariableType]

    from sensors.remote.object_store import S3Store

    config = {"connect_timeout": CONNECT_SECONDS, "read_timeout": 15, "retries": {"max_attempts": RETRIES}}
    settings: dict[str, Any] = {**options, "config_kwargs": {**config, **options.get("config_kwargs", {})}}
    filesystem: Any = S3FileSystem(**settings, skip_instance_cache=True, use_listings_cache=False)
    filesystem.retries = RETRIES
    return S3Store(filesystem, address.root, asking)


def _open_gs(address: Address, options: dict[str, Any], asking: ErrorTranslator) -> Store:
    # By default gcsfs asks by gRPC what kind of bucket it is, an experimental feature, and waits a minute where only
    # the JSON API answers (gcsfs 2026.10, measured).
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    from gcsfs import GCSFileSystem  # pyright: ignore[reportUnknownVariableType]

    from sensors.remote.object_store import ObjectStore

    filesystem: Any = GCSFileSystem(**options, skip_instance_cache=True, use_listings_cache=False)
    return ObjectStore(filesystem, address.root, asking)


def _open_sftp(address: Address, options: dict[str, Any], asking: ErrorTranslator) -> Store:
    from sshfs import SSHFileSystem  # pyright: ignore[reportUnknownVariableType]

    from sensors.remote.sftp import NAMES, SftpStore

    known_hosts = Path(str(options.pop("known_hosts", "~/.ssh/known_hosts"))).expanduser()
    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "login_timeout": 2 * CONNECT_SECONDS,
        "keepalive_interval": KEEPALIVE_SECONDS,
        **({"port": address.port} if address.port else {}),
        **({"username": address.user} if address.user else {}),
        **options,
    }

    def connect() -> Any:
        if not known_hosts.is_file():
            at = f"-p {address.port} " if address.port else ""
            raise StoreError(
                f"{asking.where}: the server's key cannot be checked, there is no {known_hosts}; get it with"
                f" `ssh-keyscan {at}{address.host}`, compare its fingerprint with the server's, and put it there"
            )
        # sshfs checks the server's key only if `known_hosts` is given.
        return SSHFileSystem(
            address.host,
            **settings,
            known_hosts=str(known_hosts),
            timeout=3 * CONNECT_SECONDS,
            sftp_client_kwargs=NAMES,
            skip_instance_cache=True,
        )

    return SftpStore(connect, address.root, asking)


def _quiet_libraries() -> None:
    """Silence the libraries, which log every request; their errors are reported by the sensor."""
    for noisy in ("asyncssh", "aiobotocore", "botocore", "s3fs", "gcsfs", "fsspec", "sshfs", "google"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
