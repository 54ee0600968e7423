"""The command line: `jaxsrl train CONFIG --set stages.srl.steps=100`."""

import difflib
import os
import select
import signal
import sys
import traceback

import tyro

from jaxsrl.cli.audit import Audit
from jaxsrl.cli.bench import Bench
from jaxsrl.cli.clusters import Launch, Plan
from jaxsrl.cli.data import BuildData, Data, Init
from jaxsrl.cli.policy import Eval, Sample
from jaxsrl.cli.runs import Compare, Convert, Doctor, Report, Train
from jaxsrl.cli.study import Study
from jaxsrl.exit_codes import FAILED, INTERRUPTED, STOPPED, code_of

STDOUT = 1
COMMANDS = {
    "train": Train,
    "eval": Eval,
    "audit": Audit,
    "data": Data,
    "data-build": BuildData,
    "init": Init,
    "sample": Sample,
    "report": Report,
    "compare": Compare,
    "convert": Convert,
    "doctor": Doctor,
    "plan": Plan,
    "launch": Launch,
    "bench": Bench,
    "study": Study,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Returns: an exit code, see exit_codes.py; 141 where whoever read the output has gone.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if given[:2] == ["data", "build"]:
        given = ["data-build", *given[2:]]
    if given[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"jaxsrl {version('jaxsrl')}")
        return 0
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        near = difflib.get_close_matches(given[0], COMMANDS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        print(f"error: no command {given[0]!r}; {meant}There are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        try:
            code = _run(given)
            if code == INTERRUPTED and arguments is None:
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is said: again, it ends at once and in silence
            return code
        finally:
            sys.stdout.flush()  # here, where it can be told that nobody reads on
    except BrokenPipeError as error:
        return _unread(error)


def _unread(error: BrokenPipeError) -> int:
    """As a command that SIGPIPE ends, where it is the output that nobody reads, as behind `| head`."""
    output = select.poll()
    output.register(STDOUT, 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return _failed(error, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # what is left is not tried again at the exit
    return 141


def _run(arguments: list[str]) -> int:
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, args=arguments, prog="jaxsrl", description="Trains language models from expert demonstrations."
    )
    try:
        return command() or 0
    except KeyboardInterrupt:
        again = "; the same command goes on" if isinstance(command, Train) else ""  # a stage says from which step
        print(f"interrupted{again}", file=sys.stderr)
        return _left(INTERRUPTED)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        return _failed(error, code_of(error))
    except Exception as error:
        if _no_device(error):
            said = f"JAX has no device of JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}"
            fix = "install the extra for it, as pip install 'jaxsrl[gpu]', or unset the variable"
            return _failed(RuntimeError(f"{said}: {fix}"), FAILED)
        if code_of(error) != STOPPED:
            traceback.print_exception(error)
            _left(FAILED)
            raise
        return STOPPED


def _no_device(error: Exception) -> bool:
    """JAX (to 0.11) ends in an assertion where a platform is known and its plugin is not installed."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, AssertionError) and frames[-1].filename.endswith("jax/_src/xla_bridge.py")


def _failed(error: Exception, code: int) -> int:
    """Prints what is wrong; with JAXSRL_TRACEBACK set, where it was raised too."""
    if os.environ.get("JAXSRL_TRACEBACK"):
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)
    return _left(code)


def _left(code: int) -> int:
    """The code; one of several processes ends with it here."""
    if "jaxsrl.clusters.start" in sys.modules:  # else it never joined others
        from jaxsrl.clusters.start import leave

        leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
