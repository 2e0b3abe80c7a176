"""Huge pictures: networks that translate them tile by tile, with one tile's activations in memory at a time."""

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from inference.receptive_field import Field, field
from inference.tile_norm import Core, SharedNorms, Unknown
from networks.padding import around, places
from util.errors import OptionError
from util.seeding import mixed
from util.size import Size, sides


class Span(NamedTuple):
    """One tile's place along one side: where it lies, what of it is its own, and half the width of its borders' ramps.

    Positions are pixels of the padded picture.
    """

    start: int
    stop: int
    first: int
    last: int
    before: int
    after: int


class Tiled:
    """A network's forward, tile by tile: (N, C, H, W) -> (N, C', H, W).

    Tiles begin at multiples of the network's own and overlap by `overlap` on each side of the part that is theirs.
    Where that is as far as the network sees, what it makes there is exact and taken as it is; else neighbours are
    blended. Between calls a picture stays in the precision it came in, which may be half; tiles are computed in the
    network's.

    shared: norms take the statistics of the whole picture, gathered exactly, each activation once. With k norms all
    tiles go k times through the layers up to one norm more, and once through all: about k / 2 + 1 times the work.
    """

    def __init__(self, net: nn.Module, tile: Size, overlap: int, seen: Field, shared: bool):
        self.net, self.whole = net, net.forward
        self.tile, self.overlap, self.seen, self.shared = tile, overlap, seen, shared

    def __call__(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height <= self.tile.height and width <= self.tile.width:
            return self.whole(x.to(next(self.net.parameters()).dtype)).to(x.dtype)
        (top, rows), (left, columns) = (around(side, self.seen.multiple) for side in (height, width))
        ramp = 0 if self._exact() else self.overlap
        down = spans(rows, self.tile.height, self.overlap, self.seen.multiple, ramp)
        across = spans(columns, self.tile.width, self.overlap, self.seen.multiple, ramp)
        lines, rest = (places(*side, x.device) for side in ((height, top, rows), (width, left, columns)))
        norms, seed, out = SharedNorms(), torch.initial_seed(), x
        learning, turn, tiles = True, 0, list(product(down, across))
        while learning:
            begun, turn = False, turn + 1
            bar = tqdm(tiles, desc=f"tiles, turn {turn}", unit="tile", disable=None, leave=False)
            for number, (row, column) in enumerate(bar):
                piece = x.index_select(2, lines[row.start : row.stop]).index_select(3, rest[column.start : column.stop])
                made = self._made(piece, row, column, norms, mixed(seed, 0, number))
                if made is None:
                    continue
                if not begun:
                    out, begun = x.new_zeros(len(x), made.shape[1], height, width), True
                put(out, made, row, column, top, left)
            learning = norms.learn()
        return out

    def _exact(self) -> bool:
        """Whether a tile's own part is what the whole picture would give there: draws of dropout are a tile's own."""
        drawn = any(m.training and m.p > 0 for m in self.net.modules() if isinstance(m, nn.modules.dropout._DropoutNd))
        return self.overlap >= self.seen.radius and not drawn

    def _made(self, piece: Tensor, row: Span, column: Span, norms: SharedNorms, seed: int) -> Tensor | None:
        """Return what the network makes of one tile, None if it ends at a norm; its draws are the same every time."""
        core = Core(*((s.first - s.start, s.last - s.start, s.stop - s.start) for s in (row, column)))
        piece = piece.to(next(self.net.parameters()).dtype)
        with torch.random.fork_rng([piece.device] if piece.device.type == "cuda" else []):
            torch.manual_seed(seed)
            if not self.shared:
                return self.whole(piece)
            try:
                with norms.enter(core):
                    return self.whole(piece)
            except Unknown:
                return None


def spans(side: int, tile: int, overlap: int, grain: int, ramp: int) -> list[Span]:
    """Return the tiles along a side: as few as can be, evenly spread, begun at multiples of `grain` if there is room.

    side, a multiple of grain; tile; overlap, less than half a tile: pixels. Two neighbours share their overlap evenly.
    """
    tile -= tile % grain
    if side <= tile:
        return [Span(0, side, 0, side, 0, 0)]
    while grain > 1 and grain > tile - 2 * overlap:  # a U-Net's tile may be hardly more than its multiple
        grain //= 2
    steps, step = (side - tile) // grain, (tile - 2 * overlap) // grain
    count = math.ceil(steps / step)
    starts = [grain * (steps * n // count) for n in range(count + 1)]
    edges = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), side]
    ramp = min([ramp, *((b - a) // 2 for a, b in pairwise(edges))]) if count > 1 else ramp
    return [
        Span(start, start + tile, first, last, ramp * (first > 0), ramp * (last < side))
        for start, (first, last) in zip(starts, pairwise(edges), strict=True)
    ]


def put(out: Tensor, made: Tensor, row: Span, column: Span, top: int, left: int) -> None:
    """Add a tile's part to the picture, faded in and out where it has ramps; top, left: the padding cut off."""
    cuts, shares = [], []
    for span, before, side in ((row, top, out.shape[2]), (column, left, out.shape[3])):
        first, last = max(span.first - span.before, before), min(span.last + span.after, before + side)
        at = torch.arange(first, last, device=out.device) + 0.5
        share = _faded(at, span.first, span.before) * (1 - _faded(at, span.last, span.after))
        cuts.append((slice(first - before, last - before), slice(first - span.start, last - span.start)))
        shares.append(share.to(made.dtype))
    (to_rows, rows), (to_columns, columns) = cuts
    if not (row.before or row.after or column.before or column.after):
        out[:, :, to_rows, to_columns] = made[:, :, rows, columns]
    else:
        out[:, :, to_rows, to_columns] += (made[:, :, rows, columns] * (shares[0][:, None] * shares[1])).to(out.dtype)


def _faded(at: Tensor, edge: int, half: int) -> Tensor:
    """Return 0 before an edge and 1 behind it, with a smooth ramp of twice `half` pixels between them."""
    share = ((at - edge) / (2 * half) + 0.5).clamp(0, 1) if half else (at >= edge).to(at.dtype)
    return share * share * (3 - 2 * share)


def tile(nets: dict[str, nn.Module], o: Any) -> None:
    """Have the networks that make a picture of their input's size do so tile by tile, as --tile and its kin say.

    nets: those that test.py needs, by name. Nothing happens without --tile. OptionError for what cannot work.
    """
    if not o.tile:
        if o.overlap is not None:
            raise OptionError("option", "--overlap", "has no meaning without tiles", "give --tile 512 too")
        return
    size = sides(o.tile)
    least = min(size)
    if o.overlap is not None and least <= 2 * o.overlap:
        raise OptionError("option", "--tile", f"{o.tile} is no larger than twice --overlap {o.overlap}",
                          f"give --tile {4 * o.overlap}, or a smaller --overlap")  # fmt: skip
    seen = {name: found for name, net in nets.items() if (found := field(net))}
    if not seen:
        raise OptionError("option", "--tile", f"{o.model} has no network that makes a picture of its input's size",
                          "leave --tile out")  # fmt: skip
    for name, found in seen.items():
        if least < found.multiple:
            why = f"{o.tile} is smaller than what network {name} works on, {found.multiple} pixels"
            raise OptionError("option", "--tile", why, f"give --tile {2 * found.multiple} or more")
    for name, found in seen.items():
        overlap, note = _overlap(name, o.overlap, least, found)
        if note:
            print(note)
        forward: Callable[[Tensor], Tensor] = Tiled(nets[name], size, overlap, found, o.tile_norm == "shared")
        nets[name].forward = forward  # type: ignore[method-assign]


def _overlap(name: str, asked: int | None, least: int, seen: Field) -> tuple[int, str]:
    """Return by how much tiles overlap, and a note if that is less than the network sees."""
    far = math.inf if math.isinf(seen.radius) else math.ceil(seen.radius)
    exact = 2 * far + seen.multiple
    if asked is None and exact <= least:
        return int(far), ""
    overlap = least // 4 if asked is None else asked
    if overlap >= far:
        return overlap, ""
    sees = "the whole picture" if math.isinf(far) else f"{far} pixels to each side"
    remedy = "" if math.isinf(far) else f"; --tile {-(-exact // 64) * 64} without --overlap gives what one piece would"
    return overlap, f"note: network {name} sees {sees}, tiles overlap by {overlap} and are blended{remedy}"
