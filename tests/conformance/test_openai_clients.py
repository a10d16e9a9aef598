"""What the users of OpenAI's clients see: Python's, JavaScript's, LangChain's and the AI SDK's."""

import asyncio
import json
import socket
import subprocess
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI

from tests.conformance.served import HERE, KEY, environment, served
from tests.limits import PATIENCE_S

HELLO = [{"role": "user", "content": "Hello there my friend"}]
WORDS = ["Hello", " there", " my", " friend"]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def before_a_server(tmp_path_factory):
    """An endpoint with a worker of the real SDK that is shaped as the vLLM worker is; started once."""
    script = HERE / "handlers_for_clients/vllm_shaped.py"
    options = ("--workers-min", "1", "--workers-max", "1", "--api-key", KEY)
    with served(tmp_path_factory.mktemp("vllm"), str(script), *options) as emulator:
        yield emulator


@pytest.fixture(params=["toy", "vLLM's shape"])
def base_url(request):
    if request.param == "toy":
        return f"{request.getfixturevalue('emulator').base_url}/chat/openai/v1"
    return f"{request.getfixturevalue('before_a_server').base_url}/local/openai/v1"


@pytest.fixture
def toy_url(emulator):
    return f"{emulator.base_url}/chat/openai/v1"


def client_of(base_url):
    return openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0, timeout=PATIENCE_S)


@pytest.fixture
def client(base_url):
    with client_of(base_url) as client:
        yield client


@pytest.fixture
def toy(toy_url):
    with client_of(toy_url) as client:
        yield client


def test_chat(client):
    answer = client.chat.completions.create(model="toy", messages=HELLO)
    assert answer.choices[0].message.content == "Hello there my friend"
    assert answer.usage.total_tokens == 8


def test_chat_that_streams(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model="toy", messages=HELLO, **options))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [text for text in texts if text] == WORDS
    assert chunks[-1].usage.completion_tokens == 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_answer_given_back(client, stream):
    asked = {"model": "toy", "messages": HELLO, "tools": [WEATHER]}
    if stream:
        with client.chat.completions.stream(**asked) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(**asked).choices[0].message
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "weather",
        {"city": "Hello there my friend"},
    )
    told = [*HELLO, message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    answer = client.chat.completions.create(model="toy", messages=told, tools=[WEATHER])
    assert answer.choices[0].message.content == "sunny"


def test_completions_embeddings_and_models(client):
    assert client.completions.create(model="toy", prompt="a b").choices[0].text == "a b"
    streamed = client.completions.create(model="toy", prompt="a b", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == "a b"
    first, second = client.embeddings.create(model="toy", input=["a", "a"]).data
    assert len(first.embedding) == 8
    assert first.embedding == second.embedding
    assert [model.id for model in client.models.list()] == ["toy"]


def test_responses(client):
    assert client.responses.create(model="toy", input="Hello there").output_text == "Hello there"
    with client.responses.stream(model="toy", input="Hello there") as events:
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert deltas == ["Hello", " there"]
        assert events.get_final_response().output_text == "Hello there"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "error"),
    [({"model": "none"}, openai.NotFoundError), ({"messages": []}, openai.BadRequestError)],
)
def test_what_the_worker_refuses_is_raised_as_what_it_is(client, asked, error, stream):
    with pytest.raises(error):
        client.chat.completions.create(**{"model": "toy", "messages": HELLO, "stream": stream, **asked})


def test_a_wrong_key_and_an_unknown_endpoint_are_raised_as_what_they_are(toy, emulator):
    with pytest.raises(openai.AuthenticationError, match="invalid api key"):
        toy.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.NotFoundError, match="endpoint not found"):
        toy.with_options(base_url=f"{emulator.base_url}/none/openai/v1").models.list()


def test_a_failed_job_is_a_server_error_with_its_message(emulator, toy):
    failing = toy.with_options(base_url=f"{emulator.base_url}/failing/openai/v1")
    with pytest.raises(openai.InternalServerError) as raised:
        failing.chat.completions.create(model="toy", messages=HELLO)
    assert raised.value.body["message"]


def test_the_job_can_be_asked_for_as_any_other(emulator, toy):
    answer = toy.chat.completions.create(model="toy", messages=HELLO)
    job_id = answer.id.removeprefix("chatcmpl-")
    job = emulator.get(f"/v2/chat/status/{job_id}")
    assert (job["status"], job["output"][0]["object"]) == ("COMPLETED", "chat.completion")


@pytest.mark.anyio
async def test_the_async_client(base_url):
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        stream = await client.chat.completions.create(model="toy", messages=HELLO, stream=True)
        texts = [chunk.choices[0].delta.content async for chunk in stream]
    assert [text for text in texts if text] == WORDS


@pytest.mark.anyio
async def test_thirty_streams_at_once_are_one_workers(before_a_server):
    url = f"{before_a_server.base_url}/local/openai/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=PATIENCE_S) as client:

        async def words(number):
            told = [{"role": "user", "content": f"number {number}"}]
            stream = await client.chat.completions.create(model="toy", messages=told, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        said = await asyncio.gather(*map(words, range(30)))
    assert said == [f"number {number}" for number in range(30)]
    jobs = before_a_server.get("/_emulator/jobs?limit=30")["jobs"]
    assert len({job["worker_id"] for job in jobs}) == 1
    took = before_a_server.post("/_emulator/journal/find", {"kind": "worker", "limit": 1_000})["entries"]
    assert any("job-take-batch" in entry["path"] for entry in took)


def test_a_stub_says_a_text_word_by_word(emulator):
    stub = {"when": {"input": {"openai_route": "/v1/chat/completions"}}, "says": "As you like it"}
    emulator.post("/_emulator/endpoints/mock/stubs", stub)
    with client_of(f"{emulator.base_url}/mock/openai/v1") as client:
        whole = client.chat.completions.create(model="any", messages=HELLO)
        assert whole.choices[0].message.content == "As you like it"
        chunks = list(client.chat.completions.create(model="any", messages=HELLO, stream=True))
        texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert [text for text in texts if text] == ["As", " you", " like", " it"]


def test_ten_thousand_chunks_arrive_byte_for_byte_and_a_slow_reader_holds_up_nobody(emulator, toy_url):
    told = [{"role": "user", "content": "word " * 10_000}]
    body = {"model": "toy", "messages": told, "stream": True}
    path = urlsplit(toy_url).path + "/chat/completions"
    address = urlsplit(toy_url).hostname, urlsplit(toy_url).port
    with socket.socket() as slow:
        # Less than the stream has, so that it stands still until it is read.
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.settimeout(PATIENCE_S)
        slow.connect(address)
        sent = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        slow.sendall(head.encode() + sent)
        assert slow.recv(12) == b"HTTP/1.1 200"
        headers = {"authorization": KEY}
        answer = httpx.post(f"{toy_url}/chat/completions", json=body, headers=headers, timeout=PATIENCE_S)
        job_id = json.loads(answer.text.partition("\n")[0].removeprefix("data: "))["id"].removeprefix(
            "chatcmpl-"
        )
        output = emulator.get(f"/v2/chat/status/{job_id}")["output"]
        assert len(output) > 10_000
        assert answer.text == "".join(output)
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest += slow.recv(1_000_000)
    assert rest.count(b"data: ") == answer.text.count("data: ")


def test_langchain(base_url):
    model = ChatOpenAI(model="toy", base_url=base_url, api_key=KEY, max_retries=0)
    assert model.invoke("Hello there").content == "Hello there"
    assert "".join(chunk.content for chunk in model.stream("Hello there")) == "Hello there"


def test_javascripts_clients(base_url, tmp_path):
    command = ["node", str(HERE / "openai_clients.mjs"), base_url.removesuffix("/openai/v1"), KEY]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(tmp_path), timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["chat"] == "Hello there my friend"
    assert [text for text in said["streamed"] if text] == WORDS
    assert (said["models"], said["embedding"], said["response"]) == (["toy"], 8, "Hello there")
    assert (said["refused"]["name"], said["refused"]["status"]) == ("NotFoundError", 404)
    assert said["provider"] == "Hello there"
    assert "".join(said["providerStreamed"]) == "Hello there"
