"""The localization system on a screen, a thin skin over :mod:`vigorlib.localize`.

``session`` knows what is asked (no widgets); ``choose`` and ``answer`` are the two columns, ``views``
their parts that need JavaScript (``static/``), ``words``, ``pair`` and ``pictures`` what is shown.
"""

from vigorlib.app.page import App, help_text, open_app

__all__ = ["App", "help_text", "open_app"]
