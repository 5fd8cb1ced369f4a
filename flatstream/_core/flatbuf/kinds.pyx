"""The types of FlatBuffers: their names, and the limits of numbers, for error messages and for Python."""

# By the name in reflection.BaseType: the Kind.
BASE_TYPES = {
    "NONE": NOTHING, "UTYPE": UNION_TYPE, "BOOL": BOOL, "BYTE": BYTE, "UBYTE": UBYTE, "SHORT": SHORT, "USHORT": USHORT,
    "INT": INT, "UINT": UINT, "LONG": LONG, "ULONG": ULONG, "FLOAT": FLOAT, "DOUBLE": DOUBLE, "STRING": STRING,
    "VECTOR": VECTOR, "OBJ": OBJECT, "UNION": UNION, "ARRAY": ARRAY,
}

# By Kind: the name of the type in a schema. From VECTOR on a type has no name.
KIND_NAMES = (
    "nothing", "union type", "bool", "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong", "float",
    "double", "string",
)

# By the Kind of a number: the name with its article, its range in words, its size in bytes, and the name of its class
# in `flatbuffers.number_types`.
NUMBER_NAMES = {kind: f"{'an' if kind == INT else 'a'} {KIND_NAMES[kind]}" for kind in range(BOOL, STRING)}
NUMBER_NAMES[UNION_TYPE] = "the type of a union"
NUMBER_RANGES = {kind: f"{least_of(kind)} to {most_of(kind)}" for kind in range(UNION_TYPE, FLOAT)}
NUMBER_RANGES[BOOL] = "False or True"
NUMBER_RANGES[ULONG] = "0 to 18446744073709551615"
NUMBER_RANGES[FLOAT] = "a number of at most 3.4028235e+38"
NUMBER_RANGES[DOUBLE] = "a number of at most 1.7976931348623157e+308"
NUMBER_WIDTHS = {kind: scalar_width(kind) for kind in range(UNION_TYPE, STRING)}
NUMBER_FLAGS = {
    BOOL: "BoolFlags", BYTE: "Int8Flags", UBYTE: "Uint8Flags", SHORT: "Int16Flags", USHORT: "Uint16Flags",
    INT: "Int32Flags", UINT: "Uint32Flags", LONG: "Int64Flags", ULONG: "Uint64Flags", FLOAT: "Float32Flags",
    DOUBLE: "Float64Flags",
}
