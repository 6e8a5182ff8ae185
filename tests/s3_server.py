"""A real S3 server (moto's) in a thread, and what delta-rs and obstore read of the environment to reach it."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

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
    application = _atomic(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        made = S3Server(f"http://127.0.0.1:{server.server_port}")
        made._client.create_bucket(Bucket=BUCKET)
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _atomic(application: "WSGIApplication") -> "WSGIApplication":
    """One write at a time: S3 compares and writes in one step where a write has a condition, moto in two."""
    writing = Lock()

    def answer(environment: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] != "PUT":
            return application(environment, start)
        with writing:
            return application(environment, start)

    return answer


def _key(address: str) -> str:
    return address.removeprefix(f"s3://{BUCKET}/")
