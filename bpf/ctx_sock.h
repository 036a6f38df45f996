/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a hook at sockets shares with the packet path: how an exit is counted. */
#ifndef MAGLANE_CTX_SOCK_H
#define MAGLANE_CTX_SOCK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "bpf/maps.h"

typedef struct bpf_sock_addr ctx_t;

enum {
	CTX_HOOK = HOOK_SOCKET,
	CTX_PASS = 1, /* the system call goes on */
	CTX_DROP = 0, /* it fails, with the error that bpf_set_retval was told */
};

/* There is no packet yet. */
static __always_inline __u32 ctx_len(const ctx_t *ctx)
{
	return 0;
}

#endif
