# cython: boundscheck=False, wraparound=False, cdivision=True
"""Numbers as JSON text.

A floating-point number is written with the fewest digits that read back as the same number. The method is Schubfach
(Raffaello Giulietti, "The Schubfach way to render doubles"): the interval of the reals that round to the number is
scaled by a power of ten, with 128 bits of that power, so that it holds one or two integers of the wanted length; one
that lies in it, nearest to the number, is the answer. No loop over digits decides anything, and nothing is allocated.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef extern from *:
    """
    #if defined(__SIZEOF_INT128__)
    static inline uint64_t fs_multiply(uint64_t a, uint64_t b, uint64_t *low) {
        unsigned __int128 product = (unsigned __int128)a * b;
        *low = (uint64_t)product;
        return (uint64_t)(product >> 64);
    }
    #else
    static inline uint64_t fs_multiply(uint64_t a, uint64_t b, uint64_t *low) {
        uint64_t a0 = a & 0xFFFFFFFFu, a1 = a >> 32, b0 = b & 0xFFFFFFFFu, b1 = b >> 32;
        uint64_t p00 = a0 * b0, p01 = a0 * b1, p10 = a1 * b0, p11 = a1 * b1;
        uint64_t middle = (p00 >> 32) + (p01 & 0xFFFFFFFFu) + (p10 & 0xFFFFFFFFu);
        *low = (middle << 32) | (p00 & 0xFFFFFFFFu);
        return p11 + (p01 >> 32) + (p10 >> 32) + (middle >> 32);
    }
    #endif
    """
    # The high and the low half of a product.
    uint64_t multiply "fs_multiply"(uint64_t a, uint64_t b, uint64_t* low) noexcept nogil


# The powers of ten that doubles need, as 128 bits rounded up: 10**k is in (g - 1, g] * 2**(floor(log2(10**k)) - 127).
cdef enum:
    MIN_POWER = -292
    MAX_POWER = 324

cdef uint64_t[2 * (MAX_POWER - MIN_POWER + 1)] POWERS

# The digits of 0 to 99.
cdef char[200] PAIRS


def powers_of_ten():
    """For each power from `MIN_POWER` to `MAX_POWER`: its first 128 bits, rounded up."""
    for power in range(MIN_POWER, MAX_POWER + 1):
        # As a fraction: 10**power = above / below.
        above, below = (10**power, 1) if power >= 0 else (1, 10**-power)
        shift = 127 - (above.bit_length() - below.bit_length())
        scaled = above << shift if shift >= 0 else above
        divisor = below if shift >= 0 else below << -shift
        bits = -(-scaled // divisor)
        if bits < 1 << 127:
            bits = -(-(scaled << 1) // divisor)
        elif bits > (1 << 128) - 1:
            bits = -(-scaled // (divisor << 1))
        yield bits


cdef int prepare_numbers() except -1:
    cdef Py_ssize_t i
    cdef object low = (1 << 64) - 1
    if POWERS[0]:
        return 0
    for i in range(100):
        PAIRS[2 * i] = <char>(48 + i // 10)
        PAIRS[2 * i + 1] = <char>(48 + i % 10)
    # The first last: it says that the tables are complete.
    for i, bits in reversed(list(enumerate(powers_of_ten()))):
        POWERS[2 * i + 1] = bits & low
        POWERS[2 * i] = bits >> 64
    return 0


cdef uint8_t* write_unsigned(uint8_t* out, uint64_t number) noexcept nogil:
    cdef uint8_t[20] digits
    cdef int first = 20, pair
    if number < 10:
        out[0] = <uint8_t>(48 + number)
        return out + 1
    while number >= 100:
        pair = <int>(number % 100)
        number //= 100
        first -= 2
        memcpy(digits + first, PAIRS + 2 * pair, 2)
    if number >= 10:
        first -= 2
        memcpy(digits + first, PAIRS + 2 * number, 2)
    else:
        first -= 1
        digits[first] = <uint8_t>(48 + number)
    memcpy(out, digits + first, <size_t>(20 - first))
    return out + (20 - first)


cdef uint8_t* write_signed(uint8_t* out, int64_t number) noexcept nogil:
    if number >= 0:
        return write_unsigned(out, <uint64_t>number)
    out[0] = c"-"
    # Of the smallest number, too: unsigned arithmetic wraps around.
    return write_unsigned(out + 1, <uint64_t>0 - <uint64_t>number)


cdef inline int32_t floor_shift(int32_t product, int bits) noexcept nogil:
    """`product` / 2**bits, rounded down. (The shift of a negative number is not defined in C.)"""
    return product >> bits if product >= 0 else -((-product + (1 << bits) - 1) >> bits)


cdef inline uint64_t scaled_to_odd(uint64_t high, uint64_t low, uint64_t number) noexcept nogil:
    """`number` times a power of ten, without the low 128 bits; the last bit is set if any of those is, apart from the
    error of the power.
    """
    cdef uint64_t lost = 0, middle = 0, top, carry
    carry = multiply(low, number, &lost)
    top = multiply(high, number, &middle)
    middle += carry
    top += middle < carry
    return top | (middle > 1)


cdef uint64_t shortest_digits(
    uint64_t significand, int32_t exponent, bint closer_below, int32_t* power
) noexcept nogil:
    """The shortest decimal in the interval of `significand` * 2**`exponent`, as digits times 10**`power`. With
    `closer_below` the number is a power of two, so that its lower neighbour is nearer than the upper one.
    """
    cdef bint even = significand & 1 == 0
    cdef uint64_t low = 4 * significand - 2 + closer_below, middle = 4 * significand, high = 4 * significand + 2
    # floor(log10(2**exponent)), or of three quarters of it.
    cdef int32_t k = floor_shift(exponent * 1262611 - (524031 if closer_below else 0), 22)
    # The shift that leaves the wanted integer in the high bits; floor(log2(10**-k)) is in it.
    cdef int shift = exponent + floor_shift(-k * 1741647, 19) + 1
    cdef uint64_t power_high = POWERS[2 * (-k - MIN_POWER)], power_low = POWERS[2 * (-k - MIN_POWER) + 1]
    cdef uint64_t least, most, exact, digits, tens
    cdef bint below, above
    least = scaled_to_odd(power_high, power_low, low << shift) + (not even)
    exact = scaled_to_odd(power_high, power_low, middle << shift)
    most = scaled_to_odd(power_high, power_low, high << shift) - (not even)
    digits = exact >> 2
    if digits >= 10:
        # One digit less, if exactly one of the two candidates is in the interval.
        tens = digits // 10
        below = least <= 40 * tens
        above = 40 * tens + 40 <= most
        if below != above:
            power[0] = k + 1
            return tens + above
    power[0] = k
    below = least <= 4 * digits
    above = 4 * digits + 4 <= most
    if below != above:
        return digits + above
    # Both are: the nearer one, and of two that are equally near the even one.
    if exact == 4 * digits + 2:
        return digits + (digits & 1)
    return digits + (exact > 4 * digits + 2)


cdef uint8_t* write_digits(uint8_t* out, uint64_t digits, int32_t power) noexcept nogil:
    """`digits` times 10**`power`, laid out as repr() of a float. `digits` is not 0."""
    cdef uint8_t[24] text
    cdef int count, point
    # The digits of a number that has few of them end with many zeros.
    if digits % 100000000 == 0:
        digits //= 100000000
        power += 8
    if digits % 10000 == 0:
        digits //= 10000
        power += 4
    while digits % 10 == 0:
        digits //= 10
        power += 1
    count = <int>(write_unsigned(text, digits) - text)
    # The digits before the decimal point.
    point = count + power
    if -4 < point <= 16:
        if point <= 0:
            memcpy(out, b"0.0000", <size_t>(2 - point))
            memcpy(out + 2 - point, text, <size_t>count)
            return out + 2 - point + count
        if point >= count:
            memcpy(out, text, <size_t>count)
            out += count
            while count < point:
                out[0] = c"0"
                out += 1
                count += 1
            memcpy(out, b".0", 2)
            return out + 2
        memcpy(out, text, <size_t>point)
        out[point] = c"."
        memcpy(out + point + 1, text + point, <size_t>(count - point))
        return out + count + 1
    out[0] = text[0]
    out += 1
    if count > 1:
        out[0] = c"."
        memcpy(out + 1, text + 1, <size_t>(count - 1))
        out += count
    point -= 1
    out[0] = c"e"
    out[1] = c"-" if point < 0 else c"+"
    out += 2
    if point < 0:
        point = -point
    if point < 10:
        out[0] = c"0"
        out += 1
    return write_unsigned(out, <uint64_t>point)


cdef uint8_t* write_text(uint8_t* out, const char* text, size_t size) noexcept nogil:
    memcpy(out, text, size)
    return out + size


cdef uint8_t* write_nonfinite(uint8_t* out, bint is_nan, bint negative, Nonfinite nonfinite) noexcept nogil:
    if nonfinite == NONFINITE_NULL:
        return write_text(out, b"null", 4)
    if nonfinite == NONFINITE_STRING:
        if is_nan:
            return write_text(out, b'"nan"', 5)
        return write_text(out, b'"-inf"', 6) if negative else write_text(out, b'"inf"', 5)
    if is_nan:
        return write_text(out, b"nan", 3)
    return write_text(out, b"-inf", 4) if negative else write_text(out, b"inf", 3)


cdef uint8_t* write_double(uint8_t* out, uint64_t bits, Nonfinite nonfinite) noexcept nogil:
    cdef uint64_t fraction = bits & ((<uint64_t>1 << 52) - 1)
    cdef int32_t exponent = <int32_t>(bits >> 52 & 0x7FF), power = 0
    cdef bint negative = bits >> 63
    cdef double value = 0
    if exponent == 0x7FF:
        return write_nonfinite(out, fraction != 0, negative, nonfinite)
    if negative:
        out[0] = c"-"
        out += 1
    bits &= (<uint64_t>1 << 63) - 1
    memcpy(&value, &bits, 8)
    if value < 1e15 and value == <double><int64_t>value:
        out = write_unsigned(out, <uint64_t>value)
        return write_text(out, b".0", 2)
    if exponent:
        fraction |= <uint64_t>1 << 52
        fraction = shortest_digits(
            fraction, exponent - 1075, fraction == <uint64_t>1 << 52 and exponent > 1, &power
        )
    else:
        fraction = shortest_digits(fraction, -1074, False, &power)
    return write_digits(out, fraction, power)


cdef uint8_t* write_float(uint8_t* out, uint64_t bits, Nonfinite nonfinite) noexcept nogil:
    cdef uint64_t fraction = bits & 0x7FFFFF
    cdef uint32_t positive = <uint32_t>(bits & 0x7FFFFFFF)
    cdef int32_t exponent = <int32_t>(bits >> 23 & 0xFF), power = 0
    cdef bint negative = bits >> 31 & 1
    cdef float value = 0
    if exponent == 0xFF:
        return write_nonfinite(out, fraction != 0, negative, nonfinite)
    if negative:
        out[0] = c"-"
        out += 1
    memcpy(&value, &positive, 4)
    if value < 16777216.0 and value == <float><int32_t>value:
        out = write_unsigned(out, <uint64_t>value)
        return write_text(out, b".0", 2)
    if exponent:
        fraction |= 0x800000
        fraction = shortest_digits(fraction, exponent - 150, fraction == 0x800000 and exponent > 1, &power)
    else:
        fraction = shortest_digits(fraction, -149, False, &power)
    return write_digits(out, fraction, power)


def number_text(kind, uint64_t bits, int nonfinite=NONFINITE_STRING):
    """The text of a number that a message stores as `bits`, for tests. `kind` is "float" or "double"."""
    cdef uint8_t[MAX_NUMBER_SIZE] text
    cdef uint8_t* end
    prepare_numbers()
    if kind == "double":
        end = write_double(text, bits, <Nonfinite>nonfinite)
    else:
        end = write_float(text, bits, <Nonfinite>nonfinite)
    return (<const char*>text)[:end - text].decode()
