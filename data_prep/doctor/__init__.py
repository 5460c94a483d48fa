"""The doctor: what a copy of VIGOR holds, what is wrong with it, and what to do.

    python -m data_prep.doctor /data/VIGOR

Data flows one way: ``read`` (label files, tolerantly) -> ``grid``, ``offsets``, ``labels`` (what
their rows say) and ``images`` -> ``findings`` -> a :class:`Report`.
"""

from data_prep.doctor.examine import NotVigor, Report, examine
from data_prep.doctor.findings import PUBLISHED, Check, Finding

__all__ = ["PUBLISHED", "Check", "Finding", "NotVigor", "Report", "examine"]
