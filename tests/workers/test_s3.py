"""Handlers that upload: the local S3 store, wrong keys, and secrets that nothing shows (wire.md 2)."""

import hashlib
import logging
import os
import signal
from io import StringIO
from pathlib import Path
from time import strftime

import boto3
import botocore.session
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from emulator import ConfigError, Emulator, EndpointConfig
from emulator.client.connection import Refused
from tests.limits import PATIENCE_S

SAMPLE = Path(__file__).parents[2] / "handlers" / "s3_upload.py"
#: Waits half-way through an upload until it is told to go on.
HALF_WAY = """
import io, os, time
import boto3, runpod

class Body(io.BytesIO):
    def read(self, size=-1):
        piece = super().read(size)
        if self.job and self.tell() > 1_000_000:
            job, self.job = self.job, None
            runpod.serverless.progress_update(job, "half-way")
            while not os.path.exists(job["input"]):
                time.sleep(0.01)
        return piece

def handler(job):
    client = boto3.client(
        "s3", endpoint_url=os.environ["BUCKET_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id=os.environ["BUCKET_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["BUCKET_SECRET_ACCESS_KEY"],
        config=boto3.session.Config(
            retries={"total_max_attempts": 1}, request_checksum_calculation="when_required",
            s3={"payload_signing_enabled": False},
        ),
    )
    body = Body(b"x" * 50_000_000)
    body.job = job
    client.put_object(Bucket=os.environ["BUCKET_NAME"], Key="large", Body=body)

runpod.serverless.start({"handler": handler})
"""


def environment(job):
    """The variables, as nobody is to read them."""
    return {name: fingerprint(os.environ.get(name, "")) for name in job["input"]}


def fingerprint(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def log():
    """All that is logged while the tests of this file run."""
    text = StringIO()
    handler = logging.StreamHandler(text)
    logging.getLogger("emulator").addHandler(handler)
    logging.getLogger("emulator").setLevel(logging.DEBUG)
    yield text
    logging.getLogger("emulator").removeHandler(handler)
    logging.getLogger("emulator").setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def emulator(log):
    endpoints = {
        "ep": EndpointConfig(handler=SAMPLE, worker_kind="process", workers_max=1),
        "inline": environment,
    }
    emulator = Emulator(endpoints, s3=True)
    with emulator.serve():
        yield emulator


@pytest.fixture(scope="module")
def http(emulator):
    with httpx.Client(
        base_url=emulator.url, headers={"authorization": "Bearer any"}, trust_env=False, timeout=PATIENCE_S
    ) as http:
        yield http


@pytest.fixture(scope="module")
def reader(emulator):
    """Another client of the store."""
    return client_of(emulator.store.s3_config)


def client_of(config, *, version=None, **changes):
    config = {**config, **changes}
    return boto3.client(
        "s3",
        endpoint_url=config["endpointUrl"],
        aws_access_key_id=config["accessId"],
        aws_secret_access_key=config["accessSecret"],
        region_name="us-east-1",
        config=Config(signature_version=version),
    )


def upload(http, **fields):
    s3_config = fields.pop("s3Config", None)
    body = {"input": fields, **({"s3Config": s3_config} if s3_config else {})}
    return http.post("/v2/ep/runsync?wait=300000", json=body).json()


@pytest.mark.parametrize("way", ["sdk", "boto3"])
def test_what_a_handler_uploads_can_be_read(http, reader, emulator, way):
    ended = upload(http, name="a file.txt", text="Hello", **{"with": way})
    key = f"{ended['id']}/a file.txt"
    assert ended["output"]["size"] == 5
    assert httpx.get(ended["output"]["url"], trust_env=False, timeout=PATIENCE_S).text == "Hello"
    assert reader.get_object(Bucket="runpod", Key=key)["Body"].read() == b"Hello"
    listed = http.get("/_emulator/s3").json()
    assert (listed["bucket"], listed["endpoint_url"]) == ("runpod", emulator.store.url)
    assert [each["size"] for each in listed["objects"] if each["key"] == key] == [5]


def test_s3_config_reaches_the_handler(http, emulator):
    emulator_config = {**emulator.store.s3_config, "bucketName": "mine"}
    client_of(emulator_config).create_bucket(Bucket="mine")
    ended = upload(http, name="x", text="Hello", s3Config=emulator_config)
    assert [
        each["bucket"] for each in http.get("/_emulator/s3").json()["objects"] if ended["id"] in each["key"]
    ] == ["mine"]


@pytest.mark.parametrize("way", ["sdk", "boto3"])
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"accessId": "SOMEBODY-ELSES-ID"}, "InvalidAccessKeyId"),
        ({"accessSecret": "not-its-secret"}, "SignatureDoesNotMatch"),
        ({"bucketName": "nobody-made-it"}, "NoSuchBucket"),
    ],
)
def test_a_wrong_s3_config_fails_the_job_and_says_what_is_wrong(http, emulator, wrong, code, way):
    config = {**emulator.store.s3_config, **wrong}
    ended = upload(http, name="x", text="Hello", s3Config=config, **{"with": way})
    assert ended["status"] == "FAILED"
    assert code in ended["error"]


def test_100_mb(http, reader, emulator):
    ended = upload(http, name="large", text="0123456789", times=10_000_000)
    assert ended["status"] == "COMPLETED", ended
    other = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=emulator.store.url,
        aws_access_key_id=emulator.store.s3_config["accessId"],
        aws_secret_access_key=emulator.store.s3_config["accessSecret"],
        region_name="us-east-1",
    )
    body = other.get_object(Bucket="runpod", Key=f"{ended['id']}/large")["Body"]
    read = hashlib.sha256()
    for piece in body.iter_chunks(1 << 20):
        read.update(piece)
    assert read.digest() == hashlib.sha256(b"0123456789" * 10_000_000).digest()


def test_workers_of_all_kinds_have_the_variables(http, emulator):
    names = [*emulator.store.variables]
    assert {"BUCKET_ENDPOINT_URL", "BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY"} <= set(names)
    ended = http.post("/v2/inline/runsync", json={"input": names}).json()
    assert ended["output"] == {name: fingerprint(value) for name, value in emulator.store.variables.items()}


def test_the_store_asks_for_its_keys_as_s3_does(emulator, reader):
    config = emulator.store.s3_config
    reader.put_object(Bucket="runpod", Key="mine", Body=b"1")
    assert (
        httpx.get(f"{config['endpointUrl']}/runpod/mine", trust_env=False, timeout=PATIENCE_S).status_code
        == 403
    )
    with pytest.raises(ClientError, match=r"\(InvalidAccessKeyId\)"):
        client_of(config, accessId="x").list_objects_v2(Bucket="runpod")
    with pytest.raises(ClientError, match=r"\(SignatureDoesNotMatch\)"):
        client_of(config, accessSecret="x").list_objects_v2(Bucket="runpod")
    # No page of another site may read it.
    assert "access-control-allow-origin" not in httpx.options(config["endpointUrl"], trust_env=False).headers


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_signed_url_is_good_for_as_long_as_it_says(emulator, reader, version):
    reader.put_object(Bucket="runpod", Key="mine é", Body=b"1")

    def read(expires_s, **changes):
        signer = client_of(emulator.store.s3_config, version=version, **changes)
        place = {"Bucket": "runpod", "Key": "mine é"}
        return httpx.get(
            signer.generate_presigned_url("get_object", place, expires_s), trust_env=False, timeout=PATIENCE_S
        ).text

    assert read(60) == "1"
    assert "expired" in read(-1)
    assert "SignatureDoesNotMatch" in read(60, accessSecret="x")
    assert "InvalidAccessKeyId" in read(60, accessId="x")


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/_emulator/objects", "é"),
        ("/runpod/mine?AWSAccessKeyId={key}&Expires=%C2%B2&Signature=x", None),
        ("/runpod/mine?AWSAccessKeyId={key}&Expires=" + 5_000 * "9" + "&Signature=x", None),
        ("/runpod/mine?AWSAccessKeyId={key}&Expires=9999999999&Signature=%C3%A9", None),
    ],
    ids=["header", "superscript", "long", "signature"],
)
def test_what_is_no_signature_is_refused(emulator, path, header):
    config = emulator.store.s3_config
    headers = [] if header is None else [(b"authorization", header.encode())]
    url = config["endpointUrl"] + path.format(key=config["accessId"])
    assert httpx.get(url, headers=headers, trust_env=False, timeout=PATIENCE_S).status_code == 403


def test_the_sdks_default_bucket_is_there(reader):
    # rp_upload.upload_image without a bucket's name.
    reader.put_object(Bucket=strftime("%m-%y"), Key="image", Body=b"1")


def test_secrets_are_shown_nowhere(http, emulator, log):
    config = {**emulator.store.s3_config, "accessId": "AN-ID-TO-HIDE", "accessSecret": "a-secret-to-hide"}
    ended = upload(http, name="x", text="Hello", s3Config=config)
    secrets = [
        "AN-ID-TO-HIDE",
        "a-secret-to-hide",
        emulator.store.s3_config["accessSecret"],
        "not-its-secret",
    ]
    paths = [
        *(f"/_emulator/journal?format={format}" for format in ("json", "jsonl", "har")),
        *(f"/_emulator/{name}" for name in ("s3", "endpoints", "workers")),
        *(f"/_emulator/jobs/{ended['id']}{part}" for part in ("", "/logs", "/timeline")),
        "/v2/ep/requests",
        f"/v2/ep/status/{ended['id']}",
    ]
    for path in paths:
        answer = http.get(path)
        assert answer.status_code == 200, path
        assert not [secret for secret in secrets if secret in answer.text], path
    assert ended["id"] in log.getvalue()
    assert not [secret for secret in secrets if secret in log.getvalue()]


def test_a_store_that_is_killed_while_a_handler_uploads_fails_the_job(tmp_path, log):
    (tmp_path / "handler.py").write_text(HALF_WAY)
    emulator = Emulator(
        {"ep": EndpointConfig(handler=tmp_path / "handler.py", worker_kind="process")}, s3=True
    )
    with emulator.serve() as client:
        job = client.endpoint("ep").submit(str(tmp_path / "go-on"))
        while job.look_again(0.05)["output"] != "half-way":
            pass
        os.kill(emulator.store.process_id, signal.SIGKILL)
        (tmp_path / "go-on").touch()
        ended = job.wait()
        assert ended.status == "FAILED"
        assert "Connection was closed before we received a valid response" in ended.error
        with httpx.Client(
            base_url=emulator.url, headers={"authorization": "any"}, trust_env=False, timeout=PATIENCE_S
        ) as http:
            assert "the S3 store is not running" in http.get("/_emulator/s3").text
    assert "the S3 store has ended (exit code -9)" in log.getvalue()


def test_its_variables_go_with_it(monkeypatch):
    monkeypatch.setenv("BUCKET_ENDPOINT_URL", "https://a-real-bucket.example")
    emulator = Emulator({"ep": environment}, s3=True)
    with emulator.serve():
        assert os.environ["BUCKET_ENDPOINT_URL"] == emulator.store.url
    assert os.environ["BUCKET_ENDPOINT_URL"] == "https://a-real-bucket.example"
    assert emulator.store.process_id is None


def test_without_a_store_there_is_nothing_to_list():
    with (
        Emulator({"ep": environment}).serve() as client,
        pytest.raises(Refused, match="there is no S3 store"),
    ):
        client.control("GET", "/s3")


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'runpod-emulator\[s3\]'"):
        Emulator({"ep": environment}, s3=True).serve().__enter__()
