"""Whatever a click does, the session survives it, and the person is told."""

from __future__ import annotations

import functools
import html
import logging
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

Act = Callable[..., None]
Guard = Callable[[Act], Act]


def guard(say: Callable[[str, str], None]) -> Guard:
    """Makes of a callback one that never raises and waits for the one before it.

    JupyterLab sends the messages of some widgets to the kernel's main thread and those of others to
    a second one (a subshell); a Reset there must not overtake a search that still runs here.

    say: told a sentence, safe as HTML, and "bad". A ValueError is what a person can mend, and its
    text is for them; of anything else they learn the kind, and the log the rest.
    """
    turn = threading.RLock()  # callbacks call each other

    def safely(act: Act) -> Act:
        @functools.wraps(act)
        def guarded(*values: Any) -> None:
            with turn:
                try:
                    act(*values)
                except ValueError as error:
                    say(html.escape(str(error)), "bad")
                except Exception as error:
                    log.exception("the app failed")
                    kind = html.escape(type(error).__name__)
                    say(
                        f"Something went wrong ({kind}). The session goes on; Reset starts anew.",
                        "bad",
                    )

        return guarded

    return safely
