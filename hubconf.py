"""torch.hub's entry points: each network of weights/, ready to enlarge images in memory.

sr = torch.hub.load("path/of/this/repository", "carn", source="local").enlarge(image)
"""

from pathlib import Path as _Path

from engine.enlarging import load_network as _load_network

dependencies = ["torch", "numpy", "PIL", "tqdm", "skimage"]
_WEIGHTS = _Path(__file__).resolve().parent / "weights"


def _entry(name):
    """Return the entry point of a network of weights/."""

    def entry(scale=4, **settings):
        return _load_network(_WEIGHTS / f"{name}_x{scale}.pth", **settings)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = (
        f"Return {name} with its trained weights; its enlarge(image) takes uint8 or uint16 arrays, grey, RGB or with "
        "alpha.\n\nscale: of the weights. device, tile, self_ensemble, precision: as the flags of test.py.\n"
    )
    return entry


globals().update({name: _entry(name) for name in {path.stem.rpartition("_x")[0] for path in _WEIGHTS.glob("*.pth")}})
