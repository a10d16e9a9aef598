"""Request bodies: what is JSON, how large it may be, and that it reaches the handler as it came."""

import json

import pytest

from tests.api.client import emulated, served

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
LIMITS = pytest.mark.parametrize(("operation", "limit_mib"), [("/run", 10), ("/runsync", 20)])


async def whole_job(job):
    return job


def echo_input(job):
    return job["input"]


@pytest.fixture
async def queue():
    """An endpoint without workers: what is accepted stays in the queue."""
    async with emulated(workers_max=0) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not valid JSON: Expecting value"),
        (b"prompt=hi", "not valid JSON: Expecting value"),
        (b'{"input": 1', "not valid JSON: Expecting ',' delimiter"),
        (b'{"input": 1} x', "not valid JSON: Extra data"),
        (b"{'input': 1}", "not valid JSON: Expecting property name"),
        (b'{"input": NaN}', "not valid JSON: NaN is not a JSON value"),
        (b'{"input": [Infinity]}', "not valid JSON: Infinity is not a JSON value"),
        (b'{"input": -Infinity}', "not valid JSON: -Infinity is not a JSON value"),
        (b'{"input": 1e999}', "not valid JSON: 1e999 is beyond what a number can hold"),
        (b'{"input": 1, "other": NaN}', "not valid JSON: NaN is not a JSON value"),
        (b'{"input": "\xff"}', "not UTF-8: invalid start byte at byte 11"),
        ('{"input": "é"}'.encode("latin-1"), "not UTF-8"),
        ('{"input": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON: nested too deeply"),
        (b'[{"input": 1}]', 'must be a JSON object like {"input": …}, not list'),
        (b'"input"', 'must be a JSON object like {"input": …}, not str'),
        (b"null", 'must be a JSON object like {"input": …}, not null'),
        (b"12", 'must be a JSON object like {"input": …}, not int'),
    ],
)
@pytest.mark.parametrize("operation", ["/run", "/runsync"])
async def test_what_is_no_json_object_is_refused_with_the_reason(queue, operation, body, reason):
    response = await queue.post(operation, content=body)
    assert response.status_code == 400
    assert response.json()["detail"].startswith(f"bad request: body: {reason}")
    assert (await queue.jobs())["inQueue"] == 0


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", None]
)
async def test_the_content_type_does_not_matter(queue, content_type):
    headers = {"content-type": content_type} if content_type else {}
    response = await queue.post("/run", content=b' {"input": 1}\n', headers=headers)
    assert response.status_code == 200


AS_IT_CAME = [
    '{"z":1,"a":2,"m":{"y":0,"b":0}}',
    "123456789012345678901234567890",
    "-9007199254740993",
    '{"n":[9223372036854775808,18446744073709551616,0]}',
    "[0.1,1.5e-07,1e+22,-0.0,3.141592653589793]",
    '"žluťoučký kůň 日本語 🐎 \\u0000 \\" \\\\ / \\n"',
    '{"ключ":{"":[],"🐎":{}}}',
    '[[[[[[[[[["deep"]]]]]]]]]]',
    '{"a":null,"b":[null,true,false],"c":""}',
    "[" * 200 + "]" * 200,
]  # fmt: skip


@pytest.mark.parametrize("handler", [whole_job, echo_input], ids=["async", "sync"])
@pytest.mark.parametrize("text", AS_IT_CAME)
async def test_the_input_reaches_the_handler_and_comes_back_as_it_came(handler, text):
    async with emulated(handler) as client:
        response = await client.post("/runsync", content=f'{{"input":{text}}}'.encode())
        assert response.json()["status"] == "COMPLETED"
        wanted = text if handler is echo_input else f'{{"input":{text},"id":"{response.json()["id"]}"}}'
        assert f'"output":{wanted},' in response.text


async def test_half_a_surrogate_pair_survives():
    async with emulated(echo_input) as client:
        response = await client.post("/runsync", content=b'{"input": "\\ud83d!"}')
        assert json.loads(response.content)["output"] == "\ud83d!"


async def test_of_a_key_that_is_there_twice_the_last_counts():
    async with emulated(whole_job) as client:
        response = await client.post("/runsync", content=b'{"input": 1, "x": 1, "input": 2, "x": 2}')
        assert response.json()["output"] == {"input": 2, "x": 2, "id": response.json()["id"]}


async def test_an_input_nested_as_deeply_as_is_accepted_wedges_no_worker():
    async with served(lambda job: "done") as client:
        statuses = []
        for depth in range(930, 1_001):
            body = b'{"webhook":"http://127.0.0.1:9","input":%b%b}' % (b"[" * depth, b"]" * depth)
            response = await client.post("/runsync", content=body)
            statuses.append(response.json()["status"])
        assert statuses[0] == "COMPLETED"
        assert set(statuses) <= {"COMPLETED", "FAILED", 400}
        jobs = await client.jobs()
        assert (jobs["inQueue"], jobs["inProgress"]) == (0, 0)


def body_of(size):
    return b'{"input":"' + b"x" * (size - 12) + b'"}'


@LIMITS
async def test_a_body_of_exactly_the_limit_is_accepted(operation, limit_mib):
    async with emulated(lambda job: len(job["input"])) as client:
        response = await client.post(operation, content=body_of(limit_mib * MIB))
        assert response.status_code == 200


def too_large(limit_mib):
    detail = f"bad request: body: exceeded max body size of {limit_mib}MiB"
    return {"status": 400, "title": "Bad Request", "detail": detail, "error": detail}


@LIMITS
async def test_one_byte_more_is_refused(queue, operation, limit_mib):
    response = await queue.post(operation, content=body_of(limit_mib * MIB + 1))
    assert response.status_code == 400
    assert response.json() == too_large(limit_mib)
    assert (await queue.jobs())["inQueue"] == 0


@LIMITS
async def test_a_length_over_the_limit_is_refused_without_reading_the_body(queue, operation, limit_mib):
    async def never_read():
        pytest.fail("the body was read")
        yield b""

    headers = {"content-length": str(limit_mib * MIB + 1)}
    response = await queue.post(operation, content=never_read(), headers=headers)
    assert response.json() == too_large(limit_mib)


@LIMITS
async def test_a_body_without_a_length_is_read_no_further_than_the_limit(queue, operation, limit_mib):
    async def endless():
        yield b'{"input":"'
        for _ in range(limit_mib):
            yield b"x" * MIB
        pytest.fail("the body was read past the limit")

    response = await queue.post(operation, content=endless())
    assert response.json() == too_large(limit_mib)


async def test_a_body_in_pieces_is_put_together():
    async def pieces():
        for piece in (b'{"in', b"", b'put": "a', b'b"}'):
            yield piece

    async with emulated(echo_input) as client:
        response = await client.post("/runsync", content=pieces())
        assert response.json()["output"] == "ab"


@pytest.mark.parametrize("length", ["", "ten", "-5", "1e3", "\N{FULLWIDTH DIGIT ONE}", "9" * 5_000])
async def test_a_length_that_is_no_number_is_no_failure_of_the_emulator(queue, length):
    response = await queue.post("/run", content=b'{"input": 1}', headers={"content-length": length.encode()})
    assert response.status_code in (200, 400)


async def test_other_operations_do_not_read_a_body():
    async def never_read():
        pytest.fail("the body was read")
        yield b""

    async with emulated() as client:
        job_id = await client.run()
        assert (await client.post(f"/status/{job_id}", content=never_read())).status_code == 200
        assert (await client.post(f"/cancel/{job_id}", content=never_read())).status_code == 200
