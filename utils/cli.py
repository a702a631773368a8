"""What every script does before and after its work."""

import logging
import sys
from collections.abc import Callable
from typing import NoReturn

from utils.errors import UserError
from utils.malloc import tune_malloc
from utils.threads import sleep_while_waiting


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` with tuned memory and threads, and logging on stderr, and exit with its exit code (None is 0).

    `main` must be what imports torch, which reads the settings of its threads then. A UserError is printed as one line
    and exits with 2; Ctrl-C exits with 130.
    """
    tune_malloc()
    sleep_while_waiting()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(_fail(f"error: {error}", 2))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
