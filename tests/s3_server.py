"""A real S3 server (moto's) in a thread, and what delta-rs and obstore read of the environment to reach it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "training-log"


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where it listens, on one bucket."""

    url: str

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
        }

    def address(self) -> str:
        """A place that nothing lies at yet."""
        return f"s3://{BUCKET}/{uuid4().hex}"

    def put(self, address: str, data: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=_key(address), Body=data)

    def get(self, address: str) -> bytes:
        body: bytes = self._client.get_object(Bucket=BUCKET, Key=_key(address))["Body"].read()
        return body

    def keys(self, address: str) -> list[str]:
        """All objects under an address, by what follows it."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{_key(address)}/")
        names = [each["Key"] for page in pages for each in page.get("Contents", ())]
        return [name.removeprefix(f"{_key(address)}/") for name in names]

    @property
    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="tests",
            aws_secret_access_key="tests",  # noqa: S106  # of a server that asks for none
        )


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """One with an empty bucket, on a free port of this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line a request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        made = S3Server(f"http://{host}:{port}")
        made._client.create_bucket(Bucket=BUCKET)
        yield made
    finally:
        server.stop()


def _key(address: str) -> str:
    return address.removeprefix(f"s3://{BUCKET}/")
