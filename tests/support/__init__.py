"""Helpers that the tests share, by subject; no test imports another test.

schemas        the schemas of ``data/schemas`` and ``examples``, and the code that flatc generated from them
strategies     Hypothesis strategies for messages of ``shapes``
messages       FlatBuffers made by hand, by generated code, and damaged
streams        streams whose every boundary is known, and ways to read them
sources        every kind of source, and sources that behave badly
sinks          the same for sinks
modes          the checksum modes
python_strategies  framers and deframers written in Python
columns        writing columns and reading them back
arrow_types    the Arrow types of a schema, and random records
arrow_abi      the structures of the Arrow C data interface, and producers that can be wrong in any way
bad_input      tables of calls, each with the error that must come
errors         how the tests compare errors
memory         what is measured of memory
processes      code that runs in a process of its own
threads        threads that start at once
"""
