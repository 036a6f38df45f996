/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Puts into BTF what no map of the product's object refers to: enumerations and calls of abi.h. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "bpf/abi.h"

enum family abi_family SEC(".data");
enum frontend_type abi_frontend_type SEC(".data");
enum empty_verdict abi_empty_verdict SEC(".data");
enum source_class abi_source_class SEC(".data");
enum frontend_flag abi_frontend_flag SEC(".data");
enum backend_flag abi_backend_flag SEC(".data");
enum pods_by abi_pods_by SEC(".data");
enum flow_flag abi_flow_flag SEC(".data");
enum flow_seen abi_flow_seen SEC(".data");
enum device_flag abi_device_flag SEC(".data");
enum reason abi_reason SEC(".data");
enum hook abi_hook SEC(".data");
enum remove_result abi_remove_result SEC(".data");
enum socket_kind abi_socket_kind SEC(".data");
enum network_model abi_network_model SEC(".data");
enum socket_translation abi_socket_translation SEC(".data");
struct forget_call abi_forget_call SEC(".data");
struct expire_call abi_expire_call SEC(".data");
struct adopt_call abi_adopt_call SEC(".data");
struct clock_call abi_clock_call SEC(".data");
struct remove_call abi_remove_call SEC(".data");

char LICENSE[] SEC("license") = "Dual BSD/GPL";
