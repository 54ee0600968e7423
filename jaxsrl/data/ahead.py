"""What a step needs of the host, made in a thread before it is asked for."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(
    make: Callable[..., T], following: Callable[[tuple[Any, ...], T], tuple[Any, ...]], workers: int
) -> Callable[..., T]:
    """`make`, a function of its arguments alone, with the next call's result already under way.

    Args:
      following: (arguments, their result) -> the arguments that will be asked for next. What was made for others is
        thrown away, and made again for those that are asked for: a guess changes no result.
      workers: threads; 0 makes everything when it is asked for.
    """
    if not workers:
        return make
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    waiting: dict[tuple[Any, ...], Future[T]] = {}

    def get(*arguments: Any) -> T:
        future = waiting.pop(arguments, None)
        for other in waiting.values():
            other.cancel()
        waiting.clear()
        made = make(*arguments) if future is None else future.result()
        guess = following(arguments, made)
        waiting[guess] = pool.submit(make, *guess)
        return made

    return get
