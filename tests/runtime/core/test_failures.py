"""What becomes of an error inside one sequence, and of its blocks."""

from __future__ import annotations

import pytest

from stemma.fsm import FormError
from stemma.radix import NextUse, PrefixCache
from stemma.runtime.core.failures import as_stemma_error, describe_error, is_out_of_memory, of_all, release_lease
from stemma.runtime.errors import EngineFailed, GrammarFailed, PromptTooLong, RequestFailed


class Panic(BaseException):
    """As a compiled library raises one: no Exception."""


class Mute(Exception):
    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "kind"),
    [(FormError("no such rule"), GrammarFailed), (KeyError("x"), RequestFailed), (Panic("x"), RequestFailed),
     (Mute(), RequestFailed), (AssertionError(), RequestFailed), (MemoryError(), RequestFailed)],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)  # fmt: skip
def test_the_caller_gets_a_typed_error_with_the_cause(error, kind):
    made = as_stemma_error(error)
    assert type(made) is kind
    assert made.__cause__ is error
    assert type(error).__name__ in str(made) or str(made) == str(error)


@pytest.mark.parametrize("error", [PromptTooLong("too long", param="prompt"), EngineFailed("x"), RequestFailed("y")])
def test_what_is_typed_already_stays_what_it_is(error):
    assert as_stemma_error(error) is error


@pytest.mark.parametrize("wish", [KeyboardInterrupt(), SystemExit(3)], ids=["interrupt", "exit"])
def test_a_wish_to_end_the_process_is_nobodys_trouble(wish):
    with pytest.raises(type(wish)) as raised:
        as_stemma_error(wish)
    assert raised.value is wish


def test_an_error_is_told_by_its_name_even_if_it_says_nothing():
    assert describe_error(KeyError("x")) == "KeyError: 'x'"
    assert describe_error(Mute()) == "Mute"


class Lease:
    """Fails the first times that it is released."""

    def __init__(self, num_failures):
        self.num_failures, self.num_calls = num_failures, 0

    def release(self, next_use):
        assert next_use is NextUse.SOON
        self.num_calls += 1
        if self.num_calls <= self.num_failures:
            raise OSError("on the way")


@pytest.mark.parametrize(("num_failures", "num_calls"), [(0, 1), (1, 2)])
def test_blocks_are_given_back_whatever_happens_on_the_way(num_failures, num_calls):
    lease = Lease(num_failures)
    release_lease(lease, NextUse.SOON)
    assert lease.num_calls == num_calls


def test_blocks_that_do_not_come_back_concern_all():
    with pytest.raises(OSError, match="on the way"):
        release_lease(Lease(2), NextUse.SOON)


def test_a_lease_given_back_twice_is_given_back_once():
    cache = PrefixCache(4, 4)
    lease = cache.acquire([1, 2, 3])
    lease.reserve(3)
    lease.extend([1, 2, 3])
    release_lease(lease)
    release_lease(lease)
    assert cache.stats().free == 4
    cache.check()


@pytest.mark.parametrize(
    ("said", "is_memory", "advice"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB", True, "memory_share"),
        ("HIP out of memory. Tried to allocate 20.00 MiB", True, "memory_share"),
        ("CUDA error: out of memory", True, "memory_share"),
        ("CUDA driver error: cudaErrorMemoryAllocation", True, "memory_share"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True, "memory_share"),
        ("CUDA error: an illegal memory access was encountered", False, "--no-graphs"),
        ("Triton Error [CUDA]: device-side assert triggered", False, "--no-graphs"),
        ("HIP error: invalid device function", False, "--no-graphs"),
        ("shapes do not match", False, ""),
    ],
)
def test_what_a_device_says_is_told_apart(said, is_memory, advice):
    assert is_out_of_memory(RuntimeError(said)) == is_memory
    assert advice in of_all(RuntimeError(said))
    assert bool(of_all(RuntimeError(said))) == bool(advice)
    assert not is_out_of_memory(ValueError(said)), "what says so but is no error of a device"
