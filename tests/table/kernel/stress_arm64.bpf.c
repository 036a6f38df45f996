/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The stress with the instructions that arm64 gets, which order more than other machines need:
 * that they verify and work can be seen anywhere. */
#undef __TARGET_ARCH_x86
#ifndef __TARGET_ARCH_arm64
#define __TARGET_ARCH_arm64
#endif
#include "stress.bpf.c"
