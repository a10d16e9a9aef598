"""What the users of OpenAI's clients see: Python's, JavaScript's, LangChain's and the AI SDK's."""

import json
import subprocess

import openai
import pytest
from langchain_openai import ChatOpenAI

from tests.conformance.served import HERE, KEY, environment
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


@pytest.fixture
def base_url(emulator):
    return f"{emulator.base_url}/chat/openai/v1"


@pytest.fixture
def client(base_url):
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0, timeout=PATIENCE_S) as client:
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


def test_a_wrong_key_and_an_unknown_endpoint_are_raised_as_what_they_are(client, emulator):
    with pytest.raises(openai.AuthenticationError, match="invalid api key"):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.NotFoundError, match="endpoint not found"):
        client.with_options(base_url=f"{emulator.base_url}/none/openai/v1").models.list()


def test_a_failed_job_is_a_server_error_with_its_message(emulator, client):
    failing = client.with_options(base_url=f"{emulator.base_url}/failing/openai/v1")
    with pytest.raises(openai.InternalServerError) as raised:
        failing.chat.completions.create(model="toy", messages=HELLO)
    assert raised.value.body["message"]


def test_the_job_can_be_asked_for_as_any_other(emulator, client):
    answer = client.chat.completions.create(model="toy", messages=HELLO)
    job_id = answer.id.removeprefix("chatcmpl-")
    job = emulator.get(f"/v2/chat/status/{job_id}")
    assert (job["status"], job["output"][0]["object"]) == ("COMPLETED", "chat.completion")


@pytest.mark.anyio
async def test_the_async_client(base_url):
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        stream = await client.chat.completions.create(model="toy", messages=HELLO, stream=True)
        texts = [chunk.choices[0].delta.content async for chunk in stream]
    assert [text for text in texts if text] == WORDS


def test_langchain(base_url):
    model = ChatOpenAI(model="toy", base_url=base_url, api_key=KEY, max_retries=0)
    assert model.invoke("Hello there").content == "Hello there"
    assert "".join(chunk.content for chunk in model.stream("Hello there")) == "Hello there"


def test_javascripts_clients(emulator, tmp_path):
    command = ["node", str(HERE / "openai_clients.mjs"), f"{emulator.base_url}/chat", KEY]
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
