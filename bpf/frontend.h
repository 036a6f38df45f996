/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Frontends: is this destination one of ours? This header alone knows their table. */
#ifndef MAGLANE_FRONTEND_H
#define MAGLANE_FRONTEND_H

#include "bpf/maps.h"
#include "bpf/packet.h"

/* False: no frontend has this address. One bit, no look-up. */
static __always_inline int frontend_may_have(const __be32 addr_be[4])
{
	__u32 zero = 0;
	__u32 bit = vip_hash(addr_be);
	struct vip_bits *bits = bpf_map_lookup_elem(&vip_bits, &zero);

	return bits && (bits->word[(bit / 64) & (VIP_WORDS - 1)] >> (bit % 64)) & 1;
}

static __always_inline const struct frontend *frontend_find(const struct frontend_key *key)
{
	return bpf_map_lookup_elem(&frontends, key);
}

/* True: a service has this address, whatever the port. Node addresses are not among them. */
static __always_inline int frontend_is_service_address(const struct frontend_key *of)
{
	struct frontend_key key = *of;

	key.port_be = 0;
	key.protocol = 0;
	return bpf_map_lookup_elem(&frontends, &key) != NULL;
}

static __always_inline int in_service_cidr(const __be32 *address, int family)
{
	for (int i = 0; i < MAX_SERVICE_CIDRS; i++)
		if (prefix_contains(&config.service_cidrs[i], address, family))
			return 1;
	return 0;
}

#endif
