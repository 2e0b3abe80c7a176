"""Translate huge images tile by tile, with the activations of one tile in memory at a time."""

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from inference.receptive_field import ReceptiveField, receptive_field
from inference.tile_norm import NormStatsPending, SharedNormMode, TileCore
from networks.architectures.stylegan2 import NoiseInjection
from networks.padding import padded_side, reflected_indices
from util.errors import OptionError, print_line
from util.seeding import mix_seed
from util.size import Size, to_size


class TileSpan(NamedTuple):
    """One tile along one side: its extent, its core (first to last), and half the width of each blending ramp.

    Positions are pixels of the padded image.
    """

    start: int
    stop: int
    first: int
    last: int
    ramp_before: int
    ramp_after: int


class TiledForward:
    """A network's forward method, tile by tile: (N, C, H, W) -> (N, C', H, W).

    Tiles begin at multiples of the network's size multiple and extend `overlap` pixels beyond each side of their core.
    If that covers the receptive field, the core is exact and copied; otherwise neighbours are blended. Input and output
    have the image's dtype, which may be float16; tiles are computed in the network's dtype.

    shared: norms use the exact statistics of the whole image; each activation counts once. With k norms, all tiles run
    k times, each time up to the next norm, and once through all layers: about k / 2 + 1 times the work.
    """

    def __init__(self, net: nn.Module, tile: Size, overlap: int, field: ReceptiveField, shared: bool):
        self.net, self.net_forward = net, net.forward
        self.tile, self.overlap, self.field, self.shared = tile, overlap, field, shared

    def __call__(self, x: Tensor) -> Tensor:
        # An image that fits into one tile needs no tiling.
        height, width = x.shape[2:]
        if height <= self.tile.height and width <= self.tile.width:
            return self.net_forward(x.to(next(self.net.parameters()).dtype)).to(x.dtype)

        # Divide the padded image into tiles.
        (top, rows), (left, columns) = (padded_side(side, self.field.multiple) for side in (height, width))
        ramp = 0 if self._is_exact() else self.overlap
        row_spans = tile_spans(rows, self.tile.height, self.overlap, self.field.multiple, ramp)
        column_spans = tile_spans(columns, self.tile.width, self.overlap, self.field.multiple, ramp)
        row_indices = reflected_indices(height, top, rows, x.device)
        column_indices = reflected_indices(width, left, columns, x.device)

        # Run all tiles, once for each shared norm and once more for the output.
        norms, seed, out = SharedNormMode(), torch.initial_seed(), x
        more_rounds, round_number, tiles = True, 0, list(product(row_spans, column_spans))
        while more_rounds:
            allocated, round_number = False, round_number + 1
            bar = tqdm(tiles, desc=f"tiles, round {round_number}", unit="tile", disable=None, leave=False)
            for tile_index, (row, column) in enumerate(bar):
                piece = x.index_select(2, row_indices[row.start : row.stop])
                piece = piece.index_select(3, column_indices[column.start : column.stop])
                tile_out = self._run_tile(piece, row, column, norms, mix_seed(seed, 0, tile_index))
                if tile_out is None:
                    continue
                if not allocated:
                    out, allocated = x.new_zeros(len(x), tile_out.shape[1], height, width), True
                add_tile(out, tile_out, row, column, top, left)
            more_rounds = norms.freeze_stats()
        return out

    def _is_exact(self) -> bool:
        """Whether a tile's core equals the untiled output there; not with dropout or noise, other in each tile."""
        dropouts = (m for m in self.net.modules() if isinstance(m, nn.modules.dropout._DropoutNd))
        drawn = _adds_noise(self.net) or any(m.training and m.p > 0 for m in dropouts)
        return self.overlap >= self.field.radius and not drawn

    def _run_tile(
        self, piece: Tensor, row: TileSpan, column: TileSpan, norms: SharedNormMode, seed: int
    ) -> Tensor | None:
        """Return the output for one tile, None if it stops at a norm; random draws are the same in every round."""
        core = TileCore(*((s.first - s.start, s.last - s.start, s.stop - s.start) for s in (row, column)))
        piece = piece.to(next(self.net.parameters()).dtype)
        with torch.random.fork_rng([piece.device] if piece.device.type == "cuda" else []):
            torch.manual_seed(seed)
            if not self.shared:
                return self.net_forward(piece)
            try:
                with norms.begin_tile(core):
                    return self.net_forward(piece)
            except NormStatsPending:
                return None


def _adds_noise(net: nn.Module) -> bool:
    return any(isinstance(m, NoiseInjection) and m.noisy for m in net.modules())


def tile_spans(side: int, tile: int, overlap: int, grain: int, ramp: int) -> list[TileSpan]:
    """Return as few evenly spread tiles along a side as possible, starting at multiples of `grain` if there is room.

    In pixels: side, a multiple of grain; tile; overlap, less than half a tile. The border between two cores is in the
    middle of the overlap of their tiles.
    """
    tile -= tile % grain
    if side <= tile:
        return [TileSpan(0, side, 0, side, 0, 0)]
    while grain > 1 and grain > tile - 2 * overlap:  # a U-Net's tile may be only a little larger than its multiple
        grain //= 2
    steps, step = (side - tile) // grain, (tile - 2 * overlap) // grain
    count = math.ceil(steps / step)
    starts = [grain * (steps * n // count) for n in range(count + 1)]
    edges = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), side]
    ramp = min([ramp, *((b - a) // 2 for a, b in pairwise(edges))]) if count > 1 else ramp
    return [
        TileSpan(start, start + tile, first, last, ramp * (first > 0), ramp * (last < side))
        for start, (first, last) in zip(starts, pairwise(edges), strict=True)
    ]


def add_tile(out: Tensor, tile_out: Tensor, row: TileSpan, column: TileSpan, top: int, left: int) -> None:
    """Add a tile's core to the image, faded in and out over its ramps; top, left: the padding to crop."""
    cuts, weights = [], []
    for span, before, side in ((row, top, out.shape[2]), (column, left, out.shape[3])):
        first, last = max(span.first - span.ramp_before, before), min(span.last + span.ramp_after, before + side)
        positions = torch.arange(first, last, device=out.device) + 0.5
        fade_in = _blend_weight(positions, span.first, span.ramp_before)
        weight = fade_in * (1 - _blend_weight(positions, span.last, span.ramp_after))
        cuts.append((slice(first - before, last - before), slice(first - span.start, last - span.start)))
        weights.append(weight.to(tile_out.dtype))
    (out_rows, rows), (out_columns, columns) = cuts
    if not (row.ramp_before or row.ramp_after or column.ramp_before or column.ramp_after):
        out[:, :, out_rows, out_columns] = tile_out[:, :, rows, columns]
    else:
        blended = tile_out[:, :, rows, columns] * (weights[0][:, None] * weights[1])
        out[:, :, out_rows, out_columns] += blended.to(out.dtype)


def _blend_weight(positions: Tensor, edge: int, half: int) -> Tensor:
    """Return 0 before an edge and 1 after it, with a smooth ramp of twice `half` pixels around it."""
    weight = ((positions - edge) / (2 * half) + 0.5).clamp(0, 1) if half else (positions >= edge).to(positions.dtype)
    return weight * weight * (3 - 2 * weight)


def apply_tiling(nets: dict[str, nn.Module], o: Any) -> None:
    """Make the networks whose output has their input's size run tile by tile, as --tile, --overlap and --tile_norm say.

    nets: the networks that test.py needs, by name. Nothing changes without --tile. Raises OptionError for bad flags.
    """
    # Check the flags.
    if not o.tile:
        if o.overlap is not None:
            raise OptionError("option", "--overlap", "has no effect without --tile", "add --tile 512")
        return
    size = to_size(o.tile)
    least = min(size)
    if o.overlap is not None and least <= 2 * o.overlap:
        remedy = f"give --tile {4 * o.overlap}, or a smaller --overlap"
        raise OptionError("option", "--tile", f"{o.tile} is not larger than twice --overlap {o.overlap}", remedy)

    # Check the networks.
    fields = {name: field for name, net in nets.items() if (field := receptive_field(net))}
    if not fields:
        raise OptionError(
            "option", "--tile", f"{o.model} has no network whose output has the size of its input", "omit --tile"
        )
    for name, field in fields.items():
        if least < field.multiple:
            why = f"{o.tile} is smaller than the size multiple of network {name}, {field.multiple} pixels"
            raise OptionError("option", "--tile", why, f"give --tile {2 * field.multiple} or more")

    # Replace the forward methods.
    for name, field in fields.items():
        overlap, note = _choose_overlap(name, o.overlap, least, field, _adds_noise(nets[name]))
        if note:
            print_line(note)
        forward: Callable[[Tensor], Tensor] = TiledForward(nets[name], size, overlap, field, o.tile_norm == "shared")
        nets[name].forward = forward  # type: ignore[method-assign]


def _choose_overlap(
    name: str, overlap: int | None, least: int, field: ReceptiveField, noisy: bool = False
) -> tuple[int, str]:
    """Return the overlap in pixels, and a note if it does not cover the receptive field or the network adds noise."""
    radius = math.inf if math.isinf(field.radius) else math.ceil(field.radius)
    exact = 2 * radius + field.multiple
    if overlap is None:
        overlap = int(radius) if exact <= least else least // 4
    if overlap >= radius:
        note = f"note: network {name} adds noise, which differs from tile to tile: tiles are blended where they overlap"
        return overlap, note if noisy else ""
    sees = "the whole image" if math.isinf(radius) else f"the input up to {radius} pixels away"
    remedy = ""
    if not noisy and not math.isinf(radius):
        remedy = f"; --tile {-(-exact // 64) * 64} without --overlap gives the untiled result"
    depends = f"an output pixel of network {name} depends on {sees}, and tiles overlap by {overlap} pixels"
    return overlap, f"note: {depends}: the result differs from the untiled one, and tiles are blended{remedy}"
