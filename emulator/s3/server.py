"""The program of the local S3 store: moto's S3 on a port of its own, behind a check of who asks.

It is run by its path, and needs the extra `s3`. Its variables are those it gives to workers:
`BUCKET_ACCESS_KEY_ID`, `BUCKET_SECRET_ACCESS_KEY`, `BUCKET_NAME`. When it serves it says so in a line of
JSON, `{"port": 9000}`; with `--until-eof` it ends when its standard input does.
"""

from __future__ import annotations

import argparse
import calendar
import hmac
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

# It reads them when it is imported: no other site's page may ask.
os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"

from botocore.auth import HmacV1QueryAuth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.exceptions import MissingBucket
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Where the emulator asks what there is; no bucket can be called so.
OBJECTS_PATH = "/_emulator/objects"
_REGION = "us-east-1"
#: The SDK's name for the bucket of somebody who names none.
_BUCKET_OF_THE_MONTH = "%m-%y"
_ALGORITHM = "AWS4-HMAC-SHA256"
_WRONG_KEY = ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
_WRONG_SECRET = (
    "SignatureDoesNotMatch",
    "The request signature we calculated does not match the signature you provided. Check your key and"
    " signing method.",
)
#: Of a time in seconds.
_DIGITS_MAX = 12
_NO_KEY = ("AccessDenied", "Access Denied")
_EXPIRED = ("AccessDenied", "Request has expired")


class Store:
    """The WSGI application: refuses what is not signed with the one pair of keys, as S3 does."""

    def __init__(self, access_key: str, secret: str, bucket: str) -> None:
        self._access_key = access_key
        self._secret = secret
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._s3: Callable[..., Iterable[bytes]] = create_backend_app("s3")
        self._making = threading.Lock()
        self._have_bucket(bucket)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        if environ["PATH_INFO"] == OBJECTS_PATH:
            return self._answer_emulator(environ, start_response)
        if refusal := self._refusal(environ):
            # What is left unread would be taken for the next request.
            start_response("403 FORBIDDEN", [("Content-Type", "application/xml"), ("Connection", "close")])
            code, message = refusal
            return [f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()]
        self._have_bucket(time.strftime(_BUCKET_OF_THE_MONTH))
        return self._s3(environ, start_response)

    def _have_bucket(self, name: str) -> None:
        with self._making:
            try:
                self._backend.head_bucket(name)
            except MissingBucket:
                self._backend.create_bucket(name, _REGION)

    def _answer_emulator(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """GET: what there is. DELETE: nothing any more."""
        if not _is_same(environ.get("HTTP_AUTHORIZATION", ""), self._secret):
            start_response("403 FORBIDDEN", [])
            return []
        buckets = list(self._backend.buckets.values())
        objects = [
            {
                "bucket": bucket.name,
                "key": key.name,
                "size": key.size,
                "content_type": str(key.metadata.get("Content-Type", "")),
                "last_modified": key.last_modified.isoformat(),
            }
            for bucket in buckets
            for key in list(bucket.keys.values())
        ]
        if environ["REQUEST_METHOD"] == "DELETE":
            for bucket in buckets:
                bucket.keys.clear()
                bucket.multiparts.clear()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(objects).encode()]

    def _refusal(self, environ: dict[str, Any]) -> tuple[str, str] | None:
        query = parse_qs(urlsplit(environ["REQUEST_URI"]).query)
        header = environ.get("HTTP_AUTHORIZATION", "")
        if header.startswith(_ALGORITHM):
            parts = dict(
                part.strip().partition("=")[::2] for part in header.removeprefix(_ALGORITHM).split(",")
            )
            given = parts.get("Credential", ""), parts.get("SignedHeaders", ""), parts.get("Signature", "")
            return self._refusal_of_signed(environ, *given, timestamp=environ.get("HTTP_X_AMZ_DATE", ""))
        if "X-Amz-Signature" in query:
            names = ("X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature")
            given = tuple(query.get(name, [""])[0] for name in names)
            timestamp = query.get("X-Amz-Date", [""])[0]
            if _is_over(timestamp, query.get("X-Amz-Expires", ["0"])[0]):
                return _EXPIRED
            return self._refusal_of_signed(environ, *given, timestamp=timestamp)
        if "AWSAccessKeyId" in query:
            return self._refusal_of_url(environ, query)
        return _NO_KEY

    def _refusal_of_url(self, environ: dict[str, Any], query: dict[str, list[str]]) -> tuple[str, str] | None:
        """The older way to sign URLs, which boto3 still takes where it is told no other."""
        key, expires, signature = (
            query.get(name, [""])[0] for name in ("AWSAccessKeyId", "Expires", "Signature")
        )
        if key != self._access_key:
            return _WRONG_KEY
        if not (expires.isdecimal() and len(expires) <= _DIGITS_MAX) or int(expires) < time.time():
            return _EXPIRED
        signer = _UrlSigner(Credentials(key, self._secret), int(expires))
        expected = signer.get_signature(
            environ["REQUEST_METHOD"], urlsplit(environ["REQUEST_URI"]), HTTPHeaders()
        )
        return None if _is_same(signature, expected) else _WRONG_SECRET

    def _refusal_of_signed(
        self, environ: dict[str, Any], credential: str, signed: str, signature: str, *, timestamp: str
    ) -> tuple[str, str] | None:
        access_key, _, scope = credential.partition("/")
        if access_key != self._access_key:
            return _WRONG_KEY
        _, region, service, _ = (*scope.split("/"), "", "", "", "")[:4]
        path, _, query = environ["REQUEST_URI"].partition("?")
        query = "&".join(part for part in query.split("&") if not part.startswith("X-Amz-Signature="))
        headers = {name: _header(environ, name) for name in signed.split(";")}
        if "x-amz-content-sha256" not in headers:
            headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
        request = AWSRequest(environ["REQUEST_METHOD"], f"http://store{path}?{query}", headers)
        request.context["timestamp"] = timestamp
        signer = _Signer(Credentials(access_key, self._secret), service, region)
        signer.signed = signed
        expected = signer.signature(
            signer.string_to_sign(request, signer.canonical_request(request)), request
        )
        return None if _is_same(signature, expected) else _WRONG_SECRET


class _Signer(S3SigV4Auth):  # type: ignore[misc]
    """Signs exactly those headers that the client did."""

    signed = ""

    def headers_to_sign(self, request: AWSRequest) -> Any:
        headers = super().headers_to_sign(request)
        for name in list(headers.keys()):
            if name.lower() not in self.signed.split(";"):
                del headers[name]
        return headers


class _UrlSigner(HmacV1QueryAuth):  # type: ignore[misc]
    """Signs for the moment at which the URL ends."""

    def _get_date(self) -> str:
        return str(self._expires)


def _header(environ: dict[str, Any], name: str) -> str:
    key = name.upper().replace("-", "_")
    return str(environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", ""))


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def _is_over(timestamp: str, expires_s: str) -> bool:
    try:
        began = time.strptime(timestamp + " UTC", "%Y%m%dT%H%M%SZ %Z")
        return time.time() > calendar.timegm(began) + int(expires_s)
    except ValueError:
        return True


class _Quiet(MotoRequestHandler):
    """Requests are not logged: URLs that are signed would be."""

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="A local S3 store.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--until-eof", action="store_true")
    options = parser.parse_args()
    store = Store(
        os.environ["BUCKET_ACCESS_KEY_ID"], os.environ["BUCKET_SECRET_ACCESS_KEY"], os.environ["BUCKET_NAME"]
    )
    server = make_server(options.host, options.port, store, threaded=True, request_handler=_Quiet)
    print(json.dumps({"port": server.server_port}), flush=True)
    if options.until_eof:
        threading.Thread(target=_end_with_input, daemon=True).start()
    server.serve_forever()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
