"""`serve --tls`: clients whose host cannot be changed get the emulator as api.runpod.ai (docs/connect.md)."""

import json
import ssl
import stat
import subprocess
from urllib.parse import urlsplit

import certifi
import httpx
import pytest

from tests.cli.command import environment, run, serving
from tests.conformance.js_client import node
from tests.limits import PATIENCE_S

JOB = {"input": {"mock_return": "over TLS"}}
ASK = """
const https = require("node:https");
const [host, port] = process.argv.slice(1);
const request = https.request({
  host: "127.0.0.1", port, servername: host, path: "/v2/local/runsync", method: "POST",
  headers: { host, authorization: "Bearer any", "content-type": "application/json" },
}, (answer) => answer.setEncoding("utf8").on("data", (text) => process.stdout.write(text)));
request.end(JSON.stringify({ input: { mock_return: "over TLS" } }));
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    with serving(folder, "--tls", "--tls-port", "0", XDG_STATE_HOME=str(folder)) as served:
        served.https = served.rows("https")[0].split()[0]
        served.port = urlsplit(served.https).port
        served.state = folder / "runpod-emulator" / "tls"
        yield served


def ask(served, host, trusted):
    """A call as from a machine on which the host's name means this one."""
    context = ssl.create_default_context(cafile=trusted)
    with httpx.Client(verify=context, trust_env=False, timeout=PATIENCE_S) as client:
        return client.post(
            f"https://127.0.0.1:{served.port}/v2/local/runsync",
            json=JOB,
            headers={"host": host, "authorization": "Bearer any"},
            extensions={"sni_hostname": host},
        ).json()


@pytest.mark.parametrize("host", ["api.runpod.ai", "abc123.api.runpod.ai", "localhost"])
@pytest.mark.parametrize("file", ["ca.pem", "bundle.pem"])
def test_it_is_production_to_a_client_that_trusts_its_certificate(served, host, file):
    assert ask(served, host, served.state / file)["output"] == "over TLS"


def test_it_is_no_other_host(served):
    with pytest.raises(httpx.ConnectError, match="certificate is not valid for 'example\\.com'"):
        ask(served, "example.com", served.state / "ca.pem")


def test_whoever_does_not_trust_its_certificate_is_not_served(served):
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        ask(served, "api.runpod.ai", certifi.where())


def test_node_is_told_by_its_variable(served, tmp_path):
    asked = [node(), "--eval", ASK, "api.runpod.ai", str(served.port)]
    variables = environment(NODE_EXTRA_CA_CERTS=str(served.state / "ca.pem"))
    told = subprocess.check_output(asked, env=variables, text=True, timeout=PATIENCE_S)
    assert json.loads(told)["output"] == "over TLS"


def test_the_banner_names_the_files_and_plain_http_goes_on(served):
    assert f"NODE_EXTRA_CA_CERTS={served.state}/ca.pem" in "\n".join(served.banner)
    assert f"REQUESTS_CA_BUNDLE={served.state}/bundle.pem" in "\n".join(served.banner)
    assert served.post("/v2/local/runsync", JOB)["output"] == "over TLS"


def test_the_authority_is_kept_and_its_key_is_for_the_user_alone(served, tmp_path):
    before = (served.state / "ca.pem").read_bytes()
    with serving(tmp_path, "--tls", "--tls-port", "0", XDG_STATE_HOME=str(served.state.parents[1])):
        assert (served.state / "ca.pem").read_bytes() == before
    assert stat.S_IMODE((served.state / "ca-key.pem").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "runpod-emulator").write_text("no folder")
    told = run(tmp_path, "serve", "--port", "0", "--tls", "--tls-port", "0", XDG_STATE_HOME=str(tmp_path))
    assert told.returncode == 2
    assert f"error: the certificate authority in {tmp_path}/runpod-emulator/tls cannot be used" in told.stderr
