// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The kernel half of Tidewatch, one object: sys_exit with its handlers, and the scheduler's fork, exec and exit.
 * Only exits of calls are watched: a call that seccomp denies shows nowhere else, and results are known.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "tidewatch.h"
#include "maps.h"
#include "core.h"
#include "out.h"

char LICENSE[] SEC("license") = "GPL";

/* Never used: keeps the records' types in the object, where a test compares them with user space's. */
struct tw_records {
	struct tw_fork fork;
	struct tw_exec exec;
	struct tw_exit exit;
	struct tw_file file;
	struct tw_sock sock;
	struct tw_call call;
	struct tw_flow flow;
	struct tw_listener listener;
} *tw_records;

/* The context of a tp_btf program is an array of the tracepoint's arguments. */
typedef u64 trace_args;

/* A watched call at its exit. */
struct watched {
	struct task_struct *task;
	struct pt_regs *regs;
	const volatile struct tw_args *args; /* where its arguments are */
	s64 ret;
	bool compat;
	u8 kind;
	const u32 *list; /* the arguments if they lay in memory (see handle_socketcall), eight of them; null: in registers */
};

#define LISTED 6

/*
 * Reads the arguments of a socketcall. The kernel takes no more than the call needs, so what is behind those need not be
 * there: word by word.
 */
static __always_inline void read_list(u32 *list, u64 from)
{
#pragma unroll
	for (u32 i = 0; i < LISTED; i++)
		if (bpf_probe_read_user(&list[i], sizeof(list[i]), (void *)(from + sizeof(list[i]) * i)))
			break;
}

static __always_inline struct watched read_call(trace_args *ctx)
{
	struct watched call = {
		.task = bpf_get_current_task_btf(),
		.regs = (void *)ctx[0],
		.ret = ctx[1],
	};
	u64 nr = call_number(call.regs) & (TW_CALLS - 1);

	call.compat = is_compat(call.task);
	call.kind = (call.compat ? config.kind32[nr] : config.kind[nr]) & (TW_KINDS - 1);
	call.args = &config.args[call.kind];
	return call;
}

/* Argument number n, from 1. */
static __always_inline u64 arg_of(struct watched *call, u32 n)
{
	return call->list ? call->list[(n - 1) & 7] : call_arg(call->regs, call->compat, n);
}

/* The same; if n is 0 the call has no such argument. */
static __always_inline u64 arg_or(struct watched *call, u8 n, u64 otherwise)
{
	return n ? arg_of(call, n) : otherwise;
}

#include "probes/process.h"
#include "probes/file.h"
#include "probes/socket.h"
#include "probes/flow.h"
#include "probes/network.h"
#include "probes/traffic.h"
#include "probes/call.h"
#include "probes/socketcall.h"
#include "probes/ring.h"

/* Handlers are tail calls, so that each has the verifier's whole patience and the dispatcher stays short. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, TW_HANDLERS);
	__uint(key_size, sizeof(u32));
	__array(values, int(void *));
} handlers SEC(".maps") = {
	.values = {
		[TW_H_OPEN] = (void *)&handle_open,
		[TW_H_PATH] = (void *)&handle_path,
		[TW_H_SOCK] = (void *)&handle_sock,
		[TW_H_DUP] = (void *)&handle_dup,
		[TW_H_CALL] = (void *)&handle_call,
		[TW_H_EXEC] = (void *)&handle_exec,
		[TW_H_SIGNAL] = (void *)&handle_signal,
		[TW_H_MEMORY] = (void *)&handle_memory,
		[TW_H_PRCTL] = (void *)&handle_prctl,
		[TW_H_FSCONTEXT] = (void *)&handle_fscontext,
		[TW_H_SEND] = (void *)&handle_send,
		[TW_H_RECEIVE] = (void *)&handle_receive,
		[TW_H_SOCKETCALL] = (void *)&handle_socketcall,
	},
};

SEC("tp_btf/sys_exit")
int on_sys_exit(trace_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (void *)ctx[0];
	u64 nr = call_number(regs);
	u8 handler;

	if (nr >= TW_CALLS)
		return 0;
	handler = is_compat(task) ? config.handler32[nr] : config.handler[nr];
	if (!handler || task->tgid == config.self)
		return 0;
	bpf_tail_call(ctx, &handlers, handler);
	return 0;
}
