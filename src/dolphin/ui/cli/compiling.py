"""First use: kernels are compiled once and kept; say so, and show that something is happening."""

from __future__ import annotations

from dolphin.ui.cli.console import note, progress


def ready_kernels(kind: str, *, quiet: bool, book: bool = False) -> None:
    """Compile what a run over an archive of `kind` needs, with a bar; free when the machine code is on disk."""
    from dolphin.research.warm import compile_steps

    steps = compile_steps(scanning=kind == "prices", book=book)
    if not steps:
        return
    if not quiet:
        note("First use: compiling the kernels, about half a minute. They are kept for the next run.")
    with progress("compiling", len(steps), "parts", quiet=quiet) as advance:
        for step in steps:
            step()
            advance(1)
