from typing_extensions import disjoint_base

from flatstream._core.stream.input_buffer import InputBuffer

@disjoint_base
class ResyncBuffer(InputBuffer): ...
