"""All pictures of a report, in the order of its page; matplotlib figures, drawn when they are asked for."""

from collections.abc import Iterator, Sequence

from jaxopt_study.study.picture_style import Picture
from jaxopt_study.study.read_record import Record
from jaxopt_study.study.sweep_pictures import of_sweep
from jaxopt_study.study.trace_pictures import of_paths, of_traces, together


def pictures(records: Sequence[Record]) -> Iterator[Picture]:
    """All pictures of some records.

    Args:
      records: with distinct names.
    """
    for record in records:
        about = f"{record.name}: " if len(records) > 1 else ""
        if record.is_sweep:
            yield from of_sweep(record, about)
        yield from of_traces(record, about)
        yield from of_paths(record, about)
    if len(records) > 1:
        yield from together(records)
