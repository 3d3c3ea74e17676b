"""A real S3 server, moto's, on a free port of the loopback; it keeps what it has when it is stopped and started."""

import logging
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import boto3
import httpx
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.free_ports import free_ports

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret-that-nobody-may-see",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class Bucket:
    """A folder of a bucket, as its owner sees it."""

    server: "ObjectStoreServer"
    name: str = field(default_factory=lambda: f"bucket-{secrets.token_hex(4)}")
    prefix: str = "partner/in"

    def __post_init__(self) -> None:
        self.client.create_bucket(Bucket=self.name)

    @property
    def client(self):
        """A client of Amazon's own library."""
        return self.server.client

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{self.prefix}"

    @property
    def options(self) -> dict[str, object]:
        return {"endpoint_url": self.server.url}

    def write(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"{self.prefix}/{name}", Body=content)

    def read(self, name: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=f"{self.prefix}/{name}")["Body"].read()

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=f"{self.prefix}/{name}")

    def all_names(self) -> list[str]:
        """Return what lies there, markers included."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{self.prefix}/")
        return sorted(
            entry["Key"].removeprefix(f"{self.prefix}/") for page in pages for entry in page.get("Contents", ())
        )


@dataclass
class ObjectStoreServer:
    """The server; it forgets nothing as long as the process of the tests lives."""

    port: int = field(default_factory=lambda: free_ports(1)[0])
    _server: ThreadedMotoServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(proxies={}),
        )

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def ask_for_credentials(self, *, after: int) -> None:
        """Refuse everybody after so many requests; nobody has an account there."""
        httpx.post(f"{self.url}/moto-api/reset-auth", content=str(after), trust_env=False).raise_for_status()


@contextmanager
def object_store() -> Generator[ObjectStoreServer]:
    """Run a server inside."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ObjectStoreServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
