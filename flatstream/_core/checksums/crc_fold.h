/* CRCs by carry-less multiplication.
 *
 * Every CRC is computed as a 64-bit CRC. A polynomial P of width W < 64 becomes P * x^(64-W). A register then holds the
 * CRC of P in its W highest terms: these are the high bits of a forward register and the low bits of a reflected one.
 *
 * A block of 16 bytes is a polynomial of 128 terms, H * x^64 + L. Folding the block over a distance of D bits adds
 *
 *     H * (x^(D+64) mod P)  +  L * (x^D mod P)
 *
 * to the block that follows D bits later. The remainder of the whole message stays the same. Folding is repeated until
 * one block is left, which Barrett reduction reduces to the CRC. If the size of a message is not a multiple of 16, zero
 * bytes are put in front of it; leading zero bytes do not change the remainder.
 *
 * In the reflected order, a product of two 64-bit values is one bit too low. The constants compensate for this: their
 * exponents are smaller by 1. Source: Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
 * Instruction".
 */
#ifndef FLATSTREAM_CRC_FOLD_H
#define FLATSTREAM_CRC_FOLD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define FS_HAVE_FOLD 1
#include <immintrin.h>
#else
#define FS_HAVE_FOLD 0
#endif

/* Constants for each distance in units of 128 bits: the factors of the low lane and of the high lane. */
typedef struct {
    uint64_t fold[17][2]; /* [i]: for a distance of i * 128 bits; [0] is unused */
    uint64_t last;        /* x^128 mod P: folds H of the last block, to which 64 zero bits are appended */
    uint64_t quotient;    /* x^128 / P, without its highest term */
    uint64_t polynomial;  /* P, without its highest term */
    int reflected;
} fs_crc_constants;

static uint64_t fs_reverse64(uint64_t v) {
    uint64_t r = 0;
    for (int i = 0; i < 64; i++) r |= ((v >> i) & 1) << (63 - i);
    return r;
}

/* x^n mod P, for P = x^64 + p. */
static uint64_t fs_power_mod(unsigned n, uint64_t p) {
    uint64_t r = 1;
    while (n--) r = (r << 1) ^ ((r >> 63) ? p : 0);
    return r;
}

/* x^128 / P, without its highest term. */
static uint64_t fs_quotient(uint64_t p) {
    uint64_t q = 0, r = p; /* after the first step of the division: x^128 - x^64 * P = p * x^64 */
    for (int i = 63; i >= 0; i--) {
        uint64_t top = r >> 63;
        q |= top << i;
        r = (r << 1) ^ (top ? p : 0);
    }
    return q;
}

/* `p` is the polynomial without its highest term, shifted to the top of 64 bits. */
static void fs_crc_prepare(fs_crc_constants *c, uint64_t p, int reflected) {
    for (unsigned i = 1; i <= 16; i++) {
        unsigned distance = 128 * i;
        if (reflected) {
            c->fold[i][0] = fs_reverse64(fs_power_mod(distance + 63, p));
            c->fold[i][1] = fs_reverse64(fs_power_mod(distance - 1, p));
        } else {
            c->fold[i][0] = fs_power_mod(distance, p);
            c->fold[i][1] = fs_power_mod(distance + 64, p);
        }
    }
    c->last = reflected ? fs_reverse64(fs_power_mod(127, p)) : fs_power_mod(128, p);
    c->quotient = reflected ? fs_reverse64(fs_quotient(p)) : fs_quotient(p);
    c->polynomial = reflected ? fs_reverse64(p) : p;
    c->reflected = reflected;
}

#if FS_HAVE_FOLD

/* AVX is enabled because its instruction encoding writes whole registers. The helpers are inlined, so they are compiled
 * for the target of their caller. */
#define FS_PCLMUL __attribute__((target("pclmul,avx")))
#define FS_VPCLMUL __attribute__((target("pclmul,avx512f,avx512bw,avx512vl,vpclmulqdq")))
#define FS_HELPER static inline __attribute__((always_inline))

static int fs_has_pclmul(void) { return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("avx"); }

static int fs_has_vpclmul(void) {
    return fs_has_pclmul() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("vpclmulqdq");
}

FS_PCLMUL FS_HELPER __m128i fs_order(__m128i v, int reflected) {
    /* In a forward CRC, the first byte has the highest terms. */
    return reflected ? v : _mm_shuffle_epi8(v, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

FS_PCLMUL FS_HELPER __m128i fs_load(const uint8_t *p, int reflected) {
    return fs_order(_mm_loadu_si128((const __m128i *)p), reflected);
}

FS_PCLMUL FS_HELPER __m128i fs_fold(__m128i v, const uint64_t *k) {
    __m128i c = _mm_loadu_si128((const __m128i *)k);
    return _mm_xor_si128(_mm_clmulepi64_si128(v, c, 0x00), _mm_clmulepi64_si128(v, c, 0x11));
}

/* The register after `v`, the last block of a message. */
FS_PCLMUL FS_HELPER uint64_t fs_reduce(__m128i v, const fs_crc_constants *c) {
    uint64_t low = (uint64_t)_mm_cvtsi128_si64(v), high = (uint64_t)_mm_extract_epi64(v, 1);
    uint64_t h = c->reflected ? low : high, l = c->reflected ? high : low, upper, lower, q;
    __m128i t = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)h), _mm_cvtsi64_si128((long long)c->last), 0x00);
    if (c->reflected) {
        upper = (uint64_t)_mm_cvtsi128_si64(t) ^ l;
        lower = (uint64_t)_mm_extract_epi64(t, 1);
        t = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)upper), _mm_cvtsi64_si128((long long)c->quotient), 0x00);
        q = upper ^ ((uint64_t)_mm_cvtsi128_si64(t) << 1);
        t = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)q), _mm_cvtsi64_si128((long long)c->polynomial), 0x00);
        return lower ^ ((uint64_t)_mm_extract_epi64(t, 1) << 1) ^ ((uint64_t)_mm_cvtsi128_si64(t) >> 63);
    }
    upper = (uint64_t)_mm_extract_epi64(t, 1) ^ l;
    lower = (uint64_t)_mm_cvtsi128_si64(t);
    t = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)upper), _mm_cvtsi64_si128((long long)c->quotient), 0x00);
    q = upper ^ (uint64_t)_mm_extract_epi64(t, 1);
    t = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)q), _mm_cvtsi64_si128((long long)c->polynomial), 0x00);
    return lower ^ (uint64_t)_mm_cvtsi128_si64(t);
}

/* Shuffle masks that shift 16 bytes by n and fill with zeros: up at offset `16 - n`, down at offset `16 + n`. */
static const uint8_t fs_shifts[48] = {
    128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128,
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128};

/* The value to add to the first whole block: the register and, folded, the `odd` = size % 16 bytes at `p` (at least 16
 * bytes can be read there). The bytes are shifted in registers. Through memory, this takes 15 ns: a load that spans
 * several smaller stores waits for them. */
FS_PCLMUL FS_HELPER __m128i fs_begin(const fs_crc_constants *c, uint64_t reg, const uint8_t *p, size_t odd) {
    __m128i up, down, first, r;
    if (!odd) return c->reflected ? _mm_cvtsi64_si128((long long)reg) : _mm_set_epi64x((long long)reg, 0);
    r = _mm_cvtsi64_si128((long long)(c->reflected ? reg : __builtin_bswap64(reg)));
    up = _mm_loadu_si128((const __m128i *)(fs_shifts + odd));
    down = _mm_loadu_si128((const __m128i *)(fs_shifts + 16 + odd));
    first = _mm_shuffle_epi8(_mm_xor_si128(_mm_loadu_si128((const __m128i *)p), r), up);
    return _mm_xor_si128(
        fs_fold(fs_order(first, c->reflected), c->fold[1]), fs_order(_mm_shuffle_epi8(r, down), c->reflected));
}

/* The register after `size` >= 16 more bytes. Every caller passes a constant for `reflected`. */
FS_PCLMUL FS_HELPER uint64_t fs_update_pclmul(
    const fs_crc_constants *c, uint64_t reg, const uint8_t *p, size_t size, int reflected) {
    size_t odd = size % 16;
    __m128i a = fs_begin(c, reg, p, odd);
    p += odd;
    size -= odd;
    a = _mm_xor_si128(a, fs_load(p, reflected));
    p += 16;
    size -= 16;
    if (size >= 112) {
        /* Eight independent blocks hide the latency of the multiplication. */
        __m128i b[8];
        b[0] = a;
        for (int i = 1; i < 8; i++) b[i] = fs_load(p + 16 * (i - 1), reflected);
        p += 112;
        size -= 112;
        while (size >= 128) {
            for (int i = 0; i < 8; i++) b[i] = _mm_xor_si128(fs_fold(b[i], c->fold[8]), fs_load(p + 16 * i, reflected));
            p += 128;
            size -= 128;
        }
        a = b[7];
        for (int i = 0; i < 7; i++) a = _mm_xor_si128(a, fs_fold(b[i], c->fold[7 - i]));
    }
    if (size >= 48) {
        /* Three distances instead of three steps: the multiplications do not depend on one another. */
        __m128i b = _mm_xor_si128(fs_fold(a, c->fold[3]), fs_fold(fs_load(p, reflected), c->fold[2]));
        b = _mm_xor_si128(b, fs_fold(fs_load(p + 16, reflected), c->fold[1]));
        a = _mm_xor_si128(b, fs_load(p + 32, reflected));
        p += 48;
        size -= 48;
    }
    while (size) {
        a = _mm_xor_si128(fs_fold(a, c->fold[1]), fs_load(p, reflected));
        p += 16;
        size -= 16;
    }
    return fs_reduce(a, c);
}

FS_VPCLMUL FS_HELPER __m512i fs_load_wide(const uint8_t *p, int reflected) {
    __m512i v = _mm512_loadu_si512((const void *)p);
    if (reflected) return v;
    return _mm512_shuffle_epi8(
        v, _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
}

FS_VPCLMUL FS_HELPER __m512i fs_fold_wide(__m512i v, __m512i k, __m512i add) {
    /* 0x96: the exclusive or of all three operands. */
    return _mm512_ternarylogic_epi64(
        _mm512_clmulepi64_epi128(v, k, 0x00), _mm512_clmulepi64_epi128(v, k, 0x11), add, 0x96);
}

FS_VPCLMUL FS_HELPER __m512i fs_constant_wide(const uint64_t *k) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)k));
}

FS_VPCLMUL FS_HELPER uint64_t fs_update_vpclmul(
    const fs_crc_constants *c, uint64_t reg, const uint8_t *p, size_t size, int reflected) {
    if (size < 256 + 16) return fs_update_pclmul(c, reg, p, size, reflected);
    size_t odd = size % 16;
    __m512i a = _mm512_inserti32x4(_mm512_setzero_si512(), fs_begin(c, reg, p, odd), 0);
    __m512i b, d, e, k;
    p += odd;
    size -= odd;
    a = _mm512_xor_si512(a, fs_load_wide(p, reflected));
    b = fs_load_wide(p + 64, reflected);
    d = fs_load_wide(p + 128, reflected);
    e = fs_load_wide(p + 192, reflected);
    p += 256;
    size -= 256;
    k = fs_constant_wide(c->fold[16]);
    while (size >= 256) {
        a = fs_fold_wide(a, k, fs_load_wide(p, reflected));
        b = fs_fold_wide(b, k, fs_load_wide(p + 64, reflected));
        d = fs_fold_wide(d, k, fs_load_wide(p + 128, reflected));
        e = fs_fold_wide(e, k, fs_load_wide(p + 192, reflected));
        p += 256;
        size -= 256;
    }
    e = fs_fold_wide(d, fs_constant_wide(c->fold[4]), e);
    e = fs_fold_wide(b, fs_constant_wide(c->fold[8]), e);
    e = fs_fold_wide(a, fs_constant_wide(c->fold[12]), e);
    k = fs_constant_wide(c->fold[4]);
    while (size >= 64) {
        e = fs_fold_wide(e, k, fs_load_wide(p, reflected));
        p += 64;
        size -= 64;
    }
    __m128i last = _mm512_extracti32x4_epi32(e, 3);
    last = _mm_xor_si128(last, fs_fold(_mm512_extracti32x4_epi32(e, 2), c->fold[1]));
    last = _mm_xor_si128(last, fs_fold(_mm512_extracti32x4_epi32(e, 1), c->fold[2]));
    last = _mm_xor_si128(last, fs_fold(_mm512_extracti32x4_epi32(e, 0), c->fold[3]));
    while (size) {
        last = _mm_xor_si128(fs_fold(last, c->fold[1]), fs_load(p, reflected));
        p += 16;
        size -= 16;
    }
    return fs_reduce(last, c);
}

/* The CRC32 instruction, which supports the polynomial of CRC-32C only. It processes eight bytes in three cycles:
 * faster than the tables, and slower than folding except for short messages. */
static int fs_has_crc32(void) { return __builtin_cpu_supports("sse4.2"); }

__attribute__((target("sse4.2"))) static uint64_t fs_crc32c_sse42(uint64_t reg, const uint8_t *p, size_t size) {
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        reg = _mm_crc32_u64(reg, word);
        p += 8;
        size -= 8;
    }
    uint32_t rest = (uint32_t)reg;
    if (size & 4) {
        uint32_t word;
        memcpy(&word, p, 4);
        rest = _mm_crc32_u32(rest, word);
        p += 4;
    }
    if (size & 2) {
        uint16_t word;
        memcpy(&word, p, 2);
        rest = _mm_crc32_u16(rest, word);
        p += 2;
    }
    if (size & 1) rest = _mm_crc32_u8(rest, *p);
    return rest;
}

/* `reflected` is a constant in each function, so that reversing the byte order costs nothing where it is not needed.
 *
 * The upper halves of the vector registers are cleared first. Another library may have left them in use (isal does).
 * Each transition between the SSE and AVX encodings then takes some 70 ns: a frame of 64 bytes took 150 ns instead of
 * 10. */
#define FS_ENTRY(name, target, update, is_reflected)                                                          \
    target static uint64_t name(const fs_crc_constants *c, uint64_t reg, const uint8_t *p, size_t size) { \
        _mm256_zeroupper();                                                                                  \
        return update(c, reg, p, size, is_reflected);                                                        \
    }
FS_ENTRY(fs_reflected_pclmul, FS_PCLMUL, fs_update_pclmul, 1)
FS_ENTRY(fs_forward_pclmul, FS_PCLMUL, fs_update_pclmul, 0)
FS_ENTRY(fs_reflected_vpclmul, FS_VPCLMUL, fs_update_vpclmul, 1)
FS_ENTRY(fs_forward_vpclmul, FS_VPCLMUL, fs_update_vpclmul, 0)

#else

/* PMULL of AArch64 could do the same. It is not used, because the project has no AArch64 machine to test it on. */
static int fs_has_pclmul(void) { return 0; }
static int fs_has_vpclmul(void) { return 0; }
static int fs_has_crc32(void) { return 0; }
static uint64_t fs_crc32c_sse42(uint64_t reg, const uint8_t *p, size_t size) {
    (void)p; (void)size;
    return reg;
}
static uint64_t fs_reflected_pclmul(const fs_crc_constants *c, uint64_t reg, const uint8_t *p, size_t size) {
    (void)c; (void)p; (void)size;
    return reg;
}
#define fs_forward_pclmul fs_reflected_pclmul
#define fs_reflected_vpclmul fs_reflected_pclmul
#define fs_forward_vpclmul fs_reflected_pclmul

#endif
#endif
