/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Drops every frame unread: what the rig itself takes for a packet that goes no further. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int drop(__attribute__((unused)) struct xdp_md *ctx) { return XDP_DROP; }

char LICENSE[] SEC("license") = "Dual BSD/GPL";
