"""Produces the bytes of the extents that a repair writes: as read, or computed. Pure; called by threads."""

from vtlfs.engine.layout import erasure
from vtlfs.engine.reading import stored
from vtlfs.engine.repair.plan import Plan
from vtlfs.engine.repair.stripes import Bytes, Piece, Stripe


def unread(stripe: Stripe, plan: Plan) -> list[Piece]:
    """Return the extents to be read before the bytes of a plan can be produced."""
    data, parity = _wanted(stripe, plan)
    if all(piece.data is not None for piece in data) and not parity:
        return []
    if parity or any(not piece.may_be_had for piece in data):
        data = stripe.data
    found = [piece for piece in data if piece.data is None and piece.may_be_had]
    missing = sum(not piece.may_be_had for piece in data)
    known = sum(piece.data is not None for piece in stripe.parity)
    spare = [piece for piece in stripe.parity if piece.data is None and piece.may_be_had]
    return found + spare[: max(0, missing - known)]


def _wanted(stripe: Stripe, plan: Plan) -> tuple[list[Piece], list[int]]:
    """Return the data extents that a plan writes, and the numbers of the parity rows that have to be computed."""
    offsets = {one.row.offset for one in plan.new if not one.row.is_parity}
    had = set() if plan.is_redealt else {piece.row.place for piece in stripe.parity if piece.data is not None}
    rows = [one.row.place for one in plan.new if one.row.is_parity and one.row.place not in had]
    return [piece for piece in stripe.data if piece.row.offset in offsets], rows


def produce(stripe: Stripe, plan: Plan) -> bool:
    """Set the bytes of each extent that the plan writes.

    Return False if that is not possible: too much of the stripe could not be read, or computed bytes do not have the
    recorded BLAKE3.
    """
    data, rows = _wanted(stripe, plan)
    needed = stripe.data if rows else data
    lost = {piece.row.place: piece for piece in stripe.data if piece.data is None}
    if any(piece.data is None for piece in needed):
        known: dict[int, Bytes] = {piece.row.place: piece.data for piece in stripe.data if piece.data is not None}
        parity = {piece.row.place: piece.data for piece in stripe.parity if piece.data is not None}
        found = stored.compute({place: piece.row for place, piece in lost.items()}, known, parity)
        for place, piece in lost.items():
            if place not in found:
                return False
            piece.data = found[place]
    by_offset = {piece.row.offset: piece.data for piece in stripe.data}
    copies = {} if plan.is_redealt else {piece.row.place: piece.data for piece in stripe.parity}
    for one in plan.new:
        if not one.row.is_parity:
            one.data = by_offset[one.row.offset]
        elif copies.get(one.row.place) is not None:
            one.data = copies[one.row.place]
        else:
            members = [by_offset[member.offset] for member in one.members]
            one.data = erasure.parity(one.row.place, [member for member in members if member is not None])
    return True
