"""The embedded city: four procedural cities, photographed from above and from the street.

    from data_prep import city
    root = city.make("data/mini")       # VIGOR's folder format, about a minute

Data flows one way: ``styles`` -> ``plan`` (shapes) -> ``raster`` (a map) -> ``light`` and ``street``
(two views) -> ``world`` -> ``place`` and ``sampling`` (GPS, queries) -> ``vigor_format`` -> ``build``.
"""

from data_prep.city.build import SIZES, NotOurs, Size, make, showcase
from data_prep.city.place import Place
from data_prep.city.styles import STYLES, Style
from data_prep.city.world import World, build_world

__all__ = [
    "SIZES",
    "STYLES",
    "NotOurs",
    "Place",
    "Size",
    "Style",
    "World",
    "build_world",
    "make",
    "showcase",
]
