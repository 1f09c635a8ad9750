"""What the layouts of one HDF5 file a slide share: reading that tells what is wrong, and attributes as JSON and back.

Where a layout cannot hold a store's coordinates as they are, the exported file has a dataset more, `mmcli_coords` with
the attribute `columns`: other tools pass over it, and the import takes it, so that a store comes back bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mmcli.errors import UnreadableError
from mmcli.store.layouts.guess import hint
from mmcli.store.layouts.slides import Slide

EXTRA = "mmcli_coords"
INT32 = np.iinfo(np.int32)
Coords = tuple[NDArray[Any] | None, tuple[str, ...]]


@contextmanager
def opened(file: Path) -> Iterator[h5py.File]:
    """An HDF5 file of another tool, for reading; whatever the library says of a bad one is an UnreadableError."""
    try:
        with h5py.File(file, "r", locking=False) as content:
            yield content
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UnreadableError(
            f"{file}: not HDF5, truncated or damaged ({' '.join(str(error).split())[:120]})"
        ) from None


def dataset(content: h5py.File, file: Path, name: str, tool: str) -> NDArray[Any]:
    """A whole dataset; UnreadableError says what the file has instead, and whose layout that is."""
    found = content.get(name)
    if not isinstance(found, h5py.Dataset):
        raise UnreadableError(
            f"{file}: lacks the dataset {name!r} (it has {', '.join(content) or 'nothing'}), so it is not of {tool}'s "
            f"layout{hint(file)}"
        )
    array: NDArray[Any] = found[()]
    return array


def check_features(features: NDArray[Any], file: Path, name: str) -> NDArray[Any]:
    """Features (N, dim) of floats; the (0,) of a slide without a tile becomes (0, 0)."""
    if features.shape == (0,):
        features = features.reshape(0, 0)
    if features.ndim != 2 or features.dtype.kind != "f" or features.dtype.itemsize not in (2, 4, 8):
        raise UnreadableError(f"{file}: {name} is {features.dtype} {features.shape}; expected floats (N, dim)")
    return features


def check_coords(coords: NDArray[Any], file: Path, count: int) -> None:
    """Coordinates (N, 2) of finite numbers, a row a feature."""
    if coords.shape == (0,) and not count:
        return
    if coords.shape != (count, 2) or coords.dtype.kind not in "iuf":
        raise UnreadableError(f"{file}: coords is {coords.dtype} {coords.shape} for {count} features; expected (N, 2)")
    if not np.isfinite(coords).all():
        raise UnreadableError(f"{file}: coords hold NaN or infinity")


def pixels(coords: NDArray[Any], file: Path, size: tuple[float, float] | None, extent: Iterable[float] = ()) -> Coords:
    """Level-0 coordinates (N, 2) as int32 with the tile's size beside them: (x, y, width, height), or (x, y).

    A corner outside of `extent` (width, height at level 0) tells of another unit: UnreadableError.
    """
    coords = coords.reshape(-1, 2)
    whole = np.rint(coords)
    if (whole != coords).any() or (len(whole) and (whole.min() < INT32.min or whole.max() > INT32.max)):
        raise UnreadableError(f"{file}: coords are no whole numbers, so no level-0 pixels; are they micrometres?")
    for values, limit, axis in zip(whole.T, extent, ("width", "height"), strict=False):
        if len(values) and values.max() >= limit > 0:
            raise UnreadableError(
                f"{file}: a tile lies at {values.max():.0f}, the slide's {axis} at level 0 is {limit:.0f} px: coords "
                "are not in level-0 pixels"
            )
    if size is None:
        return whole.astype(np.int32), ("x", "y")
    sides = np.broadcast_to(np.rint(size), whole.shape)
    return np.concatenate([whole, sides], 1).astype(np.int32), ("x", "y", "width", "height")


def extra_coords(content: h5py.File, count: int, file: Path) -> Coords | None:
    """The coordinates that our own export kept beside the layout's."""
    if EXTRA not in content:
        return None
    coords, columns = content[EXTRA][()], json.loads(content[EXTRA].attrs["columns"])
    if coords.shape != (count, len(columns)):
        raise UnreadableError(f"{file}: {EXTRA} is {coords.shape} for {count} features and {len(columns)} columns")
    return coords, tuple(columns)


def keep_coords(content: h5py.File, slide: Slide, read: Coords) -> None:
    """Write what an import would not get back from the layout's own datasets (`read`)."""
    coords, columns = read
    if slide.coords is None:
        return
    same = coords is not None and columns == slide.columns and coords.dtype == slide.coords.dtype
    if not same or not np.array_equal(coords, slide.coords):  # type: ignore[arg-type]
        content[EXTRA] = slide.coords
        content[EXTRA].attrs["columns"] = json.dumps(slide.columns)


def attributes(item: Any) -> dict[str, Any]:
    """Attributes as JSON values: text, whole numbers and floats as they are, any other type as its bytes."""
    return {name: _encoded(value) for name, value in item.attrs.items()}


def put_attributes(item: Any, values: Mapping[str, Any]) -> None:
    """Attributes from `attributes` as they were, types included."""
    for name, value in values.items():
        item.attrs[name] = _decoded(value)


def plain(value: Any) -> Any:
    """An encoded attribute for reading: arrays become lists, what has no value None."""
    decoded = _decoded(value)
    if isinstance(decoded, h5py.Empty) or (isinstance(decoded, str) and decoded == "None"):
        return None
    return decoded.tolist() if isinstance(decoded, np.ndarray | np.generic) else decoded


def number(value: Any) -> float | None:
    """An encoded attribute as a finite number, None where it is none ('None' stands for a missing one)."""
    found = plain(value)
    return float(found) if isinstance(found, int | float) and np.isfinite(found) else None


def _encoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, h5py.Empty):
        return {"empty": value.dtype.str}
    if isinstance(value, str | bool):
        return value
    array = np.asarray(value)
    if array.dtype.hasobject:
        return {"texts": [t.decode() if isinstance(t, bytes) else str(t) for t in array.ravel()], "shape": array.shape}
    default = array.shape == () and array.dtype.str in ("<i8", "<f8")
    if default and np.isfinite(array):
        return array.item()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "hex": array.tobytes().hex()}


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return np.int64(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if "bytes" in value:
        return np.bytes_(bytes.fromhex(value["bytes"]))
    if "empty" in value:
        return h5py.Empty(np.dtype(value["empty"]))
    if "texts" in value:
        return np.array(value["texts"], h5py.string_dtype()).reshape(value["shape"])
    array = np.frombuffer(bytes.fromhex(value["hex"]), np.dtype(value["dtype"])).reshape(value["shape"])
    return array if array.shape else array[()]
