/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SCTP's checksum (RFC 9260 appendix A: CRC32c) after a change of the ports. A CRC is linear:
 * what the change adds to it is the change, as a polynomial, times x^8 for each byte of the
 * packet, whatever the other bytes are. So the cost grows with the number of bits in the
 * length, no payload is read, and a checksum that was wrong stays wrong.
 *
 * In the field, least significant byte first, and in the polynomials here the lowest bit
 * stands for x^31.
 */
#ifndef MAGLANE_CRC32C_H
#define MAGLANE_CRC32C_H

#include "bpf/maps.h"

#define CRC32C_POLYNOMIAL 0x82f63b78U

/* A loop here would make the compiler put the powers into memory, which BPF programs have none
 * of but for config. */
#ifdef __bpf__
#define CRC32C_UNROLL _Pragma("unroll")
#else
#define CRC32C_UNROLL
#endif

/* The product of two polynomials. Global and weak: see flow.h. */
__weak __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = b >> 1 ^ (CRC32C_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/* x^(8 << power), below x^(8 << 16). */
static __always_inline __u32 crc32c_power(__u32 power)
{
	switch (power) {
	case 0:
		return 0x00800000;
	case 1:
		return 0x00008000;
	case 2:
		return 0x82f63b78;
	case 3:
		return 0x6ea2d55c;
	case 4:
		return 0x18b8ea18;
	case 5:
		return 0x510ac59a;
	case 6:
		return 0xb82be955;
	case 7:
		return 0xb8fdb1e7;
	case 8:
		return 0x88e56f72;
	case 9:
		return 0x74c360a4;
	case 10:
		return 0xe4172b16;
	case 11:
		return 0x0d65762a;
	case 12:
		return 0x35d73a62;
	case 13:
		return 0x28461564;
	case 14:
		return 0xbf455269;
	default:
		return 0xe2ea32dc;
	}
}

/* What a packet of `length` bytes, below 65536, has in its checksum more when its first four
 * bytes, as they stand in memory, change by `difference` (exclusive or). */
__weak __u32 crc32c_difference(__u32 difference, __u32 length)
{
	CRC32C_UNROLL
	for (__u32 power = 0; power < 16; power++)
		if (length >> power & 1)
			difference = crc32c_multiply(difference, crc32c_power(power));
	return difference;
}

#endif
