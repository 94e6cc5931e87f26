"""An executable specification of the engine, in float64: the oracle of the engine's tests.

One row at a time and one token at a time, so every operation is row-exact and "the same" means bit for bit.
Storage starts full of NaN, so a stale read shows. Prompts go through the mixers' whole-cell form, whose
rounding differs from the step's, so a wrong cut shows. Read `row.py` first: it is the design's section 1.

Letters: T tokens of one chunk, D width, V vocabulary, H heads, G groups (key-value heads or B/C groups),
K head dim, E inner width, N SSM state, W conv window, C conv channels.
"""

from .exits import Exit
from .from_weights import gate_from_weights, llama_from_weights, mamba2_from_weights, mamba_from_weights
from .model import Block, Model
from .oracle import plain_decode, teacher_force
from .request import Emitted, Request
from .row import Row
from .sampling import Sampling, choose
from .schedule import finish, finish_at_first_exit, serve
from .slots import Pool, serve_in_slots

__all__ = [
    "Block",
    "Emitted",
    "Exit",
    "Model",
    "Pool",
    "Request",
    "Row",
    "Sampling",
    "choose",
    "finish",
    "finish_at_first_exit",
    "gate_from_weights",
    "llama_from_weights",
    "mamba2_from_weights",
    "mamba_from_weights",
    "plain_decode",
    "serve",
    "serve_in_slots",
    "teacher_force",
]
