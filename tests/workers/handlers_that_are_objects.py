"""Handlers in every form in which something that can be called is given to `start`."""

import functools


async def asynchronous(job):
    return "awaited"


def generator(job):
    yield 1
    yield 2


async def async_generator(job):
    yield 1
    yield 2


class Handles:
    def __call__(self, job):
        return "returned"

    def generator(self, job):
        yield 1
        yield 2

    async def async_generator(self, job):
        yield 1
        yield 2


class HandlesAsync:
    async def __call__(self, job):
        return "awaited"


class Yields:
    def __call__(self, job):
        yield 1


class YieldsAsync:
    async def __call__(self, job):
        yield 1


def wrapped(function):
    @functools.wraps(function)
    def wrapper(job):
        return function(job)

    return wrapper


an_object = Handles()
an_async_object = HandlesAsync()
an_object_that_yields = Yields()
an_object_that_yields_async = YieldsAsync()
a_method_that_yields = Handles().generator
an_async_method_that_yields = Handles().async_generator
a_partial = functools.partial(lambda prefix, job: prefix, "returned")
an_async_partial = functools.partial(asynchronous)
a_partial_that_yields = functools.partial(generator)
an_async_partial_that_yields = functools.partial(async_generator)
a_partial_of_an_object_that_yields = functools.partial(Yields())
a_wrapper_of_an_async_function = wrapped(asynchronous)
a_wrapper_of_a_generator = wrapped(generator)
