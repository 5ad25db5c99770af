/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Calls on sockets, and dup onto the standard descriptors. */

static __always_inline void tell_sock(struct watched *call)
{
	void *addr = (void *)arg_or(call, call->args->addr, 0);
	/* accept has its socket in the result, the others in the first argument. */
	bool accepts = !call->args->fd;
	struct peer fresh = { .at = bpf_ktime_get_boot_ns() };
	struct scratch *scratch;
	struct tw_sock *out;
	struct sock *sk;
	u32 slot = 0;
	s32 fd = accepts ? call->ret : (s32)arg_of(call, call->args->fd);
	u16 family;
	u64 key;

	if (accepts && call->ret < 0)
		return; /* nothing was accepted: servers ask all the time */
	sk = sock_of(call->task, fd);
	family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return;
	scratch = begin(call->kind, call->ret, sizeof(*out), &slot);
	if (!scratch)
		return;
	out = (void *)scratch->record;
	out->fd = fd;
	out->oldfd = -1;
	out->backlog = arg_or(call, call->args->backlog, 0);
	fill_sock(out, sk);
	out->attrs |= accepts ? TW_S_SERVER : 0;
	if (call->args->addr && !call->args->flags) { /* connect */
		out->attrs |= TW_S_CLIENT;
		if (!out->rport)
			fill_remote(out, addr);
		if (out->proto == IPPROTO_TCP && (call->ret == 0 || call->ret == -EINPROGRESS)) {
			key = (u64)sk;
			put(&peers, TW_T_PEERS, &key, &fresh);
			note_connection(sk, TW_S_CLIENT);
		}
	} else if (accepts && out->proto == IPPROTO_TCP) {
		note_connection(sk, TW_S_SERVER);
	}
	if (family == AF_UNIX) {
		if (addr)
			add_user_text(scratch, &out->raw, addr + 2);
		add_unix_peer(scratch, out, sk);
	} else if (!call->ret && (call->args->backlog || call->args->flags)) {
		add_listener(scratch, out, sk);
	}
	submit(scratch);
}

SEC("tp_btf/sys_exit")
int handle_sock(trace_args *ctx)
{
	struct watched call = read_call(ctx);

	tell_sock(&call);
	return 0;
}

SEC("tp_btf/sys_exit")
int handle_dup(trace_args *ctx)
{
	struct watched call = read_call(ctx);
	struct scratch *scratch;
	struct tw_sock *out;
	struct file *file;
	struct sock *sk;
	u32 slot = 0;

	if (call.ret < 0 || call.ret > 2)
		return 0;
	file = file_of(call.task, call.ret);
	if (!file)
		return 0;
	scratch = begin(call.kind, call.ret, sizeof(*out), &slot);
	if (!scratch)
		return 0;
	out = (void *)scratch->record;
	out->fd = call.ret;
	out->oldfd = call_arg(call.regs, call.compat, 1);
	sk = sock_of(call.task, call.ret);
	if (sk) {
		fill_sock(out, sk);
		if (out->family == AF_UNIX)
			add_unix_peer(scratch, out, sk);
	} else {
		out->attrs |= TW_S_FILE;
		add_path(scratch, slot, &out->path, (struct path *)&file->f_path);
	}
	submit(scratch);
	return 0;
}
