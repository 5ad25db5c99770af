// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Empty programs on the hooks that Tidewatch uses: what being there at all costs on this kernel. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define EMPTY(name, hook) \
	SEC("tp_btf/" hook) int name(void *ctx) { return 0; }

EMPTY(floor_sys_exit, "sys_exit")
EMPTY(floor_fork, "task_newtask")
EMPTY(floor_exec, "sched_process_exec")
EMPTY(floor_exit, "sched_process_exit")
EMPTY(floor_send, "sock_send_length")
EMPTY(floor_signal, "signal_generate")
