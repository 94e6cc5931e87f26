"""Steps as CUDA graphs."""

from __future__ import annotations

from typing import Any

import torch

from offramp.graphs.program import Graphs, Step


def graphs_on(device: torch.device) -> Graphs:
    """On a CUDA device captured steps that share one pool of memory; elsewhere the steps themselves."""
    if device.type != "cuda":
        return Graphs(device, lambda step: step)
    pool = torch.cuda.graph_pool_handle()
    return Graphs(device, lambda step: Captured(step, pool))


class Captured:
    """A step that is captured when it is first called, and replayed from then on.

    The first call runs it for good, on a side stream: that warms libraries up, and allocates what outlives a call
    outside of the graph's memory, which graphs of one pool may use in turn.
    """

    def __init__(self, step: Step, pool: Any) -> None:
        self._step, self._pool = step, pool
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self._graph is not None:
            self._graph.replay()
            return
        now, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(now)
        with torch.cuda.stream(side):
            self._step()
        now.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._step()
        self._graph = graph
