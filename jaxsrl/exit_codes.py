"""What the exit codes of a command mean, so that whoever starts it again can trust them."""

DONE = 0
FAILED = 1  # anything else: the same command goes on from the last checkpoint, once its cause is gone
WRONG = 2  # wrong key, value, file or combination, before training began: it will be wrong the next time too
DIVERGED = 3  # updates that are not finite, one after the other: the same command comes to the same bits
CANNOT_SAVE = 74  # disk or store took no checkpoint several times in a row: make room, the same command goes on
STOPPED = 75  # told to stop, and saved: the same command goes on
HUNG = 76  # no progress for too long; stacks are in the log, the same command goes on from the last checkpoint
CORRUPTED = 77  # a device computed other bits: the same command goes on from the last checkpoint, elsewhere
INTERRUPTED = 130  # Ctrl-C: the same command goes on from the last checkpoint

# Of errors by the name of their class: most commands do without what these import.
OF_ERROR = {
    "Stopped": STOPPED,
    "SaveError": CANNOT_SAVE,
    "Diverged": DIVERGED,
    "Corrupted": CORRUPTED,
    "TrainingError": FAILED,
}


def code_of(error: BaseException) -> int:
    """The code that a command ends with which raised this."""
    named = [OF_ERROR[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in OF_ERROR]
    if named:
        return named[0]
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return WRONG if isinstance(error, ValueError | FileNotFoundError) else FAILED
