"""A plain unittest suite: python -m unittest discover examples/unittest"""
# ruff: noqa: D102, PT009, PT027 - that is what unittest looks like

import unittest
from typing import Any

from captions import CaptionFailed, CaptionService

from emulator import Emulator
from emulator.client import EmulatorClient


def handler(job: dict[str, Any]) -> dict[str, Any]:
    """The handler that is deployed, or one that stands for it."""
    image = job["input"]["image"]
    if not image.endswith(".png"):
        raise ValueError(f"{image} cannot be read")
    return {"caption": f"a picture called {image}"}


class WithAHandler(unittest.TestCase):
    """One emulator for all tests of the class; it forgets between them."""

    emulator: EmulatorClient

    @classmethod
    def setUpClass(cls) -> None:
        cls.emulator = cls.enterClassContext(Emulator({"local": handler}).serve())

    def setUp(self) -> None:
        self.emulator.reset()
        self.captions = CaptionService(
            "local", api_key=self.emulator.api_key, base_url=self.emulator.base_url
        )
        self.addCleanup(self.captions.close)

    def test_a_caption_comes_from_the_handler(self) -> None:
        self.assertEqual(self.captions.caption("cat.png"), "a picture called cat.png")

    def test_what_the_handler_raises_is_an_error_here(self) -> None:
        with self.assertRaisesRegex(CaptionFailed, r"cat\.txt cannot be read"):
            self.captions.caption("cat.txt")

    def test_a_webhook_that_fails_twice_is_called_again(self) -> None:
        self.emulator.clock.freeze()
        sink = self.emulator.sink().answers(500, 503)
        job_id = self.captions.order("cat.png", webhook=sink.url)
        sink.wait(1)
        for _ in range(2):
            self.emulator.clock.advance(10_000)
        self.assertEqual([delivery["status"] for delivery in sink.wait(3)], [500, 503, 200])
        self.assertEqual({body["id"] for body in sink.bodies}, {job_id})


class WithStubs(unittest.TestCase):
    """No handler: each test has an endpoint of its own, says what it answers, and moves its time."""

    emulator: EmulatorClient

    @classmethod
    def setUpClass(cls) -> None:
        cls.emulator = cls.enterClassContext(Emulator().serve())

    def setUp(self) -> None:
        self.endpoint = self.emulator.create_endpoint(clock="frozen")
        self.addCleanup(self.endpoint.remove)
        self.captions = CaptionService(
            self.endpoint.id, api_key=self.endpoint.api_key, base_url=self.emulator.base_url
        )
        self.addCleanup(self.captions.close)

    def test_answers_depend_on_the_input(self) -> None:
        self.endpoint.when(input={"image": "cat.png"}).returns({"caption": "a cat"})
        self.endpoint.when(input={"image": "dog.png"}).fails("no dogs")
        self.assertEqual(self.captions.caption("cat.png"), "a cat")
        with self.assertRaisesRegex(CaptionFailed, "no dogs"):
            self.captions.caption("dog.png")
        self.assertEqual([request.operation for request in self.endpoint.requests], ["runsync", "runsync"])

    def test_an_order_may_take_minutes(self) -> None:
        self.endpoint.when().returns({"caption": "a cat"}, delay=5 * 60_000)
        job_id = self.captions.order("cat.png")
        self.endpoint.clock.advance(4 * 60_000)
        self.assertFalse(self.captions.is_there(job_id))
        self.endpoint.clock.advance(60_000)
        self.assertTrue(self.captions.is_there(job_id))

    def test_an_order_that_takes_too_long_has_failed(self) -> None:
        self.endpoint.when().returns({"caption": "a cat"}, delay=5 * 60_000)
        job_id = self.captions.order("cat.png", patience_ms=60_000)
        self.endpoint.clock.advance(60_000)
        with self.assertRaisesRegex(CaptionFailed, "executionTimeout"):
            self.captions.is_there(job_id)


if __name__ == "__main__":
    unittest.main()
